"""Affine coupling, the step of RealNVP: one half of the coordinates scales and shifts the other."""

from collections.abc import Sequence

from geoflow.flows.curves import Affine
from geoflow.flows.halves import Coupling
from geoflow.registry import register


@register
class AffineCoupling(Coupling):
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
        curve = Affine(clamp, "AffineCoupling", centred=volume_preserving, apart=True)
        super().__init__(dim, context_dim, hidden, activation, curve)
        self.clamp, self.volume_preserving = clamp, volume_preserving
