"""A learned linear map, factored so that its volume and its inverse cost no decomposition."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context
from geoflow.flows.by_hand import ByHand, Kept
from geoflow.flows.linear.permutation import Permutation
from geoflow.maps import Turned, Volume
from geoflow.registry import register


@register
class LULinear(ByHand):
    """z = L U P x, P a fixed permutation, L unit lower and U upper triangular with diagonal eˡ: log det = Σ l.

    Starts as the permutation. Between couplings it lets every coordinate meet every other, and turns the axes to where
    curves of single coordinates serve best. Cost: dim² a row either way; decoding solves two triangular systems.
    [kingma2018]

    Args:
        dim: number of coordinates.
        order: the permutation; None draws one from `generator` (the global one if None).
    """

    def __init__(self, dim: int, order: Sequence[int] | None = None, generator: Generator | None = None) -> None:
        super().__init__(dim)
        self.permutation = Permutation(dim, order, generator)
        self.triangles = nn.Parameter(torch.zeros(dim, dim))
        self.log_diagonal = nn.Parameter(torch.zeros(dim))

    @property
    def order(self) -> list[int]:
        """The permutation as a list."""
        return self.permutation.order

    def _factors(self) -> tuple[Tensor, Tensor]:
        """L without its diagonal of ones, and U."""
        return self.triangles.tril(-1), self.triangles.triu(1) + self.log_diagonal.exp().diag()

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        z, log_det, _ = self._encode_taped(x, context)
        return z, log_det

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._decode_taped(z, context)[0], -self.log_diagonal.sum()

    # -- the derivative in closed form --------------------------------------------------------------------------

    def _weights(self) -> list[Tensor]:
        return [self.triangles, self.log_diagonal]

    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        lower, upper = self._factors()
        x = self.permutation._encode_turned(x)[0]
        y = upper @ x
        return torch.addmm(y, lower, y), self.log_diagonal.sum(), (lower, upper, x, y)

    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, z, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, y, upper=True)
        return self.permutation._decode_turned(x)[0], (lower, upper, x, y)

    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        """With y = U P x: ∂L = ∂z yᵀ, ∂y = ∂z + Lᵀ ∂z, ∂U = ∂y (P x)ᵀ, ∂l = diag ∂U eˡ + Σ ∂log det, ∂x = Pᵀ Uᵀ ∂y."""
        lower, upper, x, y = kept
        g_y = torch.addmm(g, lower.mT, g)
        g_upper = g_y @ x.mT
        g_triangles = (g @ y.mT).tril_(-1).add_(g_upper.triu(1))
        g_diagonal = torch.addcmul(g_log_det.sum(), g_upper.diagonal(), upper.diagonal())
        return self.permutation._decode_turned(upper.mT @ g_y)[0], None, [g_triangles, g_diagonal]
