"""Targets of known entropy: mass one by quadrature, draws that follow `log_prob`, and the figures the pages name."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geoflow import DiagonalNormal, GaussianMixture, StandardNormal, datasets, fit
from geoflow.density import Density
from geoflow.distributions import GridDensity, IsotropicGaussianSO3, LogNormal, Mixture, WrappedDensity, WrappedNormal
from manifolds import Hyperboloid, PoincareBall, Sphere, Torus
from tests.laws.icosphere import icosphere

HYPERBOLIC = ("one_gaussian", "five_gaussians", "checkerboard", "swish")


def needs(kind: str, *names: str) -> None:
    if not os.environ.get("GEOFLOW_DATA") or not set(names) <= set(datasets.available()[kind]):
        pytest.skip(f"GEOFLOW_DATA has no {kind} with {', '.join(names)}")


def follows(density: Density, x: Tensor, entropy: float) -> None:
    """The mean of −log p over draws is the entropy, within 4.5 standard errors that are small."""
    rows = -density.log_prob(x).double()
    error = float(rows.std()) / math.sqrt(len(rows))
    assert error < 0.02
    assert abs(float(rows.mean()) - entropy) < 4.5 * error


# -- grids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "entropy"), [("general", 1.6288), ("glycine", 2.3887), ("proline", 0.5483)])
def test_ramachandran(kind, entropy):
    needs("manifolds/torus", f"ramachandran_{kind}.data")
    data = datasets.ramachandran(kind, 50_000, seed=1)
    assert data.density.space == Torus(2)
    assert float(data.density.entropy()) == pytest.approx(entropy, abs=1e-4)
    follows(data.density, data.x, float(data.density.entropy()))
    # three points a cell each way, by the midpoint rule, which is exact for it
    side = -math.pi + (torch.arange(540) + 0.5) * (2 * math.pi / 540)
    log_p = data.density.log_prob(torch.cartesian_prod(side, side)).double()
    mass = log_p.exp() * (2 * math.pi / 540) ** 2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-5)
    assert -float((mass * log_p)[mass > 0].sum()) == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize(("kind", "entropy"), [("general", 0.9252), ("glycine", 1.9507), ("proline", 0.1142)])
def test_ramachandran_frequencies(kind, entropy):
    """The share of mass at lower density is the table's, or where that is not convex the convex curve below it; the peak
    is the helix, φ before ψ.
    """
    needs("manifolds/torus", f"ramachandran_{kind}.data")
    often, table = (datasets.ramachandran(kind, 50_000, frequencies=f).density for f in (True, False))
    assert float(often.entropy()) == pytest.approx(entropy, abs=1e-4)
    values, masses = table.values.double().flatten(), often.values.double().flatten()
    order = values.argsort()
    assert bool((masses[order].diff() >= 0).all())
    share = (masses / masses.sum())[order].cumsum(0)
    assert float((share - values[order]).max()) < 1e-4
    assert float((share - values[order]).min()) > -0.05
    x = often.sample(50_000, generator=torch.Generator().manual_seed(2))
    follows(often, x, entropy)
    helix = torch.deg2rad(torch.tensor([-61.0, -39.0]))
    assert float(often.log_prob(helix)) > float(often.log_prob(helix.flip(0))) + 1
    assert float(((x - helix).abs() < 0.3).all(-1).double().mean()) > 0.1


def test_ramachandran_refuses(tmp_path, unchecked):
    (tmp_path / "manifolds/torus").mkdir(parents=True)
    with pytest.raises(ValueError, match="general, glycine, proline"):
        datasets.ramachandran("serine", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="pyrama"):
        datasets.ramachandran("glycine", folder=tmp_path)
    rows = [(-90.0, -90.0, 1.0), (90.0, -90.0, 1.0), (-90.0, 90.0, 1.0), (90.0, 90.0, 1.0)]
    with gzip.open(tmp_path / "manifolds/torus/ramachandran_glycine.data.gz", "wt") as file:
        np.savetxt(file, rows)
    with pytest.raises(ValueError, match="row by row"):  # the second column should move first
        datasets.ramachandran("glycine", folder=tmp_path)


def test_rna():
    needs("manifolds/torus", "rna")
    x = datasets.rna().x
    assert x.shape == (9478, 7)
    assert bool((x.abs() <= math.pi).all())
    assert bool(x[:, 3].rad2deg().sub(83).abs().median() < 5)  # delta is near 83° where the sugar is C3′-endo


def test_grid_is_the_table_it_is_made_of(dtype):
    values = torch.tensor([[1.0, 0.0, 3.0], [0.5, 2.0, 1.5]], dtype=dtype)
    box = GridDensity(values, [-1.0, 10.0], [3.0, 13.0])
    assert float(box.log_prob(torch.tensor([1.5, 12.9], dtype=dtype)).exp()) == pytest.approx(1.5 / 8 / 2)
    outside = torch.tensor([[-1.01, 11.0], [3.01, 11.0], [0.0, 13.01], [0.0, 9.9], [0.0, 11.5]], dtype=dtype)
    assert bool((box.log_prob(outside) == -math.inf).all())
    corners = torch.tensor([[-1.0, 10.0], [3.0, 13.0]], dtype=dtype)
    torch.testing.assert_close(box.log_prob(corners).exp(), torch.tensor([1.0, 1.5], dtype=dtype) / 16)
    torus = GridDensity(values)
    x = torch.tensor([[0.1, -0.9], [-0.1, 1.2]], dtype=dtype)
    cell = (2 * math.pi) ** 2 / 6
    torch.testing.assert_close(torus.log_prob(x).exp(), torch.tensor([2.0, 3.0], dtype=dtype) / 8 / cell)
    torch.testing.assert_close(torus.log_prob(x + 2 * math.pi), torus.log_prob(x))
    for p in (box, torus):
        follows(p, p.sample(40_000, generator=torch.Generator().manual_seed(0)), float(p.entropy()))


def test_grid_draws_stay_out_of_empty_cells():
    index = torch.arange(180)
    board = (index[:, None] + index) % 2
    for p in (GridDensity(board), GridDensity(board, [100.0, -1.0], [101.0, 1.0])):
        x = p.sample(300_000, generator=torch.Generator().manual_seed(0))
        assert x.dtype == torch.float32
        assert bool(p.log_prob(x).isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([1.0, -1.0]),), "finite and not negative"),
        ((torch.zeros(2, 2),), "above zero"),
        ((torch.ones(2, 2), [0.0], [1.0]), "2 finite numbers each"),
        ((torch.ones(2), [1.0], [0.0]), "low below high"),
        ((torch.ones(2), None, [0.0]), "Leave both out"),
    ],
)
def test_grid_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GridDensity(*arguments)


# -- the hyperbolic plane ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HYPERBOLIC)
@torch.no_grad()
def test_hyperbolic_target(name):
    """By polar coordinates around the centre, in which the volume is sinh ρ dρ dφ."""
    data = datasets.hyperbolic(name, 50_000, seed=1)
    assert data.density.space == PoincareBall(2)
    p = data.density.double()
    size = (160, 240) if name == "swish" else (1200, 1200)
    rho = (torch.arange(size[0], dtype=torch.float64) + 0.5) * (6.5 / size[0])
    phi = (torch.arange(size[1], dtype=torch.float64) + 0.5) * (2 * math.pi / size[1])
    r, a = torch.meshgrid(rho, phi, indexing="ij")
    x = (torch.tanh(r / 2)[..., None] * torch.stack([a.cos(), a.sin()], -1)).flatten(0, 1)
    log_p = torch.cat([p.log_prob(block) for block in x.split(20_000)])
    mass = log_p.exp() * r.sinh().flatten() * (6.5 / size[0]) * (2 * math.pi / size[1])
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)
    entropy = -float((mass * log_p)[mass > 0].sum())
    rows = -p.log_prob(data.x.double())
    assert abs(float(rows.mean()) - entropy) < 0.02
    mean = (mass[:, None] * x).sum(0)
    assert bool(((data.x.double().mean(0) - mean).abs() < 4.5 * data.x.double().std(0) / 50_000**0.5 + 1e-3).all())


def test_hyperbolic_shapes_are_the_published_ones():
    """Points of the ball at known places: tanh of the published coordinates' length."""
    board = datasets.hyperbolic("checkerboard", 10).density

    def at(v: list[float]) -> Tensor:
        given = torch.tensor(v)
        return torch.tanh(given.norm()) * given / given.norm()

    squares = [[0.3, 0.3], [0.3, -1.3], [1.0, 1.0], [1.0, -0.5], [-0.5, 1.0], [-0.5, -0.5], [-1.3, 0.3], [-1.3, -1.3]]
    flat = torch.stack([board.log_prob(at(v)) for v in squares])
    assert bool(flat.isfinite().all())
    for v in ([0.3, -0.3], [-0.3, 0.3], [1.3, 0.3], [0.3, 1.6]):
        assert float(board.log_prob(at(v))) == -math.inf
    five = datasets.hyperbolic("five_gaussians", 10).density
    one = datasets.hyperbolic("one_gaussian", 10).density
    for p, v, std, weight in ((five, [0.0, 1.5], 0.25, 0.2), (one, [-0.6, 0.6], 0.3, 1.0)):
        s = 2 * math.hypot(*v)
        peak = math.log(weight) - math.log(2 * math.pi * (2 * std) ** 2) - math.log(math.sinh(s) / s)
        assert float(p.log_prob(at(v))) == pytest.approx(peak, abs=1e-4)
    ridge = datasets.hyperbolic("swish", 10).density
    for s in (-0.6, 0.3, 0.8):  # along the second ridge, from (0, 0.6), turned by −π/5
        v = [
            s * math.cos(math.pi / 5) + s**2 / 1.08 * math.sin(math.pi / 5),
            0.6 - s * math.sin(math.pi / 5) + s**2 / 1.08 * math.cos(math.pi / 5),
        ]
        z = 2 * math.gamma(1.25) * (1.08 / 8) ** 0.25 * math.sqrt(math.pi * 0.01 / 1.08) * 4  # 4 from the metric
        r = 2 * math.hypot(*v)
        wanted = -8 / 1.08 * s**4 - math.log(4 * z) - math.log(math.sinh(r) / r)
        assert float(ridge.log_prob(at(v))) == pytest.approx(wanted, abs=0.01)
    with pytest.raises(ValueError, match="one_gaussian, five_gaussians, checkerboard, swish"):
        datasets.hyperbolic("six_gaussians")


