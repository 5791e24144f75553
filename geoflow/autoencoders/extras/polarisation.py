"""How a mask over latent dimensions is learned: in a turn of its own, and driven to nothing or all."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.divergences import draws_of
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

    T the critic, e the codes and n the draws of the `MaskedPrior` before the mask. w begins at 2 / latent_dim and doubles
    after each `every` steps, up to `limit`. In the model's turns, e of dimensions that the mask closes are shrunk by the
    extra shrink · dim · mean_ij (e_ij − ē_j)² exp(−10 a_j²), `dim` since costs are sums. Held-out rows report Σ a (1 − a).

    The method as published has faults that are kept, because without them it is another one:

    - a (1 − a) pushes away from ½, either way, whatever the data say: once w outweighs the rest, the schedule decides what
      is closed, and a mask that begins open and needs long to close stays open. Compare figures of equal schedules only.
    - The square is smallest where the verdicts differ by −1, not where they agree: on top of fooling the critic, which the
      encoder does too, the mask is asked to turn its verdict round.

    And one that is not: its learning rates were to fall to a fifth after 5/4 of `every` steps by a factor on the losses,
    which RMSProp does not see. `fit` lowers learning rates themselves.

    Args:
        every: steps between doublings of w; None is the paper's: 300 up to 20 latent dimensions, 450 for each beyond,
            at most 40,000.
        limit: of w.
        reconstruction: weight of the cost a coordinate of the data.
        shrink: weight of the shrinkage, 100 beside costs a coordinate.
        rate: the mask's learning rate as a multiple of the model's.

    Raises:
        TypeError: the auto-encoder of the model is not masked, or its divergence no Wasserstein critic.
    """

    name = "mask"

    def __init__(
        self,
        every: int | None = None,
        limit: float = 2048.0,
        reconstruction: float = 1000.0,
        shrink: float = 100.0,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.every = None if every is None else validate.count(every, "MaskPolarisation", "every", 1)
        self.limit = checked(limit, "MaskPolarisation", "limit")
        self.reconstruction = checked(reconstruction, "MaskPolarisation", "reconstruction")
        self.shrink, self.rate = checked(shrink, "MaskPolarisation", "shrink"), float(rate)
        self.step = 0

    def schedule(self, step: int, steps: int) -> None:
        self.step = step

    def pressure(self, latent_dim: int) -> float:
        """w at the present step."""
        every = self.every
        if every is None:
            every = 300 if latent_dim <= 20 else min(40_000, 450 * latent_dim)
        return min(self.limit, 2 / latent_dim * 2.0 ** min(self.step // every, 1000))

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
        return [Player("mask", self.keeps(model), 1, self.rate, _projected)]

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        batch, cost = model._batch(x)
        n = draws_of(model.prior, (len(x),))
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


def _projected(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """RMSProp that leaves nothing below zero."""
    optimizer = torch.optim.RMSprop(parameters, lr, alpha=0.9)
    optimizer.register_step_post_hook(_clamp)
    return optimizer


@torch.no_grad()
def _clamp(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for w in group["params"]:
            w.clamp_(min=0)
