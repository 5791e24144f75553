"""Where Brownian motion on the rotations of space is after some time."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context
from geoflow.distributions.curvature import around, radial
from geoflow.distributions.family import ALL, Centered
from geoflow.distributions.law import Law
from geoflow.distributions.normals import LOG_2PI
from geoflow.distributions.parameters import FLOOR, positive
from geoflow.registry import register
from manifolds import SpecialOrthogonal, series
from manifolds.shapes import Points, Values

SO3 = SpecialOrthogonal(3)
DEGREES = 9
"""Terms of the series; of its dual two are summed either way. The next ones are below 1e-16 at sigma = 1."""


@register
class IsotropicGaussianSO3(Centered):
    """The heat kernel on SO(3) at time sigma²: log p(R) = log f(θ) − log 8π², θ the angle of meanᵀR.

    f(θ) = Σ_l (2l + 1) exp(−l(l + 1) sigma²/2) sin((l + ½)θ)/sin(θ/2), ten terms for sigma ≥ 1, and below by its
    Poisson dual, five terms: √(2π) e^(sigma²/8)/(sigma³ sin(θ/2)) Σ_k (−1)ᵏ (θ − 2πk) exp(−(θ − 2πk)²/2 sigma²).
    For small sigma it is normal with variance sigma² in every tangent direction. Like all densities here it is with
    respect to the volume of `SpecialOrthogonal(3)`, 8π². [nikolayev1997]

    `mean` and `sigma` are learned: the first as a matrix that is projected onto SO(3), the second by its logarithm.
    They are fitted by the average of the rows: E R = exp(−sigma²) mean; sigma at most 5, where it is uniform to ten
    digits.

    Args:
        mean: a rotation matrix, flat, ``(9,)``, or a batch of them.
        sigma: a positive number, or one for each of the batch.

    >>> IsotropicGaussianSO3(torch.eye(3).flatten(), 10.0).log_prob(torch.eye(3).flatten()).detach()  # -log 8π²
    tensor(-4.3689)
    """

    def __init__(self, mean: Tensor, sigma: float | Sequence[float] | Tensor) -> None:
        super().__init__(SO3, mean)
        sigma = positive(sigma, [self.batch_shape], self.location, "IsotropicGaussianSO3", "sigma")
        self.log_sigma = nn.Parameter(sigma.log())

    @property
    def sigma(self) -> Tensor:
        """The square root of the motion's time, ``(*batch_shape)``."""
        return self.log_sigma.exp()

    @classmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "IsotropicGaussianSO3":
        return cls(torch.eye(3, dtype=x.dtype, device=x.device).flatten().expand(*batch, -1), 1.0)

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        average = torch.einsum("n...,nd->...d", (weights / weights.sum(0)).double(), x.detach().double())
        mean = SO3._project(average)
        length = ((mean * average).sum(-1) / 3).clamp(math.exp(-25.0), math.exp(-(FLOOR**2)))
        self.location.copy_(mean)
        self.log_sigma.copy_(-0.5 * (-1 / length.log()).clamp(*bounds).log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        kernel = _log_kernel(SO3._squared_dist(self.mean, x).double(), self.log_sigma.double())
        return (kernel - math.log(8 * math.pi**2)).to(x)

    def _law(self, log_sigma: Tensor) -> Law:
        """Of the angle."""
        known = radial(SO3)
        assert known is not None
        log_area = known.log_area
        high = (13 * log_sigma.exp()).clamp_max(math.pi)
        return Law(lambda r, log_sigma: _log_kernel(r * r, log_sigma) + log_area(r), 0 * high, high, log_sigma)

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        u = torch.rand(index.shape, generator=generator, dtype=torch.float64, device=index.device)
        r = self._law(self.log_sigma.double()).draw(index, u, attached)
        return around(SO3, self.mean.reshape(-1, self.dim), r, index, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log 8π² − E log f, by quadrature over the angle."""
        log_sigma = self.log_sigma.double()
        log_f = self._law(log_sigma).mean(lambda r: _log_kernel(r * r, log_sigma[..., None]))
        return (math.log(8 * math.pi**2) - log_f).to(self.log_sigma)


def _log_kernel(s: Tensor, log_sigma: Tensor) -> Tensor:
    """log f at squared angles s. Both series are summed, each where it converges, so that no branch is on a value."""
    narrow = log_sigma < 0
    dual = _dual(s, torch.where(narrow, log_sigma, torch.zeros_like(log_sigma)))
    return torch.where(narrow, dual, _series(s, torch.where(narrow, torch.zeros_like(log_sigma), log_sigma)))


def _series(s: Tensor, log_sigma: Tensor) -> Tensor:
    """For sigma ≥ 1, through sin((l + ½)θ)/sin(θ/2) = 1 + 2 Σ_{m ≤ l} cos mθ, which is smooth in s."""
    degree = torch.arange(DEGREES + 1, dtype=s.dtype, device=s.device)
    weight = (2 * degree + 1) * torch.exp(-0.5 * degree * (degree + 1) * torch.exp(2 * log_sigma[..., None]))
    above = weight.flip(-1).cumsum(-1).flip(-1).unbind(-1)
    cos = series.cos_sqrt(s)
    later, last = torch.zeros_like(cos), torch.zeros_like(cos)
    for m in range(DEGREES, 0, -1):  # Clenshaw's sum of 2 above_m cos mθ
        later, last = 2 * above[m] + 2 * cos * later - last, later
    return torch.log(above[0] + cos * later - last)


def _dual(s: Tensor, log_sigma: Tensor) -> Tensor:
    """For sigma ≤ 1, the terms of k and −k together and relative to the first, none of which overflows."""
    v, theta = torch.exp(2 * log_sigma), series.sqrt(s)
    ratio = torch.ones_like(s)
    for k in (1, 2):
        near = torch.exp(-2 * math.pi * k * (math.pi * k - theta) / v)
        z = 4 * math.pi * k * theta / v
        less = torch.exp(-z)
        difference = near * _one_minus_exp_over(z) * 4 * math.pi * k / v  # (near − far)/θ
        ratio = ratio + (-1) ** k * (near + near * less - 2 * math.pi * k * difference)
    front = 0.5 * LOG_2PI + v / 8 - 3 * log_sigma + math.log(2) - series.sinc_sqrt(s / 4).log()
    return front - 0.5 * s / v + ratio.log()


def _one_minus_exp_over(z: Tensor) -> Tensor:
    """(1 − exp(−z))/z for z ≥ 0."""
    small = z < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 1 - z / 2 + z * z / 6 - z**3 / 24, -torch.expm1(-safe) / safe)
