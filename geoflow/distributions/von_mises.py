"""Independent von Mises densities of angles."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.curvature import Law, attach, invert
from geoflow.distributions.parameters import point, positive, rows_on
from geoflow.registry import register
from manifolds import Torus
from manifolds.shapes import Points, Values


@register
class VonMises(Density):
    """log p(x) = Σ_i κ_i cos(x_i − mean_i) − log 2π I₀(κ_i), on the angles of `Torus(n)`.

    κ (cos d − 1) is computed as −2κ sin²(d/2), and the rest with the scaled Bessel function in float64, so that large κ
    lose no digits. Draws invert the distribution function, without rejection. `mean` is learned as it is, κ by its
    logarithm. [mardia1999]

    Args:
        mean: angles ``(n,)`` in radians.
        concentration: κ > 0, one number or ``(n,)``; 1/κ is about the variance where it is large.

    >>> VonMises(torch.zeros(1), 4.0).log_prob(torch.zeros(1)).detach()
    tensor(-0.2628)
    """

    def __init__(self, mean: Sequence[float] | Tensor, concentration: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        mean = torch.as_tensor(mean)
        size = mean.numel()
        self.space = Torus(max(size, 1))
        self.location = nn.Parameter(point(self.space, mean, "VonMises"))
        kappa = positive(concentration, (0, size), self.location, "VonMises", "concentration")
        self.log_concentration = nn.Parameter(kappa.expand(size).log())

    @property
    def mean(self) -> Tensor:
        """The most likely angles, in [−π, π]."""
        return self.space._project(self.location)

    @property
    def concentration(self) -> Tensor:
        """κ ``(n,)``."""
        return self.log_concentration.exp()

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "VonMises":
        """The maximum of the likelihood of rows ``(n, angles)``: mean directions, and κ = A⁻¹ of the mean lengths."""
        x = validate.table(x, "VonMises.from_data", minimum=2)
        size = x.shape[1]
        x = rows_on(Torus(size), x, "VonMises.from_data")
        fitted = cls(x.new_zeros(size), 1.0)
        fitted.prepare(x)
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit, κ between 1e-6 and 1e12."""
        rows = x.detach().double()
        mean = torch.atan2(rows.sin().mean(0), rows.cos().mean(0))
        short = 2 * torch.sin((rows - mean) / 2).square().mean(0)  # one minus the mean length
        self.location.copy_(mean)
        self.log_concentration.copy_(_inverse(short.clamp(5e-13, 1 - 5e-7)))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_i0e = torch.special.i0e(self.log_concentration.double().exp()).log()
        constant = (log_i0e + math.log(2 * math.pi)).sum().to(x)
        return (-2 * self.concentration * torch.sin((x - self.location) / 2) ** 2).sum(-1) - constant

    def _law(self) -> Law:
        kappa = self.log_concentration.double().exp()
        wide = (math.pi * (20 / kappa.detach()).sqrt()).clamp_max(math.pi)  # beyond it less than exp(-40) is left
        return lambda t: -2 * kappa[..., None] * torch.sin(t / 2) ** 2, -wide, wide

    def _draw(self, shape: tuple[int, ...], generator: Generator | None, attached: bool) -> Tensor:
        law = self._law()
        size, count = self.space.dim, math.prod(shape)
        u = torch.rand(size, count, generator=generator, dtype=torch.float64, device=self.location.device)
        t = invert(*law, u)
        t = (attach(*law, t) if attached else t).mT.reshape(*shape, size)
        return self.space._exp(self.location, t.to(self.location))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=False)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=True)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log 2π I₀(κ_i) − κ_i A(κ_i), A = I₁/I₀."""
        kappa = self.log_concentration.double().exp()
        i0e, i1e = torch.special.i0e(kappa), torch.special.i1e(kappa)
        return (math.log(2 * math.pi) + i0e.log() + kappa * (i0e - i1e) / i0e).sum().to(self.log_concentration)

    def tempered(self, temperature: float) -> Density:
        """κ divided by T."""
        return VonMises(self.mean.detach(), self.concentration.detach() / temperature)


def _inverse(short: Tensor) -> Tensor:
    """log κ with 1 − A(κ) = short: by Newton's steps on log κ, and where they would cancel from 1 − A = 1/2κ + 1/8κ² + …"""
    length = 1 - short
    log_kappa = (length * (2 - length**2) / (short * (1 + length))).log()
    for _ in range(8):
        kappa = log_kappa.exp()
        found = torch.special.i1e(kappa) / torch.special.i0e(kappa)
        slope = kappa * (1 - found * found) - found
        log_kappa = log_kappa + ((length - found) / slope.clamp_min(1e-300)).clamp(-1, 1)
    e = 2 * short
    for _ in range(4):
        e = 2 * short - e * e / 4 - e**3 / 4
    return torch.where(short < 1e-4, -e.log(), log_kappa)
