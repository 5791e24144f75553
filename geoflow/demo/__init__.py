"""`geoflow demo`: two data sets that come along, two densities, pictures and a page."""

import json
import sys
import time
from pathlib import Path

from geoflow import report

__all__ = ["run"]

TRY = (
    "geoflow fit table.csv --drop id --missing drop --out table.safetensors",
    "geoflow check table.safetensors table.csv",
    "geoflow logprob table.safetensors table.csv --out scored.csv",
    "geoflow dist table.safetensors table.csv --neighbors 3",
)
"""What to type next, for a table of one's own."""


def run(out: str, *, seed: int = 0, quick: bool = False, quiet: bool = False, as_json: bool = False) -> int:
    """Train both, print what came out, write pictures and ``index.html`` into folder `out`."""
    from geoflow.demo import digits, moons

    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder for page and pictures.")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    intro = (
        "A space carries densities; a density makes a space. Everything below was trained and measured just now, on "
        "this machine, from data that come with scikit-learn or are made here."
    )
    parts, facts = [report.text(intro)], {}
    for name, half in (("moons", moons.run), ("digits", digits.run)):
        lines, more, facts[name] = half(folder, seed, quick, quiet)
        parts += more
        if not as_json:
            sys.stdout.write("\n".join(lines) + "\n\n")
            sys.stdout.flush()
    seconds = time.perf_counter() - started
    parts += [
        report.heading("Your own table"),
        report.text("A CSV with a header will do: name the columns that are no measurements after --drop."),
        report.command(*TRY),
    ]
    note = f"geoflow demo, seed {seed}{', quick: the numbers mean nothing' if quick else ''}; {seconds:.0f} s."
    page = folder / "index.html"
    page.write_text(report.page("geoflow: a density makes a space", *parts, footer=note), encoding="utf-8")
    pictures = sorted(folder.glob("*.png"))
    if as_json:
        sys.stdout.write(json.dumps({"page": str(page), "pictures": [str(p) for p in pictures], **facts}) + "\n")
        return 0
    sys.stdout.write(f"{note}\n\npage      {page}\n" + "".join(f"picture   {p}\n" for p in pictures))
    sys.stdout.write(f"\non your own table:\n  {TRY[0]}\n")
    return 0
