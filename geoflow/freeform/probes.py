"""Random tangent vectors whose second moment is the identity of the tangent space: what traces are estimated with."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from manifolds import Euclidean, Manifold, PoincareBall, SpecialOrthogonal
from manifolds.flat import Flat

Kind = Literal["orthonormal", "gaussian", "rademacher"]
KINDS = ("orthonormal", "gaussian", "rademacher")
EXACT = 3
"""Up to this many dimensions all directions are probed unless asked otherwise: the trace is then exact."""


def frame(space: Manifold, x: Tensor) -> Tensor | None:
    """A basis ``(*batch, ambient_dim, dim)`` of the tangent space, orthonormal in the embedding.

    None where the space is open in its coordinates and the basis is theirs. On flat spaces one for all points.
    """
    if space.dim == space.ambient_dim:
        return None
    if isinstance(space, Flat):
        x = x[(0,) * (x.ndim - 1)] if x.shape[:-1].numel() else x.new_zeros(x.shape[-1])
    return torch.linalg.qr(space._tangent_basis(x))[0]


@dataclass(frozen=True)
class Probes:
    """How tangent vectors v are drawn: v = Bu with B a basis of the tangent space, E uuᵀ = 1, so that E|v|² = dim.

    The variance of uᵀAu with A_s = (A + Aᵀ)/2 is

    - gaussian: 2|A_s|²
    - rademacher (entries ±1): 2(|A_s|² − Σ a_ii²)
    - orthonormal, `count` K of them, each of length √dim: 2d/(d + 2) (|A_s|² − tr(A)²/d) · (d − K)/(K(d − 1)): that of
      one vector uniform on the sphere for K = 1, and zero for K = d.

    Gaussian and Rademacher means over K independent ones have a K-th of theirs.

    Args:
        dim: of the tangent space.
        count: how many; at most `dim` if orthonormal.
        kind: of what distribution.
    """

    dim: int
    count: int = 1
    kind: Kind = "orthonormal"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"probes: expected a kind of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.count < 1 or (self.kind == "orthonormal" and self.count > self.dim):
            raise ValueError(
                f"probes: expected 1 to {self.dim} orthonormal ones, the dimension of the space, got {self.count}: "
                f"{self.dim} are exact already."
            )

    @property
    def exact(self) -> bool:
        """Whether the estimate of a trace has no variance."""
        return self.kind == "orthonormal" and self.count == self.dim

    def coordinates(self, like: Tensor, generator: Generator | None = None) -> Tensor:
        """u ``(count, *batch, dim)`` for points `like` ``(*batch, ·)``."""
        shape, options = (*like.shape[:-1], self.dim), {"dtype": like.dtype, "device": like.device}
        if self.exact:
            eye = math.sqrt(self.dim) * torch.eye(self.dim, dtype=like.dtype, device=like.device)
            return eye.reshape(self.dim, *[1] * (like.ndim - 1), self.dim).expand(self.dim, *shape)
        if self.kind == "rademacher":
            return torch.randint(0, 2, (self.count, *shape), generator=generator, device=like.device).to(like) * 2 - 1
        u = torch.randn(self.count, *shape, generator=generator, **options)  # type: ignore[call-overload]
        if self.kind == "gaussian":
            return u  # type: ignore[no-any-return]
        if self.count == 1:
            return math.sqrt(self.dim) * u / u.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(u.dtype).tiny)
        return math.sqrt(self.dim) * torch.linalg.qr(u.movedim(0, -1))[0].movedim(-1, 0)

    def pairs(self, space: Manifold, x: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """v and c ``(count, *batch, ambient_dim)`` at points x, which are not differentiated, with E vcᵀ = 1 there.

        v = Bu, B orthonormal in the space's metric, and c the covector of the same coordinates, which vanishes on what is
        normal in the embedding. Where the metric is the embedding's, up to a factor, B is taken orthonormal there, and
        c = v. Elsewhere, as on positive definite matrices, vᵀAv would have the variance of A in badly chosen units.
        """
        x = x.detach()
        u, basis = self.coordinates(x, generator), frame(space, x)
        r = units(space, x, basis)
        v, c = (u, u) if r is None else ((r @ u[..., None])[..., 0], torch.linalg.solve(r.mT, u[..., None])[..., 0])
        if basis is None:
            return v, c
        ahead = (basis @ v[..., None])[..., 0]
        return ahead, ahead if r is None else (basis @ c[..., None])[..., 0]


def units(space: Manifold, x: Tensor, basis: Tensor | None) -> Tensor | None:
    """r ``(*batch, dim, dim)`` with which `frame`'s basis, times r, is orthonormal in the metric.

    None where the metric is the embedding's, up to a factor: r would be a rotation of one length.
    """
    if isinstance(space, Euclidean):
        own = space._scale is None
    else:
        own = isinstance(space, PoincareBall | SpecialOrthogonal) or type(space)._log_volume is Manifold._log_volume
    if own:
        return None
    b = space._tangent_basis(x)
    return b if basis is None else basis.mT @ b


def probes_for(space: Manifold, count: int | Literal["auto", "exact"] = "auto", kind: Kind = "orthonormal") -> Probes:
    """Probes on a space: "auto" is every direction up to three dimensions, and one vector beyond."""
    n = space.dim
    if count == "exact" or (count == "auto" and n <= EXACT):
        return Probes(n, n)
    if isinstance(count, str) and count != "auto":
        raise ValueError(f"probes: expected a number, 'auto' or 'exact', got {count!r}.")
    return Probes(n, 1 if count == "auto" else int(count), kind)
