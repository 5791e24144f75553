"""The neighbour graph of a point set with edges weighted by the density: the proposal for a path's basin.

At fixed k its shortest paths do not converge to geodesics as points are added, and in many dimensions they get worse
(they zigzag), so its distances are where to start from: upper bounds, as far as Simpson's rule sees what lies on an edge.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from geoflow.distances.graph.components import joins, labels
from geoflow.distances.neighbors.nearest import nearest
from geoflow.distances.progress import watched
from geoflow.distances.weight import Weight
from manifolds import Euclidean, Manifold

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def flat(space: Manifold, x: Tensor) -> Tensor:
    """Coordinates in which near is near in `space`: units of the scale on flat space, the embedding elsewhere."""
    return space._units(x) if isinstance(space, Euclidean) else x


EDGES = 2**17
"""Edges measured at once: more would outweigh the points themselves."""


def edge_log_cost(weight: Weight, x: Tensor, y: Tensor, log_x: Tensor, log_y: Tensor, edges: Tensor) -> Tensor:
    """log of |xy| (λ_x + 4 λ_middle + λ_y) / 6, Simpson's rule: an interior node sees the gaps that end points don't.

    Args:
        weight: λ and the space.
        x, y: points, ``(n, ambient)`` and ``(m, ambient)``.
        log_x, log_y: log λ there.
        edges: ``(edges, 2)``, from x[i] to y[j].
    """
    blocks = watched(edges.split(EDGES), "edges", len)
    return torch.cat([_log_cost(weight, x[i], y[j], log_x[i], log_y[j]) for i, j in map(torch.t, blocks)])


def _log_cost(weight: Weight, x: Tensor, y: Tensor, log_x: Tensor, log_y: Tensor) -> Tensor:
    direction = weight.space._log(x, y)
    log_middle = weight.log(weight.space._exp(x, direction / 2))
    total = torch.stack([log_x, log_middle + np.log(4.0), log_y]).logsumexp(0) - np.log(6.0)
    return total + weight.space._norm(x, direction).log()


@dataclass
class NeighborGraph:
    """Distinct points, their log weights, and a symmetric sparse matrix of edge costs, each pair weighted once.

    Costs in `matrix` are divided by exp(`shift`), which keeps them in range.
    """

    points: Tensor
    log_weight: Tensor
    node_of: Tensor
    """Node of each of the user's points: exact duplicates share one."""
    matrix: "csr_matrix"
    shift: float
    components: list[int]
    """Sizes of the connected parts before they were joined, largest first."""


def build(weight: Weight, points: Tensor, k: int, engine: str = "auto", strict: bool = False) -> NeighborGraph:
    """The union of k-nearest-neighbour pairs, joined into one piece along closest pairs.

    Args:
        weight: λ and the space.
        points: ``(n, ambient)``; exact duplicates are merged.
        k: neighbours of each point, fewer than the distinct points.
        engine: see `nearest`.
        strict: refuse a graph in several pieces, instead of joining it with a warning.
    """
    nodes, node_of = torch.unique(points, dim=0, return_inverse=True)
    n = len(nodes)
    if not 1 <= k < n:
        raise ValueError(
            f"FermatSpace: neighbors must be between 1 and the number of distinct points less one ({n - 1}), got {k}."
        )
    coordinates = flat(weight.space, nodes)
    _, index = nearest(coordinates, None, k, engine)
    start = torch.arange(n, device=nodes.device).repeat_interleave(k)
    pairs = _once(start, index.flatten(), n)
    part, sizes = labels(pairs, n)
    if len(sizes) > 1:
        shown = ", ".join(map(str, sizes[:5])) + (" ..." if len(sizes) > 5 else "")
        if strict:
            raise ValueError(
                f"FermatSpace: the graph of {k} neighbours falls into {len(sizes)} components (sizes {shown}); raise "
                "neighbors=, or pass strict=False to join them along their closest pairs."
            )
        warnings.warn(
            f"FermatSpace: the graph of {k} neighbours fell into {len(sizes)} components (sizes {shown}), joined along their "
            "closest pairs; raise neighbors= if they belong together.",
            stacklevel=4,
        )
        pairs = torch.cat([pairs, joins(coordinates, part)])
    log_weight = weight.log(nodes)
    if not bool(log_weight.isfinite().all()):
        bad = int((~log_weight.isfinite()).sum())
        raise ValueError(
            f"FermatSpace: the log-density is not finite at {bad} of {n} points: drop them, or mend the density."
        )
    log_cost = edge_log_cost(weight, nodes, nodes, log_weight, log_weight, pairs)
    shift = float(log_cost.median())
    return NeighborGraph(nodes, log_weight, node_of, _symmetric(pairs, log_cost - shift, n), shift, sizes)


def _once(i: Tensor, j: Tensor, n: int) -> Tensor:
    """Each unordered pair once, ``(edges, 2)``: weights of mutual neighbours must not add up."""
    code = torch.unique(torch.minimum(i, j) * n + torch.maximum(i, j))
    return torch.stack([code // n, code % n], 1)


def _symmetric(pairs: Tensor, log_cost: Tensor, n: int) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    cost = log_cost.double().exp().cpu().numpy()
    a, b = pairs.cpu().numpy().T
    return csr_matrix((np.concatenate([cost, cost]), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(n, n))
