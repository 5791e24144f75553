"""The columns of a file that are data, as numbers; what is wrong is said in the words of the command line."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from geoflow.tables.read import Raw, listed


@dataclass
class Table:
    """The chosen columns of a file as numbers, without blank cells.

    Attributes:
        values: ``(rows, columns)`` float64.
        columns: their names.
        rows: number of each row in the file, counted from 0 after the header.
        weights: one number a row, or None.
        dropped: how many rows were left out for blank cells.
        constant: names of the columns left out because they were constant.
        raw: the file.
    """

    values: np.ndarray
    columns: list[str]
    rows: np.ndarray
    raw: Raw
    weights: np.ndarray | None = None
    dropped: int = 0
    constant: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """A digest of the numbers, by which a table is known again."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()[:16]


def choose(
    raw: Raw,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    missing: str | None = None,
    drop_constant: bool = False,
    weights: str | None = None,
) -> Table:
    """The columns asked for as numbers; raises on text, blank or infinite cells, and says which flag helps.

    Args:
        columns: names to keep, in this order; None keeps all.
        drop: names to leave out.
        missing: ``"drop"`` leaves out rows with a blank cell in a chosen column; None refuses them.
        drop_constant: leave out columns that hold one value only.
        weights: name of a column of non-negative weights, which is then no data column.
    """
    for name in drop:
        raw.position(name)
    kept = list(raw.names) if columns is None else list(columns)
    kept = [raw.names[raw.position(n)] for n in kept if n not in drop and n != weights]
    if not kept:
        raise ValueError(f"{raw.path}: no columns are left; it has {', '.join(raw.names[:8])}.")
    wanted = [*kept, weights] if weights is not None else kept
    if len(raw) == 0:
        raise ValueError(f"{raw.path} has no rows below its header.")
    values = _numeric(raw, wanted)
    blank = np.isnan(values)
    _refuse_empty_and_infinite(raw, wanted, values, blank)
    hit = blank.any(1)
    if hit.any() and missing is None:
        raise ValueError(_about_blanks(raw, wanted, blank))
    rows = np.flatnonzero(~hit)
    if not len(rows):
        raise ValueError(f"{raw.path}: every row has a blank cell: leave out the emptiest columns with --drop.")
    values = values[rows]
    weight = None
    if weights is not None:
        values, weight = values[:, :-1], values[:, -1]
        if not (weight > 0).any():
            raise ValueError(f"{raw.path}: none of the weights in {weights!r} is above 0.")
    constant = (
        [n for n, lo, hi in zip(kept, values.min(0), values.max(0), strict=True) if lo == hi] if drop_constant else []
    )
    stay = [j for j, n in enumerate(kept) if n not in constant]
    if not stay:
        raise ValueError(f"{raw.path}: every column is constant.")
    return Table(
        np.ascontiguousarray(values[:, stay]), [kept[j] for j in stay], rows, raw, weight, int(hit.sum()), constant
    )


def counter_columns(table: Table) -> list[str]:
    """Names of columns that look like row numbers: distinct whole numbers in order."""
    if len(table.values) < 10:
        return []
    step = np.diff(table.values, axis=0)
    whole = (table.values == np.round(table.values)).all(0)
    ordered = (step > 0).all(0) | (step < 0).all(0)
    return [table.columns[j] for j in np.flatnonzero(whole & ordered)]


def _numeric(raw: Raw, names: Sequence[str]) -> np.ndarray:
    """The named columns ``(rows, columns)``, or an error that names every column with text in it."""
    pairs = [raw.numbers(raw.position(n)) for n in names]
    text = {n: bad for n, (_, bad) in zip(names, pairs, strict=True) if len(bad)}
    if text:
        name, bad = next(iter(text.items()))
        cell = str(raw.cells[raw.position(name)][bad[0]]).strip()
        few = f" in {len(bad)} of {len(raw)} rows" if len(text) == 1 and len(bad) < len(raw) / 2 else ""
        it = "it" if len(text) == 1 else "them"
        raise ValueError(
            f"{raw.path}: {listed(list(text))} {'holds' if len(text) == 1 else 'hold'} text{few} "
            f"({raw.where(int(bad[0]))}: {cell!r}): leave {it} out with --drop {_flag(text)}, or turn the text into numbers."
        )
    return np.stack([v for v, _ in pairs], 1)


def _refuse_empty_and_infinite(raw: Raw, names: Sequence[str], values: np.ndarray, blank: np.ndarray) -> None:
    empty = [names[j] for j in np.flatnonzero(blank.all(0))]
    if empty:
        one = len(empty) == 1
        raise ValueError(
            f"{raw.path}: {listed(empty)} {'is' if one else 'are'} empty: leave {'it' if one else 'them'} out with "
            f"--drop {_flag(empty)}."
        )
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, j = infinite[0]
        raise ValueError(
            f"{raw.path}: column {names[j]!r} holds infinity ({raw.where(int(row))}): correct or blank that cell."
        )


def _about_blanks(raw: Raw, names: Sequence[str], blank: np.ndarray) -> str:
    counts = {names[j]: int(blank[:, j].sum()) for j in np.flatnonzero(blank.any(0))}
    most = ", ".join(f"{n!r} {c}" for n, c in sorted(counts.items(), key=lambda item: -item[1])[:4])
    hit = np.flatnonzero(blank.any(1))
    rows = ", ".join(raw.where(int(r)).split()[1] for r in hit[:3]) + (", ..." if len(hit) > 3 else "")
    unit = "row" if raw.lines is None else "line"
    return (
        f"{raw.path}: {len(hit)} of {len(raw)} rows have blank cells ({most}; at {unit} {rows}): leave the rows out "
        f"with --missing drop, or the {'column' if len(counts) == 1 else 'columns'} with --drop {_flag(counts)}."
    )


def _flag(names: Iterable[str]) -> str:
    joined = ",".join(names)
    return joined if joined.replace(",", "").replace("_", "").isalnum() else f'"{joined}"'
