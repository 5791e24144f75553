"""Priors fitted to codes after training: the same auto-encoder, another density in its latent space."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.autoencoders.model import LatentModel
from geoflow.density import Sampler, like
from geoflow.distributions import GaussianMixture
from geoflow.maps import Autoencoder
from geoflow.train import fit


def fit_prior(
    model: nn.Module, x: Any, to: Sampler | None = None, *, seed: int | None = 0, **options: Any
) -> LatentModel:
    """A `LatentModel` of the model's auto-encoder (shared, not copied) and a prior fitted to codes of training rows.

    Codes of a stochastic encoder are drawn, one a row: their density is the aggregated posterior. Where a model's prior
    and its aggregated posterior differ, this mends its samples at the cost of one more fit. [ghosh2020]

    Args:
        model: a `LatentModel`, any other model with an auto-encoder (a flow, a free-form flow with a bottleneck), or an
            auto-encoder.
        x: training rows ``(n, dim)``: held-out ones would make the fit look better than it is.
        to: what to fit, carried to the codes' device and precision; None is a mixture of ten Gaussians. Mixtures are fitted
            by EM, flows and other models by `fit` with `options`; it should standardise codes itself, as all recipes of
            flows do.
        seed: of the codes and the fit.
    """
    autoencoder = model if isinstance(model, Autoencoder) else getattr(model, "autoencoder", None)
    if not isinstance(autoencoder, Autoencoder):
        raise TypeError(f"fit_prior expects an auto-encoder or a model with one, got {type(model).__name__}.")
    prior = GaussianMixture(autoencoder.latent_dim, 10) if to is None else to
    whole = model if isinstance(model, LatentModel) else LatentModel(autoencoder, prior, divergence=())
    renewed = whole.with_base(prior)
    rows = like(validate.table(x, "fit_prior", minimum=2), autoencoder)
    renewed.cost.check(rows)
    training = autoencoder.training
    autoencoder.eval()
    codes: Tensor = renewed.codes(rows, None if seed is None else Generator(rows.device).manual_seed(seed))
    fit(prior.to(codes), codes, seed=seed, **options)
    if whole is not model:  # its cost has seen no training
        with torch.no_grad():
            renewed.cost.finish(autoencoder, rows, codes)
    autoencoder.train(training)
    return renewed
