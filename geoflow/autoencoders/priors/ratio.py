"""A prior that is a base times a ratio of densities, which logistic regression learns."""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from geoflow import validate
from geoflow.autoencoders.model import LatentModel
from geoflow.carried import ROWS
from geoflow.density import Context, Density, Player, weighted_mean
from geoflow.registry import register
from manifolds.shapes import Points, Values


@register
class RatioPrior(Density):
    """log p(z) = log N(z) + T(z) − log Z, T = log q_Z/N by a critic that tells codes from draws of N.

    The aggregated posterior is the best prior of the bound, and is not modelled: only its ratio to N is, by logistic
    regression in turns of the critic ("implicit optimal prior"). As a prior of a `LatentModel` the critic learns from
    codes and the encoder lowers KL(q(z | x) ‖ N) − E T(z). Where q_Z and N hardly overlap, the ratio is a guess: take a
    base with the scale of the codes, or `hold` the codes at one.

    Nothing else does, for whatever N says of their scale T takes back: reconstructions gain by larger codes, and codes grow
    until N has no draws among them. With `hold` the gradient of log p in training, not its value, has −∂ KL(N(m, s²) ‖ N(0, I))
    added, m and s the codes' running mean and deviation, a choice among models that are equally good.

    Z = E_N e^T is estimated by draws of N, in training by a running mean, after `fit` (or `finish`) by `draws` of them.
    The logarithm of a mean is too low in the mean, so log p is too high, by Var(e^T)/(2 Z² draws). Draws of p are picked
    from a pool of N with weights e^T: their density is p as the pool grows, off by the order of 1/pool. [takahashi2019]

    Args:
        base: N; it is not trained.
        critic: T, codes ``(*batch, dim)`` → ``(*batch, 1)``.
        pool: candidates for each draw.
        draws: of N for the Z that is kept.
        hold: codes at mean zero and deviation one, as above.
    """

    mass: Tensor
    seen: Tensor
    mean: Tensor
    square: Tensor

    def __init__(
        self, base: Density, critic: nn.Module, pool: int = 100, draws: int = 65_536, hold: bool = False
    ) -> None:
        super().__init__()
        if base.context_dim or base.classes:
            raise ValueError("RatioPrior expects a base without context.")
        self.base, self.critic, self.space = base, critic, base.space
        self.pool = validate.count(pool, "RatioPrior", "pool", 2)
        self.draws = validate.count(draws, "RatioPrior", "draws", 1)
        self.hold = hold
        self.register_buffer("mass", torch.tensor(1.0))
        self.register_buffer("seen", torch.tensor(0.0))
        if hold:
            self.register_buffer("mean", torch.zeros(self.dim))
            self.register_buffer("square", torch.ones(self.dim))

    def log_ratio(self, z: Tensor) -> Tensor:
        """T(z) ``(*batch)``."""
        return self.critic(z).squeeze(-1)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_p = self.base._log_prob(x) + self.log_ratio(x) - self.mass.log()
        return log_p - self._held(x) if self.hold and self.training and torch.is_grad_enabled() else log_p

    def _held(self, z: Tensor) -> Tensor:
        """Zeros ``(*batch)`` whose mean has the gradient of ½ Σ (m² + s² − log s²), m and s the batch's."""
        inverse = 1 / (self.square - self.mean.square()).clamp_min(1e-6)
        rows = (0.5 * z.square() * (1 - inverse) + z * self.mean * inverse).sum(-1)
        return rows - rows.detach()

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        n, step = math.prod(shape), max(1, 8 * ROWS // self.pool)
        parts = [self._pick(min(step, n - i), generator) for i in range(0, n, step)]
        return torch.cat(parts).reshape(*shape, self.dim) if parts else self.base._sample(shape, None, generator)

    def _pick(self, n: int, generator: Generator | None) -> Tensor:
        """One of each of n pools, ``(n, dim)``."""
        z = self.base._sample((n, self.pool), None, generator)
        k = torch.multinomial(torch.softmax(self.log_ratio(z), -1), 1, generator=generator)
        return z.gather(1, k[..., None].expand(n, 1, self.dim))[:, 0]

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """E softplus(−T(z)) over rows + E softplus(T(n)) over as many draws of N: least where T is the log ratio."""
        with torch.no_grad():
            n = self.base._sample((len(x),), None, None)
        t = self.log_ratio(n)
        with torch.no_grad():
            self.seen.add_(1).clamp_(max=20)
            self.mass.lerp_(t.exp().mean().to(self.mass), 1 / self.seen)
            if self.hold:
                self.mean.lerp_(x.mean(0).to(self.mean), 1 / self.seen)
                self.square.lerp_(x.square().mean(0).to(self.square), 1 / self.seen)
        return {"loss": weighted_mean(softplus(-self.log_ratio(x)), weight) + softplus(t).mean()}

    def players(self) -> list[Player]:
        """The critic's."""
        return [Player("ratio", self.critic.parameters())]

    def adversaries(self, model: LatentModel) -> list[Player]:
        """Who takes turns with the model whose prior this is."""
        return self.players()

    def turn(self, model: LatentModel, player: str, x: Tensor) -> Tensor:
        """The critic's loss on codes of data rows."""
        return self.loss(model.codes(x))["loss"]

    @torch.no_grad()
    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take Z from `draws` of the base."""
        sizes = [min(ROWS, self.draws - i) for i in range(0, self.draws, ROWS)]
        parts = [self.log_ratio(self.base._sample((n,), None, None)) for n in sizes]
        self.mass.copy_(torch.cat(parts).exp().mean())
