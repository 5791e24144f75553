"""Shares that sum to one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.family import ALL, Family
from geoflow.distributions.law import Law
from geoflow.distributions.parameters import positive
from geoflow.registry import register
from manifolds import Simplex
from manifolds.shapes import Points, Values


@register
class Dirichlet(Family):
    """log p(x) = Σ (a_i − 1) log x_i + log Γ(Σ a_i) − Σ log Γ(a_i) − ½ log k, x shares that sum to one, a > 0.

    The density is with respect to the volume of `Simplex(k)`, √k times Lebesgue's in the first k − 1 shares, which the
    textbooks' (and scipy's) refers to: hence the last term. Learned by log a. Draws are quotients of Gamma
    variables, whose distribution functions are inverted: they move smoothly with a. Fitted to data by the maximum of
    the likelihood, found by Newton's method from the moments; a share of exactly zero has no logarithm, and is refused.
    [minka2000]

    Args:
        concentration: a, ``(*batch_shape, k)``, k ≥ 2; ones are uniform.

    >>> Dirichlet([1.0, 1.0, 1.0]).log_prob(torch.tensor([0.2, 0.3, 0.5])).detach()  # -log of the area √3/2
    tensor(0.1438)
    """

    def __init__(self, concentration: Sequence[float] | Tensor) -> None:
        super().__init__()
        a = torch.as_tensor(concentration).detach()
        a = a if a.is_floating_point() else a.to(torch.get_default_dtype())
        if a.ndim == 0 or a.shape[-1] < 2:
            raise ValueError(f"Dirichlet expects `concentration` as (*batch, k) with k >= 2, got {tuple(a.shape)}.")
        self.space = Simplex(a.shape[-1])
        self.log_concentration = nn.Parameter(positive(a, [tuple(a.shape)], a, "Dirichlet", "concentration").log())

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the family's members; ``()`` for one density."""
        return tuple(self.log_concentration.shape[:-1])

    @property
    def concentration(self) -> Tensor:
        """a ``(*batch_shape, k)``."""
        return self.log_concentration.exp()

    @classmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "Dirichlet":
        return cls(x.new_ones(*batch, x.shape[1]))

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        rows, w = x.detach().double(), (weights / weights.sum(0)).double()
        if not bool((rows > 0).all()):
            raise ValueError(
                f"Dirichlet: {int((rows <= 0).any(-1).sum())} of {len(rows)} rows have a share of zero, where every "
                "density but one is zero or infinite: mix in some of the centre first, x = (1 - e) x + e / k."
            )
        mean, square, log_mean = (torch.einsum("n...,nd->...d", w, f) for f in (rows, rows**2, rows.log()))
        spread = (square - mean**2).sum(-1, keepdim=True).clamp_min(1e-12)
        total = ((1 - (mean * mean).sum(-1, keepdim=True)) / spread - 1).clamp_min(1e-2)
        a = _newton(log_mean, total * mean)
        total = a.sum(-1, keepdim=True)
        self.log_concentration.copy_((a * (total.clamp(*bounds) / total)).log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        a = self.log_concentration.double().exp()
        constant = torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1) - 0.5 * math.log(self.dim)
        return torch.xlogy(self.concentration - 1, x).sum(-1) + constant.to(x)

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        # Γ(a) is Γ(a + 1) u^(1/a): in logarithms small concentrations do not underflow before they are compared.
        a, k = self.log_concentration.double().exp().reshape(-1, self.dim), self.dim
        first, second = torch.rand(2, *index.shape, k, generator=generator, dtype=torch.float64, device=a.device)
        y = _log_gamma(a + 1).draw(index[..., None] * k + torch.arange(k, device=a.device), first, attached)
        y = y + (a + 1).log()[index] + torch.log1p(-second) / a[index]
        return torch.softmax(y.to(self.log_concentration), -1)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log Γ(a_i) − log Γ(A) + (A − k) ψ(A) − Σ (a_i − 1) ψ(a_i) + ½ log k, A = Σ a_i."""
        a = self.log_concentration.double().exp()
        total, k = a.sum(-1), self.dim
        value = torch.lgamma(a).sum(-1) - torch.lgamma(total) + (total - k) * torch.digamma(total)
        return (value - ((a - 1) * torch.digamma(a)).sum(-1) + 0.5 * math.log(k)).to(self.log_concentration)

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
    wide = 70 / a + (140 / a).sqrt()
    return Law(lambda y, a: a * (y - torch.expm1(y)), -wide, torch.log1p(wide), a)


def _newton(log_mean: Tensor, a: Tensor) -> Tensor:
    """The a ``(*batch, k)`` with ψ(a_i) − ψ(A) = mean log x_i. The Hessian is diagonal but for one direction, so that a
    step costs k; a step that leaves the positive numbers or the uphill path is halved. One of less than 1e-7 is the last:
    it leaves an error of its square, and whether it gains is lost in rounding.
    """

    def gain(a: Tensor) -> Tensor:
        return torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1) + ((a - 1) * log_mean).sum(-1)

    for _ in range(200):
        total = a.sum(-1, keepdim=True)
        slope = torch.digamma(total) - torch.digamma(a) + log_mean
        diagonal, common = -torch.polygamma(1, a), torch.polygamma(1, total)
        shift = (slope / diagonal).sum(-1, keepdim=True) / (1 / common + (1 / diagonal).sum(-1, keepdim=True))
        step = -(slope - shift) / diagonal
        near = (step.abs() <= 1e-7 * a).all(-1, keepdim=True)
        size, fine = torch.ones_like(total), near
        for _ in range(30):
            trial = a + size * step
            inside = (trial > 0).all(-1, keepdim=True)
            fine = near | (inside & (gain(torch.where(inside, trial, a)) >= gain(a))[..., None])
            if bool(fine.all()):
                break
            size = torch.where(fine, size, size / 2)
        a = torch.where(fine, a + size * step, a)
        if bool((near | ~fine).all()):
            break
    return a
