"""Differences of points in the coordinates of their space, angles by the shorter way round."""

import torch
from torch import Tensor

from manifolds import Manifold, Product, Torus


def chord(space: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """y − x ``(*batch, ambient_dim)``; angles of a torus differ by at most half a turn."""
    if isinstance(space, Product):
        pieces = zip(space.factors, space.split(x), space.split(y), strict=True)
        return torch.cat([chord(*piece) for piece in pieces], -1)
    return space._log(x, y) if isinstance(space, Torus) and not space.embedded else y - x
