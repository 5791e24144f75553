"""Columns into a file, by its suffix."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoflow.tables.read import SUFFIXES, TEXT, extra


def write(
    path: str | os.PathLike[str] | None, names: Sequence[str], columns: Sequence[np.ndarray], stream: Any = None
) -> None:
    """Write columns, by suffix: text formats keep text cells, arrays hold the numeric columns only.

    Args:
        path: where to; None writes CSV to `stream`.
        names: the header.
        columns: one array a column, of text or of numbers.
    """
    suffix = Path(path).suffix.lower() if path is not None else ".csv"
    if suffix in TEXT:
        cells = [c if c.dtype.kind in "UO" else np.array([_number(v) for v in c], dtype=object) for c in columns]
        delimiter = "," if suffix == ".csv" else "\t"
        if path is None:
            _write_text(stream, names, cells, delimiter)
        else:
            with open(path, "w", newline="", encoding="utf-8") as file:
                _write_text(file, names, cells, delimiter)
        return
    assert path is not None
    numeric = [(n, c) for n, c in zip(names, columns, strict=True) if c.dtype.kind in "fiub"]
    matrix = np.stack([c for _, c in numeric], 1)
    labels = np.array([n for n, _ in numeric])
    if suffix == ".npy":
        np.save(path, matrix)
    elif suffix == ".npz":
        np.savez(path, x=matrix, columns=labels)
    elif suffix == ".parquet":
        extra("pandas", path).DataFrame(dict(zip(names, columns, strict=True))).to_parquet(path)
    elif suffix == ".h5":
        with extra("h5py", path).File(path, "w") as file:
            file["x"], file["columns"] = matrix, [str(n) for n in labels]
    else:
        raise ValueError(f"{path}: unknown suffix {suffix!r}; tables are written to {' '.join(SUFFIXES)}.")


def writable(path: str | os.PathLike[str], suffixes: Sequence[str] | None = None) -> Path:
    """`path` if a file can be written there, asked before the work and not after it."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; expected {' '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}: make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"{path} cannot be written: no permission.")
    return path


def _number(value: Any) -> str:
    """The shortest text that reads back as the same number; whole numbers of an integer column without a point."""
    if np.isnan(value):
        return ""
    return (
        str(value)
        if isinstance(value, (np.integer, np.bool_))
        else np.format_float_positional(value, trim="-")
        if (value == 0 or 1e-4 <= abs(value) < 1e16)
        else np.format_float_scientific(value, trim="-")
    )


def _write_text(stream: Any, names: Sequence[str], cells: Sequence[np.ndarray], delimiter: str) -> None:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*cells, strict=True))
