"""What a density has to beat: a Gaussian, a mixture and a kernel estimate, fitted to the training rows alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.baselines import mixture_by_bic
from geoflow.density import log_prob_in_blocks
from geoflow.distributions import GaussianMixture


class Mixture:
    """Gaussians with the number of components that BIC takes on the rows, or with a given one."""

    def __init__(self, mixture: GaussianMixture) -> None:
        self.mixture = mixture
        k = mixture.components
        self.name = "a Gaussian" if k == 1 else f"a mixture of {k} Gaussians"

    def log_prob(self, x: Tensor) -> Tensor:
        return log_prob_in_blocks(self.mixture, x)

    @torch.no_grad()
    def marginal(self, columns: slice) -> "Mixture":
        m = self.mixture
        covariance = m.factor() @ m.factor().mT
        part = GaussianMixture.of(m.logits.softmax(0), m.means[:, columns], covariance[:, columns, columns])
        return Mixture(part)


class Kernels:
    """Σ_i N(x; x_i, h² C) / n with C the covariance of the rows.

    h is the best of six multiples of Scott's n^(−1/(dim + 4)) by leave-one-out likelihood on the rows.
    """

    name = "a kernel estimate"

    def __init__(self, rows: Tensor, covariance: Tensor | None = None, h: float | None = None) -> None:
        self.rows = rows
        n, dim = rows.shape
        self.covariance = torch.atleast_2d(torch.cov(rows.T)) if covariance is None else covariance
        self.factor = torch.linalg.cholesky(self.covariance)
        self.centres = self._white(rows)
        if h is None:
            probe = self.centres[:: max(1, n // 1000)][:1000]
            squared = torch.cdist(probe, self.centres).square()
            squared[torch.arange(len(probe)), torch.arange(len(probe)) * max(1, n // 1000)] = math.inf
            tried = [f * n ** (-1 / (dim + 4)) for f in (0.2, 0.35, 0.5, 0.7, 1.0, 1.4)]
            h = max(tried, key=lambda h: float(self._values(squared, h).mean()))
        self.h = h

    def _white(self, x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.factor, x.T, upper=False).T

    def _values(self, squared: Tensor, h: float) -> Tensor:
        n, dim = self.rows.shape
        constant = math.log(n) + dim * math.log(h) + dim / 2 * math.log(2 * math.pi)
        return torch.logsumexp(squared / (-2 * h * h), 1) - constant - self.factor.diagonal().log().sum()

    def log_prob(self, x: Tensor) -> Tensor:
        blocks = [self._values(torch.cdist(b, self.centres).square(), self.h) for b in self._white(x).split(1000)]
        return torch.cat(blocks)

    def marginal(self, columns: slice) -> "Kernels":
        return Kernels(self.rows[:, columns], self.covariance[columns, columns], self.h)


Simple = Mixture | Kernels
"""A density of which every set of columns has one too."""


def _gaussian(rows: Tensor) -> Simple:
    gaussian = GaussianMixture(rows.shape[1], 1).to(rows)
    gaussian.prepare(rows)
    return Mixture(gaussian)


def _mixture(rows: Tensor) -> Simple:
    return Mixture(mixture_by_bic(rows, "full" if rows.shape[1] <= 32 else "diagonal", most=8))


def simple_log_probs(
    train: Tensor, x: Tensor, context: tuple[Tensor, Tensor] | None = None, classes: int = 0
) -> dict[str, Tensor]:
    """log p ``(n,)`` of rows x under each simple model fitted to `train`, all in float64 on the CPU.

    Args:
        context: conditions of `train` and of `x`. Labels: one fit a class. Float conditions: a joint fit, conditioned.
        classes: number of labels, 0 for float conditions.
    """
    kinds: dict[str, Callable[[Tensor], Simple]] = {
        "a Gaussian": _gaussian,
        "a Gaussian mixture": _mixture,
        "a kernel estimate": Kernels,
    }
    found: dict[str, Tensor] = {}
    for name, kind in kinds.items():
        if context is None:
            fitted = kind(train)
            found[fitted.name] = fitted.log_prob(x)
            continue
        given, asked = context
        if classes:
            values = torch.full((len(x),), -math.inf, dtype=x.dtype)
            for u in asked.unique():
                values[asked == u] = kind(train[given == u]).log_prob(x[asked == u])
            found[f"{name} per class"] = values
        else:
            joint, dim = kind(torch.cat([train, given], 1)), x.shape[1]
            values = joint.log_prob(torch.cat([x, asked], 1)) - joint.marginal(slice(dim, None)).log_prob(asked)
            found[f"{name}, conditioned"] = values
    return found
