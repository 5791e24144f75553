"""Mixtures of densities on any space, fitted by expectation maximisation from a k-means start."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, Player, reference
from geoflow.distributions.family import ALL, Family
from geoflow.distributions.uniform import Uniform
from geoflow.distributions.von_mises_fisher import VonMisesFisher
from geoflow.registry import register
from manifolds import Manifold
from manifolds.shapes import Points, Values

TOLERANCE, ROUNDS = 1e-5, 300
"""EM ends when it gains less than this in nats a row, or after so many rounds."""


@register
class Mixture(Density):
    """Σ_k w_k p_k(x): the p_k one family with its parameters in a batch, or densities of any kind in a list.

    On its own it is fitted by `from_data` (or `fit`, which does the same and takes no steps); as the base or prior of
    another model its parameters train with it. In a batch, density and draws are each one operation, without a loop
    over components. Cost: K evaluations of the family a point. [banerjee2005]

    Args:
        weights: ``(K,)``, positive; normalised.
        components: a density whose `batch_shape` is ``(K,)``, or K densities on the same space. EM fits those which
            can be fitted to weighted rows, and leaves `Uniform` as it is.
        bounds: least and largest concentration (κ, 1/std², or Dirichlet's Σ a) that EM may choose.
        seed: of the k-means start.

    >>> poles = VonMisesFisher(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), 20.0)
    >>> Mixture([0.25, 0.75], poles).sample(5).shape
    torch.Size([5, 3])
    """

    components: Family

    def __init__(
        self,
        weights: Any,
        components: Family | Sequence[Density],
        bounds: Sequence[float] = (1e-3, 1e4),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(components, Family) and isinstance(components, Sequence):
            components = Members(*components)
        shape = getattr(components, "batch_shape", None)
        if not isinstance(components, Family) or shape is None or len(shape) != 1:
            raise ValueError(
                "Mixture expects components in one batch, as VonMisesFisher(directions (K, n + 1), concentrations), or "
                f"in a list; got {type(components).__name__}" + ("." if shape is None else f" with batch {shape}.")
            )
        like = reference(components)
        like = torch.empty(0) if like is None else like
        weights = torch.as_tensor(weights, dtype=like.dtype, device=like.device).detach()
        if weights.shape != shape or not bool((weights.isfinite() & (weights > 0)).all()):
            raise ValueError(
                f"Mixture expects a positive weight per component, {tuple(shape)}, got {weights.tolist()}."
            )
        if not (len(bounds) == 2 and 0 <= bounds[0] < bounds[1]):
            raise ValueError(f"Mixture expects bounds as (least, largest) concentration, got {bounds}.")
        self.space, self.bounds, self.seed = components.space, (float(bounds[0]), float(bounds[1])), seed
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
        family: type[Family] = VonMisesFisher,
        bounds: Sequence[float] = (1e-3, 1e4),
        seed: int = 0,
        **options: Any,
    ) -> "Mixture":
        """Fitted by EM to rows ``(n, dim)``. Cost: some tens of passes, each K evaluations of the family a row.

        Args:
            x: points of the space.
            context: none.
            components: how many.
            family: of which kind: `VonMisesFisher`, `PowerSpherical`, `VonMises`, `WrappedNormal`, `RiemannianNormal`,
                `IsotropicGaussianSO3`, `Dirichlet`.
            bounds: least and largest concentration (κ, 1/std², or Dirichlet's Σ a).
            seed: of the start.
            options: of the family's `from_data`, as `space` for normals.
        """
        x = validate.table(x, "Mixture.from_data", minimum=2)
        k = validate.count(components, "Mixture.from_data", "components", 1)
        if not (isinstance(family, type) and issubclass(family, Family)):
            raise TypeError(f"Mixture.from_data expects a family of densities, as VonMisesFisher, got {family!r}.")
        batch = family._start(x, (k,), **options)
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
        for turn in range(ROUNDS):
            empty = responsible.sum(0) < 0.5
            if bool(empty.any()):
                responsible = _reseeded(x, self.space, responsible, empty.nonzero()[:, 0], log_p)
            self.components._fit(x, responsible, self.bounds, refine=turn > 0 and not bool(empty.any()))
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


@register
class Members(Family):
    """Densities of any kind on one space as the members of a family, evaluated one after another."""

    def __init__(self, *parts: Density) -> None:
        super().__init__()
        wrong = [type(p).__name__ for p in parts if not isinstance(p, Density)]
        if wrong or not parts:
            raise TypeError(f"Mixture expects densities, which have a log_prob; got {', '.join(wrong) or 'none'}.")
        spaces = {repr(p.space) for p in parts}
        if len(spaces) > 1 or any(getattr(p, "batch_shape", ()) for p in parts):
            raise ValueError(f"Mixture expects single densities on the same space, got some on {sorted(spaces)}.")
        validate.common_context(parts, "Mixture")
        if any(p.context_dim or p.classes for p in parts):
            raise ValueError("Mixture expects densities without context.")
        self.parts = nn.ModuleList(parts)
        self.space = parts[0].space
        like = reference(self)
        if like is not None:
            self.to(like)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """How many there are, ``(K,)``."""
        return (len(self.parts),)

    @classmethod
    def _start(cls, x: Tensor, batch: tuple[int, ...], **options: Any) -> "Members":
        raise TypeError("Mixture.from_data expects one family; for several kinds, fit(Mixture(weights, [...]), x).")

    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        for part, w in zip(self.parts, weights.unbind(1), strict=True):
            if isinstance(part, Family):
                part._fit(x, w, bounds, refine=refine)
            elif not isinstance(part, Uniform):
                raise TypeError(
                    f"Mixture: {type(part).__name__} has no fit to weighted rows, which EM needs: leave it out, or "
                    "train the mixture by the steps of a model that it is part of."
                )

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        pairs = zip(self.parts, x.expand(*x.shape[:-2], len(self.parts), -1).unbind(-2), strict=True)
        return torch.stack([part._log_prob(points) for part, points in pairs], -1)  # type: ignore[operator]

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        draws: list[Tensor] = []
        for i, part in enumerate(self.parts):
            n = (int((index == i).sum()),)
            draws.append(part._rsample(n, None, generator) if attached else part._sample(n, None, generator))  # type: ignore[operator]
        return torch.cat(draws)[index.flatten().argsort(stable=True).argsort()].reshape(*index.shape, self.dim)


def kmeans(x: Tensor, space: Manifold, k: int, generator: Generator, rounds: int = 20) -> Tensor:
    """Labels ``(n,)`` of rows by k-means with the distances of the space: a centre moves to its rows' mean, or one step
    of the iteration for it.

    Starts from k-means++, each centre the best of a few rows drawn with probability ∝ squared distance from those
    before. Cost: 20 (K distances and one logarithm a row). [arthur2007]
    """

    def squared(centres: Tensor) -> Tensor:
        blocks = x.split(max(1, 10_000_000 // centres.numel()))
        return torch.cat([space._squared_dist(block[:, None], centres) for block in blocks])

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
    labels = squared(centres).argmin(1)
    for _ in range(rounds):
        own = centres[labels]
        count = torch.bincount(labels, minlength=k)
        step = torch.zeros_like(centres).index_add_(0, labels, space._log(own, x)) / count.clamp_min(1)[:, None]
        centres = space._project(space._exp(centres, space._to_tangent(centres, step)))
        distances, moved = squared(centres).min(1)
        centres[count == 0] = x[distances.topk(int((count == 0).sum())).indices]
        if torch.equal(moved, labels) and bool((count > 0).all()):
            break
        labels = moved
    return labels


def _reseeded(x: Tensor, space: Manifold, responsible: Tensor, empty: Tensor, log_p: Tensor) -> Tensor:
    """Responsibilities with half of those for rows around the least likely ones given to components without rows."""
    worst = log_p.topk(len(empty), largest=False).indices
    size = max(1, len(x) // (4 * responsible.shape[1]))
    near = space._squared_dist(x[worst][:, None], x).topk(size, largest=False).indices
    responsible = responsible.clone()
    responsible[near.flatten()] /= 2
    responsible[near, empty[:, None]] += 0.5
    return responsible
