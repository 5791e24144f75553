"""Costs of reconstructions: summed over coordinates, one per row; most are minus a log-likelihood."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from geoflow.autoencoders.linked import Linked
from geoflow.distributions.normals import LOG_2PI
from geoflow.maps import Autoencoder
from geoflow.registry import register
from manifolds.checks import tracing

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel

FLOOR = 1e-3
"""Smallest deviation that is learned: data without noise would have none."""


class Cost(nn.Module, ABC):
    """c(x, decode(z)), a sum over coordinates: doubled data cost twice as much, whatever the batch.

    Attributes:
        likelihood: whether it is −log p(x | z) in nats.
    """

    likelihood: bool = False

    def __init__(self) -> None:  # files ask for the arguments
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        """Costs ``(*batch)`` of data and reconstructions ``(*batch, dim)``."""

    def decoded(
        self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Costs ``(*batch)`` of codes ``(*batch, latent_dim)``, and what they decode to.

        `weight` is that of training rows, for what a cost learns of them; the costs themselves are without.
        """
        xh = autoencoder._decode(z)
        return self(x, xh), xh

    def noisy(self, autoencoder: Autoencoder, xh: Tensor, generator: Generator | None = None) -> Tensor:
        """Draws of p(x | z) around what codes decode to; xh itself where the cost is no density of the data.

        It is none of grey levels (Bernoulli) or shares (multinomial), which are not what such a law draws.
        """
        return xh

    def log_units(self, autoencoder: Autoencoder) -> Tensor:
        """What is added to −c of a likelihood ``()`` for nats of data in the units that they were given in."""
        return torch.zeros(())

    def bind(self, model: "LatentModel") -> None:
        """Take what it needs of the model that it is the cost of."""

    def check(self, x: Tensor) -> None:
        """Refuse data that it has no meaning for."""

    def finish(self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None) -> None:
        """Set what comes from data, codes and the rows' weights after training."""


