"""A prior that a network makes of noise."""

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.autoencoders.divergences import imq
from geoflow.density import Context, Sampler, reference
from geoflow.registry import register
from manifolds import Euclidean


@register
class PushForward(Sampler):
    """z = G(n), n ~ N(0, I): any law that a network reaches, also on a set of lower dimension, without a density.

    For divergences that need draws alone, as `MMD` and `Critic`; `KL` refuses it. Trained on its own (by `fit_prior`) it
    lowers the `MMD` between its draws and the codes.

    Args:
        net: G, noise ``(*batch, noise_dim)`` → codes ``(*batch, latent_dim)``.
        noise_dim, latent_dim: numbers of coordinates.
    """

    def __init__(self, net: nn.Module, noise_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.noise_dim = validate.count(noise_dim, "PushForward", "noise_dim", 1)
        self.latent_dim = validate.count(latent_dim, "PushForward", "latent_dim", 1)
        self.space = Euclidean(self.latent_dim)
        self.net = net

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        like = reference(self)
        noise = torch.randn(
            *shape,
            self.noise_dim,
            generator=generator,
            dtype=None if like is None else like.dtype,
            device=None if like is None else like.device,
        )
        return self.net(noise)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """`MMD` between rows and as many draws."""
        if weight is not None:
            raise ValueError("PushForward: its loss is a figure of whole batches, so rows cannot have weights.")
        return {"loss": imq(x, self._rsample((len(x),), None, None))}

    @torch.no_grad()
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """`MMD` between rows and as many draws, 2,000 at most."""
        rows = x[:2000]
        like = Generator(device=rows.device).manual_seed(0)
        return {"loss": float(imq(rows, self._sample((len(rows),), None, like)))}
