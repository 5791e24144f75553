"""`Flow`: a bijection carries a base density to data, with the exact change of volume."""

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.carried import ROWS, Coded, blocks
from geoflow.density import Context, Density, given, weighted_mean
from geoflow.flows import by_hand
from geoflow.maps import Bijection
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.checks import tracing
from manifolds.shapes import Points, Values


@register
class Flow(Coded):
    """log p(x) = log p_base(encode(x)) + log|det ∂encode/∂x|.

    Args:
        bijection: data → latent.
        base: a density of as many coordinates. Each is given the context if it declares one.
        reversible: train with the memory of one layer instead of all: couplings are undone on the way back, other parts
            keep what goes into them. A third more time.

    >>> from geoflow.flows import realnvp
    >>> flow = realnvp(2)
    >>> flow.log_prob(flow.sample(5)).shape
    torch.Size([5])
    """

    def __init__(self, bijection: Bijection, base: Density, reversible: bool = False) -> None:
        super().__init__()
        if not isinstance(bijection, Bijection):
            raise TypeError(
                f"Flow expects a Bijection, got {type(bijection).__name__}; FreeFormFlow takes any auto-encoder."
            )
        if not isinstance(base, Density):
            raise TypeError(f"Flow expects a Density as base, got {type(base).__name__}.")
        if bijection.latent_dim != base.dim:
            raise ValueError(
                f"Flow: the bijection encodes to {bijection.latent_dim} coordinates, the base has {base.dim}."
            )
        self.bijection, self.base, self.reversible = bijection, base, reversible
        self.space = base.space if base.dim == bijection.dim else Euclidean(bijection.dim)
        self.context_dim, self.classes = validate.common_context((bijection, base), "Flow")

    @property
    def autoencoder(self) -> Bijection:
        """The bijection, under the name that all models share."""
        return self.bijection

    def _maps(self) -> Bijection:
        return self.bijection

    def with_base(self, base: Density) -> "Flow":
        """The same bijection (shared, not copied) with another base."""
        return type(self)(self.bijection, base, self.reversible)

    def _encode(self, x: Points, context: Context) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled():
            return by_hand.encode(self.bijection, x, given(self.bijection, context))
        return self.bijection._encode_and_log_det(x, given(self.bijection, context))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        if _many(x):
            return torch.cat([self._log_prob(b, c) for b, c in blocks(x, context)])
        z, log_det = self._encode(x, context)
        return self.base._log_prob(z, given(self.base, context)) + log_det

    def _code(self, x: Tensor, context: Context) -> Tensor:
        return self._encode(x, context)[0]

    def _carry(self, z: Tensor, context: Context) -> Tensor:
        if _many(z):
            return torch.cat([self._carry(b, c) for b, c in blocks(z, context)])
        return by_hand.decode(self.bijection, z, given(self.bijection, context))

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        context = self._spread(context, shape)
        z, log_base = self.base._rsample_and_log_prob(shape, given(self.base, context), generator)
        x, log_det = self.bijection._decode_and_log_det(z, given(self.bijection, context))
        return x, log_base - log_det

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The base's loss on the codes minus the mean log-det; differentiable once (see `geoflow.flows.by_hand`)."""
        z, log_det = by_hand.encode(self.bijection, x, given(self.bijection, context), self.reversible)
        terms = self.base.loss(z, given(self.base, context), weight=weight, player=player)
        volume = weighted_mean(log_det, weight)
        return {**terms, "loss": terms["loss"] - volume, "log det": volume.detach()}


def _many(x: Tensor) -> bool:
    """Whether rows are better taken in blocks, which stay in the cache: nothing is kept for derivatives then."""
    return x.dim() == 2 and not torch.is_grad_enabled() and not tracing(x) and len(x) > 2 * ROWS
