"""Hyperbolic space against 45 digits of mpmath on exactly the numbers that it saw, against geomstats, and ball against
hyperboloid."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from manifolds import Hyperboloid, PoincareBall, ball_to_hyperboloid, hyperboloid_to_ball, series

mpmath.mp.dps = 45

Model = type[PoincareBall] | type[Hyperboloid]
CURVATURES = [1.0, 0.5]
both = pytest.mark.parametrize("model", [PoincareBall, Hyperboloid])
curved = pytest.mark.parametrize("curvature", CURVATURES)


# -- textbook formulas, on the hyperboloid of curvature -1, in 45 digits -----------------------------------------------


def column(x: Tensor) -> mpmath.matrix:
    return mpmath.matrix([mpmath.mpf(float(c)) for c in x])


def lorentz(x: mpmath.matrix, y: mpmath.matrix) -> mpmath.mpf:
    return mpmath.fdot(x[1:], y[1:]) - x[0] * y[0]


def lift(a: mpmath.matrix) -> mpmath.matrix:
    return mpmath.matrix([mpmath.sqrt(1 + mpmath.fdot(a, a)), *a])


def exact(space: Any, x: Tensor) -> mpmath.matrix:
    """The point that these rounded coordinates mean; of a hyperboloid those in space count."""
    a = column(x) * mpmath.sqrt(space.curvature)
    return lift(a[1:]) if isinstance(space, Hyperboloid) else lift(2 * a / (1 - mpmath.fdot(a, a)))


def exact_dist(x: mpmath.matrix, y: mpmath.matrix) -> mpmath.mpf:
    return mpmath.acosh(max(-lorentz(x, y), mpmath.mpf(1)))


def exact_log(x: mpmath.matrix, y: mpmath.matrix) -> mpmath.matrix:
    r = exact_dist(x, y)
    return (y - mpmath.cosh(r) * x) * (r / mpmath.sinh(r))


def exact_exp(x: mpmath.matrix, v: mpmath.matrix) -> mpmath.matrix:
    r = mpmath.sqrt(lorentz(v, v))
    return mpmath.cosh(r) * x + mpmath.sinh(r) / r * v


def in_coordinates(space: Any, x: mpmath.matrix, v: mpmath.matrix) -> mpmath.matrix:
    """A tangent vector of the hyperboloid in the coordinates of `space`: those in space, or those of x/(1 + x₀)."""
    if isinstance(space, PoincareBall):
        v = v[1:] / (1 + x[0]) - mpmath.matrix(x[1:]) * (v[0] / (1 + x[0]) ** 2)
    return v / mpmath.sqrt(space.curvature)


def error(ours: Tensor, true: mpmath.matrix) -> float:
    return float(mpmath.norm(column(ours) - true) / mpmath.norm(true))


def pairs(space: Any, radius: float, separation: float, dtype: torch.dtype, g: Generator) -> tuple[Tensor, Tensor]:
    """Twenty pairs of points, the first at a radius and the second at a separation from it, rounded to dtype."""
    n, size = space.dim, mpmath.sqrt(space.curvature)
    first, second = [], []
    for direction, across in torch.randn(20, 2, n, dtype=torch.float64, generator=g):
        e, u = column(direction), column(across)
        x = lift(e * (mpmath.sinh(radius) / mpmath.norm(e)))
        v = mpmath.matrix([0, *u])
        v = v + lorentz(x, v) * x
        y = exact_exp(x, v * (separation / mpmath.sqrt(lorentz(v, v))))
        for points, p in ((first, x), (second, y)):
            coordinates = p if isinstance(space, Hyperboloid) else mpmath.matrix(p[1:]) / (1 + p[0])
            points.append([float(c / size) for c in coordinates])
    x, y = (torch.tensor(p, dtype=torch.float64).to(dtype) for p in (first, second))
    return (x, y) if isinstance(space, PoincareBall) else (space.project(x), space.project(y))


# -- accuracy ----------------------------------------------------------------------------------------------------------


@both
@curved
@pytest.mark.parametrize("radius", [0.0, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 3.0])
def test_dist(model: Model, curvature: float, radius: float, separation: float, generator: Generator) -> None:
    """Relative error 1e-12 in float64, up to radius six."""
    space = model(2, curvature=curvature)
    x, y = pairs(space, radius, separation, torch.float64, generator)
    for a, b, d, d2 in zip(x, y, space.dist(x, y), space.squared_dist(x, y), strict=True):
        true = exact_dist(exact(space, a), exact(space, b)) / mpmath.sqrt(curvature)
        assert abs(float(d) / true - 1) < 1e-12
        assert abs(float(d2) / true**2 - 1) < 2e-12


@both
@curved
@pytest.mark.parametrize("radius", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("separation", [1e-3, 1e-2, 1.0, 3.0])
def test_dist_in_float32(
    model: Model, curvature: float, radius: float, separation: float, generator: Generator
) -> None:
    """Relative error 2e-5 up to radius three, on points that float32 can tell apart."""
    space = model(3, curvature=curvature)
    x, y = pairs(space, radius, separation, torch.float32, generator)
    ours, squared = space.dist(x, y), space.squared_dist(x, y)
    assert ours.dtype == squared.dtype == torch.float32
    for a, b, d, d2 in zip(x, y, ours, squared, strict=True):
        true = exact_dist(exact(space, a), exact(space, b)) / mpmath.sqrt(curvature)
        assert abs(float(d) / true - 1) < 2e-5
        assert abs(float(d2) / true**2 - 1) < 4e-5


@curved
@pytest.mark.parametrize("angle", [1.9, 2.5, 3.14159, math.pi])
def test_dist_across_the_origin(curvature: float, angle: float, generator: Generator) -> None:
    """Points on either side of the origin, where the hyperboloid has a formula of its own."""
    space = Hyperboloid(2, curvature=curvature)
    for r, q in ((5.0, 5.0), (6.0, 1.0), (1e-3, 1e-3), (1e-5, 4.0)):
        x, y = torch.tensor([[0, r, 0], [0, q * math.cos(angle), q * math.sin(angle)]], dtype=torch.float64).sinh()
        x, y = space.project(x), space.project(y)
        true = exact_dist(exact(space, x), exact(space, y)) / mpmath.sqrt(curvature)
        assert abs(float(space.dist(x, y)) / true - 1) < 1e-14
        assert abs(float(space.squared_dist(x, y)) / true**2 - 1) < 2e-14


@both
@curved
@pytest.mark.parametrize("radius", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1e-2, 1.0])
def test_log(model: Model, curvature: float, radius: float, separation: float, generator: Generator) -> None:
    """Relative error 1e-14 up to radius three."""
    space = model(2, curvature=curvature)
    x, y = pairs(space, radius, separation, torch.float64, generator)
    for a, b, v in zip(x, y, space.log(x, y), strict=True):
        p, q = exact(space, a), exact(space, b)
        assert error(v, in_coordinates(space, p, exact_log(p, q))) < 1e-14


@both
@curved
@pytest.mark.parametrize("radius", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("length", [1e-9, 1e-4, 1.0, 3.0])
def test_exp(model: Model, curvature: float, radius: float, length: float, generator: Generator) -> None:
    """Off by 1e-12 of the unit of length at most: a rounding of a coordinate at radius six is 2e-14 to 5e-14 of it."""
    space = model(2, curvature=curvature)
    x, _ = pairs(space, radius, 1.0, torch.float64, generator)
    v = space.random_tangent(x, generator=generator)
    v = v * (length / space.norm(x, v))[..., None]
    for a, u, b in zip(x, v, space.exp(x, v), strict=True):
        p, w = exact(space, a), column(u) * mpmath.sqrt(curvature)
        if isinstance(space, PoincareBall):  # d of b ↦ (1 + |b|², 2b)/(1 − |b|²)
            c = column(a) * mpmath.sqrt(curvature)
            gap, along = 1 - mpmath.fdot(c, c), 2 * mpmath.fdot(c, w)
            w = mpmath.matrix([2 * along / gap**2, *(2 * w / gap + c * (2 * along / gap**2))])
        else:
            w[0] = mpmath.fdot(p[1:], w[1:]) / p[0]
        assert exact_dist(exact_exp(p, w), exact(space, b)) < 1e-12


@both
@curved
@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 5.0])
def test_gradient_of_dist(model: Model, curvature: float, separation: float, generator: Generator) -> None:
    """Unit length, along the exact direction away from the other point."""
    space = model(2, curvature=curvature)
    x, y = pairs(space, 1.0, separation, torch.float64, generator)
    y.requires_grad_()
    (grad,) = torch.autograd.grad(space.dist(x, y).sum(), y)
    y = y.detach()
    for a, b, g in zip(x, y, space.egrad_to_rgrad(y, grad), strict=True):
        p, q = exact(space, b), exact(space, a)
        away = -exact_log(p, q) / exact_dist(p, q) * mpmath.sqrt(curvature)  # of length one in the metric
        assert error(g, in_coordinates(space, p, away)) < 1e-12


@pytest.mark.parametrize("radius", [1.0, 4.0])
def test_norm_far_out(radius: float, generator: Generator) -> None:
    """Tangent vectors far out keep their lengths to rounding, where the Lorentz product cancels."""
    space = Hyperboloid(2)
    x, y = pairs(space, radius, 2.0, torch.float64, generator)
    for a, u, length in zip(x, space.log(x, y), space.norm(x, space.log(x, y)), strict=True):
        p, w = exact(space, a), column(u)
        w[0] = mpmath.fdot(p[1:], w[1:]) / p[0]
        assert abs(float(length) / mpmath.sqrt(lorentz(w, w)) - 1) < 2e-15


@pytest.mark.parametrize(
    ("ours", "true"),
    [
        (series.cosh_sqrt, mpmath.cosh),
        (series.sinhc_sqrt, lambda r: mpmath.sinh(r) / r),
        (series.tanhc_sqrt, lambda r: mpmath.tanh(r) / r),
        (series.asinhc_sqrt, lambda r: mpmath.asinh(r) / r),
    ],
    ids=["cosh", "sinhc", "tanhc", "asinhc"],
)
def test_functions_of_the_square(ours: Any, true: Any, dtype: torch.dtype) -> None:
    """To rounding, on both sides of where their series end."""
    s = torch.tensor([1e-12, 1e-6, 0.99e-4, 1.01e-4, 0.99e-2, 1.01e-2, 1.0, 50.0], dtype=dtype)
    for a, value in zip(s, ours(s), strict=True):
        assert abs(float(value) / true(mpmath.sqrt(float(a))) - 1) < 4 * torch.finfo(dtype).eps
    assert float(ours(torch.zeros((), dtype=dtype))) == 1


# -- other libraries, other models, other curvatures -------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5])
@both
def test_geomstats_agrees_at_moderate_separations(model: Model, n: int, generator: Generator) -> None:
    from geomstats.geometry.hyperboloid import Hyperboloid as TheirHyperboloid
    from geomstats.geometry.poincare_ball import PoincareBall as TheirBall

    ours, theirs = model(n), (TheirBall if model is PoincareBall else TheirHyperboloid)(n)
    x, y = pairs(ours, 1.0, 0.8, torch.float64, generator)
    v = 0.5 * ours.random_tangent(x, generator=generator)
    a, b, u = x.numpy(), y.numpy(), v.numpy()

    def same(mine: Tensor, other: np.ndarray) -> None:
        np.testing.assert_allclose(mine.numpy(), other, atol=1e-10)

    same(ours.dist(x, y), theirs.metric.dist(a, b))
    same(ours.log(x, y), theirs.metric.log(b, a))  # they take the vector or far point first
    same(ours.exp(x, v), theirs.metric.exp(u, a))
    same(ours.inner(x, v, ours.log(x, y)), theirs.metric.inner_product(u, ours.log(x, y).numpy(), a))
    if model is Hyperboloid:
        same(ours.transport(x, y, v), theirs.metric.parallel_transport(u, a, end_point=b))
        same(ours.to_tangent(x, y), theirs.to_tangent(b, a))


@curved
@pytest.mark.parametrize("radius", [0.0, 1.0, 3.0])
def test_ball_and_hyperboloid_are_isometric(curvature: float, radius: float, generator: Generator) -> None:
    """The conversion keeps distances and, by its derivative, logarithms, transports, frames and volumes."""
    ball, space = PoincareBall(3, curvature=curvature), Hyperboloid(3, curvature=curvature)
    b, d = pairs(ball, radius, 1.0, torch.float64, generator)
    v = ball.random_tangent(b, generator=generator)

    def there(p: Tensor) -> Tensor:
        return ball_to_hyperboloid(p, curvature)

    def close(p: Tensor, q: Tensor) -> None:
        torch.testing.assert_close(p, q, atol=1e-11, rtol=1e-12)

    x, y = there(b), there(d)
    w = torch.func.jvp(there, (b,), (v,))[1]
    assert bool(space.contains(x).all())
    close(hyperboloid_to_ball(x, curvature), b)
    close(torch.func.jvp(lambda p: hyperboloid_to_ball(p, curvature), (x,), (w,))[1], v)
    close(space.dist(x, y), ball.dist(b, d))
    close(space.squared_dist(x, y), ball.squared_dist(b, d))
    close(space.norm(x, w), ball.norm(b, v))
    close(space.log(x, y), torch.func.jvp(there, (b,), (ball.log(b, d),))[1])
    close(space.exp(x, w), there(ball.exp(b, v)))
    close(space.transport(x, y, w), torch.func.jvp(there, (d,), (ball.transport(b, d, v),))[1])
    close(space.coords(x, w), ball.coords(b, v))  # both frames are those of the origin, carried along the radius
    stretch = torch.vmap(torch.func.jacfwd(lambda p: there(p)))(b)
    volume = space.log_volume(x) + 0.5 * torch.logdet(stretch.mT @ stretch)
    close(volume, ball.log_volume(b))


@both
def test_curvature_scales_lengths(model: Model, generator: Generator) -> None:
    """Curvature −c is the metric of curvature −1 divided by c: coordinates and lengths shrink by √c."""
    unit, space, k = model(3), model(3, curvature=4.0), 2.0
    x, y = pairs(unit, 1.0, 1.0, torch.float64, generator)
    v = unit.random_tangent(x, generator=generator)
    for a, b in (
        (space.dist(x / k, y / k), unit.dist(x, y) / k),
        (space.squared_dist(x / k, y / k), unit.squared_dist(x, y) / k**2),
        (space.exp(x / k, v / k), unit.exp(x, v) / k),
        (space.log(x / k, y / k), unit.log(x, y) / k),
        (space.transport(x / k, y / k, v), unit.transport(x, y, v)),
        (space.norm(x / k, v / k), unit.norm(x, v) / k),
        (space.log_volume(x / k), unit.log_volume(x)),
    ):
        torch.testing.assert_close(a, b, atol=1e-14, rtol=1e-14)


@both
@curved
def test_triangles_have_that_curvature(model: Model, curvature: float, generator: Generator) -> None:
    """A right triangle: cosh √c a · cosh √c b = cosh √c h."""
    space, k = model(4, curvature=curvature), math.sqrt(curvature)
    x, _ = pairs(space, 1.0, 1.0, torch.float64, generator)
    first, second = 0.7 * space.tangent_basis(x)[..., 0], 1.3 * space.tangent_basis(x)[..., 1]
    hypotenuse = space.dist(space.exp(x, first), space.exp(x, second))
    expected = torch.full_like(hypotenuse, math.cosh(0.7 * k) * math.cosh(1.3 * k))
    torch.testing.assert_close((k * hypotenuse).cosh(), expected, atol=0, rtol=1e-13)


# -- ends of the range, and words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [1.0, 0.3, 7.7])
@pytest.mark.parametrize("n", [1, 3, 300])
def test_edge_of_the_ball(n: int, curvature: float, dtype: torch.dtype, generator: Generator) -> None:
    """What is projected, or shot at the edge, is inside, and distances and gradients there are finite."""
    ball = PoincareBall(n, curvature=curvature)
    raw = torch.randn(1000, n, dtype=dtype, generator=generator)
    x = ball.project(raw / raw.norm(dim=-1, keepdim=True) * 100)
    y = ball.exp(torch.zeros_like(raw), 1e3 * raw).requires_grad_()
    assert bool(ball.contains(x).all())
    assert bool(ball.contains(y).all())
    radius = math.sqrt(curvature) * ball.dist(torch.zeros_like(x), x)
    assert float(radius.min()) > (14.5 if dtype == torch.float32 else 34.5)
    assert ball.squared_dist(-x, y).isfinite().all()
    assert torch.autograd.grad(ball.dist(-x, y).sum(), y)[0].isfinite().all()
    far = Hyperboloid(n, curvature=curvature).project(1e6 * torch.randn(1000, n + 1, dtype=dtype, generator=generator))
    assert bool(ball.contains(hyperboloid_to_ball(far, curvature)).all())


@both
@curved
def test_origin_is_like_any_other_point(model: Model, curvature: float) -> None:
    """At the origin, where |x| has a kink, second derivatives of dist² are those of the closed form."""
    space = model(2, curvature=curvature)
    x = space.project(torch.zeros(space.ambient_dim, dtype=torch.float64))
    y = space.exp(x, 0.8 * space.tangent_basis(x)[..., 0])
    basis = space.tangent_basis(x)
    hessian = torch.func.hessian(lambda c: space.squared_dist(space.exp(x, basis @ c), y))(torch.zeros(2).double())
    turn = 0.8 * math.sqrt(curvature)  # 2 along, and 2 r coth r across
    torch.testing.assert_close(
        hessian, torch.diag(torch.tensor([2, 2 * turn / math.tanh(turn)])).double(), atol=1e-6, rtol=0
    )
    twice = torch.func.hessian(lambda p: space.log_volume(p))(x)
    assert twice.isfinite().all()
    assert twice.abs().sum() > 0.1


@both
@pytest.mark.parametrize("curvature", [0.0, -1.0, math.inf, math.nan])
def test_curvature_is_positive(model: Model, curvature: float) -> None:
    with pytest.raises(ValueError, match=r"positive, finite curvature.*Euclidean"):
        model(2, curvature=curvature)


@both
def test_arguments(model: Model, unchecked: None) -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        model(0)
    with pytest.raises(TypeError, match="`n` as an int"):
        model(2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`curvature` as a number"):
        model(2, curvature="one")  # type: ignore[arg-type]


def test_points_outside_are_refused_in_words() -> None:
    ball, x = PoincareBall(2, curvature=4.0), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert ball.contains(x).tolist() == [True, False]
    with pytest.raises(
        ValueError, match=r"1 of 2 points are not in.*row 1: norms must stay below 0\.5, got up to 0\.5"
    ):
        ball.dist(x, x)
    with pytest.raises(ValueError, match=r"row 1.*project"):
        ball_to_hyperboloid(x, 4.0)
    with pytest.raises(ValueError, match=r"row 1.*project"):
        hyperboloid_to_ball(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="2 ambient coordinates"):
        hyperboloid_to_ball(torch.ones(3, 1))
