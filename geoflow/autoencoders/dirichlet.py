"""Dirichlet laws of codes: a stochastic encoder of shares, and normals whose softmax is nearly a Dirichlet."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.autoencoders.posteriors import STEEP, Posterior, widths
from geoflow.density import Sampler
from geoflow.distributions import DiagonalNormal, Dirichlet
from geoflow.registry import register
from manifolds import Simplex


@register
class DirichletPosterior(Posterior):
    """q(r | x) = Dirichlet(r; a(x)) on shares r: a network gives log a, bounded smoothly by ±7.

    Draws are quotients of Gamma variables, whose derivatives in a are those of the distribution function at the draw
    [figurnov2018]: right in the mean, but not what the same random numbers would give at another a. log q is with respect
    to the volume of the simplex, as that of `Dirichlet` is, to which KL is closed. [joo2020]

    Args:
        net: data ``(*batch, context_dim)`` → ``(*batch, latent_dim)``.
        context_dim: number of coordinates of data.
        latent_dim: number of shares.
    """

    def __init__(self, net: nn.Module, context_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.context_dim = validate.count(context_dim, "DirichletPosterior", "context_dim", 1)
        self.latent_dim = validate.count(latent_dim, "DirichletPosterior", "latent_dim", 2)
        self.space = Simplex(self.latent_dim)
        self.net = net

    def numbers(self, x: Tensor) -> Tensor:
        return STEEP * torch.tanh(widths(self.net(x), self.latent_dim, "DirichletPosterior") / STEEP)

    def draw(self, theta: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        # Γ(a) is Γ(a + 1) u^(1/a): in logarithms small concentrations do not underflow before they are compared.
        a = theta.exp()
        gamma: Tensor = torch._standard_gamma(a + 1, generator=generator)
        u = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
        log_r = torch.log_softmax(gamma.log() + torch.log1p(-u) / a, -1)
        log_q = ((a - 1) * log_r).sum(-1) + _log_constant(a)
        return log_r.exp().clamp_min(torch.finfo(a.dtype).tiny), log_q

    def log_q(self, theta: Tensor, z: Tensor) -> Tensor:
        a = theta.exp()
        return torch.xlogy(a - 1, z).sum(-1) + _log_constant(a)

    def center(self, theta: Tensor) -> Tensor:
        return torch.softmax(theta, -1)

    def kl(self, theta: Tensor, prior: Sampler) -> Tensor | None:
        """log C(a) − log C(b) + Σ (a_i − b_i) (ψ(a_i) − ψ(A)), C = Γ(Σ a)/Π Γ(a_i), for one `Dirichlet`."""
        if not isinstance(prior, Dirichlet) or prior.batch_shape:
            return None
        a, b = theta.exp(), prior.concentration
        log_mean = torch.digamma(a) - torch.digamma(a.sum(-1, keepdim=True))
        return _log_constant(a) - _log_constant(b) + ((a - b) * log_mean).sum(-1)


def _log_constant(a: Tensor) -> Tensor:
    """What makes the mass one, on the volume of the simplex."""
    return torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1) - 0.5 * math.log(a.shape[-1])


def softmax_normal(
    concentration: Sequence[float] | Tensor, moments: Literal["exact", "laplace"] = "exact"
) -> DiagonalNormal:
    """N(μ, diag s²), frozen, whose softmax is near Dirichlet(a): the prior of a Gaussian encoder of shares.

    "exact" takes μ_k = ψ(a_k), s²_k = ψ'(a_k), the moments of log Gamma variables: means and covariances of all
    log r_i/r_j are those of the Dirichlet. "laplace" takes μ_k = log a_k − mean log a and
    s²_k = (1 − 2/K)/a_k + Σ 1/a_i/K², an approximation around the mode, which lies far off for a below one.
    [srivastava2017]

    Args:
        concentration: a ``(K,)``, K ≥ 2.
        moments: which.
    """
    a = torch.as_tensor(concentration).detach()
    a = a if a.is_floating_point() else a.to(torch.get_default_dtype())
    if a.ndim != 1 or len(a) < 2 or not bool((a > 0).all()):
        raise ValueError(f"softmax_normal expects two positive concentrations or more, got {concentration!r}.")
    if moments not in ("exact", "laplace"):
        raise ValueError(f"softmax_normal expects moments='exact' or 'laplace', got {moments!r}.")
    k = len(a)
    if moments == "exact":
        mean, variance = torch.digamma(a), torch.polygamma(1, a)
    else:
        mean = a.log() - a.log().mean()
        variance = (1 - 2 / k) / a + (1 / a).sum() / k**2
    normal = DiagonalNormal.of(mean, variance.sqrt())
    normal.requires_grad_(False)
    return normal
