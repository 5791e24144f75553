"""The weight of reconstruction as a condition of the networks, which learn all weights of an interval at once."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from geoflow.density import Context


class DrawnBeta:
    """β drawn for each row of a training step, log-uniformly between two bounds; outside of training one value.

    The networks see it as one more column of their context, (log β − middle) / half width, in [−1, 1].

    Args:
        bounds: positive, the lower first.
        at: the value outside of training, within the bounds; None is the upper one.
    """

    def __init__(self, bounds: Sequence[float], at: float | None = None) -> None:
        if not (len(bounds) == 2 and 0 < bounds[0] < bounds[1] < math.inf):
            raise ValueError(f"FreeFormFlow expects `beta` as two positive bounds, the lower first; got {bounds}.")
        at = bounds[1] if at is None else at
        if not bounds[0] <= at <= bounds[1]:
            raise ValueError(f"FreeFormFlow is trained for beta from {bounds[0]:g} to {bounds[1]:g}, got {at}.")
        self.value = float(at)
        low, high = (math.log(b) for b in bounds)
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._place: Tensor | None = None

    @contextmanager
    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """New β for rows ``(*batch, dim)``, which `beside` uses meanwhile: ``(*batch)``."""
        self._place = 2 * torch.rand(*x.shape[:-1], 1, dtype=x.dtype, device=x.device) - 1
        try:
            yield (self._middle + self._half * self._place[..., 0]).exp()
        finally:
            self._place = None

    def beside(self, context: Context, x: Tensor) -> Tensor:
        """The context of points x ``(*batch, ·)`` with the column of β."""
        place: Tensor | float = self._place if self._place is not None else (math.log(self.value) - self._middle)
        if not isinstance(place, Tensor):
            place = x.new_full((1,), place / self._half)
        column = place.expand(*x.shape[:-1], 1)
        return column if context is None else torch.cat([context.expand(*x.shape[:-1], -1), column], -1)
