"""Laws of the spaces that densities make."""

import copy
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geoflow import DiagonalNormal, Flow, GaussianMixture, StandardNormal, load, save
from geoflow.distances import FermatSpace
from geoflow.distributions import Mixture, VonMisesFisher
from geoflow.flows import realnvp
from geoflow.freeform import mfff
from manifolds import Space, Sphere
from tests.laws.registry import FERMAT
from tests.oracles.fermat_rows import Formula, mixture_a


@pytest.fixture(params=FERMAT)
def fermat(request: pytest.FixtureRequest, dtype: torch.dtype) -> FermatSpace:
    torch.manual_seed(0)
    return FERMAT[request.param].make().to(dtype)


def ends(space: FermatSpace, n: int = 6) -> tuple[Tensor, Tensor]:
    points = space.points
    assert points is not None
    return points[:n], points[n : 2 * n]


def relative(space: FermatSpace) -> float:
    return 1e-6 if space.points is not None and space.points.dtype == torch.float64 else 2e-4


def test_it_is_a_space(fermat: FermatSpace) -> None:
    assert isinstance(fermat, Space)


def test_symmetry_identity_and_triangle(fermat: FermatSpace) -> None:
    x, y = ends(fermat)
    z = fermat.points[12:18]
    tol = relative(fermat)
    torch.testing.assert_close(fermat.dist(x, y), fermat.dist(y, x), rtol=tol, atol=0)
    assert fermat.dist(x, x).tolist() == [0.0] * len(x)
    assert bool((fermat.dist(x, z) <= (fermat.dist(x, y) + fermat.dist(y, z)) * (1 + tol)).all())


def test_between_the_least_weight_and_the_proposals(fermat: FermatSpace) -> None:
    x, y = ends(fermat)
    relaxed = fermat.dist(x, y)
    slack = 1 + relative(fermat)
    assert bool((relaxed <= fermat.dist(x, y, "line") * slack).all())
    assert bool((relaxed <= fermat.dist(x, y, "graph") * slack).all())
    path = fermat.solve(x, y).path
    least = torch.exp(-fermat.power * fermat.density.log_prob(path).amax(1))
    assert bool((relaxed * slack >= least * fermat.space.dist(x, y)).all())


def test_geodesics_end_where_they_should_at_constant_speed(fermat: FermatSpace) -> None:
    x, y = ends(fermat)
    t = torch.linspace(0, 1, 5, dtype=x.dtype)
    path = fermat.geodesic(x, y, t[:, None])
    torch.testing.assert_close(path[0], x)
    torch.testing.assert_close(path[-1], y)
    quarter = fermat.dist(path[:-1], path[1:])
    torch.testing.assert_close(quarter, fermat.dist(x, y).expand_as(quarter) / 4, rtol=5e-3, atol=0)


def test_batches_broadcast_and_dtype_follows(fermat: FermatSpace) -> None:
    x, y = ends(fermat, 3)
    table = fermat.dist(x[:, None], y[None])
    assert table.shape == (3, 3)
    assert table.dtype == x.dtype
    torch.testing.assert_close(table.diagonal(), fermat.dist(x, y), rtol=relative(fermat), atol=0)
    assert fermat.dist(x[0], y[0]).shape == ()
    assert fermat.dist(x[:0], y[:0]).shape == (0,)
    assert fermat.solve(x[:, None], y[None]).path.shape == (3, 3, 65, fermat.space.ambient_dim)


def test_gradient_at_the_ends_and_none_in_the_density(fermat: FermatSpace) -> None:
    if fermat.points.dtype != torch.float64:
        pytest.skip("differences need float64")
    x, y = (e.clone().requires_grad_() for e in ends(fermat, 3))
    gx, gy = torch.autograd.grad(fermat.dist(x, y).sum(), (x, y))
    assert all(p.grad is None for p in fermat.parameters())
    h, space = 1e-4, fermat.space
    x, y = x.detach(), y.detach()
    at_x, at_y = space.tangent_basis(x), space.tangent_basis(y)
    size = float(gy.norm(dim=1).max())
    for j in range(space.dim):
        for gradient, end, other, frame in ((gy, y, x, at_y), (gx, x, y, at_x)):
            ends_apart = [fermat.dist(space.exp(end, t * frame[..., j]), other).detach() for t in (h, -h)]
            theirs = (ends_apart[0] - ends_apart[1]) / (2 * h)
            ours = (gradient * frame[..., j]).sum(1)
            assert float((ours - theirs).abs().max()) <= 1e-4 * size
    weight = torch.exp(-fermat.power * fermat.density.log_prob(y)).detach()
    steepest = space.norm(y, space.egrad_to_rgrad(y, gy))
    torch.testing.assert_close(steepest, weight, rtol=1e-3, atol=0)  # the eikonal equation
    same = x.detach().requires_grad_()
    (zero,) = torch.autograd.grad(fermat.dist(same, x.detach()).sum(), same)
    assert zero.tolist() == torch.zeros_like(zero).tolist()


