"""Mass sculpting: does a cut on an anomaly score change what masses the background has?"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from geoflow import validate
from geoflow.metrics.auc import vector


class MassSculpting(NamedTuple):
    """Result of `mass_sculpting`, one entry a cut.

    Attributes:
        eps_b: shares of the background that pass.
        divergence: in bits, between 0 and 1.
        floor, floor_deviation: of as many rows that pass by lot; a score that knows nothing of the mass is there.
        rows: background rows that pass.
        bins: number of bins.
    """

    eps_b: tuple[float, ...]
    divergence: tuple[float, ...]
    floor: tuple[float, ...]
    floor_deviation: tuple[float, ...]
    rows: tuple[int, ...]
    bins: int

    def __str__(self) -> str:
        return "; ".join(
            f"JSD {jsd:.4f} bits at eps_B = {eps:g} (by lot {floor:.4f} +- {deviation:.4f}; {rows:,} rows)"
            for eps, jsd, floor, deviation, rows in zip(*self[:5], strict=True)
        )


def mass_sculpting(
    score: Any, mass: Any, eps_b: Sequence[float] = (0.1, 0.01), *, bins: int = 20, lots: int = 100, seed: int = 0
) -> MassSculpting:
    """JSD = H((p + q) / 2) − (H(p) + H(q)) / 2 in **bits** between the background's masses before (p) and after (q) a cut.

    Convention: the divergence, not its root, which scipy's ``jensenshannon`` gives; all of the background against those
    of its rows with the highest scores, a share ε_B, ties by lot; bins with equally many background rows each, so that
    neither units nor far tails of the mass matter. A few rows in many bins differ by chance: the floor is the mean over
    `lots` random selections of as many rows. [lin1991]

    Args:
        score: ``(n,)`` of background rows, high is anomalous.
        mass: ``(n,)`` theirs, or any other observable that a cut should leave alone.
        eps_b: shares of the background that pass, each in (0, 1).
        bins: number of bins; masses with many ties have fewer.
        lots: number of random selections, at least 2.
        seed: of these, and of ties.

    Raises:
        ValueError: constant scores or masses, numbers that differ, or fewer passing rows than bins.

    >>> mass = np.arange(1000.0)
    >>> print(mass_sculpting(mass, mass, (0.5,)))  # ½ log₂ 4/3 + ¼ log₂ 4/3 + ¼ log₂ 4
    JSD 0.3113 bits at eps_B = 0.5 (by lot 0.0...; 500 rows)
    """
    who = "mass_sculpting"
    s, m = vector(score, who, "score").numpy(), vector(mass, who, "mass").numpy()
    bins, lots = validate.count(bins, who, "bins", 2), validate.count(lots, who, "lots", 2)
    n = len(s)
    if len(m) != n:
        raise ValueError(f"{who} expects one mass for each score, got {len(m)} masses and {n} scores.")
    for name, x in (("score", s), ("mass", m)):
        if x.min() == x.max():
            raise ValueError(f"{who}: the {name} is constant, {x[0]:.4g}, so there is nothing to compare.")
    if np.ndim(eps_b) != 1 or not len(eps_b) or not all(isinstance(e, Real) and 0 < e < 1 for e in eps_b):
        raise ValueError(f"{who}: eps_b are shares of the background in (0, 1), such as (0.1, 0.01), got {eps_b!r}.")
    rows = tuple(round(e * n) for e in eps_b)
    if min(rows) < bins:
        raise ValueError(
            f"{who}: of {n} background rows {min(rows)} pass the hardest cut, fewer than the {bins} bins: give more rows, "
            "fewer bins, or a softer cut by eps_b=."
        )
    edges = np.unique(np.quantile(m, np.linspace(0, 1, bins + 1)[1:-1]))
    edges = edges[edges > m.min()]
    place = np.searchsorted(edges, m, "right")
    number = len(edges) + 1
    before = np.bincount(place, minlength=number) / n
    rng = np.random.default_rng(seed)

    def after(chosen: np.ndarray) -> float:
        return _bits(before, np.bincount(place[chosen], minlength=number) / len(chosen))

    mixed = rng.permutation(n)
    order = mixed[np.argsort(-s[mixed], kind="stable")]
    by_lot = [[after(rng.choice(n, k, replace=False)) for _ in range(lots)] for k in rows]
    return MassSculpting(
        tuple(eps_b),
        tuple(after(order[:k]) for k in rows),
        tuple(float(np.mean(values)) for values in by_lot),
        tuple(float(np.std(values, ddof=1)) for values in by_lot),
        rows,
        number,
    )


def _bits(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms."""
    from scipy.special import entr

    return float(entr((p + q) / 2).sum() - (entr(p).sum() + entr(q).sum()) / 2) / math.log(2)
