"""Training through a chain whose parts know their derivatives: one node of autograd's graph for all of them.

The closed forms need fewer operations than autograd's record of them, and where memory matters nothing is kept at all:
couplings can be undone, so that the way back recomputes what it needs. Without derivatives the same code is the quickest.
"""

from abc import abstractmethod
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from geoflow.density import Context, given
from geoflow.maps import Bijection, ChainBijection, FeaturesFirst, Turned, Volume, added, turned
from geoflow.train.flat import Flat
from manifolds.checks import tracing

Kept = tuple[Any, ...]
"""What a part keeps for its derivative."""


class ByHand(FeaturesFirst):
    """A part with its derivative in closed form."""

    def _by_hand(self) -> bool:
        """Whether it has one with its present settings."""
        return True

    def _weights(self) -> list[Tensor]:
        """Its parameters, in the order of their gradients from `_pull`."""
        return []

    @abstractmethod
    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        """As `_encode_turned`, unseen by autograd, and what `_pull` needs."""

    def _encode_untaped(self, x: Turned, context: Context) -> tuple[Turned, Volume]:
        """As `_encode_turned`, unseen by autograd."""
        return self._encode_taped(x, context)[:2]

    @abstractmethod
    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        """x from z, and what `_encode_taped` would have kept there."""

    def _undo(self, z: Turned, context: Context) -> Turned:
        """x from z alone, unseen by autograd."""
        return self._decode_taped(z, context)[0]

    @abstractmethod
    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        """Gradients at x, at the context and at the weights, from those at z and at the log-det."""


def encode(bijection: Bijection, x: Tensor, context: Context, reversible: bool = False) -> tuple[Tensor, Tensor]:
    """`encode_and_log_det` of rows ``(n, dim)``, for a loss whose gradient is asked for once or not at all.

    Args:
        bijection: any; of a chain, neighbours with derivatives in closed form become one node.
        x, context: rows.
        reversible: keep nothing between those neighbours, and of the other parts only what goes into them.
    """
    if _plain(x):
        return bijection._encode_and_log_det(x, context)
    y, context, total, learns = x.mT, turned(context), None, torch.is_grad_enabled()
    for together, group in groupby(_links(bijection), _closed):
        parts: list[Any] = list(group)
        log_det: Volume
        if together and learns:
            own = None if context is None or not any(p.context_dim or p.classes for p in parts) else context
            flat = Flat.active()
            span = None if flat is None else flat.span(parts)
            one = None if flat is None or span is None else flat.vector  # with one gradient, where theirs are many
            weights = [w for p in parts for w in p._weights()] if one is None else [one]
            y, log_det = _Together.apply(y, own, parts, reversible, span, *weights)
            total = added(total, log_det)
            continue
        for part in parts:
            if together:
                y, log_det = part._encode_untaped(y, given(part, context))
            elif reversible and learns:
                y, log_det = checkpoint(part._encode_turned, y, given(part, context), use_reentrant=False)
            else:
                y, log_det = part._encode_turned(y, given(part, context))
            total = added(total, log_det)
    volume = x.new_zeros(len(x)) if total is None else total.expand(len(x))
    return y.mT, volume


def decode(bijection: Bijection, z: Tensor, context: Context) -> Tensor:
    """`decode` of rows, sooner where nothing is to be differentiated."""
    if _plain(z) or torch.is_grad_enabled():
        return bijection._decode(z, context)
    y, context = z.mT, turned(context)
    for part in reversed(_links(bijection)):
        own = given(part, context)
        y = part._undo(y, own) if _closed(part) else part._decode_turned(y, own)[0]
    return y.mT


def _plain(x: Tensor) -> bool:
    """Whether the chain itself has to be called: batches of another shape, compilers, functorch, mixed precision."""
    if x.dim() != 2 or tracing(x) or torch.is_autocast_enabled(x.device.type):
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def _links(bijection: Any) -> list[Any]:
    """The parts of a chain, of chains in it, or the one that is no chain."""
    if type(bijection) is not ChainBijection:
        return [bijection]
    return [link for part in bijection.parts for link in (_links(part) if type(part) is ChainBijection else (part,))]


def _closed(part: Any) -> bool:
    return hasattr(type(part), "_pull") and part._by_hand()  # sooner than isinstance of an abstract class


class _Together(torch.autograd.Function):
    """Parts in a row: z and the sum of their log-dets.

    What follows `span` are their weights one by one, or, if it says where these begin and end there, one vector.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Turned,
        context: Tensor | None,
        parts: list[ByHand],
        reversible: bool,
        span: tuple[int, int] | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        total: Volume = None
        ctx.parts, ctx.context, ctx.kept = parts, context, []
        for part in parts:
            x, log_det, kept = part._encode_taped(x, given(part, context))
            total = added(total, log_det)
            if not reversible:
                ctx.kept.append(kept)
        ctx.save_for_backward(x, *weights)
        ctx.reversible, ctx.span = reversible, span
        return x, x.new_zeros(x.shape[1]) if total is None else total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor, g_log_det: Tensor) -> tuple[Any, ...]:
        z, g = ctx.saved_tensors[0], g.contiguous()  # which also refuses weights that have changed since
        found: list[Tensor] = []
        g_context: Tensor | None = None
        for i, part in reversed(list(enumerate(ctx.parts))):
            if ctx.reversible:
                z, kept = part._decode_taped(z, given(part, ctx.context))
            else:
                kept = ctx.kept[i]
            g, more, own = part._pull(kept, g, g_log_det)
            found = own + found
            if more is not None:
                g_context = more if g_context is None else g_context + more
        if ctx.span is not None:
            found = [_in_place(found, ctx.span, ctx.saved_tensors[1])]
        return g, g_context, None, None, None, *found


def _in_place(found: list[Tensor], span: tuple[int, int], vector: Tensor) -> Tensor:
    """The gradient of a vector of which the found ones are a span."""
    own = torch.cat([g.reshape(-1) for g in found])
    if len(own) == len(vector):
        return own
    whole = torch.zeros_like(vector)
    whole[span[0] : span[1]] = own
    return whole
