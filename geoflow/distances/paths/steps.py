"""The two steps that move a discretised path towards a geodesic: a cheap one, and one for narrow valleys.

A path x_0 … x_M with fixed ends is moved along the curvature that is missing for a geodesic of ds = p^{-β} |dx| at
constant speed in the underlying space,

    R_i = log_{x_i} x_{i+1} + log_{x_i} x_{i−1} + β (|v|² s − ⟨s, v⟩ v),    v = (x_{i+1} − x_{i−1}) / 2,

through the inverse of an operator that says how R answers to a move: the Laplacian along the path weighted with λ
(`laplacian_step`), or that and how the density bends at each node (`newton_step`).
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Manifold


@dataclass
class State:
    """B paths with what is known on them."""

    x: Tensor  # (B, M+1, D)
    forward: Tensor  # (B, M, D): log_{x_i} x_{i+1}
    segment: Tensor  # (B, M): |forward|
    log_node: Tensor  # (B, M+1): log λ
    score: Tensor  # (B, M+1, D)
    log_length: Tensor  # (B,)

    def __getitem__(self, keep: Tensor) -> "State":
        return self if bool(keep.all()) else State(*(getattr(self, f.name)[keep] for f in fields(self)))

    def where(self, mask: Tensor, other: "State") -> "State":
        if bool(mask.all()):
            return self
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return State(*(torch.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def measure(weight: Weight | ScoreWeight, x: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> State:
    """Everything about a path, its length by Simpson's rule in logs.

    `ends` are log λ ``(B, 2)`` and scores ``(B, 2, D)`` at its fixed ends, if known.
    """
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
    log_cost = torch.stack([log_node[:, :-1], log_middle + math.log(4), log_node[:, 1:]]).logsumexp(0) - math.log(6)
    return State(x, forward, segment, log_node, score, (log_cost + segment.log()).logsumexp(1))


def _missing(weight: Weight | ScoreWeight, state: State) -> tuple[Tensor, Tensor]:
    """R and v at the interior nodes, both ``(B, M−1, D)``."""
    space, x = weight.space, state.x[:, 1:-1]
    ahead, behind = state.forward[:, 1:], space._log(x, state.x[:, :-2])
    v, s = (ahead - behind) / 2, state.score[:, 1:-1]
    force = space._inner(x, v, v)[..., None] * s - space._inner(x, s, v)[..., None] * v
    return ahead + behind + weight.power * force, v


def laplacian_step(weight: Weight | ScoreWeight, state: State) -> Tensor:
    """δ ``(B, M−1, D)`` with (λ δ')' = −λ R, whose solution along a path is two cumulative sums."""
    residual, _ = _missing(weight, state)
    floor = -600.0 if state.x.dtype == torch.float64 else -80.0
    log_node = (state.log_node - state.log_node.amax(1, keepdim=True)).clamp_min(floor)
    inverse_half = torch.exp(-(log_node[:, :-1] + log_node[:, 1:]) / 2)[..., None]
    load = torch.nn.functional.pad((log_node[:, 1:-1].exp()[..., None] * residual).cumsum(1), (0, 0, 1, 0))
    constant = (inverse_half * load).sum(1, keepdim=True) / inverse_half.sum(1, keepdim=True)
    return weight.space._to_tangent(state.x[:, 1:-1], ((constant - load) * inverse_half).cumsum(1)[:, :-1])


def newton_step(weight: Weight | ScoreWeight, state: State) -> Tensor:
    """δ ``(B, M−1, D)`` with (λ δ')' − λ A δ = −λ R, where A = β |v|² |P ∇∇log p P| and P projects off the path.

    On a density with narrow valleys (columns that nearly determine each other) A exceeds the Laplacian by orders of
    magnitude, and a step without it must be as short as the narrowest valley is wide. |·| takes the absolute values of
    the eigenvalues, so that δ points downhill. Block-tridiagonal, in orthonormal frames at the nodes; the Hessian is by
    differences of the score. Cost: dim scores at M − 1 points, and M − 1 solves of dim × dim.
    """
    space, x, eps = weight.space, state.x[:, 1:-1], torch.finfo(state.x.dtype).eps
    residual, v = _missing(weight, state)
    frame = space._tangent_basis(x)
    rows = lowered(space, x, frame)

    h = (eps**0.4 * state.segment.mean(1))[:, None, None]
    bend = [weight.scores(space._exp(x, h * frame[..., a])) - state.score[:, 1:-1] for a in range(space.dim)]
    hessian = rows @ torch.stack(bend, -1) / h[..., None]
    along = (rows @ v[..., None])[..., 0]
    speed = torch.linalg.vector_norm(along, dim=-1)[..., None, None]
    unit = along[..., None] / speed.clamp_min(torch.finfo(x.dtype).tiny)
    across = torch.eye(space.dim, dtype=x.dtype, device=x.device) - unit @ unit.mT
    values, vectors = torch.linalg.eigh((across @ (hessian + hessian.mT) @ across / 2).nan_to_num(0, 0, 0))
    stiffness = weight.power * speed**2 * (vectors * values.abs()[..., None, :]) @ vectors.mT

    drop = ((state.log_node[:, :-1] - state.log_node[:, 1:]) / 2).clamp(-40, 40).exp()[..., None, None]
    back, ahead = drop[:, :-1], 1 / drop[:, 1:]  # λ at the half nodes over λ at the node
    turn = rows[:, :-1] @ frame[:, 1:]  # coordinates at the next node to coordinates here
    diagonal = stiffness + (back + ahead) * torch.eye(space.dim, dtype=x.dtype, device=x.device)
    delta = _solve(diagonal, back[:, 1:] * turn.mT, ahead[:, :-1] * turn, rows @ residual[..., None])
    return (frame @ delta)[..., 0]


def lowered(space: Manifold, x: Tensor, frame: Tensor) -> Tensor:
    """The covectors ⟨e_a, ·⟩ of a frame's columns as rows ``(..., d, ambient)``: a tangent vector's coordinates in it."""
    with torch.enable_grad():
        slot = torch.zeros_like(frame.mT).requires_grad_()
        (rows,) = torch.autograd.grad(space._inner(x[..., None, :], frame.mT.detach(), slot).sum(), slot)
    return rows


def _solve(diagonal: Tensor, lower: Tensor, upper: Tensor, load: Tensor) -> Tensor:
    """Solution ``(B, N, d, 1)`` of D_i δ_i − L_i δ_{i−1} − U_i δ_{i+1} = f_i by elimination from the front."""
    dim, last = diagonal.shape[-1], diagonal.shape[1] - 1
    carry: list[Tensor] = []  # δ_i = carry_i (δ_{i+1}; 1)
    for i in range(last + 1):
        matrix, right = diagonal[:, i], load[:, i]
        if i:
            matrix = matrix - lower[:, i - 1] @ carry[-1][..., :dim]
            right = right + lower[:, i - 1] @ carry[-1][..., dim:]
        carry.append(torch.linalg.solve(matrix, torch.cat([upper[:, i], right], -1) if i < last else right))
    delta = [carry.pop()]
    while carry:
        block = carry.pop()
        delta.append(block[..., :dim] @ delta[-1] + block[..., dim:])
    return torch.stack(delta[::-1], 1)
