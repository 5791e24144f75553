"""Accuracy of Fermat distances: against known ones with the true density, and with a fitted flow beside its own error."""

import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoflow import Density, FermatSpace, GaussianMixture, fit
from geoflow.distances.paths.geodesics import jittered_line, segment_log_cost
from geoflow.distances.paths.relax import relax
from geoflow.flows import realnvp
from tests.oracles.fermat_rows import FLAT, LINE, SPHERE, Row

RESULTS = Path(__file__).parent / "results"
PAIRS = 64


def known() -> list[str]:
    """Each row's distance with defaults, its relative error, and how it was found."""
    lines = [
        "| row | power | known | found | relative error | iterations | converged |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in FLAT + SPHERE:
        x, y = row.ends()
        found = FermatSpace(row.density, power=row.power, space=row.space).solve(x, y)
        error = float(found.length) / row.distance - 1
        lines.append(
            f"| {row.name} | {row.power:.3g} | {row.distance:.10g} | {float(found.length):.10g} | {error:+.1e} "
            f"| {int(found.iterations)} | {'yes' if found.converged else 'no'} |"
        )
    for row in LINE:
        x, y = row.ends()
        length = float(FermatSpace(row.density, power=row.power, space=row.space).dist(x, y))
        lines.append(
            f"| {row.name} (1-D) | {row.power:.3g} | {row.distance:.10g} | {length:.10g} | {length / row.distance - 1:+.1e} "
            "| quadrature | yes |"
        )
    return lines


def orders() -> list[str]:
    """Order of convergence of plain and extrapolated lengths over the Gaussian rows, M = 8, 16, 32."""
    rows = [r for r in FLAT if r.name.startswith("normal") and "radial" not in r.name and len(r.x) <= 10]

    def error(row: Row, m: int, extrapolate: bool) -> float:
        x, y = row.ends()
        space = FermatSpace(row.density, power=row.power, nodes=m, extrapolate=extrapolate)
        return math.log2(abs(float(space.solve(x, y, tol=1e-9).length) / row.distance - 1))

    grids = (8, 16, 32)
    out = []
    for extrapolate, name in ((False, "plain"), (True, "extrapolated")):
        mean = [np.mean([error(r, m, extrapolate) for r in rows]) for m in grids]
        slope = -np.polyfit(range(len(grids)), mean, 1)[0]
        out.append(f"| {name} | {' | '.join(f'{2**e:.1e}' for e in mean)} | {slope:.2f} |")
    return ["| lengths | M = 8 | M = 16 | M = 32 | order |", "|---|---|---|---|---|", *out]


def iterations() -> list[str]:
    """Median iterations at fixed tolerance as the nodes are doubled: standard normals, 24 random pairs."""
    out = ["| dim | M = 16 | M = 32 | M = 64 | M = 128 |", "|---|---|---|---|---|"]
    for dim in (2, 10, 50):
        g = torch.Generator().manual_seed(0)
        x, y = torch.randn(2, 24, dim, generator=g, dtype=torch.float64)
        space = FermatSpace(_normal(dim))
        found = [relax(space._weight(), jittered_line(space.space, x, y, m)).iterations for m in (16, 32, 64, 128)]
        out.append(f"| {dim} | {' | '.join(f'{float(i.double().median()):.0f}' for i in found)} |")
    return out


def _normal(dim: int) -> GaussianMixture:
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixture.of(one, torch.zeros(1, dim, dtype=one.dtype), torch.ones(1, dim, dtype=one.dtype))


def two_modes(dim: int) -> GaussianMixture:
    """Equal normals of deviation 0.7 at ±1.5 along the first axis."""
    means = torch.zeros(2, dim, dtype=torch.float64)
    means[:, 0] = torch.tensor([-1.5, 1.5])
    return GaussianMixture.of(torch.tensor([0.5, 0.5]).double(), means, torch.full((2, dim), 0.49).double())


def true_length(space: FermatSpace, path: Tensor) -> Tensor:
    """Length of given paths under the true density, on segments small enough to measure it."""
    return segment_log_cost(space._need_density("length"), path).exp().sum(1)


def with_a_flow() -> list[str]:
    """Relative errors (means over pairs of sample points) with the true density and with a flow fitted to the sample."""
    out = [
        "| dim, n | density: mean log p gap, nats | power · mean abs log p error on paths | graph, true density | graph, flow "
        "| relaxed, true density (max) | relaxed, flow | true length of the flow's path | straight line | flow: converged |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for dim, n in ((2, 1000), (2, 8000), (5, 8000), (10, 8000)):
        truth = two_modes(dim)
        points = truth.sample(n, generator=torch.Generator().manual_seed(dim))
        test = truth.sample(5000, generator=torch.Generator().manual_seed(100 + dim))
        torch.manual_seed(0)
        flow: Density = realnvp(dim, activation="silu").double()
        fit(flow, points, seed=0, progress=False)
        with torch.no_grad():
            gap = float((truth.log_prob(test) - flow.log_prob(test)).mean())
        x, y = points[:PAIRS], points[PAIRS : 2 * PAIRS]
        exact, learned = (FermatSpace(d, points=points, neighbors=20) for d in (truth, flow))
        reference = FermatSpace(truth, points=points, nodes=64).solve(x, y).length
        ours = learned.solve(x, y)
        error = lambda length: (length / reference - 1).abs()  # noqa: B023, E731
        with torch.no_grad():
            off = (truth.log_prob(ours.path) - flow.log_prob(ours.path)).abs().mean() * learned.power
        out.append(
            f"| {dim}, {n} | {gap:.3f} | {float(off):.4f} | {float(error(exact.dist(x, y, 'graph')).mean()):.3f} "
            f"| {float(error(learned.dist(x, y, 'graph')).mean()):.3f} | {float(error(exact.solve(x, y).length).max()):.1e} "
            f"| **{float(error(ours.length).mean()):.4f}** | {float(error(true_length(exact, ours.path)).mean()):.4f} "
            f"| {float(error(exact.dist(x, y, 'line')).mean()):.3f} | {float(ours.converged.double().mean()):.2f} |"
        )
    return out


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = [
        "# Accuracy of Fermat distances\n",
        f"Made by `nox -s reproduce -- fermat` on {time.strftime('%Y-%m-%d')}.\n",
        "## Known distances, true density, defaults\n",
        *known(),
        "\nThe geodesic of the cone with a = 3 runs through the point where the density is infinite, and does not settle.\n",
        "## Order of convergence (mean relative error over Gaussian rows)\n",
        *orders(),
        "\n## Iterations against nodes (tolerance 1e-6)\n",
        *iterations(),
        "\n## With a fitted flow\n",
        "Two equal normals of deviation 0.7 at ±1.5; RealNVP with defaults fitted to the sample; 64 pairs of sample points; mean "
        "relative errors against the relaxed distance under the true density on 64/128 segments. After relaxation the error left "
        "is that of the density: about power times its error in log p.\n",
        *with_a_flow(),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fermat.md").write_text("\n".join(parts) + "\n")
    sys.stdout.write("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
