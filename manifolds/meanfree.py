"""Clouds of particles without their centre."""

from typing import Any

import torch
from torch import Tensor

from manifolds import checks
from manifolds.flat import Flat
from manifolds.shapes import Frames, Points
from manifolds.simplex import contrasts


class MeanFree(Flat):
    """Configurations of particles with their centre at zero: a linear space of dimension (particles − 1) · each.

    Points are flat, particle by particle; the metric is that of the embedding.

    Args:
        particles: how many, at least two.
        each: coordinates of one particle.

    >>> import torch
    >>> MeanFree(2, 1).project(torch.tensor([1.0, 3.0]))
    tensor([-1.,  1.])
    """

    def __init__(self, particles: int, each: int) -> None:
        self._particles = checks.check_count(particles, "MeanFree", "particles", 2)
        self._each = checks.check_count(each, "MeanFree", "each")

    @property
    def dim(self) -> int:
        return (self._particles - 1) * self._each

    @property
    def ambient_dim(self) -> int:
        return self._particles * self._each

    def config(self) -> dict[str, Any]:
        return {"particles": self._particles, "each": self._each}

    def as_particles(self, x: Tensor) -> Tensor:
        """Points ``(*batch, particles · each)`` as ``(*batch, particles, each)``."""
        return x.unflatten(-1, (self._particles, self._each))

    def _project(self, x: Points) -> Points:
        cloud = self.as_particles(x)
        return (cloud - cloud.mean(-2, keepdim=True)).flatten(-2)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return self._project(v) + torch.zeros_like(x)

    def _tangent_basis(self, x: Points) -> Frames:
        eye = torch.eye(self._each, dtype=x.dtype, device=x.device)
        basis = torch.kron(contrasts(self._particles, x), eye)
        return basis.expand(*x.shape[:-1], *basis.shape)
