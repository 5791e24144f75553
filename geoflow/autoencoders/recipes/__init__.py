"""Whole models in one line, each a paper's: an auto-encoder of plain networks, a prior, a cost, a divergence, extras."""

from geoflow.autoencoders.recipes.basic import aae, info_vae, networks, vae, wae_gan, wae_mmd
from geoflow.autoencoders.recipes.by_extra import beta_tcvae, factor_vae, flexae, injective, maskaae, rae, vae_gan
from geoflow.autoencoders.recipes.by_prior import (
    dirichlet_vae,
    flow_vae,
    gmvae,
    hierarchical,
    implicit_optimal,
    resampled,
    stick_breaking,
    vampprior,
)

__all__ = [
    "aae",
    "beta_tcvae",
    "dirichlet_vae",
    "factor_vae",
    "flexae",
    "flow_vae",
    "gmvae",
    "hierarchical",
    "implicit_optimal",
    "info_vae",
    "injective",
    "maskaae",
    "networks",
    "rae",
    "resampled",
    "stick_breaking",
    "vae",
    "vae_gan",
    "vampprior",
    "wae_gan",
    "wae_mmd",
]
