"""`ScoreNetwork`: a network that knows where log p rises fastest, without knowing p."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.columns import Standardize
from geoflow.density import Context, Sampler, weighted_mean
from geoflow.distances.scores import matching
from geoflow.nets import MLP
from geoflow.registry import register
from manifolds import Euclidean, Manifold
from manifolds.shapes import Points

Objective = Literal["denoising", "sliced", "exact"]
OBJECTIVES = ("denoising", "sliced", "exact")
NOISE = 0.05
"""Noise where none is named: with it the score of a normal is 0.25 % too short."""
EXACT_DIM = 64
"""Up to this many dimensions held-out rows have their exact loss; beyond, that by as many slices."""
HELD = 4096
"""Held-out rows that are looked at, at most."""
NUMBERS = 2_000_000
"""Of derivatives in memory at a time, on held-out rows."""


@register
class ScoreNetwork(Sampler):
    """s(x) ≈ ∇ log p(x) on flat space, trained by `geoflow.fit` on rows of p; bends the paths of a `FermatSpace`.

        s(x) = (net(z) − z / (1 + σ²)) / std,    z = (x − mean) / std

    with mean and deviation of each training column, so that an untrained network is the score of independent normal
    columns (σ is the noise of denoising, else zero). Objectives, all of them in the units of z, and minimal at the score
    (see `score_matching`):

    - ``"denoising"``: two evaluations a row and step, the quickest. What is learned is the score of the data with normal
      noise of deviation σ = `noise` added to z, which is biased: shorter by σ²/(τ² + σ²) in a mode of deviation τ.
      [vincent2011]
    - ``"sliced"``: the trace of ∇s by random slices, unbiased; `probes` derivatives. [song2019]
    - ``"exact"``: the whole trace, with less variance; as many derivatives as dimensions. [hyvarinen2005]

    What `fit` monitors is the same for all three: the exact loss ½|s|² + tr ∇s on held-out rows without noise.

    It is no density: it has directions without values, and no `log_prob`. Nor is it a gradient: its integral depends on
    the path, so take lengths from a density where there is one. ``FermatSpace(density, score=net)`` does; with the
    network alone, ``FermatSpace(score=net)`` compares paths between the same ends.

    Args:
        space: the number of columns, or ``Euclidean(dim)``.
        net: a module that takes z ``(*batch, dim)``, and beside it, with several levels of noise, their logarithm:
            ``(*batch, dim + 1)``; gives ``(*batch, dim)``. It must be smooth: objectives and geodesics differentiate it.
            None is an `MLP` that starts as zero.
        objective: see above.
        noise: σ of "denoising", a fraction of each column's deviation; None is 0.05. Of several levels each row of a batch
            draws one, the network is told which, and `score` is that of the least. [song2019g]
        probes: slices of "sliced".
        hidden, activation: of the default network; a smooth one, for geodesics follow every kink of relu.

    Raises:
        NotImplementedError: on curved spaces, and where draws are asked for.

    >>> from geoflow import FermatSpace
    >>> net = ScoreNetwork(2, hidden=(16,))
    >>> net.score(torch.tensor([1.0, -2.0])).detach()  # untrained, without data
    tensor([-0.9975,  1.9950])
    >>> FermatSpace(score=net, power=0.5).dist(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])).shape
    torch.Size([])
    """

    def __init__(
        self,
        space: Manifold | int,
        net: nn.Module | None = None,
        objective: Objective = "denoising",
        *,
        noise: float | Sequence[float] | None = None,
        probes: int = 1,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.space = _flat(space)
        if objective not in OBJECTIVES:
            raise ValueError(f"ScoreNetwork expects an objective of {', '.join(OBJECTIVES)}; got {objective!r}.")
        if noise is not None and objective != "denoising":
            raise ValueError(f"ScoreNetwork: noise={noise!r} belongs to objective='denoising', got {objective!r}.")
        if probes != 1 and objective != "sliced":
            raise ValueError(f"ScoreNetwork: probes={probes!r} belongs to objective='sliced', got {objective!r}.")
        if net is not None and not isinstance(net, nn.Module):
            raise TypeError(f"ScoreNetwork expects a module as net, got {type(net).__name__}.")
        self.objective, self.probes = objective, validate.count(probes, "ScoreNetwork", "probes", 1)
        self.levels = _levels(noise) if objective == "denoising" else (0.0,)
        self.noise = noise if noise is None or isinstance(noise, (int, float)) else self.levels
        self.hidden, self.activation = tuple(hidden), activation
        self.scale = Standardize(self.dim)
        wide = self.dim + (len(self.levels) > 1)
        self.net = MLP(wide, self.dim, hidden, activation, zero_last=True) if net is None else net

    # -- the score ------------------------------------------------------------------------------------------------

    def score(self, x: Tensor) -> Tensor:
        """∂ log p / ∂x ``(*batch, dim)`` in the units of the data: one evaluation of the network."""
        return self._score(self._door(x, None, "score")[0])

    def _score(self, x: Points) -> Tensor:
        return self._of_z(self._z(x), self.levels[0]) / self.scale.std

    def _z(self, x: Points) -> Tensor:
        return (x - self.scale.mean) / self.scale.std

    def _of_z(self, z: Tensor, noise: Tensor | float) -> Tensor:
        """The score in standardised columns, at a level of noise ``(*batch, 1)``: of which the normal part is known."""
        if len(self.levels) == 1:
            return self.net(z) - z / (1 + self.levels[0] ** 2)
        level = torch.as_tensor(noise, dtype=z.dtype, device=z.device).expand(*z.shape[:-1], 1)
        return self.net(torch.cat([z, level.log()], -1)) - z / (1 + level.square())

    # -- training -------------------------------------------------------------------------------------------------

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Standardise by these rows; a constant column is refused, repeated rows and whole numbers are warned of."""
        validate.training_rows(x, "ScoreNetwork")
        self.scale.prepare(x)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The mean of the objective in the units of z. Its least value is −½ E|∇log p|², not zero."""
        return {"loss": weighted_mean(self._rows(self._z(x)), weight)}

    def _rows(self, z: Tensor) -> Tensor:
        if self.objective == "exact":
            return matching.exact(lambda y: self._of_z(y, 0.0), z)
        if self.objective == "sliced":
            return matching.sliced(lambda y: self._of_z(y, 0.0), z, self.probes)
        levels = torch.tensor(self.levels, dtype=z.dtype, device=z.device)
        noise = levels[torch.randint(len(levels), (*z.shape[:-1], 1), device=z.device)]
        return matching.denoising(lambda y: self._of_z(y, noise), z, noise)

    @torch.no_grad()
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Hyvärinen's loss of the score on up to 4,096 rows; and that of the score −z, with the error of the difference.

        In the units of z, without noise, whatever the objective: figures of different settings, trained on the same rows
        and held against the same others, compare. The trace is exact up to 64 dimensions, and by 64 slices beyond, the
        same in every call.
        """
        chosen = torch.randperm(len(x), generator=Generator().manual_seed(0))[:HELD].sort().values.to(x.device)
        z, weight = self._z(x[chosen]), None if weight is None else weight[chosen]
        generator = Generator(x.device).manual_seed(0)

        def rows(z: Tensor) -> Tensor:
            score = partial(self._of_z, noise=self.levels[0])
            if self.dim <= EXACT_DIM:
                return matching.exact(score, z)
            return matching.sliced(score, z, EXACT_DIM, generator)

        block = max(1, NUMBERS // (min(self.dim, EXACT_DIM) * max(self.dim, 128)))
        own = torch.cat([rows(b) for b in z.split(block)])
        normal = z.square().sum(-1) / 2 - self.dim
        return {
            "loss": float(weighted_mean(own, weight)),
            "loss of a normal": float(weighted_mean(normal, weight)),
            "error of the gain": float((own - normal).std()) / len(z) ** 0.5 if len(z) > 1 else float("inf"),
        }

    def verdict(self, figures: dict[str, float]) -> str | None:
        """Why not to believe the score, if held-out rows speak against it."""
        if figures["loss"] <= figures["loss of a normal"] + 2 * figures["error of the gain"]:
            return None
        return (
            f"invalid: on held-out rows the score's loss {figures['loss']:.3g} is above the {figures['loss of a normal']:.3g} "
            "of independent normal columns. Train on more rows, by a smaller network, or with more noise."
        )

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        raise NotImplementedError(
            "ScoreNetwork has no draws and no log_prob: fit a density for these, such as geoflow.flows.realnvp(dim)."
        )


def _flat(space: Any) -> Euclidean:
    """Flat space in plain coordinates."""
    if isinstance(space, int) and not isinstance(space, bool):
        return Euclidean(validate.count(space, "ScoreNetwork", "space", 1))
    if not isinstance(space, Manifold):
        raise TypeError(f"ScoreNetwork expects a number of columns or Euclidean(dim), got {type(space).__name__}.")
    if not isinstance(space, Euclidean):
        raise NotImplementedError(
            f"ScoreNetwork is for flat space, not for {space!r}: fit a density there, whose score is its gradient: "
            "geoflow.freeform.mfff(space), or FlowMatching(space)."
        )
    if space != Euclidean(space.dim):
        raise ValueError(
            f"ScoreNetwork standardises its columns inside: pass Euclidean({space.dim}), and the scaled space to "
            "FermatSpace(score=net, space=...)."
        )
    return space


def _levels(noise: Any) -> tuple[float, ...]:
    """Levels of noise, the least first."""
    given = (NOISE,) if noise is None else tuple(noise) if isinstance(noise, Sequence) else (noise,)
    if not given or not all(isinstance(n, (int, float)) and 0 < n < float("inf") for n in given):
        raise ValueError(f"ScoreNetwork expects noise above 0, a fraction of each column's deviation; got {noise!r}.")
    return tuple(sorted(float(n) for n in given))
