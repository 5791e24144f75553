"""Classes of rows by a prior of several components."""

from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.autoencoders.model import LatentModel
from geoflow.density import like
from geoflow.distributions import GaussianMixture


@torch.no_grad()
def responsibilities(model: LatentModel, x: Any) -> Tensor:
    """p(k | encode(x)) ``(n, K)`` of rows ``(n, dim)`` under a mixture of K Gaussians as prior: whose row it is.

    Their largest is the row's class, found without labels; of other priors there are none, and it raises TypeError.
    """
    if not isinstance(model, LatentModel) or not isinstance(model.prior, GaussianMixture):
        what = type(model.prior).__name__ if isinstance(model, LatentModel) else type(model).__name__
        raise TypeError(f"responsibilities expects a LatentModel with a GaussianMixture as prior, got {what}.")
    x = like(validate.table(x, "responsibilities", minimum=1), model)
    codes = torch.cat([model.autoencoder.encode(part) for part in x.split(2048)])
    return torch.softmax(model.prior.log_prob_components(codes), -1)
