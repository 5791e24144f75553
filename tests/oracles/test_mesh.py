"""Meshes against what is known: flat ones, a cube, round ones, libigl, potpourri3d, and figures of a model cow."""

import itertools
import math
import os
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow import datasets
from geoflow.distributions import MeshDensity
from geoflow.distributions.mesh_density import mean_h_log_h
from manifolds import Mesh, Sphere, surface
from tests.laws.icosphere import icosphere

Float = torch.float64


def sheet(n: int, generator: Generator, shift: float = 0.5, keep: object = None) -> Mesh:
    """The unit square as n × n cells cut in two, with shifted inner corners and faces of either orientation."""
    side = torch.linspace(0, 1, n + 1, dtype=Float)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1)
    grid[1:-1, 1:-1] += (torch.rand(n - 1, n - 1, 2, generator=generator, dtype=Float) - 0.5) * shift / n
    at = torch.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    faces[::3] = faces[::3].flip(-1)
    v = torch.cat([grid.reshape(-1, 2), torch.zeros((n + 1) ** 2, 1, dtype=Float)], -1)
    if callable(keep):
        faces = faces[keep(v[faces].mean(1))]
    return Mesh(v, faces)


def cube() -> Mesh:
    """The unit cube."""
    v = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return Mesh(v, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])


def bumpy(level: int = 3) -> Mesh:
    """A sphere with hills and hollows, closed and neither convex nor round."""
    m = icosphere(level)
    v = m.vertices
    return Mesh(v * (1 + 0.3 * torch.sin(3 * v[:, :1]) * torch.cos(4 * v[:, 1:2])), m.faces)


def uniform(mesh: Mesh, n: int, seed: int = 0) -> Tensor:
    return mesh.sample_uniform(n, Generator().manual_seed(seed), Float)


# -- closest points ----------------------------------------------------------------------------------------------------


def both_ways(mesh: Mesh, x: Tensor) -> float:
    """Greatest gap between the closest points by libigl itself, by `project`, and by centroids, per bounding box."""
    igl = pytest.importorskip("igl", reason="the extra mesh is not installed")
    theirs = igl.point_mesh_squared_distance(x.numpy(), mesh.vertices.numpy(), mesh.faces.numpy())[2]
    face = mesh._surface.nearest_by_centroids(x.numpy())
    fallback = surface.foot(x, torch.from_numpy(mesh._surface.corners)[face])
    box = float((mesh.vertices.amax(0) - mesh.vertices.amin(0)).norm())
    return max(float((torch.from_numpy(theirs) - ours).abs().max()) for ours in (mesh.project(x), fallback)) / box


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_closest_points_equal_libigl(noise: float, generator: Generator) -> None:
    for mesh in (bumpy(), cube(), sheet(10, generator)):
        x = uniform(mesh, 10_000)
        assert both_ways(mesh, x + noise * torch.randn(x.shape, generator=generator, dtype=Float)) < 1e-14


def test_closest_points_without_a_compiled_library(monkeypatch: pytest.MonkeyPatch, generator: Generator) -> None:
    """The nearest of all faces, one by one; faces of very different sizes are where too few candidates would miss."""
    x = torch.randn(300, 3, generator=generator, dtype=Float)
    long = Mesh([[0, 0, 0], [9, 0, 0.1], [0, 9, 0], [1, 1, 1], [1.01, 1, 1], [1, 1.01, 1]], [[0, 1, 2], [3, 4, 5]])
    monkeypatch.setattr(surface, "find_spec", lambda name: None)
    for mesh in (Mesh(1.1 * bumpy().vertices, bumpy().faces), long):
        assert mesh._surface._compiled is None
        each = surface.foot(x[:, None], torch.from_numpy(mesh._surface.corners))
        least = (each - x[:, None]).norm(dim=-1).amin(-1)
        torch.testing.assert_close((mesh.project(x) - x).norm(dim=-1), least, atol=1e-15, rtol=1e-15)


