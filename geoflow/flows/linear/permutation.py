"""A fixed permutation of the coordinates, so that couplings see them in other company."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from geoflow.density import Context
from geoflow.flows.by_hand import ByHand, Kept
from geoflow.maps import Turned, Volume
from geoflow.registry import register


@register
class Permutation(ByHand):
    """z_i = x_{order[i]}; volume preserving.

    Args:
        dim: number of coordinates.
        order: the permutation; None draws one from `generator` (the global one if None).
    """

    index: Tensor
    back: Tensor

    def __init__(self, dim: int, order: Sequence[int] | None = None, generator: Generator | None = None) -> None:
        super().__init__(dim)
        index = torch.randperm(dim, generator=generator) if order is None else torch.as_tensor(order)
        if index.sort().values.tolist() != list(range(dim)):
            raise ValueError(f"Permutation expects each of 0 .. {dim - 1} once, got {index.tolist()}.")
        self.register_buffer("index", index)
        self.register_buffer("back", index.argsort())

    @property
    def order(self) -> list[int]:
        """The permutation as a list."""
        return self.index.tolist()

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return x.index_select(0, self.index), None

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return z.index_select(0, self.back), None

    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        return x.index_select(0, self.index), None, ()

    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        return z.index_select(0, self.back), ()

    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        return g.index_select(0, self.back), None, []
