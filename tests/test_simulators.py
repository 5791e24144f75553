"""Tasks of simulation-based inference: simulators agree with their likelihoods, and both with the stored posteriors."""

import math
import os

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow import datasets
from geoflow.datasets import lotka_volterra

TASKS = ("gaussian_linear", "gaussian_mixture", "two_moons", "slcp", "lotka_volterra")
SMOOTH = tuple(name for name in TASKS if name != "two_moons")  # whose support moves with θ


@pytest.fixture(params=TASKS)
def task(request):
    return datasets.task(request.param)


def stored(name: str) -> datasets.Task:
    if not os.environ.get("GEOFLOW_DATA") or name not in datasets.available()["sbibm"]:
        pytest.skip(f"GEOFLOW_DATA has no sbibm/{name}.npz")
    return datasets.task(name)


def zero_mean(rows: Tensor) -> None:
    """Within 4.5 standard errors in every column."""
    z = rows.mean(0) / (rows.std(0) / math.sqrt(len(rows)))
    assert bool((z.abs() < 4.5).all()), z


def slope(task: datasets.Task, theta: Tensor, x: Tensor, joint: bool = False) -> Tensor:
    """Gradient in θ of log p(x | θ), or of log p(θ, x), row by row."""
    theta = theta.detach().requires_grad_()
    value = task.log_likelihood(theta, x)
    if joint:
        value = value + task.prior.log_prob(theta)
    return torch.autograd.grad(value.sum(), theta)[0]


def double(task: datasets.Task) -> datasets.Task:
    task.prior.double()
    return task


# -- simulators and likelihoods ----------------------------------------------------------------------------------------


