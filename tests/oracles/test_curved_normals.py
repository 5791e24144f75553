"""Normals on curved spaces, Dirichlet and von Mises, against numbers of high precision, quadrature and scipy."""

import math
import os
import subprocess
import sys
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from geoflow import ClassConditional, Density, StandardNormal
from geoflow.distributions import (
    Dirichlet,
    IsotropicGaussianSO3,
    ProductDensity,
    RiemannianNormal,
    VonMises,
    WrappedNormal,
)
from geoflow.distributions.curvature import Radial
from geoflow.distributions.igso3 import _dual, _series
from geoflow.distributions.law import Law
from geoflow.distributions.wrapped_normal import _log_det
from manifolds import (
    Euclidean,
    Hyperboloid,
    Manifold,
    PoincareBall,
    Product,
    Simplex,
    SpecialOrthogonal,
    Sphere,
    Torus,
)

SO3 = SpecialOrthogonal(3)


def vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def origin(space: Manifold) -> Tensor:
    """One fixed point, not on an axis where there is a choice."""
    raw = torch.linspace(-0.4, 0.7, space.ambient_dim, dtype=torch.float64)
    return space.project(raw if space != SO3 else raw + torch.eye(3).flatten())


def at(space: Manifold, mean: Tensor, r: Tensor, direction: int = 0) -> Tensor:
    """Points at distances r along one direction of the basis."""
    return space._exp(mean, r[..., None] * space.tangent_basis(mean)[:, direction])


def gauss(low: float, high: float, n: int = 400) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(low + (high - low) * (nodes + 1) / 2), torch.from_numpy(weights * (high - low) / 2)


def area(space: Manifold, r: Tensor) -> Tensor:
    """Area of the sphere of radius r, as textbooks have it."""
    n = space.dim
    unit = 2 * math.pi ** (n / 2) / math.gamma(n / 2)
    if isinstance(space, Sphere):
        return unit * r.sin() ** (n - 1)
    if space == SO3:
        return 16 * math.pi * (r / 2).sin() ** 2
    root = math.sqrt(getattr(space, "curvature", 1.0))
    return unit * ((root * r).sinh() / root) ** (n - 1) if not isinstance(space, Euclidean) else unit * r ** (n - 1)


# -- numbers -----------------------------------------------------------------------------------------------------------

RIEMANNIAN = [  # space, std, log Z, E dist², entropy
    (Sphere(2), 0.5, 0.36894925695, 0.45903590268, 1.2870210623),
    (Sphere(2), 2.0, 2.1996464372, 2.3880987091, 2.4981587759),
    (Hyperboloid(2), 0.5, 0.53560490480, 0.54235271135, 1.6203103275),
    (PoincareBall(2), 1.0, 2.1819532728, 2.7088749052, 3.5363907254),
    (Hyperboloid(5), 1.0, 9.4076902958, 17.103802637, 17.959591614),
    (SO3, 0.2, -2.0814814711, 0.11920266665, -0.59144813797),
    (SO3, 0.5, 0.61552500922, 0.71940081794, 2.0543266451),
]


@pytest.mark.parametrize(("space", "std", "log_z", "square", "entropy"), RIEMANNIAN)
@torch.no_grad()
def test_riemannian_normal(space: Manifold, std: float, log_z: float, square: float, entropy: float) -> None:
    density = RiemannianNormal(space, origin(space), std)
    r = vector(0.3, 1.1)
    found = density.log_prob(at(space, density.mean, r))
    torch.testing.assert_close(found, -(r**2) / 2 / std**2 - log_z, atol=1e-9, rtol=1e-9)
    assert float(density.entropy()) == pytest.approx(entropy, rel=1e-9)
    assert 2 * std**2 * (float(density.entropy()) - log_z) == pytest.approx(square, rel=1e-8)


