"""Exact nearest neighbours without a tree: tiles of fast squared distances, minima of groups, and a proof per query."""

import torch
from torch import Tensor

from geoflow.distances.progress import watched

GROUP, SMALL_GROUP = 32, 8
"""Points of a tile among which one minimum is taken before any is sorted; fewer where the tile has fewer."""

SMALL = 2**15
"""Points in a tile with small groups."""

COLUMNS = 2**17
"""Most points in a tile."""

SPARE = 8
"""Candidates beyond the k asked for: what rounding may move past the last of them."""


def tiled(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Indices ``(m, k)`` of the points ``(n, d)`` nearest to each query ``(m, d)``. Cost: m n d, and little beside it."""
    index, reach = _candidates(points, queries, min(len(points), k + SPARE))
    return proven(points, queries, index, reach, k, torch.finfo(points.dtype).eps)


def _candidates(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices ``(m, count)`` by |a|² + |b|² − 2 a·b on centred data, and the largest such value ``(m,)``.

    The `count` smallest of a row lie in the `count` groups of smallest minima: the others are never sorted. Answers are
    written where they belong: kept one by one, they would lie between the tiles and let no tile take another's place.
    """
    n, center = len(points), points.mean(0)
    cpu = points.device.type == "cpu"
    a, b = queries - center, points - center
    a = torch.cat([-2 * a, a.new_ones(len(a), 1), a.square().sum(1, keepdim=True)], 1)
    b = torch.cat([b, b.square().sum(1, keepdim=True), b.new_ones(n, 1)], 1)
    nowhere = b.new_zeros(-n % GROUP, b.shape[1])
    nowhere[:, -2] = torch.inf
    b = torch.cat([b, nowhere])
    width = min(len(b), COLUMNS if cpu else 8 * COLUMNS)
    rows = max(16, (2**22 if cpu else 2**28) // width)
    index, reach = torch.empty(len(a), count, dtype=torch.long, device=a.device), a.new_empty(len(a))
    done = 0
    for block in watched(a.split(rows), "neighbours", len):
        values, index[done : done + len(block)] = _best(block, b, count, width)
        reach[done : done + len(block)] = values.amax(1)
        done += len(block)
    return index, reach


def _best(a: Tensor, b: Tensor, count: int, width: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest entries of a bᵀ per row, and their columns; tile by tile."""
    parts = []
    for start in range(0, len(b), width):
        tile = a @ b[start : start + width].mT
        size = SMALL_GROUP if tile.shape[1] <= SMALL else GROUP
        groups = tile.shape[1] // size
        if groups > 4 * count:
            low = tile.view(len(a), size, groups).amin(1).topk(count, largest=False, sorted=False).indices
            columns = (low[:, None] + groups * torch.arange(size, device=a.device)[:, None]).flatten(1)
            values, order = tile.gather(1, columns).topk(count, largest=False, sorted=False)
            parts.append((values, columns.gather(1, order) + start))
        else:
            values, columns = tile.topk(min(count, tile.shape[1]), largest=False, sorted=False)
            parts.append((values, columns + start))
    values, columns = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    values, order = values.topk(count, largest=False, sorted=False)
    return values, columns.gather(1, order)


def proven(points: Tensor, queries: Tensor, index: Tensor, reach: Tensor, k: int, eps: float) -> Tensor:
    """The k nearest of some candidates by |a − b|, where no other point can be nearer; elsewhere they are sought again.

    Args:
        points, queries: ``(n, d)`` and ``(m, d)``.
        index: candidates ``(m, c)``.
        reach: squared distances ``(m,)``, computed in a precision `eps` from centred data, that no other point is below.

    A point at distance r from a query at |a| from the center has at most |a| + r =: s itself, so its squared distance is
    off by at most 2 (d + 8) eps s². Queries for which that could hide a nearer point (by more than 16 eps of the squared
    distance) are sought in float64, and those for which that is not enough by plain differences.
    """
    near, last = [], []
    for rows, columns in zip(queries.split(1024), index.split(1024), strict=True):
        squared, order = (points[columns] - rows[:, None]).square().sum(-1).topk(k, largest=False)
        near.append(columns.gather(1, order))
        last.append(squared[:, -1])
    out, r2 = torch.cat(near), torch.cat(last)
    if index.shape[1] == len(points):
        return out
    size = torch.linalg.vector_norm(queries - points.mean(0), dim=1) + r2.sqrt()
    error = 2 * (points.shape[1] + 8) * eps * size.square()
    open_ = ~((r2 * (1 - 16 * eps) <= reach - error) | (r2 == 0))
    if bool(open_.any()):
        again = tiled if eps > torch.finfo(torch.float64).eps else _by_differences
        out[open_] = again(points.double(), queries[open_].double(), k)
    return out


def _by_differences(points: Tensor, queries: Tensor, k: int) -> Tensor:
    rows = max(1, 2**22 // len(points))
    mode = "donot_use_mm_for_euclid_dist"
    near = [torch.cdist(q, points, compute_mode=mode).topk(k, largest=False).indices for q in queries.split(rows)]
    return torch.cat(near)
