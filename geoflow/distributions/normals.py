"""Normal densities on flat space: the standard one, and one with a mean and deviation per column."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

LOG_2PI = math.log(2 * math.pi)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) standard deviation of rows, in float64: squares of float32 overflow from 1e19 on."""
    rows = x.detach().double()
    return rows.mean(0), rows.std(0, correction=0)


@register
class StandardNormal(Density):
    """N(0, I): log p = −½|x|² − (d/2) log 2π. The default base of a flow.

    >>> StandardNormal(2).log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    _anchor: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.space = Euclidean(validate.count(dim, "StandardNormal", "dim", 1))
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return -0.5 * ((x * x).sum(-1) + self.dim * LOG_2PI)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        a = self._anchor
        return torch.randn(*shape, self.dim, generator=generator, dtype=a.dtype, device=a.device)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._sample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """d/2 (1 + log 2π)."""
        return self._anchor.new_tensor(0.5 * self.dim * (1 + LOG_2PI))

    def tempered(self, temperature: float) -> Density:
        """N(0, T I)."""
        std = self._anchor.new_full((self.dim,), math.sqrt(temperature))
        return DiagonalNormal.of(torch.zeros_like(std), std)


@register
class DiagonalNormal(Density):
    """N(mean, diag std²), both learned; standard until set by `from_data`, `of` or training.

    Args:
        dim: number of columns.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.space = Euclidean(validate.count(dim, "DiagonalNormal", "dim", 1))
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_std = nn.Parameter(torch.zeros(dim))

    @classmethod
    def of(cls, mean: Tensor, std: Tensor) -> "DiagonalNormal":
        """With the given mean and standard deviations ``(dim,)``."""
        if mean.shape != std.shape or mean.ndim != 1 or not bool((std > 0).all()):
            raise ValueError(
                f"DiagonalNormal.of expects mean and positive std of one shape (dim,), got {tuple(mean.shape)}."
            )
        normal = cls(len(mean)).to(mean)
        with torch.no_grad():
            normal.mean.copy_(mean)
            normal.log_std.copy_(std.log())
        return normal

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "DiagonalNormal":
        """The maximum-likelihood fit: columns' means and (biased) standard deviations."""
        x = validate.table(x, "DiagonalNormal.from_data", minimum=2)
        validate.training_rows(x, "DiagonalNormal.from_data")
        mean, std = moments(x)
        return cls.of(mean.to(x), std.to(x))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        z = (x - self.mean) * torch.exp(-self.log_std)
        return -0.5 * ((z * z).sum(-1) + self.dim * LOG_2PI) - self.log_std.sum()

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        z = torch.randn(*shape, self.dim, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + z * self.log_std.exp()

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log std + d/2 (1 + log 2π)."""
        return self.log_std.sum() + 0.5 * self.dim * (1 + LOG_2PI)

    def tempered(self, temperature: float) -> Density:
        """The normal with variances T times as large."""
        return DiagonalNormal.of(self.mean.detach(), self.log_std.detach().exp() * math.sqrt(temperature))

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit."""
        mean, std = moments(x)
        with torch.no_grad():
            self.mean.copy_(mean)
            self.log_std.copy_(std.log())