def test_derivative_of_project_is_the_projector_of_face_edge_or_vertex() -> None:
    def derivative(x: list[float]) -> Tensor:
        return torch.func.jacrev(cube().project)(torch.tensor(x, dtype=Float))

    for x, kept in (([0.3, 0.2, 1.4], [1, 1, 0]), ([0.3, 1.2, 1.4], [1, 0, 0]), ([1.1, 1.2, 1.3], [0, 0, 0])):
        torch.testing.assert_close(derivative(x), torch.diag(torch.tensor(kept, dtype=Float)))
    for x in (torch.tensor([0.3, 0.2, math.nan]), torch.tensor([math.inf, 0.0, 0.0])):
        assert not cube().contains(x)


# -- paths -------------------------------------------------------------------------------------------------------------


def test_flat_square(generator: Generator) -> None:
    """dist and exp are those of the plane, whatever the triangles; so are derivatives."""
    square = sheet(8, generator)
    x, y = uniform(square, 40), uniform(square, 40, 1)
    x[:3] = torch.tensor([[0, 0, 0], [0.5, 0, 0], [1, 1, 0]], dtype=Float)  # a corner, on the border
    y[3] = square.vertices[30]
    y[4] = square.vertices[square.faces[50, :2]].mean(0)
    flat = (x - y).norm(dim=-1)
    torch.testing.assert_close(square.dist(x, y), flat, atol=1e-14, rtol=0)
    torch.testing.assert_close(square.squared_dist(x, y), flat**2, atol=1e-14, rtol=0)
    torch.testing.assert_close(square.exp(x, 0.999 * (y - x)), x + 0.999 * (y - x), atol=1e-14, rtol=0)
    a, b = x[10], y[10]
    ours = torch.func.hessian(square.dist, argnums=(0, 1))(a, b)[0][1]
    plane = torch.func.hessian(lambda a, b: (a - b).norm(), argnums=(0, 1))(a, b)[0][1]
    torch.testing.assert_close(ours[:2, :2], plane[:2, :2], atol=1e-12, rtol=1e-12)
    with pytest.raises(ValueError, match="leaves the mesh over its border"):
        square.exp(x, 3 * (y - x))


def test_round_a_corner(generator: Generator) -> None:
    """An L: between its arms the shortest path touches the inner corner, and gradients point along it. A U has two."""
    bent = sheet(8, generator, 0.0, keep=lambda c: (c[:, 0] < 0.5) | (c[:, 1] < 0.5))
    corner = torch.tensor([0.5, 0.5, 0.0], dtype=Float)
    x = torch.tensor([0.31, 0.95, 0.0], dtype=Float, requires_grad=True)
    y = torch.tensor([0.93, 0.27, 0.0], dtype=Float)
    length = bent.dist(x, y)
    assert float(length.detach()) == pytest.approx(float((x.detach() - corner).norm() + (corner - y).norm()), abs=1e-14)
    (gradient,) = torch.autograd.grad(length, x)
    torch.testing.assert_close(gradient, ((x - corner) / (x - corner).norm()).detach(), atol=1e-12, rtol=0)
    assert torch.equal(bent.dist(y, x), length)
    valley = sheet(8, generator, 0.0, keep=lambda c: (c[:, 1] < 0.25) | ((c[:, 0] - 0.5).abs() > 0.25))
    x, y = torch.tensor([[0.2, 0.9, 0], [0.9, 0.8, 0]], dtype=Float)
    bends = torch.tensor([[0.25, 0.25, 0], [0.75, 0.25, 0]], dtype=Float)
    pieces = (x - bends[0]).norm() + 0.5 + (y - bends[1]).norm()
    torch.testing.assert_close(valley.dist(x, y), pieces, atol=1e-14, rtol=0)