@pytest.mark.parametrize(
    ("n", "curvature", "reach"), [(1, 1, 1), (2, 1, 1), (99, 1, 1), (3, 0.25, 1), (2, -1, math.inf), (30, -2, math.inf)]
)
@pytest.mark.parametrize("std", [1e-3, 0.3, 3.0])
def test_normaliser_in_high_precision(n: int, curvature: float, reach: float, std: float) -> None:
    """Against mpmath, from narrow to nearly uniform, in few dimensions and many."""
    known = Radial(n, float(curvature), math.pi * reach)
    low, high = (float(t) for t in known.support(vector(std)[0]))
    root = mpmath.sqrt(abs(curvature))

    def log_p(r: Any) -> Any:
        s = (mpmath.sin(root * r) if curvature > 0 else mpmath.sinh(root * r)) / root
        return (n - 1) * mpmath.log(abs(s)) - r * r / 2 / mpmath.mpf(std) ** 2

    top = max(log_p(mpmath.mpf(r)) for r in np.linspace(low, high, 201)[1:-1])
    cuts = [mpmath.mpf(c) for c in np.linspace(low, high, 21)]
    mass = mpmath.quad(lambda r: mpmath.exp(log_p(r) - top), cuts)
    wanted = mpmath.log(mass) + top + mpmath.log(2) + n * mpmath.log(mpmath.pi) / 2 - mpmath.loggamma(mpmath.mpf(n) / 2)
    law = Law(lambda r: known.log_area(r) - 0.5 * r * r / std**2, vector(low)[0], vector(high)[0])
    found = law.log_integral()
    assert float(found) == pytest.approx(float(mpmath.re(wanted)), rel=1e-12, abs=1e-12)


HEAT = {  # sigma: log densities at angles 0.5, 2, 3.1
    0.1: (-8.3373718661, -195.67520657, -475.90933913),
    0.5: (-1.1356856034, -8.4735203117, -19.119427793),
    1.0: (-2.7463764306, -4.4575702950, -6.4157455085),
    2.0: (-4.2278309505, -4.3597632563, -4.4252825965),
}


@pytest.mark.parametrize("sigma", HEAT)
@torch.no_grad()
def test_heat_kernel_on_rotations(sigma: float) -> None:
    density = IsotropicGaussianSO3(origin(SO3), sigma)
    found = density.log_prob(at(SO3, density.mean, vector(0.5, 2.0, 3.1), 1))
    torch.testing.assert_close(found, vector(*HEAT[sigma]), atol=1e-9, rtol=1e-9)
    entropies = {0.5: 2.0839541757, 1.0: 3.8522255125}
    if sigma in entropies:
        assert float(density.entropy()) == pytest.approx(entropies[sigma], rel=1e-9)


def test_both_series_of_the_heat_kernel() -> None:
    """They agree where one takes over from the other, and E cos θ is as the heat equation has it."""
    s = torch.linspace(0, math.pi, 50, dtype=torch.float64) ** 2
    torch.testing.assert_close(_dual(s, vector(0.0)[0]), _series(s, vector(0.0)[0]), atol=1e-13, rtol=1e-13)
    r, w = gauss(0, math.pi)
    for sigma in (0.3, 0.99, 1.7):
        density = IsotropicGaussianSO3(origin(SO3), sigma)
        p = w * area(SO3, r) * density.log_prob(at(SO3, density.mean, r)).detach().exp()
        assert float((p * r.cos()).sum()) == pytest.approx((3 * math.exp(-(sigma**2)) - 1) / 2, abs=1e-12)


WRAPPED = [  # space, std, distances, log densities
    (Sphere(2), 1.0, (0.5, 2.0, 3.0), (-1.9208568430, -3.0480052914, -2.9098492732)),
    (Sphere(2), 2.0, (0.5, 2.0, 3.0), (-3.0088860194, -2.6301420214, -0.66302675961)),
    (Hyperboloid(2), 1.0, (1.0, 5.0), (-2.4993164280, -17.035246572)),
    (PoincareBall(2), 1.0, (1.0, 5.0), (-2.4993164280, -17.035246572)),
    (Hyperboloid(5), 0.5, (2.0,), (-11.509837531,)),
]


