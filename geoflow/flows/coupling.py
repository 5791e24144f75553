"""Affine coupling, the step of RealNVP: one half of the coordinates scales and shifts the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.flows.by_hand import ByHand, Kept
from geoflow.flows.halves import Coupling
from geoflow.maps import Turned, Volume
from geoflow.nets.mlp import BY_HAND, Tape, tanh_backward
from geoflow.registry import register


@register
class AffineCoupling(Coupling, ByHand):
    """Split x = (a, b); b ← b eˢ + t with (s, t) a network of a and the context; the halves then change places.

        s = c tanh(r / c), bounded by the clamp c;   log det = Σ s;   b = (b' − t) e⁻ˢ

    The network's last layer starts at zero, so the coupling starts as the exchange of halves. Returning (b', a) makes
    the next coupling transform a without a further permutation. Cost: one pass of the network either way. [dinh2017]

    Args:
        dim: number of coordinates, at least two; a has the larger half.
        context_dim: width of a float condition, concatenated to a.
        hidden, activation: of the network (see `MLP`).
        clamp: c, the bound of the log-scale.
        volume_preserving: subtract the mean of s, so that log det = 0 (GIN).
    """

    def __init__(
        self,
        dim: int,
        context_dim: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        clamp: float = 2.0,
        volume_preserving: bool = False,
    ) -> None:
        super().__init__(dim, context_dim, hidden, activation, 2)
        if clamp <= 0:
            raise ValueError(f"AffineCoupling expects clamp > 0, got {clamp}.")
        self.clamp, self.volume_preserving = clamp, volume_preserving

    def _log_scale_and_shift(self, theta: Turned) -> tuple[Tensor, Tensor]:
        r, t = theta.chunk(2)
        s = torch.tanh(r * (1 / self.clamp)) * self.clamp
        return (s - s.mean(0) if self.volume_preserving else s), t

    def _there(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        s, t = self._log_scale_and_shift(theta)
        return torch.addcmul(t, b, s.exp()), s

    def _back(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        s, t = self._log_scale_and_shift(theta)
        return (b - t) * (-s).exp(), -s

    # -- the derivative in closed form --------------------------------------------------------------------------

    def _by_hand(self) -> bool:
        return self.activation in BY_HAND

    def _weights(self) -> list[Tensor]:
        return self.net.weights()

    def _bends(self, a: Turned, context: Context) -> tuple[Tensor, Tensor, Tensor, Tape]:
        """s, t, tanh(r / c), and the network's tape."""
        theta, tape = self.net.taped(a if context is None else torch.cat([a, context]))
        r, t = theta.chunk(2)
        bend = r.mul_(1 / self.clamp).tanh_()
        s = bend * self.clamp
        return (s.sub_(s.mean(0)) if self.volume_preserving else s), t, bend, tape

    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        a, b = x.contiguous().split_with_sizes((self.passive, self.active))
        s, t, bend, tape = self._bends(a, context)
        log_det = s.sum(0)
        e = s.exp_()
        return torch.cat([torch.addcmul(t, b, e), a]), log_det, (b, e, bend, tape)

    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        b, a = z.contiguous().split_with_sizes((self.active, self.passive))
        s, t, bend, tape = self._bends(a, context)
        e = s.exp_()
        b = (b - t).div_(e)
        return torch.cat([a, b]), (b, e, bend, tape)

    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        """∂b' = ∂t;  ∂s = ∂b' b eˢ + ∂log det;  ∂b = ∂b' eˢ;  ∂r = ∂s (1 − tanh²)."""
        b, e, bend, tape = kept
        g_there, g_a = g.split_with_sizes((self.active, self.passive))
        g_b = g_there * e
        g_s = torch.addcmul(g_log_det, g_b, b)
        if self.volume_preserving:
            g_s = g_s - g_s.mean(0)
        g_in, found = self.net.pull(tape, torch.cat([tanh_backward(g_s, bend), g_there]))
        g_context = g_in[self.passive :] if self.context_dim else None
        return torch.cat([g_a + g_in[: self.passive], g_b]), g_context, found
