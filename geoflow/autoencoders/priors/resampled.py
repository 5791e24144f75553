"""A prior whose draws are those of a base that a learned network accepts."""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from geoflow import validate
from geoflow.autoencoders.divergences import drawn
from geoflow.density import Context, Density, frozen
from geoflow.registry import register
from manifolds.shapes import Points, Values


@register
class ResampledPrior(Density):
    """p(z) = N(z) [(1 − (1 − Z)^{T−1}) a(z)/Z + (1 − Z)^{T−1}]: the first of T draws of N that is accepted, or the last.

    a is the learned probability of acceptance, Z = E_N a its mean: "LARS". Draws are exact, by T trials at most.
    Z is estimated, so that log p is: in training by fresh draws, whose running mean is the value and whose gradient is
    that of the fresh ones; after `fit` (or `finish`) by 64 times as many. Its relative error is at most
    1/√(64 · draws · Z), .004 at Z = 1. Whoever sets parameters by hand calls `finish`. [bauer2019]

    Args:
        base: N; one with parameters trains too, and then needs differentiable draws.
        accept: codes ``(*batch, dim)`` → logits of a ``(*batch, 1)``.
        truncation: T, at least two.
        draws: of N for Z, each step.
    """

    mass: Tensor
    seen: Tensor

    def __init__(self, base: Density, accept: nn.Module, truncation: int = 100, draws: int = 1024) -> None:
        super().__init__()
        if base.context_dim or base.classes:
            raise ValueError("ResampledPrior expects a base without context.")
        self.base, self.accept, self.space = base, accept, base.space
        self.truncation = validate.count(truncation, "ResampledPrior", "truncation", 2)
        self.draws = validate.count(draws, "ResampledPrior", "draws", 1)
        self.register_buffer("mass", torch.tensor(0.5))  # what a fresh network accepts, nearly
        self.register_buffer("seen", torch.tensor(0.0))

    def log_acceptance(self, z: Tensor) -> Tensor:
        """log a(z) ``(*batch)``."""
        return logsigmoid(self.accept(z).squeeze(-1))

    def _mass(self) -> Tensor:
        """Z ``()``."""
        if not (self.training and torch.is_grad_enabled()):
            return self.mass
        now = self.log_acceptance(drawn(self.base, self.draws)).exp().mean()
        with torch.no_grad():  # a running mean that forgets over some twenty steps, exact from the first on
            self.seen.add_(1).clamp_(max=20)
            self.mass.lerp_(now.to(self.mass), 1 / self.seen)
        return self.mass.clone() + now - now.detach()

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        mass = self._mass().clamp(1e-30, 1 - 1e-6)
        last = (self.truncation - 1) * torch.log1p(-mass)
        earlier = torch.log(-torch.expm1(last)) - mass.log()
        return self.base._log_prob(x) + torch.logaddexp(earlier + self.log_acceptance(x), last.expand(x.shape[:-1]))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        n = math.prod(shape)
        z = self.base._sample((n,), None, generator)
        waiting = torch.arange(n, device=z.device)
        for _ in range(self.truncation - 1):
            chance = self.log_acceptance(z[waiting]).exp()
            u = torch.rand(len(waiting), generator=generator, dtype=z.dtype, device=z.device)
            waiting = waiting[u >= chance]
            if not len(waiting):
                break
            z[waiting] = self.base._sample((len(waiting),), None, generator)
        return z.reshape(*shape, self.dim)

    @torch.no_grad()
    def _settle(self, blocks: int) -> None:
        parts = [self.log_acceptance(self.base._sample((self.draws,), None, None)).exp().mean() for _ in range(blocks)]
        self.mass.copy_(torch.stack(parts).mean())

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the base, unless it is frozen, and take Z."""
        if not frozen(self.base):
            self.base.prepare(x)
        self._settle(1)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Finish the base, and take Z from 64 times as many draws as in training."""
        self.base.finish(x)
        self._settle(64)
