"""Shares that sum to one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.curvature import Law, attach, invert
from geoflow.distributions.parameters import positive, rows_on
from geoflow.registry import register
from manifolds import Simplex
from manifolds.shapes import Points, Values


@register
class Dirichlet(Density):
    """log p(x) = Σ (a_i − 1) log x_i + log Γ(Σ a_i) − Σ log Γ(a_i) − ½ log k, x shares that sum to one, a > 0.

    The density is with respect to the volume of `Simplex(k)`, √k times Lebesgue's in the first k − 1 shares, which the
    textbooks' (and scipy's) refers to: hence the last term. Learned by log a. Draws are quotients of Gamma
    variables, whose distribution functions are inverted: they move smoothly with a. [minka2000]

    Args:
        concentration: a, ``(k,)``, k ≥ 2; ones are uniform.

    >>> Dirichlet([1.0, 1.0, 1.0]).log_prob(torch.tensor([0.2, 0.3, 0.5])).detach()  # -log of the area √3/2
    tensor(0.1438)
    """

    def __init__(self, concentration: Sequence[float] | Tensor) -> None:
        super().__init__()
        a = torch.as_tensor(concentration).detach()
        a = a if a.is_floating_point() else a.to(torch.get_default_dtype())
        if a.ndim != 1 or len(a) < 2:
            raise ValueError(f"Dirichlet expects `concentration` as a vector (k,) with k >= 2, got {tuple(a.shape)}.")
        self.space = Simplex(len(a))
        self.log_concentration = nn.Parameter(positive(a, (len(a),), a, "Dirichlet", "concentration").log())

    @property
    def concentration(self) -> Tensor:
        """a ``(k,)``."""
        return self.log_concentration.exp()

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "Dirichlet":
        """The maximum of the likelihood of rows ``(n, k)``, by Newton's method from the moments.

        A share of exactly zero has no logarithm, and is refused.
        """
        x = validate.table(x, "Dirichlet.from_data", minimum=2)
        x = rows_on(Simplex(x.shape[1]), x, "Dirichlet.from_data")
        fitted = cls(torch.ones(x.shape[1])).to(x)
        fitted.prepare(x)
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit."""
        rows = x.detach().double()
        if not bool((rows > 0).all()):
            raise ValueError(
                f"Dirichlet: {int((rows <= 0).any(-1).sum())} of {len(rows)} rows have a share of zero, where every "
                "density but one is zero or infinite: mix in some of the centre first, x = (1 - e) x + e / k."
            )
        mean, spread = rows.mean(0), rows.var(0, correction=0).sum().clamp_min(1e-12)
        total = ((1 - (mean * mean).sum()) / spread - 1).clamp_min(1e-2)
        self.log_concentration.copy_(_newton(rows.log().mean(0), total * mean).log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        a = self.log_concentration.double().exp()
        constant = torch.lgamma(a.sum()) - torch.lgamma(a).sum() - 0.5 * math.log(len(a))
        return torch.xlogy(self.concentration - 1, x).sum(-1) + constant.to(x)

    def _draw(self, shape: tuple[int, ...], generator: Generator | None, attached: bool) -> Tensor:
        # Γ(a) is Γ(a + 1) u^(1/a): in logarithms small concentrations do not underflow before they are compared.
        a, like = self.log_concentration.double().exp(), self.log_concentration
        size, device = (2, self.dim, math.prod(shape)), like.device
        first, second = torch.rand(size, generator=generator, dtype=torch.float64, device=device)
        law = _log_gamma(a + 1)
        y = invert(*law, first)
        y = (attach(*law, y) if attached else y) + (a + 1).log()[:, None] + torch.log1p(-second) / a[:, None]
        return torch.softmax(y.mT.reshape(*shape, self.dim).to(like), -1)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=False)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=True)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log Γ(a_i) − log Γ(A) + (A − k) ψ(A) − Σ (a_i − 1) ψ(a_i) + ½ log k, A = Σ a_i."""
        a = self.log_concentration.double().exp()
        total, k = a.sum(), len(a)
        value = torch.lgamma(a).sum() - torch.lgamma(total) + (total - k) * torch.digamma(total)
        return (value - ((a - 1) * torch.digamma(a)).sum() + 0.5 * math.log(k)).to(self.log_concentration)

    def tempered(self, temperature: float) -> Density:
        """a → 1 + (a − 1)/T, where that is positive."""
        a = 1 + (self.concentration.detach() - 1) / temperature
        if not bool((a > 0).all()):
            raise ValueError(
                f"Dirichlet: at temperature {temperature} p^(1/T) has no mass one, with concentrations {a.tolist()}: "
                f"raise the temperature above {float((1 - self.concentration.detach()).max()):.3g}."
            )
        return Dirichlet(a)


def _log_gamma(a: Tensor) -> Law:
    """The law of log(g/a), g a Gamma variable with a ≥ 1, on an interval with all its mass but 1e-30."""
    wide = 70 / a.detach() + (140 / a.detach()).sqrt()
    return lambda y: a[..., None] * (y - torch.expm1(y)), -wide, torch.log1p(wide)


def _newton(log_mean: Tensor, a: Tensor) -> Tensor:
    """The a with ψ(a_i) − ψ(A) = mean log x_i. The Hessian is diagonal but for one direction, so that a step costs k;
    a step that leaves the positive numbers or the uphill path is halved.
    """

    def gain(a: Tensor) -> Tensor:
        return torch.lgamma(a.sum()) - torch.lgamma(a).sum() + ((a - 1) * log_mean).sum()

    for _ in range(200):
        slope = torch.digamma(a.sum()) - torch.digamma(a) + log_mean
        diagonal, common = -torch.polygamma(1, a), torch.polygamma(1, a.sum())
        shift = (slope / diagonal).sum() / (1 / common + (1 / diagonal).sum())
        step = -(slope - shift) / diagonal
        size = 1.0
        while size > 1e-9 and not (bool((a + size * step > 0).all()) and bool(gain(a + size * step) >= gain(a))):
            size /= 2
        a = torch.where((a + size * step > 0).all(), a + size * step, a)
        if bool((step.abs() <= 1e-12 * a).all()) or size <= 1e-9:
            break
    return a
