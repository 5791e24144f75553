"""Laws of spaces: what exp, log, dist and their kin owe each other, near, far and in between."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import manifolds
from manifolds import Euclidean, Manifold
from tests.laws.registry import MANIFOLDS, Case
from tests.laws.tools import (
    build,
    cases,
    central,
    close,
    derivatives_are_finite,
    eps,
    is_smooth_along,
    obeys_batches,
    untouched,
)

Verb = Callable[[Manifold, Tensor, Tensor, Tensor], Any]

VERBS: dict[str, Verb] = {
    "project": lambda s, x, y, v: s.project(1.3 * x + 0.1 * v),
    "to_tangent": lambda s, x, y, v: s.to_tangent(x, y),
    "exp": lambda s, x, y, v: s.exp(x, v),
    "log": lambda s, x, y, v: s.log(x, y),
    "dist": lambda s, x, y, v: s.dist(x, y),
    "squared_dist": lambda s, x, y, v: s.squared_dist(x, y),
    "geodesic": lambda s, x, y, v: s.geodesic(x, y, 0.3),
    "retract": lambda s, x, y, v: s.retract(x, v),
    "transport": lambda s, x, y, v: s.transport(x, y, v),
    "inner": lambda s, x, y, v: s.inner(x, v, v),
    "norm": lambda s, x, y, v: s.norm(x, v),
    "tangent_basis": lambda s, x, y, v: s.tangent_basis(x),
    "coords": lambda s, x, y, v: s.coords(x, v),
    "egrad_to_rgrad": lambda s, x, y, v: s.egrad_to_rgrad(x, y),
    "log_volume": lambda s, x, y, v: s.log_volume(x),
}
"""Every verb on points x, y and a tangent vector v at x."""


def each_verb(law: Any) -> Any:
    chosen = [
        pytest.param(case, verb, id=f"{name}-{verb}")
        for name, case in MANIFOLDS.items()
        for verb in VERBS
        if verb not in case.lacks and not (verb == "geodesic" and {"exp", "log"} & set(case.lacks))
    ]
    return pytest.mark.parametrize(("case", "verb"), chosen)(law)


def points(space: Manifold, dtype: torch.dtype, g: Generator, *batch: int) -> Tensor:
    own = case_of(space).points
    raw = torch.randn(*batch, space.ambient_dim, dtype=dtype, generator=g)
    return space.project(raw if own is None else own(raw))


def case_of(space: Manifold) -> Case:
    return next(c for c in MANIFOLDS.values() if c.make() == space)


def tangent(space: Manifold, x: Tensor, g: Generator, length: float | None = None) -> Tensor:
    """A random tangent vector, of the given length if there is one, else below half the injectivity radius."""
    v = space.random_tangent(x, generator=g)
    v = v / space.norm(x, v)[..., None]
    if length is None:
        most = min(1.5, 0.5 * space.injectivity_radius or math.inf, case_of(space).reach)  # zero: corners of a mesh
        length = torch.rand(*v.shape[:-1], 1, dtype=v.dtype, generator=g) * most
    return v * length


def scale(*tensors: Tensor) -> float:
    """The size of the numbers, which rounding is relative to."""
    return max([1.0, *(float(t.abs().max()) for t in tensors)])


def bound(case: Case, space: Manifold, dtype: torch.dtype, k: float, *tensors: Tensor) -> float:
    """k roundings of numbers of this size, in lengths of the space's own unit."""
    unit = min(space.scale or [1.0]) if isinstance(space, Euclidean) else 1.0
    return k * case.slack * eps(dtype) * scale(*tensors) / min(1.0, unit)


# -- exp and log -------------------------------------------------------------------------------------------------------


