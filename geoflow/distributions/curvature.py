"""Areas of spheres and volumes of exp where the space looks alike in all directions.

On a space of constant curvature κ the sphere of radius r around any point has area ω S(r)ⁿ⁻¹, ω the area of the unit
sphere of ℝⁿ and S(r) = sin(√κ r)/√κ, r, or sinh(√−κ r)/√−κ.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from manifolds import Euclidean, Hyperboloid, Manifold, MeanFree, PoincareBall, SpecialOrthogonal, Sphere, series

POLE = 1e-6
"""Where geodesics of all directions meet again, S(r) is taken no smaller than this."""


def log_sinhc_sqrt(s: Tensor) -> Tensor:
    """log(sinh √s / √s), which neither overflows nor loses its derivatives at s = 0."""
    small = s < (1e-4 if s.dtype == torch.float64 else 1e-2)
    y = torch.where(small, torch.ones_like(s), s).sqrt()
    near = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s / 37800)))
    return torch.where(small, near, y + torch.log1p(-torch.exp(-2 * y)) - torch.log(2 * y))


@dataclass(frozen=True)
class Radial:
    """What distances know of a space: its dimension, its constant curvature, and the largest distance."""

    dim: int
    curvature: float
    reach: float

    def log_det(self, s: Tensor) -> Tensor:
        """log |det d exp| at tangent vectors of squared length s: (n − 1) log(S(r)/r)."""
        if self.dim == 1 or self.curvature == 0:
            return torch.zeros_like(s)
        if self.curvature < 0:
            return (self.dim - 1) * log_sinhc_sqrt(-self.curvature * s)
        return (self.dim - 1) * series.sinc_sqrt(self.curvature * s).clamp_min(POLE / math.pi).log()

    def log_area(self, r: Tensor) -> Tensor:
        """Log area of the sphere of radius r > 0."""
        omega = math.log(2) + self.dim / 2 * math.log(math.pi) - math.lgamma(self.dim / 2)
        return omega + torch.special.xlogy(self.dim - 1, r) + self.log_det(r * r)

    def support(self, std: Tensor) -> tuple[Tensor, Tensor]:
        """Distances between which S(r)ⁿ⁻¹ exp(−r²/2 std²) has all its mass but 1e-30: its mode ± 12 widths.

        The log of that density is at least as concave as −r²/2 std². Its mode solves r/std² = (n − 1) S′/S; Newton's
        steps climb to it from a lower bound.
        """
        v, n, k = std.detach().double() ** 2, self.dim - 1, self.curvature
        if n == 0:
            mode = torch.zeros_like(v)
        elif k >= 0:
            mode = (n / (1 / v + 4 * n * k / math.pi**2)).sqrt()
        else:
            mode = torch.maximum(n * v * math.sqrt(-k), (n * v).sqrt())
        for _ in range(12 if n and k else 0):
            y = math.sqrt(abs(k)) * mode
            slope = math.sqrt(abs(k)) / (torch.tan(y) if k > 0 else torch.tanh(y))
            mode = mode - (mode / v - n * slope) / (1 / v + n * (slope**2 + k))
        width = (1 / v + max(n * k, 0.0)).rsqrt()
        return (mode - 12 * width).clamp_min(0), (mode + 12 * width).clamp_max(self.reach)


def radial(space: Manifold) -> Radial | None:
    """The radial view of a space of constant curvature, or None."""
    if isinstance(space, Sphere):
        return Radial(space.dim, 1.0, math.pi)
    if isinstance(space, Euclidean | MeanFree):
        return Radial(space.dim, 0.0, math.inf)
    if isinstance(space, PoincareBall | Hyperboloid):
        return Radial(space.dim, -space.curvature, math.inf)
    if isinstance(space, SpecialOrthogonal) and space.dim <= 3:
        return Radial(space.dim, 0.25, math.pi)  # half of a sphere of radius 2: opposite quaternions are one rotation
    return None


def around(space: Manifold, mean: Tensor, r: Tensor, index: Tensor, generator: Generator | None) -> Tensor:
    """Points at distances r ``(*shape)`` in uniform directions from the members of `mean` ``(m, dim)`` that `index` names."""
    z = torch.randn(*r.shape, space.dim, dtype=mean.dtype, device=mean.device, generator=generator)
    z = z * (r.to(z) / series.norm(z).clamp_min(1e-30))[..., None]
    return space._exp(mean[index], (space._tangent_basis(mean)[index] @ z[..., None])[..., 0])
