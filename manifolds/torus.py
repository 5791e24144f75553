"""Flat tori, as angles or as pairs of coordinates on circles."""

import math
import warnings
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks, series
from manifolds.manifold import Device, Manifold
from manifolds.shapes import Coordinates, Frames, Points, Values

TURN = 2 * math.pi


def wrap(angle: Tensor) -> Tensor:
    """Angles brought to [−π, π]. Those inside keep every digit and derivative one."""
    return angle - TURN * torch.round(angle / TURN)


def angles_to_embedded(x: Tensor) -> Tensor:
    """Angles ``(*batch, n)`` as pairs (cos, sin) ``(*batch, 2 n)``."""
    return torch.stack([x.cos(), x.sin()], -1).flatten(-2)


def embedded_to_angles(x: Tensor) -> Tensor:
    """Pairs ``(*batch, 2 n)`` as angles in [−π, π] ``(*batch, n)``."""
    first, second = _pairs(x).unbind(-1)
    return torch.atan2(second, first)


class Torus(Manifold):
    """Tⁿ, the product of n circles of radius one, flat; volume (2π)ⁿ.

    Points are angles in radians, of which those of the same point differ by multiples of 2π, or with ``embedded`` pairs
    (cos, sin) on n circles: isometric, so densities have the same values. Networks should see the pairs, which have no
    seam. Half a turn away `log` goes one way, always the same.

    Args:
        n: number of circles, at least one.
        embedded: points in ℝ²ⁿ instead of angles.

    >>> import torch
    >>> Torus(1).dist(torch.tensor([3.0]), torch.tensor([-3.0]))
    tensor(0.2832)
    """

    def __init__(self, n: int, embedded: bool = False) -> None:
        self._n = checks.check_count(n, "Torus", "n")
        if not isinstance(embedded, bool):
            raise TypeError(f"Torus expects `embedded` as a bool, got {type(embedded).__name__}.")
        self.embedded = embedded

    @property
    def dim(self) -> int:
        return self._n

    @property
    def ambient_dim(self) -> int:
        return 2 * self._n if self.embedded else self._n

    def config(self) -> dict[str, Any]:
        return {"n": self._n, "embedded": self.embedded}

    # -- points, and moves between them as angles ---------------------------------------------------------------

    def _between(self, x: Points, y: Points) -> Coordinates:
        """The angles that turn x into y, in [−π, π]."""
        if not self.embedded:
            return wrap(y - x)
        p, q = _pairs(x), _pairs(y)
        return torch.atan2((_quarter(p) * (q - p)).sum(-1), (p * q).sum(-1))

    def _turned(self, x: Points, angle: Coordinates) -> Points:
        if not self.embedded:
            return wrap(x + angle)
        p = _pairs(x)
        return (angle.cos()[..., None] * p + angle.sin()[..., None] * _quarter(p)).flatten(-2)

    def _velocity(self, x: Points, v: Points) -> Coordinates:
        """Angular velocities of an ambient vector."""
        return (_quarter(_pairs(x)) * _pairs(v)).sum(-1) if self.embedded else v

    def _lifted(self, x: Points, angle: Coordinates) -> Points:
        """The tangent vector of these angular velocities."""
        if not self.embedded:
            return angle + torch.zeros_like(x)
        return (angle[..., None] * _quarter(_pairs(x))).flatten(-2)

    # -- the contract ---------------------------------------------------------------------------------------------

    def _project(self, x: Points) -> Points:
        if not self.embedded:
            return wrap(x)
        p = _pairs(x)
        length = series.norm(p)[..., None]
        first = torch.tensor([1.0, 0.0], dtype=x.dtype, device=x.device)
        return torch.where(length == 0, first, p / torch.where(length == 0, torch.ones_like(length), length)).flatten(
            -2
        )

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return self._lifted(x, self._velocity(x, v))

    def _exp(self, x: Points, v: Points) -> Points:
        return self._turned(x, self._velocity(x, v))

    def _log(self, x: Points, y: Points) -> Points:
        return self._lifted(x, self._between(x, y))

    def _dist(self, x: Points, y: Points) -> Values:
        return series.norm(self._between(x, y))

    def _squared_dist(self, x: Points, y: Points) -> Values:
        return (self._between(x, y) ** 2).sum(-1)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        return self._lifted(y, self._velocity(x, v))

    def _tangent_basis(self, x: Points) -> Frames:
        eye = torch.eye(self._n, dtype=x.dtype, device=x.device)
        return self._lifted(x[..., None, :], eye).mT

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether each point is finite, and on its circles ``(*batch)``; warns of angles that look like degrees."""
        if self.embedded:
            return super().contains(x, explain)
        x = self._vectors(x, "x", "contains")
        inside = x.isfinite().all(-1)
        if not checks.tracing(x) and bool((x[inside].abs() > 2 * TURN).any()):
            warnings.warn(
                f"{self!r}: angles up to {float(x[inside].abs().max()):.4g} are many turns: if they are degrees, pass "
                "torch.deg2rad(x); otherwise .project(x) brings them to [-pi, pi].",
                stacklevel=4,
            )
        if not explain:
            return inside
        bad = int((~inside).sum())
        return inside, f"{bad} of {inside.numel()} points have NaN or infinity" if bad else "every point is finite"

    @property
    def log_volume_total(self) -> float:
        return self._n * math.log(TURN)

    @property
    def injectivity_radius(self) -> float:
        return math.pi

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points with independent uniform angles."""
        angle = math.pi * (2 * torch.rand(*shape, self._n, generator=generator, dtype=dtype, device=device) - 1)
        return angles_to_embedded(angle) if self.embedded else angle


def _pairs(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, 2))


def _quarter(p: Tensor) -> Tensor:
    """Pairs turned by a quarter."""
    return torch.stack([-p[..., 1], p[..., 0]], -1)
