"""Positive numbers whose logarithms are normal."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.normals import LOG_2PI, moments
from geoflow.distributions.parameters import positive
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values


@register
class LogNormal(Density):
    """log p(x) = Σ_i log N(log x_i; mean_i, std_i²) − log x_i where every x_i > 0, and −∞ elsewhere: rates, sizes, incomes.

    `mean` and `std` are those of the logarithms, and learned, the second by its logarithm.

    Args:
        mean: ``(dim,)``.
        std: a positive number, or one for each coordinate.

    >>> LogNormal([0.0], 1.0).log_prob(torch.ones(1)).detach()
    tensor(-0.9189)
    """

    def __init__(self, mean: Sequence[float] | Tensor, std: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        given = torch.as_tensor(mean).detach()
        given = given.clone() if given.is_floating_point() else given.to(torch.get_default_dtype())
        if given.ndim != 1 or not len(given) or not bool(given.isfinite().all()):
            raise ValueError(f"LogNormal expects a finite mean of the logarithms, (dim,), got {given.tolist()}.")
        self.space = Euclidean(len(given))
        self.mean = nn.Parameter(given)
        self.log_std = nn.Parameter(positive(std, [tuple(given.shape)], given, "LogNormal", "std").log())

    @property
    def std(self) -> Tensor:
        """Standard deviations of the logarithms ``(dim,)``."""
        return self.log_std.exp()

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "LogNormal":
        """The maximum-likelihood fit: means and (biased) deviations of the logarithms of positive rows."""
        x = validate.table(x, "LogNormal.from_data", minimum=2)
        validate.training_rows(x, "LogNormal.from_data")
        fitted = cls(x.new_zeros(x.shape[1]), 1.0)
        fitted.prepare(x)
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit."""
        if not bool((x > 0).all()):
            raise ValueError(
                f"LogNormal expects positive rows, got {float(x.min())}: shift them, or use another family."
            )
        mean, std = moments(x.log())
        self.mean.copy_(mean)
        self.log_std.copy_(std.log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        inside = (x > 0).all(-1)
        log_x = torch.where(inside[..., None], x, torch.ones_like(x)).log()
        z = (log_x - self.mean) * torch.exp(-self.log_std)
        log_p = -0.5 * ((z * z).sum(-1) + self.dim * LOG_2PI) - self.log_std.sum() - log_x.sum(-1)
        return torch.where(inside, log_p, torch.full_like(log_p, -torch.inf))

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        z = torch.randn(*shape, self.dim, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return (self.mean + z * self.std).exp()

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ mean + log std + ½ (1 + log 2π)."""
        return (self.mean + self.log_std).sum() + 0.5 * self.dim * (1 + LOG_2PI)

    def tempered(self, temperature: float) -> Density:
        """Log-normal again, with variances T std² and means mean + (T − 1) std²."""
        std = self.std.detach()
        return LogNormal(self.mean.detach() + (temperature - 1) * std**2, std * math.sqrt(temperature))
