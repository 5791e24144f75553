"""Score matching against closed forms, and the score network against the scores that it should learn."""

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import Density, FermatSpace, GaussianMixture, StandardNormal, check, fit, load, save
from geoflow.distances import ScoreNetwork
from geoflow.distances.paths.geodesics import segment_log_cost
from geoflow.distances.scores import matching as score_matching
from manifolds import Euclidean, Sphere

ROWS = 40_000


def normal(dim: int = 3) -> GaussianMixture:
    """A correlated one."""
    factor = torch.eye(dim).double() + 0.4 * torch.ones(dim, dim).double().tril(-1)
    covariance = (factor @ factor.mT)[None]
    return GaussianMixture.of(torch.ones(1).double(), torch.linspace(-1, 1, dim).double()[None], covariance)


def two_modes(dim: int) -> GaussianMixture:
    """Normals of deviations .6 and .8 at ±1.4 along the first axis."""
    means = torch.zeros(2, dim, dtype=torch.float64)
    means[:, 0] = torch.tensor([-1.4, 1.4])
    variance = torch.tensor([0.36, 0.64]).double()[:, None].expand(2, dim)
    return GaussianMixture.of(torch.tensor([0.4, 0.6]).double(), means, variance)


def within(values: Tensor, expected: float, errors: float = 4.0) -> None:
    """The mean of independent values is as expected, to so many standard errors."""
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - expected) < errors * error


# -- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [normal(), two_modes(2), two_modes(5)], ids=["normal", "modes 2", "modes 5"])
def test_the_exact_loss_of_the_true_score_is_minus_half_its_square(
    truth: GaussianMixture, generator: Generator
) -> None:
    """Rows of ½|s|² + tr ∇s + ½|s|² average to zero; of a normal, the loss is −½ tr of the precision."""
    x = truth.sample(ROWS, generator=generator)
    with torch.no_grad():
        loss = score_matching.exact(truth.score, x)
        within(loss + truth.score(x).square().sum(-1) / 2, 0.0)
    if truth.space.dim == 3:
        precision = torch.linalg.inv(torch.cov(truth.sample(ROWS, generator=generator).mT))
        assert float(loss.mean()) == pytest.approx(-0.5 * float(precision.trace()), rel=0.05)


def test_the_loss_of_another_score_is_above_by_half_the_squared_difference(generator: Generator) -> None:
    truth = two_modes(2)
    x = truth.sample(ROWS, generator=generator)
    with torch.no_grad():
        other = lambda y: truth.score(y) * 0.7 + 0.2  # noqa: E731
        above = score_matching.exact(other, x) - score_matching.exact(truth.score, x)
        within(above - (other(x) - truth.score(x)).square().sum(-1) / 2, 0.0)


def rough(dim: int) -> nn.Module:
    """Some smooth field that is no gradient."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Linear(16, dim)).double()


def test_the_exact_loss_takes_the_trace() -> None:
    field, x = rough(4), torch.randn(3, 2, 4, dtype=torch.float64)
    found = score_matching.exact(field, x)
    assert found.shape == (3, 2)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(field, x[i, 1])
        expected = field(x[i, 1]).square().sum() / 2 + jacobian.trace()  # type: ignore[union-attr]
        torch.testing.assert_close(found[i, 1], expected)


@pytest.mark.parametrize("probes", [1, 3])
def test_slices_average_to_the_exact_loss(probes: int, generator: Generator) -> None:
    field, x = rough(4), torch.randn(4, dtype=torch.float64)
    draws = score_matching.sliced(field, x.expand(ROWS, 4), probes, generator)
    within(draws.detach(), float(score_matching.exact(field, x[None]).detach()))


def test_slices_of_a_diagonal_derivative_are_exact(generator: Generator) -> None:
    x = torch.randn(20, 6, dtype=torch.float64, generator=generator)
    found = score_matching.sliced(lambda y: -(y**3), x, 1, generator)
    torch.testing.assert_close(found, score_matching.exact(lambda y: -(y**3), x))


@pytest.mark.parametrize("noise", [0.5, 1e-3])
def test_denoising_has_its_mean_at_any_noise(noise: float, generator: Generator) -> None:
    """Of s = −Ax: ½|Ax|² + ½σ²|A|² − tr A, with a spread that does not grow as the noise falls."""
    a = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    x = torch.randn(3, dtype=torch.float64, generator=generator)
    draws = score_matching.denoising(lambda y: -(y @ a.mT), x.expand(ROWS, 3), noise, generator)
    within(draws, float((a @ x).square().sum() / 2 + noise**2 * a.square().sum() / 2 - a.trace()))
    assert float(draws.std()) < 3 * float(a.norm()) * (1 + noise**2)


def test_denoising_is_least_at_the_smoothed_score(generator: Generator) -> None:
    """For a normal of deviation τ: s = −x/(τ² + σ²), of loss −½ dim/(τ² + σ²)."""
    tau, sigma = 0.6, 0.4
    x = tau * torch.randn(ROWS, 2, dtype=torch.float64, generator=generator)
    mean = [
        score_matching.denoising(lambda y, c=c: -c * y, x, sigma, Generator().manual_seed(0)).mean()
        for c in (0.9 / (tau**2 + sigma**2), 1 / (tau**2 + sigma**2), 1.1 / (tau**2 + sigma**2))
    ]
    assert mean[1] < mean[0]
    assert mean[1] < mean[2]
    assert float(mean[1]) == pytest.approx(-1 / (tau**2 + sigma**2), rel=0.05)


# -- the network -------------------------------------------------------------------------------------------------------


def relative_error(network: ScoreNetwork, truth: Density) -> float:
    x = truth.sample(4000, generator=Generator().manual_seed(9))
    with torch.no_grad():
        off, score = network.score(x) - truth.score(x), truth.score(x)
    return math.sqrt(float(off.square().sum() / score.square().sum()))


def trained(truth: Density, epochs: int, objective: str = "denoising", **options: object) -> ScoreNetwork:
    """In 7 steps an epoch."""
    torch.manual_seed(0)
    rows = truth.sample(2000, generator=Generator().manual_seed(1))
    network = ScoreNetwork(truth.dim, objective=objective, hidden=(32, 32), **options).double()  # type: ignore[arg-type]
    fit(network, rows, epochs=epochs, lr=1e-2, batch_size=256, seed=0, progress=False)
    return network


@functools.cache
def modes_learned(dim: int) -> ScoreNetwork:
    """Of the mixture."""
    return trained(two_modes(dim), 60)


@pytest.mark.parametrize("objective", ["denoising", "sliced", "exact"])
def test_the_score_of_a_normal_is_learned(objective: str) -> None:
    """From a correlated normal's independent columns, by a relative error of .6, to its score."""
    truth = normal()
    assert relative_error(trained(truth, 20, objective), truth) < 0.12


