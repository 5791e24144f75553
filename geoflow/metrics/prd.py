"""Precision and recall of distributions: the curve of how much of either the other one explains."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoflow import validate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class PRD:
    """Result of `prd`.

    Attributes:
        precision, recall: ``(angles,)`` the curve, from all recall to all precision.
        f8: max over the curve of F₈, which is mostly recall.
        f18: max over the curve of F₁⸝₈, which is mostly precision.
        rows: number of rows of each set.
        clusters, repeats: what the curve was made with.
    """

    precision: Tensor
    recall: Tensor
    f8: float
    f18: float
    rows: int
    clusters: int
    repeats: int

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Precision against recall; the upper right corner is best."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(layout="constrained").subplots()
        ax.plot(self.recall, self.precision, **kwargs)
        ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        return ax

    def __str__(self) -> str:
        return (
            f"PRD F8 {self.f8:.3f} (recall), F1/8 {self.f18:.3f} (precision); N = {self.rows:,} each, "
            f"{self.clusters} clusters, {self.repeats} repeats"
        )


def prd(real: Any, fake: Any, clusters: int = 20, repeats: int = 10, angles: int = 1001, seed: int = 0) -> PRD:
    """Curve of precision Σ min(λ p, q) and recall Σ min(p, q/λ), where p and q are the real and fake shares of clusters.

    Convention: clusters are those of mini-batch k-means on real and fake rows together, started anew for each of
    `repeats`; λ = tan of `angles` angles evenly spread over (0, π/2); precision and recall are averaged over the repeats
    before F_β = (1 + β²) P R / (β² P + R) is maximised along the curve. F₈ and F₁⸝₈ are the "recall" and "precision" of
    papers that print one pair. It sees no more than shares of clusters: real against real gives about .99, and
    figures above .95 say little. Not comparable with `precision_recall`. [sajjadi2018]

    Cost: `repeats` k-means of all rows.

    Args:
        real, fake: features ``(n, d)`` each, equally many: with fewer fakes some clusters are empty by chance.
        clusters, repeats, angles: see above.
        seed: of the first repeat; the others count on from it.

    Raises:
        ValueError: unequal numbers of rows or columns, or fewer rows than clusters.

    >>> x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    >>> found = prd(x, torch.cat([x[:50], x[:50] + 9]), clusters=2)  # all of it, but half of what is made is no good
    >>> round(found.f8, 2), round(found.f18, 2)
    (0.98, 0.5)
    """
    from sklearn.cluster import MiniBatchKMeans

    who = "prd"
    clusters, repeats, angles = (
        validate.count(v, who, n, least)
        for v, n, least in ((clusters, "clusters", 2), (repeats, "repeats", 1), (angles, "angles", 3))
    )
    a, b = (
        validate.table(x, who, n, clusters, torch.float64, "cpu").numpy() for x, n in ((real, "real"), (fake, "fake"))
    )
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{who} expects features of equal width, got {a.shape[1]} and {b.shape[1]}.")
    if len(a) != len(b):
        few = min(len(a), len(b))
        raise ValueError(
            f"{who} expects equally many real and fake rows, got {len(a)} and {len(b)}: unequal sets fill clusters "
            f"unequally; give {few} of each, drawn at random."
        )
    slope = np.tan(np.linspace(1e-10, np.pi / 2 - 1e-10, angles))[:, None]
    precision, recall = np.zeros(angles), np.zeros(angles)
    for repeat in range(repeats):
        means = MiniBatchKMeans(clusters, n_init=3, random_state=seed + repeat)
        labels = means.fit_predict(np.concatenate([a, b]))
        p, q = (np.bincount(part, minlength=clusters) / len(a) for part in (labels[: len(a)], labels[len(a) :]))
        precision += np.minimum(slope * p, q).sum(1) / repeats
        recall += np.minimum(p, q / slope).sum(1) / repeats
    return PRD(
        torch.from_numpy(precision),
        torch.from_numpy(recall),
        _best(precision, recall, 8.0),
        _best(precision, recall, 1 / 8),
        len(a),
        clusters,
        repeats,
    )


def _best(precision: np.ndarray, recall: np.ndarray, beta: float) -> float:
    """max F_β; zero where nothing is in common."""
    below = beta**2 * precision + recall
    return float(((1 + beta**2) * precision * recall / np.where(below > 0, below, 1)).max())
