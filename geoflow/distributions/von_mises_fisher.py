"""Von Mises-Fisher densities on spheres; von Mises on the circle."""

import torch
from torch import Generator, Tensor

from geoflow.distributions.bessel import normaliser
from geoflow.distributions.zonal import Zonal, around_peak
from geoflow.registry import register
from manifolds.shapes import Points, Values


@register
class VonMisesFisher(Zonal):
    """p(x) ∝ e^{κ⟨μ, x⟩} on Sⁿ, the normal density of directions; on the circle von Mises'.

    log p = −log area(Sⁿ) − (g(κ) − κ) − κ|x − μ|²/2, with g of `bessel.normaliser`: in this form nothing of size κ is
    subtracted, and float32 keeps its digits at κ = 10⁴. Cost: O(n) a point, and a hundred operations on κ.
    Draws: in closed form on S², else by a table of the angle's distribution. Fits solve A(κ) = |mean of x| by Newton's
    method. [banerjee2005, sra2012]

    Args:
        mean_direction: μ, ``(*batch_shape, n + 1)``: any vector but zero, which is normalised.
        concentration: κ, a number or ``(*batch_shape,)``, finite and not negative.

    >>> up = torch.tensor([0.0, 0.0, 1.0])
    >>> VonMisesFisher(up, 10.0).log_prob(up).detach()
    tensor(0.4647)
    """

    def mean_length(self) -> Tensor:
        """A(κ) = I_{ν+1}(κ)/I_ν(κ), ν = (n − 1)/2, ``(*batch_shape,)``."""
        return normaliser(self.concentration, self.space.dim)[1].to(self.direction.dtype)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log area + (g(κ) − κ) + κ (1 − A(κ)), ``(*batch_shape,)``."""
        kappa = self.concentration.double()
        g, length = normaliser(kappa, self.space.dim)
        return (self.space.log_volume_total + g + kappa * (1 - length)).to(self.direction.dtype)

    def _log_profile(self, x: Points, mu: Points, kappa: Tensor) -> Values:
        constant = normaliser(kappa, self.space.dim)[0] + self.space.log_volume_total
        return -constant.to(x.dtype) - kappa * ((x - mu) ** 2).sum(-1) / 2

    def _angles(
        self, kappa: Tensor, index: Tensor, generator: Generator | None, attached: bool
    ) -> tuple[Tensor, Tensor]:
        n, u = self.space.dim, torch.rand(index.shape, generator=generator, dtype=kappa.dtype, device=kappa.device)
        if n == 2:
            gap = -torch.log1p(u * torch.expm1(-2 * kappa[index])) / kappa[index]
            return 1 - gap, (gap * (2 - gap)).clamp_min(1e-300).sqrt()
        root = torch.sqrt((n - 1) ** 2 + 4 * kappa**2)
        cos = 2 * kappa / (n - 1 + root)
        law = around_peak(
            lambda t, k: torch.special.xlogy(n - 1, t.sin()) - 2 * k * (t / 2).sin() ** 2,
            torch.acos(cos.clamp_max(1)),
            (n - 1 + root) / 2 + kappa * cos,
            kappa,
        )
        theta = law.draw(index, u, attached)
        return theta.cos(), theta.sin()

    def _concentration_of(self, length: Tensor) -> Tensor:
        n = self.space.dim
        kappa = length * (n + 1 - length**2) / (1 - length**2)
        for _ in range(5):
            a = normaliser(kappa, n)[1]
            slope = kappa * (1 - a * a) - n * a
            kappa = kappa * torch.exp(((length - a) / slope).clamp(-1, 1))
        return kappa
