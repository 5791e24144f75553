"""Lengths along the neighbour graph for rows that are not in it: each is tied to its nearest nodes, and to no other row.

So the distance between two rows does not depend on which others were asked for at the same time.
"""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.distances.graph.build import NeighborGraph, edge_log_cost, flat
from geoflow.distances.neighbors.nearest import nearest
from geoflow.distances.weight import Weight


@dataclass
class Spokes:
    """The ways of some rows to the graph.

    A row that is a node has one way of no cost. Costs are divided by exp(shift) of the graph.
    """

    node: np.ndarray
    """Nearest nodes ``(rows, k)``."""
    cost: np.ndarray
    """Of the way to each ``(rows, k)``; infinite where there is none."""
    row: np.ndarray
    """A number for each distinct row ``(rows,)``: equal rows have equal numbers."""

    @property
    def known(self) -> np.ndarray:
        """Which rows are nodes."""
        return self.cost[:, 0] == 0

    def __getitem__(self, rows: slice) -> "Spokes":
        return Spokes(self.node[rows], self.cost[rows], self.row[rows])

    def end(self, lengths: np.ndarray) -> np.ndarray:
        """Lengths ``(sources, rows)`` to the rows, from lengths ``(sources, nodes)`` to all nodes."""
        if self.known.all():
            return lengths[:, self.node[:, 0]]
        out = lengths[:, self.node[:, 0]] + self.cost[:, 0]
        for node, cost in zip(self.node.T[1:], self.cost.T[1:], strict=True):
            np.minimum(out, lengths[:, node] + cost, out=out)
        return out


def tie(graph: NeighborGraph, weight: Weight, x: Tensor, k: int, engine: str) -> Spokes:
    """Ways of rows ``(rows, ambient)`` to their k nearest nodes."""
    fresh, row = torch.unique(x, dim=0, return_inverse=True)
    k = min(k, len(graph.points))
    gap, near = nearest(flat(weight.space, graph.points), flat(weight.space, fresh), k, engine)
    known = (graph.points[near[:, 0]] == fresh).all(1) & (gap[:, 0] == 0)
    cost = np.full(near.shape, np.inf)
    cost[known.cpu().numpy(), 0] = 0
    new = (~known).nonzero()[:, 0]
    if len(new):
        log_new = weight.log(fresh[new])
        if not bool(log_new.isfinite().all()):
            raise ValueError(
                f"FermatSpace: the log-density is not finite at {int((~log_new.isfinite()).sum())} of the rows asked for, "
                "where distances are infinite: leave them out."
            )
        i = torch.arange(len(new), device=x.device).repeat_interleave(k)
        j = near[new].flatten()
        ways = torch.stack([i, j], 1)
        log_cost = edge_log_cost(weight, fresh[new], graph.points, log_new, graph.log_weight, ways)
        cost[new.cpu().numpy()] = (log_cost - graph.shift).double().exp().reshape(-1, k).cpu().numpy()
    place = row.cpu().numpy()
    return Spokes(near.cpu().numpy()[place], cost[place], place)


def outward(matrix: Any, spokes: Spokes) -> tuple[Any, np.ndarray]:
    """The graph with a way out, and none in, for each row that is no node; and the number ``(rows,)`` to start from."""
    from scipy.sparse import block_array, csr_matrix

    n, new = matrix.shape[0], np.flatnonzero(~spokes.known)
    source = spokes.node[:, 0].copy()
    source[new] = n + np.arange(len(new))
    if len(new):
        k = spokes.node.shape[1]
        pairs = (np.arange(len(new)).repeat(k), spokes.node[new].ravel())
        out = csr_matrix((spokes.cost[new].ravel(), pairs), shape=(len(new), n))
        matrix = block_array([[matrix, csr_matrix((n, len(new)))], [out, None]], format="csr")
    return matrix, source


def lengths_from(matrix: Any, spokes: Spokes) -> np.ndarray:
    """Lengths ``(rows, nodes)`` from rows to all nodes: a run of Dijkstra's algorithm (compiled) each."""
    from scipy.sparse.csgraph import dijkstra

    n = matrix.shape[0]
    matrix, source = outward(matrix, spokes)
    return np.asarray(dijkstra(matrix, directed=True, indices=source)[:, :n])


def settle(matrix: Any, spokes: Spokes, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and numbers ``(rows, k)`` of the k nodes nearest to each row, nearest first.

    Dijkstra's algorithm that stops after k nodes: its cost is that of some k · neighbors edges, whatever the graph's size.
    """
    start, column, value = matrix.indptr, matrix.indices, matrix.data
    length, index = np.empty((len(spokes.node), k)), np.empty((len(spokes.node), k), dtype=np.int64)
    for row, (nodes, costs) in enumerate(zip(spokes.node, spokes.cost, strict=True)):
        reached = {int(node): float(cost) for node, cost in zip(nodes, costs, strict=True) if np.isfinite(cost)}
        heap = [(cost, node) for node, cost in reached.items()]
        heapq.heapify(heap)
        done: set[int] = set()
        while len(done) < k:
            cost, node = heapq.heappop(heap)
            if node in done:
                continue
            length[row, len(done)], index[row, len(done)] = cost, node
            done.add(node)
            edges = slice(start[node], start[node + 1])
            for other, step in zip(column[edges].tolist(), value[edges].tolist(), strict=True):
                if cost + step < reached.get(other, np.inf):
                    reached[other] = cost + step
                    heapq.heappush(heap, (cost + step, other))
    return length, index
