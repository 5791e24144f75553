"""Which manifolds of geomstats work through `from_geomstats`, and how well: each in a process and a time limit of its own."""

import importlib
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manifolds import Manifold, from_geomstats

RESULTS = Path(__file__).parent / "results"
LIMIT = 20.0
COLUMNS = ("dim", "points", "project", "exp, log", "gradient", "vmap", "batches", "transport", "uniform")
ENOUGH = 1e-6

# Module, class, arguments, metric if not the default.
ROWS: tuple[tuple[str, str, tuple[Any, ...], str], ...] = (
    ("euclidean", "Euclidean", (3,), ""),
    ("minkowski", "Minkowski", (3,), ""),
    ("hypersphere", "Hypersphere", (2,), ""),
    ("hypersphere", "Hypersphere", (2, True), ""),
    ("hyperboloid", "Hyperboloid", (2,), ""),
    ("poincare_ball", "PoincareBall", (2,), ""),
    ("poincare_half_space", "PoincareHalfSpace", (2,), ""),
    ("poincare_polydisk", "PoincarePolydisk", (2,), ""),
    ("open_hemisphere", "OpenHemisphere", (2,), ""),
    ("positive_reals", "PositiveReals", (), ""),
    ("klein_bottle", "KleinBottle", (), ""),
    ("heisenberg", "HeisenbergVectors", (), ""),
    ("special_orthogonal", "SpecialOrthogonal", (3,), ""),
    ("special_orthogonal", "SpecialOrthogonal", (4,), ""),
    ("special_orthogonal", "SpecialOrthogonal", (2, "vector"), ""),
    ("special_orthogonal", "SpecialOrthogonal", (3, "vector"), ""),
    ("special_euclidean", "SpecialEuclidean", (2,), ""),
    ("special_euclidean", "SpecialEuclidean", (3,), ""),
    ("special_euclidean", "SpecialEuclidean", (2, "vector"), ""),
    ("special_euclidean", "SpecialEuclidean", (3, "vector"), ""),
    ("general_linear", "GeneralLinear", (2,), ""),
    ("spd_matrices", "SPDMatrices", (3,), ""),
    ("spd_matrices", "SPDMatrices", (3,), "SPDBuresWassersteinMetric"),
    ("spd_matrices", "SPDMatrices", (3,), "SPDEuclideanMetric"),
    ("spd_matrices", "SPDMatrices", (3,), "SPDLogEuclideanMetric"),
    ("spd_matrices", "SPDMatrices", (3,), "LieCholeskyMetric"),
    ("stiefel", "Stiefel", (4, 2), ""),
    ("grassmannian", "Grassmannian", (4, 2), ""),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), ""),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), "PolyHyperbolicCholeskyMetric"),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), "EuclideanCholeskyMetric"),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), "LogEuclideanCholeskyMetric"),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), "OffLogMetric"),
    ("full_rank_correlation_matrices", "FullRankCorrelationMatrices", (3,), "LogScaledMetric"),
    ("positive_lower_triangular_matrices", "PositiveLowerTriangularMatrices", (3,), ""),
    ("positive_lower_triangular_matrices", "UnitNormedRowsPLTMatrices", (3,), ""),
    ("positive_lower_triangular_matrices", "PLTUnitDiagMatrices", (3,), ""),
    ("full_rank_matrices", "FullRankMatrices", (3, 2), ""),
    ("rank_k_psd_matrices", "PSDMatrices", (3, 2), ""),
    ("pre_shape", "PreShapeSpace", (4, 2), ""),
    ("matrices", "Matrices", (2, 3), ""),
    ("symmetric_matrices", "SymmetricMatrices", (3,), ""),
    ("symmetric_matrices", "SymmetricHollowMatrices", (3,), ""),
    ("symmetric_matrices", "NullRowSumsSymmetricMatrices", (3,), ""),
    ("skew_symmetric_matrices", "SkewSymmetricMatrices", (3,), ""),
    ("lower_triangular_matrices", "LowerTriangularMatrices", (3,), ""),
    ("siegel", "Siegel", (2,), ""),
    ("hpd_matrices", "HPDMatrices", (2,), ""),
    ("discrete_curves", "DiscreteCurvesStartingAtOrigin", (2, 5), ""),
    ("normal", "UnivariateNormalDistributions", (), ""),
    ("normal", "CenteredNormalDistributions", (2,), ""),
    ("normal", "DiagonalNormalDistributions", (2,), ""),
    ("normal", "GeneralNormalDistributions", (2,), ""),
    ("beta", "BetaDistributions", (), ""),
    ("dirichlet", "DirichletDistributions", (3,), ""),
    ("gamma", "GammaDistributions", (), ""),
    ("exponential", "ExponentialDistributions", (), ""),
    ("poisson", "PoissonDistributions", (), ""),
    ("geometric", "GeometricDistributions", (), ""),
    ("binomial", "BinomialDistributions", (5,), ""),
    ("categorical", "CategoricalDistributions", (2,), ""),
    ("multinomial", "MultinomialDistributions", (2, 5), ""),
    ("product_manifold", "S^2 x H^2", (), ""),
    ("product_manifold", "S^2 x SPD(2)", (), ""),
    ("nfold_manifold", "S^2 three times", (), ""),
    ("landmarks", "Landmarks in the plane", (), ""),
    ("pre_shape", "Kendall shapes of 4 in the plane", (), ""),
)
INFORMATION = {"normal", "beta", "dirichlet", "gamma", "exponential", "poisson", "geometric", "binomial"}
INFORMATION |= {"categorical", "multinomial"}


