"""Divergences by an adversary: a critic of codes that learns to tell them from draws of the prior."""

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from geoflow import validate
from geoflow.autoencoders.divergences import drawn, imq
from geoflow.autoencoders.terms import Batch, Term, verdicts
from geoflow.density import Player, Sampler
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@register
class Critic(Term):
    """A critic T between codes z and draws n of the prior, trained in turns of its own; the model lowers its verdict.

    "gan": the critic learns the log ratio of prior to aggregated posterior by logistic regression, the encoder lowers
    E softplus(−T(z)) (non-saturating). [goodfellow2014, makhzani2016] "wgan-gp": the critic raises
    E T(z) − E T(n) − penalty · E (|∇T| − 1)² at points between z and n, one share a row, and encoder and a prior with
    parameters lower E T(z) − E T(n), Wasserstein's distance. [gulrajani2017] The verdict is no figure of how far codes
    are from the prior, since the critic moves: held-out rows report `MMD` in its place.

    Args:
        net: codes ``(n, latent_dim)`` → ``(n, 1)``; without batch norm, which would couple the rows.
        kind: "gan" or "wgan-gp".
        steps: turns of the critic for each of the model; None is 1, and 5 of "wgan-gp".
        rate: the critic's learning rate as a multiple of the model's.
        penalty: of "wgan-gp".
        apart: with a share, the encoder answers the critic in a turn of its own, its learning rate that share of the
            model's, and the prior in another: FlexAE, where priors move to codes sooner than codes to priors.
    """

    name = "critic"

    def __init__(
        self,
        net: nn.Module,
        kind: Literal["gan", "wgan-gp"] = "gan",
        steps: int | None = None,
        rate: float = 1.0,
        penalty: float = 10.0,
        apart: float | None = None,
    ) -> None:
        super().__init__()
        if kind not in ("gan", "wgan-gp"):
            raise ValueError(f"Critic expects kind='gan' or 'wgan-gp', got {kind!r}.")
        if kind == "wgan-gp" and any(isinstance(m, NORMS) for m in net.modules()):
            raise ValueError(
                "Critic: batch norm in the net couples rows, and the penalty is of single ones: take LayerNorm."
            )
        self.net, self.kind = net, kind
        self.steps = (5 if kind == "wgan-gp" else 1) if steps is None else validate.count(steps, "Critic", "steps", 1)
        for name, value in {"rate": rate, "penalty": penalty, "apart": 0.0 if apart is None else apart}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"Critic expects {name} >= 0, got {value}.")
        self.rate, self.penalty, self.apart = float(rate), float(penalty), apart

    def verdict(self, z: Tensor) -> Tensor:
        """T(z) ``(n,)``."""
        return verdicts(self.net, z, "Critic")

    def forward(self, batch: Batch) -> Tensor:
        if self.apart is not None:  # answered in turns of their own
            return batch.z.new_zeros(())
        for_prior = _raises(batch.prior)
        value = self._answer(batch.z)
        return value + self._answer_of_prior(batch.prior, len(batch.z)) if for_prior else value

    def figure(self, batch: Batch) -> Tensor:
        """`MMD` between codes and draws of the prior."""
        return imq(batch.z, batch.prior._sample_noisy((len(batch.z),), None, None))

    def _answer(self, z: Tensor) -> Tensor:
        """What the encoder lowers."""
        return (softplus(-self.verdict(z)) if self.kind == "gan" else self.verdict(z)).mean()

    def _answer_of_prior(self, prior: Sampler, n: int) -> Tensor:
        """What a prior with parameters lowers."""
        verdict = self.verdict(drawn(prior, n))
        return (softplus(verdict) if self.kind == "gan" else -verdict).mean()

    # -- turns --------------------------------------------------------------------------------------------------------

    def players(self, model: "LatentModel") -> list[Player]:
        optimizer = partial(torch.optim.Adam, betas=(0.5, 0.999) if self.kind == "gan" else (0.0, 0.9))
        players = [Player("critic", self.net.parameters(), self.steps, self.rate, optimizer)]
        if self.apart is not None:
            encoder = list(model.autoencoder.encoder_parameters())
            players.append(Player("encoder", encoder, 1, self.apart, optimizer))
            if _raises(model.prior):
                own = [w for w in model.prior.parameters() if w.requires_grad]
                players.append(Player("prior", own, optimizer=optimizer))
        return players

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        if player == "prior":
            return self._answer_of_prior(model.prior, len(x))
        if player == "encoder":
            return self._answer(model._codes(x))
        with torch.no_grad():
            z = model._codes(x)
            n = model.prior._sample_noisy((len(x),), None, None)
        if self.kind == "gan":
            return softplus(-self.verdict(n)).mean() + softplus(self.verdict(z)).mean()
        between = torch.lerp(n, z, torch.rand(len(z), 1, dtype=z.dtype, device=z.device)).requires_grad_()
        (slope,) = torch.autograd.grad(self.verdict(between).sum(), between, create_graph=True)
        penalty = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
        return self.verdict(n).mean() - self.verdict(z).mean() + self.penalty * penalty


def _raises(prior: Sampler) -> bool:
    """Whether a prior has parameters to learn by."""
    return any(w.requires_grad for w in prior.parameters())
