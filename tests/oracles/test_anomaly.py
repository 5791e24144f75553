"""Scores of anomaly: what they are, their orientation, and that labels have no part in it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import GaussianMixture, LatentModel, Pair, StandardNormal, fit
from geoflow.autoencoders import Linked, Multinomial, anomaly_scores, decoded_topics, recipes, topic_weights
from geoflow.distributions import Dirichlet
from geoflow.metrics import auc


def shares(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.softmax(torch.randn(n, dim, generator=Generator().manual_seed(seed)), -1)


def mixture() -> LatentModel:
    """Codes are the logits; two topics, one that lights two pixels and one that lights eight."""
    decoder, encoder = nn.Linear(2, 8, bias=False), nn.Linear(8, 2, bias=False)
    with torch.no_grad():
        decoder.weight.zero_()
        decoder.weight[:2, 0] = 5.0
        encoder.weight.zero_()
        encoder.weight[0, :2], encoder.weight[1, 2:] = 1.0, 1.0
    pair = Linked(Pair(encoder, decoder, dim=8, latent_dim=2), "softmax")
    prior = GaussianMixture.of(torch.tensor([0.9, 0.1]), torch.eye(2), 0.01 * torch.ones(2, 2))
    return LatentModel(pair, prior, cost=Multinomial(10.0), divergence=())


def test_topics_are_ordered_by_entropy_and_not_by_weight() -> None:
    found = decoded_topics(mixture())
    assert found.order == [0, 1]
    assert float(found.entropy[1]) == pytest.approx(math.log(8), abs=1e-5)
    assert math.log(2) < float(found.entropy[0]) < 1.2
    torch.testing.assert_close(found.decoded.sum(1), torch.ones(2))
    narrow = torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    wide = torch.full((8,), 0.125)
    scores = anomaly_scores(mixture(), torch.stack([narrow, wide]))
    assert scores["complex"][1] > 0.99 > 0.01 > scores["complex"][0]
    torch.testing.assert_close(scores["simple"], 1 - scores["complex"])
    torch.testing.assert_close(topic_weights(mixture(), torch.stack([narrow, wide])).sum(1), torch.ones(2))


def test_shares_are_topics_themselves() -> None:
    """Corners of the simplex decode to the topics, and a code is its own weights."""
    decoder = nn.Linear(3, 6, bias=False)
    pair = Linked(Pair(nn.Softmax(-1), decoder, dim=6, latent_dim=3), "softmax")
    pair.autoencoder.encoder = nn.Sequential(nn.Linear(6, 3), nn.Softmax(-1))
    model = LatentModel(pair, Dirichlet([1.0, 1.0, 1.0]), cost=Multinomial(), divergence=())
    torch.testing.assert_close(decoded_topics(model).decoded, torch.softmax(decoder.weight.T, -1).detach())
    x = shares(5, 6)
    for given in (x, x.numpy(), x.double().tolist()):
        torch.testing.assert_close(topic_weights(model, given), pair.encode(x))


@pytest.mark.parametrize("kind", ["dirichlet", "softmax-gaussian"])
def test_both_kinds_of_dirichlet_models_have_topics(kind: Any) -> None:
    """The columns of the decoder, and weights that sum to one."""
    model = recipes.dirichlet_vae(6, 3, kind=kind, hidden=(8,))
    columns = torch.softmax(model.autoencoder.get_parameter(_columns(model)).mT, -1)
    torch.testing.assert_close(decoded_topics(model).decoded, columns.detach())
    weights = topic_weights(model, shares(5, 6)).detach()
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    scores = anomaly_scores(model, shares(5, 6), ["complex", "simple"])
    order = decoded_topics(model).order
    torch.testing.assert_close(scores["complex"], weights[:, order[-1]])
    torch.testing.assert_close(scores["simple"], weights[:, order[0]])


def histograms(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Shares of 40 draws from 100 words, of a narrow law and of a wide one around the same word."""
    g, off = Generator().manual_seed(seed), torch.arange(100.0) - 50
    laws = [torch.exp(-0.5 * (off / width) ** 2).expand(n, 100) for width in (4.0, 12.0)]
    narrow, wide = (torch.multinomial(p, 40, replacement=True, generator=g) for p in laws)
    share = torch.full((n, 40), 1 / 40)
    return torch.zeros(n, 100).scatter_add_(1, narrow, share), torch.zeros(n, 100).scatter_add_(1, wide, share)


@pytest.mark.parametrize("kind", ["dirichlet", "softmax-gaussian"])
@pytest.mark.parametrize("sought", ["simple", "complex"])
def test_topics_find_the_kind_of_one_fifth(kind: Any, sought: str) -> None:
    """The simple among the complex, and the complex among the simple, trained on both at the usual rate without labels."""
    narrow, wide = histograms(800, 0)
    x = torch.cat([narrow[:160], wide[:640]] if sought == "simple" else [narrow[:640], wide[:160]])
    torch.manual_seed(0)
    model = recipes.dirichlet_vae(100, 2, kind=kind, total=10.0, hidden=(32,))
    fit(model, x, epochs=20, batch_size=50, validation=0, seed=0, progress=False)
    found = [anomaly_scores(model, part, [sought])[sought] for part in histograms(500, 1)]
    signal, background = found if sought == "simple" else found[::-1]
    assert auc(background, signal).value > 0.9