@pytest.mark.parametrize("space", [PoincareBall(2), PoincareBall(3, 0.5), Hyperboloid(2, 2.0)], ids=repr)
def test_wrapped_density_of_a_normal_is_the_wrapped_normal(space, generator):
    v = 0.3 * torch.randn(space.ambient_dim, dtype=torch.float64, generator=generator)
    origin = space.project(v)
    std = torch.linspace(0.3, 0.9, space.dim, dtype=torch.float64)
    ours = WrappedDensity(DiagonalNormal.of(0 * std, std), space, origin)
    theirs = WrappedNormal(space, origin, std)
    x = theirs.sample(50, generator=generator)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(ours.score(x), theirs.score(x), atol=1e-9, rtol=1e-9)
    x, log_p = ours.rsample_and_log_prob(40, generator=generator)
    torch.testing.assert_close(log_p, ours.log_prob(x), atol=1e-11, rtol=1e-11)


def test_wrapped_density_is_fitted_as_what_it_wraps():
    """A mixture by EM in the tangent plane: no steps, and the likelihood of the truth."""
    data = datasets.hyperbolic("five_gaussians", 4000)
    model = WrappedDensity(GaussianMixture(2, 5), PoincareBall(2))
    fit(model, data.x, epochs=1, progress=False, seed=0)
    held_out = data.density.sample(4000, generator=torch.Generator().manual_seed(3))
    gap = (data.density.log_prob(held_out) - model.log_prob(held_out)).mean().detach()
    assert 0 < float(gap) < 0.02


