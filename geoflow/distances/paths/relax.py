"""Relaxation of discretised paths to geodesics: preconditioned steps with a memory, batched over paths.

The number of iterations does not grow with the nodes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.distances.paths.steps import State, laplacian_step, measure
from geoflow.distances.progress import bar
from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Manifold


@dataclass
class Relaxed:
    """What relaxation gives for each of B paths."""

    path: Tensor
    """Nodes ``(B, M+1, ambient)``, equally spaced in the underlying space."""
    log_length: Tensor
    """Log of the weighted length ``(B,)``."""
    converged: Tensor
    """Whether the stopping rule was met before the last allowed iteration ``(B,)``."""
    iterations: Tensor
    """Steps tried ``(B,)``."""


class _Memory:
    """Anderson's acceleration of x ← x + τ δ(x), path by path: the combination of the last few steps that would have
    cancelled δ if it were linear in x. It takes over the coupling between nodes that the Laplacian leaves out, the Hessian
    of log p. [anderson1965]
    """

    def __init__(self, delta: Tensor, size: int = 6) -> None:
        self.moves, self.changes = delta.new_zeros(2, len(delta), size, math.prod(delta.shape[1:]))
        self.used = delta.new_zeros(len(delta), size)
        self.slot = self.filled = 0

    def correct(self, delta: Tensor, tau: Tensor) -> Tensor:
        """What to take off the plain step τ δ; zero for a path without memory."""
        if not self.filled:
            return torch.zeros_like(delta)
        moves, changes, used = (m[:, : self.filled] for m in (self.moves, self.changes, self.used))
        gram = changes @ changes.mT
        scale = gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(delta.dtype).tiny)[:, None]
        ridge = (1e-10 if delta.dtype == torch.float64 else 1e-6) + (1 - used)  # unused slots decouple
        load = changes @ delta.flatten(1)[..., None]
        share = torch.linalg.solve(gram + torch.diag_embed(ridge * scale), load)[..., 0] * used
        return (share[:, None] @ moves + tau[:, None, None] * (share[:, None] @ changes)).reshape_as(delta)

    def keep(self, rows: Tensor) -> None:
        """Forget all paths but these."""
        self.moves, self.changes, self.used = self.moves[rows], self.changes[rows], self.used[rows]

    def add(self, accept: Tensor, move: Tensor, change: Tensor) -> None:
        """Remember an accepted step and how δ changed over it; a path whose step was refused starts afresh."""
        for memory, new in ((self.moves, move), (self.changes, change)):
            memory[:, self.slot] = torch.where(accept[:, None], new.flatten(1), 0.0)
        self.used *= accept[:, None]
        self.used[:, self.slot] = accept.to(move.dtype)
        self.filled = max(self.filled, self.slot + 1)
        self.slot = (self.slot + 1) % self.used.shape[1]


@torch.no_grad()
def relax(
    weight: Weight | ScoreWeight,
    path: Tensor,
    step: Callable[[Weight | ScoreWeight, State], Tensor] = laplacian_step,
    *,
    tol: float | None = None,
    max_iter: int = 100,
    min_iter: int = 0,
) -> Relaxed:
    """Relax paths ``(B, M+1, ambient)`` with fixed ends towards geodesics, by one of the moves of `steps`.

    A path is done when its step is below `tol` (1e-6, and never below 100 rounding errors) of its length in the
    underlying space; or when its weighted length has changed by less than 1e-8 (16 rounding errors) of itself, for a full
    step, three times in a row; or has not become shorter by 1e-7 (16 rounding errors) of itself in 30 accepted steps, as
    on densities with kinks, where the path does not come to rest but its length does. A step that lengthens the path is
    taken back and retried shorter, path by path; finished paths leave the batch. One iteration costs a value and score at
    M − 1 points and a value at M, and what the step costs.
    """
    eps, space, count = torch.finfo(path.dtype).eps, weight.space, len(path)
    tol, still, gain = max(tol or 1e-6, 100 * eps), max(1e-8, 16 * eps), max(1e-7, 16 * eps)
    out = Relaxed(
        path.clone(),
        path.new_zeros(count),
        torch.zeros(count, dtype=torch.bool, device=path.device),
        torch.zeros(count, dtype=torch.long, device=path.device),
    )
    state = measure(weight, path)
    ends = (state.log_node[:, [0, -1]], state.score[:, [0, -1]])
    delta = step(weight, state)
    memory = _Memory(delta)
    live = torch.arange(count, device=path.device)
    tau, quiet = path.new_ones(count), torch.zeros_like(live)
    shortest, waited = state.log_length, torch.zeros_like(live)
    rho = space._norm(state.x[:, 1:-1], delta).amax(1) / state.segment.sum(1)
    resting = bar(count, "paths at rest")
    for iteration in range(max_iter + 1):
        done = ((rho <= tol) & (iteration >= min_iter)) | (quiet >= 3) | (waited >= 30)
        leave = done if iteration < max_iter else torch.ones_like(done)
        if bool(leave.any()):
            gone, stay = live[leave], ~leave
            resting.update(len(gone))
            out.path[gone], out.log_length[gone] = state.x[leave], state.log_length[leave]
            out.converged[gone], out.iterations[gone] = done[leave], iteration
            live, state, delta, rho = live[stay], state[stay], delta[stay], rho[stay]
            tau, quiet, shortest, waited = tau[stay], quiet[stay], shortest[stay], waited[stay]
            ends = (ends[0][stay], ends[1][stay])
            memory.keep(stay)
            if not len(live):
                break
        x = state.x[:, 1:-1]
        move = space._to_tangent(x, tau[:, None, None] * delta - memory.correct(delta, tau))
        trial = measure(weight, torch.cat([state.x[:, :1], space._exp(x, move), state.x[:, -1:]], 1), ends)
        change = trial.log_length - state.log_length
        accept = change <= torch.log1p((rho / 100).clamp_max(1e-3)) + 16 * eps
        if bool(accept.all()):
            trial_delta = step(weight, trial)
        else:
            trial_delta = delta.clone()
            if bool(accept.any()):
                trial_delta[accept] = step(weight, trial[accept])
        trial_rho = space._norm(trial.x[:, 1:-1], trial_delta).amax(1) / trial.segment.sum(1)
        accept &= trial_rho.isfinite()
        quiet = torch.where(accept, torch.where(change.abs() < still * tau, quiet + 1, 0), quiet)
        memory.add(accept, trial.x[:, 1:-1] - x, trial_delta - delta)
        shrink = ~accept | (trial_rho > 1.5 * rho)
        tau = torch.where(
            shrink,
            (0.6 * tau).clamp_min(1e-3),
            torch.where(trial_rho < (1 - 0.02 * tau) * rho, 2.0 * tau, tau).clamp_max(1),
        )
        state = trial.where(accept, state)
        shorter = state.log_length < shortest - gain
        shortest = torch.where(shorter, state.log_length, shortest)
        waited = torch.where(shorter, 0, waited + accept)
        delta = torch.where(accept[:, None, None], trial_delta, delta)
        rho = torch.where(accept, trial_rho, rho)
    resting.close()
    return out


def resample(space: Manifold, path: Tensor, segments: int) -> Tensor:
    """Paths ``(B, K, D)`` resampled to `segments` pieces of equal length in the underlying space."""
    forward = space._log(path[:, :-1], path[:, 1:])
    along = torch.nn.functional.pad(space._norm(path[:, :-1], forward).cumsum(1), (1, 0))
    wanted = along[:, -1:] * torch.linspace(0, 1, segments + 1, dtype=path.dtype, device=path.device)
    inner = at_length(space, path, along, wanted[:, 1:-1])
    return torch.cat([path[:, :1], inner, path[:, -1:]], 1)


def at_length(space: Manifold, path: Tensor, along: Tensor, wanted: Tensor) -> Tensor:
    """Points ``(B, T, D)`` where the increasing function `along` ``(B, K)`` of the nodes takes the values `wanted`."""
    forward = space._log(path[:, :-1], path[:, 1:])
    i = (torch.searchsorted(along, wanted.contiguous(), right=True) - 1).clamp(0, forward.shape[1] - 1)
    start, end = along.gather(1, i), along.gather(1, i + 1)
    width = end - start
    t = torch.where(
        width > 0, (wanted - start) / torch.where(width > 0, width, torch.ones_like(width)), torch.zeros_like(width)
    )
    pick = i[..., None].expand(*i.shape, path.shape[-1])
    return space._exp(path.gather(1, pick), t.clamp(0, 1)[..., None] * forward.gather(1, pick))


def refine(space: Manifold, path: Tensor) -> Tensor:
    """Paths with a node put in the middle of every segment: ``(B, M+1, D)`` → ``(B, 2M+1, D)``."""
    middles = space._exp(path[:, :-1], space._log(path[:, :-1], path[:, 1:]) / 2)
    both = torch.stack([path[:, :-1], middles], 2).flatten(1, 2)
    return torch.cat([both, path[:, -1:]], 1)
