"""Metrics: right on closed forms, blind to nothing they claim to see, quiet under the null."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from geoflow import ClassConditional, DiagonalNormal, StandardNormal
from geoflow.autoencoders.recipes import vae
from geoflow.flows import realnvp
from geoflow.metrics import c2st, copying, coverage, mmd
from geoflow.metrics.c2st import together


def rows(n: int, dim: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


# -- c2st -------------------------------------------------------------------------------------------------------------


def test_c2st_near_the_best_possible_accuracy() -> None:
    """Two normals d apart: no classifier beats Φ(d / 2), a good one comes near."""
    d = 2.0
    best = 0.5 * (1 + math.erf(d / 2 / math.sqrt(2)))
    found = c2st(rows(1500), rows(1500, seed=1) + torch.tensor([d, 0, 0]), permutations=0)
    assert best - 0.03 < found.accuracy < best + 0.02
    assert found.p_value is None
    assert found.rows == 1500


def test_c2st_under_the_null_has_uniform_p_values() -> None:
    from sklearn.naive_bayes import GaussianNB

    given = {"permutations": 9, "classifier": GaussianNB()}
    values = [c2st(rows(60, 2, 2 * i), rows(60, 2, 2 * i + 1), seed=i, **given) for i in range(12)]
    accuracy = np.mean([v.accuracy for v in values])
    assert abs(accuracy - 0.5) < 4 * 0.5 / math.sqrt(120 * 12)
    p = [v.p_value for v in values]
    assert min(p) < 0.5 < max(p)  # type: ignore[type-var, operator]
    assert all(round(10 * v, 6) == round(10 * v) for v in p)  # type: ignore[operator]
    assert abs(np.mean(p) - 0.55) < 4 * 0.29 / math.sqrt(12)  # type: ignore[arg-type]


def test_c2st_sees_what_moments_do_not() -> None:
    """A ring has the mean and covariance of a normal."""
    z = rows(600, 2)
    ring = z / z.norm(dim=1, keepdim=True) * math.sqrt(2)
    found = c2st(ring.numpy(), rows(900, 2, 1), permutations=19)
    assert found.accuracy > 0.8
    assert found.p_value == pytest.approx(1 / 20)
    assert found.rows == 600
    from sklearn.linear_model import LogisticRegression

    assert c2st(ring, rows(600, 2, 1), permutations=0, classifier=LogisticRegression()).accuracy < 0.56


def test_c2st_is_reproducible_and_leaves_generators_alone() -> None:
    state = torch.get_rng_state()
    first, second = (c2st(rows(200), rows(200, seed=1), permutations=3, seed=4) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="equally many columns"):
        c2st(rows(50, 2), rows(50, 3))
    with pytest.raises(ValueError, match="'trees', 'mlp'"):
        c2st(rows(50), rows(50), classifier="forest")
    with pytest.raises(ValueError, match="minimum of 10"):
        c2st(rows(5), rows(50))


def test_together_appends_conditions() -> None:
    x = rows(4, 2)
    assert torch.equal(together(x, None, 0), x)
    labels = together(x, torch.tensor([0, 2, 1, 1]), 3)
    assert labels.shape == (4, 5)
    assert labels[:, 2:].argmax(1).tolist() == [0, 2, 1, 1]
    assert together(x, rows(4, 1), 0).shape == (4, 3)


# -- coverage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.6, 1.0, 1.7])
def test_coverage_curve_in_closed_form(width: float) -> None:
    """For N(0, s²) asked about N(0, 1) the set of mass α is a ball: its share of rows is a chi² probability."""
    from scipy.stats import chi2

    density = DiagonalNormal.of(torch.zeros(3, dtype=torch.float64), torch.full((3,), width, dtype=torch.float64))
    found = coverage(density, rows(4000), draws=4000)
    alpha, inside = found.curve()
    expected = chi2.cdf(width**2 * chi2.ppf(alpha.numpy(), 3), 3)
    assert np.abs(inside.numpy() - expected).max() < 0.04
    assert found.ks == pytest.approx(float((inside - alpha).abs().max()), abs=0.01)
    assert (found.p_value > 1e-3) == (width == 1.0)
    assert found.ranks.min() >= 0
    assert found.ranks.max() <= 1


def test_coverage_of_conditional_densities() -> None:
    """Ranks are counted among draws of the row's own condition: pooled ones would be far from uniform."""
    model = ClassConditional(2, 2).double()
    with torch.no_grad():
        model.log_std[1] = math.log(10.0)
    labels = torch.arange(2).repeat(400)
    x = model.sample((), labels, generator=Generator().manual_seed(3)).detach()
    found = coverage(model, x, labels)
    assert found.p_value > 1e-3
    assert found.ranks[labels == 1].mean() == pytest.approx(0.5, abs=0.06)
    assert coverage(model, x, 1 - labels).p_value < 1e-9
    # rows in the tails of their condition have most of its mass denser than they are
    assert coverage(model, 3 * x, labels).ranks.mean() > 0.8
    flow = realnvp(2, context=1, depth=2, hidden=(8,)).double()
    c = rows(30, 1)
    assert coverage(flow, flow.sample((), c), c, draws=200).draws == 20


