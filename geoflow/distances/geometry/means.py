"""The middle of some rows: the Fréchet mean, and the row that is nearest to all."""

from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.distances.geometry import tangent
from geoflow.distances.weight import Weight
from manifolds.manifold import descended

NOISE = 1e-6
"""Share of itself to which a sum of squared relaxed lengths is known."""

ENTRIES = 2**24
"""Distances kept at once."""


def frechet_mean(
    weight: Weight,
    arrows: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    weights: Tensor | None,
    max_iter: int,
) -> tuple[Tensor, Tensor]:
    """The mean ``(ambient)`` of rows ``(n, ambient)``, and whether it rests.

    `arrows` gives, from points to points, velocities ``(n, ambient)`` and lengths ``(n,)`` of geodesics.
    """
    space, share = weight.space, weight.space._shares(x, weights)
    known: list[tuple[Tensor, Tensor, Tensor]] = []

    def seen(m: Tensor) -> tuple[Tensor, Tensor]:
        for place, v, length in known:
            if torch.equal(place, m):
                return v, length
        known.append((m, *arrows(m, x)))
        del known[:-2]
        return known[-1][1:]

    def spread(m: Tensor) -> Tensor:
        return (share * seen(m)[1] ** 2).sum()

    before: list[Tensor] = []

    def step(m: Tensor) -> Tensor:
        """Karcher's step, shortened by the secant of the last two where Σ w d² bends more than in flat space."""
        along = space._to_tangent(m, (share[:, None] * seen(m)[0]).sum(0))
        if before and not torch.equal(before[0], m):
            way, change = m - before[0], before[1] - along
            shorter = torch.dot(way, way) / torch.dot(way, change)
        else:
            shorter = torch.ones_like(m[0])
        before[:] = [m, along]
        return along * torch.where(shorter > 0, shorter, 1.0).clamp(0.1, 1.0)

    def move(m: Tensor, v: Tensor) -> Tensor:
        end = tangent.travel(weight, m[None], v[None])[0][0]
        return torch.where(end.isfinite().all(), space._project(end), m)

    average = space._project((share[:, None] * x).sum(0))
    starts = [x[space._dist(average, x).argmin()]]
    if bool(weight.log(average).isfinite()):
        starts.append(average)
    start = min(starts, key=lambda m: float(spread(m)))
    tol = 100 * tangent.tolerance(x.dtype)
    return descended(start, spread, step, move, space._norm, max_iter, tol, max(NOISE, tangent.tolerance(x.dtype)))


def medoid(pairwise: Callable[[Tensor, Tensor], Tensor], x: Tensor, squared: bool) -> Tensor:
    """Index ``()`` of the row with the least sum of distances, or of their squares, to all rows."""
    sums = []
    for rows in x.split(max(1, ENTRIES // max(1, len(x)))):
        distance = pairwise(rows, x)
        sums.append((distance**2 if squared else distance).sum(1))
    return torch.cat(sums).argmin()
