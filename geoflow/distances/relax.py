"""Relaxation of discretised paths to geodesics: Newton-like steps in a weighted H¹ metric, batched over paths.

A path x_0 … x_M with fixed ends is moved along the curvature that is missing for a geodesic of ds = p^{-β} |dx| at
constant speed in the underlying space,

    R_i = log_{x_i} x_{i+1} + log_{x_i} x_{i−1} + β (|v|² s − ⟨s, v⟩ v),    v = (x_{i+1} − x_{i−1}) / 2,

preconditioned by the Laplacian weighted with λ, whose inverse along a path is two cumulative sums, and accelerated by
the memory of its last steps. The number of iterations does not grow with M. Lengths are by Simpson's rule, in logs,
shifted per path.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

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


@dataclass
class _State:
    """A path with what is known on it."""

    x: Tensor  # (B, M+1, D)
    forward: Tensor  # (B, M, D): log_{x_i} x_{i+1}
    segment: Tensor  # (B, M): |forward|
    log_node: Tensor  # (B, M+1): log λ
    score: Tensor  # (B, M+1, D)
    log_length: Tensor  # (B,)

    def __getitem__(self, keep: Tensor) -> "_State":
        return _State(*(getattr(self, f.name)[keep] for f in fields(self)))

    def where(self, mask: Tensor, other: "_State") -> "_State":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return _State(*(torch.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _measure(weight: Weight | ScoreWeight, x: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> _State:
    """Everything about a path; `ends` are log λ ``(B, 2)`` and scores ``(B, 2, D)`` at its fixed ends, if known."""
    space = weight.space
    forward = space._log(x[:, :-1], x[:, 1:])
    middles = space._exp(x[:, :-1], forward / 2)
    segment = space._norm(x[:, :-1], forward)
    if isinstance(weight, ScoreWeight):
        log_node, log_middle, score = weight.along(x, middles, forward)
    else:
        if ends is None:
            log_node, score = weight.log_and_score(x)
        else:
            inner, inner_score = weight.log_and_score(x[:, 1:-1])
            log_node = torch.cat([ends[0][:, :1], inner, ends[0][:, 1:]], 1)
            score = torch.cat([ends[1][:, :1], inner_score, ends[1][:, 1:]], 1)
        log_middle = weight.log(middles)
    log_cost = torch.stack([log_node[:, :-1], log_middle + _LOG4.to(x), log_node[:, 1:]]).logsumexp(0) - _LOG6.to(x)
    return _State(x, forward, segment, log_node, score, (log_cost + segment.log()).logsumexp(1))


_LOG4, _LOG6 = torch.log(torch.tensor([4.0, 6.0], dtype=torch.float64))


def _step(weight: Weight | ScoreWeight, state: _State) -> Tensor:
    """The preconditioned step δ ``(B, M−1, D)`` at the interior nodes."""
    space, x = weight.space, state.x[:, 1:-1]
    ahead, behind = state.forward[:, 1:], space._log(x, state.x[:, :-2])
    v, s = (ahead - behind) / 2, state.score[:, 1:-1]
    force = space._inner(x, v, v)[..., None] * s - space._inner(x, s, v)[..., None] * v
    residual = ahead + behind + weight.power * force

    floor = -600.0 if x.dtype == torch.float64 else -80.0
    log_node = (state.log_node - state.log_node.amax(1, keepdim=True)).clamp_min(floor)
    inverse_half = torch.exp(-(log_node[:, :-1] + log_node[:, 1:]) / 2)[..., None]
    load = torch.nn.functional.pad((log_node[:, 1:-1].exp()[..., None] * residual).cumsum(1), (0, 0, 1, 0))
    constant = (inverse_half * load).sum(1, keepdim=True) / inverse_half.sum(1, keepdim=True)
    return space._to_tangent(x, ((constant - load) * inverse_half).cumsum(1)[:, :-1])


class _Memory:
    """Anderson's acceleration of x ← x + τ δ(x), path by path: the combination of the last few steps that would have
    cancelled δ if it were linear in x. It takes over the coupling between nodes that the Laplacian leaves out, the Hessian
    of log p. [anderson1965]
    """

    def __init__(self, delta: Tensor, size: int = 6) -> None:
        self.moves, self.changes = delta.new_zeros(2, size, *delta.shape)
        self.used = delta.new_zeros(size, len(delta))
        self.slot = 0

    def correct(self, delta: Tensor, tau: Tensor) -> Tensor:
        """What to take off the plain step τ δ; zero for a path without memory."""
        changes = self.changes.flatten(2).transpose(0, 1)
        gram = changes @ changes.mT
        scale = gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(torch.finfo(delta.dtype).tiny)[:, None]
        used = self.used.mT
        ridge = (1e-10 if delta.dtype == torch.float64 else 1e-6) + (1 - used)  # unused slots decouple
        share = torch.linalg.solve(gram + torch.diag_embed(ridge * scale), changes @ delta.flatten(1)[..., None])[
            ..., 0
        ]
        share = (share * used).mT[:, :, None, None]
        return (share * (self.moves + tau[:, None, None] * self.changes)).sum(0)

    def keep(self, rows: Tensor) -> None:
        """Forget all paths but these."""
        self.moves, self.changes, self.used = self.moves[:, rows], self.changes[:, rows], self.used[:, rows]

    def add(self, accept: Tensor, move: Tensor, change: Tensor) -> None:
        """Remember an accepted step and how δ changed over it; a path whose step was refused starts afresh."""
        mask = accept[:, None, None]
        self.moves[self.slot], self.changes[self.slot] = (
            move.where(mask, _ZERO.to(move)),
            change.where(mask, _ZERO.to(move)),
        )
        self.used = (self.used * accept).index_fill(0, torch.tensor(self.slot, device=move.device), 0)
        self.used[self.slot] = accept.to(move.dtype)
        self.slot = (self.slot + 1) % len(self.used)


_ZERO = torch.tensor(0.0)


@torch.no_grad()
def relax(
    weight: Weight | ScoreWeight,
    path: Tensor,
    *,
    tol: float | None = None,
    max_iter: int = 100,
    min_iter: int = 0,
) -> Relaxed:
    """Relax paths ``(B, M+1, ambient)`` with fixed ends towards geodesics.

    A path is done when its step is below `tol` (1e-6, and never below 100 rounding errors) of its length in the
    underlying space; or when its weighted length has changed by less than 1e-8 (16 rounding errors) of itself, for a full
    step, three times in a row; or has not become shorter by 1e-7 (16 rounding errors) of itself in 30 accepted steps, as
    on densities with kinks, where the path does not come to rest but its length does. A step that lengthens the path is
    taken back and retried shorter, path by path; finished paths leave the batch. One iteration costs a value and score at
    M − 1 points and a value at M.
    """
    eps, space, count = torch.finfo(path.dtype).eps, weight.space, len(path)
    tol, still, gain = max(tol or 1e-6, 100 * eps), max(1e-8, 16 * eps), max(1e-7, 16 * eps)
    out = Relaxed(
        path.clone(),
        path.new_zeros(count),
        torch.zeros(count, dtype=torch.bool, device=path.device),
        torch.zeros(count, dtype=torch.long, device=path.device),
    )
    state = _measure(weight, path)
    ends = (state.log_node[:, [0, -1]], state.score[:, [0, -1]])
    delta = _step(weight, state)
    memory = _Memory(delta)
    live = torch.arange(count, device=path.device)
    tau, quiet = path.new_ones(count), torch.zeros_like(live)
    shortest, waited = state.log_length, torch.zeros_like(live)
    for iteration in range(max_iter + 1):
        rho = space._norm(state.x[:, 1:-1], delta).amax(1) / state.segment.sum(1)
        done = ((rho <= tol) & (iteration >= min_iter)) | (quiet >= 3) | (waited >= 30)
        leave = done if iteration < max_iter else torch.ones_like(done)
        if bool(leave.any()):
            gone, stay = live[leave], ~leave
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
        trial = _measure(weight, torch.cat([state.x[:, :1], space._exp(x, move), state.x[:, -1:]], 1), ends)
        trial_delta = _step(weight, trial)
        trial_rho = space._norm(trial.x[:, 1:-1], trial_delta).amax(1) / trial.segment.sum(1)
        change = trial.log_length - state.log_length
        accept = (change <= torch.log1p((rho / 100).clamp_max(1e-3)) + 16 * eps) & trial_rho.isfinite()
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