def test_more_training_brings_the_score_closer() -> None:
    truth = two_modes(2)
    found = [relative_error(n, truth) for n in (trained(truth, 1), trained(truth, 20), modes_learned(2))]
    assert found[0] > 2 * found[1] > 2.4 * found[2], found
    assert found[2] < 0.2


def test_levels_of_noise() -> None:
    """The network told the noise has learned that of the least level."""
    truth = two_modes(2)
    network = trained(truth, 60, noise=(0.4, 0.05, 0.15))
    assert network.levels == (0.05, 0.15, 0.4)
    assert relative_error(network, truth) < 0.25


@pytest.mark.filterwarnings("ignore:FermatSpace")  # a few paths need not converge
@pytest.mark.parametrize("dim", [2, 5])
def test_paths_by_the_learned_score_are_as_good_as_geodesics(dim: int) -> None:
    """Of pairs whose straight line is 2 % too long or more: in the median at most one per cent longer, by the true density.

    So beside the density, and alone.
    """
    truth, network = two_modes(dim), modes_learned(dim)
    x, y = truth.sample((2, 80), generator=Generator().manual_seed(5))
    options: dict[str, Any] = {"nodes": 16, "extrapolate": False}
    exact = FermatSpace(truth, **options)
    best = exact.solve(x, y)
    bent = exact.dist(x, y, "line") > 1.02 * best.length
    assert int(bent.sum()) > 15
    x, y, least = x[bent][:24], y[bent][:24], best.length[bent][:24]
    beside = FermatSpace(truth, score=network, **options).solve(x, y)
    alone = FermatSpace(score=network, **options).solve(x, y)
    for found in (beside, alone):
        ratio = segment_log_cost(exact._need_density("length"), found.path).exp().sum(1) / least
        assert 0.9999 < float(ratio.median()) < 1.01
        assert float(found.converged.double().mean()) > 0.9


