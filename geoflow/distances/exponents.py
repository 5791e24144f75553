"""Exponents of density-based distances: geoflow's power β (ds = p^{-β} |dx|) and the literature's other numbers.

Different papers raise different things to a power, and the numbers are not the same. d is the intrinsic dimension.

| source | its number | in ours |
|---|---|---|
| Groisman, Jonckheere, Sapienza; sums of edge lengths to a power | α | β = (α − 1) / d |
| Hwang, Damelin, Hero; Little, McKenzie, Murphy (take their p-th root back first) | p | β = (p − 1) / d |
| Bijral, Ratliff, Srebro | density power r | β = r |
| metric tensor G = p^{-m} I | m | β = m / 2 |
"""

import math


def power_from_alpha(alpha: float, dim: float) -> float:
    """β = (α − 1) / d, where a sample's path costs Σ |Δ|^α.

    >>> power_from_alpha(2.0, 5)
    0.2
    """
    if not (math.isfinite(alpha) and alpha >= 1):
        raise ValueError(f"alpha is a finite number of at least 1 (1 is Euclid), got {alpha}.")
    return (alpha - 1) / _dim(dim)


def alpha_from_power(power: float, dim: float) -> float:
    """α = 1 + β d, the inverse of `power_from_alpha`."""
    return 1 + check_power(power) * _dim(dim)


def power_from_metric(exponent: float) -> float:
    """β = m / 2, where the metric tensor is p^{-m} I."""
    return check_power(exponent / 2)


def metric_from_power(power: float) -> float:
    """m = 2 β, the inverse of `power_from_metric`."""
    return 2 * check_power(power)


def check_power(power: float) -> float:
    """`power` as a float, finite and not negative."""
    if isinstance(power, bool) or not isinstance(power, (int, float)):
        raise TypeError(f"power must be a number, got {power!r}.")
    if not math.isfinite(power) or power < 0:
        raise ValueError(f"power must be finite and not negative (0 is the plain metric of the space), got {power}.")
    return float(power)


def _dim(dim: float) -> float:
    if not (math.isfinite(dim) and dim > 0):
        raise ValueError(f"the intrinsic dimension must be positive, got {dim}.")
    return float(dim)
