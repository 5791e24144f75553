"""What flows on a space start from where nobody says otherwise."""

import math

import torch

from geoflow.density import Density
from geoflow.distributions import StandardNormal, Uniform, WrappedNormal
from manifolds import Euclidean, Manifold


def default_base(space: Manifold, who: str) -> Density:
    """Uniform where the volume is finite, else normal around the origin of the coordinates."""
    if math.isfinite(space.log_volume_total):
        return Uniform(space)
    if space == Euclidean(space.ambient_dim):
        return StandardNormal(space.dim)
    try:
        return WrappedNormal(space, space._project(torch.zeros(space.ambient_dim)), 1.0)
    except ValueError as error:
        raise ValueError(f"{who} has no default base on {space!r}: pass base=. ({error})") from None