def test_wrapped_density_refuses():
    with pytest.raises(ValueError, match="hyperbolic or flat space, where exp is one to one"):
        WrappedDensity(StandardNormal(2), Sphere(2))
    with pytest.raises(ValueError, match=r"expects a density on Euclidean\(dim=2\)"):
        WrappedDensity(StandardNormal(3), PoincareBall(2))
    with pytest.raises(ValueError, match="one `origin`"):
        WrappedDensity(StandardNormal(2), PoincareBall(2), torch.zeros(4, 2))


# -- rotations, surfaces, the plane ------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [16, 64])
@torch.no_grad()
def test_so3_mixture(components):
    data = datasets.so3_mixture(components, 20_000, seed=1)
    p = data.density
    assert p.components.mean.shape == (components, 9)
    # importance sampling from heat kernels a little wider
    wide = Mixture(torch.ones(components), IsotropicGaussianSO3(p.components.mean, 1.3 * p.components.std))
    x = wide.sample(20_000, generator=torch.Generator().manual_seed(0))
    log_p = p.log_prob(x).double()
    w = (log_p - wide.log_prob(x).double()).exp()
    error = float(w.std()) / math.sqrt(len(w))
    assert abs(float(w.mean()) - 1) < 4.5 * error < 0.03
    entropy, se = datasets.entropy(p, 20_000, seed=5)
    assert abs(entropy + float((w * log_p).mean())) < 4.5 * (se + float((w * log_p).std()) / math.sqrt(len(w)))
    follows(p, data.x, entropy)
    # mixing adds at most log K to the mean of the parts, less what they overlap
    parts = 1.5 * math.log(2 * math.pi * math.e) + 3 * float(p.components.std.log().mean())
    assert parts + math.log(components) - 0.1 < entropy < parts + math.log(components) + 3 * se
    assert not torch.equal(datasets.so3_mixture(components, 20, centres=1).density.components.mean, p.components.mean)


