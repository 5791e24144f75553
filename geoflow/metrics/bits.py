"""Bits per dimension, the figure of image models."""

import math
from typing import Any

import torch

from geoflow import validate


def bits_per_dim(log_prob: Any, dim: int, levels: int = 1) -> float:
    """−mean(log_prob − dim log levels) / (dim log 2): what a value of a row costs, in bits.

    Args:
        log_prob: in nats, one a row.
        dim: values a row.
        levels: 1 if `log_prob` is about whole numbers, as that of `Dequantized.log_prob_bound`; 256 if it is a density of
            eight-bit values with noise, divided by 256.

    Noise of one level that is spread evenly costs log₂ levels bits:

    >>> bits_per_dim(torch.zeros(10), dim=784, levels=256)
    8.0
    """
    dim, levels = validate.count(dim, "bits_per_dim", "dim", 1), validate.count(levels, "bits_per_dim", "levels", 1)
    nats = torch.as_tensor(log_prob).double()
    if nats.numel() == 0 or bool(nats.isnan().any()):
        raise ValueError(f"bits_per_dim expects one log probability a row, got {'NaN' if nats.numel() else 'none'}.")
    return float(dim * math.log(levels) - nats.mean()) / (dim * math.log(2))
