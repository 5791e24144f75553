"""Plots draw what they are given on the Axes they are given, and touch nothing else."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from geoflow import GaussianMixture, StandardNormal, datasets, plots
from geoflow.distances import FermatSpace
from geoflow.distributions import VonMisesFisher
from geoflow.train import History
from manifolds import Euclidean, Sphere
from tests.oracles.fermat_rows import mixture_a


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_density_shows_its_values_where_they_are(ax):
    centre = torch.tensor([[1.5, -0.5]])
    normal = GaussianMixture.of(torch.ones(1), centre, torch.eye(2)[None])
    drawn = plots.plot_density(normal, ax, limits=((-3, 3), (-2, 2)), resolution=41)
    assert drawn is ax
    field = ax.collections[0]
    top = -np.log(2 * np.pi)
    assert field.levels[-1] == np.ceil(top)
    assert field.levels[0] == np.ceil(top) - 8
    assert ax.get_xlim() == (-3, 3)
    assert ax.get_ylim() == (-2, 2)
    # the innermost contour surrounds the mean: log p falls by half a nat at radius one
    inner = field.get_paths()[int(np.searchsorted(field.levels, top)) - 1].vertices
    assert np.abs((inner.min(0) + inner.max(0)) / 2 - centre.numpy()).max() < 0.1
    assert np.linalg.norm(inner - centre.numpy(), axis=1).max() < 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_takes_its_dtype_from_the_model(ax, dtype):
    plots.plot_density(GaussianMixture(2, 2).to(dtype), ax, resolution=11)


def test_density_limits_come_from_the_points(ax):
    points = datasets.ring(500).x + torch.tensor([50.0, -7.0])
    shifted = GaussianMixture.of(torch.ones(1), torch.tensor([[50.0, -7.0]]), torch.eye(2)[None])
    plots.plot_density(shifted, ax, points=points, resolution=11)
    assert ax.get_xlim()[0] > 40
    assert ax.get_ylim()[1] < 0


def test_density_of_three_columns_is_refused(ax):
    with pytest.raises(ValueError, match=r"two columns.*3.*plot_samples"):
        plots.plot_density(StandardNormal(3), ax)


def test_geodesics_end_where_the_paths_end(ax):
    paths = torch.randn(3, 9, 4)
    plots.plot_geodesics(paths, ax, columns=(1, 3))
    named = lines(ax)
    assert set(named) == {"geodesic", "straight line"}
    assert np.allclose(named["geodesic"].get_xydata(), paths[-1][:, [1, 3]])
    assert np.allclose(named["straight line"].get_xydata(), paths[-1][[0, -1]][:, [1, 3]])
    assert len(ax.lines) == 6
    bare = Figure().subplots()
    assert len(plots.plot_geodesics(paths[0], bare, straight=False).lines) == 1
    with pytest.raises(ValueError, match="paths"):
        plots.plot_geodesics(torch.randn(3), bare)


def test_geodesics_take_a_solution(ax):
    found = FermatSpace(StandardNormal(2)).solve(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    plots.plot_geodesics(found, ax)
    middle = lines(ax)["geodesic"].get_xydata()
    middle = middle[len(middle) // 2]
    assert np.linalg.norm(middle) < np.sqrt(2), "the geodesic bends towards the mean"


@pytest.fixture
def square():
    import networkx as nx

    graph = nx.cycle_graph(4)
    nx.set_node_attributes(graph, {0: [0, 0, 1], 1: [0, 1, 0], 2: [1, 0, 0], 3: [0, 0, -1]}, "point")
    return graph


def test_graphs_show_their_edges(ax, square):
    points = StandardNormal(3).sample(30, generator=torch.Generator().manual_seed(0))
    space = FermatSpace(StandardNormal(3), points=points, neighbors=5)
    plots.plot_graph(space, ax, columns=(2, 0))
    drawn = np.array(ax.collections[0].get_segments())
    graph = space.graph()
    assert len(drawn) == graph.number_of_edges()
    i, j = next(iter(graph.edges))
    assert np.array_equal(drawn[0], [graph.nodes[k]["point"][[2, 0]] for k in (i, j)])
    seen = plots.plot_graph(square, globe=plots.Globe([1.0, 1.0, 1.0])).collections[0].get_segments()
    assert len(seen) == 2, "edges to what lies behind are left out"
    square.add_node(4)
    with pytest.raises(ValueError, match="attribute point="):
        plots.plot_graph(square)


def test_globes_show_the_near_half():
    x = Sphere(2).sample_uniform(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    globe = plots.Globe([0.2, -0.5, 0.4])
    flat = globe(x)
    near = np.isfinite(flat).all(-1)
    assert np.array_equal(near, (x @ torch.tensor([0.2, -0.5, 0.4]).double() > 0).numpy())
    assert np.allclose(globe.lift(torch.as_tensor(flat[near])), x[near])
    assert np.allclose(globe([0.0, 0.0, 1.0])[0], 0), "north is up"
    assert np.isfinite(plots.Globe([0.0, 0.0, 1.0]).view).all()
    for bad in ([1.0, 0.0], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="one point"):
            plots.Globe(bad)
    with pytest.raises(ValueError, match="of the sphere"):
        globe(torch.zeros(4, 2))


def test_densities_on_a_globe_are_inside_its_rim(ax):
    north = torch.tensor([0.0, 0.0, 1.0])
    plots.plot_density(VonMisesFisher(north, 4.0), ax, globe=plots.Globe([0.0, 1.0, 1.0]), points=-north[None])
    field = ax.collections[0]
    inner = field.get_paths()[-1].vertices.mean(0)
    assert np.allclose(inner, plots.Globe([0.0, 1.0, 1.0])(north), atol=0.1)
    assert field.get_clip_path() is not None
    assert ax.get_aspect() == 1


def balls(ax):
    """Level lines by their radii."""
    drawn = next(c for c in ax.collections if hasattr(c, "levels"))
    return {r: torch.as_tensor(p.vertices) for r, p in zip(drawn.levels, drawn.get_paths(), strict=True)}


@pytest.mark.parametrize("on", ["plane", "sphere"])
def test_balls_are_level_lines_of_the_distance(ax, on):
    centre = torch.tensor([1.0, -0.5] if on == "plane" else [0.1, 0.2, 0.97], dtype=torch.float64)
    globe = None if on == "plane" else plots.Globe([0.3, 0.3, 1.0])
    if globe is None:
        space = FermatSpace(mixture_a(), power=0.5)
    else:
        centre = Sphere(2).project(centre)
        space = FermatSpace(VonMisesFisher(centre, 2.0))
    plots.plot_fermat_ball(space, centre, ax, limits=((-3, 3), (-3, 3)), globe=globe, radii=[0.5, 1.0])
    for radius, line in balls(ax).items():
        some = line[:: max(1, len(line) // 8)]
        some = some if globe is None else globe.lift(some)
        assert torch.allclose(space.dist(centre, some), torch.full((len(some),), radius).double(), rtol=0.02)


def test_balls_by_other_distances(ax):
    """Any space, any method; as many radii as fit, and what lies outside of the density's support is infinitely far."""
    plots.plot_fermat_ball(Euclidean(2), torch.zeros(2), ax, radii=2, limits=((-2, 2), (-3, 3)), label=False)
    assert np.allclose(list(balls(ax)), [1, 2], rtol=1e-3)
    points = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    space = FermatSpace(StandardNormal(2), points=points, neighbors=8)
    by_graph = plots.plot_fermat_ball(space, points[0], method="graph", resolution=11, radii=1)
    assert by_graph.get_xlim()[1] > 2
    from tests.oracles.fermat_rows import Formula

    half = FermatSpace(Formula(lambda x: (x[..., 0] > 0).to(x).log()), space=Euclidean(2))
    drawn = balls(plots.plot_fermat_ball(half, torch.tensor([0.5, 0.0]), limits=((-1, 1), (-1, 1)), radii=[0.4]))
    assert drawn[0.4][:, 0].min() > -0.05
    for centre, limits, words in (
        (torch.zeros(3), None, r"a centre \(2,\) in the plane"),
        (torch.zeros(2), None, "pass limits="),
    ):
        with pytest.raises(ValueError, match=words):
            plots.plot_fermat_ball(half, centre, limits=limits)
    with pytest.raises(ValueError, match="far side"):
        plots.plot_fermat_ball(Sphere(2), -torch.eye(3)[2], globe=plots.Globe([0, 0, 1]))


