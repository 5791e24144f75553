"""Fermat distances in models' own spaces: under a free-form flow on the sphere, and among the codes of an auto-encoder.

Floods of the Dartmouth archive, from the folder that GEOFLOW_DATA names, and scikit-learn's digits.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from geoflow import FermatSpace, GaussianMixture, LatentSpace, datasets, fit, load, save
from geoflow.distributions import Mixture
from geoflow.freeform import mfff, mlae
from manifolds import Sphere
from tests.reproduce.renewed import needs_data, renew

SEEDS, PAIRS = (0, 1, 2), 64
COLUMNS = (
    *("space", "seed", "converged", "relaxed ≤ graph", "relaxed / graph, median [range]", "relaxed / straight line"),
    *("iterations", "saved and loaded: off by", "CPU seconds: training + paths"),
)
Made = tuple[FermatSpace | LatentSpace, FermatSpace, Tensor, Tensor]


def sphere(seed: int) -> Made:
    """Under a free-form flow on S², pairs of held-out places."""
    places = datasets.earth("flood").x.float()
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    held_out, train = places[order[: len(places) // 5]], places[order[len(places) // 5 :]]
    torch.manual_seed(seed)
    base = Mixture.from_data(train, components=5, bounds=(1e-3, 500.0), seed=seed).requires_grad_(False)
    flow = mfff(Sphere(2), base=base, width=64, blocks=2, beta=300.0)
    fit(flow, train, epochs=24, lr=5e-3, seed=seed, progress=False)
    points = Sphere(2).project(train[:1000].double())
    space = FermatSpace(flow.double(), points, reference="mean", neighbors=20)
    ends = Sphere(2).project(held_out[: 2 * PAIRS].double())
    return space, space, ends[:PAIRS], ends[PAIRS:]


def codes(seed: int) -> Made:
    """Among eight codes of a maximum likelihood auto-encoder of digits, under its normal density; held-out images."""
    data = datasets.digits(seed=seed)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    held_out, train = data.x[order[:360]], data.x[order[360:]]
    torch.manual_seed(seed)
    model = mlae(64, 8, width=64, beta=10.0, noise=0.1)
    fit(model, train, epochs=30, lr=3e-3, seed=seed, progress=False)
    model = model.double()
    with torch.no_grad():
        points = model.autoencoder.encode(train.double())
    mixture = GaussianMixture.from_data(points, components=10, seed=seed)
    inner = FermatSpace(mixture, points, reference="mean", neighbors=20)
    ends = held_out[: 2 * PAIRS].double()
    return LatentSpace(model.autoencoder, inner), inner, ends[:PAIRS], ends[PAIRS:]


CASES = {"free-form flow on S²": sphere, "codes of an MLAE": codes}


def saved_and_loaded(space: FermatSpace | LatentSpace, x: Tensor, y: Tensor) -> float:
    """The largest relative difference of distances."""
    with tempfile.TemporaryDirectory() as folder:
        save(space, Path(folder) / "space.safetensors")
        again = load(Path(folder) / "space.safetensors")
    return float((again.dist(x, y) / space.dist(x, y) - 1).abs().max())


def make(name: str) -> list[str]:
    lines = []
    for seed in SEEDS:
        start = time.process_time()
        space, inner, x, y = CASES[name](seed)
        trained = time.process_time() - start
        found = space.solve(x, y)
        assert found.graph_length is not None
        ratio = found.length / found.graph_length
        a, b = (x, y) if space is inner else (space.encode(x), space.encode(y))
        line = inner.dist(a, b, "line")
        difference = saved_and_loaded(space, x[:16], y[:16])
        lines.append(
            f"| {name} | {seed} | {float(found.converged.double().mean()):.1%} | {float((ratio <= 1 + 1e-9).double().mean()):.0%}"
            f" | {float(ratio.median()):.3f} [{float(ratio.min()):.3f}, {float(ratio.max()):.4f}] "
            f"| {float((found.length / line).median()):.3f} | {float(found.iterations.double().median()):.0f} "
            f"| {difference:.0e} | {trained:.0f} + {time.process_time() - start - trained:.0f} |"
        )
    return lines


def written(lines: dict[str, list[str]]) -> str:
    head = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"
    rows = "\n".join(line for name in CASES for line in lines[name])
    return f"""# Fermat distances in the spaces of models

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- fermat_models` on {time.strftime("%Y-%m-%d")}, one thread, float64.

{PAIRS} pairs of held-out rows a seed, which sets the split, the training and the networks. Flow on the sphere: floods, five
von Mises-Fisher components carried by a free-form flow; codes: digits through a maximum likelihood auto-encoder with eight
codes, whose density is a mixture of ten Gaussians. Power 1 / dimension, 20 neighbours, defaults else. Asked: 95 % of the
paths converged, none longer than the graph's, distances of a space from a file the same to rounding. Edges of the graph
are measured at three places each, so its length has an error too; whether that is why a way exceeds it was not looked into.

{head}
{rows}
"""


if __name__ == "__main__":
    if not sys.argv[1:] or "free-form flow on S²" in sys.argv[1:]:
        needs_data()
    renew("fermat_models.md", CASES, make, written)
