"""Marginals of codes against the standard normal: each dimension, and the radius."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow import validate


@dataclass(frozen=True)
class Marginals:
    """Result of `marginals`.

    Attributes:
        ks: ``(m,)`` largest gap between the distribution of each dimension and Φ.
        p_values: ``(m,)`` of each by itself.
        radius_ks, radius_p_value: the same of |z|² against chi² with m degrees of freedom.
        p_value: of all m + 1 tests together, by Bonferroni: (m + 1) times the least, at most 1.
        rows: codes that were tested.
    """

    ks: Tensor
    p_values: Tensor
    radius_ks: float
    radius_p_value: float
    p_value: float
    rows: int

    def __str__(self) -> str:
        m, worst = len(self.ks), int(self.p_values.argmin())
        return (
            f"KS to N(0, 1): worst of {m} dimensions {float(self.ks[worst]):.3f} (number {worst}, p = "
            f"{float(self.p_values[worst]):.2g}); |z|^2 to chi^2: {self.radius_ks:.3f} (p = {self.radius_p_value:.2g}); "
            f"p = {self.p_value:.2g} for {m + 1} tests; N = {self.rows:,}"
        )


def marginals(z: Any) -> Marginals:
    """Kolmogorov-Smirnov distances of each dimension from N(0, 1) and of |z|² from chi² with m degrees of freedom.

    Conditions for z ~ N(0, I), not the whole of it: correlations show in `nac`, the joint distribution in `mmd_test`. At
    large N everything is rejected: read the distances, which do not grow with N. The p-values need rows that are
    independent and were not trained on.

    Args:
        z: codes ``(n, m)``, two rows or more; *sampled* ones where the encoder is stochastic, for its means are
            narrower than the prior.

    >>> found = marginals(torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)) * 1.5)
    >>> found.p_value < 1e-6
    True
    """
    from scipy import stats

    x = validate.table(z, "marginals", "z", 2, dtype=torch.float64, device="cpu").numpy()
    tests = [stats.kstest(column, "norm") for column in x.T]
    radius = stats.kstest((x**2).sum(1), stats.chi2(x.shape[1]).cdf)
    p_values = torch.tensor([float(t.pvalue) for t in tests], dtype=torch.float64)
    least = min(float(p_values.min()), float(radius.pvalue))
    return Marginals(
        torch.tensor([float(t.statistic) for t in tests], dtype=torch.float64),
        p_values,
        float(radius.statistic),
        float(radius.pvalue),
        min(1.0, (len(tests) + 1) * least),
        len(x),
    )
