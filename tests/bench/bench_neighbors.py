"""Nearest neighbours by `nearest` and its engines, beside scikit-learn, SciPy and faiss: 17 for each query, one thread."""

import os
import statistics
import sys
import warnings
from collections.abc import Callable

import faiss
import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from geoflow.distances import nearest
from geoflow.distances.neighbors.nearest import choose
from tests.bench.timing import interleaved, ratio, write

SIZES = tuple(int(n) for n in os.environ.get("BENCH_SIZES", "10000,100000").split(","))
DIMS, K = (2, 16, 64), 17
QUERIES = 4096
"""Queries among 10⁵ points from 16 dimensions on; elsewhere every point asks."""
TREE_SHARE = 32
"""From 16 dimensions on a tree, planted beforehand, answers one query in this many, scaled up."""

Run = Callable[[], np.ndarray]


def contestants(x: torch.Tensor, q: torch.Tensor) -> dict[str, Run]:
    """What gives the sorted distances from each query to its neighbours, building what it builds on the way."""
    a, b = q.numpy(), x.numpy()

    def flat() -> np.ndarray:
        index = faiss.IndexFlatL2(b.shape[1])
        index.add(b)
        return np.sqrt(index.search(a, K)[0])

    runs: dict[str, Run] = {name: (lambda name=name: nearest(x, q, K, name)[0].numpy()) for name in OURS}
    runs["scikit-learn auto"] = lambda: NearestNeighbors(n_neighbors=K).fit(b).kneighbors(a)[0]
    runs["faiss Flat"] = flat
    if x.shape[1] < 16:
        runs["SciPy cKDTree"] = lambda: cKDTree(b).query(a, k=K)[0]
    else:
        del runs["kdtree"]
        tree, few = cKDTree(b), a[::TREE_SHARE]
        runs["SciPy cKDTree"] = lambda: tree.query(few, k=K)[0]
    return runs


OURS = ("auto", "torch", "kdtree", "faiss")
OTHERS = ("torch", "kdtree", "faiss", "SciPy cKDTree", "scikit-learn auto", "faiss Flat")


def row(n: int, dim: int) -> str:
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(dim))
    q = x[:QUERIES] if n > 10_000 and dim >= 16 else x
    runs = contestants(x, q)
    told = {name: run() for name, run in runs.items()}
    for name, distance in told.items():
        expected = told["auto"][:: 1 if len(distance) == len(q) else TREE_SHARE]
        off = np.abs(
            distance[:, 1:] ** 2 - expected[:, 1:] ** 2
        ).max()  # squared, of what faiss rounds them to in float32
        assert off < 1e-6 * float(x.square().sum(1).max()), f"{name} gives other distances"
    seconds = interleaved(runs, rounds=9, warmup=0, budget=60.0)
    share = len(q) / len(told["SciPy cKDTree"])
    seconds["SciPy cKDTree"] = [s * share for s in seconds["SciPy cKDTree"]]
    own = seconds.pop("auto")
    ratios = {name: ratio(each, own) for name, each in seconds.items()}
    shown = ["{:.2f} [{:.2f}, {:.2f}]".format(*ratios[name]) if name in ratios else "" for name in OTHERS]
    best = min(ratios, key=lambda name: ratios[name][0])
    line = (
        f"| {n:,} | {dim} | {len(q):,} | {choose(n, len(q), dim, 'cpu')} | {1e3 * statistics.median(own):.0f} | "
        f"{' | '.join(shown)} | **{1 / ratios[best][0]:.2f}** ({best}) |"
    )
    sys.stderr.write(line + "\n")
    return line


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = [
        f"| n | dim | queries | auto takes | auto, ms | {' | '.join(f'{name} / auto' for name in OTHERS)} | auto / best |",
        "|---" * (6 + len(OTHERS)) + "|",
        *(row(n, dim) for n in SIZES for dim in DIMS),
    ]
    body = (
        f"The {K} nearest of n standard normal points (float32) to some of them, index or tree built anew each time; one "
        'thread. Above 1: `nearest(engine="auto")` is faster. All contestants are exact and were found to give the same '
        "distances. The first three ratios are of `nearest` with that engine. From 16 dimensions on SciPy's tree, which "
        f"`kdtree` is too, is planted beforehand and answers one query in {TREE_SHARE}, scaled up.\n\n"
    )
    write("neighbors.md", "Nearest neighbours beside their peers", "nox -s bench -- neighbors", body + "\n".join(lines))


if __name__ == "__main__":
    main()
