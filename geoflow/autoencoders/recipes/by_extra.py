"""Auto-encoders known by their penalties, masks or critics of their own, each a few words about `networks`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from geoflow.autoencoders.costs import Cost
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.divergences import KL
from geoflow.autoencoders.extras import (
    DataCritic,
    DecoderL2,
    EmbeddingNorm,
    JacobianNorm,
    LearnedSimilarity,
    LogJacobian,
    Masked,
    MaskedPrior,
    MaskPolarisation,
    MinibatchTotalCorrelation,
    Spectral,
    TotalCorrelation,
)
from geoflow.autoencoders.linked import Linked
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.priors import PushForward
from geoflow.autoencoders.recipes.basic import Kind, networks
from geoflow.autoencoders.terms import Term
from geoflow.density import Sampler
from geoflow.distributions import StandardNormal
from geoflow.maps import Autoencoder, Chain, Pair
from geoflow.nets import MLP


def factor_vae(
    dim: int,
    latent: int,
    *,
    gamma: float = 6.0,
    cost: Cost | Kind = "bernoulli",
    ratio: Sequence[int] = (256, 256, 256),
    **nets: Any,
) -> LatentModel:
    """FactorVAE: KL to the standard normal, and total correlation by a density ratio. [kim2018]

    Args:
        gamma: weight of the total correlation.
        ratio: widths of the ratio's network.
        dim, latent, cost, nets: as of `vae`.
    """
    autoencoder, own = networks(dim, latent, cost=cost, **nets)
    extra = TotalCorrelation(MLP(latent, 1, ratio), gamma)
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=KL(), extras=[extra])


def beta_tcvae(
    dim: int, latent: int, rows: int, *, beta: float = 6.0, cost: Cost | Kind = "bernoulli", **nets: Any
) -> LatentModel:
    """β-TCVAE: KL, of which the share that is total correlation counts β times. [chen2018]

    Args:
        rows: number of training rows.
        beta: β, at least one.
        dim, latent, cost, nets: as of `vae`.
    """
    autoencoder, own = networks(dim, latent, cost=cost, **nets)
    extra = MinibatchTotalCorrelation(rows, beta - 1)
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=KL(), extras=[extra])


def vae_gan(
    dim: int, latent: int, *, features: Sequence[int] = (256, 64), weight: float = 1.0, **nets: Any
) -> LatentModel:
    """VAE/GAN: reconstructions are measured in the features of a critic of decoded data. [larsen2016]

    Args:
        features: widths of the critic's network up to the features, the last their number.
        weight: of the answer to the critic.
        dim, latent, nets: as of `vae`.
    """
    autoencoder, own = networks(dim, latent, **{**nets, "cost": LearnedSimilarity()})
    *hidden, width = features
    extra = DataCritic(MLP(dim, width, hidden), MLP(width, 1, (width,)), weight)
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=KL(), extras=[extra])


def rae(
    dim: int,
    latent: int,
    *,
    kind: Literal["l2", "gp", "sn", "none"] = "l2",
    embedding: float | None = None,
    weight: float | None = None,
    cost: Cost | Kind = "square",
    **nets: Any,
) -> LatentModel:
    """Regularized auto-encoder: no divergence, codes and decoder held back instead; then `fit_prior`. [ghosh2020]

    Before a prior is fitted, the standard normal stands in its place and is none.

    Args:
        kind: how the decoder is held back: |θ_D|², |J_D|², spectral norms, or not.
        embedding: weight of ½ |z|²; None is the reference's for MNIST, `dim` times larger beside a sum over coordinates, but
            for "sn" 1e-6, by held-out digits: layers of norm one draw with large codes only, and with the reference's 9e-3
            perceptrons decoded everything to the mean.
        weight: of |θ_D|² or |J_D|²; None likewise.
        dim, latent, cost, nets: as of `wae_mmd`.
    """
    if kind not in PENALTIES:
        raise ValueError(f"rae expects a kind of {', '.join(PENALTIES)}; got {kind!r}.")
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    autoencoder = _inside(autoencoder, _spectral) if kind == "sn" else autoencoder
    published, penalty, strength = PENALTIES[kind]
    extras: list[Term] = [EmbeddingNorm(published * dim if embedding is None else embedding)]
    extras += [] if penalty is None else [penalty(strength * dim if weight is None else weight)]
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=(), extras=extras)


PENALTIES: dict[str, tuple[float, type[DecoderL2 | JacobianNorm] | None, float]] = {
    "l2": (1e-4, DecoderL2, 1e-7),
    "gp": (1e-4, JacobianNorm, 5e-8),
    "sn": (1e-6, None, 0.0),
    "none": (5e-4, None, 0.0),
}
"""Of each kind of `rae` the weight of ½ |z|², the penalty of the decoder and its weight, beside a cost a coordinate."""


def injective(
    dim: int,
    latent: int,
    *,
    weight: float = 0.03,
    probes: int | None = None,
    cost: Cost | Kind = "square",
    **nets: Any,
) -> LatentModel:
    """Injective flow, relaxed: −log p of the change of variables, its volume bounded by |J_D|². [kumar2020]

    Args:
        weight: of ½ |z|² + (m/2) ln(tr JᵀJ / m) beside the cost; the default is of handwritten digits, grey levels in
            [0, 1]. With 1 their volume is worth more than they are, and everything decodes to the mean.
        probes: of `LogJacobian`.
        dim, latent, cost, nets: as of `wae_mmd`.
    """
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    extras = [EmbeddingNorm(weight), LogJacobian(weight, probes)]
    return LatentModel(autoencoder, StandardNormal(latent), cost=own, divergence=(), extras=extras)


def maskaae(
    dim: int,
    latent: int,
    *,
    cost: Cost | Kind = "bernoulli",
    critic: Sequence[int] = (256, 256),
    every: int | None = None,
    **nets: Any,
) -> LatentModel:
    """MaskAAE: an adversarial auto-encoder that closes latent dimensions; see `MaskPolarisation`. [mondal2020]

    The reference trains 5e5 steps of 64 rows with a learning rate of 5e-4, of which critic and encoder in its turn take a
    fifth. The networks are Adam's here, not RMSProp's, and the mask has a schedule that fits itself to the steps of `fit`,
    which trains to the end.

    Args:
        cost: its weights are made for a Bernoulli cost; those of others are in their own units.
        critic: widths of its network.
        every: steps between doublings of the mask's pressure; None has it end with the run.
        dim, latent, nets: as of `wae_gan`.
    """
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    autoencoder = _inside(autoencoder, Masked)
    divergence = Critic(MLP(latent, 1, critic), "wgan-gp", rate=0.2, apart=0.2)
    prior, extras = MaskedPrior(StandardNormal(latent)), [MaskPolarisation(every)]
    return LatentModel(autoencoder, prior, cost=own, divergence=divergence, extras=extras)


def flexae(
    dim: int,
    latent: int,
    *,
    prior: Sampler | None = None,
    cost: Cost | Kind = "square",
    critic: Sequence[int] = (1024, 1024, 1024, 1024),
    **nets: Any,
) -> LatentModel:
    """FlexAE: prior and codes meet under a critic, and the prior makes most of the way. [mondal2021]

    The reference trains with a learning rate of 2e-4, the prior with the same, the critic with half of it, and the encoder
    in its turn against the critic with a twentieth: that rate is the weight of the divergence.

    Args:
        prior: with parameters and differentiable draws; None is `PushForward` by a network as wide as the critic.
        critic: widths of its network.
        dim, latent, cost, nets: as of `wae_gan`.
    """
    autoencoder, own = networks(dim, latent, **{"stochastic": False, **nets, "cost": cost})
    prior = PushForward(MLP(latent, latent, critic), latent, latent) if prior is None else prior
    divergence = Critic(MLP(latent, 1, critic), "wgan-gp", rate=0.5, apart=0.05)
    return LatentModel(autoencoder, prior, cost=own, divergence=divergence)


def _inside(autoencoder: Autoencoder, change: Callable[[Any], Autoencoder]) -> Autoencoder:
    """With its networks changed, and what stands around them kept."""
    if isinstance(autoencoder, Linked):
        return Linked(_inside(autoencoder.autoencoder, change), autoencoder.link)
    if isinstance(autoencoder, Chain):
        *before, last = autoencoder.parts
        return Chain(*before, _inside(last, change))  # type: ignore[arg-type]
    return change(autoencoder)


def _spectral(pair: Pair) -> Pair:
    decoder = Spectral(pair.decoder)
    return Pair(pair.encoder, decoder, pair.posterior, dim=pair.dim, latent_dim=pair.latent_dim)
