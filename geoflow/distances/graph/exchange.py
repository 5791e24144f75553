"""The neighbour graph as networkx's, and one of networkx as ours."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.distances.graph import build as graphs
from geoflow.distances.graph.components import joins, labels
from geoflow.distances.weight import Weight


def to_networkx(own: graphs.NeighborGraph, **facts: Any) -> Any:
    """Nodes with their ``point``, edges with their ``weight``; facts become attributes of the graph."""
    import networkx as nx

    coo = own.matrix.tocoo()
    out = nx.Graph(components=own.components, **facts)
    out.add_nodes_from((i, {"point": p}) for i, p in enumerate(own.points.cpu().numpy()))
    scale = math.exp(own.shift)
    out.add_weighted_edges_from(
        (int(i), int(j), float(w) * scale) for i, j, w in zip(coo.row, coo.col, coo.data, strict=True) if i < j
    )
    return out


def points_of(graph: Any) -> np.ndarray:
    """The nodes' points ``(nodes, ambient)``, in the order of the nodes.

    Raises:
        ValueError: a node without one, or two nodes with the same.
    """
    if graph.is_directed() or graph.is_multigraph():
        raise ValueError("FermatSpace.from_graph expects an undirected graph with one edge a pair: networkx.Graph.")
    points = graph.nodes(data="point")
    absent = [node for node, point in points if point is None]
    if absent or not len(graph):
        raise ValueError(
            f"FermatSpace.from_graph expects each node's row of numbers in its attribute 'point'; {len(absent)} of "
            f"{len(graph)} nodes have none" + (f" (first: {absent[0]!r})." if absent else ".")
        )
    rows = np.stack([np.asarray(p) for _, p in points])
    if len(np.unique(rows, axis=0)) < len(rows):
        raise ValueError("FermatSpace.from_graph: two nodes have the same point: merge them.")
    return rows


def from_networkx(graph: Any, weight: Weight, points: Tensor, strict: bool) -> graphs.NeighborGraph:
    """Our graph with the edges of a networkx graph; those without ``weight`` get their Fermat cost.

    Raises:
        ValueError: a weight that is not a positive number, a loop, or parts without a way between them if `strict`.
    """
    place = {node: i for i, node in enumerate(graph)}
    edges = [(place[a], place[b], data.get("weight")) for a, b, data in graph.edges(data=True)]
    bad = next(((a, b, w) for a, b, w in edges if a == b or (w is not None and not (math.isfinite(w) and w > 0))), None)
    if bad is not None:
        raise ValueError(
            "FermatSpace.from_graph expects edges between different nodes, of positive finite weight (or none, for their "
            f"Fermat length); got {bad[2]!r} between nodes {bad[0]} and {bad[1]}."
        )
    pairs = torch.tensor([(a, b) for a, b, _ in edges], dtype=torch.long, device=points.device).reshape(-1, 2)
    given = torch.tensor([math.nan if w is None else float(w) for *_, w in edges], dtype=torch.float64)
    part, sizes = labels(pairs, len(points))
    if len(sizes) > 1:
        told = f"FermatSpace.from_graph: the graph is in {len(sizes)} parts (sizes {', '.join(map(str, sizes[:5]))})"
        if strict:
            raise ValueError(f"{told}: connect them, or pass strict=False to join them along their closest pairs.")
        warnings.warn(f"{told}, joined along their closest pairs.", stacklevel=3)
    pairs = torch.cat([pairs, joins(graphs.flat(weight.space, points), part)])
    log_weight = weight.log(points)
    log_cost = graphs.edge_log_cost(weight, points, points, log_weight, log_weight, pairs)
    own = given.log().to(log_cost)
    log_cost[: len(own)] = torch.where(own.isnan(), log_cost[: len(own)], own)
    shift = float(log_cost.median())
    matrix = graphs._symmetric(pairs, log_cost - shift, len(points))
    return graphs.NeighborGraph(points, log_weight, torch.arange(len(points)), matrix, shift, sizes)
