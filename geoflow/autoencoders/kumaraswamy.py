"""A stochastic encoder of fractions: Kumaraswamy's density, which is near Beta's and has draws in closed form.

Its distribution function turns powers into complements, 1 − (1 − vᵃ)ᵇ, and a fraction next to 0 or 1 loses all its
digits. Everything here is therefore written in ℓ = log(−log p), which `complement` takes from p to 1 − p exactly.
"""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from geoflow import validate
from geoflow.autoencoders.posteriors import STEEP, Posterior
from geoflow.autoencoders.priors.sticks import EULER, StickBreaking
from geoflow.density import Sampler
from geoflow.registry import register
from manifolds import Euclidean


def complement(at: Tensor) -> Tensor:
    """log(−log(1 − p)) of log(−log p), for all p that a number's logarithm can name; it undoes itself."""
    near = at.clamp(max=-14.0)  # p next to 1: 1 − p = y − y²/2 + y³/6, y = −log p
    y = near.exp()
    first = torch.log(-near + y / 2 - y * y / 24)
    y = at.clamp(-14.0, 0.0).exp()
    second = torch.log(-torch.log(-torch.expm1(-y)))
    y = at.clamp(-1.0, 3.4).exp()
    third = torch.log(-torch.log1p(-torch.exp(-y)))
    y = at.clamp(3.4, 80.0).exp()  # p next to 0: −log(1 − p) = p + p²/2
    fourth = -y + torch.exp(-y) / 2
    upper = torch.where(at < 3.4, third, fourth)
    return torch.where(at < -14, first, torch.where(at < -0.4, second, upper))


def level(logits: Tensor) -> Tensor:
    """log(−log p), p = σ(logits)."""
    far = logits.clamp(min=20.0)
    return torch.where(logits < 20, torch.log(-logsigmoid(logits.clamp(max=20.0))), -far - torch.exp(-far) / 2)


def _rule() -> tuple[Tensor, Tensor]:
    """Logits of nodes in (0, 1) and their weights: the double exponential rule, which no power at an end disturbs."""
    t = torch.linspace(-3.2, 3.2, 81, dtype=torch.float64)
    logits = math.pi * torch.sinh(t)
    return logits, 0.08 * math.pi * torch.cosh(t) * torch.sigmoid(logits) * torch.sigmoid(-logits)


NODES, WEIGHTS = _rule()


@register
class KumaraswamyPosterior(Posterior):
    """Fractions v_j with P(v_j < v) = 1 − (1 − vᵃ)ᵇ, independently; codes are their logits (see `StickBreaking`).

    Draws are v = (1 − s^{1/b})^{1/a}, s uniform, and move smoothly with a and b. KL to `StickBreaking` is closed but for
    E log(1 − v), an integral over s: 81 nodes give KL to ten digits for a and b between 1/100 and 100. (The customary
    series Σ B(m/a, b)/(m + ab) falls like m^{−1−b}: for small b, hundreds of terms do not give two.) [nalisnick2017]

    Args:
        net: data ``(*batch, context_dim)`` → ``(*batch, 2 · latent_dim)``: log a, then log b, bounded smoothly by ±7.
        context_dim: number of coordinates of data.
        latent_dim: number of fractions, one less than there are shares.
    """

    def __init__(self, net: nn.Module, context_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.context_dim = validate.count(context_dim, "KumaraswamyPosterior", "context_dim", 1)
        self.latent_dim = validate.count(latent_dim, "KumaraswamyPosterior", "latent_dim", 1)
        self.space = Euclidean(self.latent_dim)
        self.net = net

    def numbers(self, x: Tensor) -> Tensor:
        return STEEP * torch.tanh(self.net(x) / STEEP)

    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        log_a, log_b = theta.chunk(2, -1)
        s = torch.rand(log_a.shape, generator=generator, dtype=theta.dtype, device=theta.device)
        log_s = torch.log1p(-s).clamp(max=-torch.finfo(theta.dtype).tiny)
        log_v, log_rest = _fractions(torch.log(-log_s), log_a, log_b)
        log_q = log_a + log_b + log_a.exp() * log_v - torch.expm1(-log_b) * log_s + log_rest
        return log_v - log_rest, log_q.sum(-1)

    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        log_a, log_b = theta.chunk(2, -1)
        lost = -complement(level(z) + log_a).exp()  # log(1 − vᵃ)
        rows = log_a + log_b + log_a.exp() * logsigmoid(z) + torch.expm1(log_b) * lost + logsigmoid(-z)
        return rows.sum(-1)

    def center(self, theta: Tensor) -> Tensor:
        """The logits of the medians."""
        log_a, log_b = theta.chunk(2, -1)
        log_v, log_rest = _fractions(torch.full_like(log_a, math.log(math.log(2))), log_a, log_b)
        return log_v - log_rest

    def kl(self, theta: Tensor, prior: Sampler) -> Tensor | None:
        """log ab/α − (a − 1)/a (γ + ψ(b + 1)) − (b − 1)/b − (α − 1) E log(1 − v), for `StickBreaking`."""
        if not isinstance(prior, StickBreaking):
            return None
        log_a, log_b = theta.double().chunk(2, -1)
        a, b, alpha = log_a.exp(), log_b.exp(), prior.concentration
        log_rest = -1 / b + self._excess(log_a, log_b)
        rows = log_a + log_b - math.log(alpha) + (1 / a - 1) * (EULER + torch.digamma(b + 1))
        return (rows + 1 / b - 1 - (alpha - 1) * log_rest).sum(-1).to(theta)

    def _excess(self, log_a: Tensor, log_b: Tensor) -> Tensor:
        """E log(1 − v) − E log(1 − vᵃ), which is bounded where both are not."""
        nodes, weights = NODES.to(log_a.device), WEIGHTS.to(log_a.device)
        start = level(nodes)
        _, log_rest = _fractions(start, log_a[..., None], log_b[..., None])
        return ((log_rest + torch.exp(start - log_b[..., None])) * weights).sum(-1)


def _fractions(start: Tensor, log_a: Tensor, log_b: Tensor) -> tuple[Tensor, Tensor]:
    """log v and log(1 − v) of v = (1 − s^{1/b})^{1/a}, from log(−log s)."""
    log_minus = complement(start - log_b) - log_a
    return -log_minus.exp(), -complement(log_minus).exp()
