"""What couplings share: one half of the coordinates chooses a curve for each of the other half."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.nets import MLP


class Coupling(FeaturesFirst):
    """Split x = (a, b); b ← g(b; θ) with θ a network of a and the context; the halves then change places.

    The network's last layer starts at zero. Returning (b, a) makes the next coupling transform a without a further
    permutation.

    Args:
        dim: number of coordinates, at least two; a has the larger half.
        context_dim: width of a float condition, concatenated to a.
        hidden, activation: of the network (see `MLP`).
        each: numbers in θ for each coordinate of b.
    """

    def __init__(self, dim: int, context_dim: int, hidden: Sequence[int], activation: str, each: int) -> None:
        super().__init__(dim)
        if dim < 2:
            raise ValueError(
                f"{type(self).__name__} expects dim >= 2, one half to condition the other; use a mixture in one dimension."
            )
        self.context_dim, self.hidden, self.activation = context_dim, tuple(hidden), activation
        self.active = dim // 2
        self.passive = dim - self.active
        self.net = MLP(self.passive + context_dim, each * self.active, hidden, activation, zero_last=True)

    @abstractmethod
    def _there(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        """g(b; θ) and log g′, each ``(active, n)``, for θ ``(each · active, n)``."""

    @abstractmethod
    def _back(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        """The inverse and its log slope."""

    def _theta(self, a: Turned, context: Context) -> Turned:
        return self.net.turned(a if context is None else torch.cat([a, context]))

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        a, b = x.contiguous().split_with_sizes((self.passive, self.active))
        b, log_slope = self._there(b, self._theta(a, context))
        return torch.cat([b, a]), log_slope.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        b, a = z.contiguous().split_with_sizes((self.active, self.passive))
        b, log_slope = self._back(b, self._theta(a, context))
        return torch.cat([a, b]), log_slope.sum(0)
