"""Fits of densities on spheres, their mixtures by EM, and what their constructors refuse."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from geoflow.distributions import Mixture, PowerSpherical, Uniform, VonMisesFisher
from manifolds import Euclidean, Sphere


@pytest.mark.parametrize("n", [1, 2, 9, 99])
@torch.no_grad()
def test_concentration_from_mean_length(n: int) -> None:
    kappa = torch.tensor([0.01, 0.1, 1.0, 10.0, 1e2, 1e3, 1e4], dtype=torch.float64)
    for family in (VonMisesFisher, PowerSpherical):
        model = family(torch.eye(n + 1, dtype=torch.float64)[0], kappa)
        torch.testing.assert_close(model._concentration_of(model.mean_length()), kappa, rtol=3e-9, atol=0)


@torch.no_grad()
def test_fits(generator: Generator) -> None:
    """As scipy's; whole weights count rows; rows that are all the same give a large, finite κ."""
    x = VonMisesFisher(Sphere(3).sample_uniform((), generator, torch.float64), 7.0).sample(400, generator=generator)
    ours = VonMisesFisher.from_data(x)
    mu, kappa = stats.vonmises_fisher.fit(x.numpy())
    np.testing.assert_allclose(ours.mean_direction, mu, rtol=1e-10)
    assert float(ours.concentration) == pytest.approx(kappa, rel=1e-6)
    counts = torch.arange(400) % 3
    weighted = VonMisesFisher.from_data(x, weights=counts)
    repeated = VonMisesFisher.from_data(x.repeat_interleave(counts, 0))
    torch.testing.assert_close(weighted.concentration, repeated.concentration, rtol=1e-10, atol=0)
    assert 1e5 < float(VonMisesFisher.from_data(x[:1].expand(5, -1)).concentration) < 1e8


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_mixtures_by_em(seed: int) -> None:
    """Three components on S² from 3000 rows: as likely as the true ones, their concentrations within a tenth."""
    g = Generator().manual_seed(seed)
    poles = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-0.6, 0, 0.8]], dtype=torch.float64)
    true = Mixture([0.3, 0.3, 0.4], VonMisesFisher(poles, 50.0))
    x = true.sample(3000, generator=g)
    fitted = Mixture.from_data(x, components=3, seed=seed)
    assert -0.001 < float(fitted.log_prob(x).mean() - true.log_prob(x).mean()) < 0.01
    assert (fitted.components.concentration / 50 - 1).abs().max() < 0.1
    match = (fitted.components.mean_direction @ poles.T).max(0)
    assert sorted(match.indices.tolist()) == [0, 1, 2]
    assert (fitted.weights[match.indices] - true.weights).abs().max() < 0.03


@torch.no_grad()
def test_mixtures_of_any_family(generator: Generator) -> None:
    """log p is that of scipy's parts; EM runs with more components than distinct rows, and on power spherical parts."""
    mus = Sphere(2).sample_uniform(3, generator, torch.float64)
    mixture = Mixture([1.0, 2.0, 5.0], VonMisesFisher(mus, torch.tensor([1.0, 20.0, 7.0])))
    x = mixture.sample((40, 2), generator=generator)
    parts = [stats.vonmises_fisher(m.numpy(), k).pdf(x.numpy()) for m, k in zip(mus, (1.0, 20.0, 7.0), strict=True)]
    theirs = np.log(np.tensordot([1 / 8, 2 / 8, 5 / 8], parts, 1))
    np.testing.assert_allclose(mixture.log_prob(x), theirs, rtol=1e-10)
    few = x[:3, 0].repeat(10, 1)
    assert Mixture.from_data(few, components=5).log_prob(few).isfinite().all()
    true = Mixture([1.0, 1.0], PowerSpherical(mus[:2], 30.0))
    x = true.sample(2000, generator=generator)
    fitted = Mixture.from_data(x, components=2, family=PowerSpherical)
    assert -0.003 < float(fitted.log_prob(x).mean() - true.log_prob(x).mean()) < 0.02


def test_refusals(unchecked: None) -> None:
    up = torch.tensor([0.0, 0.0, 1.0])
    for family in (VonMisesFisher, PowerSpherical):
        for kappa in (-1.0, math.nan, math.inf, torch.tensor([1.0, -2.0])):
            with pytest.raises(ValueError, match=f"{family.__name__} expects a finite concentration of at least zero"):
                family(up, kappa)
        for mu in (0 * up, up * math.nan, up[:1], torch.tensor(1.0)):
            with pytest.raises(ValueError, match=f"{family.__name__} expects a .*mean direction"):
                family(mu, 1.0)
        with pytest.raises(ValueError, match="not on Sphere"):
            family.from_data(torch.randn(10, 3))
    with pytest.raises(ValueError, match="weight per row"):
        VonMisesFisher.from_data(up.expand(4, 3), weights=-torch.ones(4))
    with pytest.raises(ValueError, match="components in one batch"):
        Mixture([1.0], VonMisesFisher(up, 1.0))
    with pytest.raises(ValueError, match="positive weight per component"):
        Mixture([1.0, -1.0], VonMisesFisher(up.expand(2, 3), 1.0))
    with pytest.raises(ValueError, match="Mixture with 5 components expects as many rows, got 3"):
        Mixture.from_data(Sphere(2).sample_uniform(3), components=5)
    with pytest.raises(ValueError, match=r"Uniform expects a space of finite volume, got Euclidean"):
        Uniform(Euclidean(2))
    with pytest.raises(TypeError, match="Uniform expects a space"):
        Uniform(2)  # type: ignore[arg-type]
