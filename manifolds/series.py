"""Functions of s = r² that stay smooth through r = 0, where their usual forms in r lose digits or derivatives.

Below a small s the Taylor series is taken. The argument of the other branch is masked as well as its value:
``where(mask, bad, good)`` alone still back-propagates the bad branch's NaN.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from manifolds.checks import tracing


def _small(s: Tensor) -> Tensor:
    return s < (1e-4 if s.dtype == torch.float64 else 1e-2)


def _polynomial(s: Tensor, *coefficients: float) -> Tensor:
    value = torch.full_like(s, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * s + c
    return value


def cos_sqrt(s: Tensor) -> Tensor:
    """cos √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320), r.cos())


def sinc_sqrt(s: Tensor) -> Tensor:
    """sin √s / √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880), r.sin() / r)


def angle_over_sin(sin2: Tensor, cos: Tensor) -> Tensor:
    """θ / sin θ from sin² θ and cos θ, θ in [0, π); infinite at θ = π."""
    small = (cos > 0) & (sin2 < (1e-5 if sin2.dtype == torch.float64 else 1e-3))
    sin = torch.where(small, torch.ones_like(sin2), sin2).sqrt()
    series = _polynomial(sin2, 1, 1 / 6, 3 / 40, 5 / 112, 35 / 1152)
    return torch.where(small, series, torch.atan2(sin, torch.where(small, torch.zeros_like(cos), cos)) / sin)


def dot(u: Tensor, v: Tensor) -> Tensor:
    """⟨u, v⟩ over the last axis. As a product with ones: torch's sum over a short axis takes several times as long."""
    product = u * v
    return product @ torch.ones(product.shape[-1], dtype=product.dtype, device=product.device)


def norm(x: Tensor) -> Tensor:
    """Euclidean length over the last axis, with gradient zero (not NaN) at the zero vector.

    Where nobody differentiates, torch's own norm is half again as fast; its second derivatives at zero are NaN.
    """
    if x.requires_grad or tracing(x) or forward_ad._current_level >= 0:
        return sqrt(dot(x, x))
    return torch.linalg.vector_norm(x, dim=-1)


def sqrt(s: Tensor) -> Tensor:
    """√s, with derivative zero (not infinite) at s = 0."""
    zero = s == 0
    return s.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def cosh_sqrt(s: Tensor) -> Tensor:
    """cosh √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, 1 / 2, 1 / 24, 1 / 720, 1 / 40320), r.cosh())


def sinhc_sqrt(s: Tensor) -> Tensor:
    """sinh √s / √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, 1 / 6, 1 / 120, 1 / 5040, 1 / 362880), r.sinh() / r)


def tanhc_sqrt(s: Tensor) -> Tensor:
    """tanh √s / √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, -1 / 3, 2 / 15, -17 / 315, 62 / 2835), r.tanh() / r)


def asinhc_sqrt(s: Tensor) -> Tensor:
    """asinh √s / √s."""
    small = _small(s)
    r = torch.where(small, torch.ones_like(s), s).sqrt()
    return torch.where(small, _polynomial(s, 1, -1 / 6, 3 / 40, -5 / 112, 35 / 1152), r.asinh() / r)
