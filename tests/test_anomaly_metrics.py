"""Figures of anomaly scores: scikit-learn and closed forms, exactness by exhaustion, error bars against repetition."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow.metrics import auc, conformal_p_values, discoveries, mass_sculpting


def normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=Generator().manual_seed(seed), dtype=torch.float64)


# -- area under the curve, rejection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [9, 0])
def test_auc_against_sklearn(digits: int) -> None:
    """With and without ties, in both directions."""
    from sklearn.metrics import roc_auc_score, roc_curve

    b, s = normal(300).mul(2).round(decimals=digits), normal(200, 1).add(0.7).mul(2).round(decimals=digits)
    both, labels = torch.cat([b, s]), np.repeat([0, 1], [300, 200])
    found = auc(b, s, eps_s=0.3017)  # between two steps of the curve
    assert found.value == pytest.approx(roc_auc_score(labels, both), rel=1e-12)
    assert found.flipped == pytest.approx(roc_auc_score(labels, -both), rel=1e-12)
    for sign, rejection in ((1, found.rejection), (-1, found.rejection_flipped)):
        fpr, tpr, _ = roc_curve(labels, sign * both, drop_intermediate=False)
        assert 1 / rejection == pytest.approx(np.interp(0.3017, tpr, fpr), rel=1e-9)
    back = auc(-b.numpy(), -s.numpy(), eps_s=0.3017)
    assert (back.value, back.error) == pytest.approx((found.flipped, found.error), rel=1e-9)
    assert (back.rejection, back.rejection_error) == (found.rejection_flipped, found.rejection_flipped_error)
    assert (found.backgrounds, found.signals) == (300, 200)
    assert str(found).startswith(f"AUC {found.value:.3f} +- {found.error:.3f} (high is signal), {found.flipped:.3f}")
    assert str(found).endswith("300 background and 200 signal rows")


def test_auc_and_rejection_of_two_normals() -> None:
    """Φ(d/√2), and 1/ε_B at ε_S = .3 where ε_B = 1 − Φ(Φ⁻¹(.7) + d); their errors are the spread over draws."""
    from scipy.stats import norm

    found = [auc(normal(400, 2 * i), normal(250, 2 * i + 1) + 0.8) for i in range(120)]
    backwards = norm.cdf(norm.ppf(0.3) + 0.8)
    for name, expected, bias in (
        ("value", norm.cdf(0.8 / math.sqrt(2)), 0.0),
        ("rejection", 1 / norm.cdf(norm.ppf(0.3) - 0.8), 0.05),  # E 1/ε̂ > 1/ε
        ("rejection_flipped", 1 / backwards, 0.01),
    ):
        values = np.array([getattr(f, name) for f in found])
        errors = np.array([getattr(f, "error" if name == "value" else name + "_error") for f in found])
        spread = values.std(ddof=1)
        assert abs(values.mean() - expected) < 4 * spread / math.sqrt(120) + bias * expected
        assert np.median(errors) == pytest.approx(spread, rel=0.15)


def test_ends_of_the_scale() -> None:
    perfect = auc(normal(50), normal(50, 1) + 100)
    assert (perfect.value, perfect.error, perfect.rejection) == (1, 0, math.inf)
    assert perfect.flipped == 0
    assert perfect.rejection_flipped == 1
    one_step = auc([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0])
    assert one_step.value == 0.75 * 0.5 + (0.25 * 0.5 + 0.75 * 0.5) / 2
    assert 1 / one_step.rejection == pytest.approx(0.5 * 0.3 / 0.75)


@pytest.mark.parametrize(
    ("background", "signal", "said"),
    [
        ([], [1.0, 2.0], "none of background: are all labels the same"),
        (torch.zeros(0), normal(3), "none of background: are all labels the same"),
        ([1.0, 2.0], [], "none of signal: are all labels the same"),
        ([1.0, 1.0], [1.0, 1.0, 1.0], "all scores are 1: a constant score tells nothing apart"),
        ([1.0, math.nan], [1.0, 2.0], "score_background of auc contains NaN"),
        ([1.0, 3.0], [[1.0], [2.0]], r"one number a row, \(n,\), got shape \(2, 1\)"),
        ([1.0, 3.0], [2.0], "minimum of 2"),
    ],
)
def test_what_auc_refuses(background: Any, signal: Any, said: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=said):
        auc(background, signal)
    with pytest.raises(ValueError, match=r"share of the signal in \(0, 1\), got 30"):
        auc([0.0, 1.0], [0.0, 1.0], eps_s=30)
    assert auc([0.0, 1.0], [0.0, 1.0], eps_s=np.float32(0.5)).eps_s == 0.5  # type: ignore[arg-type]


# -- conformal p-values, discoveries ----------------------------------------------------------------------------------


def test_conformal_p_values_are_exact() -> None:
    """Each of n + 1 exchangeable rows takes its turn to be judged: 1/(n + 1), ..., 1, each once; with ties no fewer."""
    x = normal(40)
    turns = [conformal_p_values(x[torch.arange(40) != i], x[i : i + 1]).item() for i in range(40)]
    assert sorted(turns) == pytest.approx([k / 40 for k in range(1, 41)], rel=1e-12)
    tied = x.round()
    turns = [conformal_p_values(tied[torch.arange(40) != i], tied[i : i + 1]).item() for i in range(40)]
    assert all(np.mean(np.array(turns) <= t + 1e-12) <= t + 1e-12 for t in np.arange(0, 1.01, 0.025))
    assert conformal_p_values(x, [x.max().item() + 1, x.min().item()]).tolist() == [1 / 41, 1.0]
    many = conformal_p_values(x.float().numpy(), normal(1000, 1))
    assert (many.shape, many.dtype) == ((1000,), torch.float64)


@pytest.mark.parametrize("fdr", [0.05, 0.3])
def test_discoveries_against_scipy(fdr: float) -> None:
    from scipy.stats import false_discovery_control

    for seed in range(20):
        p = torch.rand(30, generator=Generator().manual_seed(seed), dtype=torch.float64) ** 3
        assert discoveries(p, fdr).tolist() == (false_discovery_control(p.numpy()) <= fdr).tolist()
    assert discoveries([1.0, 0.9], fdr).tolist() == [False, False]


def test_share_of_false_discoveries() -> None:
    """40 normal rows and 10 anomalies judged by the same held-out ones: .8 fdr of those found are normal, no more."""
    shares, found = [], []
    for i in range(400):
        anomalous = (torch.arange(50) < 10).double()
        p = conformal_p_values(normal(200, 2 * i), normal(50, 2 * i + 1) + 3 * anomalous)
        chosen = discoveries(p, 0.3)
        shares.append(float(chosen[10:].sum() / max(1, int(chosen.sum()))))
        found.append(int(chosen[:10].sum()))
    error = np.std(shares) / 20
    assert 0.18 < np.mean(shares) < 0.8 * 0.3 + 3 * error
    assert error < 0.012
    assert np.mean(found) > 6


def test_what_conformal_figures_refuse(unchecked: None) -> None:
    with pytest.raises(ValueError, match="scores of conformal_p_values contains NaN"):
        conformal_p_values([1.0, 2.0], [math.nan, 1.0, 2.0])
    with pytest.raises(ValueError, match="scores_held_out|minimum of 1"):
        conformal_p_values([], [1.0])
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\], got 0.2 to 1.3"):
        discoveries([0.2, 1.3])
    with pytest.raises(ValueError, match=r"fdr is a share in \(0, 1\), got 10"):
        discoveries([0.2], 10)
    assert discoveries([0.2], np.float32(0.5)).tolist() == [True]  # type: ignore[arg-type]


# -- mass sculpting ---------------------------------------------------------------------------------------------------


def test_divergence_against_scipy() -> None:
    from scipy.spatial.distance import jensenshannon

    mass = normal(4000).exp()
    score = mass + normal(4000, 1)
    found = mass_sculpting(score, mass, bins=10)
    edges = np.quantile(mass, np.linspace(0, 1, 11))
    for eps, value in zip(found.eps_b, found.divergence, strict=True):
        passing = mass[score >= score.quantile(1 - eps)]
        p, q = np.histogram(mass, edges)[0], np.histogram(passing, edges)[0]
        assert value == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-9)
    assert (found.eps_b, found.rows, found.bins) == ((0.1, 0.01), (400, 40), 10)
    # units and tails of the mass do not matter, nor do those of the score
    assert mass_sculpting(score.exp(), mass.log(), bins=10).divergence == found.divergence
    assert found.divergence[0] > found.floor[0] + 10 * found.floor_deviation[0]
    assert str(found).count("bits at eps_B") == 2


def test_a_score_that_knows_nothing_of_the_mass_is_at_the_floor() -> None:
    """The floor of k rows among n in B bins is (B − 1)(1/k − 1/n) / (8 ln 2) bits to first order."""
    above = []
    for seed in range(30):
        found = mass_sculpting(normal(3000, 2 * seed), normal(3000, 2 * seed + 1), (0.1,), lots=20, seed=seed)
        above.append((found.divergence[0] - found.floor[0]) / found.floor_deviation[0])
    assert abs(np.mean(above)) < 4 / math.sqrt(30)
    assert found.floor[0] == pytest.approx(19 * (1 / 300 - 1 / 3000) / (8 * math.log(2)), rel=0.25)


def test_tied_scores_pass_by_lot() -> None:
    """A score of two values: of the many at the cut as many pass as should, in no order of theirs."""
    mass = torch.arange(1000.0)
    found = mass_sculpting((mass < 10).double(), mass, (0.5,))
    assert found.rows == (500,)
    assert found.divergence[0] < 0.05
    assert mass_sculpting(normal(500), torch.arange(500) % 3, (0.2,)).bins == 3


def test_what_mass_sculpting_refuses(unchecked: None) -> None:
    x = normal(300)
    with pytest.raises(ValueError, match="one mass for each score, got 299 masses and 300 scores"):
        mass_sculpting(x, x[1:])
    with pytest.raises(ValueError, match="the score is constant, 2"):
        mass_sculpting(torch.full((300,), 2.0), x)
    with pytest.raises(ValueError, match="of 300 background rows 3 pass the hardest cut, fewer than the 20 bins"):
        mass_sculpting(x, x)
    with pytest.raises(ValueError, match=r"shares of the background in \(0, 1\).*got \(10.0,\)"):
        mass_sculpting(x, x, (10.0,))
    with pytest.raises(ValueError, match=r"shares of the background in \(0, 1\).*got 0.5"):
        mass_sculpting(x, x, 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mass of mass_sculpting contains NaN"):
        mass_sculpting(x, torch.where(x > 2, math.nan, x))
