"""The main job on real tables, through the command line: fit, check, dist; then neighbours under both distances.

Reads the data sets from the folder that GEOFLOW_DATA names. Rows of a table on the grid of its instrument are
dequantised first, with noise of one step, for no density exists on a grid.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from geoflow import FermatSpace, datasets, describe, load
from geoflow.cli.split import held_out
from geoflow.density import log_prob_in_blocks
from manifolds import Euclidean

RESULTS = Path(__file__).parent / "results"
NAMES = ("pendigits", "shuttle", "protein", "elevators", "power", "mnist")
PATHS, CARRIERS, QUERIES, K = 100, 5_000, 300, 5


def on_a_grid(column: np.ndarray) -> float:
    """The step of the grid that a column lives on, 0 if it is continuous: many copies of few values."""
    values = np.unique(column)
    return float(np.diff(values).min()) if 1 < len(values) < 0.2 * len(column) else 0.0


def dequantised(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Noise of one step on each column that lives on a grid."""
    steps = np.array([on_a_grid(c) for c in x.T])
    return x + np.random.default_rng(seed).random(x.shape) * steps


def table(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows ``(n, d)`` and labels, distinct rows only."""
    if name in ("pendigits", "shuttle"):
        found = datasets.adbench(name)
    elif name in ("protein", "elevators"):
        found = datasets.uci_regression(name)
    elif name == "power":
        found = datasets.power_subset()
    else:
        return mnist()
    x = np.asarray(found.x, dtype=np.float64)
    labels = None if found.labels is None else np.asarray(found.labels)
    _, first = np.unique(x, axis=0, return_index=True)
    x, labels = x[np.sort(first)], None if labels is None else labels[np.sort(first)]
    return dequantised(x[:, np.ptp(x, axis=0) > 0]), labels


def mnist() -> tuple[np.ndarray, np.ndarray | None]:
    """The first 32 principal scores of MNIST's images, dequantised: that is the data set here."""
    found = datasets.mnist()
    return PCA(32, svd_solver="randomized", random_state=0).fit_transform(found.x.numpy()).astype(
        np.float64
    ), found.labels.numpy()


def command(*words: str) -> tuple[dict, float]:
    """One geoflow command with --json: its result and the seconds of the whole process."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "geoflow.cli", *words, "--json", "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"geoflow {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout), time.perf_counter() - start


def accuracies(
    model: torch.nn.Module, x: torch.Tensor, labels: np.ndarray, held: np.ndarray, scale: list[float]
) -> str:
    """Accuracy of k nearest neighbours for held-out rows under straight and Fermat distance, same carriers and queries."""
    g = np.random.default_rng(0)
    carriers = g.choice(np.flatnonzero(~held), CARRIERS, replace=False)
    queries = g.choice(np.flatnonzero(held), QUERIES, replace=False)
    flat = Euclidean(x.shape[1], scale=scale)
    space = FermatSpace(model, x[carriers], space=flat, reference="mean")
    near = torch.cdist(flat._units(x[queries]), flat._units(x[carriers])).topk(K, largest=False).indices
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, fermat = space.knn(x[queries], K, "relax", candidates=4 * K)

    def share(index: torch.Tensor) -> float:
        votes = torch.as_tensor(labels[carriers])[index].mode(1).values
        return float((votes == torch.as_tensor(labels[queries])).double().mean())

    return f"{share(near):.3f} / {share(fermat):.3f}"


def row(name: str, folder: Path, log: Callable[[str], object]) -> str:
    x, labels = table(name)
    file, model_file = str(folder / f"{name}.npy"), str(folder / f"{name}.safetensors")
    np.save(file, x)
    log(f"{name}: {x.shape}\n")
    _, fit_s = command("fit", file, "--out", model_file, "--seed", "0")
    found, check_s = command("check", model_file, file)
    line = next(entry for entry in found["lines"] if entry["name"] == "held-out log p")
    simple = {k: v for k, v in line["details"].items() if k.startswith("a ")}
    gaussian = simple["a Gaussian"]
    mixture = next(v for k, v in simple.items() if "mixture" in k)
    bad = [entry["name"] for entry in found["lines"] if entry["verdict"] == "bad"]
    paths, dist_s = command(
        "dist", model_file, file, "--random", str(PATHS), "--points", str(CARRIERS), "--dtype", "float32"
    )

    model, notes = load(model_file), describe(model_file)
    held = held_out(len(x), notes["split"]["fraction"], notes["split"]["seed"])
    rows = torch.as_tensor(x, dtype=torch.float32)
    told = "–"
    if name in ("pendigits", "shuttle"):
        surprise = -log_prob_in_blocks(model, rows[torch.as_tensor(held)])
        told = f"AUC of −log p {roc_auc_score(labels[held], surprise.numpy()):.3f}"  # type: ignore[index]
    elif name == "mnist":
        told = accuracies(model, rows, labels, held, notes["scale"])  # type: ignore[arg-type]
    log(f"  {line['figure']:.3f} against {gaussian:.3f}, {mixture:.3f}; {told}\n")
    return (
        f"| {name} | {len(x)} | {x.shape[1]} | {fit_s:.0f} + {check_s:.0f} + {dist_s:.0f} "
        f"| **{line['figure']:.3f}** ± {line['error']:.3f} | {gaussian:.3f} | {mixture:.3f} | {told} "
        f"| {paths['converged']:.2f} | {', '.join(bad) or 'none'} |"
    )


def main() -> None:
    if not os.environ.get("GEOFLOW_DATA"):
        sys.exit("set GEOFLOW_DATA to the folder of the data sets (see geoflow.datasets)")
    torch.set_num_threads(1)
    head = [
        "| data | rows | dim | seconds: fit + check + dist | test log p, nats a row | Gaussian | mixture | labels | converged "
        "| lines of check that are bad |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    path = RESULTS / "main_job.md"
    known = path.read_text().splitlines() if path.exists() else []
    rows = {name: line for name in NAMES for line in known if line.startswith(f"| {name} |")}
    text = f"""# The main job on real tables

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- main_job` on {time.strftime("%Y-%m-%d")}, one thread. Row by row the same is
`GEOFLOW_DATA=<folder> python -m tests.reproduce.run_main_job <name> ...`, which renews the rows of those names.

Each row is `geoflow fit`, `check` and `dist` with their defaults (RealNVP, 8 couplings, on a mixture base by BIC; a
fifth of the rows held out by seed), seconds of whole processes. Test log p, the Gaussian and the mixture (components
by BIC on the training rows) are on the same held-out rows, in nats per row of the table as prepared: exact duplicates
dropped, columns on a grid (fewer distinct values than a fifth of the rows) dequantised by noise of one step, constant
columns dropped; MNIST is its first 32 principal scores after dequantisation, so its figures compare with nothing
published. POWER is one month whose neighbouring minutes are alike: its held-out rows are not independent of the
training rows. "labels": ADBench's are anomalies, so the area under the curve of −log p on held-out rows, anomalies
being part of the training rows as well; MNIST's are digits, so the accuracy of {K} nearest neighbours for {QUERIES}
held-out rows among {CARRIERS} training rows, Euclidean (standardised) / Fermat (relaxed, among the {4 * K} nearest).
"converged" is the share of {PATHS} random geodesics, in float32 with {CARRIERS} rows in the graph, whose relaxation met
its stopping rule.

"""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or NAMES:
            rows[name] = row(name, Path(folder), sys.stderr.write)
            path.write_text(text + "\n".join([*head, *(rows[n] for n in NAMES if n in rows)]) + "\n")
    sys.stdout.write(path.read_text())


if __name__ == "__main__":
    main()
