"""A bijection of some columns, beside others that stay as they are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow import validate
from geoflow.density import Context, given
from geoflow.maps import Bijection, FeaturesFirst, Turned, Volume
from geoflow.registry import register


@register
class OnColumns(FeaturesFirst):
    """z_columns = bijection(x_columns), z = x elsewhere; the log-det is the bijection's.

    Scales the flat columns of a space that has angles too, and factors out channels of images: what follows sees the
    columns that are kept, and the others go to the base as they are.

    Args:
        bijection: of the chosen columns, in their order.
        dim: number of all columns.
        columns: which, each once.

    >>> from geoflow import Positive
    >>> OnColumns(Positive(1), 3, [2]).encode(torch.tensor([5.0, 5.0, 1.0]))
    tensor([5., 5., 0.])
    """

    order: Tensor
    back: Tensor

    def __init__(self, bijection: Bijection, dim: int, columns: Sequence[int]) -> None:
        super().__init__(dim)
        chosen = columns_of(columns, dim, "OnColumns", "columns")
        if len(chosen) != bijection.dim:
            raise ValueError(
                f"OnColumns: {len(chosen)} columns for a {type(bijection).__name__} of {bijection.dim} coordinates."
            )
        self.bijection, self.columns = bijection, chosen
        self.context_dim, self.classes = bijection.context_dim, bijection.classes
        order = [*chosen, *(c for c in range(dim) if c not in set(chosen))]
        self._leading = order == sorted(order)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)

    def _on(self, verb: str, x: Turned, context: Context) -> tuple[Turned, Volume]:
        x = x if self._leading else x.index_select(0, self.order)
        some, rest = x.split_with_sizes((len(self.columns), self.dim - len(self.columns)))
        some, volume = getattr(self.bijection, verb)(some, given(self.bijection, context))
        z = torch.cat([some, rest])
        return z if self._leading else z.index_select(0, self.back), volume

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._on("_encode_turned", x, context)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._on("_decode_turned", z, context)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """The bijection's own, on its columns."""
        self.bijection.prepare(x[..., self.columns], given(self.bijection, context))

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The bijection's own, on its columns."""
        self.bijection.finish(x[..., self.columns], given(self.bijection, context))


def columns_of(wanted: Sequence[int], dim: int, who: str, name: str) -> list[int]:
    """Numbers of columns below `dim`, each at most once."""
    found = [validate.count(c, who, name) for c in wanted]
    if len(set(found)) != len(found) or (found and max(found) >= dim):
        raise ValueError(f"{who} expects `{name}` among the columns 0 .. {dim - 1}, each once, got {found}.")
    return found
