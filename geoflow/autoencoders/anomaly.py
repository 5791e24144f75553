"""Scores of anomaly by a latent model, high for strange rows, their orientation fixed before any label is seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from geoflow.autoencoders.model import LatentModel
from geoflow.carried import ROWS
from geoflow.density import Density, reference
from geoflow.distributions import GaussianMixture
from manifolds import Simplex

Score = Callable[[LatentModel, Tensor, Generator | None], Tensor]


def _reconstruction(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return model.cost.decoded(model.autoencoder, x, model.autoencoder._encode(x))[0]


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
    return topic_weights(model, x)[:, topics(model).order[-1]]


def _simple(model: LatentModel, x: Tensor, generator: Generator | None) -> Tensor:
    return topic_weights(model, x)[:, topics(model).order[0]]


SCORES: dict[str, Score] = {
    "reconstruction": _reconstruction,
    "elbo": _elbo,
    "kl": _kl,
    "prior": _prior,
    "complex": _complex,
    "simple": _simple,
}


def anomaly_scores(
    model: LatentModel, x: Tensor, names: Sequence[str] | None = None, generator: Generator | None = None
) -> dict[str, Tensor]:
    """Scores ``(n,)`` of rows ``(n, dim)`` by name, each high where a row is strange in its way.

    - ``reconstruction``: c(x, decode(encode(x))), what the auto-encoder cannot draw. Simple rows it draws even if it has
      never seen their like: it finds complex anomalies among simple rows, and not the other way about.
    - ``elbo``: −ELBO from one draw; ``kl``: KL(q(z | x) ‖ prior); ``prior``: −log p(encode(x)).
    - ``complex`` and ``simple``: weight of the topic with the most and the least entropy (see `topics`): with a mixture or
      shares as codes that were trained on an unlabelled mixture, each finds one kind among the other.

    None is turned round afterwards: a score that does worse than chance does, and says so.

    Args:
        model: trained; on the mixture that is searched, or on rows without anomalies.
        names: of the scores; None gives all that the model has.
        generator: of the draws.
    """
    wanted = list(names) if names is not None else available(model)
    unknown = [n for n in wanted if n not in SCORES]
    if unknown:
        raise ValueError(f"anomaly_scores knows {', '.join(SCORES)}; got {unknown[0]!r}.")
    lacking = [n for n in wanted if n not in available(model)]
    if lacking:
        raise ValueError(
            f"anomaly_scores: this model has no score {lacking[0]!r}; it has {', '.join(available(model))}."
        )
    x, _ = model._door(x, None, "anomaly_scores")
    if x.ndim != 2:
        raise ValueError(f"anomaly_scores expects rows (n, dim), got shape {tuple(x.shape)}.")
    with torch.no_grad():
        return {n: torch.cat([SCORES[n](model, part, generator) for part in x.split(ROWS)]) for n in wanted}


def available(model: LatentModel) -> list[str]:
    """Names of the scores that a model has."""
    found = ["reconstruction"]
    known, drawn = isinstance(model.prior, Density), model.posterior is not None
    if drawn and known:
        found += ["elbo", "kl"] if model.cost.likelihood else ["kl"]
    if known:
        found.append("prior")
    return [*found, "complex", "simple"] if _has_topics(model) else found


@dataclass(frozen=True)
class DecodedTopics:
    """What each part of a latent mixture stands for.

    Attributes:
        decoded: what each decodes to ``(K, dim)``.
        entropy: of each as shares of its sum, in nats ``(K,)``.
        order: numbers of the topics, least entropy first.
    """

    decoded: Tensor
    entropy: Tensor
    order: list[int]


def topics(model: LatentModel) -> DecodedTopics:
    """Decoded means of a Gaussian mixture, or corners of shares, ordered by how spread out they are.

    H = −Σ p log p, p the decoded values over their sum: of images that are no less than zero, how many pixels a topic
    lights. An order that no label and no frequency decides: how rare a kind is says nothing of how it looks.

    Raises:
        TypeError: the prior is neither a mixture nor a density of shares.
        ValueError: something decoded is below zero, so that it has no entropy.
    """
    with torch.no_grad():
        decoded = model.autoencoder._decode(_corners(model))
    if not bool((decoded >= 0).all()):
        raise ValueError(
            f"topics are ordered by the entropy of what they decode to, which goes down to {float(decoded.min()):.3g}: "
            "give the decoder a link (`Linked`)."
        )
    shares = decoded.double() / decoded.double().sum(1, keepdim=True)
    entropy = -torch.xlogy(shares, shares).sum(1)
    return DecodedTopics(decoded, entropy.to(decoded), entropy.argsort().tolist())


def topic_weights(model: LatentModel, x: Tensor) -> Tensor:
    """Of each topic for rows ``(n, dim)``: responsibilities at encode(x), or the shares themselves, ``(n, K)``."""
    z = model.autoencoder._encode(x)
    prior = model.prior
    return torch.softmax(prior.log_prob_components(z), -1) if isinstance(prior, GaussianMixture) else z


def _has_topics(model: LatentModel) -> bool:
    prior = model.prior
    return (isinstance(prior, GaussianMixture) and prior.components > 1) or isinstance(prior.space, Simplex)


def _corners(model: LatentModel) -> Tensor:
    if not _has_topics(model):
        raise TypeError(
            f"topics are those of a Gaussian mixture or of shares that sum to one; the prior is {type(model.prior).__name__}."
        )
    if isinstance(model.prior, GaussianMixture):
        return model.prior.means.detach()
    like = reference(model)
    return torch.eye(model.autoencoder.latent_dim, dtype=None if like is None else like.dtype).to(like)


def _density(model: LatentModel) -> Density:
    assert isinstance(model.prior, Density)
    return model.prior
