"""Fermat distances against known ones, against networkx and SciPy, and convergence judged by its slope."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from geoflow import GaussianMixture, StandardNormal
from geoflow.distances import FermatSpace, alpha_from_power, power_from_alpha, power_from_metric
from geoflow.distances.paths.geodesics import jittered_line
from geoflow.distances.paths.relax import relax
from geoflow.distances.paths.steps import laplacian_step, newton_step
from manifolds import Euclidean
from tests.oracles.fermat_rows import FLAT, LINE, SPHERE, Formula, Row, mixture_a


def space(row: Row, **options: object) -> FermatSpace:
    return FermatSpace(row.density, power=row.power, space=row.space, **options)


@pytest.mark.parametrize("row", FLAT + SPHERE, ids=lambda r: r.name)
@pytest.mark.filterwarnings("ignore:FermatSpace. 1 of 1 paths did not converge")
def test_known_distances_to_1e_5_with_defaults(row: Row) -> None:
    x, y = row.ends()
    found = space(row).solve(x, y)
    assert abs(float(found.length) / row.distance - 1) <= 1e-5
    assert bool(found.converged)


@pytest.mark.parametrize("row", LINE, ids=lambda r: r.name)
def test_one_dimension_to_1e_8(row: Row) -> None:
    x, y = row.ends()
    assert abs(float(space(row).dist(x, y)) / row.distance - 1) <= 1e-8


def gaussian_rows() -> list[Row]:
    return [r for r in FLAT if r.name.startswith("normal") and "radial" not in r.name and len(r.x) <= 10]


def test_extrapolated_lengths_converge_to_fourth_order() -> None:
    """Plain lengths to second, Richardson's to fourth: slopes of log error over M = 8, 16, 32."""
    grids = (8, 16, 32)
    plain, better = [], []
    for row in gaussian_rows():
        x, y = row.ends()
        lengths = {
            (m, e): float(space(row, nodes=m, extrapolate=e).solve(x, y, tol=1e-9).length)
            for m in grids
            for e in (False, True)
        }
        plain.append([math.log2(abs(lengths[m, False] / row.distance - 1)) for m in grids])
        better.append([math.log2(abs(lengths[m, True] / row.distance - 1)) for m in grids])
    order = lambda errors: -np.polyfit(range(len(grids)), np.mean(errors, 0), 1)[0]  # noqa: E731
    assert order(plain) >= 1.9
    assert order(better) >= 3.5


@pytest.mark.parametrize("dim", [2, 10, 50])
def test_iterations_do_not_grow_with_the_nodes(dim: int) -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 24, dim, generator=g, dtype=torch.float64)
    fermat = FermatSpace(StandardNormal(dim).double())
    medians = []
    for m in (16, 32, 64, 128):
        found = relax(fermat._weight(), jittered_line(fermat.space, x, y, m))
        assert bool(found.converged.all())
        medians.append(float(found.iterations.double().median()))
    assert max(medians) <= 15
    assert medians[-1] / medians[0] <= 1.5


def test_dimension_adapted_power_makes_one_number_in_every_dimension() -> None:
    ratios = []
    for dim in (5, 10, 20, 50, 100):
        x = math.sqrt(dim) * torch.eye(dim, dtype=torch.float64)
        d = float(FermatSpace(StandardNormal(dim).double()).dist(x[0], x[1]))
        ratios.append(d / (math.sqrt(2 * math.pi) * math.sqrt(2 * dim)))
    assert max(ratios) - min(ratios) <= 1e-6
    assert ratios[0] == pytest.approx(1.356974368, abs=1e-6)


def test_a_line_between_antipodes_of_a_ring_is_left() -> None:
    """The exact line is a critical path of cost 130.6; the jitter leaves it for 23.63."""
    row = next(r for r in FLAT if r.name == "ring, antipodes")
    x, y = row.ends()
    assert float(space(row).dist(x, y, "line")) == pytest.approx(130.5872, rel=1e-5)
    assert float(space(row).solve(x, y, start="line").length) <= 23.6295


def narrow_ring(width: float, dim: int, power: float, angle: float) -> tuple[FermatSpace, Tensor, float]:
    """exp(−((r − 1)² + |rest|²) / 2w²): the circle of least r λ(r) is a geodesic. A rough path along it, and its length."""
    radius = (1 + math.sqrt(1 - 4 * width**2 / power)) / 2
    density = Formula(
        lambda x: -((x[..., :2].norm(dim=-1) - 1) ** 2 + (x[..., 2:] ** 2).sum(-1)) / (2 * width**2), Euclidean(dim)
    )
    t = torch.linspace(0, angle, 33, dtype=torch.float64)
    path = width * torch.randn(33, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path[[0, -1]] = 0
    path[:, :2] += radius * torch.stack([t.cos(), t.sin()], 1)
    length = angle * radius * math.exp(power * (radius - 1) ** 2 / (2 * width**2))
    return FermatSpace(density, power=power), path, length


@pytest.mark.parametrize(("width", "tol"), [(0.1, 2e-6), (0.03, 2e-5), (0.01, 2e-4)])
def test_a_narrow_valley_is_followed(width: float, tol: float) -> None:
    """Where the cheap step does not arrive: from a path one width off the valley's floor, in five dimensions."""
    fermat, path, length = narrow_ring(width, 5, 0.5, 2.0)
    found = fermat.solve(path[0], path[-1], start=path)
    assert bool(found.converged)
    assert float(found.length) == pytest.approx(length, rel=tol)
    cheap, dear = (
        relax(fermat._weight(), path[None], step, max_iter=n) for step, n in ((laplacian_step, 100), (newton_step, 60))
    )
    assert bool(cheap.converged) == (width == 0.1)
    assert bool(dear.converged)


@pytest.mark.parametrize(
    "row", [r for r in FLAT if "normal" in r.name or "mixture" in r.name] + SPHERE, ids=lambda r: r.name
)
def test_both_steps_come_to_rest_on_the_same_path(row: Row) -> None:
    x, y = row.ends()
    weight, line = space(row)._weight(), jittered_line(row.space, x[None], y[None], 16)
    cheap, dear = (relax(weight, line, step, tol=1e-9, max_iter=300) for step in (laplacian_step, newton_step))
    torch.testing.assert_close(dear.log_length, cheap.log_length, rtol=0, atol=3e-8)


def test_relaxation_does_not_depend_on_the_points_and_beats_their_graph() -> None:
    g = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 10, generator=g, dtype=torch.float64)
    fermat = FermatSpace(StandardNormal(10).double(), points=points, neighbors=20)
    x, y = points[:16], points[16:32]
    free = FermatSpace(StandardNormal(10).double(), nodes=64).dist(x, y)
    relaxed = (fermat.dist(x, y) / free - 1).abs().max()
    graph = (fermat.dist(x, y, "graph") / free - 1).mean()
    assert relaxed <= 1e-4
    assert graph >= 1000 * relaxed


