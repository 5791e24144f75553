"""Masks over latent dimensions: an auto-encoder that can close some, and a prior that closes the same ones."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.autoencoders.linked import Linked
from geoflow.carried import ROWS
from geoflow.density import Context, Sampler
from geoflow.maps import Autoencoder, Chain, Data, Latent
from geoflow.registry import register


@register
class Masked(Autoencoder):
    """encode(x) = a · e(x), e(x) what another auto-encoder encodes to, and a ∈ [0, 1) one number a latent dimension.

    a = 1 − exp(−t), t ≥ 0 free: the mask is learned, as by `MaskPolarisation`. Decode is the other's own: it is meant for
    codes that are masked already, as those of a `MaskedPrior` are. [mondal2020]

    `prepare` gives e, as it is before training, mean zero and deviation one by a shift and a scale that stay: beside codes
    much smaller than the prior's draws it is the mask that gives way first, and all dimensions close alike.

    Args:
        autoencoder: deterministic; a link or what standardises may stand inside or outside.
        start: every dimension's mask before training. None is the paper's, t drawn from U[0, 5]: a tenth to a third of the
            dimensions are then as good as closed from the first step on, and it takes long training to undo the draw.
    """

    def __init__(self, autoencoder: Autoencoder, start: float | None = 0.95) -> None:
        nn.Module.__init__(self)
        if autoencoder.posterior is not None:
            raise ValueError(
                "Masked expects a deterministic auto-encoder: a closed dimension would have no density. Stochastic ones "
                "with a learned deviation close dimensions by themselves (deviation of z given x near one)."
            )
        self.autoencoder, self.start, self.posterior = autoencoder, start, None
        self.dim, self.latent_dim = autoencoder.dim, autoencoder.latent_dim
        self.context_dim, self.classes = autoencoder.context_dim, autoencoder.classes
        if start is not None and not 0 < start < 1:
            raise ValueError(f"Masked expects start between 0 and 1, got {start}.")
        drawn = 5 * torch.rand(self.latent_dim) if start is None else -math.log1p(-start) * torch.ones(self.latent_dim)
        self.free = nn.Parameter(drawn)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(self.latent_dim))
        self.register_buffer("scale", torch.ones(self.latent_dim))

    @property
    def mask(self) -> Tensor:
        """a ``(latent_dim,)``."""
        return -torch.expm1(-self.free.clamp_min(0))

    def _encode(self, x: Data, context: Context = None) -> Latent:
        return self.mask * self._unmasked(x, context)

    def _unmasked(self, x: Data, context: Context = None) -> Latent:
        """e(x)."""
        return (self.autoencoder._encode(x, context) - self.shift) / self.scale

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return self.autoencoder._decode(z, context)

    def residual(self, x: Data, xh: Data) -> Data:
        """In the units of the inner one."""
        return self.autoencoder.residual(x, xh)

    def residual_log_det(self) -> Tensor:
        """The inner one's."""
        return self.autoencoder.residual_log_det()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The mask's, and the inner one's."""
        yield self.free
        yield from self.autoencoder.encoder_parameters()

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """The inner one's own; then e has mean zero and deviation one, where it is not constant."""
        self.autoencoder.prepare(x, context)
        e = torch.cat([self.autoencoder._encode(part) for part in x.split(ROWS)])
        deviation = e.std(0)
        self.shift.copy_(e.mean(0))
        self.scale.copy_(deviation.where(deviation > 0, 1.0))

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The inner one's own."""
        self.autoencoder.finish(x, context)


@register
class MaskedPrior(Sampler):
    """Draws a · n, n of another prior and a the mask of the auto-encoder that the prior stands behind. [mondal2020]

    `LatentModel` tells it which by `bind`. The mask stays the auto-encoder's: a file of the model holds it once, and a
    file of the prior alone does not hold it.

    Args:
        base: n, without context.
    """

    def __init__(self, base: Sampler) -> None:
        super().__init__()
        if base.context_dim or base.classes:
            raise ValueError("MaskedPrior expects a base without context.")
        self.base, self.space = base, base.space
        self._bound: tuple[Masked, ...] = ()  # in a tuple, so that it is no child of ours

    def bind(self, autoencoder: Autoencoder) -> None:
        """Take the mask of an auto-encoder."""
        found = masked_in(autoencoder)
        if found is None:
            raise ValueError(
                f"MaskedPrior expects a Masked auto-encoder to share its mask with, got {type(autoencoder).__name__}."
            )
        self._bound = (found,)

    @property
    def mask(self) -> Tensor:
        """a ``(dim,)``."""
        if not self._bound:
            raise NotImplementedError(
                "MaskedPrior has no mask of its own: build LatentModel(Masked(...), MaskedPrior(...)), or call bind."
            )
        return self._bound[0].mask

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        mask = self.mask
        return mask * self.base._sample(shape, None, generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        """With the base's parameters, for bases that can."""
        rsample: Any = self.base._rsample
        drawn: Tensor = rsample(shape, None, generator)
        return self.mask * drawn

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        raise NotImplementedError(
            "MaskedPrior has no log_prob to fit by: on closed dimensions there is no density. Train it in its LatentModel, "
            "by MMD or a critic, or fit_prior(model, x, to=...) another prior to the masked codes."
        )

    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Refused, as `loss` is."""
        self.loss(x)
        return {}


def masked_in(autoencoder: Autoencoder) -> Masked | None:
    """The `Masked` that an auto-encoder's codes go through last: itself, inside a link, or at the end of a chain."""
    if isinstance(autoencoder, Masked):
        return autoencoder
    if isinstance(autoencoder, Linked):
        return masked_in(autoencoder.autoencoder)
    if isinstance(autoencoder, Chain):
        return masked_in(autoencoder.parts[-1])  # type: ignore[arg-type]
    return None


def unmasked(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    """e(x) ``(n, latent_dim)``: codes as they are before the mask."""
    if isinstance(autoencoder, Linked):
        return unmasked(autoencoder.autoencoder, x)
    if isinstance(autoencoder, Chain):
        *before, last = autoencoder.parts
        for part in before:
            x = part._encode(x)  # type: ignore[operator]
        return unmasked(last, x)  # type: ignore[arg-type]
    assert isinstance(autoencoder, Masked), "asked for where masked_in finds one"
    return autoencoder._unmasked(x)


@torch.no_grad()
def mask_counts(autoencoder: Autoencoder, x: Tensor) -> dict[str, float]:
    """How many dimensions a masked auto-encoder uses, counted three ways.

    "mask >= 0.1" counts half-open dimensions too, and is the paper's figure [mondal2020]; "mask >= 0.5" does not;
    "participation ratio", (Σ λ)² / Σ λ², λ the eigenvalues of the covariance of the masked codes of rows x ``(n, dim)``,
    asks the codes and not the mask, and settles long before it.
    """
    found = masked_in(autoencoder)
    if found is None:
        raise TypeError(f"mask_counts expects a Masked auto-encoder, got {type(autoencoder).__name__}.")
    z = autoencoder.encode(x)
    if z.ndim != 2 or not bool((z != z[:1]).any()):
        raise ValueError(
            f"mask_counts expects rows (n, dim) with different masked codes, got codes {tuple(z.shape)}, all the same: give "
            "more rows; if there are, the encoder has collapsed, or its mask is closed."
        )
    covariance = torch.cov(z.double().mT).reshape(found.latent_dim, -1)
    ratio = covariance.trace().square() / covariance.square().sum()
    return {
        "mask >= 0.1": float((found.mask >= 0.1).sum()),
        "mask >= 0.5": float((found.mask >= 0.5).sum()),
        "participation ratio": float(ratio),
    }
