"""Densities on spheres against 30 digits of mpmath, scipy, numerical integration, and Wood's rejection sampler."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from geoflow.distributions import PowerSpherical, Uniform, VonMisesFisher
from geoflow.distributions.bessel import normaliser
from manifolds import Sphere

PAIRS = [(1, 0.01), (1, 2.0), (1, 1e4), (2, 0.01), (2, 10.0), (3, 5.0), (9, 50.0), (31, 1000.0), (99, 1e4)]


def direction(n: int, generator: Generator) -> Tensor:
    return Sphere(n).sample_uniform((), generator, torch.float64)


# n, κ, log C, mean length, entropy; 11 digits of each
VMF = [
    (1, 2.0, -2.6618706079, 0.69777465796, 1.2663212920),
    (2, 0.1, -2.5326903584, 0.033311132254, 2.5293592452),
    (2, 10.0, -9.5352919714, 0.90000000412, 0.53529193013),
    (2, 1000.0, -994.93012179, 0.999, -4.0698782126),
    (3, 5.0, -5.2582582509, 0.71934058136, 1.6615553441),
    (9, 50.0, -40.507323555, 0.91320959987, -5.1531564383),
    (31, 100.0, -55.979685473, 0.85628659582, -29.648974109),
    (99, 1.0, 86.631102718, 0.0099990197963, -86.641101738),
    (99, 1e4, -9634.9430231, 0.99506200488, -315.67702567),
]
POWER = [
    (2, 10.0, -7.0646007798, 0.83333333333, 1.0422198833),
    (9, 50.0, -27.913982180, 0.84745762712, -2.7413471403),
]


@pytest.mark.parametrize(("family", "rows"), [(VonMisesFisher, VMF), (PowerSpherical, POWER)])
@torch.no_grad()
def test_known_numbers(family: type, rows: list[tuple[float, ...]], generator: Generator) -> None:
    for n, kappa, constant, length, entropy in rows:
        model = family(direction(int(n), generator), kappa)
        top = kappa if family is VonMisesFisher else kappa * math.log(2)
        assert float(model.log_prob(model.mean_direction)) - top == pytest.approx(constant, rel=1e-10)
        assert float(model.mean_length()) == pytest.approx(length, rel=1e-10)
        assert float(model.entropy()) == pytest.approx(entropy, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 41, 64, 256])
def test_normaliser(n: int) -> None:
    """Value, first and second derivative by autograd, from κ = 0 to 10⁴."""
    grid = [0.0, 1e-8, 1e-3, 0.3, 2.0, 10.0, 40.0, 300.0, 1e4]
    kappa = torch.tensor(grid, dtype=torch.float64, requires_grad=True)
    g, length = normaliser(kappa, n)
    (first,) = torch.autograd.grad(g.sum(), kappa, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), kappa)
    g, length, first = g.detach(), length.detach(), first.detach()
    with mpmath.workdps(40):
        for i, k in enumerate(map(mpmath.mpf, grid)):
            order = mpmath.mpf(n + 1) / 2
            wanted = mpmath.log(mpmath.hyp0f1(order, k * k / 4)) - k
            a = k / (n + 1) * mpmath.hyp0f1(order + 1, k * k / 4) / mpmath.hyp0f1(order, k * k / 4)
            bend = 1 - a * a - n * a / k if k else mpmath.mpf(1) / (n + 1)
            assert float(g[i]) == pytest.approx(float(wanted), rel=1e-13, abs=1e-13)
            assert float(first[i]) == pytest.approx(float(a - 1), abs=3e-14)
            assert float(length[i]) == pytest.approx(float(a), rel=2e-13)
            assert float(second[i]) == pytest.approx(float(bend), abs=3e-14)
    mapped = torch.vmap(torch.func.grad(lambda k: normaliser(k, n)[0]))(kappa.detach())
    torch.testing.assert_close(mapped, first, rtol=0, atol=1e-14)


@torch.no_grad()
def test_single_precision_of_concentrated_densities(generator: Generator) -> None:
    """At κ = 10⁴ float32 keeps its digits, where κ⟨μ, x⟩ + log C loses them."""
    for n in (2, 99):
        single = VonMisesFisher(direction(n, generator).float(), 1e4)
        x = single.sample(500, generator=generator)
        double = VonMisesFisher(single.mean_direction.double(), 1e4)
        exact = double.log_prob(Sphere(n).project(x.double()))
        error = (single.log_prob(x) - exact).abs().max()
        constant = (double.log_prob(double.mean_direction) - 1e4).float()
        naive = (1e4 * (x * single.mean_direction).sum(-1) + constant - exact).abs().max()
        assert error < 1e-4
        assert naive > 10 * error


@torch.no_grad()
def test_scipy_agrees(generator: Generator) -> None:
    for n, kappa in ((1, 3.0), (2, 0.4), (2, 60.0), (5, 12.0)):
        ours = VonMisesFisher(direction(n, generator), kappa)
        x = Uniform(Sphere(n)).double().sample(30, generator=generator)
        theirs = stats.vonmises_fisher(ours.mean_direction.numpy(), kappa)
        np.testing.assert_allclose(ours.log_prob(x), theirs.logpdf(x.numpy()), rtol=1e-11, atol=1e-11)
        assert float(ours.entropy()) == pytest.approx(theirs.entropy(), rel=1e-10)
    angle = torch.linspace(-3, 3, 20, dtype=torch.float64)
    ours = VonMisesFisher(torch.tensor([1.0, 0.0], dtype=torch.float64), 3.0)
    found = ours.log_prob(torch.stack([angle.cos(), angle.sin()], -1))
    np.testing.assert_allclose(found, stats.vonmises(3.0).logpdf(angle.numpy()), rtol=1e-12)


@pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
@torch.no_grad()
def test_mass_by_quadrature(family: type) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(600)
    theta, weights = torch.from_numpy(math.pi * (nodes + 1) / 2)[:, None], torch.from_numpy(math.pi * weights / 2)
    for n, kappa in ((1, 0.0), (1, 7.5), (2, 0.3), (2, 400.0), (3, 5.0), (6, 30.0), (20, 3.0)):
        pole, across = torch.eye(n + 1, dtype=torch.float64)[:2]
        log_p = family(pole, kappa).log_prob(theta.cos() * pole + theta.sin() * across)
        ring = 2 * math.pi ** (n / 2) / math.gamma(n / 2) * theta[:, 0].sin() ** (n - 1)
        assert float((log_p.exp() * ring * weights).sum()) == pytest.approx(1, abs=1e-10)


def wood(n: int, kappa: float, draws: int, seed: int) -> np.ndarray:
    """Cosines by Wood's rejection from a transformed beta."""
    rng, found = np.random.default_rng(seed), np.empty(0)
    b = n / (2 * kappa + math.sqrt(4 * kappa**2 + n**2))
    x0 = (1 - b) / (1 + b)
    c = kappa * x0 + n * math.log(1 - x0**2)
    while len(found) < draws:
        z = rng.beta(n / 2, n / 2, draws)
        w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
        kept = kappa * w + n * np.log(1 - x0 * w) - c >= np.log(rng.uniform(size=draws))
        found = np.concatenate([found, w[kept]])
    return found[:draws]