def test_draws(task, dtype):
    task.prior.to(dtype)
    theta, x = task.draws(30, seed=1)
    assert theta.shape == (30, task.prior.dim)
    assert x.shape == (30, task.data_dim)
    assert theta.dtype == x.dtype == dtype
    assert bool(task.log_joint(theta, x).isfinite().all())
    again, other = task.draws(30, seed=1), task.draws(30, seed=2)
    assert torch.equal(again[1], x)
    assert not torch.equal(other[1], x)
    assert not any(p.requires_grad for p in task.prior.parameters())
    # θ (5, 1) against x (4,) is a table
    table = task.log_likelihood(theta[:5, None], x[:4])
    assert table.shape == (5, 4)
    torch.testing.assert_close(table[2, 3], task.log_likelihood(theta[2], x[3]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_likelihood_is_that_of_the_simulator(name):
    """E ∂ log p(x | θ)/∂θ = 0 over simulated x, and E [∂ log p ∂ log p + ∂² log p] = 0 in every direction."""
    task = double(datasets.task(name))
    g = Generator().manual_seed(3)
    theta = task.prior.sample(generator=g)
    n = 500 if name == "lotka_volterra" else 4000
    x = task.simulate(theta.expand(n, -1), g)
    s = slope(task, theta.expand(n, -1), x)
    zero_mean(s)
    h = 1e-4 * theta.abs().clamp_min(0.01)
    for i in range(task.prior.dim):
        step = torch.zeros_like(theta).index_fill(0, torch.tensor(i), float(h[i]))
        curved = (slope(task, (theta + step).expand(n, -1), x) - slope(task, (theta - step).expand(n, -1), x))[:, i]
        zero_mean((s[:, i] ** 2 + curved / (2 * h[i]))[:, None])


def test_two_moons_likelihood_has_mass_one_and_the_simulators_moments():
    task = double(datasets.task("two_moons"))
    theta = torch.tensor([0.3, -0.6], dtype=torch.float64)
    shift = torch.tensor([0.25 - 0.3 / math.sqrt(2), -0.9 / math.sqrt(2)])
    side = torch.linspace(-0.16, 0.16, 1601, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side) + shift
    log_p = task.log_likelihood(theta, grid)
    mass = log_p.exp() * float(side[1] - side[0]) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)
    x = task.simulate(theta.expand(20_000, -1), Generator().manual_seed(0))
    seen = task.log_likelihood(theta, x)
    inside = mass > 0

    def features(x: Tensor, log_p: Tensor) -> Tensor:
        return torch.cat([x, x**2, x[:, :1] * x[:, 1:], log_p[:, None]], 1)

    wanted = (mass[inside, None] * features(grid[inside], log_p[inside])).sum(0)
    rows = features(x, seen)
    assert bool(((rows.mean(0) - wanted).abs() < 4.5 * rows.std(0) / math.sqrt(len(x)) + 2e-3 * wanted.abs()).all())


def test_slcp_against_torch():
    task = double(datasets.task("slcp"))
    theta, x = task.draws(20)
    for t, row in zip(theta, x, strict=True):
        a, b, rho = t[2] ** 2, t[3] ** 2, t[4].tanh()
        covariance = torch.stack([torch.stack([a * a, rho * a * b]), torch.stack([rho * a * b, b * b])])
        normal = torch.distributions.MultivariateNormal(t[:2], covariance + 1e-6 * torch.eye(2, dtype=torch.float64))
        torch.testing.assert_close(task.log_likelihood(t, row), normal.log_prob(row.reshape(4, 2)).sum())


def test_lotka_volterra_against_torch():
    task = double(datasets.task("lotka_volterra"))
    theta, x = task.draws(20)
    counts = torch.distributions.LogNormal(lotka_volterra.populations(theta), 0.1)
    torch.testing.assert_close(task.log_likelihood(theta, x), counts.log_prob(x).sum(-1))
    prior = torch.distributions.LogNormal(torch.tensor([-0.125, -3.0, -0.125, -3.0], dtype=torch.float64), 0.5)
    torch.testing.assert_close(task.prior.log_prob(theta), prior.log_prob(theta).sum(-1))


# -- prey and predators ------------------------------------------------------------------------------------------------


def test_populations_against_scipy():
    from scipy.integrate import solve_ivp

    theta = double(datasets.task("lotka_volterra")).prior.sample(20, generator=Generator().manual_seed(2))
    ours = lotka_volterra.populations(theta).reshape(20, 2, 10)
    for (a, b, c, d), found in zip(theta.tolist(), ours.numpy(), strict=True):

        def right(t: float, y: np.ndarray, a=a, b=b, c=c, d=d) -> list[float]:
            return [a - b * math.exp(y[1]), d * math.exp(y[0]) - c]

        theirs = solve_ivp(
            right, (0, 19), np.log([30, 1]), "DOP853", lotka_volterra.TIMES, rtol=1e-12, atol=1e-12, max_step=0.05
        )
        np.testing.assert_allclose(found, theirs.y, atol=2e-6)


def test_populations_keep_their_invariant():
    """δX − γ log X + βY − α log Y, also for the wild rates of the prior's tail."""
    theta = torch.tensor([[3.0, 0.2, 3.0, 0.3], [0.2, 0.01, 0.2, 0.01], [2.0, 0.3, 0.2, 0.01]], dtype=torch.float64)
    prey, predators = lotka_volterra.populations(theta).reshape(3, 2, 10).unbind(1)
    a, b, c, d = theta[:, :, None].unbind(1)
    value = d * prey.exp() - c * prey + b * predators.exp() - a * predators
    assert float((value / value[:, :1] - 1).abs().max()) < 1e-6
    assert bool((prey[:, 0].exp() - 30).abs().max() < 1e-12)


def test_populations_can_be_differentiated():
    theta = torch.tensor([[0.9, 0.05, 0.8, 0.04], [1.5, 0.1, 0.6, 0.02]], dtype=torch.float64)
    direction = torch.tensor([0.3, -0.01, 0.2, 0.02], dtype=torch.float64)
    _, pull_back = torch.func.vjp(lotka_volterra.populations, theta)
    weights = torch.linspace(-1, 2, 40, dtype=torch.float64).reshape(2, 20)
    h = 1e-3
    ahead, behind = (lotka_volterra.populations(theta + s * h * direction) for s in (1, -1))
    slope = (weights * (ahead - behind)).sum() / (2 * h)
    assert float((pull_back(weights)[0] * direction).sum()) == pytest.approx(float(slope), rel=1e-3)


def test_impossible_counts_and_rates():
    task = datasets.task("lotka_volterra")
    theta, x = task.draws(2)
    x[0, 3] = -1.0
    theta[1, 2] = -1.0
    assert task.log_likelihood(theta, x).tolist() == [-math.inf, -math.inf]


# -- the stored posteriors ---------------------------------------------------------------------------------------------


def test_gaussian_linear_posteriors_are_exact():
    """N(x/2, 0.05 I): means, variances and correlations of all ten; and its gradient is that of the joint density."""
    task = double(stored("gaussian_linear"))
    for k in range(1, 11):
        theta, x = task.reference_posterior(k)[:50].double(), task.observation(k).double()
        torch.testing.assert_close(slope(task, theta, x, joint=True), -(theta - x / 2) / 0.05, rtol=1e-5, atol=1e-4)
        z = (task.reference_posterior(k).double() - task.observation(k).double() / 2) / math.sqrt(0.05)
        zero_mean(z)
        i, j = torch.triu_indices(10, 10)
        zero_mean(z[:, i] * z[:, j] - (i == j).double())


@pytest.mark.parametrize(("name", "half", "cells"), [("two_moons", 1.0, 1200), ("gaussian_mixture", 10.0, 1000)])
def test_planar_posteriors_by_quadrature(name, half, cells):
    """Means of θ, its square and product, and log p over the draws are those of the joint density on a grid."""
    task = double(stored(name))
    side = -half + (torch.arange(cells, dtype=torch.float64) + 0.5) * (2 * half / cells)
    grid = torch.cartesian_prod(side, side)
    for k in range(1, 11):
        x, draws = task.observation(k).double(), task.reference_posterior(k).double()
        log_p = task.log_joint(grid, x)
        near = log_p > log_p.max() - 40
        mass = log_p[near].softmax(0)

        def features(theta: Tensor, log_p: Tensor) -> Tensor:
            return torch.cat([theta, theta**2, theta[:, :1] * theta[:, 1:], theta.abs(), log_p[:, None]], 1)

        wanted = (mass[:, None] * features(grid[near], log_p[near])).sum(0)
        zero_mean(features(draws, task.log_joint(draws, x)) - wanted)


@pytest.mark.parametrize(("name", "rows"), [("slcp", 10_000), ("lotka_volterra", 500)])
def test_posteriors_by_steins_identity(name, rows):
    """E [f ∂_i log p(θ, x) + ∂_i f] = 0 for f that vanishes on the edges of the prior, without its constant."""
    task = double(stored(name))
    for k in range(1, 11):
        theta, x = task.reference_posterior(k)[:rows].double(), task.observation(k).double()
        s = slope(task, theta, x, joint=True)
        if name == "slcp":
            edge = 1 - (theta / 3) ** 2
            zero_mean(edge * s - 2 * theta / 9)
            zero_mean(theta * edge * s + 1 - theta**2 / 3)
        else:
            # around the middle, where the first term has a mean of −1 and a deviation not much larger
            zero_mean((theta - theta.mean(0)) * s + 1)


@pytest.mark.parametrize("name", TASKS)
def test_true_parameters_explain_the_observations(name):
    """log p(x | θ) at the stored pairs is one draw of what fresh data give; the mean over ten of them within errors."""
    task = double(stored(name))
    g = Generator().manual_seed(0)
    z = []
    for k in range(1, 11):
        theta = task.true_parameters(k).double()
        fresh = task.log_likelihood(theta, task.simulate(theta.expand(200, -1), g))
        seen = task.log_likelihood(theta, task.observation(k).double())
        z.append(float((seen - fresh.mean()) / fresh.std()))
    assert abs(sum(z)) / math.sqrt(10) < 3.5, z
    assert max(abs(v) for v in z) < 6


def test_tasks_refuse(tmp_path):
    with pytest.raises(ValueError, match="gaussian_linear, gaussian_mixture, two_moons, slcp, lotka_volterra"):
        datasets.task("sir")
    task = datasets.task("slcp")
    with pytest.raises(FileNotFoundError, match="sbi-benchmark/sbibm"):
        task.observation(1, tmp_path)
    with pytest.raises(ValueError, match="observations 1 to 10, got 11"):
        task.observation(11, tmp_path)
    with pytest.raises(ValueError, match=r"\(\*batch, 5\)|5 "):
        task.simulate(torch.zeros(3, 4))


def test_stored_files_are_read(tmp_path):
    (tmp_path / "sbibm").mkdir()
    arrays = {"posterior_02": np.ones((7, 2)), "observation_02": np.zeros(2), "true_parameters_02": np.full(2, 3.0)}
    np.savez(tmp_path / "sbibm/two_moons.npz", **arrays)
    task = datasets.task("two_moons")
    assert task.reference_posterior(2, tmp_path).shape == (7, 2)
    assert task.observation(2, tmp_path).dtype == torch.get_default_dtype()
    assert task.true_parameters(2, tmp_path).tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="expected arrays posterior_01"):
        task.reference_posterior(1, tmp_path)