@pytest.mark.parametrize(("space", "std", "r", "wanted"), WRAPPED)
@torch.no_grad()
def test_wrapped_normal(space: Manifold, std: float, r: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    """With one std and with as many equal ones as there are directions."""
    for given in (std, [std] * space.dim):
        density = WrappedNormal(space, origin(space), given)
        found = density.log_prob(at(space, density.mean, vector(*r), 1))
        torch.testing.assert_close(found, vector(*wanted), atol=1e-9, rtol=1e-9)


# -- mass --------------------------------------------------------------------------------------------------------------

ROUND = [Sphere(1), Sphere(2), Sphere(5), SO3, Hyperboloid(2), PoincareBall(3, 0.5), Euclidean(3)]


@pytest.mark.parametrize("space", ROUND, ids=repr)
@pytest.mark.parametrize("std", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("kind", [WrappedNormal, RiemannianNormal, IsotropicGaussianSO3])
@torch.no_grad()
def test_masses(space: Manifold, std: float, kind: Any) -> None:
    """∫ p over distances, with the textbooks' areas."""
    if kind is IsotropicGaussianSO3 and space != SO3:
        return
    mean = origin(space)
    density = kind(mean, std) if kind is IsotropicGaussianSO3 else kind(space, mean, std)
    far = 8 * std + 2 * space.dim * std**2 if space.injectivity_radius == math.inf else math.pi
    r, w = gauss(0, far, 800)
    if isinstance(space, PoincareBall) and far > 25:
        return  # farther out than its coordinates reach
    total = (w * area(space, r) * density.log_prob(at(space, mean, r)).exp()).sum()
    assert float(total) == pytest.approx(1, abs=2e-8 if kind is WrappedNormal else 1e-10)


@pytest.mark.parametrize("std", [[0.3, 0.8], [1.0, 2.0]])
@torch.no_grad()
def test_masses_with_a_std_for_each_direction(std: list[float]) -> None:
    """Over a sphere in polar coordinates, and over rotations; a torus wraps every angle by itself."""
    space, mean = Sphere(2), origin(Sphere(2))
    r, w = gauss(0, math.pi)
    phi = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    v = torch.stack([phi.cos(), phi.sin()], -1) @ space.tangent_basis(mean).T
    x = space._exp(mean, r[:, None, None] * v)
    p = WrappedNormal(space, mean, std).log_prob(x).exp()
    assert float((p.mean(1) * w * area(space, r)).sum()) == pytest.approx(1, abs=1e-6)
    grid = torch.cartesian_prod(phi, phi)
    p = WrappedNormal(Torus(2), vector(0.7, -3.0), std).log_prob(Torus(2).project(grid)).exp()
    assert float(p.sum()) * (2 * math.pi / 64) ** 2 == pytest.approx(1, abs=1e-10)
    directions = torch.randn(4000, 3, dtype=torch.float64, generator=Generator().manual_seed(0))
    u = directions / directions.norm(dim=-1, keepdim=True)
    r, w = gauss(0, math.pi, 60)
    x = SO3._exp(origin(SO3), r[:, None, None] * (u @ SO3.tangent_basis(origin(SO3)).T))
    p = WrappedNormal(SO3, origin(SO3), [*std, 0.5]).log_prob(x).exp()
    total = (p * (w * area(SO3, r))[:, None]).sum(0)
    assert float(total.mean()) == pytest.approx(1, abs=4 * float(total.std()) / math.sqrt(4000))


# -- the same from elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space", [Sphere(3), SO3, Hyperboloid(3, 2.0), PoincareBall(2), Euclidean(2, [0.5, 3.0])], ids=repr
)
def test_volume_of_exp_by_derivatives(space: Manifold) -> None:
    """The closed forms against derivatives of exp, which other spaces are given."""
    from geoflow.distributions.curvature import radial

    v = torch.randn(6, space.dim, dtype=torch.float64, generator=Generator().manual_seed(0))
    v = v / v.norm(dim=-1, keepdim=True) * torch.linspace(0.01, 2.8, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        _log_det(space, origin(space), v), radial(space).log_det((v * v).sum(-1)), atol=1e-9, rtol=0
    )
    pair = Product(space, Sphere(2))
    both = torch.cat([v, 0.5 * v[:, :2]], -1)
    parts = radial(space).log_det((v * v).sum(-1)) + radial(Sphere(2)).log_det(0.25 * (v[:, :2] ** 2).sum(-1))
    torch.testing.assert_close(
        _log_det(pair, torch.cat([origin(space), origin(Sphere(2))]), both), parts, atol=1e-9, rtol=0
    )


@torch.no_grad()
def test_circles_are_circles(generator: Generator) -> None:
    """The circle in the plane, as angles, as pairs and as rotations, and a sum over many turns."""
    angle = 6 * torch.rand(40, dtype=torch.float64, generator=generator) - 3
    points = torch.stack([angle.cos(), angle.sin()], -1)
    for std in (0.3, 1.5, 6.0):
        turns = 2 * math.pi * torch.arange(-60, 61, dtype=torch.float64)
        log_p = torch.distributions.Normal(0.0, vector(std)).log_prob(angle[:, None] - 0.4 + turns).logsumexp(-1)
        one = vector(math.cos(0.4), math.sin(0.4))
        turned = SpecialOrthogonal(2).project(torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1))
        middle = vector(math.cos(0.4), -math.sin(0.4), math.sin(0.4), math.cos(0.4))
        for found in (
            WrappedNormal(Torus(1), vector(0.4), std).log_prob(angle[:, None]),
            WrappedNormal(Torus(1, embedded=True), one, std).log_prob(points),
            WrappedNormal(Sphere(1), one, std).log_prob(points),
            WrappedNormal(Sphere(1), one, [std]).log_prob(points),
            WrappedNormal(SpecialOrthogonal(2), middle, std).log_prob(turned),
        ):
            torch.testing.assert_close(found, log_p, atol=1e-12, rtol=0)


