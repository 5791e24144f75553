"""The one check of all extras: a weight that would raise what it is to lower is refused."""

import math
from numbers import Real


def checked(weight: float, who: str, name: str = "weight") -> float:
    """The weight as a float, at least zero and finite."""
    if not (isinstance(weight, Real) and weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"{who} expects {name} >= 0, got {weight!r}: training would raise what it is to lower.")
    return float(weight)
