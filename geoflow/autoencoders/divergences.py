"""Divergences between posteriors and a prior that need no adversary: KL, and maximum mean discrepancy."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.autoencoders.terms import Batch, Term
from geoflow.density import Density, Sampler
from geoflow.metrics.mmd import SCALES, kernel_of
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class KL(Term):
    """KL(q(z | x) ‖ prior), row by row: in closed form where there is one, else log q(z | x) − log p(z) at the draw.

    Of a prior that is itself a `LatentModel`, log p(z) is its lower bound, and the divergence an upper one, which falls
    to KL with `draws`. [klushyn2019]

    Args:
        free_bits: nats of KL a row that cost nothing, against posteriors that collapse to the prior. [kingma2016]
        closed: take closed forms; False always takes the draw.
        draws: of the codes of such a prior for its bound, also where `LatentModel.log_prob_bound` asks for it.
    """

    name, by_rows = "kl", True

    def __init__(self, free_bits: float = 0.0, closed: bool = True, draws: int = 1) -> None:
        super().__init__()
        self.draws = validate.count(draws, "KL", "draws", 1)
        if not 0 <= free_bits < math.inf:
            raise ValueError(f"KL expects free_bits >= 0, got {free_bits}.")
        self.free_bits, self.closed = float(free_bits), closed

    def figure(self, batch: Batch) -> Tensor:
        """KL itself, whatever is free."""
        assert batch.posterior is not None
        assert batch.theta is not None
        assert batch.log_q is not None
        found = batch.posterior.kl(batch.theta, batch.prior) if self.closed else None
        return batch.log_q - log_prior(batch.prior, batch.z, self.draws) if found is None else found

    def forward(self, batch: Batch) -> Tensor:
        rows = self.figure(batch)
        return rows.clamp_min(self.free_bits) if self.free_bits else rows

    def check(self, model: "LatentModel") -> None:
        if model.posterior is None:
            raise TypeError(
                f"KL needs a stochastic encoder: {type(model.autoencoder).__name__} has "
                f"{'no posterior' if model.autoencoder.posterior is None else 'a posterior of another kind'}; give "
                "Pair(None, decoder, GaussianPosterior(net, dim, latent), dim=, latent_dim=), or take MMD or a critic."
            )
        if not (isinstance(model.prior, Density) or getattr(model.prior, "bounded", False)):
            raise TypeError(
                f"KL needs a prior with log_prob, and {type(model.prior).__name__} can only be sampled: take MMD or a "
                "critic as divergence; a LatentModel as prior needs a bound, as a VAE has it."
            )
        own, other = model.posterior.space, model.prior.space
        if type(own) is not type(other):
            raise TypeError(
                f"KL compares densities of one space; codes lie in {own}, and the draws of the prior, "
                f"{type(model.prior).__name__}, in {other}: take a prior of the codes' own space."
            )


def log_prior(prior: Sampler, z: Tensor, draws: int = 1, generator: Generator | None = None) -> Tensor:
    """log p(z) ``(n,)``; of a `LatentModel` its lower bound from some draws, all of them in one pass."""
    if isinstance(prior, Density):
        return prior._log_prob(z)
    each = cast("LatentModel", prior)._bound(z.expand(draws, *z.shape).flatten(0, 1), 1, generator)
    return torch.logsumexp(each.view(draws, -1), 0) - math.log(draws)


@register
class MMD(Term):
    """Squared maximum mean discrepancy between codes and as many draws of the prior, unbiased (a U-statistic).

    k(a, b) = Σ_s C_s / (C_s + |a − b|²), C_s = 2 m s, the sum over `scales` s and m the latent dimension: suited to priors
    of deviation about one. Zero in the mean where the aggregated posterior is the prior, then as often negative as
    positive. It sees gross mismatch only: at 100 rows its own deviation is near .01. [tolstikhin2018]

    Args:
        scales: s.
    """

    name = "mmd"

    def __init__(self, scales: Sequence[float] = SCALES) -> None:
        super().__init__()
        self.scales = tuple(float(s) for s in scales) if np.ndim(scales) else ()
        if not self.scales or not all(0 < s < math.inf for s in self.scales):
            raise ValueError(f"MMD expects positive scales, one or more, got {scales!r}.")

    def forward(self, batch: Batch) -> Tensor:
        return imq(batch.z, drawn(batch.prior, len(batch.z)), self.scales)


def drawn(prior: Sampler, n: int) -> Tensor:
    """Draws ``(n, dim)``; where gradients are taken, such that a prior with parameters can learn by them."""
    if not (torch.is_grad_enabled() and any(w.requires_grad for w in prior.parameters())):
        return prior._sample_noisy((n,), None, None)
    draw = getattr(prior, "_rsample", None)
    if draw is None:
        raise TypeError(f"{type(prior).__name__} has parameters but no differentiable draws: freeze it, or take KL.")
    value: Tensor = draw((n,), None, None)
    return value


def imq(a: Tensor, b: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """The U-statistic of `MMD` between rows ``(n, m)`` and ``(n', m)``."""
    if min(len(a), len(b)) < 2:
        raise ValueError(
            "MMD needs two rows or more in a batch: raise batch_size=, or hold out more rows (validation=)."
        )
    dim = a.shape[1]
    of_squares, _ = kernel_of("imq", [math.sqrt(2 * dim * s) for s in scales], dim, "MMD")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return of_squares((x.square().sum(1, keepdim=True) - 2 * x @ y.mT + y.square().sum(1)).clamp_min(0))

    def within(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()