def cube_distance(x: list[float], y: list[float]) -> float:
    """From the top, z = 1, to the side x = 1 or to the bottom, as the least of all ways to unfold the cube."""
    if y[2] == 0:
        ways = []
        for (a, c), (b, d) in itertools.product(
            ((x[0], y[0]), (1 - x[0], 1 - y[0])), ((x[1], y[1]), (1 - x[1], 1 - y[1]))
        ):
            ways += [math.hypot(a + 1 + c, b - d), math.hypot(b + 1 + d, a - c)]
            ways += [math.hypot(a + 1 + d, b + c), math.hypot(b + 1 + c, a + d)]
        return min(ways)
    ways = [math.hypot(1 - x[0] + 1 - y[2], x[1] - y[1])]
    for edge in (0.0, 1.0):  # over the side y = edge, by turning about the corner (1, edge, 1)
        p, q = complex(x[0] - 1, abs(x[1] - edge)), complex(1 - y[2], abs(y[1] - edge))
        angle = 1.5 * math.pi - abs(np.angle(p / q))
        ways.append(math.sqrt(abs(p) ** 2 + abs(q) ** 2 - 2 * abs(p * q) * math.cos(min(angle, math.pi))))
    return min(ways)


def test_cube() -> None:
    """All the shortest paths of a cube are found, among up to twelve straight ones; walks go round it and back."""
    c, rng = cube(), np.random.default_rng(0)
    top = [[*rng.random(2), 1.0] for _ in range(60)]
    other = [[1.0, *rng.random(2)] for _ in range(30)] + [[*rng.random(2), 0.0] for _ in range(30)]
    expected = torch.tensor([cube_distance(x, y) for x, y in zip(top, other, strict=True)], dtype=Float)
    x, y = torch.tensor(top, dtype=Float), torch.tensor(other, dtype=Float)
    found = c.dist(x, y)
    assert (found > expected - 1e-12).all()
    assert (found < expected + 1e-12).double().mean() > 0.95
    around = torch.tensor([4.0, 0, 0], dtype=Float).expand_as(x)
    torch.testing.assert_close(c.exp(x, around), x, atol=1e-13, rtol=0)
    assert c.log_volume_total == pytest.approx(math.log(6), abs=1e-14)


def test_walks(generator: Generator) -> None:
    """They stay on the surface, come back the way they went, and short ones are the shortest paths."""
    mesh = bumpy()
    x = uniform(mesh, 200)
    v = mesh.random_tangent(x, generator)
    y = mesh.exp(x, v)
    assert mesh.contains(y).all()
    velocity = torch.func.jvp(
        lambda t: mesh.exp(x, t * v), (torch.tensor(1.0, dtype=Float),), (torch.ones((), dtype=Float),)
    )[1]
    torch.testing.assert_close(velocity.norm(dim=-1), v.norm(dim=-1), atol=1e-12, rtol=0)
    torch.testing.assert_close(mesh.exp(y, -mesh.to_tangent(y, velocity)), x, atol=1e-11, rtol=0)
    short = 0.05 * v / v.norm(dim=-1, keepdim=True)
    ratio = mesh.dist(x[:60], mesh.exp(x, short)[:60]) / 0.05
    assert (ratio < 1 + 1e-12).all()
    assert (ratio > 0.98).all()


def test_distances_converge_to_the_sphere() -> None:
    """The error of an icosphere falls as the square of the length of its edges."""
    errors = []
    for level in (1, 2, 3):
        mesh = icosphere(level)
        x, y = uniform(mesh, 30), uniform(mesh, 30, 1)
        true = Sphere(2).dist(Sphere(2).project(x), Sphere(2).project(y))
        errors.append(float((mesh.dist(x, y) / true - 1).abs().mean()))
    assert errors[2] < 0.004
    assert 1.7 < math.log2(errors[0] / errors[2]) / 2 < 2.3


