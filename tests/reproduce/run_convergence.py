"""Which estimates of a Fermat distance converge as points are added: table, slopes and picture."""

import time
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from geoflow import FermatSpace, fit
from geoflow.flows import nsf
from geoflow.plots import GEODESIC, INK, OTHER, STRAIGHT, figure
from tests.reproduce.renewed import RESULTS, renew
from tests.reproduce.rivals import two_modes_by_boundary_values
from tests.reproduce.run_fermat import true_length, two_modes

FEW, MANY = (500, 2000, 8000), (500, 1600, 5000, 16_000)
ROWS = {"2-D": MANY, "5-D": MANY, "10-D": FEW, "20-D": FEW}
PAIRS, DRAWS = 64, 2000
METHODS = (
    "sample only, calibrated",
    "graph, true density",
    "graph, flow",
    "relaxed, flow",
    "relaxed, true density",
    "the flow's path, true length",
)
HEAD = f"""# Convergence of Fermat distances

Made by `nox -s reproduce -- convergence`, last on {{date}}, on one thread, in float64.

![errors against the number of points](convergence.png)

Two equal normals of deviation 0.7 at ±1.5 along the first axis, power 1 / dim. Mean relative error over {PAIRS} pairs of
sample points, the same at every n, ± standard error over pairs. The distances themselves are known from
`scipy.integrate.solve_bvp` to a tolerance of 1e-8, in the three dimensions in which these geodesics lie.

- *sample only*: n^β min Σ |Δ|², which needs no density, divided by the median of its own ratios to the known distances:
  better than anyone could calibrate it. Graphs have 20 neighbours.
- *flow*: `nsf` with a smooth activation and defaults, fitted to the n points.
- *relaxed*: with defaults. *The flow's path, true length*: the path found with the flow, measured under the true density: what
  is lost by where the path runs; the rest of the flow's error is that of its log p along the path.
- Slope: of log error against log n, ± standard deviation over {DRAWS} draws of the pairs; one sample and one training each.

Graphs do not converge: from 5-D on their error does not fall, and in 10-D and 20-D it grows. Relaxed with the true density it
is that of the discretisation, at every n. Relaxed with the flow it falls as the flow improves, and stays below the flow's
error in power · log p. In 2-D the flow's graph is as good, within errors: there a graph's paths are too long by a per cent
only. In 20-D the flow is no better for 2,000 points than for 500.

| dim | n | {" | ".join(METHODS)} | power · mean abs log p error on the flow's paths | converged with the flow |
|---|---|{"---|" * len(METHODS)}---|---|
"""


def estimates(dim: int, points: Tensor, known: Tensor) -> tuple[dict[str, Tensor], float, float]:
    """Relative errors of each method between the first pairs of points; the flow's error in power · log p; its share
    of converged paths."""
    truth = two_modes(dim)
    torch.manual_seed(0)
    flow = nsf(dim, depth=6, hidden=(64, 64), activation="silu")
    fit(flow, points, seed=0, progress=False)
    flow.double()
    x, y = points[:PAIRS], points[PAIRS : 2 * PAIRS]
    exact, learned = (FermatSpace(d, points=points, neighbors=20) for d in (truth, flow))
    ours, best = learned.solve(x, y), exact.solve(x, y)
    sample = exact.dist(x, y, "sample")
    lengths = (
        sample / (sample / known).median(),
        best.graph_length,
        ours.graph_length,
        ours.length,
        best.length,
        true_length(exact, ours.path),
    )
    with torch.no_grad():
        off = (truth.log_prob(ours.path) - flow.log_prob(ours.path)).abs().mean() * learned.power
    errors = {name: (of / known - 1).abs() for name, of in zip(METHODS, lengths, strict=True)}
    return errors, float(off), float(ours.converged.double().mean())


def make(name: str) -> Iterator[str]:
    dim = int(name.removesuffix("-D"))
    truth = two_modes(dim)
    points = truth.sample(ROWS[name][-1], generator=Generator().manual_seed(300 + dim))
    x, y = points[:PAIRS], points[PAIRS : 2 * PAIRS]
    paths = FermatSpace(truth, points=points[:2000]).solve(x, y).path
    known = torch.tensor([two_modes_by_boundary_values(p, 1 / dim) for p in paths.numpy()], dtype=x.dtype)
    found: dict[str, list[Tensor]] = {m: [] for m in METHODS}
    for n in ROWS[name]:
        errors, off, converged = estimates(dim, points[:n], known)
        for method, of in errors.items():
            found[method].append(of)
        cells = [f"{float(of.mean()):.2g} ± {float(of.std()) / PAIRS**0.5:.1g}" for of in errors.values()]
        yield f"| {name} | {n} | {' | '.join(cells)} | {off:.3f} | {converged:.0%} |"
    yield f"| {name} | slope | {' | '.join(slope(ROWS[name], torch.stack(of).numpy()) for of in found.values())} | | |"


def slope(rows: Sequence[int], errors: np.ndarray) -> str:
    """Of log mean error ``(len(rows), pairs)`` against log n, with its spread over draws of the pairs."""
    picks = np.random.default_rng(0).integers(0, errors.shape[1], (DRAWS, errors.shape[1]))
    fitted = lambda means: np.polyfit(np.log(rows), np.log(means), 1)[0]  # noqa: E731
    return f"{fitted(errors.mean(1)):+.2f} ± {np.std([fitted(errors[:, p].mean(1)) for p in picks]):.2f}"


def written(lines: dict[str, list[str]]) -> str:
    return HEAD.format(date=time.strftime("%Y-%m-%d")) + "\n".join(line for of in lines.values() for line in of) + "\n"


def draw() -> None:
    """The table as a picture, one panel a dimension."""
    cells = [
        [c.strip() for c in line.split("|")[1:-1]] for line in (RESULTS / "convergence.md").read_text().splitlines()
    ]
    looks = (
        (STRAIGHT, "s", "-"),
        (INK, "^", "--"),
        (OTHER, "v", "--"),
        (OTHER, "o", "-"),
        (GEODESIC, "o", "-"),
        (OTHER, ".", ":"),
    )
    fig = figure(12, 4.6)
    panels = fig.subplots(1, len(ROWS), sharex=True, sharey=True)
    for ax, name in zip(panels, ROWS, strict=True):
        rows = [c for c in cells if c and c[0] == name and c[1].isdigit()]
        n = [int(c[1]) for c in rows]
        for i, (method, (color, marker, dash)) in enumerate(zip(METHODS, looks, strict=True)):
            mean, error = np.array([[float(v) for v in c[2 + i].split(" ± ")] for c in rows]).reshape(-1, 2).T
            face = "white" if dash == "--" else color
            ax.errorbar(
                n, mean, error, color=color, marker=marker, mfc=face, ls=dash, ms=6, lw=1.6, capsize=2, label=method
            )
        ax.set(xscale="log", yscale="log", title=name.replace("-D", " dimensions"), xlabel="points")
        ax.set_xticks(MANY, [f"{n:,}" for n in MANY])
        ax.set_xticks([], minor=True)
        ax.grid(color="#dfe4e6", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mean relative error")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    fig.savefig(RESULTS / "convergence.png", dpi=110)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    renew("convergence.md", ROWS, make, written)
    draw()
