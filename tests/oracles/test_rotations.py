"""Rotations against 45 digits of mpmath on exactly the numbers that were seen, against scipy, geomstats and differences."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation
from torch import Generator, Tensor

from manifolds import SpecialOrthogonal, Sphere, quaternion_to_rotation, rotation_to_quaternion
from tests.laws.tools import central

SO3 = SpecialOrthogonal(3)
CLOSE_TO_CUT = {torch.float64: math.pi - 1e-7, torch.float32: math.pi - 1e-3}


@pytest.fixture(autouse=True)
def _digits() -> object:
    with mpmath.workdps(45):
        yield


def exact(x: Tensor) -> mpmath.matrix:
    """The rotation that these rounded numbers are nearest to, to 45 digits, by Newton's iteration for the polar factor."""
    m = mpmath.matrix([[mpmath.mpf(float(c)) for c in row] for row in SO3.as_matrix(x)])
    for _ in range(5):
        m = (m + (m**-1).T) / 2
    return m


def exact_dist(r: mpmath.matrix, s: mpmath.matrix) -> mpmath.mpf:
    p = r.T * s
    sine = mpmath.norm([p[2, 1] - p[1, 2], p[0, 2] - p[2, 0], p[1, 0] - p[0, 1]]) / 2
    return mpmath.atan2(sine, (p[0, 0] + p[1, 1] + p[2, 2] - 1) / 2)


def exact_log(r: mpmath.matrix, s: mpmath.matrix) -> mpmath.matrix:
    angle, p = exact_dist(r, s), r.T * s
    return r * (p - p.T) * (angle / mpmath.sin(angle) / 2)


def gap(x: Tensor, true: mpmath.matrix) -> mpmath.mpf:
    """Frobenius norm of the error of a flat matrix."""
    return mpmath.norm([mpmath.mpf(float(c)) - t for c, t in zip(x, true, strict=True)])


def turns(separation: float, dtype: torch.dtype, g: Generator) -> tuple[Tensor, Tensor]:
    """Twenty pairs that scipy turned against each other by an angle, rounded to dtype."""
    x = Rotation.from_quat(torch.randn(20, 4, dtype=torch.float64, generator=g).numpy())
    axis = torch.randn(20, 3, dtype=torch.float64, generator=g)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    y = x * Rotation.from_rotvec(separation * axis.numpy())
    x, y = (torch.as_tensor(r.as_matrix()).flatten(-2).to(dtype) for r in (x, y))
    return x, y


# -- dist, log, exp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 3.0, "close to the cut"])
def test_dist(separation: float | str, dtype: torch.dtype, generator: Generator) -> None:
    """Relative error 1e-12 in float64 and 1e-6 in float32, at all separations that the type can express."""
    if separation == "close to the cut":
        separation = CLOSE_TO_CUT[dtype]
    if dtype == torch.float32 and separation == 1e-9:
        separation = 1e-3
    x, y = turns(float(separation), dtype, generator)
    bound = 1e-12 if dtype == torch.float64 else 1e-6
    for a, b, d, d2 in zip(x, y, SO3.dist(x, y), SO3.squared_dist(x, y), strict=True):
        true = exact_dist(exact(a), exact(b))
        assert abs(mpmath.mpf(float(d)) / true - 1) < bound
        assert abs(mpmath.mpf(float(d2)) / true**2 - 1) < 2 * bound


@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1e-2, 1.0])
def test_log(separation: float, generator: Generator) -> None:
    x, y = turns(separation, torch.float64, generator)
    for a, b, v in zip(x, y, SO3.log(x, y), strict=True):
        true = exact_log(exact(a), exact(b))
        assert gap(v, true) < 1e-14 * mpmath.norm(list(true))


@pytest.mark.parametrize("shy", [0.1, 1e-3, 1e-7])
def test_log_near_half_turns(shy: float, generator: Generator) -> None:
    """The error is a rounding over what is missing to π, as far as the axis is determined at all."""
    x, y = turns(math.pi - shy, torch.float64, generator)
    for a, b, v in zip(x, y, SO3.log(x, y), strict=True):
        true = exact_log(exact(a), exact(b))
        assert gap(v, true) < 1e-14 * (1 + 1 / shy)


@pytest.mark.parametrize("separation", [1e-9, 1.0, 3.0, "close to the cut", math.pi])
def test_exp_undoes_log(separation: float | str, dtype: torch.dtype, generator: Generator) -> None:
    if separation == "close to the cut":
        separation = CLOSE_TO_CUT[dtype]
    x, y = turns(float(separation), dtype, generator)
    assert float((SO3.exp(x, SO3.log(x, y)) - y).abs().max()) < 8 * torch.finfo(dtype).eps


