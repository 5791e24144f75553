"""The round normal density of particle configurations without their centre."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.normals import LOG_2PI
from geoflow.distributions.parameters import FLOOR, positive
from geoflow.registry import register
from manifolds import MeanFree
from manifolds.shapes import Points, Values


@register
class MeanFreeNormal(Density):
    """N(0, std² I) on centred configurations: log p = −|x|²/2 std² − (P − 1) · each · (log std + ½ log 2π).

    The density is with respect to the volume of `MeanFree(particles, each)`, which has (P − 1) · each dimensions. It does
    not change when particles turn, reflect or change places: the base of equivariant flows. [kohler2020] `std` is learned
    by its logarithm.

    Args:
        particles: P, at least two.
        each: coordinates of one particle.
        std: of each coordinate in an orthonormal basis; a particle's own coordinates have std √(1 − 1/P).

    >>> MeanFreeNormal(2, 1).log_prob(torch.tensor([-1.0, 1.0])).detach()  # the normal number √2
    tensor(-1.9189)
    """

    def __init__(self, particles: int, each: int, std: float | Tensor = 1.0) -> None:
        super().__init__()
        self.space = MeanFree(particles, each)
        self.particles, self.each = particles, each
        like = std if isinstance(std, Tensor) else torch.zeros(())
        self.log_std = nn.Parameter(positive(std, [()], like, "MeanFreeNormal", "std").log())

    @property
    def std(self) -> Tensor:
        """Standard deviation along any direction of the space, ``()``."""
        return self.log_std.exp()

    @classmethod
    def from_data(cls, x: Any, context: Any = None, each: int = 3, **options: Any) -> "MeanFreeNormal":
        """The maximum-likelihood fit to centred rows ``(n, particles · each)``: std² = mean |x|² / ((P − 1) · each).

        Args:
            x: configurations with their centre at zero; others are refused.
            context: none.
            each: coordinates of one particle.
            options: none.
        """
        who = "MeanFreeNormal.from_data"
        x = validate.table(x, who)
        if x.shape[1] % validate.count(each, who, "each", 1) or x.shape[1] < 2 * each:
            raise ValueError(f"{who} expects rows of two or more particles with {each} coordinates, got {x.shape[1]}.")
        fitted = cls(x.shape[1] // each, each).to(x)
        fitted.prepare(fitted.space._points(x, "x", "from_data"))
        return fitted

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        z = x * torch.exp(-self.log_std)
        return -0.5 * (z * z).sum(-1) - self.space.dim * (self.log_std + 0.5 * LOG_2PI)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        log_std = self.log_std
        z = torch.randn(*shape, self.dim, generator=generator, dtype=log_std.dtype, device=log_std.device)
        return log_std.exp() * self.space._project(z)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """(P − 1) · each · (log std + ½ + ½ log 2π)."""
        return self.space.dim * (self.log_std + 0.5 * (1 + LOG_2PI))

    def tempered(self, temperature: float) -> Density:
        """The same with std √T times as large."""
        return MeanFreeNormal(self.particles, self.each, self.std.detach() * math.sqrt(temperature))

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit."""
        square = x.detach().double().square().sum(-1).mean() / self.space.dim
        self.log_std.copy_(0.5 * square.clamp_min(FLOOR**2).log())