@torch.no_grad()
def test_wrapped_normals_of_products_multiply(generator: Generator) -> None:
    """On a product of spaces the wrapped normal is the product of wrapped normals, draws too."""
    parts: list[tuple[Manifold, list[float]]] = [
        (Sphere(2), [0.3, 0.8]),
        (Torus(1), [1.4]),
        (Hyperboloid(2), [0.5, 0.6]),
    ]
    space = Product(*(f for f, _ in parts))
    whole = WrappedNormal(space, torch.cat([origin(f) for f, _ in parts]), [s for _, std in parts for s in std])
    split = ProductDensity(*(WrappedNormal(f, origin(f), std) for f, std in parts))
    x = whole.sample(50, generator=generator)
    assert split.space == space
    torch.testing.assert_close(whole.log_prob(x), split.log_prob(x), atol=1e-12, rtol=1e-12)


def test_product_density(generator: Generator) -> None:
    """Sums of the factors' numbers, context to those that take it."""
    parts = [ClassConditional(2, 3).double(), VonMises(vector(0.3), 2.0), StandardNormal(1).double()]
    both = ProductDensity(*parts)
    x, u = torch.randn(7, 4, dtype=torch.float64, generator=generator), torch.arange(7) % 3
    wanted = parts[0].log_prob(x[:, :2], u) + parts[1].log_prob(x[:, 2:3]) + parts[2].log_prob(x[:, 3:])
    torch.testing.assert_close(both.log_prob(x, u), wanted)
    torch.testing.assert_close(both.entropy(u), parts[0].entropy(u) + parts[1].entropy() + parts[2].entropy())
    cold = ProductDensity(*parts[1:]).tempered(0.5)
    torch.testing.assert_close(
        cold.log_prob(x[:, 2:]), parts[1].tempered(0.5).log_prob(x[:, 2:3]) + parts[2].tempered(0.5).log_prob(x[:, 3:])
    )


