"""Total correlation of codes by a density ratio: how far their coordinates are from being independent."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.terms import Batch, Term, verdicts
from geoflow.density import Player
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class TotalCorrelation(Term):
    """weight · E T(z), T = log q_Z(z) / Π_j q_Z(z_j) as a network learns it: FactorVAE's penalty. [kim2018]

    The network learns the ratio by logistic regression in turns of its own: codes against codes whose coordinates were
    exchanged between rows, each by itself. The two come from two halves of its batch, so that no row stands on both sides.
    As a critic's verdict, T is no figure of the codes, since it moves: held-out rows report the total correlation of the
    Gaussian with the covariance of the codes, −½ ln det of their correlations, zero where none are correlated.

    Args:
        net: T, codes ``(n, latent_dim)`` → ``(n, 1)``.
        weight: γ of the paper, 6 to 40 beside a Bernoulli cost and KL.
        rate: the network's learning rate as a multiple of the model's.
    """

    name, by_rows = "total correlation", True

    def __init__(self, net: nn.Module, weight: float = 6.0, rate: float = 1.0) -> None:
        super().__init__()
        self.net, self.weight = net, checked(weight, "TotalCorrelation")
        self.rate = checked(rate, "TotalCorrelation", "rate")

    def ratio(self, z: Tensor) -> Tensor:
        """T(z) ``(n,)``."""
        return verdicts(self.net, z, "TotalCorrelation")

    def forward(self, batch: Batch) -> Tensor:
        return self.weight * self.ratio(batch.z)

    def figure(self, batch: Batch) -> Tensor:
        """That of the Gaussian with the same covariance, times the weight."""
        return self.weight * gaussian_total_correlation(batch.z)

    def players(self, model: "LatentModel") -> list[Player]:
        build = partial(torch.optim.Adam, betas=(0.5, 0.9))
        return [Player("density ratio", self.net.parameters(), 1, self.rate, build)]

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise ValueError("TotalCorrelation needs two rows or more in a batch: raise batch_size=.")
        joint, other = model.codes(x).chunk(2)
        apart = torch.stack([column[torch.randperm(len(other), device=x.device)] for column in other.unbind(1)], 1)
        return 0.5 * (softplus(-self.ratio(joint)).mean() + softplus(self.ratio(apart)).mean())


def gaussian_total_correlation(z: Tensor) -> Tensor:
    """−½ ln det R ``()``, R the correlations of codes ``(n, m)``; a constant column counts as independent."""
    off = (z - z.mean(0)).double()
    scale = off.square().mean(0).sqrt()
    off = off / torch.where(scale > 0, scale, torch.ones_like(scale))
    correlations = off.mT @ off / len(z)
    correlations.diagonal().fill_(1.0)
    found = -0.5 * torch.linalg.eigvalsh(correlations).clamp_min(1e-9).log().sum()
    return found.to(z)
