"""Decoders that end in a link: probabilities, or shares that sum to one."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoflow.density import Context, Density
from geoflow.maps import Autoencoder, Data, Latent
from geoflow.registry import register

LINKS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "softmax": lambda r: torch.softmax(r, -1)}


@register
class Linked(Autoencoder):
    """decode(z) = link(r(z)), r what another auto-encoder decodes to.

    Costs that are likelihoods of the link (`Bernoulli`, `Multinomial`) are computed from r itself, where nothing
    saturates.

    Args:
        autoencoder: encodes as it does, and decodes to r.
        link: "sigmoid" for grey levels or probabilities, "softmax" for shares that sum to one.
    """

    def __init__(self, autoencoder: Autoencoder, link: Literal["sigmoid", "softmax"] = "sigmoid") -> None:
        nn.Module.__init__(self)
        if link not in LINKS:
            raise ValueError(f"Linked expects link='sigmoid' or 'softmax', got {link!r}.")
        self.autoencoder, self.link = autoencoder, link
        self.dim, self.latent_dim = autoencoder.dim, autoencoder.latent_dim
        self.context_dim, self.classes = autoencoder.context_dim, autoencoder.classes

    @property
    def posterior(self) -> Density | None:  # type: ignore[override]
        """The inner auto-encoder's."""
        return self.autoencoder.posterior

    def raw(self, z: Tensor) -> Tensor:
        """r(z) ``(*batch, dim)``."""
        return self.autoencoder._decode(z)

    def _encode(self, x: Data, context: Context = None) -> Latent:
        return self.autoencoder._encode(x, context)

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return LINKS[self.link](self.autoencoder._decode(z, context))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        return self.autoencoder.encoder_parameters()

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """The inner one's own; behind a softmax, a decoder with a method `start_at(x)` is shown the rows, as `Topics`."""
        self.autoencoder.prepare(x, context)
        start_at: Any = getattr(getattr(self.autoencoder, "decoder", None), "start_at", None)
        if start_at is not None and self.link == "softmax":
            start_at(x)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The inner one's own."""
        self.autoencoder.finish(x, context)
