"""Densities of one kind with their parameters in a batch: what `Mixture` mixes, and what fits by weighted rows share."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.pairs import Pairs
from geoflow.distributions.parameters import points
from manifolds import Manifold

ALL = (0.0, math.inf)
"""Bounds on a concentration that allow every one."""


class Family(Density):
    """A density whose parameters may stand in a batch, the members of a family.

    `log_prob` broadcasts points against the batch; draws are ``(*n, *batch_shape, dim)``.
    """

    @property
    @abstractmethod
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the family's members; ``()`` for one density."""

    @classmethod
    @abstractmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "Family":
        """Members on the space of rows `x`, like them in dtype and device, with parameters that a fit replaces."""

    @abstractmethod
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        """Set each member to rows ``(n, dim)`` of the space under its column of weights ``(n, *batch_shape)``.

        Args:
            x: the rows.
            weights: not negative, no column zero.
            bounds: least and largest concentration: κ, 1/std², or Dirichlet's Σ a.
            refine: whether the parameters are near their new values already, so that one step of an iteration will do.
        """

    @abstractmethod
    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        """One draw ``(*shape, dim)`` of each member of the flattened batch that `index` ``(*shape,)`` names.

        With derivatives in the parameters if `attached`, or perhaps always.
        """

    @classmethod
    def from_data(cls, x: Any, context: Any = None, weights: Any = None, **options: Any) -> "Family":
        """Fitted to rows ``(n, dim)``: see the class, or `prepare`, for how.

        Args:
            x: points of the space.
            context: none.
            weights: of the rows, ``(n,)``, not negative; None weighs all alike.
            options: as `space`, where the rows do not tell it.
        """
        who = f"{cls.__name__}.from_data"
        x = validate.table(x, who, minimum=2)
        fitted = cls._start(x, (), **options)
        x = fitted.space._points(x, "x", "from_data")
        w = x.new_ones(len(x)) if weights is None else torch.as_tensor(weights, dtype=x.dtype, device=x.device)
        if w.shape != x.shape[:1] or not bool(((w >= 0) & w.isfinite()).all()) or not bool(w.sum() > 0):
            raise ValueError(f"{who} expects a finite, non-negative weight per row, ({len(x)},), got {tuple(w.shape)}.")
        fitted._fit(x, w)
        return fitted

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit; members of a batch all from the same."""
        self._fit(x, x.new_ones(len(x), *self.batch_shape))

    def _all(self, shape: tuple[int, ...], generator: Generator | None, attached: bool) -> Tensor:
        size = math.prod(self.batch_shape)
        index = torch.arange(size, device=next(self.parameters()).device).reshape(self.batch_shape)
        return self._draw(index.expand((*shape, *self.batch_shape)), generator, attached)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._all(shape, generator, attached=False)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._all(shape, generator, attached=True)


class Centered(Family):
    """A family around points `mean` of any space, learned as vectors that are projected onto it."""

    def __init__(self, space: Manifold, mean: Any) -> None:
        super().__init__()
        self.space = space
        self.location = nn.Parameter(points(space, mean, type(self).__name__))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the family's members; ``()`` for one density."""
        return tuple(self.location.shape[:-1])

    @property
    def mean(self) -> Tensor:
        """The point of the space that it lies around, ``(*batch_shape, ambient_dim)``."""
        return self.space._project(self.location)

    @torch.no_grad()
    def _recenter(self, x: Tensor, weights: Tensor, refine: bool) -> tuple[Tensor, Pairs]:
        """Move to the weighted Fréchet means, or one step of that iteration if `refine`; those in float64, and the rows."""
        pairs = Pairs(self.space._project(x.detach().double()), weights)
        start = self.location.double() if refine else None
        mean = pairs.frechet_mean(self.space, start, 1 if refine else 100)
        self.location.copy_(mean)
        return mean, pairs