def test_distances_and_edge_flips() -> None:
    """Between vertices our paths are about as short as those of potpourri3d's edge flips, or shorter."""
    potpourri = pytest.importorskip("potpourri3d", reason="potpourri3d is not installed")
    mesh = bumpy()
    v, f = mesh.vertices.numpy(), mesh.faces.numpy()
    solver = potpourri.EdgeFlipGeodesicSolver(v, f)
    pairs = np.random.default_rng(0).choice(len(v), (40, 2), replace=False)
    theirs = [np.linalg.norm(np.diff(solver.find_geodesic_path(*p.tolist()), axis=0), axis=-1).sum() for p in pairs]
    ratio = mesh.dist(mesh.vertices[pairs[:, 0]], mesh.vertices[pairs[:, 1]]).numpy() / np.array(theirs)
    assert ratio.max() < 1.02
    assert (ratio < 1 + 1e-9).mean() > 0.85


def test_pieces_and_pages(generator: Generator) -> None:
    """Pieces that nothing joins are infinitely far apart; three faces on one edge, or two edges between two, are named."""
    v = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0]]
    far = Mesh([*v[:3], [3, 0, 0], [4, 0, 0], [3, 1, 0]], [[0, 1, 2], [3, 4, 5]])
    assert float(far.dist(torch.tensor([0.2, 0.2, 0]), torch.tensor([3.2, 0.2, 0]))) == math.inf
    book = Mesh(v, [[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    x = torch.tensor([0.2, 0.2, 0.0])
    assert book.project(x + torch.tensor([0, 0, 0.1])).tolist() == pytest.approx([0.2, 0.2, 0])
    with pytest.raises(ValueError, match=r"more than two faces .*0 and 1"):
        book.dist(x, torch.tensor([0.2, 0.0, 0.2]))


# -- the Laplacian and densities ---------------------------------------------------------------------------------------


def test_eigenfunctions(generator: Generator) -> None:
    """Of a flat square π² (m² + n²), of the sphere l (l + 1); normalised in mass, the largest entry positive."""
    wanted = math.pi**2 * torch.tensor([0, 1, 1, 2, 4, 4, 5, 5], dtype=Float)
    values, phi = sheet(30, generator).eigenfunctions(8)
    assert ((values - wanted).abs() <= 0.01 * wanted + 1e-9).all()
    mesh = icosphere(3)
    values, phi = mesh.eigenfunctions(9)
    assert torch.allclose(values, torch.tensor([0.0, 2, 2, 2, 6, 6, 6, 6, 6], dtype=Float), rtol=0.02, atol=1e-9)
    mass = torch.zeros(len(mesh.vertices), dtype=Float)
    mass.index_add_(0, mesh.faces.reshape(-1), (mesh.areas / 3).repeat_interleave(3))
    torch.testing.assert_close(phi.mT @ (mass[:, None] * phi), torch.eye(9, dtype=Float), atol=1e-10, rtol=0)
    assert (phi.gather(0, phi.abs().argmax(0, keepdim=True)) > 0).all()


def test_mean_of_h_log_h_equals_a_fine_quadrature() -> None:
    """mpmath, over heights alike, far apart, tiny and zero."""
    table = [(1, 1, 1), (0, 0, 1), (0, 1, 1), (0, 0, 0), (1e-9, 1, 1), (0.3, 0.7, 1), (0.49, 0.5, 1.1), (2, 2, 5)]
    table += [(1, 1 + 1e-9, 1 + 3e-9), (1e-5, 2e-5, 1), (0, 1e-12, 1), (0, 0.6, 0.6 + 1e-10)]
    ours = mean_h_log_h(torch.tensor(table, dtype=Float))

    def exact(h: tuple[float, ...]) -> float:
        a, b, c = sorted(mpmath.mpf(v) for v in h)

        def inner(s: mpmath.mpf) -> mpmath.mpf:  # the mean over the line from (1 − s) a + s b to (1 − s) a + s c
            p, q = (1 - s) * a + s * b, (1 - s) * a + s * c
            if q == p:
                return p * mpmath.log(p) if p else mpmath.mpf(0)
            whole = [u * u * (mpmath.log(u) / 2 - mpmath.mpf(1) / 4) if u else mpmath.mpf(0) for u in (p, q)]
            return (whole[1] - whole[0]) / (q - p)

        with mpmath.workdps(40):
            return float(2 * mpmath.quad(lambda s: s * inner(s), [0, 1e-9, 1e-4, 0.1, 1]))

    for value, h in zip(ours.tolist(), table, strict=True):
        assert value == pytest.approx(exact(h), abs=2e-15 * (1 + max(h) ** 2)), h


def test_uniform_points_fall_by_area() -> None:
    """Means of the coordinates and of their squares are those of the surface: (Σ corners² + (Σ corners)²) / 12 a face."""
    mesh = Mesh(bumpy().vertices * torch.tensor([1.0, 2, 5], dtype=Float), bumpy().faces)
    x, corners = uniform(mesh, 100_000), mesh.vertices[mesh.faces]
    share = (mesh.areas / mesh.areas.sum())[:, None]
    first = (share * corners.mean(1)).sum(0)
    second = (share * ((corners**2).sum(1) + corners.sum(1) ** 2) / 12).sum(0)
    for drawn, wanted in ((x, first), (x**2, second)):
        assert ((drawn.mean(0) - wanted).abs() < 4 * drawn.std(0) / math.sqrt(len(x))).all()


def test_density_of_one_triangle(generator: Generator) -> None:
    """Heights 1, 2, 5: the mean of barycentric coordinate i is (Σ h + h_i) / (4 Σ h), and log p is that of a line."""
    p = MeshDensity(Mesh([[0, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2]]), torch.tensor([1.0, 2.0, 5.0], dtype=Float))
    x = p.sample(100_000, generator=generator)
    weights = torch.stack([1 - x[:, 0] / 2 - x[:, 1], x[:, 0] / 2, x[:, 1]], -1)
    expected = (8 + torch.tensor([1.0, 2.0, 5.0], dtype=Float)) / 32
    assert ((weights.mean(0) - expected).abs() < 4 * weights.std(0) / math.sqrt(len(x))).all()
    log_p = p.log_prob(torch.tensor([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]], dtype=Float))
    torch.testing.assert_close(log_p, torch.tensor([2.25, 1.0], dtype=Float).log() - math.log(8 / 3))
    none = MeshDensity(p.mesh, torch.tensor([0, 0, 1]))
    assert none.log_prob(torch.tensor([0.5, 0.0, 0.0])) == -math.inf
    assert none.score(torch.tensor([0.5, 0.0, 0.0])).tolist() == [0, 0, 0]


def cow() -> Mesh:
    if not os.environ.get("GEOFLOW_DATA"):
        pytest.skip("GEOFLOW_DATA is not set")
    if "spot_simp" not in datasets.available()["manifolds/mesh"]:
        pytest.skip("spot_simp is not in GEOFLOW_DATA")
    return datasets.mesh("spot_simp")


def test_the_cow() -> None:
    """Closest points, eigenvalues, masses and entropies of a known mesh."""
    mesh = cow()
    x = uniform(mesh, 10_000)
    for noise in (0.02, 0.5):
        moved = x + noise * torch.randn(x.shape, generator=Generator().manual_seed(3), dtype=Float)
        assert both_ways(mesh, moved) < 1e-9
    assert mesh.log_volume_total == pytest.approx(1.742134744, abs=1e-8)
    values = mesh.eigenfunctions(51)[0]
    assert values[[1, 10, 50]].tolist() == pytest.approx([1.59169022, 21.40701537, 109.94684445], abs=2e-8)
    for k, z, entropy in ((10, 0.979668763, 0.842672798), (50, 0.939270922, 0.798654018)):
        p = MeshDensity.eigenfunction(mesh, k)
        assert float(p.log_normalizer().exp()) == pytest.approx(z, abs=1e-8)
        assert float(p.entropy()) == pytest.approx(entropy, abs=1e-7)  # theirs by quadrature


# -- what is refused, and files ----------------------------------------------------------------------------------------

V = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (V, [[0, 1, 4]], r"vertices 0 to 3; face 0 is \[0, 1, 4\]"),
        (V, [[1, 2, 3], [2, 3, 4]], "from 1"),
        (V, [[0, 1, -1]], "face 0 is"),
        (V, [[0, 1, 2], [1, 1, 2]], "with an area; face 1 has none"),
        (np.zeros((4, 3)), [[0, 1, 2], [1, 2, 3]], r"faces with an area.*2 faces in all"),
        ([[0.0, 0], [1, 0]], [[0, 1, 1]], r"`vertices` of shape \(V, 3\), got \(2, 2\)"),
        (V, [[0, 1, 2, 3]], r"`faces` of shape \(F, 3\).*got \(1, 4\)"),
        (V, np.zeros((0, 3), int), "at least one face"),
        (V, [[0.0, 1.0, 2.0]], "whole numbers, got float64"),
        ([*V[:3], [math.nan, 0, 0]], [[0, 1, 2]], "finite `vertices`; vertex 3 is not"),
    ],
)
def test_bad_meshes(vertices: object, faces: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, faces)


