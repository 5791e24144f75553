"""Every block of FrEIA and normflows under the laws of bijections, through our adapters: the table of the docs."""

import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

from tests.oracles.foreign_blocks import Block, calls, derivatives, every, measure

RESULTS = Path(__file__).parent / "results"
INTRO = """# Blocks of other libraries

Made by `nox -s reproduce -- zoo` on {date}: FrEIA {freia}, normflows {normflows}, torch {torch}. The same for some is
`python -m tests.reproduce.run_zoo <block> ...`, which renews their rows.

Each block goes through `from_freia` or `bijection_from_normflows`, with parameters stirred by noise of deviation 0.1, on points
of four numbers or images of sixteen. *Round trip*: largest error of decode(encode(x)) in float64 and, relative to the
largest number, in float32. *Both ways*: of the log-dets of encode and decode, which must cancel. *Jacobian*: of the
log-det of encode and of decode against slogdet of autograd's Jacobian. *Derivatives*: forward, backward and backward twice
equal differences. *Calls*: single points, any batch, empty batches and vmap give the same numbers, in the dtype of the
points, and inputs are left alone. A block is *lawful* if all hold, errors below 1e-9 (splines 1e-7, exact=True 1e-8);
what cannot be is *refused*, in the words in the last column. `tests/oracles/test_interop.py` holds every row to its verdict
(derivatives and calls: the first row of each block), and fails when a library brings a block that has none.

"""
HEAD = [
    "| library | block | as | verdict | round trip | in float32 | both ways | Jacobian | derivatives | calls | words |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def holds(law: object, block: Block) -> str:
    """Whether a law holds."""
    try:
        law(block)  # type: ignore[operator]
    except Exception as error:
        return f"no ({type(error).__name__})"
    return "yes"


def row(library: str, name: str, block: Block) -> str:
    start = f"| {library} | {name} | {block.remark or '–'} |"
    try:
        f = measure(block)
    except ValueError as error:
        words = str(error).removeprefix("from_freia: ").removeprefix("from_normflows: ")
        return f"{start} refused | | | | | | | {words} |"
    laws = [holds(law, block) for law in (derivatives, calls)]
    good = max(f.round_trip, f.both_ways, f.jacobian) < block.bound and f.round_trip32 < 1e-5 and laws == ["yes", "yes"]
    figures = " | ".join(f"{v:.0e}" if v else "0" for v in (f.round_trip, f.round_trip32, f.both_ways, f.jacobian))
    return f"{start} {'lawful' if good else '**broken**'} | {figures} | {' | '.join(laws)} | |"


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = RESULTS / "zoo.md"
    known = path.read_text().splitlines() if path.exists() else []
    names = [f"| {library} | {name} | {block.remark or '–'} |" for library, name, block in every()]
    rows = {start: line for start in names for line in known if line.startswith(start)}
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        freia=version("FrEIA"),
        normflows=version("normflows"),
        torch=torch.__version__.split("+")[0],
    )
    RESULTS.mkdir(exist_ok=True)
    for start, (library, name, block) in zip(names, every(), strict=True):
        if not sys.argv[1:] or name in sys.argv[1:]:
            rows[start] = row(library, name, block)
            path.write_text(text + "\n".join([*HEAD, *(rows[n] for n in names if n in rows)]) + "\n")
    lines = list(rows.values())
    verdicts = {v: sum(f"| {v} |" in line for line in lines) for v in ("lawful", "refused", "**broken**")}
    sys.stdout.write(f"{path}: {', '.join(f'{n} {v}' for v, n in verdicts.items())}\n")


if __name__ == "__main__":
    main()
