"""`LatentModel`: an auto-encoder, a prior of its codes, and one objective for all models of this kind."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.autoencoders.costs import Cost, Gaussian, PlainCost
from geoflow.autoencoders.divergences import KL, MMD, imq, log_prior
from geoflow.autoencoders.posteriors import Posterior, posterior_of
from geoflow.autoencoders.terms import Batch, Figure, Rows, Term, listed
from geoflow.carried import ROWS
from geoflow.density import Context, Density, Player, Sampler, frozen, takes_weight, weighted_mean
from geoflow.maps import Autoencoder
from geoflow.registry import arguments, register
from geoflow.train.checkpoint import seeded
from manifolds import Euclidean

SOME = 2000
"""Rows of held-out data on which figures of whole samples are taken: their cost grows with the square."""


@register
class LatentModel(Sampler):
    """E c(x, decode(z)) + Σ weight · divergence + Σ extras, z ~ q(z | x): what all regularized auto-encoders lower.

    With a posterior, a likelihood as cost and `KL` it is −ELBO of a VAE; with `MMD` or a critic between codes and prior a
    WAE; without a divergence an auto-encoder, regularized by its extras. Draws are decode(z), z drawn from the prior.
    Costs are sums over coordinates and divergences in their own units, so a weight means the same at every batch size.
    [kingma2014, tolstikhin2018]

    Args:
        autoencoder: data → codes; with a `Posterior` it is stochastic.
        prior: of the codes: any density, a sampler where the divergence needs no more, or another `LatentModel` (whose
            bound then stands for its log p: the two-stage VAE).
        cost: c, a `Cost` or a function of data and reconstructions ``(n, dim)`` that gives ``(n,)``. None: `Gaussian` with a
            learned deviation.
        divergence: a `Term`, a function of a `Batch`, or several; () for none. None: `KL` for stochastic encoders, `MMD` for
            others.
        weight: of the divergence, or one for each.
        extras: further terms, each with its own weight.

    Raises:
        TypeError, ValueError: the parts do not fit each other, or a weight is negative, so that training would raise what
            it is to lower.
    """

    divergence: nn.ModuleList
    extras: nn.ModuleList

    def __init__(
        self,
        autoencoder: Autoencoder,
        prior: Sampler,
        *,
        cost: Cost | Rows | None = None,
        divergence: Term | Figure | Sequence[Term | Figure] | None = None,
        weight: float | Sequence[float] = 1.0,
        extras: Sequence[Term | Figure] = (),
    ) -> None:
        super().__init__()
        _fitting(autoencoder, prior)
        self.autoencoder, self.prior = autoencoder, prior
        self.space = Euclidean(autoencoder.dim)
        self.cost = _cost(cost)
        if divergence is None:
            divergence = KL() if self.posterior is not None else MMD()
        self.divergence, self.extras = nn.ModuleList(listed(divergence)), nn.ModuleList(listed(extras))
        self.weight = _weights(weight, len(self.divergence))
        bind: Any = getattr(prior, "bind", None)
        if bind is not None:
            bind(autoencoder)
        self.cost.bind(self)
        for term, _ in self._terms():
            term.check(self)

    @property
    def base(self) -> Sampler:
        """The prior, under the name that all models share."""
        return self.prior

    @property
    def posterior(self) -> Posterior | None:
        """The auto-encoder's; None where codes are not drawn."""
        return posterior_of(self.autoencoder)

    def with_base(self, base: Sampler) -> "LatentModel":
        """The same auto-encoder (shared, not copied) and objective with another prior, as one fitted to its codes."""
        given = arguments(self)
        given |= {"prior": base, "divergence": [*self.divergence], "extras": [*self.extras]}
        return type(self)(**given)

    def _terms(self) -> Iterator[tuple[Term, float]]:
        """Divergences and extras with their weights."""
        terms: Any = [*self.divergence, *self.extras]
        yield from zip(terms, (*self.weight, *(1.0 for _ in self.extras)), strict=True)

    def _reported(self) -> Iterator[tuple[str, Term, float]]:
        """The same under the names that their figures have: "mmd", and a second one's "mmd 2"."""
        taken = Counter(("loss", "reconstruction"))
        for term, weight in self._terms():
            yield _apart(term.name, taken), term, weight

    # -- draws and codes ----------------------------------------------------------------------------------------------

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.autoencoder._decode(self.prior._sample_noisy(shape, None, generator))

    def _sample_noisy(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        """With the noise of a Gaussian cost: of these draws `log_prob_bound` is a bound.

        `sample` gives what they scatter around, which of images is what people want to see. Priors are drawn from like
        this: codes fill their space, and means of a second stage do not.
        """
        return self.cost.noisy(self.autoencoder, self._sample(shape, context, generator), generator)

    def _batch(
        self, x: Tensor, generator: Generator | None = None, weight: Tensor | None = None
    ) -> tuple[Batch, Tensor]:
        """What terms are shown, and the costs ``(n,)``."""
        posterior = self.posterior
        theta = log_q = None
        if posterior is not None:
            theta = posterior.numbers(x)
            z, log_q = posterior.draw(theta, generator)
        else:
            z = self.autoencoder._encode(x)
        cost, xh = self.cost.decoded(self.autoencoder, x, z, **({} if weight is None else {"weight": weight}))
        of_rows(cost, x, f"cost {type(self.cost).__name__}")
        return Batch(x, z, xh, posterior, theta, log_q, self.autoencoder, self.prior), cost

    def codes(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Codes ``(*batch, latent_dim)`` as the aggregated posterior has them: one draw each, or encode(x).

        What a prior is fitted to afterwards.
        """
        x, _ = self._door(x, None, "codes")
        with torch.no_grad():
            return self._codes(x.reshape(-1, self.dim), generator).reshape(*x.shape[:-1], self.autoencoder.latent_dim)

    def _codes(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        posterior = self.posterior

        def code(part: Tensor) -> Tensor:
            if posterior is None:
                return self.autoencoder._encode(part)
            return posterior.draw(posterior.numbers(part), generator)[0]

        return torch.cat([code(part) for part in x.split(ROWS)])

    def log_prob_bound(self, x: Tensor, draws: int = 1, generator: Generator | None = None) -> Tensor:
        """A lower bound of log p(x) ``(*batch)`` in nats: log mean_k p(x | z_k) p(z_k) / q(z_k | x), z_k ~ q(z | x).

        Per unit of the data as given, also behind a `Standardize`. Its mean rises with `draws` to log p(x); of one draw it
        is the ELBO. The cost has to be a likelihood, the encoder stochastic. Of a prior that is itself a `LatentModel`,
        log p(z) is its bound from as many draws as the `KL` of this model takes: what training raises. [burda2016]
        """
        x, _ = self._door(x, None, "log_prob_bound")
        self.cost.check(x)
        draws = validate.count(draws, "LatentModel.log_prob_bound", "draws", 1)
        if (lacks := self._unbounded()) is not None:
            raise NotImplementedError(f"LatentModel.log_prob_bound needs {lacks}.")
        with torch.no_grad():
            rows = x.reshape(-1, self.dim)
            return torch.cat([self._bound(part, draws, generator) for part in rows.split(ROWS)]).reshape(x.shape[:-1])

    @property
    def bounded(self) -> bool:
        """Whether there is a `log_prob_bound`."""
        return self._unbounded() is None

    def _unbounded(self) -> str | None:
        """What a bound lacks."""
        without = f": without one {type(self.cost).__name__} bounds nothing"
        if self.posterior is None:
            return f"a stochastic encoder{without}"
        if not self.cost.likelihood:
            return f"a cost that is a likelihood{without}"
        if isinstance(self.prior, LatentModel):
            lacks = self.prior._unbounded()
            return None if lacks is None else f"a prior with a bound of its own, which needs {lacks}"
        return None if isinstance(self.prior, Density) else f"a prior with log_prob, not {type(self.prior).__name__}"

    def _bound(self, x: Tensor, draws: int, generator: Generator | None = None) -> Tensor:
        inside = max((term.draws for term in self.divergence if isinstance(term, KL)), default=1)
        found = []
        for _ in range(draws):
            batch, cost = self._batch(x, generator)
            assert batch.log_q is not None
            found.append(log_prior(self.prior, batch.z, inside, generator) - cost - batch.log_q)
        return torch.logsumexp(torch.stack(found), 0) - math.log(draws) + self.cost.log_units(self.autoencoder)

    # -- training -----------------------------------------------------------------------------------------------------

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The cost's mean, each term's under its name, and their weighted sum; of an adversary, its own loss."""
        for owner, name, adversary in self._adversaries():
            if player is not None and player == adversary.name:
                if weight is not None:
                    raise ValueError(f"LatentModel: {player} compares whole batches, so rows cannot have weights.")
                return {"loss": owner.turn(self, name, x)}
        batch, cost = self._batch(x, weight=weight)
        terms = {"reconstruction": weighted_mean(cost, weight)}
        total = terms["reconstruction"]
        for name, term, share in self._reported():
            value = of_rows(term(batch), x, name, or_batch=True)
            if value.ndim == 0 and weight is not None and not term.by_rows:
                raise ValueError(
                    f"LatentModel: {name} is a figure of whole batches, no sum over rows, so rows cannot have weights."
                )
            terms[name] = value if value.ndim == 0 else weighted_mean(value, weight)
            total = total + share * terms[name]
        return {"loss": total, **terms}

    def players(self) -> list[Player]:
        """Each term's adversaries and the prior's, then all that is no adversary's own."""
        kept = {id(w): term for term, _ in self._terms() for w in term.keeps(self)}
        theirs, others = set(kept), []
        for owner, _, p in self._adversaries():
            taking = replace(p, parameters=[w for w in p.parameters if kept.get(id(w), owner) is owner])
            theirs |= {id(w) for w in taking.parameters} & {id(w) for w in owner.parameters()}
            others.append(taking)
        own = [w for w in self.parameters() if w.requires_grad and id(w) not in theirs]
        return [*others, *([Player("model", own)] if own else [])]

    def _adversaries(self) -> Iterator[tuple[Any, str, Player]]:
        """Who takes turns with the model: the term, or the prior with a method `adversaries(model)`, whose player it is,
        its name there, and the player under a name that no other has.
        """
        taken: Counter[str] = Counter()
        owners: list[tuple[Any, list[Player]]] = [(term, term.players(self)) for term, _ in self._terms()]
        adversaries = getattr(self.prior, "adversaries", None)
        if adversaries is not None:
            owners.append((self.prior, adversaries(self)))
        for owner, players in owners:
            for p in players:
                yield owner, p.name, replace(p, name=_apart(p.name, taken))

    def schedule(self, step: int, steps: int) -> None:
        for term, _ in self._terms():
            term.schedule(step, steps)
        self.prior.schedule(step, steps)

    @property
    def to_the_end(self) -> bool:
        return any(term.to_the_end for term, _ in self._terms()) or self.prior.to_the_end

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the auto-encoder on the data, then the prior, unless it is frozen, on codes of the untrained encoder.

        A prior with a method `start_at(x)` is shown the data first.
        """
        self.cost.check(x)
        self.autoencoder.prepare(x)
        if not frozen(self.prior):
            start_at: Any = getattr(self.prior, "start_at", None)
            if start_at is not None:
                start_at(x)
            self.prior.prepare(self._codes(x))

    @torch.no_grad()
    def finish(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> None:
        """Finish the auto-encoder, then the cost, which sees the rows' weights, and the prior on codes."""
        self.autoencoder.finish(x)
        z = self._codes(x)
        self.cost.finish(self.autoencoder, x, z, **({} if weight is None else {"weight": weight}))
        self.prior.finish(z, **({} if weight is None or not takes_weight(self.prior.finish) else {"weight": weight}))

    @torch.no_grad()
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Held-out figures: the objective, its reconstruction and terms, and how far codes are from the prior.

        "mmd of codes" is `MMD` between codes and as many draws of the prior (1,000 at most), "its null" the deviation of
        such figures between draws of the prior alone: what is within two of them is no difference. Adversaries are
        no measure: in the objective an adversary's term is replaced by what `Term.figure` gives.
        """
        x, _ = self._door(x, context, "evaluate")
        if x.ndim != 2 or not len(x):
            raise ValueError(f"LatentModel.evaluate expects one row (n, dim) or more, got shape {tuple(x.shape)}.")
        self.cost.check(x)
        training = self.training
        try:
            self.eval()
            with seeded(0, x.device):
                return self._figures(x, weight)
        finally:
            self.train(training)

    def _figures(self, x: Tensor, weight: Tensor | None) -> dict[str, float]:
        total = len(x) if weight is None else float(weight.sum())
        found = {"reconstruction": 0.0, **{name: 0.0 for name, _, _ in self._reported()}}
        parts = -(-len(x) // SOME)  # nearly equal ones: figures of whole samples would be noise on a short rest
        own = [None] * parts if weight is None else weight.tensor_split(parts)
        for rows, w in zip(x.tensor_split(parts), own, strict=True):
            batch, cost = self._batch(rows)
            share = (len(rows) if w is None else float(w.sum())) / total
            values = {"reconstruction": cost} | {name: term.figure(batch) for name, term, _ in self._reported()}
            for name, value in values.items():
                of_rows(value, rows, name, or_batch=True)
                if value.ndim == 0 or w is None:
                    found[name] += share * float(value.mean())
                else:
                    found[name] += float((w * value).sum()) / total
        loss = found["reconstruction"] + sum(w * found[name] for name, _, w in self._reported())
        z = self._codes(x[: SOME // 2])
        draws = [self.prior._sample_noisy((len(z),), None, None) for _ in range(11)]
        if len(z) > 1:
            null = (
                torch.stack([imq(a, b) for a, b in zip(draws[1::2], draws[2::2], strict=True)]).square().mean().sqrt()
            )
            found |= {"mmd of codes": float(imq(z, draws[0])), "its null": float(null)}
        return {"loss": loss, **found}


def _fitting(autoencoder: Any, prior: Any) -> None:
    """Refuse parts that do not fit each other."""
    if not isinstance(autoencoder, Autoencoder):
        raise TypeError(
            f"LatentModel expects an Autoencoder, got {type(autoencoder).__name__}: Pair(encoder, decoder, dim=, latent_dim=) "
            "makes one of two networks."
        )
    if not isinstance(prior, Sampler):
        raise TypeError(f"LatentModel expects a density or sampler as prior, got {type(prior).__name__}.")
    if prior.dim != autoencoder.latent_dim:
        raise ValueError(
            f"LatentModel: the auto-encoder encodes to {autoencoder.latent_dim} coordinates, the prior has {prior.dim}."
        )
    if autoencoder.context_dim or autoencoder.classes or prior.context_dim or prior.classes:
        raise ValueError("LatentModel expects an auto-encoder and a prior without context.")


def _cost(cost: Any) -> Cost:
    """A cost of any of the kinds that are taken."""
    if cost is None:
        return Gaussian()
    if isinstance(cost, type) or not callable(cost):
        raise TypeError(
            f"LatentModel expects a Cost, as Square(), or a function of data and reconstructions; got {cost!r}."
        )
    return cost if isinstance(cost, Cost) else PlainCost(cost)


def of_rows(value: Any, x: Tensor, name: str, or_batch: bool = False) -> Tensor:
    """A cost or a term of rows ``(*batch, dim)``, refused in a shape that a mean would hide."""
    wanted = x.shape[:-1]
    if isinstance(value, Tensor) and (value.shape == wanted or (or_batch and not value.ndim)):
        return value
    got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise ValueError(
        f"LatentModel expects of {name} a tensor with one number a row, {tuple(wanted)}"
        f"{', or one for the batch, ()' if or_batch else ', summed over coordinates'}; got {got}."
    )


def _apart(name: str, taken: "Counter[str]") -> str:
    """The name, numbered where others have it."""
    taken[name] += 1
    return name if taken[name] == 1 else f"{name} {taken[name]}"


def _weights(weight: Any, terms: int) -> tuple[float, ...]:
    """One for each divergence, none of them negative."""
    try:
        weights = tuple(map(float, weight)) if np.ndim(weight) else (float(weight),) * terms
    except (TypeError, ValueError):
        raise TypeError(
            f"LatentModel expects weight as a number, or as one for each divergence; got {weight!r}."
        ) from None
    if len(weights) != terms:
        raise ValueError(f"LatentModel: {len(weights)} weights for {terms} divergences; give one for each.")
    if not all(w >= 0 and math.isfinite(w) for w in weights):
        raise ValueError(
            f"LatentModel expects weights >= 0, got {list(weights)}: training would raise that divergence. InfoVAE's are "
            "1 - alpha of KL and alpha + lambda - 1 of MMD: take lambda >= 1 - alpha."
        )
    return weights
