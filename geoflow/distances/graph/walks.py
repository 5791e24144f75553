"""Shortest paths along the neighbour graph between pairs of points, with the nodes they pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.distances.graph.build import NeighborGraph
from geoflow.distances.graph.spokes import Spokes, outward, tie
from geoflow.distances.progress import watched
from geoflow.distances.weight import Weight


def shortest(
    graph: NeighborGraph, weight: Weight, x: Tensor, y: Tensor, k: int, engine: str, exponent: float = 1.0
) -> tuple[Tensor, list[Tensor]]:
    """log of the shortest path cost ``(B,)`` for each pair, and its points, ends included.

    Ends that are no points of the graph are tied to their k nearest, and no path leads through another pair's ends;
    `exponent` is applied to each edge. Cost: one run of Dijkstra's algorithm (compiled) per distinct source.
    """
    ties, matrix = tie(graph, weight, torch.cat([x, y]), k, engine), graph.matrix
    if exponent != 1:
        matrix, ties = matrix.power(exponent), replace(ties, cost=ties.cost**exponent)
    here, there = ties[: len(x)], ties[len(x) :]
    if len(np.unique(there.row)) < len(np.unique(here.row)):
        lengths, paths = _walks(matrix, graph.points, there, here, y, x)
        paths = [p.flip(0) for p in paths]
    else:
        lengths, paths = _walks(matrix, graph.points, here, there, x, y)
    return torch.as_tensor(lengths).log().to(x) + exponent * graph.shift, paths


def _walks(
    matrix: Any, points: Tensor, here: Spokes, there: Spokes, x: Tensor, y: Tensor
) -> tuple[np.ndarray, list[Tensor]]:
    from scipy.sparse.csgraph import dijkstra

    lengths, paths = np.zeros(len(x)), list(x[:, None])
    wide, source = outward(matrix, here)
    for row in watched(np.unique(here.row).tolist(), "shortest paths"):
        pairs = np.flatnonzero(here.row == row)
        distance, before = dijkstra(wide, directed=True, indices=source[pairs[0]], return_predecessors=True)
        for pair in pairs[there.row[pairs] != row]:
            total = distance[there.node[pair]] + there.cost[pair]
            steps = [there.node[pair, total.argmin()]]
            while before[steps[-1]] >= 0:
                steps.append(before[steps[-1]])
            lengths[pair] = total.min()
            inner = [s for s in steps[::-1] if s < len(points)]
            first, last = ([] if tied.known[pair] else [e[pair, None]] for tied, e in ((here, x), (there, y)))
            paths[pair] = torch.cat([*first, points[inner], *last])
    return lengths, paths
