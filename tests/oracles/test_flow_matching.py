"""Flow matching against flows known in closed form, whole Jacobians, quadrature, orders of solvers, and a density."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import Density, DiagonalNormal, Flow, Standardize, StandardNormal, fit
from geoflow.distributions import ClassConditional, Mixture, ProductDensity, Uniform, VonMisesFisher, WrappedNormal
from geoflow.freeform import FlowMatching, exact
from manifolds import (
    Euclidean,
    Hyperboloid,
    Manifold,
    MeanFree,
    PoincareBall,
    Product,
    Simplex,
    SpecialOrthogonal,
    Sphere,
    Torus,
    angles_to_embedded,
)
from tests.laws.cylinder import Cylinder
from tests.laws.icosphere import icosphere
from tests.laws.registry import MANIFOLDS, Case
from tests.laws.tools import cases, close, untouched

Formula = Callable[[Tensor, Tensor], Tensor]
REFUSED = ("Simplex", "Cylinder")  # it has an edge; it has no default base
GEODESICS = {n: case for n, case in MANIFOLDS.items() if "log" not in case.lacks and not n.startswith(REFUSED)}
every_space = cases(GEODESICS)


class Known(nn.Module):
    """A velocity by its formula."""

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.formula(x, t)


def known(space: Manifold, formula: Formula, base: Density | None = None, **options: Any) -> FlowMatching:
    options = {"method": "rk4", "steps": 50, **options}
    return FlowMatching(space, Known(formula), base, **options).double()


def rough(space: Manifold, base: Density | None = None, size: float = 1.5, **options: Any) -> FlowMatching:
    """An untrained velocity of this size, no linear one."""
    options = {"method": "rk4", "steps": 60, "hidden": (16, 16), "activation": "tanh", **options}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        flow = FlowMatching(space, base=base, **options).double()
        last = flow.velocity.net.layers[-1]
        nn.init.normal_(last.weight, std=size / 2)
        nn.init.normal_(last.bias, std=size / 4)
    return flow


def points(case: Case, n: int, g: Generator, dtype: torch.dtype = torch.float64) -> tuple[Manifold, Tensor]:
    space = case.make()
    raw = torch.randn(n, space.ambient_dim, dtype=dtype, generator=g)
    return space, space.project(0.7 * raw if case.points is None else case.points(raw))


def slope(errors: dict[int, float]) -> float:
    """Of log error in log steps, with the sign turned: the order."""
    return -float(np.polyfit(np.log([*errors]), np.log([*errors.values()]), 1)[0])


# -- flows in closed form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "options"), [("rk4", {"steps": 100}), ("dopri5", {"atol": 1e-10, "rtol": 1e-10})])
def test_a_linear_field(method: Any, options: dict[str, Any], generator: Generator) -> None:
    """dx/dt = 2t (Ax + b): log p(x₁) = log N(e^{−A}(x₁ + c) − c) − tr A, Ac = b."""
    if method == "dopri5":
        pytest.importorskip("torchdiffeq")
    a = torch.tensor([[0.5, 1.0, 0.0], [-1.0, 0.3, 0.2], [0.1, 0.0, -0.4]], dtype=torch.float64)
    c = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    flow = known(Euclidean(3), lambda x, t: 2 * t[..., None] * ((x + c) @ a.T), method=method, **options)
    x = 2 * torch.randn(40, 3, dtype=torch.float64, generator=generator)
    start = (x + c) @ torch.linalg.matrix_exp(-a).T - c
    truth = StandardNormal(3).double().log_prob(start) - a.trace()
    close(flow.log_prob(x), truth, 1e-8, 1e-8)
    close(flow.score(x), -(start @ torch.linalg.matrix_exp(-a)), 1e-7, 1e-7)
    ends = flow.sample(5, generator=Generator().manual_seed(1))
    starts = StandardNormal(3).double().sample(5, generator=Generator().manual_seed(1))
    close(ends, (starts + c) @ torch.linalg.matrix_exp(a).T - c, 1e-8, 1e-8)
    assert flow.evaluations > 10


def test_a_rotation_keeps_volumes(generator: Generator) -> None:
    """On the sphere and among rotations: the base, turned."""
    spin = torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64)
    hat = torch.linalg.cross(torch.eye(3, dtype=torch.float64), spin.expand(3, 3)).T.contiguous().T
    turn = torch.linalg.matrix_exp(hat)
    base = VonMisesFisher(torch.tensor([0.6, 0.0, 0.8]), 5.0).double()
    flow = known(Sphere(2), lambda x, t: x @ hat, base)
    x = Sphere(2).sample_uniform(30, generator, torch.float64)
    close(flow.log_prob(x), base.log_prob(x @ turn.T), 1e-7)

    space = SpecialOrthogonal(3)
    centre = WrappedNormal(space, torch.eye(3).flatten(), 0.4).double()
    flow = known(space, lambda x, t: (space.as_matrix(x) @ hat).flatten(-2), centre)
    x = centre.sample(20, generator=generator)
    back = (space.as_matrix(x) @ turn.mT).flatten(-2)
    close(flow.log_prob(x), centre.log_prob(back), 1e-6)


def test_towards_a_pole(generator: Generator) -> None:
    """u = 2at · (the gradient of the height z): z = tanh(atanh z₀ + a), and area goes as z."""
    a, up = 1.2, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    flow = known(Sphere(2), lambda x, t: 2 * a * t[..., None] * up.expand_as(x))
    x = Sphere(2).sample_uniform(50, generator, torch.float64)
    before = torch.tanh(torch.atanh(x[:, 2]) - a)
    truth = -math.log(4 * math.pi) + torch.log((1 - before**2) / (1 - x[:, 2] ** 2))
    close(flow.log_prob(x), truth, 1e-6)
    assert truth.max() - truth.min() > 3


def test_angles_towards_a_half_turn(generator: Generator) -> None:
    """dθ/dt = a sin θ, as angles and as pairs: tan θ/2 grows by eᵃ; across the seam too."""
    a = torch.tensor([0.8, -1.3], dtype=torch.float64)
    x = Torus(2).sample_uniform(60, generator, torch.float64)
    before = 2 * torch.atan(torch.exp(-a) * torch.tan(x / 2))
    truth = torch.log(before.sin() / x.sin()).sum(-1) - 2 * math.log(2 * math.pi)
    flow = known(Torus(2), lambda x, t: a * x.sin())
    close(flow.log_prob(x), truth, 1e-6)
    close(flow.log_prob(x + 2 * math.pi), truth, 1e-6)

    def pairs(x: Tensor, t: Tensor) -> Tensor:
        c, s = x.unflatten(-1, (2, 2)).unbind(-1)
        return torch.stack([-s * a * s, c * a * s], -1).flatten(-2)

    close(known(Torus(2, embedded=True), pairs).log_prob(angles_to_embedded(x)), truth, 1e-6)


@pytest.mark.parametrize(
    "space", [PoincareBall(2), PoincareBall(3, curvature=0.5), Hyperboloid(2), Hyperboloid(3, curvature=2.0)], ids=repr
)
def test_a_dilation_of_hyperbolic_space(space: Any, generator: Generator) -> None:
    """The distance r to the origin grows by eᵃ, and area as (sinh kr / k)ⁿ⁻¹ dr, k² the curvature."""
    a, k = 0.5, math.sqrt(space.curvature)
    origin = space.project(torch.zeros(space.ambient_dim, dtype=torch.float64))
    base = WrappedNormal(space, origin, 0.7).double()
    flow = known(space, lambda x, t: -a * space._log(x, origin), base)
    v = torch.randn(30, space.dim, dtype=torch.float64, generator=generator)
    x = space.exp(origin, (space.tangent_basis(origin) @ v[..., None])[..., 0])
    r = v.norm(dim=-1)
    start = space.exp(origin, math.exp(-a) * space.log(origin, x))
    ratio = torch.log(torch.sinh(k * r * math.exp(-a)) / torch.sinh(k * r))
    close(flow.log_prob(x), base.log_prob(start) + (space.dim - 1) * ratio - a, 1e-6, 1e-7)


def test_factors_side_by_side(generator: Generator) -> None:
    """On a product the log densities add up, scaled columns with their own unit of volume."""
    space, up = Product(Sphere(2), Euclidean(1, [2.0])), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    def formula(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([up.expand_as(x[..., :3]), 0.7 * x[..., 3:]], -1)

    line = WrappedNormal(Euclidean(1, [2.0]), torch.tensor([0.0]), 1.0).double()
    ball = VonMisesFisher(torch.tensor([0.6, 0.0, 0.8]), 2.0).double()
    flow = known(space, formula, ProductDensity(ball, line))
    x = torch.cat(
        [
            Sphere(2).sample_uniform(20, generator, torch.float64),
            torch.randn(20, 1, dtype=torch.float64, generator=generator),
        ],
        -1,
    )
    alone = known(Sphere(2), lambda x, t: up.expand_as(x), ball).log_prob(x[:, :3])
    truth = alone + line.log_prob(x[:, 3:] * math.exp(-0.7)) - 0.7
    close(flow.log_prob(x), truth, 1e-8)
    close(flow.log_prob(x[:, :3].new_tensor([[0.0, 0.0, 1.0, 4.0]])).isfinite(), torch.tensor([True]), 0)


# -- any field ---------------------------------------------------------------------------------------------------------


@every_space
def test_log_prob_is_the_volume_change_of_the_flow(case: Case, generator: Generator) -> None:
    """log p(Φ(x)) = log p_base(x) − log|det DΦ(x)|, the determinant by derivatives of the solved flow itself."""
    space, x = points(case, 6, generator)
    flow = rough(space, size=0.7, steps=16)
    moved, log_det = exact.log_det(lambda y: flow._carry(y, None), x, space, space)
    assert (moved - x).abs().max() > 0.05
    assert log_det.abs().max() > 1e-2 or "Sphere(1)" in repr(space)
    close(flow.log_prob(moved.detach()), flow.base.log_prob(x) - log_det, 2e-4)


def sphere_grid(n: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre in height, equal steps in longitude: points and weights that sum to 4π."""
    z, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(n))
    phi = 2 * math.pi * torch.arange(2 * n, dtype=torch.float64) / (2 * n)
    z, w, phi = z[:, None].expand(n, 2 * n), w[:, None].expand(n, 2 * n), phi.expand(n, 2 * n)
    rho = (1 - z**2).sqrt()
    return torch.stack([rho * phi.cos(), rho * phi.sin(), z], -1).flatten(0, 1), (w * math.pi / n).flatten()


