"""Whole models in one line, each a paper's: an auto-encoder of plain networks, a prior, a cost and a divergence."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from geoflow import validate
from geoflow.autoencoders.costs import Bernoulli, Cost, Gaussian, Multinomial, Square
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.divergences import KL, MMD
from geoflow.autoencoders.linked import Linked
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.posteriors import GaussianPosterior, Posterior
from geoflow.columns import Standardize
from geoflow.density import Sampler
from geoflow.distributions import StandardNormal
from geoflow.maps import Autoencoder, Chain, Pair
from geoflow.nets import MLP

Kind = Literal["bernoulli", "gaussian", "square", "multinomial"]
COSTS: dict[str, type[Cost]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "square": Square,
    "multinomial": Multinomial,
}
LINKS: dict[str, Literal["sigmoid", "softmax"]] = {"bernoulli": "sigmoid", "multinomial": "softmax"}


def networks(
    dim: int,
    latent: int,
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "relu",
    stochastic: bool = True,
    cost: Cost | Kind = "gaussian",
    standardize: bool = False,
    posterior: Callable[[nn.Module, int, int], Posterior] = GaussianPosterior,
    outputs: int | None = None,
    decoder: nn.Module | None = None,
) -> tuple[Autoencoder, Cost]:
    """An auto-encoder of two perceptrons, ended by what its cost asks for, and the cost.

    Args:
        dim, latent: numbers of coordinates of data and codes.
        hidden, activation: of the encoder; the decoder is its mirror.
        stochastic: whether the encoder has a posterior.
        cost: by name, or one of your own: a `Bernoulli` decoder ends in a sigmoid, a `Multinomial` one in a softmax.
        standardize: columns first, each by its own mean and deviation; not before a Bernoulli cost.
        posterior: makes one of the encoder's network, `dim` and `latent`.
        outputs: of that network; None is two for each code.
        decoder: in the place of a perceptron.
    """
    dim, latent = validate.count(dim, "networks", "dim", 1), validate.count(latent, "networks", "latent", 1)
    if not isinstance(hidden, Sequence):
        raise TypeError(f"networks expects hidden as widths, one a layer, such as (256, 256); got {hidden!r}.")
    kind = cost if isinstance(cost, str) else next((k for k, c in COSTS.items() if isinstance(cost, c)), "")
    if isinstance(cost, str):
        if cost not in COSTS:
            raise ValueError(f"expected a cost of {', '.join(COSTS)}, or one of geoflow.autoencoders; got {cost!r}.")
        cost = COSTS[cost]()
    if standardize and kind in LINKS:
        raise ValueError(f"a {kind} cost is of the data as they are: leave standardize out.")
    decoder = MLP(latent, dim, hidden[::-1], activation) if decoder is None else decoder
    encoder = MLP(dim, (outputs or 2 * latent) if stochastic else latent, hidden, activation)
    pair: Autoencoder
    if stochastic:
        pair = Pair(None, decoder, posterior(encoder, dim, latent), dim=dim, latent_dim=latent)
    else:
        pair = Pair(encoder, decoder, dim=dim, latent_dim=latent)
    pair = Linked(pair, LINKS[kind]) if kind in LINKS else pair
    return (Chain(Standardize(dim), pair) if standardize else pair), cost


def vae(
    dim: int,
    latent: int,
    *,
    cost: Cost | Kind = "bernoulli",
    weight: float = 1.0,
    prior: Sampler | None = None,
    free_bits: float = 0.0,
    **nets: Any,
) -> LatentModel:
    """Variational auto-encoder: a Gaussian posterior, KL to the prior. [kingma2014]

    Args:
        dim, latent: numbers of coordinates of data and codes.
        cost: "bernoulli" for grey levels in [0, 1], "gaussian" with a learned deviation [dai2019], "multinomial", or one
            built by hand.
        weight: β of the β-VAE; its meaning depends on the cost's scale. [higgins2017]
        prior: any density of codes: a flow, a mixture, a `VampPrior`; None is the standard normal.
        free_bits: of `KL`.
        nets: of `networks`.

    >>> vae(4, 2, cost="gaussian").sample(3).shape
    torch.Size([3, 4])
    """
    autoencoder, own = networks(dim, latent, cost=cost, **nets)
    return LatentModel(autoencoder, _normal(prior, latent), cost=own, divergence=KL(free_bits), weight=weight)


def info_vae(
    dim: int, latent: int, *, alpha: float = 0.0, lam: float = 10.0, cost: Cost | Kind = "bernoulli", **nets: Any
) -> LatentModel:
    """InfoVAE: (1 − α) KL(q(z | x) ‖ p) + (α + λ − 1) MMD(q_Z, p). [zhao2019]

    Args:
        alpha, lam: α and λ; α + λ below one would raise the MMD, and is refused.
        dim, latent, cost, nets: as of `vae`.
    """
    autoencoder, own = networks(dim, latent, cost=cost, **nets)
    weights = (1 - alpha, alpha + lam - 1)
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=(KL(), MMD()), weight=weights)


def wae_mmd(
    dim: int,
    latent: int,
    *,
    weight: float = 200.0,
    cost: Cost | Kind = "square",
    prior: Sampler | None = None,
    **nets: Any,
) -> LatentModel:
    """Wasserstein auto-encoder: a deterministic encoder whose codes are brought to the prior by MMD. [tolstikhin2018]

    Args:
        weight: of the MMD beside Σ (x − decode(z))²; 200 is the reference's 10 beside .05 Σ.
        dim, latent, cost, prior, nets: as of `vae`.
    """
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    return LatentModel(autoencoder, _normal(prior, latent), cost=own, divergence=MMD(), weight=weight)


def wae_gan(
    dim: int,
    latent: int,
    *,
    weight: float = 1.0,
    cost: Cost | Kind = "square",
    prior: Sampler | None = None,
    critic: Sequence[int] = (512, 512, 512, 512),
    rate: float = 0.5,
    **nets: Any,
) -> LatentModel:
    """Wasserstein auto-encoder with a critic of codes. [tolstikhin2018] With a stochastic encoder, `aae`.

    Args:
        critic: widths of its network.
        rate: its learning rate as a multiple of the model's.
        dim, latent, weight, cost, prior, nets: as of `wae_mmd`.
    """
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    divergence = Critic(MLP(latent, 1, critic), "gan", rate=rate)
    return LatentModel(autoencoder, _normal(prior, latent), cost=own, divergence=divergence, weight=weight)


def aae(dim: int, latent: int, *, cost: Cost | Kind = "bernoulli", **options: Any) -> LatentModel:
    """Adversarial auto-encoder: a Gaussian posterior, and a critic in the place of KL. [makhzani2016]

    Args:
        dim, latent, cost, options: as of `wae_gan`.
    """
    return wae_gan(dim, latent, cost=cost, **{"stochastic": True, **options})


def _normal(prior: Sampler | None, latent: int) -> Sampler:
    return StandardNormal(latent) if prior is None else prior
