"""Geodesics from a point: where a velocity leads (`travel`), and which velocity leads to a point (`aim`).

In base arclength σ a geodesic of ds = λ |dx| with unit tangent T obeys ∇_σ T = −β (s − ⟨s, T⟩ T), and its length grows by
λ dσ. With T carried straight on, or with the point held, either half has a closed form on any space with `exp` and
`transport`; a symmetric composition of the two is of sixth order. [kahan1997]
"""

import torch
from torch import Tensor

from geoflow.distances.geometry.variation import Variation, sharpened
from geoflow.distances.paths.geodesics import end_tangent
from geoflow.distances.weight import Weight
from manifolds import Manifold

_HALF = (0.39216144400731413928, 0.33259913678935943860, -0.70624617255763935981, 0.08221359629355080023)
_SHARES = (*_HALF, 0.79854399093482996340, *reversed(_HALF))

STEPS = 1000
"""Most steps of a geodesic, refused ones included."""

ROUNDS = 10
"""Most corrections of a velocity."""

State = tuple[Tensor, Tensor, Tensor]
"""Points ``(B, ambient)``, unit tangents ``(B, ambient)``, and lengths so far ``(B,)`` in units of λ at the start."""


def _drift(space: Manifold, x: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Straight on for h."""
    y = space._exp(x, h[:, None] * t)
    return y, space._transport(x, y, t)


def _turn(space: Manifold, x: Tensor, t: Tensor, force: Tensor, h: Tensor) -> Tensor:
    """The tangent after h with T' = F − ⟨F, T⟩ T: it turns towards F, as tanh does."""
    size = space._norm(x, force)
    unit = force / size.clamp_min(torch.finfo(x.dtype).tiny)[:, None]
    cosine, tanh = space._inner(x, unit, t), torch.tanh(size * h)
    sech = 1 / torch.cosh(size * h)
    turned = sech[:, None] * t + (tanh + cosine * (1 - sech))[:, None] * unit
    turned = space._to_tangent(x, turned / (1 + cosine * tanh)[:, None])
    return turned / space._norm(x, turned)[:, None]


def _glide(weight: Weight, state: State, h: Tensor, log_start: Tensor) -> State:
    """One step of base length h: nine scores."""
    (x, t, length), space, before = state, weight.space, 0.0
    for share in _SHARES:
        x, t = _drift(space, x, t, (before + share) / 2 * h)
        log_weight, score = weight.log_and_score(x)
        t = _turn(space, x, t, -weight.power * score, share * h)
        length = length + share * h * (log_weight - log_start).exp()
        before = share
    x, t = _drift(space, x, t, before / 2 * h)
    return x, t, length


def tolerance(dtype: torch.dtype) -> float:
    """By how much a step may differ from its two halves: 1e-8, and never below 64 rounding errors."""
    return max(1e-8, 64 * torch.finfo(dtype).eps)


@torch.no_grad()
def travel(weight: Weight, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Ends ``(B, ambient)`` of the geodesics from x whose length is λ(x) |v|, and their unit tangents there.

    Every path has its own steps: one is accepted if it differs from its two halves by less than `tolerance` in point
    (relative to the way so far), tangent and length, and then the halves, 63 times better, are kept. The last steps are
    Newton's for the length. A path that cannot go on, because the density ends, gets NaN.
    Cost: 27 scores a step; smooth densities take 10 to 60 steps.
    """
    space, eps, tol = weight.space, torch.finfo(x.dtype).eps, tolerance(x.dtype)
    goal = space._norm(x, v)
    end, heading = x.clone(), v / goal.clamp_min(torch.finfo(x.dtype).tiny)[:, None]
    live = (goal > 0).nonzero()[:, 0]
    end[live] = torch.nan
    state: State = (x[live], heading[live], torch.zeros_like(goal[live]))
    log_start, size, far = weight.log(x[live]), goal[live], torch.zeros_like(goal[live])
    for _ in range(STEPS):
        if not len(live):
            break
        left = (goal[live] - state[2]) / (weight.log(state[0]) - log_start).exp()
        h = torch.where(left.abs() < size, left, size.copysign(left))
        full, half = _step_both(weight, state, h, log_start)
        far_now, floor = far + h.abs(), 16 * eps * (1 + half[0].abs().amax(1))
        apart = (space._norm(half[0], space._log(half[0], full[0])) - floor).clamp_min(0) / far_now
        turned = space._norm(half[0], space._to_tangent(half[0], full[1] - half[1]))
        error = torch.stack([apart, turned, (full[2] - half[2]).abs() / goal[live]]).sum(0) / tol
        accept = error <= 1
        factor = (0.9 * error.clamp_min(1e-12) ** (-1 / 7)).nan_to_num(0.2).clamp(0.2, 4)
        size = torch.where(accept, torch.maximum(h.abs() * factor, size), h.abs() * factor)
        state = tuple(
            torch.where(accept.reshape(-1, *[1] * (a.ndim - 1)), b, a) for a, b in zip(state, half, strict=True)
        )  # type: ignore[assignment]
        far = torch.where(accept, far_now, far)
        done = accept & ((goal[live] - state[2]).abs() <= 8 * eps * goal[live])
        stuck = size < 4 * eps * (1 + state[0].abs().amax(1))
        end[live[done]], heading[live[done]] = state[0][done], state[1][done]
        stay = ~(done | stuck)
        live, log_start, size, far = live[stay], log_start[stay], size[stay], far[stay]
        state = (state[0][stay], state[1][stay], state[2][stay])
    return end, heading


def _step_both(weight: Weight, state: State, h: Tensor, log_start: Tensor) -> tuple[State, State]:
    """A full step and two half steps, the first half beside the full one."""
    count = len(h)
    x, t, length = _glide(
        weight,
        (state[0].repeat(2, 1), state[1].repeat(2, 1), state[2].repeat(2)),
        torch.cat([h, h / 2]),
        log_start.repeat(2),
    )
    halfway = (x[count:], t[count:], length[count:])
    return (x[:count], t[:count], length[:count]), _glide(weight, halfway, h / 2, log_start)


@torch.no_grad()
def depart(weight: Weight, variation: Variation, log_length: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities ``(B, ambient)`` of relaxed geodesics at their starts, and unit tangents at their ends.

    From the sharpened path, whose tangents are right to about 1e-6 where a smooth density is resolved by the nodes.
    """
    space, path = weight.space, sharpened(weight, variation)
    speed = (log_length - weight.log(path[:, 0])).exp()
    return speed[:, None] * end_tangent(space, path, 7), -end_tangent(space, path.flip(1), 7)


@torch.no_grad()
def aim(weight: Weight, path: Tensor, log_length: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities ``(B, ambient)`` at the starts of relaxed geodesics that lead to their ends, and by how much they miss.

    The first is that of `depart`. Each correction follows the geodesic and carries the displacement that is missing at the
    end back to the start: along the path as length, across it as the turn that the second variation asks for. The best is
    kept, and is done at a miss of 10 `tolerance`, or when two trials in a row were worse. Misses are relative to the path's
    length in the underlying space.
    """
    space, x, y = weight.space, path[:, 0], path[:, -1]
    base = space._norm(path[:, :-1], space._log(path[:, :-1], path[:, 1:])).sum(1)
    variation = Variation(weight, path, strict=False)
    best, arriving = depart(weight, variation, log_length)
    gain = (weight.log(y) - weight.log(x)).exp()
    miss, step, share = torch.full_like(base, torch.inf), torch.zeros_like(best), torch.ones_like(base)
    live = torch.arange(len(path), device=path.device)
    for _ in range(ROUNDS):
        trial = best[live] + share[live, None] * step[live]
        end, _ = travel(weight, x[live], trial)
        lacking = -space._log(y[live], end)
        now = (space._norm(y[live], lacking) / base[live]).nan_to_num(torch.inf)
        better = now < miss[live]
        rows = live[better]
        speed = space._norm(x[rows], trial[better])
        along = space._inner(y[rows], lacking[better], arriving[rows])
        sideways = variation.across(torch.zeros_like(best).index_copy(0, rows, lacking[better]))[rows]
        forward = trial[better] / speed[:, None]
        best[rows], miss[rows] = trial[better], now[better]
        step[rows] = (along * gain[rows])[:, None] * forward + speed[:, None] * sideways
        share[rows] = 1.0
        share[live[~better]] /= 4
        live = live[(miss[live] > 10 * tolerance(x.dtype)) & (share[live] > 0.1)]
        if not len(live):
            break
    return best, miss
