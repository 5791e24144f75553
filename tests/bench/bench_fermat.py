"""Fermat distances: graph and sources, relaxed geodesics, memory, and cost against sizes; beside other libraries."""

import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import networkx as nx
import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import linregress
from sklearn.neighbors import kneighbors_graph

from geoflow import StandardNormal
from geoflow.distances import FermatSpace
from tests.bench.geodesic_peers import Solver, by_collocation, by_geomstats, by_stochman
from tests.bench.timing import high_water, interleaved, ratio, write

K, SOURCES = 15, 100
BATCHES = (1, 32, 512)
CHECKED = 32
"""Pairs whose lengths are compared with those on 128 and 256 segments."""

Run = Callable[[], object]


def cloud(n: int, dim: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(n + dim), dtype=dtype)


def fermat_space(points: torch.Tensor, k: int = K) -> FermatSpace:
    return FermatSpace(StandardNormal(points.shape[1]).to(points.dtype), points=points, neighbors=k, reference="mean")


# -- graph and sources -------------------------------------------------------------------------------------------------


def through_networkx(points: torch.Tensor, sources: int) -> dict[int, dict[int, float]]:
    """The same neighbour graph with edges weighted at their ends, all at once, and Dijkstra's algorithm in networkx."""
    near = kneighbors_graph(points.numpy(), K, mode="distance").tocoo()
    log_weight = (points.square().sum(1) / (2 * points.shape[1])).numpy()
    near.data *= np.exp((log_weight[near.row] + log_weight[near.col]) / 2)
    graph = nx.from_scipy_sparse_array(near.maximum(near.T))
    return {i: nx.single_source_dijkstra_path_length(graph, i) for i in range(sources)}


def through_fermat(points: torch.Tensor, method: str) -> object:
    """The package of the sample-only estimate: "D" from all points, "L" from 100 landmarks; both from all distances."""
    from fermat import Fermat

    model = Fermat(alpha=2, path_method=method, k=K, landmarks=SOURCES, seed=0)
    return model.fit(cdist(points.numpy(), points.numpy()))


def sources(n: int, dim: int) -> str:
    """A line of the table: seconds for the graph and its sources, and what the others take over that."""
    points, part = cloud(n, dim), 10
    runs: dict[str, Run] = {
        "geoflow": lambda: fermat_space(points).pairwise(points[:SOURCES]),
        "networkx": lambda: through_networkx(points, part),
        "networkx, one": lambda: through_networkx(points, 1),
    }
    if n <= 2000:
        tries = {method: offered(lambda method=method: through_fermat(points, method)) for method in ("L", "D")}
        runs |= {method: run for method, run in tries.items() if run}
    seconds = interleaved(runs, rounds=5, warmup=0, budget=45.0)
    ten, one, own = seconds["networkx"], seconds.pop("networkx, one"), seconds.pop("geoflow")
    seconds["networkx"] = [b + (a - b) / (part - 1) * (SOURCES - 1) for a, b in zip(ten, one, strict=True)]
    others = ("networkx", "L", "D")
    cells = ["**{:.0f}** [{:.0f}, {:.0f}]".format(*ratio(seconds[p], own)) if p in seconds else "" for p in others]
    line = f"| {n:,} | {dim} | {statistics.median(own):.2f} | {' | '.join(cells)} |"
    sys.stderr.write(line + "\n")
    return line


def offered(run: Run) -> Run | None:
    """None where the library is not installed."""
    try:
        run()
    except ModuleNotFoundError:
        return None
    return run


# -- relaxed geodesics -------------------------------------------------------------------------------------------------


def contestants(dim: int) -> dict[str, Solver]:
    makes: dict[str, Callable[[], Solver]] = {
        "solve_bvp": by_collocation,
        "solve_bvp, its Jacobian given": lambda: by_collocation(closed=True),
        "geomstats": lambda: by_geomstats(dim),
        "stochman": lambda: by_stochman(dim),
    }
    found = {}
    for name, make in makes.items():
        try:
            found[name] = make()
        except ModuleNotFoundError:
            continue
    return found


def geodesics(dim: int) -> list[str]:
    """Lines of the table for one dimension: each solver's error and its time a path over ours in each batch."""
    x, y = cloud(2000, dim, torch.float64).split(1000)
    density = StandardNormal(dim).double()
    few = 8 if dim < 64 else 2
    true = FermatSpace(density, nodes=128).solve(x[:CHECKED], y[:CHECKED], tol=1e-10).length
    space = FermatSpace(density, nodes=16)
    error = float((space.solve(x[:CHECKED], y[:CHECKED]).length / true - 1).abs().max())
    lone, runs = contestants(dim), {}
    off = {
        name: max(abs(one(a, b) / float(t) - 1) for a, b, t in few_of(x, y, true, few)) for name, one in lone.items()
    }
    for name, one in lone.items():
        runs[name] = lambda one=one: [one(a, b) for a, b, _ in few_of(x, y, true, few)]
    for batch in BATCHES:
        runs[f"ours {batch}"] = lambda batch=batch: space.solve(x[:batch], y[:batch])
    runs["ours 1000"] = lambda: space.solve(x, y)
    seconds = interleaved(runs, rounds=7, warmup=1, budget=60.0)
    own = {batch: [s / batch for s in seconds[f"ours {batch}"]] for batch in (*BATCHES, 1000)}
    shown = " | ".join(f"{1e3 * statistics.median(own[b]):.2f}" for b in own)
    lines = [f"| {dim} | geoflow | {error:.0e} | {shown} (ms a path) |"]
    for name in lone:
        each = [s / few for s in seconds[name]]
        cells = ["**{:.0f}** [{:.0f}, {:.0f}]".format(*ratio(each, own[b])) for b in own]
        lines.append(
            f"| {dim} | {name}, {1e3 * statistics.median(each):.0f} ms | {off[name]:.0e} | {' | '.join(cells)} |"
        )
    sys.stderr.write("\n".join(lines) + "\n")
    return lines


