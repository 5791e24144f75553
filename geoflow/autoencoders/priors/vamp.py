"""A prior that is the encoder's own aggregate of a few trained data points."""

from typing import Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.autoencoders.posteriors import Behind, Posterior, posterior_of
from geoflow.density import Context, Density
from geoflow.maps import Autoencoder
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

LOW, HIGH = 0.0, 1.0
"""Grey levels."""


@register
class VampPrior(Density):
    """p(z) = Σ_k w_k q(z | u_k): posteriors of the auto-encoder at pseudo-inputs u_k, which train with it. [tomczak2018]

    Behind a `Standardize` the u_k are learned in standardised units, so that steps do not depend on the data's.

    The best prior of the bound is the aggregated posterior 1/n Σ_i q(z | x_i); this is as near to it as K rows allow,
    and shares the encoder's weights. The encoder is that of the `LatentModel` it is given to. An evaluation encodes K
    rows, and takes K densities a code.

    Args:
        data_dim, latent_dim: numbers of coordinates of data and codes.
        components: K.
        weights: "uniform", or "learned".
        start: "rows" starts the u_k at training rows and a hundredth of noise; "noise" at N(.05, .01²), as for grey levels,
            in the units in which they are learned.
        bounded: clip the u_k to [0, 1]; one that a step carries beyond stays at the edge.

    Raises:
        NotImplementedError: no auto-encoder has taken it as prior yet.
    """

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        components: int = 500,
        weights: Literal["uniform", "learned"] = "uniform",
        start: Literal["rows", "noise"] = "rows",
        bounded: bool = False,
    ) -> None:
        super().__init__()
        if weights not in ("uniform", "learned"):
            raise ValueError(f"VampPrior expects weights='uniform' or 'learned', got {weights!r}.")
        if start not in ("rows", "noise"):
            raise ValueError(f"VampPrior expects start='rows' or 'noise', got {start!r}.")
        self.data_dim = validate.count(data_dim, "VampPrior", "data_dim", 1)
        self.latent_dim = validate.count(latent_dim, "VampPrior", "latent_dim", 1)
        self.components = validate.count(components, "VampPrior", "components", 1)
        self.weights, self.start, self.bounded = weights, start, bounded
        self.space = Euclidean(self.latent_dim)
        self.raw = nn.Parameter(0.05 + 0.01 * torch.randn(self.components, self.data_dim))
        self.logits = nn.Parameter(torch.zeros(self.components)) if weights == "learned" else None
        self._mixes: tuple[Autoencoder, ...] = ()

    def bind(self, autoencoder: Autoencoder) -> None:
        """Mix this auto-encoder's posteriors from now on; kept in a tuple, so that it is not saved and trained twice."""
        posterior = posterior_of(autoencoder)
        if posterior is None:
            raise TypeError(
                f"VampPrior mixes posteriors, and {type(autoencoder).__name__} has none: give it a stochastic encoder, "
                "Pair(None, decoder, GaussianPosterior(net, dim, latent), dim=, latent_dim=)."
            )
        if autoencoder.dim != self.data_dim:
            raise ValueError(f"VampPrior has pseudo-inputs of {self.data_dim} coordinates, the data {autoencoder.dim}.")
        self._mixes, self.space = (autoencoder,), posterior.space

    @property
    def pseudo(self) -> Tensor:
        """u ``(components, data_dim)``, in the data's units."""
        before = self._before()
        u = self.raw if before is None else before._decode(self.raw)
        return u.clamp(LOW, HIGH) if self.bounded else u

    def _before(self) -> Autoencoder | None:
        """What stands before the encoder and keeps the number of coordinates, as what standardises does."""
        posterior = posterior_of(self._mixes[0]) if self._mixes else None
        if isinstance(posterior, Behind) and posterior.before.latent_dim == self.data_dim:
            return posterior.before
        return None

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Start at rows of training data, if that was asked for."""
        if self.start == "rows":
            few = len(x) < self.components
            index = torch.randint(len(x), (self.components,)) if few else torch.randperm(len(x))[: self.components]
            noise = 0.01 * x.std(0, correction=0) * torch.randn_like(self.raw)
            start = x[index.to(x.device)] + noise
            start, before = start.clamp(LOW, HIGH) if self.bounded else start, self._before()
            self.raw.copy_(start if before is None else before._encode(start))

    def _mixed(self) -> tuple[Posterior, Tensor]:
        """The posterior, and its numbers ``(components, numbers)`` at the pseudo-inputs."""
        posterior = posterior_of(self._mixes[0]) if self._mixes else None
        if posterior is None:
            raise NotImplementedError(
                "VampPrior has no encoder yet: give it to a LatentModel, whose posteriors it mixes."
            )
        return posterior, posterior.numbers(self.pseudo)

    def log_weights(self) -> Tensor:
        """log w ``(components,)``."""
        raw = self.raw.new_zeros(self.components) if self.logits is None else self.logits
        return torch.log_softmax(raw, 0)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        posterior, theta = self._mixed()
        return torch.logsumexp(posterior.log_q(theta, x[..., None, :]) + self.log_weights(), -1)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        posterior, theta = self._mixed()
        n = torch.Size(shape).numel()
        weights = self.log_weights().exp()
        k = torch.multinomial(weights, n, True, generator=generator) if n else weights.new_zeros(0).long()
        return posterior.draw(theta[k], generator)[0].reshape(*shape, self.dim)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if self.logits is not None:
            raise NotImplementedError(
                "VampPrior has no differentiable sampling with learned weights: take weights='uniform', or sample()."
            )
        return self._sample(shape, context, generator)
