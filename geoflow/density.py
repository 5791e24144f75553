"""The nouns `Sampler` (draws points of a space) and `Density` (also says how likely they are), and what training asks.

A public verb checks its input, brings x and context to one batch, and calls its underscored twin, which parts call on
each other. To write a density, give `_log_prob` and `_sample`.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from geoflow import validate
from manifolds import Euclidean, Manifold
from manifolds.shapes import Points, Values

Context = Float[Tensor, "*#batch condition"] | Int[Tensor, "*#batch"] | None
"""What a conditional part is given: float rows, integer labels, or nothing."""


@dataclass
class Player:
    """One optimiser's share of a model: `repeat` turns a step, each its own forward and backward on a fresh batch.

    `optimizer` builds one from parameters and a learning rate; None is `fit`'s default.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    repeat: int = 1
    lr_scale: float = 1.0
    optimizer: Callable[[list[nn.Parameter], float], torch.optim.Optimizer] | None = None


def reference(module: nn.Module) -> Tensor | None:
    """A floating tensor of the module that tells its dtype and device; None if it has none but anchors."""
    if (p := _first_parameter(module)) is not None:
        return p
    buffers = (b for n, b in module.named_buffers() if not n.endswith("_anchor"))
    return next((b for b in buffers if b.is_floating_point()), None)


def _first_parameter(module: nn.Module) -> Tensor | None:
    """A floating one; sooner found than by `parameters`, which every call of a verb would feel."""
    for p in module._parameters.values():
        if p is not None and p.is_floating_point():
            return p
    for part in module._modules.values():
        if part is not None and (found := _first_parameter(part)) is not None:
            return found
    return None


def like(rows: Tensor, module: nn.Module) -> Tensor:
    """Rows of a table in the module's dtype and on its device, as `fit` takes them."""
    found = reference(module)
    return rows if found is None else rows.to(found)


