"""Mean correlation coefficient: how well columns match true sources, whatever their order, sign and scale."""

from typing import Any, Literal

import torch
from torch import Tensor

from geoflow import validate


def mean_correlation(
    z: Any, sources: Any, labels: Any = None, kind: Literal["pearson", "spearman"] = "pearson"
) -> float:
    """MCC = max over matchings π of (1/k) Σ_i |corr(z_π(i), sources_i)|, between 0 and 1.

    Each source is matched with a column of its own by the Hungarian method. With labels, correlations are taken within
    each class and averaged over classes, with their signs, before they are matched: class means then lift nothing, which
    without labels can bring columns that mix all sources above .95. [sorrenson2020]

    Args:
        z: columns found ``(n, m)``, m ≥ k.
        sources: true ones ``(n, k)``.
        labels: a whole number for each row ``(n,)``; None takes all rows as one class.
        kind: "pearson", or "spearman" for the correlation of ranks, which forgives monotone curves.

    Raises:
        ValueError: shapes that do not fit, fewer than two rows in a class, or a constant column.
    """
    from scipy.optimize import linear_sum_assignment

    who = "mean_correlation"
    z, sources = validate.table(z, who, "z", 2).double(), validate.table(sources, who, "sources", 2).double()
    if len(z) != len(sources) or z.shape[1] < sources.shape[1]:
        raise ValueError(
            f"{who} expects z (n, m) and sources (n, k) with m >= k, got {tuple(z.shape)} and {tuple(sources.shape)}."
        )
    if kind not in ("pearson", "spearman"):
        raise ValueError(f"{who} expects kind='pearson' or 'spearman', got {kind!r}.")
    labels = None if labels is None else torch.as_tensor(labels)
    if labels is None:
        groups = [torch.arange(len(z))]
    elif labels.shape != z.shape[:1] or labels.is_floating_point():
        raise ValueError(f"{who} expects one whole number a row as labels, got {labels.dtype} {tuple(labels.shape)}.")
    else:
        groups = [(labels == u).nonzero()[:, 0] for u in labels.unique()]
    table = torch.stack([_correlations(z[g], sources[g], kind) for g in groups]).mean(0).abs().numpy()
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].mean())


def _correlations(z: Tensor, sources: Tensor, kind: str) -> Tensor:
    """Of each source with each column ``(k, m)``."""
    if len(z) < 2:
        raise ValueError("mean_correlation expects at least two rows of each class.")
    if kind == "spearman":
        from scipy.stats import rankdata

        z, sources = (torch.as_tensor(rankdata(t.numpy(), axis=0)) for t in (z, sources))
    a, b = (t - t.mean(0) for t in (sources, z))
    lengths = a.norm(dim=0)[:, None] * b.norm(dim=0)
    if bool((lengths == 0).any()):
        raise ValueError("mean_correlation: a column is constant within a class, so it has no correlation: drop it.")
    return a.T @ b / lengths
