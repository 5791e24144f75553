"""What densities on spheres share that depend on the angle from one direction alone."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.family import ALL, Family
from geoflow.distributions.law import Function, Law
from manifolds import Sphere
from manifolds.shapes import Points, Values

SMALLEST = 2e-38
"""Concentration that stands for zero, so that softplus has an inverse in float32; the density is the same to rounding."""


def inverse_softplus(y: Tensor) -> Tensor:
    """x with log(1 + eˣ) = y > 0."""
    return y + torch.log(-torch.expm1(-y))


def around_peak(f: Function, mode: Tensor, curvature: Tensor, kappa: Tensor) -> Law:
    """The law of an angle in [0, π] with log density f(θ, κ), on 27 standard deviations to either side of its mode.

    Args:
        f: elementwise.
        mode: the most likely angle of each κ.
        curvature: −d² f/dθ² there, or up to twice that.
        kappa: the parameter, float64.
    """
    reach = 27 / curvature.sqrt()
    return Law(f, (mode - reach).clamp_min(0), (mode + reach).clamp_max(math.pi), kappa)


class Zonal(Family):
    """A density on Sⁿ around a unit vector μ, the more concentrated the larger κ ≥ 0; uniform at κ = 0.

    The parameters inside are unconstrained: a vector along μ, and the number whose softplus is κ. Fitted to data, μ is
    the direction of the rows' mean, and κ has its length as mean length.

    Args:
        mean_direction: μ, ``(*batch_shape, n + 1)``: any vector but zero, which is normalised.
        concentration: κ, a number or ``(*batch_shape,)``, finite and not negative.
    """

    space: Sphere

    def __init__(self, mean_direction: Any, concentration: Any) -> None:
        super().__init__()
        who = type(self).__name__
        mu = torch.as_tensor(mean_direction).detach()
        mu = mu if mu.is_floating_point() else mu.to(torch.get_default_dtype())
        if mu.ndim == 0 or mu.shape[-1] < 2:
            raise ValueError(
                f"{who} expects a mean direction (*batch, n + 1) with n at least 1, got shape {tuple(mu.shape)}."
            )
        if not bool((mu.isfinite().all(-1) & (mu.abs().amax(-1) > 0)).all()):
            raise ValueError(f"{who} expects a finite mean direction other than zero, got {mu.tolist()}.")
        kappa = torch.as_tensor(concentration, dtype=mu.dtype, device=mu.device).detach()
        if not bool((kappa.isfinite() & (kappa >= 0)).all()):
            raise ValueError(f"{who} expects a finite concentration of at least zero, got {kappa.tolist()}.")
        batch = torch.broadcast_shapes(mu.shape[:-1], kappa.shape)
        self.space = Sphere(mu.shape[-1] - 1)
        mu = self.space._project(mu / mu.abs().amax(-1, keepdim=True)).expand((*batch, mu.shape[-1]))
        self.direction = nn.Parameter(mu.contiguous())
        self.raw_concentration = nn.Parameter(inverse_softplus(kappa.clamp_min(SMALLEST)).expand(batch).contiguous())

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the family's members; ``()`` for one density."""
        return tuple(self.raw_concentration.shape)

    @property
    def mean_direction(self) -> Tensor:
        """μ ``(*batch_shape, n + 1)``, of length one."""
        return self.space._project(self.direction)

    @property
    def concentration(self) -> Tensor:
        """κ ``(*batch_shape,)``."""
        return nn.functional.softplus(self.raw_concentration, threshold=40)

    @abstractmethod
    def mean_length(self) -> Tensor:
        """E⟨μ, x⟩ ``(*batch_shape,)``: 0 for the uniform density, towards 1 the more concentrated it is."""

    @abstractmethod
    def _log_profile(self, x: Points, mu: Points, kappa: Tensor) -> Values: ...

    @abstractmethod
    def _angles(
        self, kappa: Tensor, index: Tensor, generator: Generator | None, attached: bool
    ) -> tuple[Tensor, Tensor]:
        """cos θ and sin θ of draws in float64, for the members of κ ``(K,)`` that `index` names."""

    @abstractmethod
    def _concentration_of(self, length: Tensor) -> Tensor:
        """κ from a mean length below one, in float64."""

    @classmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "Zonal":
        return cls(torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[0].expand(*batch, -1), 1.0)

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        weights = weights.double()
        total = torch.einsum("n...,nd->...d", weights, x.detach().double())
        length = (total.norm(dim=-1) / weights.sum(0)).clamp(1e-12, 1 - 1e-6)
        kappa = self._concentration_of(length).clamp(max(bounds[0], SMALLEST), bounds[1])
        self.direction.copy_(self.space._project(total))
        self.raw_concentration.copy_(inverse_softplus(kappa))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return self._log_profile(x, self.mean_direction, self.concentration)

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        """One draw of each member that `index` names.

        cos θ μ + sin θ B ξ, with ξ uniform across and B the basis of `Sphere.tangent_basis`: the point with these
        coordinates about the last axis, in the Householder reflection that takes that axis to ∓μ.
        """
        n, mu = self.space.dim, self.mean_direction.reshape(-1, self.dim)
        cos, sin = self._angles(self.concentration.double().reshape(-1), index, generator, attached)
        xi = torch.randn(*index.shape, n, generator=generator, dtype=torch.float64, device=mu.device)
        xi = xi / xi.norm(dim=-1, keepdim=True)
        mu = mu[index]
        last = mu[..., -1:]
        sign = torch.where(last < 0, -torch.ones_like(last), torch.ones_like(last))
        y = torch.cat([sin[..., None] * xi, -sign * cos[..., None]], -1).to(mu.dtype)
        w = torch.cat([mu[..., :-1], last + sign], -1)
        return y - w * ((w * y).sum(-1, keepdim=True) / (1 + last.abs()))

    def tempered(self, temperature: float) -> Density:
        """The same with concentration κ/T."""
        return type(self)(self.mean_direction.detach(), self.concentration.detach() / temperature)
