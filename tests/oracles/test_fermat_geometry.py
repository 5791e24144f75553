"""Curvature, exp, log, means and conjugate points of Fermat spaces against spaces where they are known."""

import math
import os

import numpy as np
import pytest
import torch
from torch import Tensor

from geoflow import StandardNormal
from geoflow.distances import FermatSpace
from geoflow.distances.geometry import tangent
from geoflow.distances.geometry.curvature import riemann
from geoflow.distances.geometry.tangent import _glide, travel
from geoflow.distances.geometry.variation import Variation
from manifolds import Euclidean, Hyperboloid, Manifold, PoincareBall, Product, SpecialOrthogonal, Sphere, Torus
from tests.laws.cylinder import Cylinder
from tests.oracles.fermat_rows import FLAT, LINE, SPHERE, Formula, Row, mixture_a

BALLS = [r for r in FLAT if r.name.startswith("ball")]
ALL_ROWS = pytest.mark.skipif("GEOFLOW_SLOW" not in os.environ, reason="GEOFLOW_SLOW=1 takes all rows, a minute")
QUICK = ("tilt 4-D", "normal 20-D, orthogonal", "von Mises-Fisher")


def space(row: Row, **options: object) -> FermatSpace:
    return FermatSpace(row.density, power=row.power, space=row.space, **options)


def inside(dim: int, generator: torch.Generator) -> Tensor:
    """Four points of the unit ball, up to a radius of 0.8."""
    x = torch.randn(4, dim, generator=generator, dtype=torch.float64)
    return 0.8 * torch.rand(4, 1, generator=generator, dtype=torch.float64) * x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("row", BALLS, ids=lambda r: r.name)
