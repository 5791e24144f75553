"""Power spherical densities: like von Mises-Fisher's, with elementary formulas for everything."""

import math

import torch
from torch import Generator, Tensor

from geoflow.distributions.zonal import Zonal, around_peak
from geoflow.registry import register
from manifolds.shapes import Points, Values


@register
class PowerSpherical(Zonal):
    """p(x) ∝ (1 + ⟨μ, x⟩)^κ on Sⁿ, which falls to zero at −μ.

    (1 + ⟨μ, x⟩)/2 is Beta(a, b) distributed with a = n/2 + κ, b = n/2, and
    log p = κ log((1 + ⟨μ, x⟩)/2) − n log 2 − (n/2) log π + log Γ(a + b) − log Γ(a). Cost: O(n) a point.
    Draws: in closed form on S², else by a table of the angle's distribution, which, unlike rejection from gamma
    variates, moves with κ as the inverse of the distribution function does. Fits are by moments. [decao2020]

    Args:
        mean_direction: μ, ``(*batch_shape, n + 1)``: any vector but zero, which is normalised.
        concentration: κ, a number or ``(*batch_shape,)``, finite and not negative.

    >>> up = torch.tensor([0.0, 0.0, 1.0])
    >>> PowerSpherical(up, 10.0).log_prob(torch.stack([up, -up])).detach()
    tensor([-0.1331,    -inf])
    """

    def mean_length(self) -> Tensor:
        """κ/(n + κ), ``(*batch_shape,)``."""
        return self.concentration / (self.space.dim + self.concentration)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """−log p(μ) − κ (ψ(a) − ψ(a + b)), ``(*batch_shape,)``."""
        kappa, n = self.concentration.double(), self.space.dim
        mean = torch.special.digamma(n / 2 + kappa) - torch.special.digamma(n + kappa)
        return -(self._log_peak(kappa) + kappa * mean).to(self.direction.dtype)

    def _log_peak(self, kappa: Tensor) -> Tensor:
        """log p(μ) in float64."""
        kappa, n = kappa.double(), self.space.dim
        return torch.lgamma(n + kappa) - torch.lgamma(n / 2 + kappa) - n * math.log(2) - n / 2 * math.log(math.pi)

    def _log_profile(self, x: Points, mu: Points, kappa: Tensor) -> Values:
        near, far = ((x - mu) ** 2).sum(-1), ((x + mu) ** 2).sum(-1)
        opposite = far == 0
        at_mu = torch.log1p(-torch.where(near < 2, near, torch.zeros_like(near)) / 4)
        away = torch.log(torch.where(opposite, torch.full_like(far, 4), far) / 4)
        value = torch.where(near < 2, at_mu, torch.where(opposite, torch.full_like(far, -math.inf), away))
        return self._log_peak(kappa).to(x.dtype) + kappa * value

    def _angles(
        self, kappa: Tensor, index: Tensor, generator: Generator | None, attached: bool
    ) -> tuple[Tensor, Tensor]:
        n, u = self.space.dim, torch.rand(index.shape, generator=generator, dtype=kappa.dtype, device=kappa.device)
        if n == 2:
            gap = -2 * torch.expm1(torch.log1p(-u) / (1 + kappa[index]))
            return 1 - gap, (gap * (2 - gap)).clamp_min(1e-300).sqrt()
        law = around_peak(
            lambda t, k: torch.special.xlogy(n - 1, t.sin()) + 2 * k * (t / 2).cos().log(),
            2 * torch.atan(torch.sqrt((n - 1) / (n - 1 + 2 * kappa))),
            n - 1 + kappa,
            kappa,
        )
        theta = law.draw(index, u, attached)
        return theta.cos(), theta.sin()

    def _concentration_of(self, length: Tensor) -> Tensor:
        return self.space.dim * length / (1 - length)
