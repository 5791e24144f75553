"""From pairs of points to geodesics: starting paths, relaxation on two grids, the better start, extrapolation."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from geoflow.distances.paths.relax import Relaxed, refine, relax, resample
from geoflow.distances.paths.steps import lowered, newton_step
from geoflow.distances.progress import watched
from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Manifold

PATHS = 512
"""Paths relaxed at once: more leave the cache, fewer pay more for each operation."""

PATIENCE = 60
"""Iterations of the cheap step before the dear one: smooth densities need 5 to 45, on narrow valleys it never arrives."""

NEWTON_DIM = 128
"""Most dimensions in which the dear step is tried: it takes as many scores an iteration."""


@dataclass
class Solution:
    """Geodesics between pairs of points, with how they were found. Fields have the pairs' batch shape."""

    path: Tensor
    """Nodes ``(*batch, M+1, ambient)``, equally spaced in the underlying space, from x to y."""
    length: Tensor
    """Fermat length ``(*batch)``, extrapolated if the space says so."""
    converged: Tensor
    """Whether relaxation met its stopping rule ``(*batch)``."""
    iterations: Tensor
    """Relaxation steps, over both grids ``(*batch)``."""
    graph_length: Tensor | None
    """Length of the neighbour graph's path ``(*batch)``; None without points."""
    start: list[str]
    """Where each path started: "graph", "line", "given" or "same" (x equals y), in the order of the flattened batch."""


