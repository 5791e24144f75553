"""Conformal p-values of anomaly scores, and the discoveries that control the share of false ones."""

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from geoflow.metrics.auc import vector


def conformal_p_values(scores_held_out: Any, scores: Any) -> Tensor:
    """p = (1 + #{held-out scores ≥ s}) / (n + 1) for each score s, high scores being anomalous.

    Exact at any n if the row and the held-out ones are exchangeable: P(p ≤ t) ≤ t, whatever the score and the data are,
    with equality at t = 1/(n + 1), 2/(n + 1), ... for scores without ties. Held-out rows must be normal ones that neither
    the model nor the choice of the score has seen. The least p-value is 1/(n + 1): with few held-out rows nothing is
    discovered among many. [bates2023]

    Args:
        scores_held_out: ``(n,)``, of normal rows.
        scores: ``(m,)``, of rows to be judged.

    Returns:
        ``(m,)`` in float64.

    >>> conformal_p_values([1.0, 2.0, 3.0], [0.0, 2.0, 9.0]).tolist()
    [1.0, 0.75, 0.25]
    """
    held = vector(scores_held_out, "conformal_p_values", "scores_held_out").sort().values
    asked = vector(scores, "conformal_p_values", "scores")
    at_least = len(held) - torch.searchsorted(held, asked)
    return (1 + at_least).double() / (len(held) + 1)


def discoveries(p_values: Any, fdr: float = 0.1) -> Tensor:
    """Truth values ``(m,)``: the k smallest p-values, with k the largest for which p₍ₖ₎ ≤ k fdr / m.

    The procedure of Benjamini and Hochberg: the expected share of normal rows among those found is at most fdr · m₀/m, m₀
    of m being normal, for independent p-values [benjamini1995] and for conformal ones that share their held-out rows
    [bates2023].

    Args:
        p_values: ``(m,)`` in [0, 1].
        fdr: the false discovery rate to be kept, in (0, 1).

    >>> discoveries([0.05, 0.5, 0.01, 0.045], fdr=0.08).tolist()  # .05 ≤ 3/4 of .08, so .045 too, though it is > 2/4
    [True, False, True, True]
    """
    who = "discoveries"
    p = vector(p_values, who, "p_values")
    if bool(((p < 0) | (p > 1)).any()):
        raise ValueError(f"{who} expects p-values in [0, 1], got {float(p.min()):.3g} to {float(p.max()):.3g}.")
    if not (isinstance(fdr, Real) and 0 < fdr < 1):
        raise ValueError(f"{who}: fdr is a share in (0, 1), got {fdr!r}.")
    ordered = p.sort().values
    limits = fdr * torch.arange(1, len(p) + 1, dtype=torch.float64) / len(p)
    kept = (ordered <= limits).nonzero()
    return p <= ordered[kept[-1, 0]] if len(kept) else torch.zeros(len(p), dtype=torch.bool)