def test_mesh_eigen(tmp_path):
    (tmp_path / "manifolds/mesh").mkdir(parents=True)
    ball = icosphere(2)  # made an ellipsoid, whose eigenvalues are simple
    lines = [f"v {3 * x + 5} {4 * y} {6 * z}" for x, y, z in ball.vertices.tolist()]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in ball.faces.tolist()]
    (tmp_path / "manifolds/mesh/ball.obj").write_text("\n".join(lines))
    data = datasets.mesh_eigen("ball", 7, 10_000, folder=tmp_path)
    mesh = data.density.mesh
    assert float(mesh.areas.sum()) == pytest.approx(4 * math.pi, rel=1e-6)
    assert bool((mesh.vertices.amax(0) + mesh.vertices.amin(0)).abs().max() < 1e-6)
    follows(data.density, data.x, float(data.density.entropy()))
    raw = datasets.mesh_eigen("ball", 7, 10, area=None, folder=tmp_path).density
    ratio = float(raw.mesh.areas.sum()) / (4 * math.pi)
    assert float(raw.entropy()) == pytest.approx(float(data.density.entropy()) + math.log(ratio), abs=1e-3)
    with pytest.raises(ValueError, match="positive area"):
        datasets.mesh_eigen("ball", area=-1.0, folder=tmp_path)


@pytest.mark.parametrize("name", ["bunny_simp", "spot_simp"])
def test_mesh_eigen_of_the_usual_meshes(name):
    needs("manifolds/mesh", name)
    data = datasets.mesh_eigen(name, 10, 20_000)
    assert float(data.density.entropy()) < math.log(4 * math.pi)
    follows(data.density, data.x, float(data.density.entropy()))


def test_entropies_that_docstrings_name():
    x = torch.linspace(-8, 8, 40_001, dtype=torch.float64)

    def entropy(p: Tensor) -> float:
        return -float(torch.trapezoid(torch.special.xlogy(p, p), x))

    # turned by 45° the four bumps are two by two
    at = 1.5 / math.sqrt(2)
    pair = sum(torch.exp(-0.5 * ((x - m) / 0.4) ** 2) for m in (-at, at)) / (2 * 0.4 * math.sqrt(2 * math.pi))
    assert 2 * entropy(pair) == pytest.approx(2.369, abs=5e-4)
    mean, error = datasets.entropy(datasets.four_gaussians(10).density, 50_000)
    assert abs(mean - 2 * entropy(pair)) < 4.5 * error
    # around a thin curve the entropy is that along it plus the noise's across
    normal = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    speed = torch.sqrt(1 + (math.pi / 2 * torch.cos(math.pi / 2 * x)) ** 2)
    along = entropy(normal) + float(torch.trapezoid(normal * speed.log(), x))
    assert along == pytest.approx(1.7795, abs=1e-4)
    mean, error = datasets.entropy(datasets.noisy_sine(10, noise=0.03).density, 50_000)
    across = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.03)
    assert abs(mean - along - across) < 4.5 * error + 1e-3


def test_entropy_is_exact_where_it_can_be():
    assert datasets.entropy(StandardNormal(2)) == (float(StandardNormal(2).entropy()), 0.0)


