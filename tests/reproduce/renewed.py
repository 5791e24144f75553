"""Tables of results that are made row by row: those named on the command line anew, the others kept as they are."""

import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def needs_data() -> None:
    """Leave with a word where the folder of the data sets is not named."""
    if not os.environ.get("GEOFLOW_DATA"):
        sys.exit("set GEOFLOW_DATA to the folder of the data sets (see geoflow.datasets)")


def table(title: str, head: str, body: Iterable[str]) -> str:
    """A heading, "" for none, and the table below it."""
    above = ["", title] if title else []
    return "\n".join([*above, "", head, "|---" * (head.count("|") - 1) + "|", *body]) + "\n"


def renew(
    file: str,
    names: Iterable[str],
    make: Callable[[str], Iterable[str]],
    written: Callable[[dict[str, list[str]]], str],
    wanted: Iterable[str] | None = None,
    also: str = "",
) -> None:
    """Write the table, again after every line, so that nothing is lost when a long run is stopped.

    Args:
        file: of the results.
        names: of the rows, in order. A row may have several lines, each beginning with its name in the first cell.
        make: a row's lines.
        wanted: names to make anew; None takes those on the command line, or all.
        also: what may stand before the name in a line's first cell.
        written: the whole text, from every row's lines; none where a row was never made.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names, path = list(names), RESULTS / file
    known = path.read_text().splitlines() if path.exists() else []
    lines = {n: [line for line in known if line.startswith((f"| {n} |", f"| {also}{n} |"))] for n in names}
    RESULTS.mkdir(exist_ok=True)
    for name in list(sys.argv[1:] if wanted is None else wanted) or names:
        lines[name] = []
        for line in make(name):
            lines[name].append(line)
            path.write_text(written(lines))
            sys.stderr.write(line + "\n")
    sys.stdout.write(path.read_text())
