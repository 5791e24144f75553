"""Flat space, with one unit of length per coordinate if wanted."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifolds import checks, series
from manifolds.flat import Flat
from manifolds.shapes import Frames, Points, Values


class Euclidean(Flat):
    """ℝⁿ with the constant metric |dx|² = Σ (dx_i / scale_i)².

    With ``scale`` the standard deviations of a table's columns, lengths are those of the standardised table while the
    points stay in the user's units.

    Args:
        dim: number of coordinates, at least one.
        scale: length of the unit in each coordinate, positive; None for ones.

    >>> import torch
    >>> space = Euclidean(2, scale=[1.0, 10.0])
    >>> space.dist(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 40.0]))
    tensor(5.)
    """

    def __init__(self, dim: int, scale: Sequence[float] | Tensor | None = None) -> None:
        dim = checks.check_count(dim, "Euclidean", "dim")
        if scale is not None:
            scale = tuple(float(s) for s in scale)
            if len(scale) != dim:
                raise ValueError(f"Euclidean expects one scale per coordinate ({dim}), got {len(scale)}.")
            if not all(0 < s < math.inf for s in scale):
                raise ValueError(f"Euclidean expects positive, finite scales, got {scale}.")
        self._dim, self._scale = dim, scale

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def ambient_dim(self) -> int:
        return self._dim

    @property
    def scale(self) -> tuple[float, ...] | None:
        """The unit of length of each coordinate, or None for ones."""
        return self._scale

    def config(self) -> dict[str, Any]:
        return {"dim": self._dim, "scale": None if self._scale is None else list(self._scale)}

    def _units(self, v: Tensor) -> Tensor:
        """`v` in units of the scale, where the metric is the dot product."""
        return v if self._scale is None else v / torch.tensor(self._scale, dtype=v.dtype, device=v.device)

    def _project(self, x: Points) -> Points:
        return x

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return v

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return series.dot(self._units(u), self._units(v))

    def _norm(self, x: Points, v: Points) -> Values:
        return series.norm(self._units(v))

    def _tangent_basis(self, x: Points) -> Frames:
        eye = torch.eye(self._dim, dtype=x.dtype, device=x.device)
        if self._scale is not None:
            eye = eye * torch.tensor(self._scale, dtype=x.dtype, device=x.device)
        return eye.expand(*x.shape[:-1], self._dim, self._dim)

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return (
            grad if self._scale is None else grad * torch.tensor(self._scale, dtype=grad.dtype, device=grad.device) ** 2
        )

    def _log_volume(self, x: Points) -> Values:
        log = 0.0 if self._scale is None else -sum(math.log(s) for s in self._scale)
        return torch.full(x.shape[:-1], log, dtype=x.dtype, device=x.device)

    def mean(
        self,
        x: Tensor,
        weights: Tensor | None = None,
        max_iter: int = 100,
        *,
        strict: bool = False,
    ) -> Tensor:
        """The weighted average, which minimises Σ w dist² in flat space whatever the scale."""
        x = self._points(x, "x", "mean")
        if x.ndim < 2 or x.shape[-2] == 0:
            raise ValueError(f"mean expects at least one point, (*batch, n, {self._dim}); got {tuple(x.shape)}.")
        return (self._shares(x, weights)[..., None] * x).sum(-2)

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether each point is finite ``(*batch)``; with ``explain`` also a sentence."""
        inside = self._vectors(x, "x", "contains").isfinite().all(-1)
        why = (
            f"{int((~inside).sum())} points with NaN or infinity" if not bool(inside.all()) else "every point is finite"
        )
        return (inside, why) if explain else inside
