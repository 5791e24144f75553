"""Auto-encoders of a space's points by networks that work in other coordinates, where they train better."""

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from geoflow.density import Context
from geoflow.maps import Autoencoder, Data, Latent
from geoflow.registry import register
from manifolds import Manifold, angles_to_embedded, embedded_to_angles


class Charted(Autoencoder):
    """x → coordinates → the auto-encoder inside → a point again, in both directions.

    Args:
        inside: an auto-encoder of the coordinates.
        dim: number of coordinates of the points.
    """

    def __init__(self, inside: Autoencoder, dim: int) -> None:
        super().__init__()
        self.inside, self.dim, self.latent_dim = inside, dim, dim
        self.context_dim, self.classes, self.posterior = inside.context_dim, inside.classes, None

    @abstractmethod
    def _coordinates(self, x: Tensor) -> Tensor:
        """Those of points."""

    @abstractmethod
    def _point(self, c: Tensor) -> Tensor:
        """The point with these coordinates, or the nearest to have any."""

    def _encode(self, x: Data, context: Context = None) -> Latent:
        return self._point(self.inside._encode(self._coordinates(x), context))

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return self._point(self.inside._decode(self._coordinates(z), context))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.inside.encoder_parameters()

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the parts inside on the coordinates."""
        self.inside.prepare(self._coordinates(x), context)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Finish the parts inside on the coordinates."""
        self.inside.finish(self._coordinates(x), context)


@register
class OnCircles(Charted):
    """Angles as pairs (cos, sin), so that nothing jumps where an angle comes round.

    Args:
        inside: of twice as many coordinates as there are angles.
    """

    def __init__(self, inside: Autoencoder) -> None:
        super().__init__(inside, inside.dim // 2)

    def _coordinates(self, x: Tensor) -> Tensor:
        return angles_to_embedded(x)

    def _point(self, c: Tensor) -> Tensor:
        return embedded_to_angles(c)


@register
class FromOrigin(Charted):
    """Points as tangent vectors at one of them, by `log` and `exp` there: for spaces in which these are one to one.

    Coordinates of the Poincaré ball crowd at its edge, and those of the hyperboloid grow by exponentials: errors of a
    network in them, small there, are many nats of the density far out. Reconstruction is measured in tangent vectors too.

    Args:
        inside: an auto-encoder in `space.dim` coordinates.
        space: with `exp` and `log`.
        origin: the point ``(ambient_dim,)``; None is the projection of zero.
    """

    origin: Tensor

    def __init__(self, inside: Autoencoder, space: Manifold, origin: Tensor | None = None) -> None:
        super().__init__(inside, space.ambient_dim)
        self.space = space
        origin = torch.zeros(space.ambient_dim) if origin is None else origin.detach().clone()
        self.register_buffer("origin", space._project(origin))

    def _coordinates(self, x: Tensor) -> Tensor:
        return self.space._coords(self.origin, self.space._log(self.origin.expand_as(x), x))

    def _point(self, c: Tensor) -> Tensor:
        v = c @ self.space._tangent_basis(self.origin).mT
        return self.space._exp(self.origin.expand_as(v), v)

    def residual(self, x: Tensor, xh: Tensor) -> Tensor:
        """The difference of the tangent vectors in orthonormal coordinates ``(*batch, space.dim)``."""
        return self._coordinates(xh) - self._coordinates(x)

    def residual_log_det(self) -> Tensor:
        raise NotImplementedError("FromOrigin has no volume of residuals: it differs from point to point.")
