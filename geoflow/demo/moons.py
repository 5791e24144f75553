"""The demo's first half: a density in the plane, the geodesics it makes, and the truth beside both."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geoflow import datasets, plots, report
from geoflow.baselines import HEADER, compare, split
from geoflow.distances import FermatSpace
from geoflow.distributions import GaussianMixture
from geoflow.flows import realnvp
from geoflow.train import fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDS = (((-1.0, 0.05), (1.0, 0.0)), ((0.0, 0.5), (2.0, 0.45)), ((-1.0, 0.05), (1.0, -0.5)))
"""Tips of the upper moon, tips of the lower moon, and from a tip of the one to the bottom of the other."""
NAMES = ("along the upper moon", "along the lower moon", "from moon to moon")


def run(folder: Path, seed: int, quick: bool, quiet: bool) -> tuple[list[str], list[str], dict[str, Any]]:
    """Train and measure; lines for the terminal, parts for the page, figures for programs."""
    data = datasets.two_moons(600 if quick else 8000, noise=0.15, seed=seed)
    rows, held = split(len(data), len(data) // 4, seed)
    train, test = data.x[rows], data.x[held]
    torch.manual_seed(seed)
    flow = realnvp(2, activation="silu", base=GaussianMixture(2, 6))
    fit(flow, train, lr=5e-3, epochs=2 if quick else None, seed=seed, progress=not quiet)
    compared = compare("RealNVP on six Gaussians", flow, train, test, data.density, 2 if quick else 12)

    points = train[:1000].double()
    learned = FermatSpace(flow.double(), points, reference="mean")
    true = FermatSpace(data.density.double(), points, reference="mean")
    x, y = torch.tensor(ENDS, dtype=torch.float64).unbind(1)
    found, exact = (space.solve(x, y, max_iter=10 if quick else 300) for space in (learned, true))
    straight = (x - y).norm(dim=-1)
    header = ("way", "straight", "Fermat", "Fermat, true density", "converged")
    table = [
        (name, f"{e:.3f}", f"{f:.3f}", f"{t:.3f}", "yes" if ok else "no")
        for name, e, f, t, ok in zip(NAMES, straight, found.length, exact.length, found.converged, strict=True)
    ]
    picture = _picture(flow, data.density, test, found.path, exact.path)
    facts = {
        "log_prob": compared.figures,
        "straight": straight.tolist(),
        "fermat": found.length.tolist(),
        "fermat_true": exact.length.tolist(),
        "converged": found.converged.tolist(),
    }
    says = (
        f"{len(train)} rows drawn from a density that is known (two smeared half circles) train a RealNVP whose base "
        f"is a mixture; {len(test)} further rows are held out. Only by chance can a density do better there than "
        "the true one."
    )
    means = (
        "Fermat lengths are measured as ds = (p / p0)^(-1/2) |dx| with log p0 the mean log p, so that they compare "
        "with straight ones: a way through rows like those seen costs about its length, one through empty space more."
    )
    lines = [
        f"two moons: {says}",
        report.text_table(HEADER, compared.rows),
        means,
        report.text_table(header, table),
    ]
    caption = (
        "log p, held-out rows and geodesics between the same points, of the learned density and of the true one. "
        "The straight lines cross empty space, the geodesics keep to the data."
    )
    parts = [
        report.heading("Two moons: a density makes a space"),
        report.text(says),
        report.table(HEADER, compared.rows, compared.best),
        report.picture(picture, caption, path=folder / "moons.png"),
        report.text(means),
        report.table(header, table),
    ]
    return lines, parts, facts


def _picture(flow: Any, truth: Any, test: torch.Tensor, learned: torch.Tensor, exact: torch.Tensor) -> "Figure":
    fig = plots.figure(10.4, 3.7)
    axes = fig.subplots(1, 2, sharey=True)
    limits = ((-1.75, 2.75), (-1.2, 1.75))
    for ax, density, paths, title in (
        (axes[0], flow, learned, "learned"),
        (axes[1], truth, exact, "true"),
    ):
        bar = ax is axes[1]
        plots.plot_density(
            density, ax, limits=limits, points=test[:500], names=("x1", "x2" if not bar else ""), colorbar=bar
        )
        plots.plot_geodesics(paths, ax)
        ax.set(title=title, aspect="equal")
    axes[0].legend(loc="upper right", fontsize=8, framealpha=0.9)
    return fig
