"""Scores of anomaly by a model, high for strange rows, their orientation fixed before any label is seen."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from geoflow.autoencoders.model import LatentModel, of_rows
from geoflow.autoencoders.ordered import decoded_topics, has_ordered_topics, topic_weights
from geoflow.carried import ROWS
from geoflow.density import Density

Score = Callable[[Any, Tensor, Generator | None], Tensor]


def _nll(model: Density, x: Tensor, generator: Generator | None) -> Tensor:
    return -model._log_prob(x)


def _reconstruction(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    cost = model.cost.decoded(model.autoencoder, x, model.autoencoder._encode(x))[0]
    return of_rows(cost, x, f"cost {type(model.cost).__name__}")


def _elbo(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return -model._bound(x, 1, generator)


def _kl(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    batch, _ = model._batch(x, generator)
    assert batch.posterior is not None
    assert batch.theta is not None
    assert batch.log_q is not None
    closed = batch.posterior.kl(batch.theta, model.prior)
    return batch.log_q - _density(model)._log_prob(batch.z) if closed is None else closed


def _prior(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return -_density(model)._log_prob(model.autoencoder._encode(x))


def _complex(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return topic_weights(model, x)[:, decoded_topics(model).order[-1]]


def _simple(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return topic_weights(model, x)[:, decoded_topics(model).order[0]]


SCORES: dict[str, Score] = {
    "reconstruction": _reconstruction,
    "elbo": _elbo,
    "kl": _kl,
    "prior": _prior,
    "complex": _complex,
    "simple": _simple,
    "nll": _nll,
}


def anomaly_scores(
    model: LatentModel | Density, x: Tensor, names: Sequence[str] | None = None, generator: Generator | None = None
) -> dict[str, Tensor]:
    """Scores ``(n,)`` of rows ``(n, dim)`` by name, each high where a row is strange in its way.

    - ``reconstruction``: c(x, decode(encode(x))), what the auto-encoder cannot draw. Simple rows it draws even if it has
      never seen their like: it finds complex anomalies among simple rows, and not the other way about.
    - ``elbo``: −ELBO from one draw; ``kl``: KL(q(z | x) ‖ prior); ``prior``: −log p(encode(x)).
    - ``complex`` and ``simple``: weight of the topic with the most and the least entropy (see `decoded_topics`): with a
      mixture or shares as codes that were trained on an unlabelled mixture, each finds one kind among the other.
    - ``nll``: −log p(x), of a density: a flow, a mixture.

    None is turned round afterwards: a score that does worse than chance does, and says so.

    Args:
        model: trained; on the mixture that is searched, or on rows without anomalies. A `LatentModel`, or any density.
        names: of the scores, or one name; None gives all that the model has.
        generator: of the draws.
    """
    if not isinstance(model, (LatentModel, Density)):
        raise TypeError(f"anomaly_scores expects a LatentModel or a Density, got {type(model).__name__}.")
    wanted = available(model) if names is None else [names] if isinstance(names, str) else list(names)
    unknown = [n for n in wanted if n not in SCORES]
    if unknown:
        raise ValueError(f"anomaly_scores knows {', '.join(SCORES)}; got {unknown[0]!r}.")
    lacking = [n for n in wanted if n not in available(model)]
    if lacking:
        raise ValueError(
            f"anomaly_scores: this model has no score {lacking[0]!r}; it has {', '.join(available(model))}."
        )
    x, _ = model._door(x, None, "anomaly_scores")
    if isinstance(model, LatentModel):
        model.cost.check(x)
    if x.ndim != 2:
        raise ValueError(f"anomaly_scores expects rows (n, dim), got shape {tuple(x.shape)}.")
    with torch.no_grad():
        return {n: torch.cat([SCORES[n](model, part, generator) for part in x.split(ROWS)]) for n in wanted}


def available(model: LatentModel | Density) -> list[str]:
    """Names of the scores that a model has."""
    if isinstance(model, Density):
        return ["nll"]
    found = ["reconstruction", *(["elbo"] if model.bounded else [])]
    if isinstance(model.prior, Density):
        found += ["prior"] if model.posterior is None else ["kl", "prior"]
    return [*found, "complex", "simple"] if has_ordered_topics(model) else found


def _density(model: LatentModel) -> Density:
    assert isinstance(model.prior, Density)
    return model.prior