def torus_grid(n: int) -> tuple[Tensor, Tensor]:
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n - math.pi
    return torch.cartesian_prod(angle, angle), torch.full((n * n,), (2 * math.pi / n) ** 2, dtype=torch.float64)


def hyperbolic_grid(space: Any, n: int, far: float = 9.0) -> tuple[Tensor, Tensor]:
    """Geodesic polar coordinates about the origin, area sinh(kr)/k dr dφ."""
    r, w = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(n))
    r, k = far / 2 * (1 + r), math.sqrt(space.curvature)
    w = far / 2 * w * torch.sinh(k * r) / k
    phi = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    v = r[:, None, None] * torch.stack([phi.cos(), phi.sin()], -1)
    origin = space.project(torch.zeros(space.ambient_dim, dtype=torch.float64))
    x = space.exp(origin, (space.tangent_basis(origin) @ v[..., None])[..., 0]).flatten(0, 1)
    return x, (w[:, None] * 2 * math.pi / n).expand(n, n).flatten()


@pytest.mark.parametrize(
    ("space", "grid", "size"),
    [
        (Sphere(2), lambda s: sphere_grid(40), 1.5),
        (Torus(2), lambda s: torus_grid(60), 3.0),
        (PoincareBall(2), lambda s: hyperbolic_grid(s, 70), 1.5),
        (Hyperboloid(2), lambda s: hyperbolic_grid(s, 70), 1.5),
    ],
    ids=["sphere", "torus", "ball", "hyperboloid"],
)
@torch.no_grad()
def test_mass_is_one_for_any_field(space: Any, grid: Callable[[Any], tuple[Tensor, Tensor]], size: float) -> None:
    """By quadrature, for an untrained velocity that moves the mass about."""
    flow = rough(space, size=size, steps=24)
    x, w = grid(space)
    log_p = flow.log_prob(x)
    assert float((w * log_p.exp()).sum()) == pytest.approx(1, abs=1e-4)
    moved = log_p - flow.base.log_prob(x)
    assert moved.max() - moved.min() > 1


