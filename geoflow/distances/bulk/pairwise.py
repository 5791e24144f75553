"""Tables of distances: blocks of rows over workers, into memory or a file, whole or by landmarks."""

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.distances import doors
from geoflow.distances.bulk.parallel import each, workers
from geoflow.distances.graph.build import NeighborGraph
from geoflow.distances.graph.spokes import Spokes, lengths_from, settle

LARGE = 4e8
"""Entries above which a table is made only when that is asked for: 2·10⁴ rows by as many."""

BLOCK = 2**23
"""Numbers that a block of Dijkstra's algorithm holds, 64 MiB."""

PAIRS = 2**16
"""Pairs measured in one go when there is no algorithm for many at once."""


class Target:
    """Where a table goes: memory, or a ``.npy`` file that is mapped.

    Args:
        shape: of the table.
        like: its dtype, and where its rows are.
        path: of the file; None is memory.
        allow_large: make a table above `LARGE`, and say its size.
    """

    def __init__(
        self, shape: tuple[int, int], like: Tensor, path: str | os.PathLike[str] | None, allow_large: bool
    ) -> None:
        self.like, self.path = like.new_empty(0), path
        size = shape[0] * shape[1] * like.element_size() / 2**30
        told = f"{shape[0]:,} × {shape[1]:,} distances take {size:.1f} GiB"
        if shape[0] * shape[1] > LARGE:
            if not allow_large:
                raise ValueError(
                    f"FermatSpace.pairwise: {told}: pass allow_large=True, with out= a path if that is more than the memory "
                    "holds, or ask for blocks of rows, for `knn`, or for bounds by `landmarks`."
                )
            where = "memory" if path is None else f"{os.fspath(path)}"
            warnings.warn(f"FermatSpace.pairwise: {told} of {where}.", stacklevel=5)
        kind = torch.empty(0, dtype=like.dtype).numpy().dtype
        self.array: np.ndarray = (
            np.zeros(shape, kind)
            if path is None
            else np.lib.format.open_memmap(os.fspath(path), mode="w+", dtype=kind, shape=shape)
        )

    def put(self, rows: Any, columns: Any, log_length: Tensor) -> None:
        """Lengths from their logs, checked to be in the dtype's range."""
        self.array[rows, columns] = doors.lengths(log_length.to(self.like.dtype)).cpu().numpy()

    def table(self) -> Tensor:
        """The finished table; one in a file is read as it is needed, and what is written into it stays in memory."""
        if self.path is None:
            return torch.from_numpy(self.array).to(self.like.device)
        self.array.flush()  # type: ignore[attr-defined]
        return torch.from_numpy(np.load(self.path, mmap_mode="c"))


def blocks(n: int, width: int, n_jobs: int | None) -> Iterator[slice]:
    """Rows such that a block of `width` numbers a row is of moderate size, and each worker has some."""
    step = max(1, min(BLOCK // max(1, width), -(-n // (4 * workers(n_jobs))) if workers(n_jobs) > 1 else n))
    for first in range(0, n, step):
        yield slice(first, min(n, first + step))


def along_graph(graph: NeighborGraph, rows: Spokes, columns: Spokes, target: Target, n_jobs: int | None) -> Tensor:
    """Lengths along the graph, by a run of Dijkstra's algorithm for each of the rows, or of the columns if these are fewer."""
    turned = len(columns.row) < len(rows.row)
    sources, ends = (columns, rows) if turned else (rows, columns)
    parts = list(blocks(len(sources.row), graph.matrix.shape[0], n_jobs))
    found = each(_ends, [(graph.matrix, sources[part], ends) for part in parts], n_jobs)
    for part, length in zip(parts, found, strict=True):
        log_length = torch.from_numpy(length).log() + graph.shift
        if turned:
            target.put(slice(None), part, log_length.T)
        else:
            target.put(part, slice(None), log_length)
    return target.table()


def _ends(matrix: Any, rows: Spokes, columns: Spokes) -> np.ndarray:
    length = columns.end(lengths_from(matrix, rows))
    length[rows.row[:, None] == columns.row] = 0
    return length


def pair_by_pair(measure: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor | None, target: Target) -> Tensor:
    """Lengths that `measure` gives for pairs of rows; of one set of rows (y None) each unordered pair once."""
    other = x if y is None else y
    step = max(1, PAIRS // max(1, len(other)))
    for first in range(0, len(x), step):
        i, j = torch.cartesian_prod(torch.arange(first, min(len(x), first + step)), torch.arange(len(other))).T
        if y is None:
            i, j = i[i < j], j[i < j]
        log_length = measure(x[i], other[j]).log()
        target.put(i.numpy(), j.numpy(), log_length)
        if y is None:
            target.put(j.numpy(), i.numpy(), log_length)
    return target.table()


def nearest_along_graph(
    graph: NeighborGraph, rows: Spokes, k: int, n_jobs: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """log lengths and numbers ``(rows, k)`` of the user's points that are nearest along the graph."""
    parts = list(blocks(len(rows.row), 1, n_jobs))
    found = list(each(settle, [(graph.matrix, rows[p], min(k, graph.matrix.shape[0])) for p in parts], n_jobs))
    length, node = (np.concatenate(f) for f in zip(*found, strict=True))
    node_of = graph.node_of.cpu().numpy()
    point, count = np.argsort(node_of, kind="stable"), np.bincount(node_of)
    first = count.cumsum() - count
    if len(node_of) > len(graph.points):  # a node may be several points
        each_node = [np.repeat(np.arange(len(row)), count[row])[:k] for row in node]
        length = np.take_along_axis(length, np.array(each_node), 1)
        index = np.array([np.concatenate([point[first[m] : first[m] + count[m]] for m in row])[:k] for row in node])
    else:
        index = point[node]
    with np.errstate(divide="ignore"):
        return np.log(length) + graph.shift, index