@register
class Square(Cost):
    """Σ r², r = x − decode(z) in the units of `Autoencoder.residual`: standardised ones behind a `Standardize`."""

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        return (xh - x).square().sum(-1)

    def decoded(
        self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        xh = autoencoder._decode(z)
        return autoencoder.residual(x, xh).square().sum(-1), xh


@register
class Gaussian(Cost):
    """Σ r²/(2σ²) + D log σ + (D/2) log 2π, r = x − decode(z): −log N(x; decode(z), σ²).

    The units of r are those of `Autoencoder.residual`, and so are those of the cost; bounds of log p(x) are per unit of the
    data as given.

    A learned σ² is *profiled*: in training it is the batch's mean of r², whose gradient is that of
    (D/2) log mean r² (σ as a parameter would move by a learning rate a step, and be far off for long). Outside of
    training it is the running mean, and after `fit` the one of all training rows; the rows' weights count in all of these.
    At least 1e-3. [dai2019]

    Args:
        sigma: "learned", or a number; 1 on grey levels weighs the divergence heavily (posteriors collapse in part).
    """

    likelihood = True
    variance: Tensor
    seen: Tensor

    def __init__(self, sigma: float | Literal["learned"] = "learned") -> None:
        super().__init__()
        if sigma != "learned" and not (isinstance(sigma, Real) and 0 < sigma < math.inf):
            raise ValueError(f"Gaussian expects sigma='learned' or a positive number, got {sigma!r}.")
        self.sigma: float | Literal["learned"] = sigma if sigma == "learned" else float(sigma)
        self.register_buffer("variance", torch.tensor(1.0 if sigma == "learned" else float(sigma) ** 2))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        return self._of(xh - x)

    def decoded(
        self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        xh = autoencoder._decode(z)
        return self._of(autoencoder.residual(x, xh), weight), xh

    def _of(self, r: Tensor, weight: Tensor | None = None) -> Tensor:
        squared, dim = r.square().sum(-1), r.shape[-1]
        variance = self.variance
        if self.sigma == "learned" and self.training and torch.is_grad_enabled():
            variance = (_mean(squared.detach(), weight) / dim).clamp_min(FLOOR**2)
            with torch.no_grad():  # a running mean that forgets over some twenty batches, exact from the first on
                self.seen.add_(1).clamp_(max=20)
                self.variance.lerp_(variance.to(self.variance), 1 / self.seen)
        return 0.5 * (squared / variance + dim * (variance.log() + LOG_2PI))

    def noisy(self, autoencoder: Autoencoder, xh: Tensor, generator: Generator | None = None) -> Tensor:
        # of residuals in data's units: 1 / deviation of each column; beside zero, for beside 1e8 one is nothing
        unit = autoencoder.residual(torch.zeros_like(xh), torch.ones_like(xh))
        noise = torch.empty_like(xh).normal_(generator=generator)
        return xh + self.variance.sqrt().to(xh) * noise / unit

    def log_units(self, autoencoder: Autoencoder) -> Tensor:
        return autoencoder.residual_log_det()

    def finish(self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None) -> None:
        if self.sigma == "learned":
            parts = zip(x.split(2048), z.split(2048), strict=True)
            squared = [autoencoder.residual(a, autoencoder._decode(b)).double().square().sum(-1) for a, b in parts]
            self.variance.fill_(max(float(_mean(torch.cat(squared), weight)) / x.shape[-1], FLOOR**2))
            spread = float(autoencoder.residual(x.mean(0), x).double().square().mean().sqrt())
            if spread < FLOOR:
                warnings.warn(
                    f"Gaussian: the data vary by {spread:.2g}, less than the least deviation that is learned, {FLOOR:g}, so all "
                    "of it is noise: standardise the columns, or give sigma= a number.",
                    stacklevel=2,
                )


def _mean(squared: Tensor, weight: Tensor | None) -> Tensor:
    """Σ w r² / Σ w, the minimum of the weighted likelihood, which it has if no weight is negative."""
    if weight is None:
        return squared.mean()
    if bool((weight < 0).any()):
        raise ValueError(
            "Gaussian learns no deviation from rows with negative weights, which would lower it without end: give sigma= a "
            "number, or leave such rows out."
        )
    return (weight * squared).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


@register
class Bernoulli(Cost):
    """−Σ [x log p + (1 − x) log(1 − p)], p = decode(z): the cross-entropy of grey levels in [0, 1].

    −log p(x | z) of black and white pixels; of grey levels it is none, for want of a constant that depends on p. Behind
    `Linked(autoencoder, "sigmoid")` it is taken from the logits.
    """

    likelihood = True

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        if not tracing(xh) and bool(((xh < 0) | (xh > 1)).any()):
            low, high = xh.min().item(), xh.max().item()
            raise ValueError(
                f"Bernoulli expects decode(z) between 0 and 1, got {low:.4g} to {high:.4g}: give the decoder a link, "
                'Linked(autoencoder, "sigmoid").'
            )
        return binary_cross_entropy(xh, x, reduction="none").sum(-1)

    def decoded(
        self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if not (isinstance(autoencoder, Linked) and autoencoder.link == "sigmoid"):
            return super().decoded(autoencoder, x, z)
        raw = autoencoder.raw(z)
        return binary_cross_entropy_with_logits(raw, x, reduction="none").sum(-1), torch.sigmoid(raw)

    def check(self, x: Tensor) -> None:
        if not tracing(x) and not bool(((x >= 0) & (x <= 1)).all()):
            low, high = float(x.min()), float(x.max())
            raise ValueError(
                f"Bernoulli expects data between 0 and 1, got {low:.4g} to {high:.4g}: divide grey levels by 255, or take "
                "the Gaussian cost; nothing that standardises may stand before it."
            )


@register
class Multinomial(Cost):
    """−N Σ x log q, q = decode(z) and x shares that sum to one: −log p of N counts, but for the count of their orders.

    Behind `Linked(autoencoder, "softmax")` it is taken from the logits.

    Args:
        total: N, how many counts a row stands for: the weight of reconstructions against the divergence.
    """

    likelihood = True

    def __init__(self, total: float = 100.0) -> None:
        super().__init__()
        if not 0 < total < math.inf:
            raise ValueError(f"Multinomial expects total > 0, got {total}.")
        self.total = float(total)

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        if not tracing(xh) and (bool((xh < 0).any()) or bool(((xh.sum(-1) - 1).abs() > 1e-2).any())):
            total = xh.sum(-1)
            raise ValueError(
                f"Multinomial expects decode(z) as shares that sum to one, got entries from {xh.min().item():.4g} and sums "
                f"from {total.min().item():.4g} to {total.max().item():.4g}: give the decoder a link, "
                'Linked(autoencoder, "softmax").'
            )
        return -self.total * torch.xlogy(x, xh).sum(-1)

    def decoded(
        self, autoencoder: Autoencoder, x: Tensor, z: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if not (isinstance(autoencoder, Linked) and autoencoder.link == "softmax"):
            return super().decoded(autoencoder, x, z)
        log_q = torch.log_softmax(autoencoder.raw(z), -1)
        return -self.total * (x * log_q).sum(-1), log_q.exp()

    def check(self, x: Tensor) -> None:
        if not tracing(x) and not (bool((x >= 0).all()) and bool(((x.sum(-1) - 1).abs() < 1e-3).all())):
            total = x.sum(-1)
            raise ValueError(
                f"Multinomial expects rows of shares that sum to one, got entries from {float(x.min()):.4g} and sums from "
                f"{float(total.min()):.4g} to {float(total.max()):.4g}: divide each row by its sum."
            )


class PlainCost(Cost):
    """A function of data and reconstructions as a cost; `save` cannot write it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, xh: Tensor) -> Tensor:
        return self.function(x, xh)
