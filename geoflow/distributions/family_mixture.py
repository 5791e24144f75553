"""Mixtures of densities of one family, fitted by expectation maximisation from a k-means start."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, Player
from geoflow.distributions.von_mises_fisher import VonMisesFisher
from geoflow.registry import register
from manifolds import Manifold
from manifolds.shapes import Points, Values

TOLERANCE, ROUNDS = 1e-5, 300
"""EM ends when it gains less than this in nats a row, or after so many rounds."""


@register
class Mixture(Density):
    """Σ_k w_k p_k(x), the p_k of one family with their parameters in a batch, as `VonMisesFisher` and `PowerSpherical`.

    On its own it is fitted by `from_data` (or `fit`, which does the same and takes no steps); as the base or prior of
    another model its parameters train with it. Density and draws are each one operation on the batch, without a loop
    over components. Cost: K evaluations of the family a point. [banerjee2005]

    Args:
        weights: ``(K,)``, positive; normalised.
        components: a density whose `batch_shape` is ``(K,)``.
        bounds: least and largest concentration that EM may choose.
        seed: of the k-means start.

    >>> poles = VonMisesFisher(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), 20.0)
    >>> Mixture([0.25, 0.75], poles).sample(5).shape
    torch.Size([5, 3])
    """

    components: Any

    def __init__(self, weights: Any, components: Density, bounds: Sequence[float] = (1e-3, 1e4), seed: int = 0) -> None:
        super().__init__()
        shape = getattr(components, "batch_shape", None)
        if shape is None or len(shape) != 1:
            raise ValueError(
                "Mixture expects components in one batch, as VonMisesFisher(directions (K, n + 1), concentrations); got "
                f"{type(components).__name__}" + (f" with batch {shape}." if shape is not None else ".")
            )
        parameter = next(components.parameters())
        weights = torch.as_tensor(weights, dtype=parameter.dtype, device=parameter.device).detach()
        if weights.shape != shape or not bool((weights.isfinite() & (weights > 0)).all()):
            raise ValueError(
                f"Mixture expects a positive weight per component, {tuple(shape)}, got {weights.tolist()}."
            )
        self.space, self.bounds, self.seed = components.space, tuple(float(b) for b in bounds), seed
        if not (len(self.bounds) == 2 and 0 <= self.bounds[0] < self.bounds[1]):
            raise ValueError(f"Mixture expects bounds as (least, largest) concentration, got {bounds}.")
        self.components = components
        self.logits = nn.Parameter(torch.log(weights / weights.sum()))

    @property
    def weights(self) -> Tensor:
        """w ``(K,)``, of sum one."""
        return self.logits.softmax(0)

    @classmethod
    def from_data(
        cls,
        x: Any,
        context: Any = None,
        components: int = 1,
        family: type = VonMisesFisher,
        bounds: Sequence[float] = (1e-3, 1e4),
        seed: int = 0,
        **options: Any,
    ) -> "Mixture":
        """Fitted by EM to rows ``(n, dim)`` on the sphere. Cost: some tens of passes, K (n + 1) numbers a row."""
        x = validate.table(x, "Mixture.from_data", minimum=2)
        k = validate.count(components, "Mixture.from_data", "components", 1)
        batch = family(torch.ones_like(x[:1]).expand(k, -1), 1.0)
        mixture = cls(x.new_ones(k), batch, bounds, seed)
        mixture.prepare(batch.space._points(x, "x", "from_data"))
        return mixture

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """EM from a k-means start; a component left without rows starts again where the mixture fits worst."""
        k = len(self.logits)
        if len(x) < k:
            raise ValueError(f"Mixture with {k} components expects as many rows, got {len(x)}.")
        self._expectation_maximisation(x.detach(), k)

    @torch.no_grad()
    def _expectation_maximisation(self, x: Tensor, k: int) -> None:
        labels = kmeans(x, self.space, k, Generator().manual_seed(self.seed))
        responsible = nn.functional.one_hot(labels, k).to(x.dtype)
        log_p, last, best, state = x.new_zeros(len(x)), -math.inf, -math.inf, self.state_dict()
        for _ in range(ROUNDS):
            empty = responsible.sum(0) < 0.5
            if bool(empty.any()):
                responsible = _reseeded(x, responsible, empty.nonzero()[:, 0], log_p)
            self.components._fit(x, responsible, self.bounds)
            self.logits.copy_(responsible.double().mean(0).log())
            joint = self._components_in_blocks(x)
            log_p = joint.logsumexp(-1)
            value = float(log_p.double().mean())
            if value > best:
                best, state = value, {name: t.clone() for name, t in self.state_dict().items()}
            if value - last < TOLERANCE and not bool(empty.any()):
                break
            last, responsible = value, (joint - log_p[:, None]).exp()
        self.load_state_dict(state)

    def players(self) -> list[Player]:
        """None: EM in `prepare` is the whole training. Inside another model, that one trains the parameters by steps."""
        return []

    def log_prob_components(self, x: Tensor) -> Tensor:
        """log w_k p_k(x), ``(*batch, K)``: their logsumexp is log p, their softmax the responsibilities."""
        return self.components._log_prob(x[..., None, :]) + self.logits.log_softmax(0)

    def _components_in_blocks(self, x: Tensor) -> Tensor:
        """`log_prob_components` of many rows, with some ten million numbers in memory at a time."""
        size = max(1, 10_000_000 // (len(self.logits) * self.dim))
        return torch.cat([self.log_prob_components(block) for block in x.split(size)])

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return self.log_prob_components(x).logsumexp(-1)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        n = math.prod(shape)
        k = torch.multinomial(self.weights, n, True, generator=generator) if n else self.logits.new_zeros(0).long()
        return self.components._draw(k.reshape(shape), generator)


def kmeans(x: Tensor, space: Manifold, k: int, generator: Generator, rounds: int = 20) -> Tensor:
    """Labels ``(n,)`` of rows by k-means with centres on the space and distances of the embedding: on spheres, by angle.

    Starts from k-means++, each centre the best of a few rows drawn with probability ∝ squared distance from those
    before. [arthur2007]
    """

    def squared(centres: Tensor) -> Tensor:
        return torch.cdist(x, centres) ** 2

    trials = 2 + int(math.log(k))
    centres = x[torch.randint(len(x), (1,), generator=generator).to(x.device)]
    nearest = squared(centres)[:, 0]
    for _ in range(k - 1):
        edges = nearest.double().cumsum(0)
        where = torch.rand(trials, generator=generator, dtype=torch.float64).to(x.device) * edges[-1]
        rows = torch.searchsorted(edges, where).clamp_max(len(x) - 1)
        closer = torch.minimum(nearest[:, None], squared(x[rows]))
        choice = closer.sum(0).argmin()
        nearest, centres = closer[:, choice], torch.cat([centres, x[rows[choice]][None]])
    for _ in range(rounds):
        distances, labels = squared(centres).min(1)
        sums = torch.zeros_like(centres).index_add_(0, labels, x)
        empty = torch.bincount(labels, minlength=k) == 0
        sums[empty] = x[distances.topk(int(empty.sum())).indices]
        moved = space._project(sums)
        if torch.equal(moved, centres):
            break
        centres = moved
    return labels


def _reseeded(x: Tensor, responsible: Tensor, empty: Tensor, log_p: Tensor) -> Tensor:
    """Responsibilities with half of those for rows around the least likely ones given to components without rows."""
    worst = log_p.topk(len(empty), largest=False).indices
    size = max(1, len(x) // (4 * responsible.shape[1]))
    near = torch.cdist(x[worst], x).topk(size, largest=False).indices
    responsible = responsible.clone()
    responsible[near.flatten()] /= 2
    responsible[near, empty[:, None]] += 0.5
    return responsible
