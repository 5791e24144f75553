"""Auto-encoders known by their priors or posteriors, each a few words about `vae`."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from geoflow.autoencoders.costs import Bernoulli, Cost, Gaussian, Multinomial
from geoflow.autoencoders.dirichlet import DirichletPosterior, softmax_normal
from geoflow.autoencoders.divergences import KL
from geoflow.autoencoders.kumaraswamy import KumaraswamyPosterior
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.posteriors import FlowPosterior, GaussianPosterior
from geoflow.autoencoders.priors import RatioPrior, ResampledPrior, StickBreaking, VampPrior
from geoflow.autoencoders.recipes.basic import Kind, networks, vae
from geoflow.autoencoders.topics import OfShares, Topics
from geoflow.density import Density
from geoflow.distributions import Dirichlet, GaussianMixture, StandardNormal
from geoflow.maps import Bijection
from geoflow.nets import MLP

BOTH = (100, 100)
"""Widths of networks that judge codes."""


def vampprior(
    dim: int,
    latent: int,
    *,
    components: int = 500,
    weights: Literal["uniform", "learned"] = "uniform",
    start: Literal["rows", "noise"] = "rows",
    cost: Cost | Kind = "bernoulli",
    **options: Any,
) -> LatentModel:
    """A VAE whose prior is the mean of the encoder's posteriors at trained pseudo-inputs. [tomczak2018]

    Args:
        dim, latent, cost, options: as of `vae`.
        components, weights, start: of `VampPrior`; pseudo-inputs are clipped to [0, 1] if the cost is "bernoulli".
    """
    prior = VampPrior(
        dim, latent, components, weights, start, bounded=cost == "bernoulli" or isinstance(cost, Bernoulli)
    )
    return vae(dim, latent, cost=cost, prior=prior, **options)


def resampled(
    dim: int, latent: int, *, accept: Sequence[int] = BOTH, truncation: int = 100, draws: int = 1024, **options: Any
) -> LatentModel:
    """A VAE whose prior accepts draws of a standard normal by a learned network: LARS. [bauer2019]

    Args:
        dim, latent, options: as of `vae`.
        accept: widths of the network; truncation, draws: of `ResampledPrior`.
    """
    prior = ResampledPrior(StandardNormal(latent), MLP(latent, 1, accept, "tanh"), truncation, draws)
    return vae(dim, latent, prior=prior, **options)


def implicit_optimal(dim: int, latent: int, *, critic: Sequence[int] = BOTH, **options: Any) -> LatentModel:
    """A VAE whose prior is a standard normal times the ratio to it that a critic of codes finds. [takahashi2019]

    Codes are held at deviation one (see there), and the critic is of tanh: beyond the codes and the base's draws a ratio of
    relu goes on rising, codes follow it out to where there is nothing to compare them with, and neither the prior's constant
    nor its draws see them there.

    Args:
        dim, latent, options: as of `vae`.
        critic: widths of its network.
    """
    prior = RatioPrior(StandardNormal(latent), MLP(latent, 1, critic, "tanh"), hold=True)
    return vae(dim, latent, prior=prior, **options)


def stick_breaking(
    dim: int, count: int, *, concentration: float = 5.0, hidden: Sequence[int] = (256, 256), **options: Any
) -> LatentModel:
    """A VAE whose codes are shares of a broken stick, Kumaraswamy posteriors against a Dirichlet process. [nalisnick2017]

    Args:
        dim: number of coordinates of data.
        count: number of shares that the decoder is shown; codes are the logits of one fewer.
        concentration: of `StickBreaking`.
        hidden, options: as of `vae`.
    """
    given: dict[str, Any] = {
        "posterior": KumaraswamyPosterior,
        "decoder": OfShares(MLP(count, dim, hidden[::-1]), "sticks", centered=True),
    }
    prior = StickBreaking(count, concentration)
    return vae(dim, count - 1, prior=prior, hidden=hidden, **given, **options)


def gmvae(
    dim: int,
    latent: int,
    *,
    components: int = 10,
    covariance: Literal["full", "diagonal"] = "diagonal",
    **options: Any,
) -> LatentModel:
    """A VAE whose prior is a trained mixture of Gaussians; `responsibilities` then tells classes. [dilokthanakul2016]

    Args:
        dim, latent, options: as of `vae`.
        components, covariance: of the mixture.
    """
    return vae(dim, latent, prior=GaussianMixture(latent, components, covariance), **options)


def dirichlet_vae(
    dim: int,
    count: int,
    *,
    concentration: float | Sequence[float] = 0.9,
    kind: Literal["dirichlet", "softmax-gaussian"] = "dirichlet",
    moments: Literal["exact", "laplace"] = "exact",
    total: float = 100.0,
    decoder: nn.Module | None = None,
    **options: Any,
) -> LatentModel:
    """A VAE of histograms whose codes are shares of topics: rows that sum to one, a multinomial cost. [dillon2021]

    Args:
        dim, count: numbers of words (or pixels) and of topics.
        concentration: of the Dirichlet, one for all topics or one for each.
        kind: "dirichlet" has such posteriors and prior; in "softmax-gaussian" codes are normal, and shares their softmax.
        moments: of `softmax_normal`, the prior of that kind; "laplace" is the papers'.
        total: of `Multinomial`: how much a row says.
        decoder: shares → logits; None is `Topics`, whose columns are the topics.
        options: as of `vae`.
    """
    a = [float(concentration)] * count if isinstance(concentration, (int, float)) else list(map(float, concentration))
    topics, cost = Topics(count, dim) if decoder is None else decoder, Multinomial(total)
    if kind == "dirichlet":
        prior = Dirichlet(a).requires_grad_(False)
        given: dict[str, Any] = {"posterior": DirichletPosterior, "outputs": count, "decoder": topics}
        return vae(dim, count, cost=cost, prior=prior, **given, **options)
    if kind != "softmax-gaussian":
        raise ValueError(f"dirichlet_vae expects kind='dirichlet' or 'softmax-gaussian', got {kind!r}.")
    return vae(dim, count, cost=cost, prior=softmax_normal(a, moments), decoder=OfShares(topics), **options)


def hierarchical(dim: int, latent: int, *, top: int, draws: int = 16, **options: Any) -> LatentModel:
    """A VAE whose prior is another VAE of its codes, trained with it by a bound of several draws. [klushyn2019]

    Of the paper this is the model and its bound; the constraint on reconstructions by which it is trained there is left
    out, the learned deviation of the "gaussian" cost standing in its place. The inner model's noise has deviation one, which
    is no restriction, for codes have whatever scale the outer networks give them, and its decoder starts at zero: the prior
    starts as the standard normal. (With a learned deviation nothing holds the scale of codes. It ran off, to ten and more,
    and coordinates of the codes were given up on the way.)

    Args:
        dim, latent: numbers of coordinates of data and codes.
        top: number of coordinates of the codes' codes.
        draws: of them, for each KL.
        options: as of `networks`, and `cost`.
    """
    autoencoder, cost = networks(dim, latent, **options)
    hidden = options.get("hidden", (256, 256))
    decoder = MLP(top, latent, hidden[::-1], zero_last=True)
    prior = vae(latent, top, cost=Gaussian(1.0), hidden=hidden, decoder=decoder)
    return LatentModel(autoencoder, prior, cost=cost, divergence=KL(draws=draws))


def flow_vae(
    dim: int, latent: int, *, prior: Density | None = None, posterior: Bijection | None = None, **options: Any
) -> LatentModel:
    """A VAE with a flow as prior, or as posterior, or both.

    Args:
        dim, latent, options: as of `vae`.
        prior: as `geoflow.flows.realnvp(latent)`, trained with the rest.
        posterior: what carries the draws of a `GaussianPosterior` on: `Inverse` of an autoregressive layer is an inverse
            autoregressive flow. [kingma2016]
    """

    def carried(net: nn.Module, data: int, codes: int) -> FlowPosterior:
        assert posterior is not None
        return FlowPosterior(posterior, GaussianPosterior(net, data, codes))

    given: dict[str, Any] = {} if posterior is None else {"posterior": carried}
    return vae(dim, latent, prior=prior, **given, **options)