def test_half_turns_choose_their_axis_for_good(generator: Generator) -> None:
    """Rounding in the two points does not decide which of the two shortest ways `log` takes, and its length is π."""
    axes = torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, -1, 0], [1, 1, -1], [0, 1, -1], [-1, 2, 2]], dtype=torch.float64)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    x = SO3.sample_uniform((1000, 1), generator=generator, dtype=torch.float64)
    y = (SO3.as_matrix(x) @ torch.as_tensor(Rotation.from_rotvec(math.pi * axes.numpy()).as_matrix())).flatten(-2)
    c = SO3.coords(x.expand_as(y), SO3.log(x, y)) / math.pi
    assert (c - c[:1]).abs().max() < 1e-14
    assert (c[0].abs() - axes.abs()).abs().max() < 1e-14


def test_geomstats_agrees(generator: Generator) -> None:
    from geomstats.geometry.special_orthogonal import SpecialOrthogonal as Theirs

    metric = Theirs(n=3).metric
    x, y = turns(0.8, torch.float64, generator)
    v = SO3.to_tangent(x, torch.randn(x.shape, dtype=x.dtype, generator=generator))
    a, b, u = (SO3.as_matrix(t).numpy() for t in (x, y, v))

    def same(mine: Tensor, other: np.ndarray, atol: float = 1e-10) -> None:
        np.testing.assert_allclose(mine.numpy(), np.asarray(other).reshape(mine.shape), rtol=0, atol=atol)

    same(SO3.dist(x, y), metric.dist(a, b), 4e-15)
    same(SO3.log(x, y), metric.log(b, a))  # they take the vector or far point first
    same(SO3.exp(x, v), metric.exp(u, a))
    same(SO3.transport(x, y, v), metric.parallel_transport(u, a, end_point=b))
    same(SO3.to_tangent(x, y), Theirs(n=3).to_tangent(b, a))
    same(SO3.inner(x, v, v), metric.inner_product(u, u, a))


def test_scipy_agrees(generator: Generator) -> None:
    """Angles, rotation vectors in the frame of the first point, and those of the plane."""
    x, y = turns(2.0, torch.float64, generator)
    a, b = (Rotation.from_matrix(SO3.as_matrix(t).numpy()) for t in (x, y))
    turn = a.inv() * b
    np.testing.assert_allclose(SO3.dist(x, y).numpy(), turn.magnitude(), rtol=1e-14)
    np.testing.assert_allclose(SO3.coords(x, SO3.log(x, y)).numpy(), turn.as_rotvec(), atol=1e-14)
    plane, angle = SpecialOrthogonal(2), torch.tensor([-3.0, -0.2, 0.0, 1.0, 3.1], dtype=torch.float64)
    r = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1)
    base = r[1].expand_as(r)
    c = plane.coords(base, plane.log(base, r))[:, 0]
    torch.testing.assert_close(c, torch.remainder(angle + 0.2 + math.pi, 2 * math.pi) - math.pi, atol=1e-15, rtol=0)


@pytest.mark.parametrize("length", [1e-6, 0.01, 0.05, 0.5, 3.0, 20.0])
def test_exp_in_any_dimension_is_that_of_scipy(length: float, generator: Generator) -> None:
    """For one matrix alone too, where torch's own exponential is wrong in the tenth digit."""
    for n in (2, 3, 4, 5):
        space = SpecialOrthogonal(n)
        x = space.sample_uniform(5, generator=generator, dtype=torch.float64)
        v = space.random_tangent(x, generator=generator)
        v = length * v / space.norm(x, v)[:, None]
        for a, u, y in zip(x, v, space.exp(x, v), strict=True):
            r, w = space.as_matrix(a).numpy(), space.as_matrix(u).numpy()
            true = r @ scipy.linalg.expm(r.T @ w)
            atol = 4e-15 * (1 + length)
            np.testing.assert_allclose(space.as_matrix(y).numpy(), true, rtol=0, atol=atol)
            np.testing.assert_allclose(space.as_matrix(space.exp(a, u)).numpy(), true, rtol=0, atol=atol)


# -- the projection ----------------------------------------------------------------------------------------------------


def hard_matrices(n: int, g: Generator) -> dict[str, Tensor]:
    generic = torch.randn(n, n, dtype=torch.float64, generator=g)
    generic = generic * torch.linalg.det(generic).sign()
    generic[0] *= torch.linalg.det(generic).sign()
    reflected = generic.clone()
    reflected[0] *= -1
    rotation = SpecialOrthogonal(n).sample_uniform(1, generator=g, dtype=torch.float64)[0]
    return {
        "generic": generic.flatten(),
        "reflected": reflected.flatten(),
        "rotation": rotation,
        "0.7 I": 0.7 * torch.eye(n, dtype=torch.float64).flatten(),
        "long": 100 * rotation,
    }