@pytest.mark.parametrize(("n", "kappa"), PAIRS)
@torch.no_grad()
def test_draws(n: int, kappa: float, generator: Generator) -> None:
    """Cosines have the right mean and the distribution of other samplers; what is left is uniform around the axis."""
    samplers = {VonMisesFisher: wood(n, kappa, 20_000, 5), PowerSpherical: stats.beta(n / 2 + kappa, n / 2)}
    for family, other in samplers.items():
        model = family(direction(n, generator), kappa)
        x = model.sample(20_000, generator=generator)
        gap = ((x - model.mean_direction) ** 2).sum(-1) / 2
        z = (1 - gap.mean() - model.mean_length()) / (gap.std() / math.sqrt(len(gap)))
        assert abs(float(z)) < 4
        test = (
            stats.ks_2samp(1 - gap.numpy(), other)
            if family is VonMisesFisher
            else stats.kstest(1 - gap.numpy() / 2, other.cdf)
        )
        assert test.pvalue > 1e-3
        basis = Sphere(n).tangent_basis(model.mean_direction)
        around = x @ basis / (x @ basis).norm(dim=-1, keepdim=True)
        assert (around.mean(0) * math.sqrt(n * len(x))).abs().max() < 4.5
        assert (n * (around**2).mean(0) - 1).abs().max() < 4.5 * math.sqrt(2 / len(x)) + 1e-12


