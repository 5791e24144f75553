"""Density and coverage of samples: precision that one outlier cannot lift, and recall with balls around real rows."""

from typing import Any, NamedTuple

import numpy as np
import torch

from geoflow import validate
from geoflow.metrics.balls import held


class DensityCoverage(NamedTuple):
    """Result of `density_coverage`.

    Attributes:
        density: real balls a fake lies in, over k; 1 in the mean for fakes from the real distribution, may exceed it.
        coverage: share of real balls that hold a fake.
        coverage_expected: of fakes from the real distribution, 1 − Π_{i ≤ k} (n − i) / (n + m − i).
        rows: number of real rows and of fakes.
    """

    density: float
    coverage: float
    coverage_expected: float
    rows: tuple[int, int]


def density_coverage(real: Any, fake: Any, k: int = 5) -> DensityCoverage:
    """Density Σⱼ Σᵢ 1[yⱼ ∈ Bᵢ] / (k m) and coverage (1/n) Σᵢ 1[some yⱼ ∈ Bᵢ] of fakes y among balls B of real rows.

    Convention: the ball of each of n real rows reaches to its k-th neighbour among them, itself not counted; Euclidean,
    borders belong to balls, float64. Balls are never drawn around fakes, so outliers among them do no good; an outlier
    among the real rows counts once where `precision_recall` counts every fake in its large ball as precise. Coverage is
    that of real rows by fakes; for highest-density sets of a density see `geoflow.metrics.coverage`. [naeem2020]

    Cost: n (n + m) d, in blocks, so memory stays small.

    Args:
        real, fake: features ``(n, d)`` and ``(m, d)``, more than k real rows.
        k: neighbours. With k = 5 and n = m, coverage of 0.97 is as good as real rows are.

    >>> line = torch.arange(100.0)[:, None]
    >>> found = density_coverage(line, line[:50] + 0.5, k=1)  # each fake between two rows, in both balls
    >>> round(found.density, 6), found.coverage
    (2.0, 0.51)
    """
    who = "density_coverage"
    k = validate.count(k, who, "k", 1)
    a = validate.table(real, who, "real", k + 1, dtype=torch.float64, device="cpu").numpy()
    b = validate.table(fake, who, "fake", dtype=torch.float64, device="cpu").numpy()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{who} expects features of equal width, got {a.shape[1]} and {b.shape[1]}.")
    fakes = sum(block.sum(0) for block in held(b, a, k))  # in each ball
    n, m = len(a), len(b)
    i = np.arange(1, k + 1)
    expected = 1 - float(np.prod((n - i) / (n + m - i)))
    return DensityCoverage(float(fakes.sum() / (k * m)), float((fakes > 0).mean()), expected, (n, m))
