"""What models over a base density share: draws of the base carried to data, and preparation by way of codes."""

from abc import abstractmethod

import torch
from torch import Generator, Tensor

from geoflow.density import Context, Density, Player, frozen, given
from geoflow.maps import Autoencoder
from manifolds.shapes import Points

ROWS = 2048
"""As many as stay in a processor's cache."""
Drawn = Tensor
"""Points of the base's space ``(*batch, base.dim)``."""


class Carried(Density):
    """A density whose draws are those of `base`, carried to data."""

    base: Density

    @abstractmethod
    def _carry(self, z: Drawn, context: Context) -> Points:
        """Data for draws of the base."""

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        context = self._spread(context, shape)
        return self._carry(self.base._sample(shape, given(self.base, context), generator), context)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        context = self._spread(context, shape)
        return self._carry(self.base._rsample(shape, given(self.base, context), generator), context)

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        x = self._rsample(shape, context, generator)
        return x, self._log_prob(x, self._spread(context, shape))


class Coded(Carried):
    """One that leads back, from data to codes."""

    @abstractmethod
    def _maps(self) -> Autoencoder:
        """The maps from data to codes and back."""

    @abstractmethod
    def _code(self, x: Points, context: Context) -> Drawn:
        """The codes of data."""

    def _own(self, x: Tensor, context: Context) -> Tensor | None:
        """What of the context the maps are given, beside points x."""
        return given(self._maps(), context)

    def _codes(self, x: Tensor, context: Context) -> Tensor:
        """Those of many rows, `ROWS` at a time."""
        return torch.cat([self._code(b, c) for b, c in blocks(x, context)])

    def players(self) -> list[Player]:
        """One, with the maps' and the base's parameters, also where the base alone would not train by steps."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [Player("all", parameters)] if parameters else []

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the maps on the data, then the base, unless it is frozen, on the codes."""
        self._maps().prepare(x, self._own(x, context))
        if not frozen(self.base):
            self.base.prepare(self._codes(x, context), given(self.base, context))

    @torch.no_grad()
    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Finish the maps, then the base on the codes."""
        self._maps().finish(x, self._own(x, context))
        self.base.finish(self._codes(x, context), given(self.base, context))


def blocks(x: Tensor, context: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    """Rows with their contexts, `ROWS` at a time."""
    parts: list[Tensor | None] = [None] * len(x) if context is None else list(context.split(ROWS))
    return list(zip(x.split(ROWS), parts, strict=False))