@pytest.mark.parametrize(("n", "kappa"), [p for p in PAIRS if p[0] != 2])
def test_draws_meet_the_distribution_function(n: int, kappa: float) -> None:
    """F(θ) of a draw is the uniform number it came from, to 1e-12, with F integrated by mpmath."""
    pole = torch.eye(n + 1, dtype=torch.float64)[0].expand(2, -1)
    model, index = (
        VonMisesFisher(pole, torch.tensor([0.7, kappa], dtype=torch.float64)),
        torch.ones(6, dtype=torch.long),
    )
    k = model.concentration.detach()
    cos, sin = model._angles(k, index, Generator().manual_seed(3), attached=False)
    theta = torch.atan2(sin, cos)
    u = torch.rand(6, generator=Generator().manual_seed(3), dtype=torch.float64)
    mode = 2 * kappa / (n - 1 + math.sqrt((n - 1) ** 2 + 4 * kappa**2))
    curvature = (n - 1 + math.sqrt((n - 1) ** 2 + 4 * kappa**2)) / 2 + kappa * mode
    sigma, centre = 1 / math.sqrt(curvature), math.acos(min(mode, 1))
    with mpmath.workdps(25):

        def density(t: Any) -> Any:
            height = mpmath.exp(kappa * (mpmath.cos(t) - math.cos(centre)))
            return height * (mpmath.sin(t) / math.sin(centre)) ** (n - 1) if n > 1 else height

        knots = [centre + i * sigma for i in range(-14, 24, 2)]
        inside = [0.0, *(t for t in knots if 0 < t < math.pi), mpmath.pi]
        total = mpmath.quad(density, inside)
        for t, wanted in zip(theta.tolist(), u.tolist(), strict=True):
            below = mpmath.quad(density, [*(s for s in inside if s < t), t])
            assert float(below / total) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("family", [VonMisesFisher, PowerSpherical])
def test_derivatives_in_the_parameters(family: type, generator: Generator) -> None:
    """Of log_prob and entropy against differences; of draws on average against that of the mean length."""
    for n in (1, 2, 4):
        model = family(direction(n, generator), 3.0)
        x = Sphere(n).sample_uniform(5, generator, torch.float64)
        (free,) = (p for name, p in model.named_parameters() if name == "raw_concentration")
        turn = torch.randn(n + 1, dtype=torch.float64, generator=generator)
        for f in (lambda m=model, x=x: m.log_prob(x).sum(), model.entropy):
            slopes = torch.autograd.grad(f(), [free, model.direction], allow_unused=True, materialize_grads=True)
            for p, slope, step in zip((free, model.direction), slopes, (torch.ones_like(free), turn), strict=True):

                def moved(h: float, f: Any = f, p: Tensor = p, step: Tensor = step) -> float:
                    with torch.no_grad():
                        p.add_(h * step)
                        value = float(f())
                        p.sub_(h * step)
                    return value

                difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
                assert difference == pytest.approx(float((slope * step).sum()), rel=1e-6, abs=1e-7)
        (wanted,) = torch.autograd.grad(model.mean_length(), free)
        found = []
        for _ in range(20):
            y = model.rsample(400, generator=generator)
            found += torch.autograd.grad((y * model.mean_direction.detach()).sum(-1).mean(), free)
        slopes = torch.stack(found)
        assert abs(float((slopes.mean() - wanted) / (slopes.std() / math.sqrt(20)))) < 4
