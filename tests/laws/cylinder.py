"""A space that the library does not have: the example of how one is added, and shown in the tutorial."""

from typing import Any

import torch
from torch import Tensor

from manifolds import Manifold, Sphere, series
from manifolds.shapes import Frames, Points, Values

CIRCLE = Sphere(1)


class Cylinder(Manifold):
    """{(x, y, h) : x² + y² = radius²}, with the metric of ℝ³: a circle of that radius times a line.

    Args:
        radius: of the circle, positive.
    """

    def __init__(self, radius: float = 1.0) -> None:
        if not 0 < radius < float("inf"):
            raise ValueError(f"Cylinder expects a positive radius, got {radius}.")
        self.radius = float(radius)

    @property
    def dim(self) -> int:
        return 2

    @property
    def ambient_dim(self) -> int:
        return 3

    def config(self) -> dict[str, Any]:
        return {"radius": self.radius}

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The direction on the unit circle, and the height."""
        return x[..., :2] / self.radius, x[..., 2:]

    def _whole(self, direction: Tensor, height: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(direction.shape[:-1], height.shape[:-1])
        return torch.cat([self.radius * direction.expand(*batch, 2), height.expand(*batch, 1)], -1)

    def _project(self, x: Points) -> Points:
        direction, height = self._parts(x)
        return self._whole(CIRCLE._project(direction), height)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        (p, _), (u, dh) = self._parts(x), self._parts(v)
        return self._whole(CIRCLE._to_tangent(p, u), dh)

    def _exp(self, x: Points, v: Points) -> Points:
        (p, h), (u, dh) = self._parts(x), self._parts(v)
        return self._whole(CIRCLE._exp(p, u), h + dh)

    def _log(self, x: Points, y: Points) -> Points:
        (p, h), (q, k) = self._parts(x), self._parts(y)
        return self._whole(CIRCLE._log(p, q), k - h)

    def _squared_dist(self, x: Points, y: Points) -> Values:
        (p, h), (q, k) = self._parts(x), self._parts(y)
        return self.radius**2 * CIRCLE._squared_dist(p, q) + ((k - h) ** 2).sum(-1)

    def _dist(self, x: Points, y: Points) -> Values:
        return series.sqrt(self._squared_dist(x, y))

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        (p, _), (q, _), (u, dh) = self._parts(x), self._parts(y), self._parts(v)
        return self._whole(CIRCLE._transport(p, q, u), dh)

    def _tangent_basis(self, x: Points) -> Frames:
        around = CIRCLE._tangent_basis(self._parts(x)[0])
        up = torch.tensor([[0.0], [0.0], [1.0]], dtype=x.dtype, device=x.device).expand(*x.shape, 1)
        return torch.cat([torch.nn.functional.pad(around, (0, 0, 0, 1)), up], -1)

    @property
    def injectivity_radius(self) -> float:
        return torch.pi * self.radius