def test_inputs_and_density_are_left_as_they_were(fermat: FermatSpace) -> None:
    x, y = (e.clone().requires_grad_() for e in ends(fermat, 2))
    before = x.detach().clone()
    flags = [p.requires_grad for p in fermat.parameters()]
    fermat.dist(x, y)
    assert x.requires_grad
    assert bool((x == before).all())
    assert flags == [p.requires_grad for p in fermat.parameters()]


def test_pairwise_neighbours_and_graph_tell_one_story(fermat: FermatSpace) -> None:
    rows = fermat.points[:8]
    table = fermat.pairwise(rows)
    torch.testing.assert_close(table, fermat.dist(rows[:, None], rows[None], "graph"), rtol=1e-4, atol=0)
    torch.testing.assert_close(fermat.pairwise(rows, method="relax"), fermat.dist(rows[:, None], rows[None]).detach())
    n = len(fermat.points)
    distance, index = fermat.knn(rows, 4, "relax", candidates=n)
    full = fermat.dist(rows[:, None], fermat.points[None]).detach()
    torch.testing.assert_close(distance, full.topk(4, largest=False).values, rtol=relative(fermat), atol=1e-6)
    assert index[:, 0].tolist() == list(range(8))


def test_saved_and_copied_spaces_are_equal(fermat: FermatSpace, tmp_path: Path) -> None:
    x, y = ends(fermat, 3)
    save(fermat, tmp_path / "space.safetensors")
    for other in (load(tmp_path / "space.safetensors"), copy.deepcopy(fermat)):
        assert torch.equal(other.dist(x, y), fermat.dist(x, y))
        assert torch.equal(other.dist(x, y, "graph"), fermat.dist(x, y, "graph"))


def test_data_scaled_by_a_is_farther_by_a_to_the_1_plus_power_dim() -> None:
    a = 3.0
    x, y = torch.tensor([[1.0, 0.2, -0.5], [0.3, -1.0, 2.0]], dtype=torch.float64)
    plain = FermatSpace(StandardNormal(3).double(), power=0.4).dist(x, y)
    wide = DiagonalNormal.of(torch.zeros(3, dtype=x.dtype), torch.full((3,), a, dtype=x.dtype))
    torch.testing.assert_close(
        FermatSpace(wide, power=0.4).dist(a * x, a * y), a ** (1 + 0.4 * 3) * plain, rtol=1e-8, atol=0
    )


def test_temperature_is_power() -> None:
    """p^(1/T) with power β is p with β / T, up to the normalisation to the power β."""
    x, y = torch.tensor([[1.0, 0.2], [-0.3, -1.0]], dtype=torch.float64)
    base, hot = StandardNormal(2).double(), StandardNormal(2).double().tempered(2.0)
    factor = torch.exp(0.6 * (base.log_prob(x) / 2 - hot.log_prob(x)))
    torch.testing.assert_close(
        FermatSpace(hot, power=0.6).dist(x, y), factor.detach() * FermatSpace(base, power=0.3).dist(x, y)
    )


def test_reference_multiplies_and_saves_the_range_of_the_dtype() -> None:
    x, y = torch.tensor([[1.0, 0.2], [-0.3, -1.0]])
    raw = FermatSpace(StandardNormal(2), power=0.5).dist(x, y)
    torch.testing.assert_close(
        FermatSpace(StandardNormal(2), power=0.5, reference=-2.0).dist(x, y), math.exp(-1.0) * raw
    )
    points = StandardNormal(2).sample(100, generator=torch.Generator().manual_seed(0))
    mean = float(StandardNormal(2).log_prob(points).mean())
    found = FermatSpace(StandardNormal(2), points=points, power=0.5, reference="mean").dist(x, y)
    torch.testing.assert_close(found, math.exp(0.5 * mean) * raw)
    far = FermatSpace(StandardNormal(2), power=20.0)
    with pytest.raises(ValueError, match="reference="):
        far.dist(4 * x, 4 * y)


