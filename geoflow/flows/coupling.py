"""Affine coupling, the step of RealNVP: one half of the coordinates scales and shifts the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.maps import Bijection, Data, Latent
from geoflow.nets import MLP
from geoflow.registry import register


@register
class AffineCoupling(Bijection):
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
        super().__init__(dim)
        if dim < 2:
            raise ValueError(
                "AffineCoupling expects dim >= 2, one half to condition the other; use a mixture in one dimension."
            )
        if clamp <= 0:
            raise ValueError(f"AffineCoupling expects clamp > 0, got {clamp}.")
        self.context_dim, self.clamp, self.volume_preserving = context_dim, clamp, volume_preserving
        self.hidden, self.activation = tuple(hidden), activation
        self.active = dim // 2
        self.passive = dim - self.active
        self.net = MLP(self.passive + context_dim, 2 * self.active, hidden, activation, zero_last=True)

    def _log_scale_and_shift(self, a: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        r, t = self.net(a if context is None else torch.cat([a, context], -1)).chunk(2, -1)
        s = self.clamp * torch.tanh(r / self.clamp)
        return (s - s.mean(-1, keepdim=True) if self.volume_preserving else s), t

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        a, b = x.split_with_sizes((self.passive, self.active), -1)
        s, t = self._log_scale_and_shift(a, context)
        return torch.cat([torch.addcmul(t, b, s.exp()), a], -1), s.sum(-1)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        b, a = z.split_with_sizes((self.active, self.passive), -1)
        s, t = self._log_scale_and_shift(a, context)
        return torch.cat([a, (b - t) * (-s).exp()], -1), -s.sum(-1)
