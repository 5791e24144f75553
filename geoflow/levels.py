"""Whole numbers, as grey levels and counts, by a density of what lies between them; and [0, 1] as the whole line."""

import math

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.columns import Alike
from geoflow.density import Context, Density, Player, Sampler, log_prob_in_blocks, weighted_mean
from geoflow.registry import register
from manifolds import Euclidean

SEEN = 5000
"""Rows that `prepare` looks at, evenly spaced; a pass of an image flow over all of them can take minutes."""


@register
class Logit(Alike):
    """z = log(s / (1 − s)), s = α + (1 − 2α) x: from [0, 1] to the line, with the ends at ± log((1 − α)/α).

    A larger α bends the ends less, and lets a flow put mass beside them: figures of different α do not compare.

    Args:
        dim: number of columns.
        alpha: α in [0, ½); .05 is common for colour images, 1e-6 for MNIST. With 0 the ends have no finite image.

    >>> Logit(1, alpha=0.05).encode(torch.tensor([0.5]))
    tensor([0.])
    """

    def __init__(self, dim: int, alpha: float = 0.05) -> None:
        if not 0 <= alpha < 0.5:
            raise ValueError(f"Logit expects alpha in [0, 0.5), got {alpha}.")
        room = alpha / (1 - 2 * alpha)
        super().__init__(dim, -room, 1 + room)
        self.alpha = float(alpha)


@register
class Dequantized(Sampler):
    """Whole numbers x in 0 … levels − 1, by a density p of y = (x + u) / levels with u uniform in [0, 1).

        P(x) = levels^−dim ∫ p((x + u) / levels) du

    A density of whole numbers themselves would grow without bound. Training draws fresh u at each step. P is an integral
    that has no closed form: `log_prob_bound` is below its logarithm in the mean. Draws are those of p, rounded down; what
    p puts beside [0, 1] goes to the ends. [theis2016]

    Args:
        density: of y, on flat space.
        levels: how many numbers there are, 256 for images of eight bits.

    >>> from geoflow import StandardNormal
    >>> Dequantized(StandardNormal(2), 4).log_prob_bound(torch.tensor([1.0, 3.0])).shape
    torch.Size([])
    """

    def __init__(self, density: Density, levels: int = 256) -> None:
        super().__init__()
        if not isinstance(density, Density):
            raise TypeError(f"Dequantized expects a Density, got {type(density).__name__}.")
        if not isinstance(density.space, Euclidean):
            raise ValueError(f"Dequantized expects a density on flat space, got one on {density.space!r}.")
        self.density, self.levels = density, validate.count(levels, "Dequantized", "levels", 2)
        self.space = Euclidean(density.dim)
        self.context_dim, self.classes = density.context_dim, density.classes

    @property
    def _nats(self) -> float:
        """log of the number of cells in [0, 1]^dim."""
        return self.dim * math.log(self.levels)

    def between(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """(x + u) / levels with fresh noise, of whole numbers ``(*batch, dim)``."""
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return (x + noise) / self.levels

    def log_prob_bound(
        self, x: Tensor, context: Tensor | None = None, draws: int = 1, generator: Generator | None = None
    ) -> Tensor:
        """log mean_k p((x + u_k) / levels) − dim log levels ``(*batch)``, in the mean below log P(x).

        More draws bring it closer; with one it is what training raises. Cost: `draws` evaluations of the density.
        """
        x, context = self._door(x, context, "log_prob_bound")
        self._whole(x)
        draws = validate.count(draws, "Dequantized.log_prob_bound", "draws", 1)
        each = [self.density._log_prob(self.between(x, generator), context) for _ in range(draws)]
        return torch.logsumexp(torch.stack(each), 0) - math.log(draws) - self._nats

    def _whole(self, x: Tensor) -> None:
        bad = (x != x.floor()) | (x < 0) | (x >= self.levels)
        if bool(bad.any()):
            raise ValueError(
                f"Dequantized expects whole numbers from 0 to {self.levels - 1}, got {int(bad.sum())} others such as "
                f"{float(x[bad][0]):g}: pass levels as they are, neither divided nor with noise."
            )

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        y = self.density._sample(shape, context, generator)
        return (y * self.levels).floor().clamp(0, self.levels - 1)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The density's, at rows with fresh noise, in nats of the whole numbers."""
        terms = self.density.loss(self.between(x), context, weight=weight, player=player)
        return {**terms, "loss": terms["loss"] + self._nats * (1.0 if weight is None else weight.mean())}

    @torch.no_grad()
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Minus the mean bound in nats a row, by one draw under a fixed seed, and in bits per dimension."""
        y = self.between(x, Generator(x.device).manual_seed(0))
        loss = float(weighted_mean(self._nats - log_prob_in_blocks(self.density, y, context), weight))
        return {"loss": loss, "bits per dim": loss / (self.dim * math.log(2))}

    def players(self) -> list[Player]:
        return self.density.players()

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Refuse what are no levels; then the density's own, at 5,000 rows with noise: scales of images need no more."""
        self._whole(x)
        every = -(-len(x) // SEEN)
        self.density.prepare(self.between(x[::every]), None if context is None else context[::every])

    def schedule(self, step: int, steps: int) -> None:
        self.density.schedule(step, steps)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The density's own, at rows with noise."""
        self.density.finish(self.between(x), context)