def test_graph_distances_and_edges_equal_networkx() -> None:
    g = torch.Generator().manual_seed(0)
    points = mixture_a().sample(300, generator=g)
    fermat = FermatSpace(mixture_a(), points=points, neighbors=8)
    graph = fermat.graph()
    node = fermat._need_graph().node_of.tolist()
    pairs = [(0, 50), (3, 299), (120, 121)]
    for i, j in pairs:
        theirs = nx.dijkstra_path_length(graph, node[i], node[j])
        assert float(fermat.dist(points[i], points[j], "graph")) == pytest.approx(theirs, rel=1e-10)
    i, j, edge = next(iter(graph.edges(data=True)))
    a, b = (torch.as_tensor(graph.nodes[n]["point"]) for n in (i, j))
    weight = [float(mixture_a().log_prob(p).detach().exp() ** -0.5) for p in (a, (a + b) / 2, b)]
    simpson = float((a - b).norm()) * (weight[0] + 4 * weight[1] + weight[2]) / 6
    assert edge["weight"] == pytest.approx(simpson, rel=1e-10)


def test_each_pair_is_weighted_once() -> None:
    """Mutual neighbours must not get twice the length, whatever their lists say."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.5, 0.0]], dtype=torch.float64)
    flat = Formula(lambda x: 0 * x.sum(-1))
    fermat = FermatSpace(flat, points=points, power=1.0, neighbors=2)
    torch.testing.assert_close(
        fermat.pairwise(), torch.tensor([[0, 1, 2.5], [1, 0, 1.5], [2.5, 1.5, 0]], dtype=torch.float64)
    )


def test_sample_only_estimate_on_a_line_has_its_constant() -> None:
    """n Σ Δ² / L → Γ(3) for α = 2 on uniform points of a line, so the normalised value is the distance itself."""
    g = torch.Generator().manual_seed(0)
    points = torch.rand(5_000, 1, generator=g, dtype=torch.float64).sort(0).values
    flat = Formula(lambda x: 0 * x.sum(-1))
    fermat = FermatSpace(flat, points=points, power=power_from_alpha(2, 1), neighbors=30)
    x, y = points[100], points[-100]
    assert float(fermat.dist(x, y, "sample")) == pytest.approx(float(y - x), rel=0.09)  # three standard errors


def test_sample_only_estimate_is_the_sum_of_powers() -> None:
    """On the complete graph: all simple paths, by networkx."""
    g = torch.Generator().manual_seed(0)
    points = torch.randn(30, 2, generator=g, dtype=torch.float64)
    fermat = FermatSpace(StandardNormal(2).double(), points=points, power=power_from_alpha(3, 2), neighbors=29)
    complete = nx.Graph()
    for i in range(30):
        complete.add_weighted_edges_from((i, j, float((points[i] - points[j]).norm()) ** 3) for j in range(i))
    theirs = nx.dijkstra_path_length(complete, 0, 1)
    assert float(fermat.dist(points[0], points[1], "sample")) == pytest.approx(theirs * 30**fermat.power, rel=1e-12)


def test_exponents_convert() -> None:
    assert power_from_alpha(alpha_from_power(0.3, 7), 7) == pytest.approx(0.3)
    assert power_from_metric(1.0) == 0.5
    assert FermatSpace(StandardNormal(4)).power == 0.25
    assert FermatSpace(StandardNormal(4), intrinsic_dim=2).power == 0.5


def test_scale_of_a_table_is_that_of_its_standardised_rows() -> None:
    """A space with another metric restates p for its own volume: units of the columns change nothing."""
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([1024.0, 1.0, 0.25], dtype=torch.float64)
    x, y = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    plain = FermatSpace(StandardNormal(3).double()).dist(x, y)
    wide = GaussianMixture.of(
        torch.ones(1, dtype=x.dtype), torch.zeros(1, 3, dtype=x.dtype), torch.diag(scale**2)[None]
    )
    scaled = FermatSpace(wide, space=Euclidean(3, scale=scale)).dist(x * scale, y * scale)
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=0)
