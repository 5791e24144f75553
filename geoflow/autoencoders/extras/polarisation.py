"""How a mask over latent dimensions is learned: in a turn of its own, and driven to nothing or all."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.extras.masks import Masked, masked_in, unmasked
from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.terms import Batch, Term
from geoflow.density import Player
from geoflow.maps import Autoencoder
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class MaskPolarisation(Term):
    """What MaskAAE does with the mask a = 1 − exp(−t) of a `Masked` auto-encoder. [mondal2020]

    Once a step the mask alone lowers, by RMSProp and projected to t ≥ 0,

        reconstruction · E c / dim + (1 + E T(a e) − E T(a n))² + w Σ_j a_j (1 − a_j),

    T the critic, e the codes and n the draws of the `MaskedPrior` before the mask. The mask moves from a share `moves` of the
    steps on, by about reach / (steps left) a step at most, whatever `fit`'s learning rate. From a share `decides` on w is
    2 / latent_dim and doubles after each `every` steps, up to `limit`. In the model's turns, e of dimensions that the mask
    closes are shrunk by the extra shrink · dim · mean_ij (e_ij − ē_j)² exp(−10 a_j²), `dim` since costs are sums. Held-out
    rows report Σ a (1 − a). The schedule must be run to its end, so `fit` neither stops early nor goes back.

    What decides which dimensions stay? a (1 − a) pushes away from ½, either way, whatever the data say; so all must have
    happened before w outweighs the rest: networks that reconstruct, then a mask that had the time to go from open to closed.
    What is half closed is shrunk, which moves what the codes carry to dimensions that are more open, and closes the others.
    Published runs have the time by their length (5e5 steps of 5e-4, up to 40,000 steps a doubling), though not up to 20
    latent dimensions, where w is past 1 after 1,200 steps and t has gone about ½: there the draw of the start decides. The
    defaults share out runs of any length. In short ones (2,000 steps of 64 rows) some dimensions stay open that are empty:
    look at the variances of the codes too.

    One fault of the method as published is kept, because without it it is another one: the square is smallest where the
    verdicts differ by −1, not where they agree, so on top of fooling the critic, which the encoder does too, the mask is
    asked to turn its verdict round. One is not: its learning rates were to fall to a fifth after 5/4 of `every` steps by
    a factor on the losses, which RMSProp does not see.

    Args:
        every: steps between doublings of w; None is as many as bring it to `limit` at the end. The paper's: 300 up to 20
            latent dimensions, 450 for each beyond, at most 40,000, with limit=2048, moves=0, decides=0.
        limit: of w.
        reconstruction: weight of the cost a coordinate of the data.
        shrink: weight of the shrinkage, 100 beside costs a coordinate.
        reach: how far t may go in the whole run; from open to closed it is 3.
        moves, decides: shares of the steps before the mask moves, and before w is more than 0.

    Raises:
        TypeError: the auto-encoder of the model is not masked, or its divergence no Wasserstein critic.
    """

    name, to_the_end = "mask", True

    def __init__(
        self,
        every: int | None = None,
        limit: float = 32.0,
        reconstruction: float = 1000.0,
        shrink: float = 100.0,
        reach: float = 10.0,
        moves: float = 0.2,
        decides: float = 0.6,
    ) -> None:
        super().__init__()
        who = "MaskPolarisation"
        self.every = None if every is None else validate.count(every, who, "every", 1)
        self.limit, self.reconstruction = checked(limit, who, "limit"), checked(reconstruction, who, "reconstruction")
        self.shrink, self.reach = checked(shrink, who, "shrink"), checked(reach, who, "reach")
        self.moves, self.decides = checked(moves, who, "moves"), checked(decides, who, "decides")
        if not self.moves <= self.decides < 1:
            raise ValueError(f"{who} expects shares moves <= decides < 1 of the steps, got {moves} and {decides}.")
        self.step, self.steps = 0, 1

    def schedule(self, step: int, steps: int) -> None:
        self.step, self.steps = step, steps

    @property
    def pace(self) -> float:
        """The mask's learning rate at the present step."""
        first = self.moves * self.steps
        return 0.0 if self.step < first else self.reach / (self.steps - first)

    def pressure(self, latent_dim: int) -> float:
        """w at the present step."""
        since = self.step - self.decides * self.steps
        if since < 0:
            return 0.0
        doublings = max(1.0, math.log2(max(1.0, self.limit * latent_dim / 2)))
        every = (1 - self.decides) * self.steps / doublings if self.every is None else self.every
        return min(self.limit, 2 / latent_dim * 2.0 ** min(since // every, 1000))

    def check(self, model: "LatentModel") -> None:
        held = {
            "a Masked auto-encoder": masked_in(model.autoencoder) is not None,
            "a Critic of kind 'wgan-gp' as divergence": _critic(model) is not None,
        }
        if lacking := [wanted for wanted, there in held.items() if not there]:
            raise TypeError(f"MaskPolarisation needs {', '.join(lacking)} in the model: see recipes.maskaae.")

    def forward(self, batch: Batch) -> Tensor:
        e, a = unmasked(batch.autoencoder, batch.x), _masked(batch.autoencoder).mask
        shrunk = (e - e.mean(0)).square() * (-10 * a * a).exp()
        return self.shrink * batch.x.shape[1] * shrunk.mean()

    def figure(self, batch: Batch) -> Tensor:
        """Σ a (1 − a): how far the mask is from nothing or all."""
        return _undecided(_masked(batch.autoencoder).mask)

    def keeps(self, model: "LatentModel") -> list[nn.Parameter]:
        return [_masked(model.autoencoder).free]

    def players(self, model: "LatentModel") -> list[Player]:
        return [Player("mask", self.keeps(model), optimizer=self._optimizer)]

    def _optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """RMSProp at a pace of its own, that leaves nothing below zero."""
        optimizer = torch.optim.RMSprop(parameters, lr, alpha=0.9)
        optimizer.register_step_pre_hook(self._set_pace)
        optimizer.register_step_post_hook(_clamp)
        return optimizer

    def _set_pace(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.pace

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        batch, cost = model._batch(x)
        n = model.prior._sample_noisy((len(x),), None, None)
        critic = _critic(model)
        assert critic is not None
        apart = critic.verdict(batch.z).mean() - critic.verdict(n).mean()
        kept = self.reconstruction / model.dim * cost.mean()
        a = _masked(model.autoencoder).mask
        return kept + (1 + apart).square() + self.pressure(len(a)) * _undecided(a)


def _undecided(mask: Tensor) -> Tensor:
    return (mask * (1 - mask)).sum()


def _masked(autoencoder: Autoencoder) -> Masked:
    found = masked_in(autoencoder)
    assert found is not None, "check looked"
    return found


def _critic(model: "LatentModel") -> Critic | None:
    kinds = (term for term in model.divergence if isinstance(term, Critic) and term.kind == "wgan-gp")
    return next(kinds, None)


@torch.no_grad()
def _clamp(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for w in group["params"]:
            w.clamp_(min=0)
