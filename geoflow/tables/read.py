"""Files of rows as columns: text cells of a CSV as they stand, numbers of an array."""

import csv
import difflib
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BLANK = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
"""Cells, in lower case, that count as missing."""
TEXT = (".csv", ".tsv", ".txt")
SUFFIXES = (*TEXT, ".npy", ".npz", ".parquet", ".h5")


@dataclass
class Raw:
    """A file's columns as they stand in it: text cells of a CSV, numbers of an array.

    Attributes:
        path: where it came from.
        names: of the columns; ``x0, x1, ...`` where the file has none, and then `named` is False.
        cells: one array a column, of text or of numbers.
        lines: the file's line that holds each row, counted from 1, for messages; None for arrays.
        comma: whether a decimal comma is read (a CSV separated by semicolons).
    """

    path: str
    names: list[str]
    cells: list[np.ndarray]
    named: bool = True
    lines: list[int] | None = None
    comma: bool = False

    def __len__(self) -> int:
        return len(self.cells[0]) if self.cells else 0

    def where(self, row: int) -> str:
        """A row as a person would look for it."""
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"

    def position(self, name: str) -> int:
        """Where a column stands; an unknown name is answered with the nearest."""
        if name in self.names:
            return self.names.index(name)
        near = difflib.get_close_matches(name, self.names, 1) or [n for n in self.names if n.lower() == name.lower()]
        hint = f"did you mean {near[0]!r}? " if near else ""
        shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        raise ValueError(f"{self.path} has no column {name!r}: {hint}its columns are {shown}.")

    def numbers(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Column j as float64 with NaN for blank cells, and the places of cells that are neither number nor blank."""
        column = self.cells[j]
        if column.dtype.kind in "fiub":
            return column.astype(np.float64), np.zeros(0, dtype=int)
        text = np.char.strip(column.astype(str))
        if self.comma:
            text = np.char.replace(text, ",", ".")
        blank = np.isin(np.char.lower(text), list(BLANK))
        values = np.full(len(text), np.nan)
        try:
            values[~blank] = text[~blank].astype(np.float64)
        except ValueError:
            bad = [i for i in np.flatnonzero(~blank) if not _is_number(text[i])]
            good = np.setdiff1d(np.flatnonzero(~blank), bad)
            values[good] = text[good].astype(np.float64)
            return values, np.asarray(bad, dtype=int)
        return values, np.zeros(0, dtype=int)


def read(path: str | os.PathLike[str], key: str | None = None) -> Raw:
    """The columns of a file, read by its suffix.

    Args:
        path: ``.csv .tsv .txt`` with or without a header, ``.npy``, ``.npz``; with the extra `files`, ``.parquet .h5``.
        key: which array of an ``.npz`` or ``.h5``; needed where there are several tables.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: unknown suffix {suffix!r}; tables are read from {' '.join(SUFFIXES)}.")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a table.")
    if suffix in TEXT:
        return _read_text(path)
    if suffix == ".parquet":
        frame = extra("pandas", path).read_parquet(path)
        return Raw(str(path), [str(c) for c in frame.columns], [_plain(frame[c].to_numpy()) for c in frame.columns])
    if suffix == ".h5":
        with extra("h5py", path).File(path, "r") as file:
            arrays = {name: np.asarray(item) for name, item in file.items() if hasattr(item, "shape")}
    else:
        try:
            loaded = np.load(path, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} is no plain array file: {error}") from None
    return _from_arrays(path, arrays, key)


def listed(names: Sequence[str]) -> str:
    """Column names for a message."""
    return f"{'column' if len(names) == 1 else 'columns'} {', '.join(map(repr, names[:5]))}{', ...' * (len(names) > 5)}"