def test_along_draws_log_p_over_the_share_of_the_way(ax):
    path = torch.stack([torch.linspace(-1, 1, 21), torch.zeros(21)], -1)
    plots.plot_along(StandardNormal(2), {"straight line": path}, ax)
    drawn = lines(ax)["straight line"].get_xydata()
    assert np.allclose(drawn[[0, 10, 20], 0], [0, 0.5, 1])
    assert np.allclose(drawn[:, 1], StandardNormal(2).log_prob(path), atol=1e-6)


def test_samples_draw_rows_models_and_single_columns(ax):
    rows = torch.randn(50, 3)
    plots.plot_samples(rows, ax, columns=(2, 0), names=["a", "b", "c (mm)"])
    assert np.allclose(ax.collections[0].get_offsets(), rows[:, [2, 0]])
    assert ax.get_xlabel() == "c (mm)"
    assert len(plots.plot_samples(StandardNormal(2), n=7).collections[0].get_offsets()) == 7
    assert plots.plot_samples(rows[:, :1]).patches
    with pytest.raises(ValueError, match="rows"):
        plots.plot_samples(torch.randn(3))


def test_images_stand_side_by_side(ax):
    images = torch.arange(2 * 3 * 6.0).reshape(2, 3, 6)
    plots.plot_images(images, ax, shape=(2, 3), gap=1)
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (2 * 2 + 1, 3 * 3 + 2)
    assert np.array_equal(sheet[3:, 4:7], images[1, 1].reshape(2, 3))
    with pytest.raises(ValueError, match=r"\(n, 64\)"):
        plots.plot_images(images, ax, shape=(8, 8))


