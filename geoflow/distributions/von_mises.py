"""Independent von Mises densities of angles."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.family import ALL, Centered
from geoflow.distributions.law import Law
from geoflow.distributions.parameters import positive
from geoflow.registry import register
from manifolds import Torus
from manifolds.shapes import Points, Values


@register
class VonMises(Centered):
    """log p(x) = Σ_i κ_i cos(x_i − mean_i) − log 2π I₀(κ_i), on the angles of `Torus(n)`.

    κ (cos d − 1) is computed as −2κ sin²(d/2), and the rest with the scaled Bessel function in float64, so that large κ
    lose no digits. Draws invert the distribution function, without rejection. `mean` is learned as it is, κ by its
    logarithm. [mardia1999]

    Fitted to data, the mean directions are those of the rows, and κ = A⁻¹ of the lengths of their mean, which is the
    maximum of the likelihood; κ between 1e-6 and 1e12.

    Args:
        mean: angles ``(*batch_shape, n)`` in radians.
        concentration: κ > 0, one number or one for each angle; 1/κ is about the variance where it is large.

    >>> VonMises(torch.zeros(1), 4.0).log_prob(torch.zeros(1)).detach()
    tensor(-0.2628)
    """

    def __init__(self, mean: Sequence[float] | Tensor, concentration: float | Sequence[float] | Tensor) -> None:
        mean = torch.as_tensor(mean)
        super().__init__(Torus(max(mean.shape[-1] if mean.ndim else 1, 1)), mean)
        kappa = positive(concentration, [tuple(self.location.shape)], self.location, "VonMises", "concentration")
        self.log_concentration = nn.Parameter(kappa.log())

    @property
    def concentration(self) -> Tensor:
        """κ ``(*batch_shape, n)``."""
        return self.log_concentration.exp()

    @classmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "VonMises":
        return cls(x.new_zeros(*batch, x.shape[1]), 1.0)

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        rows, w = x.detach().double(), (weights / weights.sum(0)).double()
        sin, cos = (torch.einsum("n...,nd->...d", w, f) for f in (rows.sin(), rows.cos()))
        mean = torch.atan2(sin, cos)
        # one minus the mean length, without cancellation where the rows are close together
        apart = 2 * torch.sin((rows.reshape(len(rows), *[1] * len(self.batch_shape), -1) - mean) / 2) ** 2
        short = torch.einsum("n...,n...d->...d", w, apart)
        self.location.copy_(mean)
        self.log_concentration.copy_(_inverse(short.clamp(5e-13, 1 - 5e-7)).exp().clamp(*bounds).log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_i0e = torch.special.i0e(self.log_concentration.double().exp()).log()
        constant = (log_i0e + math.log(2 * math.pi)).sum(-1).to(x)
        return (-2 * self.concentration * torch.sin((x - self.location) / 2) ** 2).sum(-1) - constant

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        kappa, n = self.log_concentration.double().exp(), self.space.dim
        wide = (math.pi * (20 / kappa).sqrt()).clamp_max(math.pi)  # beyond it less than exp(-40) is left
        law = Law(lambda t, k: -2 * k * torch.sin(t / 2) ** 2, -wide, wide, kappa)
        u = torch.rand(*index.shape, n, generator=generator, dtype=torch.float64, device=kappa.device)
        t = law.draw(index[..., None] * n + torch.arange(n, device=kappa.device), u, attached)
        return self.space._exp(self.location.reshape(-1, n)[index], t.to(self.location))

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log 2π I₀(κ_i) − κ_i A(κ_i), A = I₁/I₀."""
        kappa = self.log_concentration.double().exp()
        i0e, i1e = torch.special.i0e(kappa), torch.special.i1e(kappa)
        return (math.log(2 * math.pi) + i0e.log() + kappa * (i0e - i1e) / i0e).sum(-1).to(self.log_concentration)

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
