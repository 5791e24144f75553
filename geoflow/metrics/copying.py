"""Are draws copies of training rows? Their distances to these, beside those of rows that were held out."""

from typing import Any, NamedTuple

import numpy as np

from geoflow import validate


class Copying(NamedTuple):
    """Result of `copying`.

    Attributes:
        ratio: median distance of draws to their nearest training rows, over that of held-out rows.
        nearer: share of pairs of a draw and a held-out row in which the draw is nearer to the training rows.
        null_deviation: of `nearer` around a half, where draws are distributed as held-out rows.
        rows: numbers of draws, training rows and held-out rows.
    """

    ratio: float
    nearer: float
    null_deviation: float
    rows: tuple[int, int, int]

    def __str__(self) -> str:
        n, m, k = self.rows
        return (
            f"draws are nearer to training rows than held-out rows are in {self.nearer:.3f} of pairs "
            f"(0.500 +- {self.null_deviation:.3f} if alike; median distances' ratio {self.ratio:.3f}; "
            f"N = {n:,}, {m:,} and {k:,})"
        )


def copying(made: Any, train: Any, held_out: Any) -> Copying:
    """Whether draws are nearer to the training rows than new data are: the statistic of a test for data-copying.

    `nearer` is one where every draw is a copy, a half where draws are new data, and less where they are off the data;
    ties count half. [meehan2020] It is a mean over all rows: copies in one place can make up for draws that are far off
    in another. What smooths is nearer to everything, so compare draws of a decoder with held-out rows that it has
    reconstructed, or compare features.

    Cost: the nearest of `train` for every row of the other two.

    Args:
        made, train, held_out: tables ``(n, dim)``, ``(m, dim)`` and ``(k, dim)``, Euclidean; held-out rows from where the
            training rows are from, which the model has not seen.

    >>> import torch
    >>> x = torch.arange(8.0)[:, None]
    >>> copying(x[:4], x, x[:7] + 0.5).nearer
    1.0
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    who = "copying"
    tables = [
        validate.table(t, who, name, 1).double().cpu().numpy()
        for name, t in {"made": made, "train": train, "held_out": held_out}.items()
    ]
    if len({t.shape[1] for t in tables}) > 1:
        raise ValueError(f"copying expects tables of equally many columns, got {[t.shape[1] for t in tables]}.")
    middle = tables[1].mean(0)  # far from the origin |a|² + |b|² − 2 a·b has no digits left
    rows, centers, new = (t - middle for t in tables)
    here, there = (pairwise_distances_argmin_min(t, centers)[1] for t in (rows, new))
    order = np.sort(there)
    above, below = len(new) - np.searchsorted(order, here, "right"), np.searchsorted(order, here, "left")
    nearer = float((above + len(new) - below).mean() / (2 * len(new)))
    deviation = ((len(rows) + len(new) + 1) / (12 * len(rows) * len(new))) ** 0.5
    median = float(np.median(there))
    ratio = float(np.median(here)) / median if median else float("nan")
    return Copying(ratio, nearer, deviation, (len(rows), len(centers), len(new)))