def test_power_zero_is_the_space_itself() -> None:
    x, y = torch.randn(2, 4, 3)
    torch.testing.assert_close(FermatSpace(StandardNormal(3), power=0).dist(x, y), (x - y).norm(dim=-1))


def test_float32_agrees_with_float64() -> None:
    x, y = torch.randn(2, 16, 10, dtype=torch.float64)
    double = FermatSpace(StandardNormal(10).double()).dist(x, y)
    single = FermatSpace(StandardNormal(10)).dist(x.float(), y.float())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_a_score_alone_gives_relative_lengths_of_the_same_paths() -> None:
    x, y = torch.tensor([[-2.0, 1.0], [2.0, -0.6]], dtype=torch.float64)
    exact = FermatSpace(mixture_a(), power=0.5).solve(x, y)
    alone = FermatSpace(score=lambda x: mixture_a().score(x), space=mixture_a().space, power=0.5).solve(x, y)
    torch.testing.assert_close(alone.path, exact.path, rtol=0, atol=1e-3)
    at_x = torch.exp(-0.5 * mixture_a().log_prob(x)).detach()
    torch.testing.assert_close(alone.length * at_x, exact.length, rtol=1e-4, atol=0)


def test_duplicates_are_merged_and_reachable() -> None:
    points = torch.cat([torch.randn(40, 2), torch.zeros(3, 2)]).double()
    fermat = FermatSpace(StandardNormal(2).double(), points=points, neighbors=5)
    assert float(fermat.dist(points[40], points[42], "graph")) == 0.0
    assert bool(fermat.pairwise().isfinite().all())


def test_pieces_are_joined_with_a_warning_or_refused() -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.cat(
        [torch.randn(30, 2, generator=g), torch.randn(20, 2, generator=g) + 40, torch.randn(9, 2, generator=g) - 40]
    )
    flat = Formula(lambda x: 0 * x.sum(-1))
    with pytest.warns(UserWarning, match="3 components.*30, 20, 9"):
        table = FermatSpace(flat, points=points, neighbors=5).pairwise()
    assert bool(table.isfinite().all())
    with pytest.raises(ValueError, match="3 components"):
        FermatSpace(flat, points=points, neighbors=5, strict=True).pairwise()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_words() -> None:
    points, density = torch.randn(30, 2), StandardNormal(2)
    x = torch.zeros(2)
    for error, words, call in (
        (ValueError, "neighbors = 30", lambda: FermatSpace(density, points=points, neighbors=30)),
        (ValueError, "at least 1", lambda: FermatSpace(density, points=points, neighbors=0)),
        (ValueError, "at least 1", lambda: FermatSpace(density, points=points, neighbors=-1)),
        (ValueError, "whole number", lambda: FermatSpace(density, points=points, neighbors=2.5)),
        (ValueError, "not negative", lambda: FermatSpace(density, power=-1.0)),
        (ValueError, "finite", lambda: FermatSpace(density, power=float("inf"))),
        (ValueError, "NaN", lambda: FermatSpace(density, points=points.where(points > 0, torch.nan))),
        (ValueError, "NaN", lambda: FermatSpace(density).dist(x / 0, x)),
        (ValueError, "2 ambient coordinates", lambda: FermatSpace(density).dist(torch.zeros(3), torch.zeros(3))),
        (ValueError, "sample", lambda: FermatSpace(density, points=points[:0])),
        (ValueError, "points=", lambda: FermatSpace(density).dist(x, x + 1, "graph")),
        (ValueError, "method must be", lambda: FermatSpace(density).dist(x, x + 1, "shortest")),
        (TypeError, "floating", lambda: FermatSpace(density).dist(x.long(), x.long())),
        (TypeError, "log_prob", lambda: FermatSpace(object(), space=density.space)),
        (ValueError, "score", lambda: FermatSpace()),
        (ValueError, "conditional", lambda: FermatSpace(realnvp(2, context=1))),
        (ValueError, "knn_engine", lambda: FermatSpace(density, points=points, knn_engine="fast")),
        (ValueError, "k = 31", lambda: FermatSpace(density, points=points).knn(points, 31)),
        (
            ValueError,
            "at y is not finite",
            lambda: FermatSpace(Formula(lambda x: x[..., 0].log()), space=density.space).dist(x + 1, x),
        ),
    ):
        with pytest.raises(error, match=words):
            call()
    with pytest.warns(UserWarning, match="float16"):
        FermatSpace(density).dist(x.half(), x.half() + 1)


