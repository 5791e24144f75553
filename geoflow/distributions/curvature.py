"""Densities of the distance from a point, where the space looks alike in all directions: areas, integrals, draws.

On a space of constant curvature κ the sphere of radius r around any point has area ω S(r)ⁿ⁻¹, ω the area of the unit
sphere of ℝⁿ and S(r) = sin(√κ r)/√κ, r, or sinh(√−κ r)/√−κ. All integrals are over r alone, by Gauss and Legendre's
rule in float64. A log density is a function of r ``(*parameters, m)``, its parameters standing before the last axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from manifolds import Euclidean, Hyperboloid, Manifold, MeanFree, PoincareBall, SpecialOrthogonal, Sphere, series

Function = Callable[[Tensor], Tensor]
Law = tuple[Function, Tensor, Tensor]
"""A log density of distances or angles, without its constant, and the ends of an interval that holds its mass."""


def _gauss(n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)


COARSE, MIDDLE, FINE = _gauss(6), _gauss(64), _gauss(200)
CELLS = 512
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


# -- integrals and draws -----------------------------------------------------------------------------------------------


def _spread(low: Tensor, high: Tensor, rule: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Nodes and log weights of a rule on [low, high], on a new last axis."""
    nodes, weights = (t.to(low) for t in rule)
    length = (high - low)[..., None]
    return low[..., None] + length * nodes, length.log() + weights.log()


def log_integral(f: Function, low: Tensor, high: Tensor) -> Tensor:
    """log ∫ exp f, over [low, high] each ``(*parameters)``."""
    r, log_weight = _spread(low, high, FINE)
    return torch.logsumexp(f(r) + log_weight, -1)


def mean_of(g: Function, f: Function, low: Tensor, high: Tensor) -> Tensor:
    """The mean of g under the density proportional to exp f."""
    r, log_weight = _spread(low, high, FINE)
    return (torch.softmax(f(r) + log_weight, -1) * g(r)).sum(-1)


def _part(f: Function, low: Tensor, high: Tensor, rule: tuple[Tensor, Tensor], shift: Tensor) -> Tensor:
    """∫ exp(f − shift) over many intervals [low, high] ``(*parameters, m)``."""
    r, log_weight = _spread(low, high, rule)
    values = f(r.flatten(-2)).unflatten(-1, r.shape[-2:])
    return (values + log_weight - shift[..., None, None]).exp().sum(-1)


@torch.no_grad()
def invert(f: Function, low: Tensor, high: Tensor, u: Tensor) -> Tensor:
    """Where the distribution function of exp f / ∫ exp f reaches u ``(*parameters, m)``, in float64.

    A table of 512 cells is searched, and the rest solved inside the cell by four guarded steps of Newton, all points
    at once.
    """
    low, high, u = low.double(), high.double(), u.double().contiguous()
    edges = low[..., None] + (high - low)[..., None] * torch.linspace(0, 1, CELLS + 1, dtype=u.dtype, device=u.device)
    shift = f(_spread(low, high, FINE)[0]).amax(-1)
    below = _part(f, edges[..., :-1], edges[..., 1:], COARSE, shift).cumsum(-1)
    wanted = u * below[..., -1:]
    cell = torch.searchsorted(below.contiguous(), wanted).clamp_max(CELLS - 1)
    a, b = edges.gather(-1, cell), edges.gather(-1, cell + 1)
    before = torch.where(cell == 0, 0.0, below.gather(-1, (cell - 1).clamp_min(0)))
    share = (wanted - before) / (below.gather(-1, cell) - before).clamp_min(1e-300)
    # Mass up to r in the first cell goes as a power of r − a, which the density at its end tells.
    power = (b - a) * (f(b) - shift[..., None]).exp() / (below.gather(-1, cell) - before).clamp_min(1e-300)
    share = share.clamp(0, 1) ** torch.where(cell == 0, 1 / power.clamp_min(1), 1.0)
    left, right, r = a, b, a + (b - a) * share
    for _ in range(4):
        excess = _part(f, a, r, COARSE, shift) - (wanted - before)
        left, right = torch.where(excess < 0, r, left), torch.where(excess < 0, right, r)
        step = r - excess / (f(r) - shift[..., None]).exp()
        r = torch.where((step >= left) & (step <= right), step, (left + right) / 2)
    return r


def attach(f: Function, low: Tensor, high: Tensor, r: Tensor) -> Tensor:
    """Draws r ``(*parameters, m)`` with the derivative in the parameters that holds their u fixed: −∂F(r)/p(r).

    The value is that of r. [figurnov2018]
    """
    r, shift = r.detach(), f(_spread(low, high, FINE)[0]).detach().amax(-1)
    total = _part(f, low[..., None], high[..., None], FINE, shift)
    share = _part(f, low.detach()[..., None].expand_as(r), r, MIDDLE, shift) / total
    p = (f(r) - shift[..., None]).exp() / total
    return r - (share - share.detach()) / p.detach().clamp_min(1e-300)


def around(space: Manifold, mean: Tensor, r: Tensor, generator: Generator | None) -> Tensor:
    """Points at distances r ``(*batch)`` from `mean` in uniform directions."""
    z = torch.randn(*r.shape, space.dim, dtype=mean.dtype, device=mean.device, generator=generator)
    z = z * (r.to(z) / series.norm(z).clamp_min(1e-30))[..., None]
    return space._exp(mean, (space._tangent_basis(mean) @ z[..., None])[..., 0])
