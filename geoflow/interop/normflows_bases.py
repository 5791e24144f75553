"""normflows' base distributions as densities."""

import inspect
from math import prod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.interop.normflows_maps import masked
from geoflow.interop.outside import outside, transformed
from geoflow.interop.rows import Shape, default_dtype, drawing, dtype_of, is_a, refuse
from manifolds import Euclidean
from manifolds.shapes import Points, Values

REFUSED = {
    "GaussianPCA": "has a log_prob that is no log density (a determinant stands where its logarithm belongs): take "
    "geoflow.GaussianMixture(dim, 1).",
}
"""Bases that cannot work, and what to do instead."""


class NormflowsBase(Density):
    """A base distribution of normflows, on flat points.

    Args:
        q0: of ``normflows.distributions``.
        context_dim: width of the condition, if it takes one.
    """

    _anchor: Tensor

    def __init__(self, q0: nn.Module, context_dim: int = 0) -> None:
        from normflows.distributions import BaseDistribution

        super().__init__()
        if not isinstance(q0, BaseDistribution):
            raise TypeError(
                f"from_normflows expects q0 to be a base distribution of normflows, got {type(q0).__name__}."
            )
        refuse(q0, REFUSED, "from_normflows")
        self.q0 = q0
        self.context_dim = context_dim if "context" in inspect.signature(q0.log_prob).parameters else 0
        self.classes = getattr(q0, "num_classes", None) or 0
        self.shape = shape_of(q0)
        self.space = Euclidean(prod(self.shape))
        self.register_buffer("_anchor", torch.empty(0, dtype=dtype_of(q0)), persistent=False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        batch = x.shape[:-1]
        if 0 in batch:
            return x.new_zeros(batch)
        with default_dtype(x.dtype):
            return log_prob(self.q0, x.reshape(-1, *self.shape), self._rows(context)).reshape(batch)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, context, generator).detach()

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if is_a(self.q0, "GaussianMixture"):  # its choice of a component has no derivative
            return super()._rsample(shape, context, generator)
        return self._draw(shape, context, generator)

    def _draw(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if 0 in shape:
            return self._anchor.new_empty(*shape, self.dim)
        given = self._rows(self._spread(context, shape))
        with drawing(generator), default_dtype(self._anchor.dtype):
            return draws(self.q0, prod(shape), given).to(self._anchor).reshape(*shape, self.dim)

    def _rows(self, context: Context) -> list[Tensor]:
        """The context of each row, in a list, or nothing."""
        if context is None:
            return []
        return [context.reshape(-1, self.context_dim) if self.context_dim else context.reshape(-1)]


def log_prob(q0: Any, z: Tensor, given: list[Tensor]) -> Tensor:
    """Of a batch, in its dtype."""
    if transformed() and masked(q0):
        (log_p,) = outside(q0, "log_prob", z, *given)
    else:
        log_p = q0.log_prob(z, *given)
    if is_a(q0, "UniformGaussian"):  # which goes on beyond the box that it draws from
        inside = (z[:, q0.ind].abs() <= 0.5 * q0.scale[q0.ind]).all(-1)
        log_p = log_p.where(inside, torch.full_like(log_p, -torch.inf))
    return log_p.to(z.dtype)


def draws(q0: Any, n: int, given: list[Tensor]) -> Tensor:
    """n of them."""
    z, _ = q0(n, *given)
    return z


def shape_of(q0: Any) -> Shape:
    """The shape of a draw."""
    size = next(getattr(q0, name) for name in ("shape", "dim", "ndim") if hasattr(q0, name))
    return (size,) if isinstance(size, int) else tuple(size)