def test_unconverged_paths_are_told() -> None:
    with pytest.warns(UserWarning, match="1 of 1 paths did not converge"):
        found = FermatSpace(mixture_a()).solve(
            torch.tensor([-2.0, 1.0]).double(), torch.tensor([2.0, -0.6]).double(), max_iter=2
        )
    assert not bool(found.converged)


def test_a_flow_makes_a_space_and_is_kept_in_its_dtype() -> None:
    torch.manual_seed(0)
    flow = realnvp(3, activation="silu", depth=2, hidden=(8,))
    assert isinstance(flow, Flow)
    points = flow.sample(60)
    fermat = FermatSpace(flow, points=points, neighbors=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d32 = fermat.dist(points[:2], points[2:4])
    d64 = fermat.double().dist(points[:2].double(), points[2:4].double())
    torch.testing.assert_close(d32.double(), d64, rtol=1e-4, atol=0)


def test_a_free_form_flow_makes_a_space_on_the_sphere(tmp_path: Path) -> None:
    """Its density is by networks and their derivatives; paths rest, are no longer than the graph's, and come back from files."""
    torch.manual_seed(0)
    base = Mixture([0.6, 0.4], VonMisesFisher(torch.tensor([[0.0, 0.6, 0.8], [0.8, 0.0, 0.6]]), [4.0, 9.0]))
    flow = mfff(Sphere(2), base=base, width=8, blocks=1).double()
    with torch.no_grad():
        for p in flow.autoencoder.parameters():
            p += 0.05 * torch.randn_like(p)
    points = base.sample(60).detach()
    fermat = FermatSpace(flow, points, neighbors=8, nodes=8, extrapolate=False)
    found = fermat.solve(points[:2], points[2:4])
    assert bool(found.converged.all())
    assert bool((found.length <= found.graph_length * (1 + 1e-9)).all())
    assert not torch.allclose(
        found.length, FermatSpace(base, nodes=8, extrapolate=False).solve(points[:2], points[2:4]).length
    )
    save(fermat, tmp_path / "space.safetensors")
    assert torch.equal(load(tmp_path / "space.safetensors").solve(points[:2], points[2:4]).length, found.length)


def test_mixture_with_points_agrees_with_and_without_them() -> None:
    mixture = mixture_a()
    assert isinstance(mixture, GaussianMixture)
    points = mixture.sample(400, generator=torch.Generator().manual_seed(0))
    with_points = FermatSpace(mixture, points=points, power=0.5).dist(points[:8], points[8:16])
    without = FermatSpace(mixture, power=0.5).dist(points[:8], points[8:16])
    torch.testing.assert_close(with_points, without, rtol=1e-5, atol=0)


# -- geometry ----------------------------------------------------------------------------------------------------------


def reached(space: FermatSpace) -> float:
    """To what exp and log agree, as a share of the way."""
    return 1e-6 if space.points is not None and space.points.dtype == torch.float64 else 1e-3


def test_metric_is_the_underlying_one_times_the_squared_weight(fermat: FermatSpace, generator: torch.Generator) -> None:
    x, home = fermat.points, fermat.space
    u, v = home.random_tangent(x, generator), home.random_tangent(x, generator)
    g = fermat.metric(x)
    theirs = torch.exp(-2 * fermat.power * fermat.density.log_prob(x).detach()) * home.inner(x, u, v)
    tol = 100 * torch.finfo(x.dtype).eps
    size = float(g.abs().max()) * float(u.abs().max() * v.abs().max())
    torch.testing.assert_close((u[:, None] @ g @ v[..., None])[:, 0, 0], theirs, rtol=tol, atol=tol * size)
    torch.testing.assert_close(g, g.mT)
    w = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    assert float((g @ (w - home.to_tangent(x, w))[..., None]).abs().max()) <= tol * size
    assert fermat.metric(x[:0]).shape == (0, *g.shape[1:])


def test_exp_undoes_log_and_the_norm_of_log_is_the_distance(fermat: FermatSpace) -> None:
    x, y = ends(fermat, 3)
    tol, v, distance = reached(fermat), fermat.log(x, y), fermat.dist(x, y)
    length = (v[:, None] @ fermat.metric(x) @ v[..., None])[:, 0, 0].sqrt()
    torch.testing.assert_close(length, distance, rtol=tol, atol=0)
    t = torch.tensor([[0.0], [0.25], [0.8], [1.0]], dtype=x.dtype)
    along = fermat.exp(x, t[..., None] * v)
    assert torch.equal(along[0], x)
    assert float((fermat.space.dist(along[-1], y) / fermat.space.dist(x, y)).max()) <= tol
    torch.testing.assert_close(fermat.dist(x, along[1:3]), t[1:3] * distance, rtol=tol, atol=0)
    torch.testing.assert_close(fermat.dist(along[1:3], y), (1 - t[1:3]) * distance, rtol=5 * tol, atol=0)
    assert bool(fermat.is_minimal(x, along[1]).all())


def test_log_undoes_exp(fermat: FermatSpace, generator: torch.Generator) -> None:
    x, _ = ends(fermat, 2)
    v = 0.4 * fermat.space.random_tangent(x, generator)
    y = fermat.exp(x, v)
    torch.testing.assert_close(fermat.log(x, y), v, rtol=0, atol=reached(fermat))
    assert torch.equal(fermat.log(x, x), 0 * v)
    assert bool(fermat.is_minimal(x, x).all())
    assert fermat.exp(x[0], 0 * v[0]).shape == x[0].shape
    assert fermat.log(x[:0], y[:0]).shape == fermat.exp(x[:0], v[:0]).shape == x[:0].shape


def test_geodesics_spread_as_the_curvature_says(fermat: FermatSpace) -> None:
    """d(exp r a, exp r b)² = 2 r² − K r⁴ / 3 + O(r⁶) for orthonormal a and b, averaged over their four signs."""
    if fermat.points.dtype != torch.float64:
        pytest.skip("fourth differences of lengths need float64")
    x, _ = ends(fermat)
    a, b = fermat.space.tangent_basis(x)[..., :2].unbind(-1)
    signs = torch.tensor([-1.0, 1.0], dtype=x.dtype)[:, None, None]
    share, r = 0.1, 0.1 * torch.exp(-fermat.power * fermat.density.log_prob(x)).detach()
    d = fermat.dist(fermat.exp(x, share * signs * a)[:, None], fermat.exp(x, share * signs * b)[None])
    theirs = 3 * (2 * r**2 - (d**2).mean((0, 1))) / r**4
    ours = fermat.sectional_curvature(x, a, 2 * b - 0.5 * a)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02 * float(ours.abs().max()))


