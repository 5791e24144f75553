"""Too few latent dimensions lose what rows are made of; too many leave codes on a surface, unless the prior follows."""

from functools import cache

import torch

from geoflow import GaussianMixture, datasets, fit
from geoflow.autoencoders import LatentModel, fit_prior, recipes
from geoflow.metrics import frechet


@cache
def rows(seed: int) -> torch.Tensor:
    """Of 128 columns, made of two numbers each."""
    return datasets.latent_toy(2, 1000, seed=seed).x


@cache
def trained(latent: int) -> LatentModel:
    torch.manual_seed(0)
    model = recipes.wae_mmd(128, latent, weight=500, standardize=True, hidden=(32,), activation="silu")
    fit(model, rows(0), epochs=24, batch_size=100, lr=1e-2, validation=0, seed=0, progress=False)
    return model


@torch.no_grad()
def left(latent: int) -> float:
    """Share of the variance of fresh rows that reconstructions leave."""
    x, back = rows(1), trained(latent).autoencoder.reconstruct(rows(1))
    return float((back - x).square().sum() / (x - x.mean(0)).square().sum())


def apart(latent: int) -> float:
    """MMD between codes of fresh rows and the prior."""
    return trained(latent).evaluate(rows(1))["mmd of codes"]


def test_too_few_dimensions_cannot_reconstruct() -> None:
    assert left(1) > 3 * left(2)


def test_too_many_reconstruct_but_codes_are_not_the_prior() -> None:
    assert left(6) < 1.5 * left(2)
    assert apart(6) > 2 * apart(2)


def test_a_prior_that_follows_the_codes_mends_it() -> None:
    model = trained(6)
    mended = fit_prior(model, rows(0), GaussianMixture(6, 10))
    assert mended.evaluate(rows(1))["mmd of codes"] < 0.5 * apart(6)
    far, near = (frechet(m.sample(1000), rows(1)) for m in (model, mended))
    assert near < 0.9 * far
