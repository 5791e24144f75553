"""Stochastic encoders: densities of codes given data, q(z | x)."""

from abc import abstractmethod

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, Sampler
from geoflow.distributions import DiagonalNormal, StandardNormal
from geoflow.distributions.normals import LOG_2PI
from geoflow.maps import Autoencoder, Bijection, Chain
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

STEEP = 7.0
"""Bound of log deviations: e⁻⁷ to e⁷."""


class Posterior(Density):
    """q(z | x), whose numbers θ(x) a network gives in one pass: what a batch needs of it is computed from these."""

    @abstractmethod
    def numbers(self, x: Tensor) -> Tensor:
        """θ(x) ``(*batch, numbers)``."""

    @abstractmethod
    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """z ``(*batch, dim)``, differentiable in θ, and log q(z | x) ``(*batch)``."""

    @abstractmethod
    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        """log q(z | x) ``(*batch)``."""

    @abstractmethod
    def center(self, theta: Tensor) -> Tensor:
        """The code that stands for all: its mean where that is known."""

    def kl(self, theta: Tensor, prior: Sampler) -> Tensor | None:
        """KL(q(· | x) ‖ prior) ``(*batch)`` where there is a closed form; None elsewhere."""
        return None

    def location(self, x: Tensor) -> Tensor:
        """The code that `encode` gives, ``(*batch, dim)``."""
        return self.center(self.numbers(x))

    def _given(self, context: Context) -> Tensor:
        assert context is not None, "the door asks for it: context_dim is the data's dim"
        return self.numbers(context)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return self.log_q(self._given(context), x)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample_and_log_prob(shape, context, generator)[0]

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        theta = self._given(context)
        return self.draw(theta.expand(*shape, theta.shape[-1]), generator)


def widths(numbers: Tensor, wanted: int, who: str) -> Tensor:
    """What a network gave for each row, if it is as many numbers as a posterior reads; halves of others fit by chance."""
    if numbers.shape[-1] != wanted:
        raise ValueError(f"{who} expects a network with {wanted} outputs, got {numbers.shape[-1]} numbers a row.")
    return numbers


@register
class GaussianPosterior(Posterior):
    """q(z | x) = N(μ(x), diag s²(x)): a network gives μ and log s, bounded smoothly by ±7. [kingma2014]

    Args:
        net: data ``(*batch, context_dim)`` → ``(*batch, 2 · latent_dim)``: μ, then log s.
        context_dim, latent_dim: numbers of coordinates of data and codes.
    """

    def __init__(self, net: nn.Module, context_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.context_dim = validate.count(context_dim, "GaussianPosterior", "context_dim", 1)
        self.latent_dim = validate.count(latent_dim, "GaussianPosterior", "latent_dim", 1)
        self.space = Euclidean(self.latent_dim)
        self.net = net

    def numbers(self, x: Tensor) -> Tensor:
        mean, raw = widths(self.net(x), 2 * self.latent_dim, "GaussianPosterior").chunk(2, -1)
        return torch.cat([mean, STEEP * torch.tanh(raw / STEEP)], -1)

    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        mean, log_std = theta.chunk(2, -1)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        log_q = -0.5 * (noise * noise).sum(-1) - log_std.sum(-1) - 0.5 * self.dim * LOG_2PI
        return torch.addcmul(mean, log_std.exp(), noise), log_q

    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        mean, log_std = theta.chunk(2, -1)
        off = (z - mean) * (-log_std).exp()
        return -0.5 * (off * off).sum(-1) - log_std.sum(-1) - 0.5 * self.dim * LOG_2PI

    def center(self, theta: Tensor) -> Tensor:
        return theta.chunk(2, -1)[0]

    def deviation(self, x: Tensor) -> Tensor:
        """s(x) ``(*batch, latent_dim)``."""
        return self.numbers(x).chunk(2, -1)[1].exp()

    def kl(self, theta: Tensor, prior: Sampler) -> Tensor | None:
        """½ Σ (μ² + s² − 1 − log s²) for the standard normal, and its like for a diagonal one."""
        mean, log_std = theta.chunk(2, -1)
        if isinstance(prior, DiagonalNormal):
            mean = (mean - prior.mean) * (-prior.log_std).exp()
            log_std = log_std - prior.log_std
        elif not isinstance(prior, StandardNormal):
            return None
        return 0.5 * (mean * mean + torch.expm1(2 * log_std)).sum(-1) - log_std.sum(-1)


@register
class FlowPosterior(Posterior):
    """Draws of another posterior, carried on by a bijection: z = decode(z₀), log q(z) = log q₀(z₀) − log|det ∂z/∂z₀|.

    With an inverse autoregressive layer (`Inverse` of a masked autoregressive one) this is IAF; with couplings a normal
    one. The bijection is the same for all data. [kingma2016]

    Args:
        bijection: codes → z₀; without context.
        start: q₀(z₀ | x).
    """

    def __init__(self, bijection: Bijection, start: Posterior) -> None:
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise TypeError(
                f"FlowPosterior expects a bijection, got {type(bijection).__name__}: that of a Flow is flow.bijection."
            )
        if bijection.context_dim or bijection.classes:
            raise ValueError(
                "FlowPosterior expects a bijection without context: the data reach it by where codes start."
            )
        if bijection.dim != start.dim:
            raise ValueError(f"FlowPosterior: the bijection has {bijection.dim} coordinates, the codes {start.dim}.")
        self.context_dim, self.space = start.context_dim, start.space
        self.bijection, self.start = bijection, start

    def numbers(self, x: Tensor) -> Tensor:
        return self.start.numbers(x)

    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        first, log_q = self.start.draw(theta, generator)
        z, log_det = self.bijection._decode_and_log_det(first)
        return z, log_q - log_det

    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        first, log_det = self.bijection._encode_and_log_det(z)
        return self.start.log_q(theta, first) + log_det

    def center(self, theta: Tensor) -> Tensor:
        """What the center of q₀ is carried to: near the mean, and not it."""
        return self.bijection._decode(self.start.center(theta))


class Behind(Posterior):
    """The posterior of a chain: another one, at data that went through the chain's earlier parts."""

    def __init__(self, before: Autoencoder, inside: Posterior) -> None:
        super().__init__()
        self.before, self.inside = before, inside
        self.space, self.context_dim = inside.space, before.dim

    def numbers(self, x: Tensor) -> Tensor:
        return self.inside.numbers(self.before._encode(x))

    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        return self.inside.draw(theta, generator)

    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        return self.inside.log_q(theta, z)

    def center(self, theta: Tensor) -> Tensor:
        return self.inside.center(theta)

    def kl(self, theta: Tensor, prior: Sampler) -> Tensor | None:
        return self.inside.kl(theta, prior)


def posterior_of(autoencoder: Autoencoder) -> Posterior | None:
    """The stochastic encoder of an auto-encoder, of a chain that of its last part; None of a deterministic one."""
    if isinstance(autoencoder, Chain) and len(autoencoder.parts) > 1:
        *before, last = autoencoder.parts
        inside = posterior_of(last)  # type: ignore[arg-type]
        return None if inside is None else Behind(Chain(*before), inside)  # type: ignore[arg-type]
    found = autoencoder.posterior
    return found if isinstance(found, Posterior) else None