def test_bad_densities(unchecked: None) -> None:
    mesh = Mesh(V, [[0, 1, 2]])
    for heights, message in (([1.0, 2], r"shape \(4,\)"), ([1.0, 1, -1, 0], "clamp"), ([0.0, 0, 0, 5], "some height")):
        with pytest.raises(ValueError, match=message):
            MeshDensity(mesh, heights)
    with pytest.raises(TypeError, match="expects a Mesh, got Sphere"):
        MeshDensity(Sphere(2), [1.0])
    with pytest.raises(ValueError, match="from 0, got -1"):
        MeshDensity.eigenfunction(mesh, -1)
    with pytest.raises(ValueError, match="1 <= k < 3"):
        mesh.eigenfunctions(3)


OBJ = "# made\nv 0 0 0\nv 1 0 0 # right\nv 1 1 0\nv 0 1 0.5\nvt 0 0\nf 1/1 2/1 -2/1 4/1\n"
OFF = "OFF\n# made\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n4 0 1 2 3\n"
PLY = (
    "ply\nformat {} 1.0\ncomment made\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    "property uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
)
WORDS = "0 0 0 9\n1 0 0 9\n1 1 0 9\n0 1 0.5 9\n4 0 1 2 3\n"


def binary(order: str) -> bytes:
    rows = [np.array(v, f"{order}f4").tobytes() + b"\x09" for v in ([0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5])]
    return b"".join(rows) + b"\x04" + np.arange(4, dtype=f"{order}i4").tobytes()


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each format gives the same mesh, and says what is wrong with a file that ends too early."""
    shelf = tmp_path / "manifolds/mesh"
    shelf.mkdir(parents=True)
    files = {
        "a.obj": OBJ.encode(),
        "b.off": OFF.encode(),
        "c.ply": (PLY.format("ascii") + WORDS).encode(),
        "d.ply": PLY.format("binary_little_endian").encode() + binary("<"),
        "e.ply": PLY.format("binary_big_endian").encode() + binary(">"),
    }
    monkeypatch.setenv("GEOFLOW_DATA", str(tmp_path))
    wanted = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]], [[0, 1, 2], [0, 2, 3]])
    for name, content in files.items():
        (shelf / name).write_bytes(content)
        assert datasets.mesh(name) == datasets.mesh(name[0]) == wanted
        (shelf / f"cut{name[1:]}").write_bytes(content[:-8])
        with pytest.raises(ValueError, match=r"cut\.\w+ is cut off|expects"):
            datasets.mesh(f"cut{name[1:]}")
    with pytest.raises(FileNotFoundError, match=r"missing, as .*there: a, b, c"):
        datasets.mesh("cow")
    with pytest.raises(ValueError, match=r"reads \.obj, \.off, \.ply"):
        datasets.read_mesh(tmp_path / "cow.stl")