def load(module: str) -> Any:
    folder = "information_geometry" if module in INFORMATION else "geometry"
    return importlib.import_module(f"geomstats.{folder}.{module}")


def make(module: str, name: str, given: tuple[Any, ...], metric: str) -> Any:
    """geomstats' manifold of a row."""
    found = load(module)
    if hasattr(found, name):
        space = getattr(found, name)(*given)
        return space.equip_with_metric(getattr(found, metric)) if metric else space
    sphere = load("hypersphere").Hypersphere(2)
    if name == "S^2 x H^2":
        return found.ProductManifold([sphere, load("hyperboloid").Hyperboloid(2)])
    if name == "S^2 x SPD(2)":
        return found.ProductManifold([sphere, load("spd_matrices").SPDMatrices(2)])
    if name == "S^2 three times":
        return found.NFoldManifold(sphere, 3)
    if name == "Landmarks in the plane":
        return found.Landmarks(load("euclidean").Euclidean(2), 3)
    shapes = found.PreShapeSpace(4, 2)
    shapes.equip_with_group_action("rotations")
    return shapes.equip_with_quotient()


# -- what is asked -----------------------------------------------------------------------------------------------------


def worst(*pairs: tuple[Tensor, Tensor]) -> float:
    """Largest difference, relative to the largest number."""
    return max(float((a - b).abs().max() / (1 + b.abs().max())) for a, b in pairs)


def said(error: float) -> str:
    return f"{error:.0e}" if error < ENOUGH else f"**{error:.0e}**"


