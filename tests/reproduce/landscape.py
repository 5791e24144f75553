"""The models of the landscape: one auto-encoder of plain networks, every divergence and prior of the table."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from geoflow import GaussianMixture
from geoflow.autoencoders import DirichletPosterior, Gaussian, LatentModel, fit_prior, recipes
from geoflow.distributions import Dirichlet
from geoflow.flows import maf, realnvp
from geoflow.maps import Inverse

Make = Callable[..., LatentModel]


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        make: ``(dim, latent, rows, hidden=)`` → the model before training.
        own: name of its prior; "" if it has none of its own.
        after: priors fitted to its codes afterwards.
        seeds: how many; several where an adversary takes part.
        published: Fréchet distances on MNIST in table 3 of the talk, by prior.
    """

    make: Make
    own: str = "N(0, I)"
    after: tuple[str, ...] = ("GMM10",)
    seeds: int = 1
    published: tuple[tuple[str, float], ...] = ()


def iaf(dim: int, latent: int, rows: int, **nets: tuple[int, ...]) -> LatentModel:
    return recipes.flow_vae(dim, latent, posterior=Inverse(maf(latent, depth=2).bijection), **nets)


def shares(dim: int, latent: int, rows: int, **nets: tuple[int, ...]) -> LatentModel:
    prior = Dirichlet([0.9] * latent).requires_grad_(False)
    return recipes.vae(dim, latent, prior=prior, posterior=DirichletPosterior, outputs=latent, **nets)


ALL = ("GMM10", "flow", "second VAE")
ROWS: dict[str, Row] = {
    "VAE, cross-entropy": Row(lambda d, m, n, **k: recipes.vae(d, m, **k), after=ALL, published=(("N(0, I)", 57.0),)),
    "VAE, fixed variance": Row(lambda d, m, n, **k: recipes.vae(d, m, cost=Gaussian(1.0), **k)),
    "VAE, learned variance": Row(
        lambda d, m, n, **k: recipes.vae(d, m, cost="gaussian", **k), after=ALL, published=(("second VAE", 7.4),)
    ),
    "beta-VAE": Row(lambda d, m, n, **k: recipes.vae(d, m, weight=0.2, **k), published=(("N(0, I)", 24.3),)),
    "InfoVAE": Row(lambda d, m, n, **k: recipes.info_vae(d, m, lam=100.0, **k)),
    "FactorVAE": Row(lambda d, m, n, **k: recipes.factor_vae(d, m, **k), seeds=3),
    "beta-TCVAE": Row(lambda d, m, n, **k: recipes.beta_tcvae(d, m, n, **k)),
    "VAE, IAF posterior": Row(iaf),
    "VAE, flow prior": Row(
        lambda d, m, n, **k: recipes.flow_vae(d, m, prior=realnvp(m), **k), "flow", published=(("flow", 20.2),)
    ),
    "VampPrior": Row(lambda d, m, n, **k: recipes.vampprior(d, m, **k), "VampPrior", published=(("VampPrior", 49.8),)),
    "hierarchical prior": Row(lambda d, m, n, **k: recipes.hierarchical(d, m, top=m, **k), "VAE"),
    "implicit optimal prior": Row(
        lambda d, m, n, **k: recipes.implicit_optimal(d, m, **k), "ratio", seeds=3, published=(("ratio", 32.6),)
    ),
    "resampled prior": Row(lambda d, m, n, **k: recipes.resampled(d, m, **k), "resampled"),
    "stick-breaking": Row(lambda d, m, n, **k: recipes.stick_breaking(d, m, **k), "GEM(5)"),
    "GMVAE": Row(lambda d, m, n, **k: recipes.gmvae(d, m, **k), "10 Gaussians"),
    "Dirichlet VAE": Row(shares, "Dir(.9)", ()),
    "WAE-MMD": Row(lambda d, m, n, **k: recipes.wae_mmd(d, m, **k), after=ALL),
    "WAE-GAN": Row(lambda d, m, n, **k: recipes.wae_gan(d, m, **k), seeds=3, published=(("N(0, I)", 13.3),)),
    "AAE": Row(lambda d, m, n, **k: recipes.aae(d, m, **k), seeds=3),
    "VAE/GAN": Row(lambda d, m, n, **k: recipes.vae_gan(d, m, **k), seeds=3),
    "AE": Row(
        lambda d, m, n, **k: recipes.rae(d, m, kind="none", embedding=0.0, **k), "", published=(("GMM10", 12.1),)
    ),
    "RAE-L2": Row(lambda d, m, n, **k: recipes.rae(d, m, **k), after=ALL, published=(("GMM10", 7.3),)),
    "RAE-L2, less pull": Row(lambda d, m, n, **k: recipes.rae(d, m, embedding=1e-4, **k)),
    "RAE-GP": Row(lambda d, m, n, **k: recipes.rae(d, m, kind="gp", **k)),
    "RAE-SN": Row(lambda d, m, n, **k: recipes.rae(d, m, kind="sn", **k)),
    "injective flow": Row(
        lambda d, m, n, **k: recipes.injective(d, m, **k), published=(("N(0, I)", 36.0), ("GMM10", 9.9))
    ),
    "MaskAAE": Row(
        lambda d, m, n, **k: recipes.maskaae(d, m, **k),
        "masked N(0, I)",
        seeds=3,
        published=(("masked N(0, I)", 10.5),),
    ),
    "FlexAE": Row(
        lambda d, m, n, **k: recipes.flexae(d, m, critic=(256, 256, 256), **k),
        "generator",
        seeds=3,
        published=(("generator", 4.7),),
    ),
}


def with_prior(model: LatentModel, name: str, x: Tensor, hidden: tuple[int, ...], seed: int) -> LatentModel:
    """The same auto-encoder with another prior, fitted to its codes."""
    m = model.autoencoder.latent_dim
    if name == "GMM10":
        return fit_prior(model, x, GaussianMixture(m, 10), seed=seed)
    if name == "flow":
        return fit_prior(model, x, realnvp(m), seed=seed, progress=False)
    assert name == "second VAE"
    second = recipes.vae(m, m, cost="gaussian", hidden=hidden, standardize=True)
    return fit_prior(model, x, second, epochs=30, batch_size=100, lr=1e-3, seed=seed, validation=0, progress=False)
