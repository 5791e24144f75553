"""Classes of a user's own, as CONTRIBUTING says to write them: a posterior of auto-encoders, and an auto-encoder."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from geoflow import Autoencoder, Density, register
from geoflow.density import Context
from geoflow.nets import MLP
from manifolds import Euclidean
from manifolds.shapes import Points, Values


@register
class OwnPosterior(Density):
    """z | x ~ N(location(x), diag scale(x)²), both from one network of the context x."""

    def __init__(self, dim: int, context_dim: int, hidden: Sequence[int] = (16,)) -> None:
        super().__init__()
        self.space, self.context_dim, self.hidden = Euclidean(dim), context_dim, tuple(hidden)
        self.net = MLP(context_dim, 2 * dim, hidden, "silu")

    def location(self, x: Tensor) -> Tensor:
        return self.net(x).chunk(2, -1)[0]

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        location, log_std = self.net(context).chunk(2, -1)
        z = (x - location) * torch.exp(-log_std)
        return -0.5 * ((z * z).sum(-1) + self.dim * math.log(2 * math.pi)) - log_std.sum(-1)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        location, log_std = self.net(context).chunk(2, -1)
        noise = torch.randn(*shape, self.dim, generator=generator, dtype=location.dtype, device=location.device)
        return location + noise * log_std.exp()

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)


@register
class Stretch(Autoencoder):
    """x ↦ Ax/|Ax| on a sphere, and back by the inverse matrix: a density with a closed form."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.as_tensor(matrix))
        self.dim = self.latent_dim = len(self.matrix)
        self.posterior = None

    def _encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.matrix.T

    def _decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.linalg.solve(self.matrix, z[..., None])[..., 0]