@torch.no_grad()
def test_dirichlet(generator: Generator) -> None:
    """scipy's density is with respect to the first k − 1 shares: √k times ours."""
    a = np.array([0.7, 2.0, 5.0, 1.0])
    ours, theirs = Dirichlet(torch.from_numpy(a)), stats.dirichlet(a)
    x = ours.sample(300, generator=generator)
    wanted = theirs.logpdf((x / x.sum(-1, keepdim=True)).numpy().T) - 0.5 * math.log(4)
    np.testing.assert_allclose(ours.log_prob(x), wanted, rtol=1e-11, atol=1e-11)
    assert float(ours.entropy()) == pytest.approx(theirs.entropy() + 0.5 * math.log(4), rel=1e-12)
    x = ours.sample(5000, generator=generator)
    for i in range(4):
        assert stats.kstest(x[:, i].numpy(), stats.beta(a[i], a.sum() - a[i]).cdf).pvalue > 1e-3
    even = Dirichlet([1.0, 1.0, 1.0]).double()
    torch.testing.assert_close(
        even.log_prob(x[:, :3] / x[:, :3].sum(-1, keepdim=True)),
        torch.full((5000,), -Simplex(3).log_volume_total, dtype=torch.float64),
    )
    tiny = Dirichlet([1e-3, 2e-3, 1e-3]).sample(200, generator=generator)
    assert bool(Simplex(3).contains(tiny).all())
    assert float((tiny.amax(-1) > 0.99).float().mean()) > 0.9


@torch.no_grad()
def test_von_mises(generator: Generator) -> None:
    mean, kappa = np.array([0.5, -3.0, 2.0]), np.array([0.3, 4.0, 2000.0])
    ours, theirs = VonMises(torch.from_numpy(mean), torch.from_numpy(kappa)), stats.vonmises(kappa, loc=mean)
    x = ours.sample(4000, generator=generator)
    np.testing.assert_allclose(ours.log_prob(x), theirs.logpdf(x.numpy()).sum(-1), rtol=1e-9, atol=1e-9)
    assert float(ours.entropy()) == pytest.approx(theirs.entropy().sum(), rel=1e-9)
    fitted = VonMises.from_data(x)
    for i in range(3):
        centred = Torus(1).project(x[:, i : i + 1] - mean[i])[:, 0].numpy()
        assert stats.kstest(centred, stats.vonmises(kappa[i]).cdf).pvalue > 1e-3
        found, location, _ = stats.vonmises.fit(x[:, i].numpy(), fscale=1)
        assert float(fitted.concentration[i]) == pytest.approx(found, rel=1e-6)
        assert float(fitted.mean[i]) == pytest.approx(location, abs=1e-6)


@pytest.mark.parametrize("kappa", [1e-4, 0.1, 1.0, 30.0, 1e4, 1e8])
def test_concentration_from_mean_length(kappa: float) -> None:
    """The inverse of A = I₁/I₀, against mpmath."""
    from geoflow.distributions.von_mises import _inverse

    with mpmath.workdps(40):
        short = 1 - mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)
    assert float(_inverse(vector(float(short)))[0].exp()) == pytest.approx(kappa, rel=3e-12 + 1e-15 / kappa)


# -- fits and derivatives ----------------------------------------------------------------------------------------------


