"""Exact nearest neighbours without a tree: tiles of fast squared distances, minima of groups, and a proof per query."""

import math

import torch
from torch import Tensor

from geoflow.distances.progress import watched

GROUP = 8
"""Points among which one minimum is taken before any is sorted."""

ROWS, COLUMNS = 256, 2**17
"""Most queries and points of a tile; on a GPU there are more of both."""

STRIP = 2**11
"""Points of a tile whose distances and minima are computed at once, while a processor's cache holds them."""

SPARE = 8
"""Candidates beyond the k asked for: what rounding may move past the last of them."""


def tiled(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and distances ``(m, k)`` of the points ``(n, d)`` nearest to each query ``(m, d)``, nearest first.

    Cost: m n d, and little beside it.
    """
    index, reach = _candidates(points, queries, min(len(points), k + SPARE))
    return proven(points, queries, index, reach, k, torch.finfo(points.dtype).eps)


def _candidates(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices ``(m, count)`` by |a|² + |b|² − 2 a·b on centred data, and the largest such value ``(m,)``.

    Answers are written where they belong: kept one by one, they would lie between the tiles and let no tile take
    another's place.
    """
    n, center = len(points), points.mean(0)
    cpu = points.device.type == "cpu"
    a, b = queries - center, points - center
    a = torch.cat([-2 * a, a.new_ones(len(a), 1), a.square().sum(1, keepdim=True)], 1)
    b = torch.cat([b, b.square().sum(1, keepdim=True), b.new_ones(n, 1)], 1)
    columns, strip = (COLUMNS, STRIP) if cpu else (8 * COLUMNS, 8 * COLUMNS)
    rows = ROWS if cpu else max(16, 2**28 // min(n, columns))
    align = GROUP ** (3 if n > 16 * STRIP else 2)  # groups of groups of groups where there are many
    strip = align * math.ceil(n / math.ceil(n / strip) / align)  # all alike
    nowhere = b.new_zeros(-n % strip, b.shape[1])
    nowhere[:, -2] = torch.inf
    tiles = torch.cat([b, nowhere]).split(strip * max(1, columns // strip))
    index, reach = torch.empty(len(a), count, dtype=torch.long, device=a.device), a.new_empty(len(a))
    room = a.new_empty(min(rows, len(a)), len(tiles[0]))  # once: new pages for each tile cost as much as the products
    done = 0
    for block in watched(a.split(rows), "neighbours", len):
        starts = range(0, len(tiles) * len(tiles[0]), len(tiles[0]))
        found = [_best(block, tile, count, strip, room) for tile in tiles]
        values = torch.cat([v for v, _ in found], 1)
        where = torch.cat([w + start for (_, w), start in zip(found, starts, strict=True)], 1)
        if len(found) > 1:
            values, order = values.topk(count, largest=False, sorted=False)
            where = where.gather(1, order)
        index[done : done + len(block)], reach[done : done + len(block)] = where, values.amax(1)
        done += len(block)
    return index, reach


def _best(a: Tensor, b: Tensor, count: int, strip: int, room: Tensor) -> tuple[Tensor, Tensor]:
    """The `count` smallest entries of a bᵀ per row, and their columns; computed strip by strip, in the given room."""
    tile = room[: len(a), : len(b)]
    low = []
    for part, place in zip(b.split(strip), tile.split(strip, 1), strict=True):
        torch.mm(a, part.mT, out=place)
        low.append(_minima(place))
    columns = _smallest(tile, count, strip, torch.cat(low, 1))
    return tile.gather(1, columns), columns


def _minima(values: Tensor) -> Tensor:
    """``(m, n / GROUP)``: of the columns j, j + n / GROUP, j + 2 n / GROUP ... the smallest."""
    return values.unflatten(1, (GROUP, -1)).amin(1)


def _smallest(values: Tensor, count: int, strip: int, minima: Tensor | None = None) -> Tensor:
    """Columns of the `count` smallest values of each row: they lie in as many groups, those of the smallest minima.

    Which those are is asked in the same way. Groups are taken within each of the strips.
    """
    width = values.shape[1]
    if width <= 2 * GROUP * count or width % GROUP:
        return values.topk(min(count, width), largest=False, sorted=False).indices
    minima = _minima(values) if minima is None else minima
    groups, each = _smallest(minima, count, minima.shape[1]), strip // GROUP
    first = groups // each * strip + groups % each
    members = each * torch.arange(GROUP, device=values.device)[:, None]
    columns = (first[:, None] + members).flatten(1)
    return columns.gather(1, values.gather(1, columns).topk(count, largest=False, sorted=False).indices)


def proven(points: Tensor, queries: Tensor, index: Tensor, reach: Tensor, k: int, eps: float) -> tuple[Tensor, Tensor]:
    """The k nearest of some candidates by |a − b|, where no other point can be nearer; elsewhere they are sought again.

    Args:
        points, queries: ``(n, d)`` and ``(m, d)``.
        index: candidates ``(m, c)``.
        reach: squared distances ``(m,)``, computed in a precision `eps` from centred data, that no other point is below.

    A point at distance r from a query at |a| from the center has at most |a| + r =: s itself, so its squared distance is
    off by at most 2 (d + 8) eps s². Queries for which that could hide a nearer point (by more than 16 eps of the squared
    distance) are sought in float64, and those for which that is not enough by plain differences.
    """
    distance, order = apart(points, queries, index).topk(k, largest=False)
    index, every = index.gather(1, order), index.shape[1] == len(points)
    if every:
        return index, distance
    r = distance[:, -1]
    size = torch.linalg.vector_norm(queries - points.mean(0), dim=1) + r
    error = 2 * (points.shape[1] + 8) * eps * size.square()
    open_ = ~((r.square() * (1 - 16 * eps) <= reach - error) | (r == 0))
    if bool(open_.any()):
        again = tiled if eps > torch.finfo(torch.float64).eps else _by_differences
        index[open_], found = again(points.double(), queries[open_].double(), k)
        distance[open_] = found.to(distance)
    return index, distance


def apart(points: Tensor, queries: Tensor, index: Tensor) -> Tensor:
    """|a − b| ``(m, c)`` of each query a and the points b ``(n, d)`` of some indices ``(m, c)``; differentiable."""
    rows = zip(queries.split(1024), index.split(1024), strict=True)
    # index_select: four times faster than points[index]
    near = ((points.index_select(0, i.flatten()).view(*i.shape, points.shape[1]), a) for a, i in rows)
    return torch.cat([torch.linalg.vector_norm(b - a[:, None], dim=-1) for b, a in near])


def _by_differences(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = max(1, 2**22 // len(points))
    mode = "donot_use_mm_for_euclid_dist"
    found = [torch.cdist(q, points, compute_mode=mode).topk(k, largest=False) for q in queries.split(rows)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])
