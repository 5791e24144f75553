"""Normals and mixtures against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture as TheirMixture
from torch import Generator

from geoflow import (
    Bounded,
    ClassConditional,
    DiagonalNormal,
    Flow,
    GaussianMixture,
    Positive,
    Standardize,
    StandardNormal,
)


def cloud(n: int, dim: int, g: Generator) -> torch.Tensor:
    """Rows of correlated columns of very different scale."""
    mixing = torch.randn(dim, dim, dtype=torch.float64, generator=g)
    return torch.randn(n, dim, dtype=torch.float64, generator=g) @ mixing * torch.tensor([1e-2, 1.0, 50.0][:dim]) + 3


def test_standard_and_diagonal_normal(generator: Generator) -> None:
    x = cloud(40, 3, generator)
    mean, std = x.mean(0), x.std(0)
    theirs = stats.multivariate_normal(mean.numpy(), np.diag(std.numpy() ** 2))
    ours = DiagonalNormal.of(mean, std)
    np.testing.assert_allclose(ours.log_prob(x).detach(), theirs.logpdf(x.numpy()), rtol=1e-12)
    assert float(ours.entropy().detach()) == pytest.approx(theirs.entropy(), rel=1e-12)
    np.testing.assert_allclose(
        StandardNormal(3).double().log_prob(x), stats.multivariate_normal(np.zeros(3)).logpdf(x.numpy()), rtol=1e-12
    )
    assert float(StandardNormal(3).double().entropy()) == pytest.approx(
        stats.multivariate_normal(np.zeros(3)).entropy()
    )


def test_tempered_normal(generator: Generator) -> None:
    x = cloud(40, 3, generator)
    ours = DiagonalNormal.from_data(x).tempered(2.5)
    theirs = stats.multivariate_normal(x.mean(0).numpy(), np.diag(2.5 * x.var(0, correction=0).numpy()))
    np.testing.assert_allclose(ours.log_prob(x).detach(), theirs.logpdf(x.numpy()), rtol=1e-10)


def test_class_conditional(generator: Generator) -> None:
    x, labels = cloud(60, 2, generator), torch.arange(60) % 3
    ours = ClassConditional.from_data(x, labels)
    for u in range(3):
        rows = x[labels == u]
        theirs = stats.multivariate_normal(rows.mean(0).numpy(), np.diag(rows.var(0, correction=0).numpy()))
        found = ours.log_prob(x, torch.tensor(u)).detach()
        np.testing.assert_allclose(found, theirs.logpdf(x.numpy()), rtol=1e-10)
        assert float(ours.entropy(torch.tensor(u)).detach()) == pytest.approx(theirs.entropy(), rel=1e-10)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_mixture_with_their_parameters(covariance: str, generator: Generator) -> None:
    """The same weights, means and covariances give the same log densities and responsibilities."""
    x = cloud(300, 3, generator)
    theirs = TheirMixture(3, covariance_type={"full": "full", "diagonal": "diag"}[covariance], random_state=0).fit(
        x.numpy()
    )
    ours = GaussianMixture.of(*(torch.as_tensor(a) for a in (theirs.weights_, theirs.means_, theirs.covariances_)))
    assert ours.covariance == covariance
    np.testing.assert_allclose(ours.log_prob(x).detach(), theirs.score_samples(x.numpy()), rtol=1e-9)
    np.testing.assert_allclose(
        ours.log_prob_components(x).softmax(-1).detach(), theirs.predict_proba(x.numpy()), atol=1e-9
    )


def test_mixture_score_is_the_formula(generator: Generator) -> None:
    """∇ log p = Σ_k r_k C_k⁻¹ (mean_k − x), by numpy."""
    x = cloud(300, 3, generator)
    ours = GaussianMixture.from_data(x, components=2)
    r = ours.log_prob_components(x).softmax(-1).detach().numpy()
    factor = ours.factor().detach().numpy()
    wanted = np.zeros_like(x.numpy())
    for k in range(2):
        covariance = factor[k] @ factor[k].T
        wanted += r[:, k : k + 1] * np.linalg.solve(covariance, (ours.means[k].detach().numpy() - x.numpy()).T).T
    np.testing.assert_allclose(ours.score(x).detach(), wanted, rtol=1e-7, atol=1e-7 * abs(wanted).max())


def test_mixture_fits_as_well_as_theirs(generator: Generator) -> None:
    """EM through standardised columns reaches the likelihood of scikit-learn on standardised columns."""
    centres = torch.tensor([[0.0, 0.0], [6.0, 1.0], [0.0, 9.0]], dtype=torch.float64)
    x = centres[torch.arange(900) % 3] + torch.randn(900, 2, dtype=torch.float64, generator=generator)
    x = x * torch.tensor([1e-3, 100.0], dtype=torch.float64)
    ours = GaussianMixture.from_data(x, components=3)
    scale = x.std(0, correction=0)
    z = ((x - x.mean(0)) / scale).numpy()
    theirs = TheirMixture(3, random_state=0, n_init=5).fit(z).score(z) - float(scale.log().sum())
    assert float(ours.log_prob(x).detach().mean()) == pytest.approx(theirs, abs=1e-3)
    ours_means = ours.means.detach()[ours.means.detach()[:, 0].argsort()] / torch.tensor([1e-3, 100.0])
    assert (torch.cdist(ours_means, centres).min(0).values < 0.3).all()


def test_a_standardised_flow_is_scipys_normal(generator: Generator) -> None:
    """The change of variables of one affine map, in the units of the data."""
    x = cloud(200, 3, generator)
    flow = Flow(Standardize(3), StandardNormal(3)).double()
    flow.prepare(x)
    theirs = stats.multivariate_normal(x.mean(0).numpy(), np.diag(x.var(0, correction=0).numpy()))
    np.testing.assert_allclose(flow.log_prob(x), theirs.logpdf(x.numpy()), rtol=1e-10)
    assert (
        stats.kstest(
            flow.sample(4000, generator=generator)[:, 2].numpy(),
            stats.norm(x[:, 2].mean(), x[:, 2].std(correction=0)).cdf,
        ).pvalue
        > 1e-3
    )


def test_bounds_make_log_normals_and_logit_normals(generator: Generator) -> None:
    """Each kind of column against scipy, the log-determinants with it; and nothing outside or on a bound."""
    flow = Flow(Bounded([2.0, None, -1.0, None], [None, 5.0, 3.0, None]), StandardNormal(4)).double()
    x = flow.sample(50, generator=generator)
    a, b, c, d = x.T.numpy()
    theirs = stats.lognorm(1).logpdf(a - 2) + stats.lognorm(1).logpdf(5 - b) + stats.norm().logpdf(d)
    share = (c + 1) / 4
    theirs += stats.norm().logpdf(np.log(share / (1 - share))) - np.log(share * (1 - share)) - np.log(4)
    np.testing.assert_allclose(flow.log_prob(x), theirs, rtol=1e-10)
    outside = torch.tensor([[2.0, 4, 0, 0], [1.0, 4, 0, 0], [3.0, 4, 3, 0], [3.0, 6, 0, 0]], dtype=x.dtype)
    assert flow.log_prob(outside).tolist() == [-np.inf] * 4
    assert bool(flow.score(outside).isfinite().all())
    positive = Flow(Positive(1), StandardNormal(1)).double()
    t = torch.linspace(0.1, 9, 20, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(positive.log_prob(t), stats.lognorm(1).logpdf(t[:, 0].numpy()), rtol=1e-12)


def test_draws_stay_inside_their_bounds_in_float32(generator: Generator) -> None:
    """Where rounding would put the farthest draws onto the bound."""
    part = Bounded([0.0, 0.0], [1.0, None])
    z = torch.tensor([[-200.0, -200.0], [200.0, 80.0], [17.0, -90.0]])
    x = part.decode(z)
    assert bool(((x > 0) & (x[:, :1] < 1)).all())
    assert bool(part.encode_and_log_det(x)[1].isfinite().all())