def test_fits_are_maxima_of_the_likelihood(generator: Generator) -> None:
    """No parameter has a slope left; a wrapped normal's mean is that of the Fréchet mean only."""
    samplers: list[Density] = [
        Dirichlet(vector(0.6, 3.0, 1.5)),
        VonMises(vector(0.5, -3.0), vector(0.5, 40.0)),
        RiemannianNormal(Sphere(2), origin(Sphere(2)), 0.7),
        RiemannianNormal(SO3, origin(SO3), 0.4),
        RiemannianNormal(Hyperboloid(3), origin(Hyperboloid(3)), 1.3),
    ]
    for truth in samplers:
        x = truth.sample(500, generator=generator)
        options = {"space": truth.space} if isinstance(truth, RiemannianNormal) else {}
        fitted = type(truth).from_data(x, **options)
        loss = fitted(x)["loss"]
        for slope in torch.autograd.grad(loss, list(fitted.parameters())):
            assert float(slope.abs().max()) < 1e-8
        assert float(loss.detach()) < float(-truth.log_prob(x).detach().mean())
    space = PoincareBall(2)
    fitted = WrappedNormal.from_data(
        WrappedNormal(space, vector(0.2, 0.5), 0.6).sample(500, generator=generator), space=space
    )
    (slope,) = torch.autograd.grad(fitted(fitted.sample(4, generator=generator))["loss"], [fitted.log_std])
    assert bool(slope.isfinite())
    assert float(fitted.std.detach()) == pytest.approx(0.6, rel=0.1)


def test_moment_fit_of_the_heat_kernel(generator: Generator) -> None:
    for sigma in (0.05, 0.6, 1.5):
        truth = IsotropicGaussianSO3(origin(SO3), sigma)
        fitted = IsotropicGaussianSO3.from_data(truth.sample(4000, generator=generator))
        assert float(fitted.sigma.detach()) == pytest.approx(sigma, rel=0.1)
        assert float(SO3.dist(fitted.mean, truth.mean).detach()) < 0.2 * sigma + 0.1 * (sigma > 1)


