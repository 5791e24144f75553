"""log p of rows, or the bound of it that a latent model has, and what it is called in files and in words."""

import torch
from torch import Tensor

from geoflow.autoencoders import LatentModel
from geoflow.density import Density, Sampler, log_prob_in_blocks

DRAWS = 16
"""Draws of a code for each bound; a single one is the ELBO, which is lower."""


def has_log_p(model: Sampler) -> bool:
    """Whether there is a log p, or a bound."""
    return isinstance(model, Density) or (isinstance(model, LatentModel) and model.bounded)


def log_p(model: Sampler, x: Tensor) -> Tensor:
    """log p ``(n,)``, or its lower bound under a fixed seed; raises where there is neither."""
    if isinstance(model, LatentModel):
        return model.log_prob_bound(x, DRAWS, torch.Generator(x.device).manual_seed(0))
    assert isinstance(model, Density)
    return log_prob_in_blocks(model, x)


def column(model: Sampler) -> str:
    """Its name in a table."""
    return "log_prob_bound" if isinstance(model, LatentModel) else "log_prob"


def words(model: Sampler) -> str:
    """Its name in a sentence."""
    return "lower bound of log p" if isinstance(model, LatentModel) else "log p"