def test_scale_is_part_of_the_network() -> None:
    """Columns in other units have their score in those; the figures are the same."""
    rows = two_modes(2).sample(600, generator=Generator().manual_seed(1))
    unit = torch.tensor([1024.0, 1 / 64]).double()
    networks = []
    for x in (rows, rows * unit + 3 * unit):
        torch.manual_seed(0)
        network = ScoreNetwork(2, hidden=(16,), objective="exact").double()
        history = fit(network, x, epochs=5, seed=0, progress=False)
        networks.append((network, history.final))
    (a, figures), (b, other) = networks
    torch.testing.assert_close(a.score(rows), b.score(rows * unit + 3 * unit) * unit, rtol=1e-6, atol=1e-8)
    assert figures["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_figures_compare_objectives() -> None:
    """`evaluate` is the exact loss of the score that is given out, whatever was trained; by slices in many dimensions."""
    x = torch.randn(500, 2, dtype=torch.float64)
    for options in ({"objective": "exact"}, {"objective": "sliced"}, {}, {"noise": (0.1, 0.3)}):
        network = ScoreNetwork(2, hidden=(8,), **options).double()  # type: ignore[arg-type]
        with torch.no_grad():
            network.net.layers[-1].weight.normal_()  # type: ignore[union-attr, index]
            network.scale.prepare(2 * x + 1)
            loss = float(score_matching.exact(lambda y: network.score(y * 2 + 1) * 2, x).mean())  # noqa: B023
        own = network.evaluate(2 * x + 1)["loss"] / (network.scale.std[0] / 2).square()
        assert float(own) == pytest.approx(loss, rel=0.05)
    wide = ScoreNetwork(70, hidden=(8,)).double()
    with torch.no_grad():
        wide.net.layers[-1].weight.normal_()  # type: ignore[union-attr, index]
        x = torch.randn(300, 70, dtype=torch.float64)
        exact = score_matching.exact(wide.score, x)
    found = wide.evaluate(x)
    assert found["loss"] != float(exact.mean())
    assert found["loss"] == pytest.approx(float(exact.mean()), abs=0.5)
    assert found == wide.evaluate(x)


def test_weights_count_rows() -> None:
    network, x = ScoreNetwork(2, objective="exact", hidden=(8,)), torch.randn(6, 2)
    weight = torch.tensor([2.0, 0, 1, 1, 1, 1])
    rows = torch.cat([network.loss(row[None])["loss"][None] for row in x])
    torch.testing.assert_close(network.loss(x, weight=weight)["loss"], (weight * rows).mean())


def test_a_score_that_is_worse_than_a_normals_is_called_invalid() -> None:
    x = torch.randn(400, 2, generator=Generator().manual_seed(0))
    network = ScoreNetwork(2, hidden=(8,))
    network.scale.prepare(x)
    assert network.verdict(network.evaluate(x)) is None
    with torch.no_grad():
        network.net.layers[-1].bias.fill_(2.0)  # type: ignore[union-attr, index]
    assert "independent normal columns" in str(network.verdict(network.evaluate(x)))
    with pytest.warns(UserWarning, match="invalid"):
        fit(network, x, epochs=1, lr=1e-9, seed=0, progress=False)


@pytest.mark.filterwarnings("ignore:FermatSpace")  # a few steps do not converge
def test_files_and_dtypes(tmp_path: Path) -> None:
    """A space that holds the network is written, read and cast with it."""
    points = torch.randn(80, 2)
    network = ScoreNetwork(2, hidden=(8,), noise=(0.1, 0.3))
    fit(network, points, epochs=1, seed=0, progress=False)
    x, y = points[:3], points[3:6]
    for space in (FermatSpace(score=network), FermatSpace(StandardNormal(2), points, neighbors=8, score=network)):
        save(space, tmp_path / "space.safetensors")
        again = load(tmp_path / "space.safetensors")
        found = space.solve(x, y, "line", max_iter=3)
        assert found.path.dtype == torch.float32
        assert torch.equal(again.solve(x, y, "line", max_iter=3).path, found.path)
        double = again.double().solve(x.double(), y.double(), "line", max_iter=3)
        torch.testing.assert_close(double.path, found.path.double(), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_words() -> None:
    network, x = ScoreNetwork(2, hidden=(8,)), torch.randn(20, 2)
    for error, words, call in (
        (ValueError, "at least 1", lambda: ScoreNetwork(0)),
        (TypeError, "number of columns", lambda: ScoreNetwork("two")),
        (NotImplementedError, "FlowMatching", lambda: ScoreNetwork(Sphere(2))),
        (ValueError, "scaled space to", lambda: ScoreNetwork(Euclidean(2, [1.0, 2.0]))),
        (ValueError, "objective of denoising", lambda: ScoreNetwork(2, objective="implicit")),
        (ValueError, "above 0", lambda: ScoreNetwork(2, noise=0.0)),
        (ValueError, "above 0", lambda: ScoreNetwork(2, noise=())),
        (ValueError, "above 0", lambda: ScoreNetwork(2, noise=float("nan"))),
        (ValueError, "belongs to", lambda: ScoreNetwork(2, objective="exact", noise=0.1)),
        (ValueError, "belongs to", lambda: ScoreNetwork(2, probes=4)),
        (TypeError, "module as net", lambda: ScoreNetwork(2, net=lambda z: z)),
        (ValueError, "at least 1", lambda: ScoreNetwork(2, objective="sliced", probes=0)),
        (ValueError, "2 ambient coordinates", lambda: network.score(torch.zeros(3))),
        (ValueError, "NaN", lambda: network.score(x / 0 * 0)),
        (ValueError, "is constant", lambda: fit(network, x * torch.tensor([1.0, 0.0]), progress=False)),
        (TypeError, "takes no context", lambda: fit(network, x, x, progress=False)),
        (NotImplementedError, "no draws", lambda: network.sample(3)),
        (NotImplementedError, "no log_prob", lambda: check(network, x)),
        (TypeError, "score=net", lambda: FermatSpace(network)),
        (TypeError, "pass its .score", lambda: FermatSpace(score=StandardNormal(2))),
        (TypeError, "a function", lambda: FermatSpace(StandardNormal(2), score=3)),
        (ValueError, "the ScoreNetwork is for", lambda: FermatSpace(StandardNormal(3), score=network)),
        (ValueError, r"network.to\(torch.float64\)", lambda: FermatSpace(normal(2), score=network)),
        (ValueError, "needs a density", lambda: FermatSpace(score=network).dist(x[0], x[1], "line")),
    ):
        with pytest.raises(error, match=words):
            call()
