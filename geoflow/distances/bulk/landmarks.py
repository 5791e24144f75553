"""Landmarks: distances from a few points to all others, which bound every other distance at the cost of a look-up."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoflow.distances import doors
from geoflow.distances.bulk.pairwise import BLOCK, Target, blocks
from geoflow.distances.bulk.parallel import each
from geoflow.distances.graph.build import NeighborGraph
from geoflow.distances.graph.spokes import Spokes, lengths_from


@dataclass
class Landmarks:
    """Lengths along the graph from landmarks l to all nodes, made by `FermatSpace.landmarks`.

        max_l |d(x, l) − d(l, y)|  ≤  d(x, y)  ≤  min_l d(x, l) + d(l, y)

    Both hold for the lengths of `FermatSpace.pairwise` between points; rows that are no points are tied to the graph one
    by one, and their bounds are those of the ways through these ties.
    """

    index: Tensor
    """Which points are landmarks ``(m,)``."""
    tie: Callable[[Tensor], Spokes]
    lengths: np.ndarray
    """To all nodes ``(m, nodes)``, divided by exp(`shift`)."""
    shift: float

    def dist(self, x: Tensor) -> Tensor:
        """Lengths ``(rows, m)`` from rows ``(rows, ambient)`` to the landmarks."""
        scaled = torch.from_numpy(self.tie(x).end(self.lengths)).T
        return doors.lengths((scaled.log() + self.shift).to(x))

    def bounds(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(rows,)`` of the distances between rows of x and those of y, pair by pair."""
        a, b = self.dist(x), self.dist(y)
        upper = (a + b).amin(1).masked_fill((x == y).all(1), 0)
        return torch.minimum((a - b).abs().amax(1), upper), upper

    def fill(self, x: Tensor, y: Tensor, target: Target, n_jobs: int | None) -> Tensor:
        """The table of upper bounds ``(rows of x, rows of y)``."""
        a, b = self.dist(x).cpu().numpy(), self.dist(y).cpu().numpy()
        parts = list(blocks(len(a), max(b.size, BLOCK // 64), n_jobs))
        for part, upper in zip(parts, each(_through, [(a[p], b) for p in parts], n_jobs), strict=True):
            same = (x[part, None] == y).all(-1)
            target.put(part, slice(None), torch.from_numpy(upper).to(x).masked_fill(same, 0).log())
        return target.table()


def _through(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """min_l a_il + b_jl."""
    return np.stack([(row + b).min(1) for row in a])


def landmarks(
    graph: NeighborGraph, tie: Callable[[Tensor], Spokes], points: Tensor, index: Tensor, n_jobs: int | None
) -> Landmarks:
    """A run of Dijkstra's algorithm from each of the points with these numbers."""
    rows = tie(points[index])
    tasks = [(graph.matrix, rows[part]) for part in blocks(len(index), graph.matrix.shape[0], n_jobs)]
    return Landmarks(index, tie, np.concatenate(list(each(lengths_from, tasks, n_jobs))), graph.shift)