def few_of(
    x: torch.Tensor, y: torch.Tensor, true: torch.Tensor, count: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    return [(a.numpy(), b.numpy(), float(t)) for a, b, t in zip(x[:count], y[:count], true[:count], strict=True)]


# -- memory and slopes -------------------------------------------------------------------------------------------------


def peak(dim: int) -> tuple[float, float]:
    """Mebibytes at the most, and before the graph was built, of a process that asks 10 sources among 100,000 points."""
    torch.set_num_threads(1)
    space = fermat_space(cloud(100_000, dim), 20)
    before = high_water()
    space.pairwise(space.points[:10])
    return high_water(), before


def memory() -> list[str]:
    lines = ["| dim | peak, GiB | before the graph, GiB |", "|---|---|---|"]
    for dim in (2, 16, 64):
        code = f"from tests.bench.bench_fermat import peak; print(*peak({dim}))"
        run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        most, before = (float(v) / 1024 for v in run.stdout.splitlines()[-1].split())
        lines.append(f"| {dim} | **{most:.2f}** | {before:.2f} |")
    return lines


def slope(what: str, sizes: tuple[int, ...], make: Callable[[int], Run]) -> str:
    """A line of the table of log-log slopes: medians of five rounds, fitted by least squares."""
    seconds = interleaved({str(s): make(s) for s in sizes}, rounds=5, budget=25.0)
    medians = [statistics.median(seconds[str(s)]) for s in sizes]
    fit = linregress(np.log(sizes), np.log(medians))
    times = ", ".join(f"{1e3 * m:.0f}" for m in medians)
    return f"| {what} | {', '.join(f'{s:,}' for s in sizes)} | {times} | **{fit.slope:.2f} ± {fit.stderr:.2f}** |"


def slopes() -> list[str]:
    ends = {dim: cloud(512, dim, torch.float64).split(256) for dim in (2, 4, 8, 10, 16, 32, 64)}

    def relaxed(dim: int, nodes: int) -> Run:
        space = FermatSpace(StandardNormal(dim).double(), nodes=nodes)
        return lambda: space.solve(*ends[dim])

    def sourced(n: int, dim: int, k: int) -> Run:
        points = cloud(n, dim)
        return lambda: fermat_space(points, k).pairwise(points[:10])

    return [
        "| what | sizes | ms | slope |",
        "|---|---|---|---|",
        slope(
            "graph and 10 sources in dim 2, against n", (2000, 4000, 8000, 16_000, 32_000), lambda n: sourced(n, 2, K)
        ),
        slope("graph and 10 sources in dim 16, against n", (2000, 4000, 8000, 16_000), lambda n: sourced(n, 16, K)),
        slope("graph of 8,000 and 10 sources in dim 2, against k", (8, 16, 32, 64), lambda k: sourced(8000, 2, k)),
        slope("256 geodesics, against dim", (4, 8, 16, 32, 64), lambda dim: relaxed(dim, 32)),
        slope("256 geodesics in dim 10, against nodes", (16, 32, 64, 128), lambda nodes: relaxed(10, nodes)),
    ]


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    parts = [
        f"Points and densities are standard normals, power 1/dim; one thread. Above 1: geoflow is faster.\n\n## Graph of {K} "
        f"neighbours and {SOURCES} sources\n",
        "Neighbours, weights and shortest paths from scratch. networkx gets scikit-learn's neighbours and weights computed at "
        "once; it solves 10 of the sources, the rest scaled up. `fermat` (the sample-only estimate) gets all "
        "distances, which it needs; it asks 100 landmarks, or all points, there being no other way to ask it.\n",
        "| points | dim | geoflow, s | networkx / ours | fermat, landmarks / ours | fermat, all / ours |",
        "|---" * 6 + "|",
        *(sources(n, 10) for n in (2000, 10_000)),
        "\n## Relaxed geodesics\n",
        "geoflow: 16 and then 32 segments, float64, score by autograd. Lone solvers at their defaults (`solve_bvp` at "
        "tol 1e-3), from a line. Error: the largest of the relative ones of lengths, against 128 and 256 segments. "
        "Ratios are times a path.\n",
        f"| dim | solver | error | {' | '.join(f'in batches of {b}' for b in (*BATCHES, 1000))} |",
        "|---" * (4 + len(BATCHES)) + "|",
        *(line for dim in (2, 10, 64) for line in geodesics(dim)),
        "\n## Memory: graph of 20 neighbours of 100,000 points and 10 sources\n",
        "Each in a process of its own, torch included.\n",
        *memory(),
        "\n## Cost against sizes\n",
        *slopes(),
    ]
    seconds = time.perf_counter() - begin
    write("fermat.md", "Fermat distances beside their peers", "nox -s bench -- fermat", "\n".join(parts))
    sys.stderr.write(f"{math.ceil(seconds)} s in all\n")


if __name__ == "__main__":
    main()
