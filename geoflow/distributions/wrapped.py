"""Any density of a flat space, pushed onto a curved one along the geodesics from a point."""

from typing import Any

import torch
from torch import Generator, Tensor

from geoflow.density import Context, Density, Player, reference, weighted_mean
from geoflow.distributions.curvature import Radial, radial
from geoflow.distributions.parameters import points
from geoflow.registry import register
from manifolds import Euclidean, Manifold
from manifolds.shapes import Points, Values


@register
class WrappedDensity(Density):
    """x = exp_origin(v), with the coordinates of v in an orthonormal basis drawn from a density on ℝⁿ.

    log p(x) = log q(v) − log |det d exp at v|, which is (n − 1) log(sinh √c r/(√c r)) on a hyperbolic space of curvature
    −c, r = |v|, and 0 on a flat one. There exp is one to one, so that the mass is that of q; elsewhere it is not, and the
    space is refused. So a mixture or a flow of the plane becomes a density on the hyperbolic plane. [nagano2019]

    What is learned is q: its training is that of q on the coordinates of the logarithms, since the volume does not
    depend on its parameters.

    Args:
        density: q, on `Euclidean(n)`.
        space: a hyperbolic or flat space of dimension n.
        origin: a point of it; by default the projection of zero.

    >>> from geoflow import StandardNormal
    >>> from manifolds import PoincareBall
    >>> WrappedDensity(StandardNormal(2), PoincareBall(2)).log_prob(torch.zeros(2))  # -log 2π
    tensor(-1.8379)
    """

    origin: Tensor

    def __init__(self, density: Density, space: Manifold, origin: Any = None) -> None:
        super().__init__()
        if not isinstance(density, Density):
            raise TypeError(f"WrappedDensity expects a density, which has a log_prob, got {type(density).__name__}.")
        known = radial(space) if isinstance(space, Manifold) else None
        if known is None or known.reach != float("inf"):
            raise ValueError(
                f"WrappedDensity expects a hyperbolic or flat space, where exp is one to one, got {space!r}: use "
                "WrappedNormal(space, mean, std), or a free-form flow."
            )
        if density.space != Euclidean(space.dim):
            raise ValueError(
                f"WrappedDensity on {space!r} expects a density on {Euclidean(space.dim)!r}, got one on "
                f"{density.space!r}."
            )
        like = reference(density)
        if origin is None:
            origin = space.project(torch.zeros(space.ambient_dim))
        origin = points(space, origin, "WrappedDensity", "origin")
        if origin.ndim > 1:
            raise ValueError(f"WrappedDensity expects one `origin`, got a batch of shape {tuple(origin.shape)}.")
        self.space, self.density = space, density
        self.context_dim, self.classes = density.context_dim, density.classes
        self.register_buffer("origin", origin if like is None else origin.to(like))

    @property
    def _radial(self) -> Radial:
        known = radial(self.space)
        assert known is not None
        return known

    def _flat(self, x: Points) -> Tensor:
        """Coordinates ``(*batch, n)`` of the logarithm of x."""
        return self.space._coords(self.origin, self.space._log(self.origin, x))

    def _curved(self, v: Tensor) -> Tensor:
        return self.space._exp(self.origin, (self.space._tangent_basis(self.origin) @ v[..., None])[..., 0])

    def _log_det(self, v: Tensor) -> Tensor:
        return self._radial.log_det((v * v).sum(-1))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        v = self._flat(x)
        return self.density._log_prob(v, context) - self._log_det(v)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._curved(self.density._sample(shape, context, generator))

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._curved(self.density._rsample(shape, context, generator))

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        v, log_q = self.density._rsample_and_log_prob(shape, context, generator)
        return self._curved(v), log_q - self._log_det(v)

    # -- training is q's ------------------------------------------------------------------------------------------

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        v = self._flat(x)
        terms = self.density.loss(v, context, weight=weight, player=player)
        return terms | {"loss": terms["loss"] + weighted_mean(self._log_det(v), weight)}

    def players(self) -> list[Player]:
        return self.density.players()

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """q on the coordinates of the logarithms."""
        self.density.prepare(self._flat(x), context)

    def schedule(self, step: int, steps: int) -> None:
        self.density.schedule(step, steps)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        self.density.finish(self._flat(x), context)
