"""Joining the components of a neighbour graph along their closest pairs of points."""

import torch
from torch import Tensor

from geoflow.distances.neighbors.nearest import nearest


def labels(pairs: Tensor, n: int) -> tuple[Tensor, list[int]]:
    """The component of each of n nodes, 0 the largest, given edges ``(edges, 2)``; and the components' sizes."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    i, j = pairs.cpu().numpy().T
    _, label = connected_components(coo_matrix((np.ones(len(i), bool), (i, j)), shape=(n, n)), directed=False)
    sizes, label = np.unique(label, return_counts=True)[1], torch.as_tensor(label, dtype=torch.long)
    order = torch.as_tensor(sizes).argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return rank[label].to(pairs.device), sizes[order.numpy()].tolist()


def joins(x: Tensor, label: Tensor) -> Tensor:
    """Pairs of points ``(components − 1, 2)`` that join components into one, by as short a way in sum as can be.

    Borůvka's minimum spanning tree: in each round every component but the largest is joined to the point nearest to any
    of its own, which at least halves their number.

    Args:
        x: points ``(n, d)``.
        label: component of each ``(n,)``, numbered from 0, the largest.
    """
    added = []
    while bool(label.any()):
        start, end, gap = _bridges(x, label)
        kept = []
        root = list(range(len(gap) + 1))
        for b in gap.argsort(stable=True).tolist():  # of ties that close a ring, the last is left out
            one, other = (_top(root, int(label[node[b]])) for node in (start, end))
            if one != other:
                root[one] = other
                kept.append(b)
        added.append(torch.stack([start[kept], end[kept]], 1))
        merged = torch.tensor([_top(root, c) for c in range(len(root))], device=x.device)[label]
        _, label, size = merged.unique(return_inverse=True, return_counts=True)
        largest = int(size.argmax())
        label = torch.where(label == largest, 0, torch.where(label < largest, label + 1, label))
    return torch.cat(added) if added else label.new_empty(0, 2)


def _top(root: list[int], c: int) -> int:
    while root[c] != c:
        root[c] = c = root[root[c]]
    return c


def _bridges(x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ends and length ``(components − 1,)`` of the shortest way out of each component 1, 2, ...

    Labels that differ do so in some binary digit: the nearest point of another component is the nearest among, for each
    digit, the nearest of the points that have the other value there.
    """
    node = label.nonzero()[:, 0]
    gap, end = x.new_full((len(node),), torch.inf), torch.zeros_like(node)
    for digit in range(int(label.max()).bit_length()):
        value = (label >> digit) & 1
        for side in (0, 1):
            there, ask = (value == 1 - side).nonzero()[:, 0], value[node] == side
            if not bool(ask.any()):
                continue
            distance, near = nearest(x[there], x[node[ask]], 1)
            closer = distance[:, 0] <= gap[ask]
            gap[ask] = gap[ask].where(~closer, distance[:, 0])
            end[ask] = end[ask].where(~closer, there[near[:, 0]])
    order = gap.argsort(stable=True)
    order = order[label[node[order]].argsort(stable=True)]
    first = torch.cat([torch.ones(1, dtype=torch.bool, device=x.device), label[node[order]].diff() != 0])
    best = order[first]
    return node[best], end[best], gap[best]
