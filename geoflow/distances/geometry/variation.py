"""The second variation of length along a discretised geodesic: how nearby geodesics spread, and whether they meet again.

For a field W normal to a geodesic of ds = e^f |dx|, f = log λ, with unit tangent T in the underlying space,

    I(W, W) = ∫ λ ( |W'|² + ∇∇f(W, W) − 2 ⟨∇f, W⟩² − ⟨R₀(W, T) T, W⟩ ) dσ

(⟨W', T⟩ = −⟨∇f, W⟩ on a geodesic, which is where the 2 comes from.) Its index, the number of negative eigenvalues over
fields that vanish at the ends, counts the conjugate points between them [milnor1963]; fields with I(W, ·) = 0 are the
variations by geodesics. On nodes x_0 … x_M the form is a symmetric block-tridiagonal matrix, eliminated from the front.
"""

import torch
from torch import Tensor

from geoflow.distances.geometry.curvature import riemann
from geoflow.distances.paths.geodesics import derivatives, end_tangent
from geoflow.distances.paths.steps import lowered, measure
from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Manifold

ENTRIES = 2**22
"""Entries of the matrices kept at once."""


def block(path: Tensor, space: Manifold) -> int:
    """How many paths ``(B, M+1, ambient)`` fit in `ENTRIES`."""
    return max(1, ENTRIES // (path.shape[1] * space.dim * space.ambient_dim))


class Variation:
    """The second variation along geodesics ``(B, M+1, ambient)``, nodes equally spaced in the underlying space.

    Cost: dim scores at M nodes, and M solves of (dim − 1) × (dim − 1). With `strict` the curvature of the underlying space
    must be known; else it is left out where it is not, which is good enough for directions of corrections.
    """

    def __init__(self, weight: Weight | ScoreWeight, path: Tensor, strict: bool = True) -> None:
        space, self.space, self.path = weight.space, weight.space, path
        state = measure(weight, path)
        self.segment, self.log_node = state.segment, state.log_node
        tangent = _tangents(space, path, state.forward)
        self.frame, self.rows = _normal(space, path[:, 1:], tangent)
        h = torch.finfo(path.dtype).eps ** 0.4 * self.segment.mean(1)
        at = (path[:, 1:-1], state.score[:, 1:-1], tangent[:, :-1], self.frame[:, :-1], self.rows[:, :-1])
        drop = (self.log_node[:, :-1] - self.log_node[:, 1:]) / 2
        both = drop[:, :-1].exp() / self.segment[:, :-1] + (-drop[:, 1:]).exp() / self.segment[:, 1:]
        self.width = (self.segment[:, :-1] + self.segment[:, 1:])[..., None, None] / 2
        eye = torch.eye(space.dim - 1, dtype=path.dtype, device=path.device)
        diagonal = both[..., None, None] * eye + self.width * _stiffness(weight, *at, h, strict)
        turn = self.rows[:, :-1] @ _carried(space, path[:, 2:], path[:, 1:-1], self.frame[:, 1:])
        self.turn = turn / self.segment[:, 1:, None, None]
        pivots, carry = [diagonal[:, 0]], []  # in √λ W, whose off-diagonal blocks are −turn
        for i in range(1, diagonal.shape[1] + 1):
            carry.append(torch.linalg.solve_ex(pivots[-1], self.turn[:, i - 1])[0])
            if i < diagonal.shape[1]:
                pivots.append(diagonal[:, i] - self.turn[:, i - 1].mT @ carry[-1])
        self.pivots, self.carry = torch.stack(pivots, 1), torch.stack(carry, 1)

    @property
    def index(self) -> Tensor:
        """Conjugate points between the ends, with multiplicity ``(B,)``; nodes without second derivatives count fully."""
        known = self.pivots.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        nothing = -torch.eye(self.pivots.shape[-1], dtype=self.pivots.dtype, device=self.pivots.device)
        return (torch.linalg.eigvalsh(self.pivots.where(known, nothing)) < 0).sum((1, 2))

    def across(self, displacement: Tensor) -> Tensor:
        """The turn at the start ``(B, ambient)`` that moves the end by what of a displacement there is across the path."""
        u = ((self.log_node[:, -1] - self.log_node[:, 0]) / 2).exp()[:, None, None] / self.segment[:, :1, None]
        u = u * (self.rows[:, -1] @ displacement[..., None])
        for i in reversed(range(self.carry.shape[1])):
            u = self.carry[:, i] @ u
        return (_carried(self.space, self.path[:, 1], self.path[:, 0], self.frame[:, 0]) @ u)[..., 0]

    def answer(self, force: Tensor) -> Tensor:
        """The field W ``(B, M−1, ambient)``, zero at the ends, with −(λ W')' + λ Q W = λ force across the path."""
        root = (self.log_node[:, 1:-1] - self.log_node.amax(1, keepdim=True))[..., None, None] / 2
        load = self.width * root.exp() * (self.rows[:, :-1] @ force[..., None])
        halfway = [torch.linalg.solve_ex(self.pivots[:, 0], load[:, 0])[0]]
        for i in range(1, load.shape[1]):
            before = self.turn[:, i - 1].mT @ halfway[-1]
            halfway.append(torch.linalg.solve_ex(self.pivots[:, i], load[:, i] + before)[0])
        field = [halfway[-1]]
        for i in reversed(range(load.shape[1] - 1)):
            field.append(halfway[i] + self.carry[:, i] @ field[-1])
        return (self.frame[:, :-1] @ (torch.stack(field[::-1], 1) / root.exp()))[..., 0]


@torch.no_grad()
def sharpened(weight: Weight | ScoreWeight, variation: Variation, rounds: int = 3) -> Tensor:
    """The path of a `Variation` corrected to sixth order in the spacing, by solving for what its curvature lacks.

    Derivatives are taken over seven nodes at a time, in normal coordinates at each node. Paths that are rougher than that
    are left as they were.
    """
    space, path = weight.space, variation.path
    if path.shape[1] < 7:
        return path
    best, least = path, torch.full_like(path[:, 0, 0], torch.inf)
    for _ in range(rounds):
        lacking = _lacking(weight, path)
        size = space._norm(path[:, 1:-1], lacking).amax(1)
        better = size < least
        best = torch.where(better[:, None, None], path, best)
        least = torch.where(better, size, least)
        inner = space._exp(path[:, 1:-1], variation.answer(lacking))
        path = torch.cat([path[:, :1], inner, path[:, -1:]], 1)
    return best


def _lacking(weight: Weight | ScoreWeight, path: Tensor) -> Tensor:
    """Curvature + β s across the path at interior nodes ``(B, M−1, ambient)``: zero on a geodesic."""
    space, x, count = weight.space, path[:, 1:-1], path.shape[1]
    node = torch.arange(1, count - 1, device=path.device)
    window = (node - 3).clamp(0, count - 7)[:, None] + torch.arange(7, device=path.device)
    logs = space._log(x[:, :, None], path[:, window])
    first, second = derivatives((window - node[:, None]).to(path.dtype))
    v, a = (first[:, None] @ logs)[..., 0, :], (second[:, None] @ logs)[..., 0, :]
    square = space._inner(x, v, v)[..., None]
    force = a / square + weight.power * weight.scores(x)
    return force - space._inner(x, force, v)[..., None] / square * v


def _tangents(space: Manifold, path: Tensor, forward: Tensor) -> Tensor:
    """Unit tangents ``(B, M, ambient)`` of the paths at all nodes but the first."""
    inner = forward[:, 1:] - space._log(path[:, 1:-1], path[:, :-2])
    inner = inner / space._norm(path[:, 1:-1], inner)[..., None]
    return torch.cat([inner, -end_tangent(space, path.flip(1))[:, None]], 1)


def _normal(space: Manifold, x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal frames ``(..., ambient, dim − 1)`` across the tangents, by a reflection, and their covectors as rows."""
    basis = space._tangent_basis(x)
    rows = lowered(space, x, basis)
    mirror = (rows @ tangent[..., None])[..., 0]
    mirror = mirror / torch.linalg.vector_norm(mirror, dim=-1, keepdim=True)
    mirror[..., 0] += torch.where(mirror[..., 0] >= 0, 1.0, -1.0)
    mirror = mirror / torch.linalg.vector_norm(mirror, dim=-1, keepdim=True)
    eye = torch.eye(space.dim, dtype=x.dtype, device=x.device)
    across = (eye - 2 * mirror[..., :, None] * mirror[..., None, :])[..., 1:]
    return basis @ across, across.mT @ rows


def _carried(space: Manifold, x: Tensor, y: Tensor, frame: Tensor) -> Tensor:
    """The columns of a frame carried in parallel from x to y."""
    return space._transport(x[..., None, :], y[..., None, :], frame.mT).mT


def _stiffness(
    weight: Weight | ScoreWeight,
    x: Tensor,
    score: Tensor,
    tangent: Tensor,
    frame: Tensor,
    rows: Tensor,
    h: Tensor,
    strict: bool,
) -> Tensor:
    """∇∇f − 2 ∇f ∇fᵀ − R₀(·, T) T in the normal frames; the Hessian by differences of the score over h, carried back."""
    space, x, h = weight.space, x[..., None, :], h[:, None, None, None]
    aside = space._exp(x, h * frame.mT)
    there = space._transport(aside, x, weight.scores(aside))
    hessian = rows @ ((there - score[..., None, :]) / h).mT
    slope = rows @ score[..., None]
    force = -weight.power * (hessian + hessian.mT) / 2 - 2 * weight.power**2 * slope @ slope.mT
    try:
        bent = rows @ riemann(space, x, frame.mT, tangent[..., None, :]).mT
    except NotImplementedError:
        if strict:
            raise
        return force
    return force - (bent + bent.mT) / 2