def test_estimates_are_unbiased(generator: Generator) -> None:
    """Their mean over signs is log p, within its error; where space has one dimension and is flat there is none."""
    flow = rough(Sphere(3), steps=10)
    x = Sphere(3).sample_uniform(1, generator, torch.float64)
    with torch.no_grad():
        one = flow.log_prob_estimate(x.expand(3000, -1), generator=generator)
        two = flow.log_prob_estimate(x.expand(3000, -1), probes=4, generator=generator)
        truth = float(flow.log_prob(x))
        for rows in (one, two):
            assert abs(float(rows.mean()) - truth) < 4 * float(rows.std()) / math.sqrt(len(rows))
        assert float(one.std() / two.std()) == pytest.approx(2, rel=0.1)
        assert float(one.std()) > 1e-3
        circle = rough(Torus(1))
        x = Torus(1).sample_uniform(9, generator, torch.float64)
        close(circle.log_prob_estimate(x, generator=generator), circle.log_prob(x), 1e-12)


# -- solvers -----------------------------------------------------------------------------------------------------------


def test_orders_of_the_solvers() -> None:
    """Steps along geodesics are of first order, Runge and Kutta's of fourth, against the flow towards a pole."""
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    base = Uniform(Sphere(2)).double()
    start = base.sample(200, generator=Generator().manual_seed(2))

    def formula(x: Tensor, t: Tensor) -> Tensor:
        return 2 * t[..., None] * up.expand_as(x)

    z = torch.tanh(torch.atanh(start[:, 2]) + 1)
    euler, rk4 = {}, {}
    for steps in (10, 20, 40, 80):
        flow = known(Sphere(2), formula, base, steps=steps)
        ends = flow.sample_euler(200, steps, generator=Generator().manual_seed(2))
        assert flow.evaluations == steps
        euler[steps] = float((ends[:, 2] - z).abs().max())
        rk4[steps] = float((flow.sample(200, generator=Generator().manual_seed(2))[:, 2] - z).abs().max())
        assert flow.evaluations == 4 * steps
    assert slope(euler) == pytest.approx(1, abs=0.1)
    assert slope(rk4) == pytest.approx(4, abs=0.25)