def test_mean_balances_the_velocities_and_the_medoid_is_a_row(fermat: FermatSpace) -> None:
    if fermat.points.dtype != torch.float64:
        pytest.skip("one precision tells the tale")
    rows = fermat.points[:3]
    weights = torch.arange(1.0, 4.0, dtype=rows.dtype)
    m = fermat.mean(rows, weights)
    v = fermat.log(m, rows)
    size = fermat.space.norm(m, v).max()
    assert float(fermat.space.norm(m, (weights[:, None] * v).sum(0) / weights.sum())) <= 1e-5 * float(size)
    assert int(fermat.medoid()) == int(fermat.pairwise().sum(1).argmin())
    assert int(fermat.medoid(rows, squared=True)) == int((fermat.pairwise(rows, rows) ** 2).sum(1).argmin())


@pytest.mark.usefixtures("unchecked")
def test_bad_geometry_is_refused_in_words() -> None:
    flat = FermatSpace(StandardNormal(2))
    x, v = torch.zeros(2), torch.ones(2)
    on_sphere = FermatSpace(VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), 2.0))
    pole = torch.tensor([0.0, 0.0, 1.0])
    for error, words, call in (
        (ValueError, "no plane", lambda: flat.sectional_curvature(x, v, 2 * v)),
        (ValueError, "no plane", lambda: flat.sectional_curvature(x, 0 * v, v)),
        (ValueError, "not tangent", lambda: on_sphere.exp(pole, pole)),
        (ValueError, "2 ambient coordinates", lambda: flat.exp(x, torch.zeros(3))),
        (ValueError, "broadcast", lambda: flat.exp(torch.zeros(3, 2), torch.zeros(4, 2))),
        (ValueError, "NaN", lambda: flat.exp(x, v / 0 * 0)),
        (ValueError, "log_prob", lambda: FermatSpace(score=lambda x: -x, space=flat.space).exp(x, v)),
        (ValueError, "not finite", lambda: FermatSpace(Formula(lambda x: x[..., 0].log()), space=flat.space).metric(x)),
        (ValueError, "weights", lambda: flat.mean(torch.randn(3, 2), torch.zeros(3))),
        (ValueError, "points=", flat.medoid),
    ):
        with pytest.raises(error, match=words):
            call()
