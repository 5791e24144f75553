"""What the best model can reach on made data: the entropy of its density, with the error of the estimate."""

import math

from torch import Generator

from geoflow import validate
from geoflow.density import Density, log_prob_in_blocks


def entropy(density: Density, draws: int = 100_000, seed: int = 0) -> tuple[float, float]:
    """−E log p in nats, and its standard error: the mean negative log-likelihood that no model undercuts.

    In closed form, with an error of zero, where the density has one, else the mean over its draws. On held-out rows
    compare a model with the mean of `density.log_prob` on those same rows, whose noise is then shared.

    Args:
        density: any that draws and takes no context, as the `density` of a `Dataset`.
        draws: how many; the error falls with their root.
        seed: of the draws.

    >>> from geoflow import StandardNormal
    >>> entropy(StandardNormal(2))[1]
    0.0
    """
    try:
        return float(density.entropy()), 0.0
    except NotImplementedError:
        n = validate.count(draws, "entropy", "draws", 2)
        rows = -log_prob_in_blocks(density, density.sample(n, generator=Generator().manual_seed(seed))).double()
        return float(rows.mean()), float(rows.std()) / math.sqrt(n)
