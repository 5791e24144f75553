"""What couplings share: one half of the coordinates chooses a curve for each of the other half."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.flows.by_hand import ByHand, Kept
from geoflow.flows.curves import Curve
from geoflow.maps import Turned, Volume
from geoflow.nets import MLP
from geoflow.nets.mlp import BY_HAND


class Coupling(ByHand):
    """Split x = (a, b); b ← g(b; θ) with θ a network of a and the context; the halves then change places.

    The network's last layer starts at zero. Returning (b, a) makes the next coupling transform a without a further
    permutation.

    Args:
        dim: number of coordinates, at least two; a has the larger half.
        context_dim: width of a float condition, concatenated to a.
        hidden, activation: of the network (see `MLP`).
        curve: g.
    """

    def __init__(self, dim: int, context_dim: int, hidden: Sequence[int], activation: str, curve: Curve) -> None:
        super().__init__(dim)
        if dim < 2:
            raise ValueError(
                f"{type(self).__name__} expects dim >= 2, one half to condition the other; use a mixture in one dimension."
            )
        self.context_dim, self.hidden, self.activation = context_dim, tuple(hidden), activation
        self.curve = curve
        self.active = dim // 2
        self.passive = dim - self.active
        self.net = MLP(self.passive + context_dim, curve.each * self.active, hidden, activation, zero_last=True)

    def _seen(self, a: Turned, context: Context) -> Turned:
        return a if context is None else torch.cat([a, context])

    def _theta(self, a: Turned, context: Context) -> Turned:
        return self.net.turned(self._seen(a, context))

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        a, b = x.contiguous().split_with_sizes((self.passive, self.active))
        b, log_slope = self.curve.there(b, self._theta(a, context))
        return torch.cat([b, a]), log_slope.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        b, a = z.contiguous().split_with_sizes((self.active, self.passive))
        b, log_slope = self.curve.back(b, self._theta(a, context))
        return torch.cat([a, b]), log_slope.sum(0)

    # -- the derivative in closed form --------------------------------------------------------------------------

    def _by_hand(self) -> bool:
        return self.activation in BY_HAND

    def _weights(self) -> list[Tensor]:
        return self.net.weights()

    def _encode_untaped(self, x: Turned, context: Context) -> tuple[Turned, Volume]:
        a, b = x.contiguous().split_with_sizes((self.passive, self.active))
        b, log_det, _ = self.curve.taped(b, self._theta(a, context))
        return torch.cat([b, a]), log_det

    def _undo(self, z: Turned, context: Context) -> Turned:
        b, a = z.contiguous().split_with_sizes((self.active, self.passive))
        return torch.cat([a, self.curve.back_taped(b, self._theta(a, context))[0]])

    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        a, b = x.contiguous().split_with_sizes((self.passive, self.active))
        theta, tape = self.net.taped(self._seen(a, context))
        b, log_det, kept = self.curve.taped(b, theta)
        return torch.cat([b, a]), log_det, (tape, kept)

    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        b, a = z.contiguous().split_with_sizes((self.active, self.passive))
        theta, tape = self.net.taped(self._seen(a, context))
        b, kept = self.curve.back_taped(b, theta)
        return torch.cat([a, b]), (tape, kept)

    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        tape, curve = kept
        g_there, g_a = g.split_with_sizes((self.active, self.passive))
        g_b, g_theta = self.curve.pull(curve, g_there, g_log_det)
        g_in, found = self.net.pull(tape, g_theta)
        g_context = g_in[self.passive :] if self.context_dim else None
        return torch.cat([g_a + g_in[: self.passive], g_b]), g_context, found
