"""What the objective of a `LatentModel` is made of: terms, each shown the same batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from geoflow.density import Player, Sampler
from geoflow.maps import Autoencoder

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel
    from geoflow.autoencoders.posteriors import Posterior


@dataclass(frozen=True)
class Batch:
    """Rows, their codes, and what these decode to.

    Attributes:
        x: data ``(n, dim)``.
        z: codes ``(n, latent_dim)``, drawn from the posterior, or encode(x) where there is none.
        xh: decode(z) ``(n, dim)``.
        posterior: of the auto-encoder, and `theta` its numbers at x; None without one.
        log_q: log q(z | x) ``(n,)``; None without a posterior.
        autoencoder, prior: of the model.
    """

    x: Tensor
    z: Tensor
    xh: Tensor
    posterior: "Posterior | None"
    theta: Tensor | None
    log_q: Tensor | None
    autoencoder: Autoencoder
    prior: Sampler


class Term(nn.Module, ABC):
    """A divergence or an extra: a figure of a batch that training lowers.

    Attributes:
        name: under which `fit` and `evaluate` report it.
        by_rows: whether rows can have weights: its value is one number a row, or says nothing of rows.
        to_the_end: whether only the last step completes its schedule, so that held-out figures before it choose nothing.
    """

    name: str
    by_rows: bool = False
    to_the_end: bool = False

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Its value, one per row ``(n,)`` or for the batch ``()``."""

    def figure(self, batch: Batch) -> Tensor:
        """What is reported of it on held-out rows, where that is another value than is trained on."""
        return self.forward(batch)

    def check(self, model: "LatentModel") -> None:
        """Refuse a model that the term has no meaning for, when the model is built."""

    def schedule(self, step: int, steps: int) -> None:
        """Called before each training step."""

    def players(self, model: "LatentModel") -> list[Player]:
        """Its own adversaries, which take turns with the model; none by default."""
        return []

    def keeps(self, model: "LatentModel") -> list[nn.Parameter]:
        """Parameters of the model that nobody but its own players steps; none by default."""
        return []

    def turn(self, model: "LatentModel", player: str, x: Tensor) -> Tensor:
        """The loss of one of its players on rows."""
        raise NotImplementedError(f"{type(self).__name__} has no player {player!r}.")


Rows = Callable[[Tensor, Tensor], Tensor]
"""A cost as a plain function: data and reconstructions ``(n, dim)`` to costs ``(n,)``."""
Figure = Callable[[Batch], Tensor]
"""A divergence or an extra as a plain function."""


def verdicts(net: nn.Module, z: Tensor, who: str) -> Tensor:
    """net(z) ``(*batch)`` of a network with one output; more would pass for as many rows."""
    found: Tensor = net(z)
    if found.shape != (*z.shape[:-1], 1):
        raise ValueError(
            f"{who} expects a network with one output, from {tuple(z.shape)} it gave {tuple(found.shape)}."
        )
    return found.squeeze(-1)


def name_of(term: Any) -> str:
    """Under which a term is reported: its own name, or a function's."""
    return str(getattr(term, "name", getattr(term, "__name__", type(term).__name__)))


class Plain(Term):
    """A function of a batch as a term; `save` cannot write it."""

    def __init__(self, function: Figure) -> None:
        super().__init__()
        self.function, self.name = function, name_of(function)

    def forward(self, batch: Batch) -> Tensor:
        return self.function(batch)


def listed(terms: Any) -> list[Term]:
    """Several terms, one, or none, as a list."""
    given = [terms] if callable(terms) and not isinstance(terms, nn.ModuleList) else list(terms)
    for t in given:
        if isinstance(t, type) or not callable(t):
            what = f"the class {t.__name__}: pass {t.__name__}()" if isinstance(t, type) else type(t).__name__
            raise TypeError(f"LatentModel expects terms or functions of a Batch, got {what}.")
    return [t if isinstance(t, Term) else Plain(t) for t in given]
