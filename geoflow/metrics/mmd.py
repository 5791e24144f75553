"""Maximum mean discrepancy: a kernel distance between two sets of points."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geoflow import validate


def mmd(a: Any, b: Any, *, bandwidths: Sequence[float] | None = None, block: int = 2048) -> float:
    """Unbiased squared MMD: mean k(a, a') + mean k(b, b') − 2 mean k(a, b), pairs of a point with itself left out.

    Convention: k(x, y) = mean over h of exp(−|x − y|² / 2h²). Zero in the mean for equal distributions, and then as
    often negative as positive. Columns are used as they are: standardise mixed units first. Cost: (n + m)² dim, in
    blocks, so memory stays small. [gretton2012]

    Args:
        a, b: tables ``(n, dim)`` and ``(m, dim)``, at least two rows each.
        bandwidths: the h; None takes a half, one and two times the median distance among (at most 1,000) rows.
    """
    a, b = validate.table(a, "mmd", "a", 2).double(), validate.table(b, "mmd", "b", 2).double()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"mmd expects tables of equally many columns, got {a.shape[1]} and {b.shape[1]}.")
    if bandwidths is None:
        some = torch.cat([t[:: max(1, len(t) // 500)][:500] for t in (a, b)])
        median = float(torch.nn.functional.pdist(some).median())
        if median == 0:
            raise ValueError("mmd: half of all distances are zero: pass bandwidths=, or drop duplicates.")
        bandwidths = [median / 2, median, 2 * median]

    def total(x: Tensor, y: Tensor) -> float:
        result = 0.0
        for rows in x.split(block):
            squared = torch.cdist(rows, y).square()
            result += sum(float(torch.exp(squared / (-2 * h * h)).sum()) for h in bandwidths)
        return result / len(bandwidths)

    n, m = len(a), len(b)
    within = (total(a, a) - n) / (n * (n - 1)) + (total(b, b) - m) / (m * (m - 1))
    return within - 2 * total(a, b) / (n * m)