def test_ball_density_has_constant_curvature(row: Row, generator: torch.Generator) -> None:
    """C (1 − |x|²)^q with β = 1/q is ½ C^{−1/q} times Poincaré's ball, of curvature −4 C^{2/q}."""
    x = inside(len(row.x), generator)
    u, v = torch.randn(2, *x.shape, generator=generator, dtype=x.dtype)
    top = float(row.density.log_prob(torch.zeros(len(row.x), dtype=x.dtype)))
    found = space(row).sectional_curvature(x, u, v)
    torch.testing.assert_close(found, torch.full_like(found, -4 * math.exp(2 * row.power * top)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("row", BALLS[1:2], ids=lambda r: r.name)
def test_ball_density_has_the_balls_geodesics_and_means(row: Row, generator: torch.Generator) -> None:
    fermat, ball = space(row), PoincareBall(len(row.x))
    x, y = inside(len(row.x), generator), inside(len(row.x), generator)
    v = ball.log(x, y)
    torch.testing.assert_close(fermat.log(x, y), v, rtol=0, atol=1e-6)
    torch.testing.assert_close(fermat.exp(x, v), y, rtol=0, atol=1e-6)
    weights = torch.arange(1.0, 5.0, dtype=x.dtype)
    torch.testing.assert_close(fermat.mean(x, weights), ball.mean(x, weights), rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(r, id=r.name, marks=() if r.name in QUICK else (pytest.mark.slow, ALL_ROWS))
        for r in FLAT + SPHERE
        if r.name != "cone a=3, through 0"  # the geodesic ends at 0, where p is infinite, and another begins
    ],
)
def test_exp_of_log_arrives_and_has_the_known_length(row: Row) -> None:
    x, y = row.ends()
    fermat = space(row)
    v = fermat.log(x, y)
    assert float(fermat.space.dist(fermat.exp(x, v), y) / fermat.space.dist(x, y)) <= 1e-5
    assert float((v @ fermat.metric(x) @ v).sqrt()) == pytest.approx(row.distance, rel=1e-5)
    assert bool(fermat.is_minimal(x, y))


@pytest.mark.parametrize("row", LINE[:2], ids=lambda r: r.name)
def test_on_a_line_too(row: Row) -> None:
    x, y = row.ends()
    fermat = space(row)
    v = fermat.log(x, y)
    torch.testing.assert_close(fermat.exp(x, v), y, rtol=0, atol=1e-6)
    assert float(fermat.metric(x).sqrt() * v) == pytest.approx(row.distance, rel=1e-6)
    assert bool(fermat.is_minimal(x, y))
    with pytest.raises(ValueError, match="no plane"):
        fermat.sectional_curvature(x, v, v)


def logistic(x: Tensor) -> Tensor:
    return (-x - 2 * torch.nn.functional.softplus(-x)).sum(-1)


@pytest.mark.parametrize("dim", [2, 4])
def test_log_concave_densities_do_not_bend_upwards(dim: int, generator: torch.Generator) -> None:
    """K ≤ 0, so that no geodesic has a conjugate point."""
    x, y, u, v = 1.5 * torch.randn(4, 12, dim, generator=generator, dtype=torch.float64)
    for density in (StandardNormal(dim).double(), Formula(logistic)):
        fermat = FermatSpace(density, power=0.5, space=Euclidean(dim))
        assert bool((fermat.sectional_curvature(x, u, v) < 0).all())
        assert bool(fermat.is_minimal(x, y).all())


def test_a_curved_space_and_its_flat_map_agree(generator: torch.Generator) -> None:
    """A density on S² and, in the stereographic plane, the one that makes the same lengths."""
    kappa, power = 2.0, 0.5

    def up(z: Tensor) -> Tensor:
        r2 = (z * z).sum(-1, keepdim=True)
        return torch.cat([2 * z, 1 - r2], -1) / (1 + r2)

    def flat(z: Tensor) -> Tensor:
        return kappa * up(z)[..., 2] - torch.log(2 / (1 + (z * z).sum(-1))) / power

    sphere = FermatSpace(Formula(lambda x: kappa * x[..., 2], Sphere(2)), power=power)
    plane = FermatSpace(Formula(flat), power=power, space=Euclidean(2))
    z, w = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64)
    lifted, pushed = torch.func.jvp(up, (z,), (w,))
    pushed = sphere.space.to_tangent(lifted, pushed)
    other = torch.cross(lifted, pushed, dim=-1)
    turned = torch.stack([-w[:, 1], w[:, 0]], 1)
    torch.testing.assert_close(
        sphere.sectional_curvature(lifted, pushed, other), plane.sectional_curvature(z, w, turned), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(up(plane.exp(z, 0.5 * w)), sphere.exp(lifted, 0.5 * pushed), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("home", "value"),
    [
        (Euclidean(3, scale=[1.0, 2.0, 0.1]), 0.0),
        (Sphere(3), 1.0),
        (PoincareBall(3, curvature=0.5), -0.5),
        (Hyperboloid(3, curvature=0.5), -0.5),
        (SpecialOrthogonal(3), 0.25),
        (Torus(3, embedded=True), 0.0),
    ],
    ids=repr,
)
def test_without_weight_the_curvature_is_the_spaces_own(
    home: Manifold, value: float, generator: torch.Generator
) -> None:
    x = home.project(torch.randn(5, home.ambient_dim, generator=generator, dtype=torch.float64) / 4)
    u, v = home.random_tangent(x, generator), home.random_tangent(x, generator)
    found = FermatSpace(Formula(lambda x: 0 * x.sum(-1), home), power=1.0).sectional_curvature(x, u, v)
    torch.testing.assert_close(found, torch.full_like(found, value), rtol=1e-9, atol=1e-9)


def test_a_product_bends_in_each_factor(generator: torch.Generator) -> None:
    home = Product(Sphere(2), Euclidean(1))
    x = home.project(torch.randn(4, generator=generator, dtype=torch.float64))
    a, b, c = home.tangent_basis(x).unbind(-1)
    fermat = FermatSpace(Formula(lambda x: 0 * x.sum(-1), home), power=1.0)
    assert float(fermat.sectional_curvature(x, a, b)) == pytest.approx(1.0)
    assert float(fermat.sectional_curvature(x, a, c)) == pytest.approx(0.0, abs=1e-12)


def test_unknown_curvature_is_said() -> None:
    home = Cylinder(2.0)
    with pytest.raises(NotImplementedError, match="not known here"):
        riemann(home, *torch.zeros(3, home.ambient_dim))
    fermat = FermatSpace(Formula(lambda x: x[..., 2] - x[..., 0] ** 2 / 4, home), power=0.5)
    x, y = home.project(torch.tensor([[2.0, 0.1, 0.0], [-0.3, 1.9, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(fermat.exp(x, fermat.log(x, y)), y, rtol=0, atol=1e-6)
    with pytest.raises(NotImplementedError, match="not known here"):
        fermat.is_minimal(x, y)


def great_circle(home: Sphere, angle: float) -> Tensor:
    t = torch.linspace(0, angle, 49, dtype=torch.float64)
    x = torch.zeros(49, home.ambient_dim, dtype=torch.float64)
    x[:, 0], x[:, 1] = t.cos(), t.sin()
    return x


@pytest.mark.parametrize(("angle", "points"), [(0.97, 0), (1.03, 1), (1.97, 1), (2.03, 2)])
@pytest.mark.parametrize("dim", [2, 4])
def test_great_circles_meet_at_every_half_turn(angle: float, points: int, dim: int) -> None:
    home = Sphere(dim)
    fermat = FermatSpace(Formula(lambda x: 0 * x.sum(-1), home), power=1.0)
    found = Variation(fermat._weight(), great_circle(home, angle * math.pi)[None])
    assert int(found.index) == points * (dim - 1)


@pytest.mark.parametrize(("angle", "points"), [(1.97, 0), (2.03, 2)])
def test_rotations_meet_after_a_full_turn(angle: float, points: int) -> None:
    home = SpecialOrthogonal(3)
    eye = torch.eye(3, dtype=torch.float64).flatten()
    spin = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64).flatten()
    t = torch.linspace(0, angle * math.pi, 65, dtype=torch.float64)[:, None]
    fermat = FermatSpace(Formula(lambda x: 0 * x.sum(-1), home), power=1.0)
    assert int(Variation(fermat._weight(), home.exp(eye, t * spin)[None]).index) == points


def test_the_line_between_antipodes_of_a_ring_is_not_minimal() -> None:
    row = next(r for r in FLAT if r.name == "ring, antipodes")
    x, y = row.ends()
    fermat = space(row, nodes=31, extrapolate=False)  # no node at the origin, where the score has no direction
    line = x + torch.linspace(0, 1, 32, dtype=x.dtype)[:, None] * (y - x)
    assert float(fermat.solve(x, y, line).length) == pytest.approx(130.6, rel=0.05)
    assert not bool(fermat.is_minimal(x, y, line))
    assert bool(fermat.is_minimal(x, y))


@pytest.mark.parametrize("home", [Euclidean(2), Sphere(2)], ids=repr)
def test_steps_are_of_sixth_order(home: Manifold) -> None:
    at = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)[:, -home.ambient_dim :]
    fermat = FermatSpace(Formula(lambda x: 2 * x[..., 0] - x[..., 1] ** 2 + x[..., 0] ** 3, home), power=0.7)
    weight = fermat._weight()
    t = home.to_tangent(at, torch.tensor([[0.3, 0.9, 0.2]], dtype=torch.float64)[:, : home.ambient_dim])
    t = t / home.norm(at, t)
    grids, results = (3, 6, 12, 36), []
    for steps in grids:
        state = (at, t, torch.zeros(1, dtype=torch.float64))
        for _ in range(steps):
            state = _glide(weight, state, torch.full((1,), 1.5 / steps, dtype=torch.float64), weight.log(at))
        results.append(torch.cat([state[0][0], state[1][0], state[2]]))
    errors = [math.log2(float((r - results[-1]).abs().max())) for r in results[:-1]]
    assert -np.polyfit(range(3), errors, 1)[0] >= 5.5
    end, heading = travel(weight, at, results[-1][-1] * t)
    torch.testing.assert_close(torch.cat([end[0], heading[0]]), results[-1][:-1], rtol=0, atol=1e-8)


def test_ways_out_of_the_support_and_velocities_that_miss_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    disc = Formula(lambda x: torch.log(1 - (x * x).sum(-1)) / 4)
    fermat = FermatSpace(disc, power=1.0, space=Euclidean(2))  # the rim is near: ∫ (1 − r)^{−1/4} dr is finite
    x = torch.zeros(2, 2, dtype=torch.float64)
    v = torch.tensor([[0.5, 0.0], [5.0, 0.0]], dtype=torch.float64)
    with pytest.warns(UserWarning, match="1 of 2 geodesics leave"):
        end = fermat.exp(x, v)
    assert end.isfinite().all(1).tolist() == [True, False]
    row = next(r for r in FLAT if r.name == "ring, angle 2.5, β=1")
    monkeypatch.setattr(tangent, "ROUNDS", 1)
    with pytest.warns(UserWarning, match="1 of 1 velocities did not converge"):
        space(row).log(*row.ends())


def test_mean_stops_with_a_warning() -> None:
    rows = mixture_a().sample(6, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="still moves after 1 steps"):
        FermatSpace(mixture_a(), power=0.5).mean(rows, max_iter=1)
