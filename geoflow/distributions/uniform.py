"""The uniform density of a space of finite volume."""

import math

import torch
from torch import Generator, Tensor

from geoflow.density import Context, Density
from geoflow.registry import register
from manifolds import Manifold
from manifolds.shapes import Points, Values


@register
class Uniform(Density):
    """log p = −log volume everywhere on `space`, with respect to its own volume. No parameters.

    Args:
        space: a space of finite volume that draws uniform points: spheres, tori, simplices, rotations, their products.

    >>> from manifolds import Sphere
    >>> Uniform(Sphere(2)).log_prob(torch.tensor([0.0, 0.0, 1.0]))
    tensor(-2.5310)
    """

    _anchor: Tensor

    def __init__(self, space: Manifold) -> None:
        super().__init__()
        if not isinstance(space, Manifold):
            raise TypeError(f"Uniform expects a space, as Sphere(2), got {type(space).__name__}.")
        if not math.isfinite(space.log_volume_total):
            raise ValueError(f"Uniform expects a space of finite volume, got {space!r}: take a normal density there.")
        self.space = space
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return x.new_full(x.shape[:-1], -self.space.log_volume_total) + 0 * x[..., 0]

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        a = self._anchor
        return self.space.sample_uniform(shape, generator, a.dtype, a.device)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._sample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log volume."""
        return self._anchor.new_tensor(self.space.log_volume_total)

    def tempered(self, temperature: float) -> Density:
        """Itself, whatever the temperature."""
        return Uniform(self.space).to(self._anchor)