def test_adaptive_steps_keep_to_their_tolerance(generator: Generator) -> None:
    """Tighter tolerances take more evaluations and err less; scores agree with those of equal steps."""
    pytest.importorskip("torchdiffeq")
    flow = rough(Sphere(2), steps=100)
    x = Sphere(2).sample_uniform(40, generator, torch.float64)
    truth, score = flow.log_prob(x).detach(), flow.score(x).detach()
    spent, off = [], []
    for tol in (1e-3, 1e-5, 1e-7):
        adaptive = rough(Sphere(2), method="dopri5", atol=tol, rtol=tol)
        with torch.no_grad():
            off.append(float((adaptive.log_prob(x) - truth).abs().max()))
        spent.append(adaptive.evaluations)
        assert off[-1] < 30 * tol
    assert spent[0] < spent[1] < spent[2] <= 600
    with untouched(x):
        close(adaptive.score(x), score, 1e-5)
    assert adaptive.score(x.requires_grad_()).requires_grad
    assert adaptive.sample(0).shape == (0, 3)
    assert adaptive.log_prob(x[:0]).shape == (0,)


# -- training ----------------------------------------------------------------------------------------------------------


@every_space
def test_targets_are_velocities_of_geodesics(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Against differences of the space's own geodesics, and at times up to one of constant length dist(x₀, x₁)."""
    space, x0 = points(case, 8, generator, dtype)
    _, x1 = points(case, 8, generator, dtype)
    flow = FlowMatching(space).to(dtype)
    t = torch.rand(8, dtype=dtype, generator=generator)
    x_t, v = flow._geodesic(x0, x1, t)
    tight = dtype == torch.float64
    h, tol = (1e-4, 1e-6) if tight else (2e-2, 5e-3)
    scale = 1 + float(v.abs().max())
    close(space.project(x_t), space.project(space.geodesic(x0, x1, t)), tol * (1 + float(x_t.abs().max())))
    ahead, behind = (space.log(space.project(x_t), space.geodesic(x0, x1, t + s)) for s in (h, -h))
    close(v, (ahead - behind) / (2 * h), tol * scale)
    last = 1 - torch.finfo(dtype).eps
    for time in (0.0, last):
        x_t, v = flow._geodesic(x0, x1, torch.full_like(t, time))
        close(space.norm(x_t, v), space.dist(x0, x1), tol * scale, tol)
    close(space.dist(space.project(x_t), x1), torch.zeros_like(t), (1e-6 if tight else 5e-3) * scale)


def test_targets_at_the_cut_locus(dtype: torch.dtype) -> None:
    """Between antipodes, and between all but antipodes, a geodesic of length π that ends where it should."""
    north = torch.tensor([[0.0, 0.0, 1.0]], dtype=dtype).expand(4, 3)
    gap = torch.tensor([0.0, 1e-6, 1e-4, 1e-2], dtype=dtype)
    south = torch.stack([gap.sin(), 0 * gap, -gap.cos()], -1)
    flow = FlowMatching(Sphere(2)).to(dtype)
    for time in (0.0, 0.5, 1.0):
        x_t, v = flow._geodesic(north, south, torch.full_like(gap, time))
        close(v.norm(dim=-1), math.pi - gap, 4e-6 if dtype == torch.float32 else 1e-9)
    close(x_t, south, 4e-6 if dtype == torch.float32 else 1e-9)


@every_space
def test_a_field_at_rest_pays_squared_distances(case: Case, generator: Generator) -> None:
    """The default velocity starts at zero: the loss is the mean of weight · dist²(x₀, x₁), x₀ the base's own draws."""
    space, x = points(case, 7, generator)
    flow = FlowMatching(space).double()
    weight = torch.rand(7, dtype=torch.float64, generator=generator)
    torch.manual_seed(4)
    terms = flow.loss(x, weight=weight)
    torch.manual_seed(4)
    drawn = flow.base.sample(7)
    close(terms["loss"], (weight * space.squared_dist(drawn, x)).mean(), 1e-9, 1e-8)
    terms["loss"].backward()
    assert all(p.grad is not None for p in flow.players()[0].parameters)


def test_training_finds_a_mixture_on_the_sphere() -> None:
    """Within 0.05 nats of the truth on fresh rows, from 1.2 above it, in 350 steps; held-out figures repeat."""
    means = torch.tensor([[0.0, 0.6, 0.8], [0.8, 0.0, -0.6]])
    truth = Mixture([0.6, 0.4], VonMisesFisher(means, [12.0, 6.0]))
    x, fresh = truth.sample(4000), truth.sample(1000)
    flow = FlowMatching(Sphere(2), hidden=(64, 64, 64), method="rk4", steps=10)

    @torch.no_grad()
    def gap() -> float:
        return float((truth.log_prob(fresh) - flow.log_prob(fresh)).mean())

    assert gap() > 1
    history = fit(flow, x, epochs=50, batch_size=512, lr=1e-2, seed=0, progress=False, patience=None)
    assert history.monitor == "loss"
    assert -0.02 < gap() < 0.05
    state = torch.get_rng_state()
    figures = flow.evaluate(fresh)
    assert flow.evaluate(fresh) == figures
    assert torch.equal(torch.get_rng_state(), state)
    assert list(figures) == ["loss", "nll median", "flow matching"]


def test_conditions_reach_who_declares_them(generator: Generator) -> None:
    """The velocity's rows, the base's labels; not both at once."""
    space = Euclidean(2)
    flow = rough(space, context=3, steps=5)
    assert (flow.context_dim, flow.classes) == (3, 0)
    c = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    assert flow.sample(6, c).shape == flow.sample_euler(6, 5, c).shape == (6, 4, 2)
    x = torch.randn(4, 2, dtype=torch.float64, generator=generator)
    assert (flow.log_prob(x, c) - flow.log_prob(x, c.flip(0))).abs().max() > 1e-3
    labelled = rough(space, ClassConditional(2, 5), steps=5)
    assert (labelled.context_dim, labelled.classes) == (0, 5)
    assert labelled.sample(3, torch.tensor([0, 4])).shape == (3, 2, 2)
    assert labelled.loss(x, torch.tensor([0, 1, 2, 3]))["loss"].isfinite()
    with pytest.raises(ValueError, match="declare different contexts"):
        FlowMatching(space, base=ClassConditional(2, 5), context=3)


def test_the_base_is_prepared_and_then_left_alone(generator: Generator) -> None:
    x = 5 + 2 * torch.randn(200, 2, generator=generator)
    flow = FlowMatching(Euclidean(2), base=DiagonalNormal(2), hidden=(8,), method="rk4", steps=4)
    fit(flow, x, epochs=1, seed=0, progress=False, validation=0)
    close(flow.base.mean, x.mean(0), 1e-5)
    twin = flow.with_base(DiagonalNormal(2))
    assert twin.velocity is flow.velocity
    assert twin.steps == 4
    stacked = Flow(Standardize(2), FlowMatching(Euclidean(2), hidden=(8,), method="rk4", steps=4))
    fit(stacked, x, epochs=1, seed=0, progress=False)
    assert stacked.log_prob(x).isfinite().all()


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_bad_input(unchecked: None) -> None:
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: FlowMatching(3), TypeError, r"expects a space, as Sphere\(2\), got int"),
        (lambda: FlowMatching(Sphere(2), lambda x, t: x), TypeError, "expects a module as velocity, got function"),
        (lambda: FlowMatching(Sphere(2), base=nn.Linear(3, 3)), TypeError, "expects a Density as base, got Linear"),
        (lambda: FlowMatching(Sphere(2), base=StandardNormal(3)), ValueError, r"on Sphere\(n=2\) expects a base there"),
        (lambda: FlowMatching(Sphere(2), method="euler"), ValueError, "method='dopri5' or 'rk4', got 'euler'"),
        (lambda: FlowMatching(Sphere(2), atol=0.0), ValueError, "atol between 0 and 1, got 0"),
        (lambda: FlowMatching(Sphere(2), steps=0), ValueError, "steps must be at least 1, got 0"),
        (lambda: FlowMatching(Sphere(2), context=-1), ValueError, "context must be at least 0"),
        (lambda: FlowMatching(Simplex(3)), ValueError, "leave .* over its edge: take log-ratios"),
        (lambda: FlowMatching(Product(Torus(1), Simplex(2))), ValueError, "over its edge"),
        (lambda: FlowMatching(icosphere(1)), ValueError, "needs geodesics"),
        (lambda: FlowMatching(Cylinder(2.0)), ValueError, r"no default base on Cylinder.*: pass base="),
        (lambda: FlowMatching(SpecialOrthogonal(4)), ValueError, "needs geodesics: .*log.* free-form flow"),
        (lambda: FlowMatching(Sphere(2)).sample_euler(3, 0), ValueError, "steps must be at least 1"),
        (lambda: FlowMatching(Sphere(2)).log_prob_estimate(torch.eye(3), probes=0), ValueError, "probes must be"),
        (lambda: FlowMatching(Sphere(2)).log_prob(torch.ones(2, 3)), ValueError, "not on Sphere"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_a_missing_solver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    flow = FlowMatching(Sphere(2))
    with pytest.raises(ImportError, match=r"needs torchdiffeq.*pip install 'geoflow\[ode\]'.*method='rk4'"):
        flow.sample(3)
    with pytest.raises(NotImplementedError, match="method='rk4'"):
        torch.vmap(flow.log_prob)(torch.eye(3))


def test_a_field_that_is_not_finite() -> None:
    pytest.importorskip("torchdiffeq")
    flow = known(MeanFree(2, 1), lambda x, t: x / (t - t)[..., None], method="dopri5")
    with pytest.raises(ValueError, match="steps shrink to nothing at atol=1e-05"):
        flow.sample(3)
