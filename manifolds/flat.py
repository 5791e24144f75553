"""What flat spaces in linear coordinates share: geodesics are straight lines, and vectors stay as they are."""

import torch

from manifolds.manifold import Manifold
from manifolds.shapes import Points


class Flat(Manifold):
    """A linear space, or a part of one, with a constant metric; a space says where it is and what it measures."""

    def _exp(self, x: Points, v: Points) -> Points:
        return x + v

    def _log(self, x: Points, y: Points) -> Points:
        return y - x

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        return v + torch.zeros_like(x) + torch.zeros_like(y)
