"""Total correlation of codes from a minibatch alone: no adversary, but Gaussian posteriors."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoflow import validate
from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.posteriors import Behind, GaussianPosterior, Posterior
from geoflow.autoencoders.terms import Batch, Term
from geoflow.distributions.normals import LOG_2PI
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class MinibatchTotalCorrelation(Term):
    """weight · E [log q_Z(z) − Σ_j log q_Z(z_j)], the densities estimated from the batch: β-TCVAE's penalty. [chen2018]

    Of N training rows a batch holds M. A row's own posterior counts 1/N, the others (N − 1)/(N (M − 1)) each, which makes
    the *densities* unbiased ("minibatch stratified sampling" of the paper; its "minibatch weighted sampling" divides by
    N M throughout, and is off by a factor between 1/N and 1/M). Their *logarithms* are too small in the mean, the less so
    the larger the batch, and exact where it is all rows. The figure, a difference of such, errs either way: too high where
    posteriors overlap in single coordinates only. Held-out rows report the figure that takes them for all rows there are.

    Args:
        rows: N.
        weight: β − 1 beside `KL` of weight 1.
    """

    name = "total correlation"

    def __init__(self, rows: int, weight: float = 5.0) -> None:
        super().__init__()
        self.rows = validate.count(rows, "MinibatchTotalCorrelation", "rows", 2)
        self.weight = checked(weight, "MinibatchTotalCorrelation")

    def forward(self, batch: Batch) -> Tensor:
        return self.weight * _of(batch, self.rows)

    def figure(self, batch: Batch) -> Tensor:
        """That of these rows alone, times the weight."""
        return self.weight * _of(batch, len(batch.z))

    def check(self, model: "LatentModel") -> None:
        if not _gaussian(model.posterior):
            raise TypeError(
                "MinibatchTotalCorrelation needs the density of each coordinate of a code, which a GaussianPosterior has and "
                f"{type(model.posterior).__name__} has not: take TotalCorrelation(net)."
            )


def _gaussian(posterior: Posterior | None) -> bool:
    while isinstance(posterior, Behind):
        posterior = posterior.inside
    return isinstance(posterior, GaussianPosterior)


def _of(batch: Batch, rows: int) -> Tensor:
    if len(batch.z) < 2:
        raise ValueError(
            "MinibatchTotalCorrelation needs two rows or more in a batch: raise batch_size=, or hold out more rows (validation=)."
        )
    assert batch.theta is not None
    joint, each = aggregated(batch.theta, batch.z, rows)
    return (joint - each.sum(-1)).mean()


def aggregated(theta: Tensor, z: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Estimates of log q_Z(z_i) ``(n,)`` and of log q_Z(z_ij) ``(n, m)`` from the Gaussian posteriors of a batch.

    Args:
        theta: their means and log deviations ``(n, 2 m)``; z: a draw of each ``(n, m)``.
        rows: N, how many rows there are in all; a smaller number than n counts as n.
    """
    n = len(z)
    rows = max(rows, n)
    mean, log_std = theta.chunk(2, -1)
    weights = theta.new_full((n, n), math.log((rows - 1) / (rows * (n - 1))))
    weights.fill_diagonal_(-math.log(rows))
    joint, each = [], []
    for part, own in zip(z.split(256), weights.split(256), strict=True):  # so that n² m numbers are never held
        off = (part[:, None] - mean) * (-log_std).exp()
        log_q = -0.5 * (off * off + LOG_2PI) - log_std
        joint.append(torch.logsumexp(own + log_q.sum(-1), 1))
        each.append(torch.logsumexp(own[..., None] + log_q, 1))
    return torch.cat(joint), torch.cat(each)
