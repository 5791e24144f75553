"""The default velocity of a flow in time: a perceptron that sees points without seams and moves them at bounded speed."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoflow.nets import MLP
from geoflow.registry import register
from manifolds import (
    Euclidean,
    Hyperboloid,
    Manifold,
    PoincareBall,
    Product,
    SpecialOrthogonal,
    Torus,
    angles_to_embedded,
)
from manifolds.flat import Flat

FRAMED = (Flat, Torus, SpecialOrthogonal, PoincareBall, Hyperboloid)
"""Spaces whose `tangent_basis` is smooth all over."""


@register
class VelocityNet(nn.Module):
    """A perceptron of x, time and context: ``(*batch, ambient_dim)``, times ``(*batch,)`` → vectors at x.

    It sees angles as pairs (cos, sin), scaled columns in units of their scale, hyperbolic points by their logarithm at
    the origin, and time as t and cos, sin of πt … 4πt. What it gives are coordinates in `tangent_basis` where that is
    smooth all over, else (on spheres) in the embedding. So speeds grow no faster than distances, and flows do not run
    away in finite time, as they would on the hyperboloid, where the tangential part of a vector of fixed coordinates
    grows like the exponential of the distance. It starts as zero.

    Args:
        space: where x lives.
        hidden, activation: of the `MLP`.
        context: columns of the condition, 0 for none.
    """

    def __init__(
        self,
        space: Manifold,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        context: int = 0,
    ) -> None:
        super().__init__()
        self.space, self.hidden, self.activation, self.context = space, tuple(hidden), activation, context
        width = _features(space, space._project(torch.ones(space.ambient_dim))).shape[-1]
        self.net = MLP(width + 9 + context, sum(_sizes(space)), hidden, activation, zero_last=True)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        phase = math.pi * t[..., None] * torch.arange(1, 5, dtype=t.dtype, device=t.device)
        parts = [_features(self.space, x), t[..., None], phase.cos(), phase.sin()]
        return _vectors(self.space, x, self.net(torch.cat(parts if context is None else [*parts, context], -1)))


def _features(space: Manifold, x: Tensor) -> Tensor:
    """Smooth coordinates all over the space."""
    if isinstance(space, Product):
        return torch.cat([_features(f, part) for f, part in zip(space.factors, space.split(x), strict=True)], -1)
    if isinstance(space, Torus) and not space.embedded:
        return angles_to_embedded(x)
    if isinstance(space, (PoincareBall, Hyperboloid)):
        origin = space._project(torch.zeros_like(x))
        return space._coords(origin, space._log(origin, x))
    return space._units(x) if isinstance(space, Euclidean) else x


def _sizes(space: Manifold) -> list[int]:
    """How many numbers say a vector, for each factor."""
    if isinstance(space, Product):
        return [sum(_sizes(f)) for f in space.factors]
    return [space.dim if isinstance(space, FRAMED) else space.ambient_dim]


def _vectors(space: Manifold, x: Tensor, c: Tensor) -> Tensor:
    """What these numbers say."""
    if isinstance(space, Product):
        parts = zip(space.factors, space.split(x), c.split(_sizes(space), -1), strict=True)
        return torch.cat([_vectors(*part) for part in parts], -1)
    if isinstance(space, Flat):  # one basis for all points
        return c @ space._tangent_basis(x.new_zeros(space.ambient_dim)).mT
    return (space._tangent_basis(x) @ c[..., None])[..., 0] if isinstance(space, FRAMED) else c
