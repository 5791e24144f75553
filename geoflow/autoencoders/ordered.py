"""Topics of a latent mixture in an order that neither labels nor frequencies decide: by how spread out they look."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.autoencoders.linked import LINKS, Linked
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.responsibilities import responsibilities
from geoflow.autoencoders.topics import OfShares
from geoflow.carried import ROWS
from geoflow.density import like, reference
from geoflow.distributions import GaussianMixture
from geoflow.maps import Autoencoder, Pair
from manifolds import Simplex


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


def decoded_topics(model: LatentModel) -> DecodedTopics:
    """Decoded means of a Gaussian mixture, or corners of shares, ordered by how spread out they are.

    H = −Σ p log p, p the decoded values over their sum: of images that are no less than zero, how many pixels a topic
    lights. How rare a kind is says nothing of how it looks.

    Raises:
        TypeError: the prior is no mixture, and codes are no shares.
        ValueError: something decoded is below zero, so that it has no entropy.
    """
    with torch.no_grad():
        decoded = _decoded(model)
    if not bool((decoded >= 0).all()):
        raise ValueError(
            f"decoded_topics orders by the entropy of what topics decode to, which goes down to {float(decoded.min()):.3g}: "
            "give the decoder a link (`Linked`)."
        )
    shares = decoded.double() / decoded.double().sum(1, keepdim=True)
    entropy = -torch.xlogy(shares, shares).sum(1)
    return DecodedTopics(decoded, entropy.to(decoded), entropy.argsort().tolist())


@torch.no_grad()
def topic_weights(model: LatentModel, x: Any) -> Tensor:
    """Of each topic for rows ``(n, dim)``: responsibilities at encode(x), or the shares of encode(x), ``(n, K)``."""
    _with_topics(model)
    if isinstance(model.prior, GaussianMixture):
        return responsibilities(model, x)
    x = like(validate.table(x, "topic_weights"), model)
    model.cost.check(x)
    z, ends = torch.cat([model.autoencoder.encode(part) for part in x.split(ROWS)]), _of_shares(model.autoencoder)
    return z if ends is None else ends.shares(z)


def has_topics(model: LatentModel) -> bool:
    """Whether the prior is a mixture of several Gaussians, or codes are shares."""
    prior = model.prior
    mixed = isinstance(prior, GaussianMixture) and prior.components > 1
    return mixed or isinstance(prior.space, Simplex) or _of_shares(model.autoencoder) is not None


@torch.no_grad()
def has_ordered_topics(model: LatentModel) -> bool:
    """Whether there are topics, and what they decode to is nowhere below zero, so that `decoded_topics` orders them."""
    return has_topics(model) and bool((_decoded(model) >= 0).all())


def _decoded(model: LatentModel) -> Tensor:
    """What each topic alone decodes to."""
    _with_topics(model)
    if isinstance(model.prior, GaussianMixture):
        return model.autoencoder._decode(model.prior.means)
    to, ends = reference(model), _of_shares(model.autoencoder)
    assert to is not None
    if ends is None:
        return model.autoencoder._decode(torch.eye(model.autoencoder.latent_dim).to(to))
    count = ends.shares(to.new_zeros(model.autoencoder.latent_dim)).shape[-1]
    raw = ends.of(torch.eye(count).to(to))
    return LINKS[model.autoencoder.link](raw) if isinstance(model.autoencoder, Linked) else raw


def _with_topics(model: Any) -> None:
    if not isinstance(model, LatentModel):
        raise TypeError(f"topics are those of a LatentModel, got {type(model).__name__}.")
    if not has_topics(model):
        raise TypeError(
            f"topics are those of a Gaussian mixture, or of codes that are shares; the prior is {type(model.prior).__name__}."
        )


def _of_shares(autoencoder: Autoencoder) -> OfShares | None:
    """The decoder that is shown shares of codes that are none themselves."""
    inner = autoencoder.autoencoder if isinstance(autoencoder, Linked) else autoencoder
    decoder = inner.decoder if isinstance(inner, Pair) else None
    return decoder if isinstance(decoder, OfShares) else None