def test_coverage_needs_a_density(unchecked: None) -> None:
    with pytest.raises(TypeError, match="coverage expects a Density, with exact log_prob, got LatentModel"):
        coverage(vae(3, 2), rows(9))  # type: ignore[arg-type]


def test_coverage_plot() -> None:
    found = coverage(StandardNormal(3).double(), rows(200), draws=200)
    ax = found.plot()
    assert len(ax.lines) == 2
    assert found.plot(ax) is ax


# -- mmd --------------------------------------------------------------------------------------------------------------


def test_mmd_in_closed_form_and_unbiased() -> None:
    """Normals N(0, I) and N(m, I) under exp(−|x − y|² / 2h²): 2 (h² / (h² + 2))^(d/2) (1 − exp(−|m|² / 2(h² + 2)))."""
    dim, h, shift = 2, 1.3, 0.8
    expected = 2 * (h * h / (h * h + 2)) ** (dim / 2) * (1 - math.exp(-(shift**2) / (2 * (h * h + 2))))
    move = torch.tensor([shift, 0.0], dtype=torch.float64)
    near = [mmd(rows(40, dim, 2 * i), rows(50, dim, 2 * i + 1) + move, bandwidths=[h]) for i in range(300)]
    null = [mmd(rows(40, dim, 2 * i), rows(50, dim, 2 * i + 1), bandwidths=[h]) for i in range(300)]
    assert abs(np.mean(near) - expected) < 4 * np.std(near) / math.sqrt(300)
    assert abs(np.mean(null)) < 4 * np.std(null) / math.sqrt(300)
    assert np.std(null) < 0.1 * expected + 0.02
    # blocks only save memory; several bandwidths are a mean
    a, b = rows(100), rows(130, seed=1)
    assert mmd(a, b, bandwidths=[1.0, 2.0], block=7) == pytest.approx(
        (mmd(a, b, bandwidths=[1.0]) + mmd(a, b, bandwidths=[2.0])) / 2, abs=1e-12
    )
    assert mmd(a, a + 1) > mmd(a, b)
    with pytest.raises(ValueError, match="bandwidths"):
        mmd(torch.zeros(10, 2), torch.zeros(10, 2))


@pytest.mark.parametrize("wrong", [[-1.0], [math.nan], [math.inf], [], 1.0])
def test_what_mmd_refuses(wrong: Any, unchecked: None) -> None:
    with pytest.raises(ValueError, match="mmd expects positive bandwidths, got .*: give one or more in a list"):
        mmd(rows(9), rows(9, seed=1), bandwidths=wrong)
    with pytest.raises(ValueError, match="mmd: block must be at least 1, got 0"):
        mmd(rows(9), rows(9, seed=1), block=0)


# -- copying ----------------------------------------------------------------------------------------------------------


def test_copies_are_told_from_new_rows() -> None:
    """Copies, new rows, half of each, and rows that are far off; the null's deviation over repeats."""
    train, new = rows(500), rows(400, seed=1)
    assert copying(train[:100], train, new)[:2] == pytest.approx((0, 1), abs=1e-6)
    assert copying(train[:100] + 30, train, new).nearer == 0
    fresh = [copying(rows(200, seed=i), rows(500, seed=i + 1), rows(400, seed=i + 2)) for i in range(10, 130, 5)]
    off = np.array([f.nearer for f in fresh]) - 0.5
    assert abs(off.mean()) < 4 * fresh[0].null_deviation / math.sqrt(len(fresh))
    assert 0.7 < off.std() / fresh[0].null_deviation < 1.3
    assert np.mean([f.ratio for f in fresh]) == pytest.approx(1, abs=0.05)
    half = copying(torch.cat([train[:200], rows(200, seed=2)]), train, new)
    assert half.nearer == pytest.approx(0.75, abs=4 * half.null_deviation)
    assert half.rows == (400, 500, 400)
    assert "0.500 +- 0.0" in str(half)


def test_the_origin_does_not_matter() -> None:
    """Distances far from zero keep their digits."""
    a, b, far = rows(200), 1.3 * rows(150, seed=1), 1e8
    assert mmd(a + far, b + far) == pytest.approx(mmd(a, b), rel=1e-5)
    assert mmd(a + far, b + far, kernel="imq") == pytest.approx(mmd(a, b, kernel="imq"), rel=1e-5)
    assert copying(a + far, b[:50] + far, b[50:] + far)[:2] == pytest.approx(copying(a, b[:50], b[50:])[:2], rel=1e-5)


def test_copying_counts_pairs() -> None:
    """By a loop over pairs, ties half."""
    train, made, new = (torch.as_tensor(t)[:, None] for t in ([0.0, 10], [1.0, 8, 3], [1.0, 11, 4, 0.5]))
    near, far = (torch.cdist(t, train).amin(1) for t in (made, new))
    wanted = np.mean([float(a < b) + 0.5 * float(a == b) for a in near for b in far])
    found = copying(made, train, new)
    assert found.nearer == pytest.approx(wanted)
    assert found.ratio == pytest.approx(2.0)
    with pytest.raises(ValueError, match="equally many columns, got \\[1, 1, 3\\]"):
        copying(made, train, rows(5))
