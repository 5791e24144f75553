"""The demo's second half: digits become one another along geodesics, and are told apart with few labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoflow import datasets, plots, report
from geoflow.baselines import HEADER, compare, split
from geoflow.density import Density
from geoflow.distances import FermatSpace
from geoflow.distributions import GaussianMixture
from geoflow.flows import realnvp
from geoflow.train import fit
from manifolds import Euclidean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = 16
"""Principal components that stand for the 64 pixels."""
MORPHS = ((0, 6), (3, 5), (1, 8))
LABELS = (1, 2, 3, 5, 10, 20)
WAYS = ("Euclidean", "graph without density", "Fermat")


@dataclass
class Digits:
    """Principal component scores of the digits, and the way back to pixels.

    Attributes:
        x, labels: scores and classes of all rows.
        train, test: which rows are which.
        mean, components: pixels = mean + x @ components, from the training rows.
        explained: share of the training rows' variance that is kept.
    """

    x: Tensor
    labels: Tensor
    train: Tensor
    test: Tensor
    mean: Tensor
    components: Tensor
    explained: float

    def pixels(self, x: Tensor) -> Tensor:
        """Grey levels in [0, 1] ``(..., 64)``."""
        return (self.mean.to(x) + x @ self.components.to(x)).clamp(0, 1)


def prepare(seed: int, quick: bool = False) -> Digits:
    """Split, then principal components of the training rows."""
    data = datasets.digits(seed=seed)
    train, test = split(len(data), 360, seed)
    train, test = (train[:300], test[:60]) if quick else (train, test)
    mean = data.x[train].mean(0)
    _, scale, v = torch.linalg.svd(data.x[train].double() - mean, full_matrices=False)
    components = v[:KEPT].float()
    assert data.labels is not None
    explained = float(scale[:KEPT].square().sum() / scale.square().sum())
    return Digits((data.x - mean) @ components.T, data.labels, train, test, mean, components, explained)


def run(folder: Path, seed: int, quick: bool, quiet: bool) -> tuple[list[str], list[str], dict[str, Any]]:
    """Train and measure; lines for the terminal, parts for the page, figures for programs."""
    digits = prepare(seed, quick)
    train, test = digits.x[digits.train], digits.x[digits.test]
    torch.manual_seed(seed)
    flow = realnvp(KEPT, activation="silu", depth=6, hidden=(32, 32), base=GaussianMixture(KEPT, 10))
    fit(flow, train, lr=1e-3, batch_size=64, epochs=1 if quick else None, seed=seed, progress=not quiet)
    compared = compare("RealNVP on ten Gaussians", flow, train, test, most=2 if quick else 12)

    flow = flow.double()
    unit = float(train.std())
    space = _space(flow, train.double(), unit)
    says = (
        "scikit-learn's 1797 digits of 8 × 8 pixels; the 17 grey levels are smeared by uniform noise, divided by 17. "
        f"The data here are not the pixels but their first {KEPT} principal components ({digits.explained:.0%} of the "
        f"variance), taken on the {len(train)} training rows. {len(test)} rows are held out."
    )
    morph_table, morph_picture, converged = _morphs(digits, flow, space, 10 if quick else 300)
    distances = {
        WAYS[0]: torch.cdist(test, train).double() / unit,
        WAYS[1]: _space(flow, train.double(), unit, power=0.0).pairwise(test.double(), train.double()),
        WAYS[2]: space.pairwise(test.double(), train.double()),
    }
    accuracy = few_labels(distances, digits.labels[digits.train], digits.labels[digits.test], seed)
    header = ("labels per class", *WAYS)
    accuracies = [
        (
            str(n) if n else "all",
            *("{:.1%} ± {:.1%}".format(*accuracy[w][n]) if n else f"{accuracy[w][n][0]:.1%}" for w in WAYS),
        )
        for n in (*LABELS, 0)
    ]
    units = "All scores share one unit (grey level), so one factor, their common standard deviation, standardises them."
    means = (
        f"{units} Fermat lengths are ds = (p / p0)^(-1/{KEPT}) |dx|, log p0 the mean log p of the training rows. "
        f"{converged} of {len(MORPHS)} paths met the stopping rule."
    )
    votes = (
        "A held-out digit takes the label of the nearest labelled one; all others stay unlabelled, but carry the graph "
        "along which Fermat distances run. The middle column is the same graph with plain lengths: what the graph "
        "alone brings. ± is the standard error over 20 draws of the labelled rows. Once every row has its label, there is "
        "nothing left to gain."
    )
    morph_header = ("from → to", "Euclidean", "Fermat", "Fermat cost of the straight line")
    lines = [
        f"digits: {says}",
        report.text_table(HEADER, compared.rows),
        means,
        report.text_table(morph_header, morph_table),
        votes,
        report.text_table(header, accuracies),
    ]
    parts = [
        report.heading("Handwritten digits: from one to another"),
        report.text(says),
        report.table(HEADER, compared.rows, compared.best),
        report.picture(
            morph_picture,
            "Held-out digits (the first of each class, as their components show them) turning into one another: along "
            "the geodesic and along the straight line, with log p on the way. Images are taken at even steps.",
            path=folder / "digits_morph.png",
        ),
        report.text(means),
        report.table(morph_header, morph_table),
        report.heading("Handwritten digits: who is near whom"),
        report.picture(
            _neighbours(digits, distances),
            "The four held-out digits whose nearest training rows differ most between the two distances. Labels below; "
            "those of another class in red.",
            path=folder / "digits_neighbours.png",
        ),
        report.text(votes),
        report.picture(
            _curves(accuracy),
            "Share of held-out digits told right by the nearest labelled row, over the number of labels per class.",
            path=folder / "digits_few_labels.png",
        ),
        report.table(header, accuracies),
    ]
    facts = {"log_prob": compared.figures, "lead": compared.lead, "accuracy": accuracy, "converged": converged}
    return lines, parts, facts


def _space(flow: Density, points: Tensor, unit: float, power: float | None = None) -> FermatSpace:
    return FermatSpace(
        flow, points, power=power, reference="mean", space=Euclidean(KEPT, scale=[unit] * KEPT), neighbors=10
    )


def few_labels(
    distances: dict[str, Tensor], known: Tensor, wanted: Tensor, seed: int, draws: int = 20
) -> dict[str, dict[int, tuple[float, float]]]:
    """Accuracy of the nearest labelled row, with its standard error over draws, by distance and labels per class.

    0 labels per class stands for all rows, where there is nothing to draw.
    """
    found: dict[str, dict[int, tuple[float, float]]] = {way: {} for way in distances}
    classes = sorted(set(known.tolist()))
    for per_class in LABELS:
        shares: dict[str, list[float]] = {way: [] for way in distances}
        for draw in range(draws):
            rng = np.random.default_rng([seed, per_class, draw])
            picked = torch.as_tensor(
                np.concatenate([rng.permutation(np.flatnonzero(known.numpy() == c))[:per_class] for c in classes])
            )
            for way, d in distances.items():
                shares[way].append(_accuracy(d[:, picked], known[picked], wanted))
        for way, values in shares.items():
            found[way][per_class] = float(np.mean(values)), float(np.std(values, ddof=1) / draws**0.5)
    for way, d in distances.items():
        found[way][0] = _accuracy(d, known, wanted), 0.0
    return found


def _accuracy(distance: Tensor, known: Tensor, wanted: Tensor) -> float:
    return float((known[distance.argmin(1)] == wanted).double().mean())


def _morphs(
    digits: Digits, flow: Density, space: FermatSpace, max_iter: int
) -> tuple[list[tuple[str, ...]], "Figure", int]:
    """Lengths, picture and number of converged paths between the first held-out digits of some classes."""
    labels = digits.labels[digits.test]
    first = {c: digits.x[digits.test][int((labels == c).nonzero()[0])] for c in {c for pair in MORPHS for c in pair}}
    x = torch.stack([first[a] for a, _ in MORPHS]).double()
    y = torch.stack([first[b] for _, b in MORPHS]).double()
    found = space.solve(x, y, max_iter=max_iter)
    line = space.dist(x, y, method="line")
    straight = space.space.dist(x, y)
    rows: list[tuple[str, ...]] = [
        (f"{a} → {b}", f"{e:.3f}", f"{f:.3f}", f"{c:.3f}")
        for (a, b), e, f, c in zip(MORPHS, straight, found.length, line, strict=True)
    ]
    fig = plots.figure(10.4, 1.85 * len(MORPHS) + 0.3)
    grid = fig.subplots(len(MORPHS), 2, width_ratios=[2.9, 1.0], squeeze=False)
    at = torch.linspace(0, found.path.shape[1] - 1, 9).round().long()
    t = torch.linspace(0, 1, found.path.shape[1], dtype=x.dtype)[:, None]
    for i, (strip, profile) in enumerate(grid):
        chord = x[i] + t * (y[i] - x[i])
        sheet = torch.stack([digits.pixels(found.path[i][at]), digits.pixels(chord[at])])
        plots.plot_images(sheet, strip, shape=(8, 8), limits=(0, 1), gap=2)
        strip.set(yticks=[3.5, 13.5], yticklabels=["geodesic", "straight\nline"])
        strip.tick_params(length=0)
        plots.plot_along(flow, {"geodesic": found.path[i], "straight line": chord}, profile)
        profile.spines[["top", "right"]].set_visible(False)
        profile.set(xlabel="share of the way" if i == len(grid) - 1 else "")
        profile.get_legend().remove()
    grid[0][1].legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=8, frameon=False)
    return rows, fig, int(found.converged.sum())


def _neighbours(digits: Digits, distances: dict[str, Tensor], k: int = 6, queries: int = 4) -> "Figure":
    """Queries and their nearest training rows under the straight and the Fermat distance."""
    near = {way: distances[way].topk(k, largest=False).indices for way in (WAYS[0], WAYS[2])}
    shared = (near[WAYS[0]][:, :, None] == near[WAYS[2]][:, None, :]).any(-1).sum(1)
    chosen = shared.argsort(stable=True)[:queries]
    known, wanted = digits.labels[digits.train], digits.labels[digits.test]
    train = digits.pixels(digits.x[digits.train])
    fig = plots.figure(10.4, 1.0 * queries + 0.3)
    grid = fig.subplots(queries, 3, width_ratios=[8, 10 * k - 2, 10 * k - 2], squeeze=False)
    fig.set_layout_engine("constrained", wspace=0.1, hspace=0.06)
    for row, q in enumerate(chosen.tolist()):
        query = digits.pixels(digits.x[digits.test][q])
        shown = [(query[None], wanted[q][None]), *((train[near[w][q]], known[near[w][q]]) for w in (WAYS[0], WAYS[2]))]
        for ax, (images, labels), title in zip(
            grid[row], shown, ("held out", "nearest, Euclidean", "nearest, Fermat"), strict=True
        ):
            plots.plot_images(images, ax, shape=(8, 8), limits=(0, 1), gap=2)
            for j, label in enumerate(labels.tolist()):
                other = label != int(wanted[q])
                ax.text(
                    3.5 + 10 * j, 8.6, str(label), ha="center", va="top", color=plots.GEODESIC if other else plots.INK
                )
            if row == 0:
                ax.set_title(title, fontsize=10)
    return fig


def _curves(accuracy: dict[str, dict[int, tuple[float, float]]]) -> "Figure":
    fig = plots.figure(6.4, 3.7)
    ax = fig.subplots()
    looks = ((plots.STRAIGHT, "--", "s"), (plots.OTHER, "-.", "^"), (plots.GEODESIC, "-", "o"))
    for way, (color, style, marker) in zip(WAYS, looks, strict=True):
        mean, error = zip(*(accuracy[way][n] for n in LABELS), strict=True)
        share, bars = 100 * np.array(mean), 100 * np.array(error)
        ax.errorbar(
            LABELS, share, bars, color=color, linestyle=style, marker=marker, markersize=5, capsize=2, label=way
        )
    ax.set_xscale("log")
    ax.set_xticks(LABELS, [str(n) for n in LABELS])
    ax.minorticks_off()
    ax.set(xlabel="labels per class", ylabel="told right (%)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(frameon=False, loc="lower right")
    return fig