def _columns(model: LatentModel) -> str:
    names = [name for name, w in model.autoencoder.named_parameters() if w.shape == (6, 3)]
    assert len(names) == 1
    return names[0]


def test_scores_are_what_they_are_called() -> None:
    model, x = recipes.vae(6, 2, hidden=(8,)), shares(40, 6)
    found = anomaly_scores(model, x, generator=Generator().manual_seed(3))
    assert list(found) == ["reconstruction", "elbo", "kl", "prior"]
    z = model.autoencoder.encode(x)
    torch.testing.assert_close(found["prior"], -StandardNormal(2).log_prob(z).detach())
    torch.testing.assert_close(found["reconstruction"], model.cost(x, model.autoencoder.decode(z)).detach())
    again = anomaly_scores(model, x, ["elbo"], Generator().manual_seed(3))["elbo"]
    torch.testing.assert_close(again, -model.log_prob_bound(x, generator=Generator().manual_seed(3)))
    assert bool((found["kl"] >= 0).all())


def test_what_lies_off_the_rows_is_strange() -> None:
    """A trained linear auto-encoder: rows off its plane cost more, rows far out in it are improbable."""
    g = Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g) * torch.tensor([1.0, 1.0, 0.01])
    model = recipes.wae_mmd(3, 2, hidden=(), cost="gaussian")
    with torch.no_grad():
        for name in ("encoder", "decoder"):
            model.autoencoder.get_parameter(f"{name}.layers.0.weight").copy_(
                torch.eye(3)[:, :2] if name == "decoder" else torch.eye(3)[:2]
            )
            model.autoencoder.get_parameter(f"{name}.layers.0.bias").zero_()
    off, far = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[6.0, 0.0, 0.0]])
    usual = anomaly_scores(model, x)
    assert anomaly_scores(model, off)["reconstruction"] > usual["reconstruction"].max()
    assert anomaly_scores(model, far)["prior"] > usual["prior"].max()
    assert anomaly_scores(model, off)["prior"] < usual["prior"].median()


def test_a_density_has_one_score_and_a_mixture_without_link_no_topics() -> None:
    """Minus log p, as it is; topics that decode to below zero have no order, and are left out."""
    x = torch.randn(20, 3, generator=Generator().manual_seed(0))
    density = GaussianMixture(3, 2)
    torch.testing.assert_close(anomaly_scores(density, x), {"nll": -density.log_prob(x).detach()})
    model = recipes.gmvae(3, 2, cost="gaussian", standardize=True, components=3, hidden=(8,))
    assert list(anomaly_scores(model, x)) == ["reconstruction", "elbo", "kl", "prior"]


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "an unknown score": (
        lambda: anomaly_scores(mixture(), shares(3, 8), ["mass"]),
        ValueError,
        "knows reconstruction, elbo",
    ),
    "one that the model lacks": (
        lambda: anomaly_scores(mixture(), shares(3, 8), ["kl"]),
        ValueError,
        "this model has no score 'kl'; it has reconstruction, prior, complex, simple",
    ),
    "topics of a normal": (lambda: decoded_topics(recipes.vae(4, 2)), TypeError, "the prior is StandardNormal"),
    "topics below zero": (
        lambda: decoded_topics(recipes.wae_mmd(4, 2, prior=GaussianMixture(2, 2))),
        ValueError,
        "give the decoder a link",
    ),
    "a score of latent models": (
        lambda: anomaly_scores(StandardNormal(3), torch.zeros(2, 3), ["elbo"]),
        ValueError,
        "this model has no score 'elbo'; it has nll",
    ),
    "no model": (lambda: anomaly_scores(nn.Linear(2, 2), torch.zeros(3, 2)), TypeError, "Linear"),  # type: ignore[arg-type]
    "a score of one name": (
        lambda: anomaly_scores(StandardNormal(3), torch.zeros(2, 3), "elbo"),
        ValueError,
        "this model has no score 'elbo'; it has nll",
    ),
    "a cost that is a mean": (
        lambda: anomaly_scores(
            LatentModel(mixture().autoencoder, StandardNormal(2), cost=nn.functional.mse_loss), shares(3, 8)
        ),
        ValueError,
        r"of cost PlainCost a tensor with one number a row, \(3,\), summed over coordinates; got shape \(\)",
    ),
    "topics of no model": (
        lambda: decoded_topics(nn.Linear(2, 2)),
        TypeError,
        "topics are those of a LatentModel, got Linear",
    ),  # type: ignore[arg-type]
    "weights of no topics": (
        lambda: topic_weights(recipes.vae(4, 2), shares(3, 4)),
        TypeError,
        "the prior is StandardNormal",
    ),
    "weights of counts": (
        lambda: topic_weights(recipes.dirichlet_vae(4, 2), 60 * shares(3, 4)),
        ValueError,
        "shares that sum to one",
    ),
    "weights of NaN": (
        lambda: topic_weights(recipes.dirichlet_vae(4, 2), np.full((3, 4), np.nan)),
        ValueError,
        "x is all NaN",
    ),
    "weights of another width": (
        lambda: topic_weights(recipes.dirichlet_vae(4, 2), shares(3, 5)),
        ValueError,
        "with 4 ambient coordinates",
    ),
    "one row": (lambda: anomaly_scores(mixture(), shares(3, 8)[0]), ValueError, r"rows \(n, dim\)"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("what", [*BAD])
def test_bad_input(what: str) -> None:
    call, kind, words = BAD[what]
    with pytest.raises(kind, match=words):
        call()
