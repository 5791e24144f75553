"""The sphere against 45 digits of mpmath, on exactly the floating-point numbers that it saw, and against geomstats."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from manifolds import Sphere

mpmath.mp.dps = 45


def exact(x: Tensor) -> mpmath.matrix:
    """The point on the sphere that these rounded coordinates are nearest to, to 45 digits."""
    v = mpmath.matrix([mpmath.mpf(float(c)) for c in x])
    return v / mpmath.norm(v)


def exact_dist(x: mpmath.matrix, y: mpmath.matrix) -> mpmath.mpf:
    return 2 * mpmath.atan2(mpmath.norm(x - y), mpmath.norm(x + y))


def exact_log(x: mpmath.matrix, y: mpmath.matrix) -> mpmath.matrix:
    u = y - (x.T * y)[0] * x
    return u * (exact_dist(x, y) / mpmath.norm(u))


def pairs(n: int, separation: float, dtype: torch.dtype, g: Generator) -> tuple[Tensor, Tensor]:
    """Twenty pairs at a separation, rounded to dtype."""
    x = Sphere(n).sample_uniform(20, generator=g, dtype=torch.float64)
    u = Sphere(n).random_tangent(x, generator=g)
    u = u / u.norm(dim=-1, keepdim=True)
    y = math.cos(separation) * x + math.sin(separation) * u
    return (x / x.norm(dim=-1, keepdim=True)).to(dtype), (y / y.norm(dim=-1, keepdim=True)).to(dtype)


CLOSE_TO_CUT = {torch.float64: math.pi - 1e-7, torch.float32: math.pi - 1e-3}


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 3.0, "close to the cut"])
def test_dist(n: int, separation: float | str, dtype: torch.dtype, generator: Generator) -> None:
    """Relative error 1e-12 in float64 and 1e-6 in float32, at all separations that the type can express."""
    if separation == "close to the cut":
        separation = CLOSE_TO_CUT[dtype]
    if dtype == torch.float32 and separation == 1e-9:
        separation = 1e-3  # float32 cannot tell points apart that are nearer than 1e-7
    x, y = pairs(n, float(separation), dtype, generator)
    ours, squared = Sphere(n).dist(x, y), Sphere(n).squared_dist(x, y)
    assert ours.dtype == dtype
    for a, b, d, d2 in zip(x, y, ours, squared, strict=True):
        true = exact_dist(exact(a), exact(b))
        bound = 1e-12 if dtype == torch.float64 else 1e-6 if separation > 1e-3 else 1e-5
        assert abs(mpmath.mpf(float(d)) / true - 1) < bound
        assert abs(mpmath.mpf(float(d2)) / true**2 - 1) < 2 * bound


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1e-2, 1.0])
def test_log(n: int, separation: float, generator: Generator) -> None:
    """Relative error 1e-14 for points that lie on the sphere as well as float64 can say."""
    x, y = pairs(n, separation, torch.float64, generator)
    for a, b, v in zip(x, y, Sphere(n).log(x, y), strict=True):
        true = exact_log(exact(a), exact(b))
        error = mpmath.norm(mpmath.matrix([mpmath.mpf(float(c)) for c in v]) - true) / mpmath.norm(true)
        assert error < 1e-14


@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 3.0, math.pi - 1e-7])
def test_gradient_of_dist(separation: float, generator: Generator) -> None:
    """Unit length, along the exact direction away from the other point."""
    x, y = pairs(2, separation, torch.float64, generator)
    y.requires_grad_()
    (grad,) = torch.autograd.grad(Sphere(2).dist(x, y).sum(), y)
    grad = Sphere(2).to_tangent(y.detach(), grad)
    for a, b, g in zip(x, y.detach(), grad, strict=True):
        away = -exact_log(exact(b), exact(a))
        away = away / mpmath.norm(away)
        # Coordinates off the sphere by a rounding turn the direction by that much over the distance to either end.
        bound = 1e-12 + 4e-16 / min(separation, math.pi - separation)
        assert mpmath.norm(mpmath.matrix([mpmath.mpf(float(c)) for c in g]) - away) < bound


@pytest.mark.parametrize("n", [1, 2, 6])
def test_geomstats_agrees_at_moderate_separations(n: int, generator: Generator) -> None:
    from geomstats.geometry.hypersphere import Hypersphere

    theirs, ours = Hypersphere(n), Sphere(n)
    x, y = pairs(n, 0.8, torch.float64, generator)
    v = ours.to_tangent(x, torch.randn(x.shape, dtype=x.dtype, generator=generator))
    a, b, u = x.numpy(), y.numpy(), v.numpy()

    def same(mine: Tensor, other: np.ndarray) -> None:
        np.testing.assert_allclose(mine.numpy(), other, atol=1e-10)

    same(ours.dist(x, y), theirs.metric.dist(a, b))
    same(ours.log(x, y), theirs.metric.log(b, a))  # they take the vector or far point first
    same(ours.exp(x, v), theirs.metric.exp(u, a))
    same(ours.transport(x, y, v), theirs.metric.parallel_transport(u, a, end_point=b))
    same(ours.to_tangent(x, y), theirs.to_tangent(b, a))
    middle = theirs.metric.geodesic(initial_point=a, end_point=b)(0.5)
    same(ours.geodesic(x, y, 0.5), np.asarray(middle).reshape(a.shape))


def test_volumes_of_spheres() -> None:
    """2π, 4π, 2π², and 32π⁴/105 for the 8-sphere: closed forms written out."""
    for n, volume in {1: 2 * math.pi, 2: 4 * math.pi, 3: 2 * math.pi**2, 8: 32 * math.pi**4 / 105}.items():
        assert Sphere(n).log_volume_total == pytest.approx(math.log(volume), rel=1e-14)