MODELS: list[Density] = [
    WrappedNormal(Sphere(2), origin(Sphere(2)), 1.5),
    WrappedNormal(Sphere(3), origin(Sphere(3)), [0.5, 1.0, 1.5]),
    WrappedNormal(SO3, origin(SO3), 1.2),
    WrappedNormal(Hyperboloid(2, 0.5), origin(Hyperboloid(2, 0.5)), [0.5, 1.0]),
    RiemannianNormal(Sphere(4), origin(Sphere(4)), 0.8),
    RiemannianNormal(PoincareBall(3), origin(PoincareBall(3)), 1.2),
    RiemannianNormal(SO3, origin(SO3), 0.8),
    IsotropicGaussianSO3(origin(SO3), 0.7),
    IsotropicGaussianSO3(origin(SO3), 1.4),
    Dirichlet(vector(2.0, 3.0, 0.5)),
    VonMises(vector(1.0, 2.0), vector(0.2, 9.0)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_gradients_in_the_parameters(model: Density, generator: Generator) -> None:
    """Of log_prob, and of the entropy where it is known, against differences."""
    x = model.sample(5, generator=generator)
    parameters = list(model.parameters())
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]

    def moved(f: Any, h: float) -> Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(h * d)
            value = f()
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(h * d)
        return value

    values: list[Any] = [lambda: model.log_prob(x).sum()]
    if not isinstance(model, WrappedNormal):
        values.append(model.entropy)
    for f in values:
        grads = torch.autograd.grad(f(), parameters, allow_unused=True)
        along = sum(float((g * d).sum()) for g, d in zip(grads, directions, strict=True) if g is not None)
        h = 1e-4
        slope = (8 * (moved(f, h) - moved(f, -h)) - (moved(f, 2 * h) - moved(f, -2 * h))) / (12 * h)
        assert along == pytest.approx(float(slope), rel=1e-7, abs=1e-7)


def test_draws_meet_the_distribution_function() -> None:
    """F(r) = u, for uniform numbers from 1e-15 to almost one."""
    u = torch.cat([torch.logspace(-15, -1, 50), torch.linspace(0.1, 1 - 1e-9, 50)]).double()
    for known, std in (
        (Radial(2, 1.0, math.pi), 0.5),
        (Radial(30, -1.0, math.inf), 1.0),
        (Radial(3, 0.25, math.pi), 9.0),
    ):
        low, high = known.support(vector(std)[0])

        def law(r: Tensor, known: Radial = known, std: float = std) -> Tensor:
            return known.log_area(r) - 0.5 * r * r / std**2

        r = Law(law, low, high).draw(torch.zeros(len(u), dtype=torch.long), u)
        total = Law(law, low, high).log_integral()
        found = Law(law, low.expand_as(r), r).log_integral()
        torch.testing.assert_close(found - total, u.log(), atol=1e-11, rtol=0)


@torch.no_grad()
def test_wide_normals_are_uniform_and_narrow_ones_flat(generator: Generator) -> None:
    for space in (Sphere(2), SO3, Sphere(6)):
        x = space.sample_uniform(20, generator=generator, dtype=torch.float64)
        for density in (RiemannianNormal(space, origin(space), 1e4), IsotropicGaussianSO3(origin(SO3), 9.0)):
            if density.space == space:
                even = torch.full((20,), -space.log_volume_total, dtype=torch.float64)
                torch.testing.assert_close(density.log_prob(x), even, atol=1e-7, rtol=0)
    for space in (Sphere(3), SO3, Hyperboloid(3)):
        mean, r = origin(space), 1e-3 * vector(0.1, 1.0, 2.0)
        flat = -0.5 * (r / 1e-3) ** 2 - 3 * (math.log(1e-3) + 0.5 * math.log(2 * math.pi))
        models = [WrappedNormal(space, mean, 1e-3), RiemannianNormal(space, mean, 1e-3)]
        for density in [*models, IsotropicGaussianSO3(mean, 1e-3)] if space == SO3 else models:
            torch.testing.assert_close(density.log_prob(at(space, mean, r)), flat, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_mean_and_opposite(dtype: torch.dtype) -> None:
    """Values and scores are numbers at the mean, and where geodesics meet again."""
    for space in (Sphere(1), Sphere(2), Sphere(6), SO3):
        mean = origin(space).to(dtype)
        for std in (0.1, 2.0):
            models = [WrappedNormal(space, mean, std), RiemannianNormal(space, mean, std)]
            for density in [*models, IsotropicGaussianSO3(mean, std)] if space == SO3 else models:
                x = torch.stack(
                    [mean, at(space, mean, torch.tensor(math.pi, dtype=dtype)), space.project(density.mean)]
                )
                assert bool(density.log_prob(x).isfinite().all())
                assert bool(density.score(x).isfinite().all())
        assert float(WrappedNormal(space, mean, 0.1).log_prob(mean).detach()) == pytest.approx(
            -space.dim * (math.log(0.1) + 0.5 * math.log(2 * math.pi)), rel=1e-5
        )


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_refusals(unchecked: None) -> None:
    north = vector(0, 0, 1)
    for make, words in (
        (lambda: WrappedNormal(Sphere(2), 2 * north, 0.1), r"`mean` is not on Sphere.*space.project"),
        (
            lambda: WrappedNormal(Sphere(2), vector(0, 1), 0.1),
            r"`mean` as a point of Sphere.*\(3,\), or a batch.*got \(2,\)",
        ),
        (lambda: WrappedNormal(Sphere(2), north, 0.0), "positive, finite `std`, got 0.0"),
        (lambda: WrappedNormal(Sphere(2), north, [0.1, -1.0]), "positive, finite `std`"),
        (lambda: WrappedNormal(Sphere(2), north, [0.1, 1.0, 1.0]), r"`std` as a number or shape \(2,\), got"),
        (lambda: WrappedNormal(SpecialOrthogonal(4), torch.eye(4).flatten(), 0.1), "sum over all geodesics"),
        (lambda: WrappedNormal(Product(Simplex(3), Sphere(2)), north, 0.1), "over its edge: use Dirichlet"),
        (lambda: RiemannianNormal(Torus(2), vector(0, 0), 0.1), "constant curvature.*use WrappedNormal"),
        (lambda: RiemannianNormal(Sphere(2), north, -1.0), "positive, finite `std`"),
        (lambda: IsotropicGaussianSO3(vector(*range(9)), 0.1), "`mean` is not on SpecialOrthogonal"),
        (lambda: IsotropicGaussianSO3(torch.eye(3).flatten(), math.nan), "positive, finite `sigma`"),
        (lambda: Dirichlet(vector(1.0, 0.0)), "positive, finite `concentration`"),
        (lambda: Dirichlet(vector(1.0)), "k >= 2"),
        (lambda: RiemannianNormal(Sphere(2), north.expand(3, 3), [0.1, 0.2]), r"a number or shape \(3,\), got shape"),
        (lambda: Dirichlet(vector(0.5, 3.0)).tempered(0.1), "raise the temperature above 0.5"),
        (lambda: Dirichlet.from_data(vector(1, 0, 0.5, 0.5).view(2, 2)), "1 of 2 rows have a share of zero.*mix in"),
        (lambda: VonMises(vector(0, 0), vector(1.0, -1.0)), "positive, finite `concentration`"),
        (lambda: ProductDensity(), "at least one density"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match=r"from_data needs space=, the manifold"):
        WrappedNormal.from_data(torch.randn(5, 3))
    with pytest.raises(TypeError, match="expects densities, which have a log_prob; got Sphere"):
        ProductDensity(Sphere(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from_data: in `x`, 5 of 5 points are not on Sphere"):
        WrappedNormal.from_data(3 * torch.ones(5, 3), space=Sphere(2))


# -- geomstats ---------------------------------------------------------------------------------------------------------

SPD = """
import math, torch
from geoflow.distributions import WrappedNormal
from manifolds import from_geomstats
def make():
    from geomstats.geometry.spd_matrices import SPDMatrices
    return SPDMatrices(3)
space, g = from_geomstats(make), torch.Generator().manual_seed(0)
a = torch.randn(3, 3, dtype=torch.float64, generator=g)
for mean in (torch.eye(3, dtype=torch.float64), a @ a.T + torch.eye(3)):
    density = WrappedNormal(space, mean.flatten(), 0.5)
    x = density.sample(40, generator=g)
    white = torch.linalg.inv(torch.linalg.cholesky(mean))
    log = torch.linalg.eigvalsh(white @ x.view(-1, 3, 3) @ white.T).log()
    half = torch.stack([log[:, i] - log[:, j] for i in range(3) for j in range(i)], -1).abs() / 2
    wanted = -2 * (log**2).sum(-1) - 6 * math.log(0.5) - 3 * math.log(2 * math.pi)
    wanted = wanted - (half.sinh() / half).log().sum(-1)
    assert (density.log_prob(x) - wanted).abs().max() < 1e-11
    b, h = space.tangent_basis(x)[..., 2], 1e-4
    up, down = (density.log_prob(space.exp(x, s * h * b)) for s in (1, -1))
    assert (space.inner(x, density.score(x), b) - (up - down) / (2 * h)).abs().max() < 1e-5
"""


def test_wrapped_normal_on_spd_matrices() -> None:
    """log |det d exp| of the affine-invariant metric is Σ log sinh(d/2)/(d/2) over differences d of log eigenvalues."""
    environment = {k: v for k, v in os.environ.items() if k != "GEOMSTATS_BACKEND"} | {"GEOFLOW_SHAPES": "unchecked"}
    run = subprocess.run([sys.executable, "-c", SPD], capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
