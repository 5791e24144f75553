"""Conditions of any width, through a network that all layers of a model share."""

from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.columns import Standardize
from geoflow.density import Context, Density, Player
from geoflow.maps import Autoencoder, Data, Latent
from geoflow.registry import register
from manifolds.shapes import Points, Values


@register
class Embedded(Density):
    """p(x | c) = density(x | net(c)): a conditional density that sees a condition through a network.

    The network is evaluated once a call, not once a layer, and trained with the density, by whatever trains that.
    Conditions are standardised first, by the training rows' moments.

    Args:
        density: a conditional density, with a float context as wide as `net` returns: a flow, free or exact.
        net: c → embedding, ``(*batch, context_dim)`` to ``(*batch, density.context_dim)``.
        context_dim: width of c.
        standardize: how (see `Standardize`): "column", "all" for images, or None to take conditions as they are.

    >>> from geoflow.flows import realnvp
    >>> from geoflow.nets import MLP
    >>> flow = Embedded(realnvp(2, context=8), MLP(100, 8, (32,)), 100)
    >>> flow.log_prob(torch.zeros(5, 2), torch.randn(5, 100)).shape
    torch.Size([5])
    """

    scaler: Standardize | None

    def __init__(
        self,
        density: Density,
        net: nn.Module,
        context_dim: int,
        standardize: Literal["column", "all"] | None = "column",
    ) -> None:
        super().__init__()
        if not isinstance(density, Density):
            raise TypeError(f"Embedded expects a Density, got {type(density).__name__}.")
        if not density.context_dim:
            raise ValueError(
                f"Embedded expects a density with a float context, which the network gives; {type(density).__name__} "
                "takes none: build it with context= the width of the embedding."
            )
        self.context_dim = validate.count(context_dim, "Embedded", "context_dim", 1)
        self.density, self.net, self.standardize = density, net, standardize
        self.scaler = None if standardize is None else Standardize(context_dim, standardize)
        self.space = density.space

    def embed(self, context: Tensor) -> Tensor:
        """The embedding ``(*batch, density.context_dim)`` of conditions ``(*batch, context_dim)``."""
        code = self.net(context if self.scaler is None else self.scaler._encode(context))
        if code.shape != (*context.shape[:-1], self.density.context_dim):
            raise ValueError(
                f"Embedded: the network gave shape {tuple(code.shape)} for conditions {tuple(context.shape)}, the density "
                f"takes {self.density.context_dim} numbers each."
            )
        return code

    def _embed(self, context: Context) -> Tensor:
        assert context is not None, "the door asks for it"
        return self.embed(context)

    @torch.no_grad()
    def _embed_in_blocks(self, context: Context) -> Tensor:
        assert context is not None
        return torch.cat([self.embed(block) for block in context.split(2048)])

    @property
    def autoencoder(self) -> Autoencoder:
        """The density's maps, which take the condition as it is; models without maps have none."""
        return _EmbeddedMaps(self, self.density.autoencoder)  # type: ignore[arg-type]

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return self.density._log_prob(x, self._embed(context))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.density._sample(shape, self._embed(context), generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.density._rsample(shape, self._embed(context), generator)

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        return self.density._rsample_and_log_prob(shape, self._embed(context), generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """The density's, at the embedding."""
        _, checked = self._draws((), context, "entropy")
        return self.density.entropy(self._embed(checked))

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The density's, at the embedding."""
        return self.density.loss(x, self._embed(context), weight=weight, player=player)

    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """The density's, at the embedding."""
        return self.density.evaluate(x, self._embed_in_blocks(context), weight)

    def verdict(self, figures: dict[str, float]) -> str | None:
        """The density's, if it has one."""
        own: Any = getattr(self.density, "verdict", None)
        return None if own is None else own(figures)

    def players(self) -> list[Player]:
        """The density's; the network belongs to the first."""
        players = self.density.players()
        more = [p for p in self.net.parameters() if p.requires_grad]
        if not players:
            return [Player("all", more)] if more else []
        players[0].parameters = [*players[0].parameters, *more]
        return players

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Scale conditions by the moments of the rows', then the density's own."""
        assert context is not None
        if self.scaler is not None:
            self.scaler.prepare(context)
        self.density.prepare(x, self._embed_in_blocks(context))

    def schedule(self, step: int, steps: int) -> None:
        self.density.schedule(step, steps)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The density's, at the embedding."""
        self.density.finish(x, self._embed_in_blocks(context))


class _EmbeddedMaps(Autoencoder):
    """The maps of a model behind its embedding: conditions go through the network first."""

    def __init__(self, model: Embedded, maps: Autoencoder) -> None:
        super().__init__()
        self.model, self.maps = model, maps
        self.dim, self.latent_dim, self.posterior = maps.dim, maps.latent_dim, None
        self.context_dim = model.context_dim if maps.context_dim else 0

    def _own(self, context: Tensor | None) -> Tensor | None:
        return None if context is None else self.model.embed(context)

    def _encode(self, x: Data, context: Context = None) -> Latent:
        return self.maps._encode(x, self._own(context))

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return self.maps._decode(z, self._own(context))