def test_project_is_the_best_alignment_of_scipy(generator: Generator) -> None:
    m = torch.randn(200, 9, dtype=torch.float64, generator=generator)
    assert 50 < int((torch.linalg.det(SO3.as_matrix(m)) < 0).sum()) < 150
    for a, r in zip(m, SO3.as_matrix(SO3.project(m)), strict=True):
        best, _ = Rotation.align_vectors(SO3.as_matrix(a).T.numpy(), np.eye(3))
        np.testing.assert_allclose(r.numpy(), best.as_matrix(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("what", ["generic", "reflected", "rotation", "0.7 I", "long"])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_derivatives_of_project(n: int, what: str, generator: Generator) -> None:
    """Jacobian against differences of values, Hessian against differences of Jacobians, also where all are equal."""
    space = SpecialOrthogonal(n)
    m = hard_matrices(n, generator)[what]
    size = float(m.abs().max())
    jacobian: Callable[[Tensor], Tensor] = torch.func.jacrev(space.project)
    hessian = torch.func.jacfwd(jacobian)(m)
    forward = torch.func.jacfwd(space.project)(m)
    tol = 1e-8 if what in ("rotation", "0.7 I", "long") else 1e-6  # others may be nearer to where it is not smooth
    torch.testing.assert_close(forward, jacobian(m), atol=1e-12 / size, rtol=1e-12)
    for k in range(n * n):
        step = size * torch.eye(n * n, dtype=torch.float64)[k]
        (first,) = central(lambda h, step=step: space.project(m + h * step))
        (second,) = central(lambda h, step=step: jacobian(m + h * step))
        assert (jacobian(m) @ step - first).abs().max() < tol * first.abs().max().clamp_min(0.1)
        assert (hessian @ step - second).abs().max() < tol * second.abs().max().clamp_min(0.1 / size)


def test_projection_runs_under_every_transform(generator: Generator) -> None:
    """vmap of jacrev, jvp, hessian and double backward give the same, and on rotations the tangent projection."""
    x = SO3.sample_uniform(4, generator=generator, dtype=torch.float64)
    jacobians = torch.vmap(torch.func.jacrev(SO3.project))(x)
    v = torch.randn(4, 9, dtype=torch.float64, generator=generator)
    _, pushed = torch.func.jvp(SO3.project, (x,), (v,))
    torch.testing.assert_close(pushed, SO3.to_tangent(x, v), atol=1e-14, rtol=0)
    torch.testing.assert_close((jacobians @ v[..., None])[..., 0], SO3.to_tangent(x, v), atol=1e-14, rtol=0)
    weights = torch.randn(9, dtype=torch.float64, generator=generator)

    def height(a: Tensor) -> Tensor:
        return (weights * SO3.project(a)).sum()

    for a in x:
        hessian = torch.func.hessian(height)(a)
        a = a.clone().requires_grad_()
        (g,) = torch.autograd.grad(height(a), a, create_graph=True)
        rows = torch.stack([torch.autograd.grad(g[i], a, retain_graph=True)[0] for i in range(9)])
        torch.testing.assert_close(rows, hessian, atol=1e-12, rtol=0)
        torch.testing.assert_close(hessian, hessian.mT, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_project_where_several_are_nearest(n: int, dtype: torch.dtype) -> None:
    """Zero, reflections and rank one: some rotation, finite gradients, and numbers that are no numbers stay so."""
    space = SpecialOrthogonal(n)
    mirror = torch.eye(n, dtype=dtype)
    mirror[0, 0] = -1
    rows = torch.stack([torch.zeros(n, n, dtype=dtype), mirror, torch.ones(n, n, dtype=dtype), 1e-30 * mirror])
    m = rows.flatten(1).requires_grad_()
    r = space.project(m)
    assert space.contains(r.detach()).all()
    (g,) = torch.autograd.grad(r.sum(), m, create_graph=True)
    (h,) = torch.autograd.grad((g**2).sum(), m)
    assert g.isfinite().all()
    assert h[:3].isfinite().all()
    bad = torch.stack([mirror, mirror * math.nan, mirror + math.inf]).flatten(1)
    assert space.project(bad).isfinite().all(-1).tolist() == [True, False, False]
    assert space.contains(bad).tolist() == [False, False, False]


# -- quaternions -------------------------------------------------------------------------------------------------------


def test_quaternions_there_and_back(dtype: torch.dtype, generator: Generator) -> None:
    q = Sphere(3).sample_uniform(500, generator=generator, dtype=dtype)
    q = torch.where(q[:, :1] < 0, -q, q)
    q[:200] = Sphere(3).project(torch.eye(4, dtype=dtype)[:1] + 1e-6 * q[:200])  # small turns
    q[200] = torch.eye(4, dtype=dtype)[0]
    r = quaternion_to_rotation(q)
    tol = 4 * torch.finfo(dtype).eps
    assert SO3.contains(r).all()
    assert torch.equal(quaternion_to_rotation(-q), r)
    torch.testing.assert_close(rotation_to_quaternion(r), q, atol=tol, rtol=0)
    small = q[:200, 1:]
    torch.testing.assert_close(rotation_to_quaternion(r)[:200, 1:], small, atol=0, rtol=tol)


def test_quaternions_of_half_turns(dtype: torch.dtype, generator: Generator) -> None:
    """w ≥ 0 whatever rounding makes of it, and the same rotation comes back."""
    axes = Sphere(2).sample_uniform(500, generator=generator, dtype=dtype)
    axes[:3] = torch.eye(3, dtype=dtype)
    r = quaternion_to_rotation(torch.nn.functional.pad(axes, (1, 0)))
    q = rotation_to_quaternion(r)
    assert (q[:, 0] >= 0).all()
    tol = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(q.norm(dim=-1), torch.ones_like(q[:, 0]), atol=tol, rtol=0)
    torch.testing.assert_close(quaternion_to_rotation(q), r, atol=tol, rtol=0)


def test_quaternions_are_those_of_scipy_and_twice_as_near(generator: Generator) -> None:
    q = Sphere(3).sample_uniform(100, generator=generator, dtype=torch.float64)
    theirs = Rotation.from_quat(q[:, [1, 2, 3, 0]].numpy())  # scipy writes w last
    x = quaternion_to_rotation(q)
    np.testing.assert_allclose(SO3.as_matrix(x).numpy(), theirs.as_matrix(), atol=1e-15)
    np.testing.assert_allclose(
        rotation_to_quaternion(x)[:, [1, 2, 3, 0]].numpy(), theirs.as_quat(canonical=True), atol=1e-15
    )
    p = Sphere(3).sample_uniform(100, generator=generator, dtype=torch.float64)
    d = torch.minimum(Sphere(3).dist(q, p), Sphere(3).dist(q, -p))
    torch.testing.assert_close(SO3.dist(x, quaternion_to_rotation(p)), 2 * d, atol=1e-14, rtol=0)


def test_quaternions_refuse(unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"row 1 has length 2: divide"):
        quaternion_to_rotation(torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0]]))
    with pytest.raises(ValueError, match=r"`q` with 4 ambient coordinates"):
        quaternion_to_rotation(torch.ones(3))
    with pytest.raises(ValueError, match=r"reflection.*negate"):
        rotation_to_quaternion(-torch.eye(3).flatten())