@cases(MANIFOLDS, without="log")
def test_exp_undoes_log(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y = points(space, dtype, generator, 50), points(space, dtype, generator, 50)
    close(space.exp(x, space.log(x, y)), y, bound(case, space, dtype, 8, x, y))
    close(space.log(x, x), torch.zeros_like(x), 0)


@cases(MANIFOLDS, without="log")
def test_log_undoes_exp(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x = points(space, dtype, generator, 50)
    v = tangent(space, x, generator)
    close(space.log(x, space.exp(x, v)), v, bound(case, space, dtype, 32, x, v))
    assert space.contains(space.exp(x, v)).all()


@cases(MANIFOLDS, without="log")
def test_dist_is_the_length_of_log(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y = points(space, dtype, generator, 50), points(space, dtype, generator, 50)
    v, tol = space.log(x, y), bound(case, space, dtype, 16, x, y)
    close(space.dist(x, y), space.norm(x, v), tol)
    close(space.dist(x, y), space.inner(x, v, v).sqrt(), tol)
    close(space.squared_dist(x, y), space.dist(x, y) ** 2, tol, 16 * case.slack * eps(dtype))
    close(space.dist(x, x), torch.zeros_like(x[:, 0]), 0)
    close(space.squared_dist(x, x), torch.zeros_like(x[:, 0]), 0)


@cases(MANIFOLDS, without="dist")
def test_dist_is_a_distance(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y, z = (points(space, dtype, generator, 200) for _ in range(3))
    tol = bound(case, space, dtype, 16, x, y, z)
    close(space.dist(x, y), space.dist(y, x), tol)
    assert (space.dist(x, y) > 0).all()
    assert (space.dist(x, z) <= space.dist(x, y) + space.dist(y, z) + tol).all()


@cases(MANIFOLDS, without="log")
def test_geodesics_join_their_ends_at_constant_speed(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y = points(space, dtype, generator, 20), points(space, dtype, generator, 20)
    tol = bound(case, space, dtype, 32, x, y)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=dtype)
    path = space.geodesic(x[:, None], y[:, None], t)
    close(path[:, 0], x, tol)
    close(path[:, -1], y, tol)
    assert space.contains(path).all()
    length = space.dist(x, y)[:, None, None]
    between = space.dist(path[:, :, None], path[:, None, :])
    close(between, (t[:, None] - t).abs() * length, tol)


@cases(MANIFOLDS, without="exp")
def test_retract_agrees_with_exp_to_first_order(case: Case, generator: Generator) -> None:
    """The gap shrinks at least as h²: its slope in log-log is two or more (or the two are the same)."""
    space = build(case)
    x = points(space, torch.float64, generator, 20)
    v = tangent(space, x, generator, min(1.0, case.reach))
    steps = [0.1, 0.03, 0.01, 0.003]
    gaps = [float(space.norm(x, space.exp(x, h * v) - space.retract(x, h * v)).max()) for h in steps]
    if max(gaps) > 1e-14:
        slope = math.log(gaps[0] / gaps[-1]) / math.log(steps[0] / steps[-1])
        assert slope > 1.9


# -- tangent spaces ----------------------------------------------------------------------------------------------------


@cases(MANIFOLDS)
def test_project_and_to_tangent_are_projections(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    raw = torch.randn(100, space.ambient_dim, dtype=dtype, generator=generator)
    x = space.project(raw)
    close(space.project(x), x, bound(case, space, dtype, 2, x))
    assert space.contains(x).all()
    v = space.to_tangent(x, torch.randn(100, space.ambient_dim, dtype=dtype, generator=generator))
    close(space.to_tangent(x, v), v, bound(case, space, dtype, 4, v))
    if not case.nearest:
        return
    others = points(space, dtype, generator, 100)
    assert ((x - raw).norm(dim=-1) <= (others - raw).norm(dim=-1) + 4 * eps(dtype)).all(), "not the nearest point"


@cases(MANIFOLDS, without="tangent_basis")
def test_tangent_basis_is_orthonormal(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x = points(space, dtype, generator, 100)
    basis = space.tangent_basis(x)
    assert basis.shape == (100, space.ambient_dim, space.dim)
    columns = basis.mT
    gram = space.inner(x[:, None, None], columns[:, :, None], columns[:, None, :])
    close(gram, torch.eye(space.dim, dtype=dtype).expand_as(gram), 16 * case.slack * eps(dtype))
    tol = bound(case, space, dtype, 16, basis)
    close(space.to_tangent(x[:, None], columns), columns, tol)
    c = torch.randn(100, space.dim, dtype=dtype, generator=generator)
    v = (basis @ c[..., None])[..., 0]
    close(space.coords(x, v), c, bound(case, space, dtype, 16, c))
    close(space.norm(x, v), c.norm(dim=-1), bound(case, space, dtype, 16, c))
    assert torch.equal(basis, space.tangent_basis(x.clone())), "not deterministic"


@cases(MANIFOLDS, without="tangent_basis")
def test_random_tangents_are_standard_normal(case: Case, generator: Generator) -> None:
    space = build(case)
    x = points(space, torch.float64, generator, 1).expand(40_000, -1)
    v = space.random_tangent(x, generator=generator)
    error = math.sqrt(2 / space.dim / len(v))  # of the mean of |v|²/dim
    assert abs(float((space.norm(x, v) ** 2).mean()) / space.dim - 1) < 4 * error
    again = space.random_tangent(x, generator=Generator().manual_seed(3))
    assert torch.equal(again, space.random_tangent(x, generator=Generator().manual_seed(3)))


@cases(MANIFOLDS, without="transport")
def test_transport_is_an_isometry(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """It keeps inner products, carries a geodesic's velocity into itself, and comes back the way it went."""
    space = build(case)
    x, y = points(space, dtype, generator, 50), points(space, dtype, generator, 50)
    u, v = tangent(space, x, generator), tangent(space, x, generator)
    moved_u, moved_v = space.transport(x, y, u), space.transport(x, y, v)
    tol = bound(case, space, dtype, 32, u, v)
    close(space.inner(y, moved_u, moved_v), space.inner(x, u, v), tol)
    close(space.to_tangent(y, moved_u), moved_u, 4 * tol)  # ends are on the space to rounding only: felt near cuts
    close(space.transport(y, x, moved_u), u, tol)
    close(space.transport(x, x, u), u, tol)
    if "log" not in case.lacks:
        near = space.exp(x, v)
        close(space.transport(x, near, v), -space.log(near, x), bound(case, space, dtype, 32, x, v))


@cases(MANIFOLDS)
def test_riemannian_gradient_gives_the_same_derivative(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """inner(x, rgrad, v) = ⟨egrad, v⟩ for every tangent v, and rgrad is tangent."""
    space = build(case)
    x = points(space, dtype, generator, 50)
    g = torch.randn(50, space.ambient_dim, dtype=dtype, generator=generator)
    rgrad = space.egrad_to_rgrad(x, g)
    tol = bound(case, space, dtype, 64, rgrad)
    close(space.to_tangent(x, rgrad), rgrad, tol)
    for column in space.tangent_basis(x).unbind(-1):
        close(space.inner(x, rgrad, column), (g * column).sum(-1), tol)


# -- near and far ------------------------------------------------------------------------------------------------------


def hard_pairs(space: Manifold, dtype: torch.dtype, g: Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Coincident, very near, nearly cut off and exactly cut off (or far, where nothing is cut off)."""
    tiny, shy = (1e-9, 1e-7) if dtype == torch.float64 else (1e-4, 1e-3)
    x = points(space, dtype, g, 5)
    u = tangent(space, x, g, 1.0)
    pairs = {"coincident": (x, x.clone()), "near": (x, space.exp(x, tiny * u))}
    r = space.injectivity_radius
    if math.isfinite(r):
        pairs["nearly cut"] = (x, space.project(space.exp(x, (r - shy) * u)))
        pairs["cut"] = (x, space.project(space.exp(x, r * u)))
    else:
        pairs["far"] = (x, space.project(space.exp(x, min(5, case_of(space).reach) * u)))
    if type(space).__name__ == "Sphere":
        pairs["cut"] = (x, -x)
    return pairs


@cases(MANIFOLDS, without="log")
def test_near_and_far_points(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Between hard pairs exp still undoes log, distances keep their digits, and two derivatives are finite."""
    space = build(case)
    for what, (x, y) in hard_pairs(space, dtype, generator).items():
        tol = bound(case, space, dtype, 8, x, y)
        close(space.exp(x, space.log(x, y)), y, tol)
        close(space.norm(x, space.log(x, y)), space.dist(x, y), tol)
        close(space.squared_dist(x, y), space.dist(x, y) ** 2, 0.1 * tol, 64 * case.slack * eps(dtype))
        if what == "near":
            tiny = 1e-9 if dtype == torch.float64 else 1e-4
            ambient = float(x.abs().max())  # rounding of y moves it by this much
            close(space.dist(x, y), torch.full_like(x[:, 0], tiny), bound(case, space, dtype, 4) * ambient)
        for verb in ("log", "dist", "squared_dist", "geodesic", "transport", "coords"):
            if verb in case.lacks:
                continue
            v = tangent(space, x, generator, min(0.7, case.reach))
            derivatives_are_finite(lambda a, b, v=v, verb=verb: VERBS[verb](space, a, b, v), x, y)


@cases(MANIFOLDS, without="exp")
def test_exp_at_zero_and_far(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x = points(space, dtype, generator, 5)
    for length in (0.0, 1e-9, 1e-3, 1.0, 5.0):
        v = tangent(space, x, generator, 1.0) * length * min(1.0, case.reach / 5)
        for verb in ("exp", "norm", "retract"):
            derivatives_are_finite(lambda a, w, verb=verb: VERBS[verb](space, a, a, w), x, v)
        if length == 0:
            close(space.exp(x, v), x, bound(case, space, dtype, 2, x))


@cases(MANIFOLDS, without="log")
def test_squared_dist_has_hessian_two(case: Case, generator: Generator) -> None:
    """At y = x the Hessian in orthonormal coordinates is 2 I, for moves along the tangent space and along exp."""
    space = build(case)
    for x in points(space, torch.float64, generator, 4):
        basis = space.tangent_basis(x)
        two = 2 * torch.eye(space.dim, dtype=torch.float64)
        inside = torch.func.hessian(lambda c, x=x, b=basis: space.squared_dist(x, space.exp(x, b @ c)))
        close(inside(torch.zeros(space.dim, dtype=torch.float64)), two, 1e-12 * case.slack)
        hessian = torch.func.hessian(lambda y, x=x: space.squared_dist(x, y))(x)
        close(basis.mT @ hessian @ basis, two, 1e-12 * case.slack)


# -- volume ------------------------------------------------------------------------------------------------------------


@cases(MANIFOLDS, without="log")
def test_log_volume_is_that_of_the_metric(case: Case, generator: Generator) -> None:
    """½ log det G, with G the metric in a basis orthonormal in the embedding, read off the Hessian of squared_dist."""
    space = build(case)
    for x in points(space, torch.float64, generator, 4):
        noise = torch.randn(space.dim, space.ambient_dim, dtype=torch.float64, generator=generator)
        q = torch.linalg.qr(space.to_tangent(x, noise).mT).Q
        metric = q.mT @ torch.func.hessian(lambda y, x=x: space.squared_dist(x, y))(x) @ q / 2
        close(space.log_volume(x), 0.5 * torch.linalg.slogdet(metric).logabsdet, 1e-10 * case.slack)


@cases(MANIFOLDS, without="sample_uniform")
def test_uniform_points(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """They lie on the space, repeat under a seed, and a ball holds its share of the whole volume."""
    space = build(case)
    x = space.sample_uniform((10_000, 3), generator=generator, dtype=dtype)
    assert x.shape == (10_000, 3, space.ambient_dim)
    assert x.dtype == dtype
    assert space.contains(x).all()
    again = [space.sample_uniform(4, generator=Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*again)
    if dtype == torch.float32 or {"log", "exp"} & set(case.lacks):
        return
    centre, radius = points(space, dtype, generator), min(0.5 * space.injectivity_radius, case.reach)
    inside = (space.dist(centre, x.flatten(0, 1)) < radius).double()
    c = torch.randn(4000, space.dim, dtype=dtype, generator=generator)
    c = (
        radius
        * c
        / c.norm(dim=-1, keepdim=True)
        * torch.rand(4000, 1, dtype=dtype, generator=generator) ** (1 / space.dim)
    )
    basis = space.tangent_basis(centre)

    def stretch(c: Tensor) -> Tensor:
        y, columns = space.exp(centre, basis @ c), torch.func.jacfwd(lambda c: space.exp(centre, basis @ c))(c).mT
        return space.inner(y, columns[:, None], columns[None]).det().sqrt()

    density = torch.vmap(stretch)(c)
    unit_ball = space.dim / 2 * math.log(math.pi) - math.lgamma(space.dim / 2 + 1)
    ball = math.exp(unit_ball + space.dim * math.log(radius) - space.log_volume_total)
    expected, error = ball * density.mean(), ball * density.std() / math.sqrt(len(c))
    error = torch.hypot(error, inside.std() / math.sqrt(len(inside)))
    assert abs(float((inside.mean() - expected) / error)) < 4
    assert float(error / expected) < 0.05, "too coarse to mean anything"


# -- calls -------------------------------------------------------------------------------------------------------------


@each_verb
def test_batches(case: Case, verb: str, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y = points(space, dtype, generator, 6), points(space, dtype, generator, 6)
    v = tangent(space, x, generator)
    result = VERBS[verb](space, x, y, v)
    assert result.dtype == dtype
    obeys_batches(lambda *a: VERBS[verb](space, *a), x, y, v, tol=bound(case, space, dtype, 8, x, y, result))


@each_verb
def test_broadcasting(case: Case, verb: str, dtype: torch.dtype, generator: Generator) -> None:
    """One base point with many others, many with one, and a table of both."""
    space = build(case)
    x, y = points(space, dtype, generator, 3, 1), points(space, dtype, generator, 4)
    v = tangent(space, x, generator)
    full = VERBS[verb](space, x.expand(3, 4, -1), y.expand(3, 4, -1), v.expand(3, 4, -1))
    tol = bound(case, space, dtype, 8, x, y, full)
    result = VERBS[verb](space, x, y, v)
    close(result.expand_as(full), full, tol, tol)
    one = x[0, 0]
    close(VERBS[verb](space, one, y, v[0, 0]).expand_as(full[0]), full[0], tol, tol)


@each_verb
def test_derivatives(case: Case, verb: str, generator: Generator) -> None:
    """Forward, reverse and second derivatives along a curve in the space equal difference quotients."""
    space = build(case)
    x, y = points(space, torch.float64, generator, 2), points(space, torch.float64, generator, 2)
    if not {"exp", "log"} & set(case.lacks):
        y = space.geodesic(x, y, 0.9)  # away from the cut locus, which a difference quotient would straddle
    v = tangent(space, x, generator)
    noise = torch.randn(3, 2, space.ambient_dim, dtype=torch.float64, generator=generator)
    dx, dy, dv = min(1.0, case.reach) * noise

    def along(t: Tensor) -> Any:
        a = space.project(x + t * dx)
        return VERBS[verb](space, a, space.project(y + t * dy), space.to_tangent(a, v + t * dv))

    is_smooth_along(along, tol=1e-9 * case.slack)


@each_verb
def test_inputs_are_left_alone(case: Case, verb: str, dtype: torch.dtype, generator: Generator) -> None:
    space = build(case)
    x, y = points(space, dtype, generator, 3), points(space, dtype, generator, 3)
    v = tangent(space, x, generator)
    with untouched(x, y, v):
        VERBS[verb](space, x, y, v)
    x.requires_grad_()
    with untouched(x, y, v):
        VERBS[verb](space, x, y, v)


@cases(MANIFOLDS, without="log")
def test_mean_is_stationary(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Σ w log_m x = 0, and the sum of squared distances grows away from m."""
    space = build(case)
    centre = points(space, dtype, generator, 2)
    x = space.exp(centre[:, None], 0.2 * tangent(space, centre[:, None].expand(2, 25, -1), generator))
    w = torch.rand(25, dtype=dtype, generator=generator)
    for weights in (None, w):
        m = space.mean(x, weights)
        assert m.shape == centre.shape
        share = torch.full((25,), 1 / 25, dtype=dtype) if weights is None else w / w.sum()
        force = (share[:, None] * space.log(m[:, None], x)).sum(-2)
        close(force, torch.zeros_like(force), bound(case, space, dtype, 32, x))
        spread = (share * space.squared_dist(m[:, None], x)).sum(-1)
        moved = space.exp(m, tangent(space, m, generator, 0.05))
        assert ((share * space.squared_dist(moved[:, None], x)).sum(-1) > spread).all()


# -- a value object ----------------------------------------------------------------------------------------------------


@cases(MANIFOLDS)
def test_compares_by_content(case: Case) -> None:
    import json

    space, twin = case.make(), case.make()
    assert space == twin
    assert hash(space) == hash(twin)
    assert space is not twin
    again = type(space).from_config(json.loads(json.dumps(space.config())))
    assert again == space
    if len(json.dumps(space.config())) < 1000:  # tables of a mesh are too long to be written out
        assert space == eval(repr(space), {**vars(manifolds), type(space).__name__: type(space)})
    assert pickle.loads(pickle.dumps(space)) == space == copy.deepcopy(space)
    others = [other.make() for other in MANIFOLDS.values() if repr(other.make()) != repr(space)]
    assert space not in others


@cases(MANIFOLDS)
def test_what_is_lacking_says_what_to_use(case: Case, generator: Generator) -> None:
    space = build(case)
    x = points(space, torch.float64, generator, 3)
    for verb in case.lacks:
        with pytest.raises(NotImplementedError, match=r": .{10,}\.$"):
            space.sample_uniform(3) if verb == "sample_uniform" else VERBS[verb](space, x, x, torch.zeros_like(x))


@cases(MANIFOLDS)
def test_points_off_the_space_are_refused(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """A point 1e-3 off is named with how far off it is; so is a vector off the tangent space; sizes are said."""
    space = build(case)
    x = points(space, dtype, generator, 5)
    wrong = torch.zeros(5, space.ambient_dim + 1, dtype=dtype)
    with pytest.raises(ValueError, match=rf"{space.ambient_dim} .*last axis.*\(5, {space.ambient_dim + 1}\)"):
        space.project(wrong)
    with pytest.raises(TypeError, match=r"double\(\)"):
        space.dist(x.long(), x)
    off = x.clone()
    off[2] *= 1.001
    if space.contains(off).all():  # linear: that stays inside
        off[2] += 1e-3
    if space.dim == space.ambient_dim:  # no direction leads out of it; infinity does
        off[2, 0] = math.inf
    assert space.contains(off).tolist() == [True, True, False, True, True]
    with pytest.raises(ValueError, match="1 (of 5 )?points"):
        space.dist(off, x)
    if space.dim < space.ambient_dim:
        with pytest.raises(ValueError, match=r"row 2, off by up to (0\.00|1e-03|0\.001).*project"):
            space.log(x, off)
        raw = torch.randn(x.shape, dtype=dtype, generator=generator)
        with pytest.raises(ValueError, match=r"not tangent.*to_tangent"):
            space.exp(x, 0.99 * space.to_tangent(x, raw) + 0.01 * raw)


@cases(MANIFOLDS, without="exp")
def test_speed_of_a_geodesic_is_its_velocity(case: Case, generator: Generator) -> None:
    """d/dt exp(x, t v) at 0 is v."""
    space = build(case)
    x = points(space, torch.float64, generator, 4)
    v = tangent(space, x, generator)
    (velocity,) = central(lambda h: space.exp(x, h * v))
    close(velocity, v, 1e-9 * scale(v))
