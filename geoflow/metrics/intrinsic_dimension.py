"""Intrinsic dimension: how many coordinates move rows along what they fill, from the distances of near neighbours."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from geoflow import validate

Method = Literal["twonn", "mle"]
METHODS = ("twonn", "mle")
TENTHS = 10
"""Disjoint parts of the rows whose estimates' spread is the error."""


class IntrinsicDimension(NamedTuple):
    """Result of `intrinsic_dimension`.

    Attributes:
        dim: the estimate, not rounded.
        error: its standard error.
        rows: distinct rows that it rests on.
        duplicates: rows left out because they repeat another.
    """

    dim: float
    error: float
    rows: int
    duplicates: int


def intrinsic_dimension(
    x: Any, method: Method = "twonn", *, discard: float = 0.1, neighbors: int = 20
) -> IntrinsicDimension:
    """The number of dimensions that rows fill locally, with its standard error.

    Where the density is as good as constant over a row's nearest neighbours, at distances r₁ ≤ r₂ ≤ …, the volumes
    between these spheres are exponential, and only ratios of distances matter.

    - ``"twonn"``: μ = r₂/r₁ has P(μ > m) = m^−d, so log μ is exponential with rate d [facco2017]. The largest of the n
      ratios, a fraction `discard`, are only counted, for they come from where the density is far from constant. With y
      the m others in order, d = (m − 1) / (Σ yᵢ + (n − m) y_m), the unbiased estimate from a censored exponential
      sample [epstein1953], where the paper fits a line. It looks at the smallest scale there is, where curvature and
      density matter least.
    - ``"mle"``: each row x of n has 1/d(x) = mean over j < k of log(r_k / r_j), with k = `neighbors` [levina2004]; the
      inverses are averaged over rows, not the d(x): d = (n (k − 1) − 1) / Σ log(r_k / r_j) [mackay2005]. Less spread, at
      a larger scale.

    Neighbours are shared, so rows are not independent: the error is the spread over ten disjoint tenths of the rows, each
    estimated by itself, over √10, known to about a quarter of itself. It holds no bias. Boundaries, curvature and a
    density that varies over r_k bias both downwards, the more the higher the dimension: 2,000 rows of ten dimensions are
    given 8.1 to 9.8. Noise of any size biases upwards: at scales below it rows fill every column, and with more rows the
    neighbours come down to that scale. Ask again of every second, fourth, eighth row: a dimension is a figure that stays.
    Columns are used as they are: standardise mixed units first.

    Args:
        x: table ``(n, dim)`` of at least 40 distinct rows for "twonn", ten times `neighbors` + 2 for "mle"; repeated rows
            are left out.
        method: see above.
        discard: fraction of ratios of "twonn" that are only counted, in [0, 1).
        neighbors: k of "mle".

    Cost: a tree or a table of all distances (scikit-learn's choice), as quick as n log n or n² dim.

    >>> t = torch.rand(500, 1, generator=torch.Generator().manual_seed(0))
    >>> found = intrinsic_dimension(torch.cat([t.cos(), t.sin()], 1))  # an arc
    >>> round(found.dim), found.duplicates
    (1, 0)
    """
    who = "intrinsic_dimension"
    if method not in METHODS:
        raise ValueError(f"{who} expects method='twonn' or 'mle', got {method!r}.")
    if not (isinstance(discard, (int, float)) and 0 <= discard < 1):
        raise ValueError(f"{who}: discard is a fraction in [0, 1), got {discard!r}.")
    k = validate.count(neighbors, who, "neighbors", 2) if method == "mle" else 2
    table = validate.table(x, who, "x", dtype=torch.float64, device="cpu").numpy()
    distinct = np.unique(table, axis=0)
    least = 10 * (k + 2)
    if len(distinct) < least:
        raise ValueError(
            f"{who} by {method!r} needs {least} distinct rows, got {len(distinct)} of {len(table)}: give more"
            + (", or lower neighbors." if method == "mle" else ".")
        )

    def estimate(rows: np.ndarray) -> float:
        r = _distances(rows, k)
        return _twonn(r, discard) if method == "twonn" else _mle(r)

    mixed = np.random.default_rng(0).permutation(distinct)
    parts = [estimate(mixed[i::TENTHS]) for i in range(TENTHS)]
    error = float(np.std(parts, ddof=1)) / math.sqrt(TENTHS)
    return IntrinsicDimension(estimate(distinct), error, len(distinct), len(table) - len(distinct))


def _distances(x: np.ndarray, k: int) -> np.ndarray:
    """Distances ``(n, k)`` to the k nearest other rows, in order, none of them zero."""
    from sklearn.neighbors import NearestNeighbors

    x = x - x.mean(0)
    index = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    r = np.stack([np.linalg.norm(x[index[:, j]] - x, axis=1) for j in range(k)], 1)  # not by |a|² + |b|² − 2ab
    return np.sort(r, axis=1).clip(np.finfo(r.dtype).tiny)


def _twonn(r: np.ndarray, discard: float) -> float:
    y = np.sort(np.log(r[:, 1] / r[:, 0]))
    m = max(2, math.ceil((1 - discard) * len(y)))
    return (m - 1) / float(y[:m].sum() + (len(y) - m) * y[m - 1])


def _mle(r: np.ndarray) -> float:
    logs = np.log(r[:, -1:] / r[:, :-1])
    return (logs.size - 1) / float(logs.sum())
