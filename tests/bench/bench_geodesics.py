"""1,000 geodesics among 10,000 points in dimension 16, split into stages, beside the same graph solved by networkx."""

import resource
import time
import warnings

import networkx as nx
import torch

from geoflow import Density, GaussianMixture, fit
from geoflow.distances import FermatSpace, nearest
from geoflow.distances.graph import build as graph
from geoflow.distances.paths.geodesics import PATHS, from_walks, jittered_line, solve_block
from geoflow.flows import realnvp
from tests.bench.timing import write

DIM, POINTS, PAIRS, NETWORKX_SOURCES = 16, 10_000, 1_000, 10


def target() -> GaussianMixture:
    """Ten Gaussians with random means and covariances, the stand-in for a table with groups."""
    g = torch.Generator().manual_seed(0)
    factors = torch.randn(10, DIM, DIM, generator=g) / DIM**0.5
    covariances = factors @ factors.mT + 0.1 * torch.eye(DIM)
    return GaussianMixture.of(torch.ones(10) / 10, 2 * torch.randn(10, DIM, generator=g), covariances)


def stages(density: Density, points: torch.Tensor) -> tuple[dict[str, float], str]:
    """Seconds of each stage, and a sentence on the outcome."""
    space = FermatSpace(density, points=points, neighbors=15, reference="mean")
    weight, seconds = space._need_density("bench"), {}
    x, y = points[:PAIRS], points[PAIRS : 2 * PAIRS]

    start = time.perf_counter()
    nearest(points, None, 15)
    seconds["neighbours"] = time.perf_counter() - start

    start = time.perf_counter()
    space._graph = graph.build(weight, points, 15)
    seconds["edges"] = time.perf_counter() - start - seconds["neighbours"]

    start = time.perf_counter()
    graph_log, walks = space._walk(x, y)
    seconds["paths"] = time.perf_counter() - start

    start, lengths, converged = time.perf_counter(), [], []
    for i in range(0, PAIRS, PATHS):
        block = slice(i, i + PATHS)
        starts = {
            "graph": from_walks(space.space, walks[block], space.nodes),
            "line": jittered_line(space.space, x[block], y[block], space.nodes),
        }
        found, _ = solve_block(weight, starts, extrapolate=True)
        lengths.append(found.log_length)
        converged.append(found.converged)
    seconds["relaxation"] = time.perf_counter() - start

    exported = space.graph()
    node = space._graph.node_of.tolist()
    start = time.perf_counter()
    for i in range(NETWORKX_SOURCES):
        nx.single_source_dijkstra_path_length(exported, node[i])
    seconds["networkx"] = (time.perf_counter() - start) * PAIRS / NETWORKX_SOURCES
    shorter = (torch.cat(lengths) - graph_log).exp().mean()
    told = f"{float(torch.cat(converged).double().mean()):.1%} converged, relaxed / graph length {float(shorter):.3f} on average"
    return seconds, told


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    mixture = target()
    points = mixture.sample(POINTS)
    flow = realnvp(DIM, activation="silu")
    fit(flow, points, seed=0, progress=False)
    lines = [
        "| density | neighbours, s | edges, s | paths (scipy), s | relaxation, s | paths by networkx, s "
        "| networkx / scipy | outcome |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, density in (("mixture of 10 Gaussians", mixture), ("realnvp fitted to the points", flow)):
            s, told = stages(density, points)
            lines.append(
                f"| {name} | {s['neighbours']:.2f} | {s['edges']:.2f} | {s['paths']:.2f} | {s['relaxation']:.2f} "
                f"| {s['networkx']:.0f} | **{s['networkx'] / s['paths']:.0f}** | {told} |"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    body = (
        f"{PAIRS} pairs of points, one source each; every pair is relaxed from the graph's path and from a line, on 32 and "
        f"then 64 segments; float32, two threads. networkx solves {NETWORKX_SOURCES} of the sources, scaled up. Peak memory "
        f"of the whole process (torch, training and networkx's copy of the graph included): {peak:.2f} GiB.\n\n"
    )
    write("geodesics.md", "Geodesics at the size of a table", "nox -s bench -- geodesics", body + "\n".join(lines))


if __name__ == "__main__":
    main()
