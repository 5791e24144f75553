"""Energies of particles against plain loops, and draws of exp(−U) against quadrature, importance sampling and the virial."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow.datasets import double_well_energy, lennard_jones_energy, sample_boltzmann
from geoflow.distributions import MeanFreeNormal
from manifolds import SpecialOrthogonal


def double_well_by_loops(x: np.ndarray) -> float:
    total = 0.0
    for i in range(len(x)):
        for j in range(i):
            d = math.dist(x[i], x[j])
            total += -4 * (d - 4) ** 2 + 0.9 * (d - 4) ** 4
    return total


def lennard_jones_by_loops(x: np.ndarray) -> float:
    """Ordered pairs with a factor of one, which is unordered pairs with a factor of two."""
    total = 0.5 * ((x - x.mean(0)) ** 2).sum()
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                r = math.dist(x[i], x[j])
                total += r**-12 - 2 * r**-6
    return float(total)


CASES = {
    "double wells": (double_well_energy, double_well_by_loops, 2),
    "lj": (lennard_jones_energy, lennard_jones_by_loops, 3),
}


@pytest.mark.parametrize(("energy", "loops", "each"), CASES.values(), ids=CASES)
def test_energies_are_those_of_loops(energy, loops, each, dtype, generator):
    x = 2 * torch.randn(3, 5, 6 * each, dtype=dtype, generator=generator)
    u = energy(x)
    assert u.shape == (3, 5)
    assert u.dtype == dtype
    wanted = torch.tensor([loops(row) for row in x.double().reshape(-1, 6, each).numpy()], dtype=dtype).view(3, 5)
    torch.testing.assert_close(u, wanted, rtol=2e3 * torch.finfo(dtype).eps, atol=0)
    assert energy(x[0, 0]).shape == ()


@pytest.mark.parametrize(("energy", "loops", "each"), CASES.values(), ids=CASES)
def test_energies_do_not_change_when_particles_move_together(energy, loops, each, generator):
    x = 2 * torch.randn(4, 5, each, dtype=torch.float64, generator=generator)
    turn = (
        SpecialOrthogonal(each).project(torch.randn(each * each, dtype=x.dtype, generator=generator)).view(each, each)
    )
    mirror = torch.diag(torch.tensor([-1.0] + [1.0] * (each - 1), dtype=x.dtype))
    for moved in (x @ turn.T, x @ mirror + 3.0, x.flip(-2)):
        torch.testing.assert_close(energy(moved.flatten(-2)), energy(x.flatten(-2)), rtol=1e-10, atol=1e-10)


def test_the_lowest_energy_of_a_pair():
    """−ε at r_m without the spring; two wells of depth −b²/4c each."""
    r = torch.linspace(0.5, 8, 100_001, dtype=torch.float64)
    pair = torch.stack([torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(r), r], -1)
    u = lennard_jones_energy(pair, 2, depth=3.0, radius=2.0, spring=0.0)
    assert float(u.min()) == pytest.approx(-3, abs=1e-6)
    assert float(r[u.argmin()]) == pytest.approx(2, abs=1e-3)
    u = double_well_energy(pair)
    assert float(u.min()) == pytest.approx(-16 / 3.6, abs=1e-6)
    assert abs(float(r[u.argmin()]) - 4) == pytest.approx((4 / 1.8) ** 0.5, abs=1e-3)


def test_energies_where_particles_meet():
    x = torch.zeros(8, requires_grad=True)
    double_well_energy(x).backward()
    assert x.grad.isfinite().all()
    assert lennard_jones_energy(torch.zeros(6)) == math.inf


@pytest.mark.parametrize(
    "bad", [torch.zeros(5, 7), torch.zeros(5, 2), torch.zeros(()), torch.zeros(4, dtype=torch.int64)]
)
def test_energies_refuse(bad):
    with pytest.raises(ValueError, match=r"double_well_energy expects floats \(\*batch, particles \* 2\)"):
        double_well_energy(bad)


# -- draws -------------------------------------------------------------------------------------------------------------


def within(rows: Tensor, wanted: float, error: float = 0.0, widest: float = math.inf) -> None:
    """The mean of independent rows is the wanted number within 4.5 standard errors, which are small enough to tell."""
    rows = rows.double()
    error = math.hypot(float(rows.std()) / math.sqrt(len(rows)), error)
    assert error < widest
    assert abs(float(rows.mean()) - wanted) < 4.5 * error


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, 2.0, 4.0)])
def test_draws_of_a_normal(temperatures, dtype, generator):
    a = torch.tensor([[2.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=dtype)
    start = 3 + torch.randn(4000, 3, dtype=dtype, generator=generator)
    x = sample_boltzmann(lambda y: 0.5 * ((y @ a) * y).sum(-1), start, 60, generator, temperatures=temperatures)
    assert x.dtype == dtype
    assert x.shape == (4000, 3)
    covariance = torch.linalg.inv(a)
    for i in range(3):
        within(x[:, i], 0.0, widest=0.05)
        for j in range(3):
            within(x[:, i] * x[:, j], float(covariance[i, j]), widest=0.1)


def test_coarse_steps_are_made_up_for():
    """From exact draws of N(0, 1), and an integrator so coarse that alone it would double their variance at a step."""
    start = torch.randn(40_000, 1, dtype=torch.float64, generator=Generator().manual_seed(0))
    x = sample_boltzmann(
        lambda y: 0.5 * y.square().sum(-1), start, 2, Generator().manual_seed(1), leapfrogs=1, step_size=1.6
    )
    assert not torch.equal(x, start)
    within(x[:, 0].square(), 1.0, widest=0.01)
    within(x[:, 0] ** 4, 3.0, widest=0.06)


def test_tempered_chains_cross_a_barrier():
    """Two particles, all chains from the far well: the near one, behind 4.4 kT, gets its share ∫ r e^{−U(r)} dr."""
    r = torch.linspace(1e-6, 12, 200_001, dtype=torch.float64)
    pair = torch.stack([torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(r), r], -1)
    p = r * torch.exp(-double_well_energy(pair))
    close = float(p[r < 4].sum() / p.sum())
    assert 0.2 < close < 0.4
    start = torch.tensor([0.0, 0.0, 5.5, 0.0]).expand(3000, 4)
    x = sample_boltzmann(double_well_energy, start, 100, Generator().manual_seed(0), temperatures=(1.0, 2.0, 4.0))
    d = (x[:, :2] - x[:, 2:]).norm(dim=-1)
    within((d < 4).double(), close, widest=0.01)
    within(d, float((p * r).sum() / p.sum()), widest=0.05)


def close_pairs(x: Tensor) -> Tensor:
    cloud = x.unflatten(-1, (4, 2))
    return sum((cloud[..., i, :] - cloud[..., j, :]).norm(dim=-1).lt(4).long() for i in range(4) for j in range(i))  # type: ignore[return-value]


@pytest.mark.parametrize("width", [0.7, 2.0])
def test_double_wells_from_opposite_starts(width):
    """Mean energy and the number of close pairs are those of importance sampling, and E[x · ∇U] is the dimension, 6."""
    q = MeanFreeNormal(4, 2, 2.2).double().requires_grad_(False)
    z = q.sample(1_500_000, generator=Generator().manual_seed(1))
    u = double_well_energy(z)
    w = (-u - q.log_prob(z) - 30).exp()
    w = w / w.sum()

    def expected(f: Tensor) -> tuple[float, float]:
        mean = (w * f).sum()
        return float(mean), float((w * (f - mean)).square().sum().sqrt())

    g = Generator().manual_seed(0)
    start = width * torch.randn(3000, 8, generator=g)
    x = sample_boltzmann(double_well_energy, start, 150, g, temperatures=(1.0, 1.6, 2.5)).double()
    within(double_well_energy(x), *expected(u), widest=0.2)
    within((close_pairs(x) == 2).double(), *expected((close_pairs(z) == 2).double()), widest=0.03)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(double_well_energy(x).sum(), x)
    within((x * gradient).sum(-1).detach(), 6.0, widest=0.8)


def test_draws_repeat_under_a_seed_and_leave_things_alone():
    start = torch.randn(20, 4, requires_grad=True)
    kept, state = start.detach().clone(), torch.get_rng_state()
    a, b, c = (
        sample_boltzmann(double_well_energy, start, 5, Generator().manual_seed(s), temperatures=(1.0, 2.0))
        for s in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(start, kept)
    assert not a.requires_grad


def test_the_sampler_refuses():
    start = torch.randn(5, 4)
    with pytest.raises(ValueError, match=r"temperatures that rise from 1.*got \(2.0, 1.0\)"):
        sample_boltzmann(double_well_energy, start, temperatures=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"start as \(chains, dim\), each of finite energy; got \(5, 6\)"):
        sample_boltzmann(lennard_jones_energy, torch.zeros(5, 6))
    with pytest.raises(ValueError, match=r"steps must be at least 1, got 0"):
        sample_boltzmann(double_well_energy, start, 0)