def jittered_line(space: Manifold, x: Tensor, y: Tensor, nodes: int) -> Tensor:
    """The space's geodesics ``(B, nodes + 1, ambient)`` with a sine bump of 1 % in one fixed random direction.

    An exact line between symmetric points is a critical path, from which relaxation would not move.
    """
    t = torch.linspace(0, 1, nodes + 1, dtype=x.dtype, device=x.device)[None, :, None]
    direction = space._log(x, y)
    line = space._exp(x[:, None], t * direction[:, None])
    if space.dim > 1:
        draw = torch.randn(x.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(x)
        draw = space._to_tangent(line, draw.expand_as(line))
        bump = draw / space._norm(line, draw)[..., None] * space._norm(x, direction)[:, None, None]
        line = space._exp(line, 0.01 * torch.sin(math.pi * t) * bump)
    return torch.cat([x[:, None], line[:, 1:-1], y[:, None]], 1)


def from_walks(space: Manifold, walks: list[Tensor], nodes: int) -> Tensor:
    """Paths along nodes of a graph, each ``(K_b, ambient)``, resampled to equal steps ``(B, nodes + 1, ambient)``."""
    longest = max(2, *(len(w) for w in walks)) if walks else 2
    padded = [torch.cat([w, w[-1:].expand(longest - len(w), -1)]) for w in walks]
    return resample(space, torch.stack(padded), nodes)


def solve_block(
    weight: Weight | ScoreWeight,
    starts: dict[str, Tensor],
    extrapolate: bool,
    tol: float | None = None,
    max_iter: int = 200,
) -> tuple[Relaxed, list[str]]:
    """Relax from each start, keep the shorter per pair, refine: the finest path with its length, and the start's name.

    Paths that the cheap step has not brought to rest in `PATIENCE` iterations go on with the dear one.

    With `extrapolate` the path is relaxed again on twice the segments and the two lengths are combined by Richardson's
    (4 L_2M − L_M) / 3, which is of fourth order. Where the two grids differ by more than 5 % they found different geodesics
    and the finer length stands alone.
    """
    cheap, rest = min(max_iter, PATIENCE), max_iter - min(max_iter, PATIENCE)
    tries = [relax(weight, path, tol=tol, max_iter=cheap) for path in starts.values()]
    which = torch.stack([t.log_length for t in tries]).nan_to_num(nan=math.inf).argmin(0)
    at = (which, torch.arange(len(which), device=which.device))
    coarse = Relaxed(*(torch.stack([getattr(t, f.name) for t in tries])[at] for f in fields(Relaxed)))
    narrow = ~coarse.converged
    _relax_on(weight, coarse, narrow, tol, rest)
    names = list(starts)
    chosen = [names[w] for w in which.tolist()]
    if not extrapolate:
        return coarse, chosen
    fine = relax(weight, refine(weight.space, coarse.path), tol=tol, max_iter=cheap, min_iter=3)
    _relax_on(weight, fine, narrow | ~fine.converged, tol, rest, min_iter=3)
    ratio = torch.exp(coarse.log_length - fine.log_length)
    smooth = (ratio - 1).abs() < 0.05
    log_length = fine.log_length + torch.where(smooth, torch.log((4 - ratio.clamp(0, 3)) / 3), torch.zeros_like(ratio))
    both = Relaxed(fine.path, log_length, coarse.converged & fine.converged, coarse.iterations + fine.iterations)
    return both, chosen


def _relax_on(
    weight: Weight | ScoreWeight, found: Relaxed, rows: Tensor, tol: float | None, max_iter: int, min_iter: int = 0
) -> None:
    """Relax some rows further, by the dear step, in place; what neither came to rest nor became shorter stays."""
    if max_iter and weight.space.dim <= NEWTON_DIM and bool(rows.any()):
        more = relax(weight, found.path[rows], newton_step, tol=tol, max_iter=max_iter, min_iter=min_iter)
        more.iterations += found.iterations[rows]
        better = more.converged | (more.log_length < found.log_length[rows])
        rows = rows.nonzero()[better, 0]
        for field in fields(Relaxed):
            getattr(found, field.name)[rows] = getattr(more, field.name)[better]


def solve_pairs(
    weight: Weight | ScoreWeight,
    x: Tensor,
    y: Tensor,
    starts: dict[str, Callable[[Tensor], Tensor]],
    nodes: int,
    extrapolate: bool,
    tol: float | None = None,
    max_iter: int = 200,
) -> tuple[Relaxed, list[str]]:
    """`solve_block` over all pairs ``(B, ambient)``, block by block; each of `starts` makes the paths of some rows.

    Pairs with x = y get a path that stays, of log length −∞, named "same".
    """
    found = Relaxed(
        x[:, None].repeat(1, nodes * (1 + extrapolate) + 1, 1),
        x.new_full((len(x),), -math.inf),
        torch.ones(len(x), dtype=torch.bool, device=x.device),
        torch.zeros(len(x), dtype=torch.long, device=x.device),
    )
    names = ["same"] * len(x)
    apart = (x != y).any(-1).nonzero()[:, 0]
    for rows in watched(apart.split(PATHS) if len(apart) else (), "geodesics", len):
        block, chosen = solve_block(weight, {k: make(rows) for k, make in starts.items()}, extrapolate, tol, max_iter)
        for field in fields(Relaxed):
            getattr(found, field.name)[rows] = getattr(block, field.name)
        for i, name in zip(rows.tolist(), chosen, strict=True):
            names[i] = name
    return found, names


def segment_log_cost(weight: Weight | ScoreWeight, path: Tensor) -> Tensor:
    """log of each segment's weighted length ``(B, M)``, by Simpson's rule."""
    space = weight.space
    forward = space._log(path[:, :-1], path[:, 1:])
    middle = space._exp(path[:, :-1], forward / 2)
    if isinstance(weight, ScoreWeight):
        log_node, log_middle, _ = weight.along(path, middle, forward)
    else:
        log_node, log_middle = weight.log(path), weight.log(middle)
    mean = torch.stack([log_node[:, :-1], log_middle + math.log(4), log_node[:, 1:]]).logsumexp(0) - math.log(6)
    return mean + space._norm(path[:, :-1], forward).log()


def derivatives(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(n, k)`` of the first and second derivative at zero, for values at k > 2 offsets ``(n, k)``."""
    n, k = offsets.shape
    powers = offsets[:, None, :] ** torch.arange(k, dtype=offsets.dtype, device=offsets.device)[:, None]
    wanted = offsets.new_zeros(k, 2)
    wanted[1, 0], wanted[2, 1] = 1, 2
    return torch.linalg.solve(powers, wanted.expand(n, k, 2)).unbind(-1)


def end_tangent(space: Manifold, path: Tensor, nodes: int = 5) -> Tensor:
    """The unit tangent ``(B, ambient)`` at a path's first point, zero for a path of no length.

    It is a one-sided difference over the first `nodes` nodes, or all if there are fewer: of fourth order with five.
    """
    x = path[:, 0]
    away = space._log(x[:, None], path[:, :nodes])
    stencil, _ = derivatives(torch.arange(away.shape[1], dtype=path.dtype, device=path.device)[None])
    tangent = (stencil[0, :, None] * away).sum(1)
    speed = space._norm(x, tangent)[:, None]
    return torch.where(
        speed > 0, tangent / torch.where(speed > 0, speed, torch.ones_like(speed)), torch.zeros_like(tangent)
    )


def end_gradient(weight: Weight, path: Tensor) -> Tensor:
    """Gradient ``(B, ambient)`` of the length in a path's first point: −λ times the unit tangent there, as a covector."""
    x, unit = path[:, 0], end_tangent(weight.space, path)
    return -weight.log(x).exp()[:, None] * lowered(weight.space, x, unit[..., None])[:, 0]