class Bench:
    """A space with points, tangent vectors, and a question for each column."""

    def __init__(self, row: tuple[str, str, tuple[Any, ...], str]) -> None:
        self.space: Manifold = from_geomstats(lambda: make(*row))
        self.theirs = self.space.theirs
        torch.set_default_dtype(torch.float64)  # for points drawn by geomstats itself; this process ends with the row
        torch.manual_seed(1)
        self.words: list[str] = []

    def dim(self) -> str:
        return f"{self.space.dim} in {self.space.ambient_dim}"

    def points(self) -> str:
        draw = torch.as_tensor(self.theirs.random_point(12)).reshape(2, 6, self.space.ambient_dim)
        self.x, self.y = draw.double()
        inside = self.space.contains(draw.double())
        v = self.space.random_tangent(self.x)
        self.v = 0.3 * v / self.space.norm(self.x, v)[:, None]
        basis = self.space.tangent_basis(self.x)
        gram = self.space.inner(self.x[:, None, None], basis.mT[:, :, None], basis.mT[:, None])
        off = worst((gram, torch.eye(self.space.dim).expand_as(gram)), (self.space.to_tangent(self.x, self.v), self.v))
        return "ok" if off < ENOUGH and inside.all() else f"**basis off by {off:.0e}, {int(inside.sum())}/12 inside**"

    def tangent(self, x: Tensor) -> Tensor:
        """A random tangent vector at points that need not pass the check."""
        return (self.space._tangent_basis(x) @ torch.randn(*x.shape[:-1], self.space.dim, 1))[..., 0]

    def project(self) -> str:
        space, near = self.space, self.x + 1e-3 * torch.randn_like(self.x)
        p = space.project(near)
        fine = worst((space.project(self.x), self.x), (space.project(p), p)) < ENOUGH and space.contains(p).all()
        return "ok" if fine else "**wrong**"

    def exp_log(self) -> str:
        space, began = self.space, time.process_time()
        y = space._exp(self.x, self.v)
        there = worst((space._log(self.x, y), self.v))
        self.ms = 1000 * (time.process_time() - began) / 6
        back = worst((space._exp(self.x, space._log(self.x, y)), y))
        h = 1e-3
        velocity = (space._exp(self.x, h * self.v) - space._exp(self.x, -h * self.v)) / (2 * h)
        off, inside = worst((velocity, self.v)), torch.as_tensor(self.theirs.belongs(space.as_matrix(y), atol=1e-5))
        return (
            said(max(there, back))
            + f", **velocity off by {off:.0e}**" * (off > 1e-3)
            + ", **leaves the space**" * (not bool(inside.all()))
        )

    def gradient(self) -> str:
        """Along exp and dist, against central differences; then at coincident points and at v = 0."""
        space, x, v = self.space, self.x[:2], self.v[:2]
        y = space._exp(x, v)
        u = self.tangent(y)

        def error(f: Callable[[Tensor], Tensor], at: Tensor, along: Tensor) -> float:
            at = at.detach().requires_grad_()
            (g,) = torch.autograd.grad(f(at).sum(), at)
            h = 1e-5
            difference = (f(at + h * along) - f(at - h * along)).detach().sum() / (2 * h)
            return float(((g * along).sum() - difference).abs() / (1 + difference.abs()))

        weights = torch.linspace(0.5, 1.5, x.shape[-1])
        off = max(
            error(lambda w: space._exp(x, w) * weights, v, self.tangent(x)),
            error(lambda t: space._dist(x, space._exp(y, t * u)), torch.zeros(2, 1), torch.ones(2, 1)),
        )
        if not off < 1e-4:
            return f"**off by {off:.0e}**"
        at_v, at_x = torch.zeros_like(v).requires_grad_(), x.clone().requires_grad_()
        (still,) = torch.autograd.grad((space._exp(x, at_v) * weights).sum(), at_v)
        (same,) = torch.autograd.grad(space._dist(at_x, x).sum() + space._squared_dist(at_x, x).sum(), at_x)
        bad = [w for w, g in (("v = 0", still), ("x = y", same)) if not g.isfinite().all()]
        return f"ok, **NaN at {', '.join(bad)}**" if bad else "ok"

    def vmap(self) -> str:
        space, out = self.space, []
        y = space._exp(self.x, self.v)
        for name, f, given in (("exp", space.exp, (self.x, self.v)), ("log", space.log, (self.x, y))):
            try:
                out += [] if worst((torch.vmap(f)(*given), f(*given))) < ENOUGH else [f"{name} wrong"]
            except Exception:  # whatever it is, the word is no
                out.append(name)
        return "ok" if not out else f"no ({', '.join(out)})"

    def batches(self) -> str:
        """A table of x against y, single points, and nothing at all, against a loop."""
        space, x, v = self.space, self.x, self.v
        y = space._exp(x, v)
        loop = torch.stack([space._log(x[i], y[j]) for i in range(3) for j in range(2)]).unflatten(0, (3, 2))
        off = worst((space._log(x[:3, None], y[None, :2]), loop), (space._exp(x[0], v[0]), y[0]))
        return "ok" if off < ENOUGH and space.exp(x[:0], v[:0]).shape == x[:0].shape else f"**off by {off:.0e}**"

    def transport(self) -> str:
        space, x, y = self.space, self.x, self.space._exp(self.x, self.v)
        try:
            moved, how = space._ask("transport", "parallel_transport", self.v, x, end_point=y), ""
        except NotImplementedError:
            moved, how = space._transport(x, y, self.v), "ladder, "
        return how + said(worst((moved, -space._log(y, x)), (space.norm(y, moved), space.norm(x, self.v))))

    def uniform(self) -> str:
        """Shares of balls of one radius about several centres: all the same under an invariant distribution."""
        if not hasattr(self.theirs, "random_uniform"):
            return "none"
        if self.theirs.intrinsic:
            return "not tried"
        n = 20_000
        x = torch.as_tensor(self.theirs.random_uniform(n)).reshape(n, -1)
        # Distances in the embedding are as invariant, and cheap. The other centres are more even than a biased draw.
        c = torch.cat([x[:1], self.space.project(torch.randn(5, x.shape[1]))])
        d = torch.cdist(c, x)
        inside = (d < d[0].median()).double().mean(1)
        off = float((inside - 0.5).abs().max()) / math.sqrt(0.5 / n)
        return "ok" if off < 4.5 else f"**biased** ({off:.0f} sigma)"

    def word(self) -> str:
        """Slowness, a wrong radius, and the first thing that broke."""
        words = [f"{self.ms:.0f} ms a point"] if getattr(self, "ms", 0) > 5 else []
        words += self.words[:1]
        try:
            r = float(self.theirs.metric.injectivity_radius())
        except Exception:  # unknown, or another at each point
            r = math.nan
        if math.isfinite(r) and hasattr(self, "v"):
            u = self.v / self.space.norm(self.x, self.v)[:, None]
            d = self.space._dist(self.x, self.space._exp(self.x, 0.95 * r * u))
            if not worst((d, torch.full_like(d, 0.95 * r))) < 1e-4:
                words.append(f"its injectivity radius, {r:.3g}, is too large")
        return ", ".join(words)


