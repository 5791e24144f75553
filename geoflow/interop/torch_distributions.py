"""Distributions of torch as densities, and densities as distributions of torch."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Transform, constraints, transform_to

from geoflow.density import Context, Density
from geoflow.interop.rows import drawing
from manifolds import Euclidean
from manifolds.shapes import Points, Values

OWN = {
    "VonMises": "lives on a circle: use geoflow.distributions.VonMises.",
    "Dirichlet": "has a density in all but one of its coordinates: use geoflow.distributions.Dirichlet.",
    "RelaxedOneHotCategorical": "lives on a simplex, of which torch gives a density in all but one coordinate.",
}
"""Distributions whose log_prob is no density on flat space, and what to do."""


def from_torch(distribution: Distribution) -> "TorchDensity":
    """A continuous distribution of torch, of numbers or vectors, as a `Density` on flat space.

    Where the distribution has no mass, log_prob is −∞. Its tensors follow ``.to``; they are not trained (for parameters that
    are, see `from_zuko` and `zuko.lazy.UnconditionalDistribution`). Such a density cannot be saved: save its parameters.

    Args:
        distribution: with an empty batch_shape and events ``()`` or ``(dim,)``: several independent numbers are
            ``Independent(Normal(mean, std), 1)``.

    Raises:
        TypeError: not a distribution of torch, or one of whole numbers.
        ValueError: a batch of distributions; events that are matrices; a distribution on another space.

    >>> density = from_torch(torch.distributions.Gamma(2.0, 1.0))
    >>> density.log_prob(torch.tensor([[1.0], [-1.0]]))
    tensor([-1., -inf])
    """
    return TorchDensity(distribution)


class TorchDensity(Density):
    """What `from_torch` makes."""

    _anchor: Tensor

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        if not isinstance(distribution, Distribution):
            raise TypeError(f"from_torch expects a distribution of torch, got {type(distribution).__name__}.")
        law, kind = distribution, type(distribution).__name__
        if kind in OWN:
            raise ValueError(f"from_torch: {kind} {OWN[kind]}")
        if law.support is not None and law.support.is_discrete:
            raise TypeError(f"from_torch expects a continuous distribution, {kind} is one of whole numbers.")
        if law.batch_shape:
            raise ValueError(
                f"from_torch expects one distribution, got a batch {tuple(law.batch_shape)} of {kind}: if these are "
                f"independent coordinates, pass Independent(distribution, {len(law.batch_shape)})."
            )
        if len(law.event_shape) > 1:
            raise ValueError(f"from_torch expects numbers or vectors, got events of shape {tuple(law.event_shape)}.")
        self.distribution = _mapped(law, torch.clone)
        self.space = Euclidean(math.prod(law.event_shape))
        like = next(_tensors(law), torch.empty(0))
        self.register_buffer("_anchor", like.detach().new_empty(0), persistent=False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        law, support = self.distribution, self.distribution.support
        z = x if law.event_shape else x[..., 0]
        if support is None:
            return law.log_prob(z)
        inside = support.check(z)
        home = transform_to(getattr(support, "base_constraint", support))(torch.zeros_like(z))
        log_p = law.log_prob(z.where(inside[..., None] if law.event_shape else inside, home))
        return log_p.where(inside, torch.full_like(log_p, -math.inf))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw("sample", shape, generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if not self.distribution.has_rsample:
            return super()._rsample(shape, context, generator)
        return self._draw("rsample", shape, generator)

    def _draw(self, verb: str, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        with drawing(generator):
            return getattr(self.distribution, verb)(shape).reshape(*shape, self.dim)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """torch's, where it knows one."""
        try:
            return self.distribution.entropy()
        except NotImplementedError:
            return super().entropy(context)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TorchDensity":
        self.distribution = _mapped(self.distribution, fn)
        return super()._apply(fn, recurse)


def to_torch(density: Density, context: Tensor | None = None) -> "DensityDistribution":
    """A density as a distribution of torch, for what takes those (pyro, `torch.distributions.kl`, mixtures of both).

    Args:
        density: of this library.
        context: one condition, or a batch of them, which is the batch_shape.

    >>> from geoflow import StandardNormal
    >>> to_torch(StandardNormal(2)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """
    return DensityDistribution(density, context)


class DensityDistribution(Distribution):
    """What `to_torch` makes: `log_prob`, `sample` and `rsample` of a density under one context."""

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch reads it off the class)
    has_rsample = True

    def __init__(self, density: Density, context: Tensor | None = None) -> None:
        if not isinstance(density, Density):
            raise TypeError(f"to_torch expects a Density, got {type(density).__name__}.")
        self.density, self.context = density, context
        batch = () if context is None else context.shape[: context.ndim - bool(density.context_dim)]
        super().__init__(torch.Size(batch), torch.Size((density.dim,)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        return constraints.independent(constraints.real, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.density.log_prob(value, self.context)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.density.sample(tuple(sample_shape), self.context)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.density.rsample(tuple(sample_shape), self.context)


def _mapped(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """A distribution with a function of each of its tensors in their place, and without checks of its own."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(v, fn) for v in value)
    if not isinstance(value, (Distribution, Transform)):
        return value
    new = copy.copy(value)
    for name, held in vars(value).items():
        new.__dict__[name] = _mapped(held, fn)
    if isinstance(new, Distribution):
        new._validate_args = False
    return new


def _tensors(value: Any) -> Iterator[Tensor]:
    found: list[Tensor] = []
    _mapped(value, lambda t: found.append(t) or t)  # type: ignore[func-returns-value]
    return (t for t in found if t.is_floating_point())