def test_log_normal_against_scipy(generator):
    from scipy import stats

    p = LogNormal(torch.tensor([0.3, -1.0], dtype=torch.float64), [0.5, 1.2])
    x = p.sample(200, generator=generator)
    theirs = [stats.lognorm(s, scale=math.exp(m)) for m, s in ((0.3, 0.5), (-1.0, 1.2))]
    wanted = sum(torch.as_tensor(law.logpdf(x[:, j].numpy())) for j, law in enumerate(theirs))
    torch.testing.assert_close(p.log_prob(x).detach(), wanted)
    assert float(p.entropy().detach()) == pytest.approx(sum(float(law.entropy()) for law in theirs))
    assert bool((p.log_prob(torch.tensor([[1.0, 0.0], [-1.0, 2.0]], dtype=torch.float64)) == -math.inf).all())
    for bad in (lambda: LogNormal([], 1.0), lambda: LogNormal([0.0], -1.0), lambda: LogNormal.from_data(x - 5)):
        with pytest.raises(ValueError, match="expects"):
            bad()


# -- loaders -----------------------------------------------------------------------------------------------------------


def test_reference_split_is_a_permutation_of_the_rows():
    rows = np.random.default_rng(0).normal(size=(301, 3))
    parts = [rows[i.numpy()] for i in datasets.reference_split(301, seed=7)]
    assert [len(p) for p in parts] == [240, 30, 31]
    assert np.array_equal(np.concatenate(parts), np.random.default_rng(7).permutation(rows))


def test_earth_with_every_row(tmp_path):
    (tmp_path / "manifolds/earth/rfm").mkdir(parents=True)
    text = "LATITUDE,LONGITUDE\n" + "".join(f"{i},{2 * i}\n" for i in (*range(15), *range(15)))
    (tmp_path / "manifolds/earth/rfm/flood.csv").write_text(text)
    every, once = datasets.earth("flood", tmp_path, distinct=False), datasets.earth("flood", tmp_path)
    assert (len(every), len(once), once.test) == (30, 15, None)
    assert torch.equal(every.x[:15], every.x[15:])
    assert every.test.nonzero()[:, 0].tolist() == sorted(datasets.reference_split(30)[2].tolist())


@pytest.mark.parametrize(
    ("name", "rows", "copies"),
    [("volcano", 827, 0.735), ("earthquake", 6120, 0.155), ("flood", 4875, 0.002), ("fire", 12809, 0.001)],
)
def test_copies_among_the_reference_splits_test_rows(name, rows, copies):
    if not os.environ.get("GEOFLOW_DATA") or not Path(os.environ["GEOFLOW_DATA"], "manifolds/earth").is_dir():
        pytest.skip("GEOFLOW_DATA has no manifolds/earth")
    x = datasets.earth(name, distinct=False).x
    train, _, test = datasets.reference_split(len(x))
    seen = {tuple(row) for row in x[train].tolist()}
    assert len(x) == rows
    assert sum(tuple(row) in seen for row in x[test].tolist()) / len(test) == pytest.approx(copies, abs=1e-3)


def test_fashion_mnist_reads_idx_files(tmp_path):
    (tmp_path / "fashion_mnist").mkdir()
    rng = np.random.default_rng(0)

    def write(part: str, array: np.ndarray, cut: int = 0) -> None:
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        raw = head + array.tobytes()
        with gzip.open(tmp_path / f"fashion_mnist/{part}-ubyte.gz", "wb") as file:
            file.write(raw[: len(raw) - cut])

    images = rng.integers(0, 256, (5, 28, 28)).astype(np.uint8)
    write("train-images-idx3", images[:3])
    write("t10k-images-idx3", images[3:])
    write("train-labels-idx1", np.arange(3, dtype=np.uint8))
    with pytest.raises(FileNotFoundError, match=r"t10k-labels.*zalandoresearch/fashion-mnist"):
        datasets.fashion_mnist(folder=tmp_path)
    write("t10k-labels-idx1", np.array([3, 4], dtype=np.uint8))
    found = datasets.fashion_mnist(False, folder=tmp_path)
    assert torch.equal((found.x * 255).round().to(torch.uint8), torch.as_tensor(images).flatten(1))
    assert (found.labels.tolist(), found.test.tolist()) == ([0, 1, 2, 3, 4], [False] * 3 + [True] * 2)
    write("train-images-idx3", images[:3], cut=1)
    with pytest.raises(ValueError, match="cut off or no idx file"):
        datasets.fashion_mnist(folder=tmp_path)


def test_fashion_mnist_as_published():
    needs("fashion_mnist", "train-images-idx3-ubyte")
    data = datasets.fashion_mnist(False)
    assert data.x.shape == (70_000, 784)
    assert data.labels[~data.test].bincount().tolist() == [6000] * 10
    assert data.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert float(data.x[~data.test].mean()) == pytest.approx(0.2860, abs=1e-4)
