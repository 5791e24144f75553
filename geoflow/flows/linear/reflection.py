"""A fixed reflection, which mixes all coordinates and leaves a standard normal as it was."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from geoflow.density import Context
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.registry import register


@register
class Reflection(FeaturesFirst):
    """z = x − 2 v ⟨v, x⟩ / |v|², Householder's reflection: its own inverse, volume preserving, exact in every dtype.

    Before affine couplings it takes independent columns out of alignment with the axes. There a coupling that starts as
    the identity has nothing to gain from any small change, and training would not leave the start.

    Args:
        dim: number of coordinates.
        vector: v; None draws a normal one from `generator`, and in two dimensions takes the one that turns the axes by
            45 degrees.
    """

    v: Tensor

    def __init__(self, dim: int, vector: Sequence[float] | None = None, generator: Generator | None = None) -> None:
        super().__init__(dim)
        if vector is not None:
            v = torch.tensor(vector, dtype=torch.get_default_dtype())
        elif dim == 2:
            v = torch.tensor([math.cos(math.pi / 8), math.sin(math.pi / 8)])
        else:
            v = torch.randn(dim, generator=generator)
        if v.shape != (dim,) or not float(v.norm()) > 0:
            raise ValueError(f"Reflection expects a vector of {dim} numbers that are not all zero, got {v.tolist()}.")
        self.register_buffer("v", v)

    @property
    def vector(self) -> list[float]:
        """v as a list."""
        return self.v.tolist()

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        v = self.v
        return torch.addcmul(x, v.unsqueeze(1), (v @ x) * (-2 / v.dot(v))), None

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._encode_turned(z)