def test_images_in_colour_are_scaled_and_stand_apart(ax):
    """Channels first become last, limits darkest and brightest, gaps white."""
    images = torch.arange(2 * 4 * 3 * 2 * 5.0).reshape(2, 4, 30) - 10
    plots.plot_images(images, ax, shape=(3, 2, 5), limits=(0, 200), gap=2)
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (2 * 2 + 2, 4 * 5 + 3 * 2, 3)
    wanted = (images[1, 2].reshape(3, 2, 5) / 200).clamp(0, 1).permute(1, 2, 0)
    np.testing.assert_allclose(sheet[4:, 14:19], wanted)
    assert np.all(sheet[2:4] == 1)
    assert np.all(sheet[:, 5:7] == 1)
    with pytest.raises(ValueError, match=r"or \(3, height, width\), got \(4, 2, 5\)"):
        plots.plot_images(images, ax, shape=(4, 2, 5))


def test_marginals_have_a_panel_a_column():
    fig = plots.plot_marginals({"data": torch.randn(200, 5), "samples": torch.randn(100, 5)}, list("abcde"), per_row=3)
    shown = [a for a in fig.axes if a.axison]
    assert [a.get_xlabel() for a in shown] == list("abcde")
    assert len(fig.axes) == 6


def test_history_draws_itself(ax):
    history = History(
        rows=[{"step": s, "train loss": 2.0 / s, "validation loss": 3.0 / s} for s in (1.0, 2.0)], monitor="loss"
    )
    assert plots.plot_history(history, ax) is ax
    assert {"train loss", "validation loss"} <= set(lines(ax))


def test_nothing_is_changed():
    before = dict(matplotlib.rcParams)
    ax = plots.plot_density(StandardNormal(2), resolution=8)
    plots.plot_geodesics(torch.randn(4, 2), ax)
    x = torch.randn(9, 2, requires_grad=True)
    plots.plot_samples(x)
    assert x.requires_grad
    assert dict(matplotlib.rcParams) == before


def test_import_is_light_and_pyplot_stays_out():
    code = (
        "import sys, torch, geoflow.plots as p; assert 'matplotlib' not in sys.modules;"
        "from geoflow import StandardNormal; p.plot_density(StandardNormal(2), resolution=4);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
