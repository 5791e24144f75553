"""Precision and recall of samples: how many look real, and how much of what is real they cover."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoflow import validate
from geoflow.metrics.balls import held


class PrecisionRecall(NamedTuple):
    """Result of `precision_recall`.

    Attributes:
        precision: share of fakes within the real set's balls.
        recall: share of real rows within the fakes' balls.
        rows: number of real rows and of fakes.
    """

    precision: float
    recall: float
    rows: tuple[int, int]


def precision_recall(real: Any, fake: Any, k: int = 3) -> PrecisionRecall:
    """Shares of each set inside the union of balls around the other's rows, each as wide as to its k-th neighbour.

    Convention: "improved" precision and recall; Euclidean, a row is not its own neighbour, borders belong to balls,
    float64. Both rise with the number of rows of the set that gives the balls, and neither reaches 1 for two sets of
    real rows: compare at equal numbers, and beside the figures of real against real. One outlier in the set that gives
    the balls makes a ball that holds many. [kynkaanniemi2019]

    Cost: (n + m)² d, in blocks, so memory stays small.

    Args:
        real, fake: features ``(n, d)`` and ``(m, d)``, more than k rows each.
        k: neighbours.

    >>> ring = torch.linspace(0, 6, 100)[:, None]
    >>> precision_recall(ring, torch.cat([ring[:50], ring[:50] + 20])).precision  # half is far off
    0.5
    """
    k = validate.count(k, "precision_recall", "k", 1)
    a = validate.table(real, "precision_recall", "real", k + 1, dtype=torch.float64, device="cpu")
    b = validate.table(fake, "precision_recall", "fake", k + 1, dtype=torch.float64, device="cpu")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"precision_recall expects features of equal width, got {a.shape[1]} and {b.shape[1]}.")
    return PrecisionRecall(_inside(b, a, k), _inside(a, b, k), (len(a), len(b)))


def _inside(x: Tensor, centers: Tensor, k: int) -> float:
    """Share of rows of x that lie in some ball around the centres."""
    return float(np.concatenate([block.any(1) for block in held(x.numpy(), centers.numpy(), k)]).mean())