def _read_text(path: str | os.PathLike[str]) -> Raw:
    content = Path(path).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise ValueError(f"{path} is not a text table: it holds binary data.")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise ValueError(f"{path} is empty.")
    head = lines[start].lstrip("# \t") if lines[start].startswith("#") else lines[start]
    delimiter = _delimiter([head, *lines[start + 1 : start + 50]])
    reader = csv.reader([head, *lines[start + 1 :]], delimiter=delimiter, skipinitialspace=True)
    table: list[list[str]] = []
    numbers: list[int] = []
    for row in reader:
        cells = [c for c in row if c] if delimiter == " " else row
        if not cells or (len(cells) == 1 and not cells[0].strip() and len(table) and len(table[0]) > 1):
            continue
        line = start + reader.line_num
        if table and len(cells) != len(table[0]):
            raise ValueError(
                f"{path}: line {line} has {len(cells)} cells, the first has {len(table[0])}: quote or mend it."
            )
        table.append(cells)
        numbers.append(line)
    named = lines[start].startswith("#") or _is_header(table)
    names = [n.strip() for n in table[0]] if named else [f"x{j}" for j in range(len(table[0]))]
    names = [n or f"column_{j}" for j, n in enumerate(names)]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise ValueError(f"{path}: the header names {listed(twice)} more than once: give each its own name.")
    columns = [np.array(column) for column in zip(*table[named:], strict=True)] or [
        np.zeros(0, dtype=str) for _ in names
    ]
    return Raw(str(path), names, columns, named, numbers[named:], delimiter == ";")


def _delimiter(lines: list[str]) -> str:
    """What cuts every line into as many cells; where nothing does, what is most frequent in the first."""
    filled = [line for line in lines if line.strip()]
    for mark in "\t;,":
        widths = {len(row) for row in csv.reader(filled, delimiter=mark, skipinitialspace=True)}
        if len(widths) == 1 and widths != {1}:
            return mark
    counts = {mark: filled[0].count(mark) for mark in ",;\t"}
    return max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else " "


def _is_header(table: list[list[str]]) -> bool:
    """Whether the first row names the columns: no number in it, text above a number, or 0, 1, 2, ... as of pandas."""
    first = [c.strip() for c in table[0]]
    filled = [c for c in first if c]
    if not any(_is_number(c) for c in filled):
        return True
    second = table[1] if len(table) > 1 else first
    if any(a and not _is_number(a) and _is_number(b.strip() or "0") for a, b in zip(first, second, strict=True)):
        return True
    return len(filled) > 1 and filled == [str(i) for i in range(len(filled))]


def _from_arrays(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], key: str | None) -> Raw:
    names = arrays.get("columns")
    tables = {k: a for k, a in arrays.items() if (a.ndim == 2 or a.dtype.names) and a.dtype.kind in "fiubV"}
    if key is not None:
        if key not in arrays:
            raise ValueError(f"{path} has no array {key!r}: it has {', '.join(arrays)}.")
        array = arrays[key]
    elif len(tables) == 1:
        array = next(iter(tables.values()))
    elif len(tables) > 1 and sum(k.lower() in ("x", "data") for k in tables) == 1:
        array = next(a for k, a in tables.items() if k.lower() in ("x", "data"))
    elif len(arrays) == 1:
        array = next(iter(arrays.values()))
    else:
        raise ValueError(f"{path} holds {len(tables)} tables ({', '.join(tables or arrays)}): choose one with --key.")
    if array.dtype.names:
        return Raw(str(path), list(array.dtype.names), [_plain(np.ravel(array[n])) for n in array.dtype.names])
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds {array.dtype}, not real numbers.")
    if array.ndim != 2:
        raise ValueError(
            f"{path} holds an array of shape {array.shape}; a table has two axes, rows and columns: reshape it."
        )
    named = names is not None and len(names) == array.shape[1]
    labels = [f"x{j}" for j in range(array.shape[1])]
    if named and names is not None:
        labels = [n.decode() if isinstance(n, bytes) else str(n) for n in names]  # HDF5 gives text as bytes
    return Raw(str(path), labels, list(array.T), named)


def _plain(column: np.ndarray) -> np.ndarray:
    return column if column.dtype.kind in "fiub" else np.array(["" if v is None else str(v) for v in column])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def extra(module: str, path: Any) -> Any:
    """An optional reader, or one line that says which extra brings it."""
    suffix = Path(path).suffix
    try:
        if suffix == ".parquet":
            importlib.import_module("pyarrow")
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{path}: {suffix} needs {error.name}, which is not here: pip install 'geoflow[files]', or save as .csv."
        ) from None