def ask(row: tuple[str, str, tuple[Any, ...], str], out: Connection) -> None:
    """Send the cells of a row one by one, so that those before a halt are kept."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        bench = Bench(row)
    except Exception as error:  # the table says what a user would see
        out.send(("", f"refused: {' '.join(str(error).split())[:110]}"))
        return
    for column in (*COLUMNS, "word"):
        try:
            cell = getattr(bench, column.replace(", ", "_"))()
        except NotImplementedError as error:
            cell = "none"
            if column == "points":
                bench.words.append(str(error).split(": ")[0].removeprefix(f"{bench.space!r} "))
        except Exception as error:
            cell = f"**{type(error).__name__}**"
            text = " ".join(str(error).split()).replace(f"{bench.space!r}: ", "").replace(f"{bench.space!r}.", "")
            bench.words.append(f"{column}: {text if len(text) < 90 else text[:87] + '...'}")
        out.send((column, cell))
        if column == "points" and cell != "ok" and not hasattr(bench, "v"):
            out.send(("word", bench.word()))
            break


def line(row: tuple[str, str, tuple[Any, ...], str]) -> str:
    """One row of the table."""
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=ask, args=(row, theirs))
    process.start()
    theirs.close()
    cells: dict[str, str] = {}
    end, halted = time.monotonic() + LIMIT, False
    while True:
        if not ours.poll(max(0.0, end - time.monotonic())):
            halted = True
            break
        try:
            column, cell = ours.recv()
        except EOFError:
            break
        cells[column] = cell
    process.terminate()
    process.join()
    _, name, given, metric = row
    name += f"({', '.join(map(str, given))})" * (" " not in name) + f", {metric}" * bool(metric)
    words = (
        cells[""]
        if "" in cells
        else ", ".join(w for w in (cells.get("word", ""), f"stopped after {LIMIT:.0f} s" * halted) if w)
    )
    return f"| {' | '.join([name, *(cells.get(c, '–') for c in COLUMNS), words])} |"


def table() -> Iterator[str]:
    yield f"| manifold | {' | '.join(COLUMNS)} | |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    wanted = sys.argv[1:]
    for row in ROWS:
        if not wanted or any(w in " ".join(map(str, row)) for w in wanted):
            yield line(row)


def main() -> None:
    torch.set_num_threads(1)
    from_geomstats(lambda: make(*ROWS[0]))  # loads geomstats once, for all processes that are forked from here
    import geomstats

    lines = []
    for text in table():
        lines.append(text)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    if sys.argv[1:]:
        return
    parts = [
        "# geomstats' manifolds through `from_geomstats`\n",
        f"Made by `nox -s reproduce -- geomstats` on {time.strftime('%Y-%m-%d')}, geomstats {geomstats.__version__}, "
        f"torch {torch.__version__}, float64.\n",
        "Six random points and tangent vectors of length 0.3 at them. *points*: geomstats' own random points belong, and "
        "the tangent basis is orthonormal in the metric. *project*: nearby points land on the space, points on it stay. "
        "*exp, log*: worst relative error of either undoing the other. *gradient*: through exp and dist as differences "
        "say, and finite at x = y and v = 0. *vmap*: which of exp and log `torch.vmap` cannot take. *batches*: tables, "
        "single points and none agree with a loop. *transport*: error of carrying a velocity; by the pole ladder where "
        "geomstats has none. *uniform*: what `random_uniform` draws is as invariant as it should be. Errors above 1e-6, "
        "and what fails, in bold; – was not reached.\n",
        *lines,
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "geomstats.md").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
