"""A critic of decoded data, and costs in what it has learned to look at: VAE/GAN."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from geoflow.autoencoders.costs import Cost
from geoflow.autoencoders.divergences import drawn, imq
from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.terms import Batch, Term, verdicts
from geoflow.density import Player
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class DataCritic(Term):
    """weight · E softplus(−T(x̂)), T = head(features(x)) a critic that tells data from what is decoded. [larsen2016]

    In turns of its own it learns by logistic regression, data against reconstructions and decoded draws of the prior, as
    many of each. Unlike in the paper the encoder answers it too. Its verdict moves: held-out rows report the maximum mean
    discrepancy between data and decoded draws, in units of the data's deviation.

    Args:
        features: data ``(n, dim)`` → ``(n, width)``.
        head: features → ``(n, 1)``.
        weight: of the answer.
        rate: the critic's learning rate as a multiple of the model's.
    """

    name = "data critic"

    def __init__(self, features: nn.Module, head: nn.Module, weight: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.features, self.head = features, head
        self.weight, self.rate = checked(weight, "DataCritic"), checked(rate, "DataCritic", "rate")

    def verdict(self, x: Tensor) -> Tensor:
        """T(x) ``(n,)``."""
        return verdicts(self.head, self.features(x), "DataCritic")

    def forward(self, batch: Batch) -> Tensor:
        made = batch.autoencoder._decode(drawn(batch.prior, len(batch.z)))
        return self.weight * softplus(-self.verdict(torch.cat([batch.xh, made]))).mean()

    def figure(self, batch: Batch) -> Tensor:
        """The maximum mean discrepancy of generation, times the weight."""
        made = batch.autoencoder._decode(batch.prior._sample_noisy((len(batch.x),), None, None))
        scale = batch.x.std().clamp_min(torch.finfo(batch.x.dtype).tiny)
        return self.weight * imq(batch.x / scale, made / scale)

    def players(self, model: "LatentModel") -> list[Player]:
        build = partial(torch.optim.Adam, betas=(0.5, 0.999))
        return [Player("data critic", self.parameters(), 1, self.rate, build)]

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = torch.cat([model.codes(x), model.prior._sample_noisy((len(x),), None, None)])
            made = model.autoencoder._decode(z)
        return softplus(-self.verdict(x)).mean() + softplus(self.verdict(made)).mean()


@register
class LearnedSimilarity(Cost):
    """½ |f(x) − f(x̂)|², f the features of the model's `DataCritic`, which it finds among the extras. [larsen2016]

    The features learn from the critic's turns alone. Since they move, costs of different steps are no measure: outside of
    training, on held-out rows, it is Σ (x − x̂)².
    """

    def __init__(self) -> None:
        super().__init__()
        self._bound: tuple[DataCritic, ...] = ()  # in a tuple, so that it is no child of ours

    def bind(self, model: "LatentModel") -> None:
        found = tuple(term for term in model.extras if isinstance(term, DataCritic))
        if len(found) != 1:
            raise TypeError(f"LearnedSimilarity needs one DataCritic among the extras of the model, got {len(found)}.")
        self._bound = found

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        if not self.training:
            return (xh - x).square().sum(-1)
        (critic,) = self._bound
        return 0.5 * (critic.features(xh) - critic.features(x)).square().sum(-1)