# -- the space ---------------------------------------------------------------------------------------------------------


def test_reflections_are_refused_in_words() -> None:
    x = torch.eye(3).expand(4, 3, 3).clone()
    x[2] = -x[2]
    inside, why = SO3.contains(x.flatten(1), explain=True)
    assert inside.tolist() == [True, True, False, True]
    assert "row 2 a reflection (determinant -1): negate one of its rows" in why
    x[1] *= 1.1
    with pytest.raises(ValueError, match=r"2 of 4 points.*row 2 a reflection.*row 1, off by up to 0\.1"):
        SO3.log(x.flatten(1), x.flatten(1))


def test_volumes_of_rotations() -> None:
    """2π, 8π², and 16π⁴ = (2^{3/2} 2π²)²/2: SO(4) is S³ × S³ up to a sign, each factor √2 times as large."""
    for n, volume in {2: 2 * math.pi, 3: 8 * math.pi**2, 4: 16 * math.pi**4}.items():
        assert SpecialOrthogonal(n).log_volume_total == pytest.approx(math.log(volume), rel=1e-14)


def test_uniform_rotations_have_the_moments_of_haar(generator: Generator) -> None:
    """E tr² = 1, and E tr⁴ counts invariants of four vectors: 3 in O(n), one more (the determinant) in SO(4)."""
    for n, fourth in {3: 3, 4: 4, 5: 3}.items():
        trace = (
            SpecialOrthogonal(n).sample_uniform(40_000, generator=generator, dtype=torch.float64)[:, :: n + 1]
        ).sum(-1)
        for k, expected in ((1, 0), (2, 1), (4, fourth)):
            error = (trace**k).std() / math.sqrt(len(trace))
            assert abs(float((trace**k).mean()) - expected) < 4 * error


@pytest.mark.parametrize(("n", "error"), [(1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_sizes(n: object, error: type[Exception], unchecked: None) -> None:
    with pytest.raises(error, match="SpecialOrthogonal expects"):
        SpecialOrthogonal(n)