def frozen(part: nn.Module) -> bool:
    """Whether it has parameters and none may change: then fits in closed form leave them alone too."""
    parameters = list(part.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def given(part: Any, context: Tensor | None) -> Tensor | None:
    """The context for a part: only those that declare one get it."""
    return context if part.context_dim or part.classes else None


def takes_weight(verb: Callable[..., Any]) -> bool:
    """Whether a verb of training asks for the rows' weights."""
    parameters = inspect.signature(verb).parameters
    return "weight" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def weighted_mean(row: Tensor, weight: Tensor | None) -> Tensor:
    """mean(weight · row). Weights average one over the training rows, so a batch never divides by its own sum."""
    return (row if weight is None else weight * row).mean()


class Sampler(nn.Module, ABC):
    """Draws points of `space`, and can be trained by `geoflow.fit`.

    Attributes:
        space: where the points live, set plainly in the constructor.
        context_dim, classes: what condition it takes: float rows of that width, or that many integer labels; 0 is none.
    """

    space: Manifold
    context_dim: int = 0
    classes: int = 0

    @property
    def dim(self) -> int:
        """Number of coordinates of a point."""
        return self.space.ambient_dim

    @abstractmethod
    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        """Points ``(*shape, dim)``; a context broadcasts against `shape`."""

    @torch.no_grad()
    def sample(
        self, n: int | tuple[int, ...] = (), context: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """`n` draws (an int or a shape) per context row: ``(*n, *context_batch, dim)``."""
        shape, context = self._draws(n, context, "sample")
        return self._sample(shape, context, generator)

    @torch.no_grad()
    def sample_noisy(
        self, n: int | tuple[int, ...] = (), context: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Draws as rows of data are: `sample`, but of models whose `sample` is without the noise of their likelihood."""
        shape, context = self._draws(n, context, "sample_noisy")
        return self._sample_noisy(shape, context, generator)

    def _sample_noisy(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._sample(shape, context, generator)

    @abstractmethod
    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """Named terms of the training objective on a batch, first ``"loss"``, each mean(weight · row)."""

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """`loss`: `fit` calls the module itself, so that wrappers around it see every call."""
        return self.loss(*args, **kwargs)

    def players(self) -> list[Player]:
        """Who trains what: by default one player with every trainable parameter, or none if nothing takes steps."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [Player("all", parameters)] if parameters else []

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what comes from the data before training: scales, starts, closed-form fits."""

    def schedule(self, step: int, steps: int) -> None:
        """Called before each training step, for quantities that change over training."""

    @property
    def to_the_end(self) -> bool:
        """Whether only the last step completes what `schedule` does: then `fit` neither stops early nor goes back."""
        return False

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what comes from the data after training: closing statistics.

        One that also takes `weight` is given the rows' weights, if they have any.
        """

    @abstractmethod
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Exact figures on held-out rows; the first, ``"loss"``, is what `fit` monitors. Never a surrogate's value."""

    def _draws(self, n: Any, context: Any, verb: str) -> tuple[tuple[int, ...], Tensor | None]:
        who = f"{type(self).__name__}.{verb}"
        shape = validate.shape(n, who)
        context = validate.context(context, None, self.context_dim, self.classes, who, reference(self))
        if context is not None:
            shape += tuple(context.shape[:-1] if self.context_dim else context.shape)
        return shape, context

    def _spread(self, context: Context, shape: tuple[int, ...]) -> Context:
        """The context of each draw of a shape that ends in the context's own."""
        if context is None:
            return None
        return context.expand(*shape, context.shape[-1]) if self.context_dim else context.expand(shape)

    def _door(self, x: Any, context: Any, verb: str) -> tuple[Tensor, Tensor | None]:
        who = f"{type(self).__name__}.{verb}"
        like = reference(self)
        x = validate.points(x, self.dim, who, like=like)
        if not isinstance(self.space, Euclidean):
            x = self.space._points(x, "x", verb)
        context = validate.context(context, x.shape[:-1], self.context_dim, self.classes, who, like)
        if context is not None:
            lead = context.shape[:-1] if self.context_dim else context.shape
            batch = torch.broadcast_shapes(x.shape[:-1], lead)
            x = x.expand(*batch, x.shape[-1])
            context = context.expand((*batch, *context.shape[len(lead) :]))
        return x, context


class Density(Sampler):
    """A probability density on `space`: `log_prob` in nats and the user's units, against the Riemannian volume."""

    @abstractmethod
    def _log_prob(self, x: Points, context: Context = None) -> Values: ...

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Log density ``(*batch)`` at points ``(*batch, dim)``; x and context broadcast to one batch."""
        return self._log_prob(*self._door(x, context, "log_prob"))

    def score(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Riemannian gradient of `log_prob` at x, ``(*batch, dim)``: one forward and one backward pass.

        By `torch.func.vjp`, so it can be differentiated again, vmapped and compiled.
        """
        return self._log_prob_and_score(*self._door(x, context, "score"))[1]

    def _log_prob_and_score(self, x: Points, context: Context = None) -> tuple[Tensor, Tensor]:
        value, pull_back = torch.func.vjp(lambda y: self._log_prob(y, context), x)  # type: ignore[misc]
        (gradient,) = pull_back(torch.ones_like(value))
        return value, self.space._egrad_to_rgrad(x, gradient)

    def rsample(
        self, n: int | tuple[int, ...] = (), context: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Draws like `sample` that are differentiable in the parameters."""
        shape, context = self._draws(n, context, "rsample")
        return self._rsample(shape, context, generator)

    def rsample_and_log_prob(
        self, n: int | tuple[int, ...] = (), context: Tensor | None = None, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Differentiable draws with their log densities, in one pass where the model allows."""
        shape, context = self._draws(n, context, "rsample_and_log_prob")
        return self._rsample_and_log_prob(shape, context, generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} has no differentiable sampling: use sample(), or a normal or flow in its place."
        )

    def _rsample_and_log_prob(
        self, shape: tuple[int, ...], context: Context, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        x = self._rsample(shape, context, generator)
        return x, self._log_prob(x, context)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """−E log p in nats, where a closed form is known."""
        raise NotImplementedError(
            f"{type(self).__name__} has no closed entropy: estimate it by -model.log_prob(model.sample(n)).mean()."
        )

    def tempered(self, temperature: float) -> "Density":
        """The density proportional to p^(1/T), where it is of a known kind."""
        raise NotImplementedError(
            f"{type(self).__name__} has no closed tempered form; a Fermat distance takes a temperature as its power."
        )

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "Density":
        """The member of the family fitted to rows, for families with a closed form or EM."""
        raise NotImplementedError(f"{cls.__name__} has no closed fit: build it and train with geoflow.fit(model, x).")

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        return {"loss": -weighted_mean(self._log_prob(x, context), weight)}

    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Mean negative log-likelihood (what `fit` monitors) and the median, in nats per row."""
        rows = -log_prob_in_blocks(self, x, context)
        return {"loss": float(weighted_mean(rows, weight)), "nll median": float(rows.median())}


@torch.no_grad()
def log_prob_in_blocks(density: Density, x: Tensor, context: Tensor | None = None, rows: int = 2048) -> Tensor:
    """`log_prob` of many rows without gradients, block by block, which stays in the cache."""
    blocks = [
        density._log_prob(x[i : i + rows], None if context is None else context[i : i + rows])
        for i in range(0, len(x), rows)
    ]
    return torch.cat(blocks) if blocks else x.new_zeros(0)
