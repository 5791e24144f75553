"""Auto-encoders with a prior: costs, divergences, bounds and their parts against closed forms and other libraries."""

import math
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, distributions, nn

from geoflow import DiagonalNormal, GaussianMixture, Pair, StandardNormal, fit, load, save
from geoflow.autoencoders import (
    KL,
    MMD,
    Bernoulli,
    Critic,
    DirichletPosterior,
    Gaussian,
    GaussianPosterior,
    LatentModel,
    Linked,
    Multinomial,
    Square,
    attribute_direction,
    elbo_terms,
    fit_prior,
    manipulated,
    recipes,
)
from geoflow.autoencoders.divergences import imq
from geoflow.columns import Standardize
from geoflow.flows import realnvp
from geoflow.freeform import mlae
from geoflow.maps import Chain
from geoflow.nets import MLP


def rows(n: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """In float64, with parameters that are not those of a start."""
    g = Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for w in model.parameters():
            w.add_(0.3 * torch.randn(w.shape, generator=g, dtype=w.dtype))
    return model


# -- costs -------------------------------------------------------------------------------------------------------------


def test_costs_are_log_likelihoods() -> None:
    x, xh = rows(6, 4).sigmoid(), rows(6, 4, 1).sigmoid()
    wanted = {
        Gaussian(0.3): distributions.Normal(xh, 0.3).log_prob(x).sum(-1),
        Bernoulli(): distributions.Bernoulli(xh, validate_args=False).log_prob(x).sum(-1),
    }
    for cost, log_p in wanted.items():
        torch.testing.assert_close(cost.double()(x, xh), -log_p)
    counts = torch.tensor([[3.0, 0, 1, 6], [1, 4, 4, 1]], dtype=torch.float64)
    shares = torch.softmax(rows(2, 4), -1)
    orders = math.lgamma(11) - torch.lgamma(counts + 1).sum(-1)
    log_p = distributions.Multinomial(10, shares).log_prob(counts)
    torch.testing.assert_close(-Multinomial(10.0)(counts / 10, shares), log_p - orders)


@pytest.mark.parametrize("cost", [Square(), Gaussian(0.5), Bernoulli()])
def test_doubled_pixels_cost_double_and_batches_nothing(cost: Any) -> None:
    x, xh = rows(6, 4).sigmoid(), rows(6, 4, 1).sigmoid()
    once = cost.double()(x, xh)
    torch.testing.assert_close(cost(torch.cat([x, x], 1), torch.cat([xh, xh], 1)), 2 * once)
    torch.testing.assert_close(cost(x[2:3], xh[2:3]), once[2:3])


@pytest.mark.parametrize(("link", "cost"), [("sigmoid", Bernoulli()), ("softmax", Multinomial(20.0))])
def test_links_are_taken_from_what_is_before_them(link: Any, cost: Any) -> None:
    """The same costs as of what is decoded, and finite where that has saturated."""
    inner = shaken(Pair(MLP(4, 2), MLP(2, 4), dim=4, latent_dim=2))
    x, z = torch.softmax(rows(6, 4), -1), rows(6, 2)
    ends = Linked(inner, link)
    found, xh = cost.decoded(ends, x, z)
    torch.testing.assert_close(found, cost(x, ends.decode(z)))
    torch.testing.assert_close(xh, ends.decode(z))
    far = (1e4 * z.float()).requires_grad_()
    rows_, _ = cost.decoded(ends.float(), x.float(), far)
    (g,) = torch.autograd.grad(rows_.sum(), far)
    assert rows_.isfinite().all()
    assert g.isfinite().all()


def test_a_learned_deviation_is_profiled() -> None:
    """Its gradient is that of (D/2) log mean r², and after training it is the root mean square of all rows."""
    pair = shaken(Pair(MLP(4, 2, activation="silu"), MLP(2, 4, activation="silu"), dim=4, latent_dim=2))
    cost, x = Gaussian().double(), rows(50, 4)
    value, xh = cost.decoded(pair, x, pair._encode(x))
    mean = (xh - x).square().mean()
    wanted = torch.autograd.grad(2 * mean.log(), list(pair.parameters()), retain_graph=True)
    for got, expected in zip(torch.autograd.grad(value.mean(), list(pair.parameters())), wanted, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(value.mean(), 2 * (mean.log() + 1 + math.log(2 * math.pi)))
    model = LatentModel(pair, StandardNormal(2).double(), cost=cost, divergence=())
    model.finish(x)
    torch.testing.assert_close(cost.variance, mean.detach())
    close = model.eval().loss(x)["reconstruction"]
    torch.testing.assert_close(close, value.mean())


# -- divergences -------------------------------------------------------------------------------------------------------


def encoder(dim: int = 3, latent: int = 2) -> GaussianPosterior:
    return shaken(GaussianPosterior(MLP(dim, 2 * latent, (8,), "silu"), dim, latent))


@pytest.mark.parametrize("prior", [StandardNormal(2), shaken(DiagonalNormal(2))])
def test_closed_kl(prior: Any) -> None:
    posterior, x = encoder(), rows(5, 3)
    theta = posterior.numbers(x)
    q = distributions.Independent(distributions.Normal(theta[:, :2], theta[:, 2:].exp()), 1)
    still = isinstance(prior, StandardNormal)
    mean, std = (torch.zeros(2), torch.ones(2)) if still else (prior.mean, prior.log_std.exp())
    p = distributions.Independent(distributions.Normal(mean.double(), std.double()), 1)
    closed = posterior.kl(theta, prior.double())
    assert closed is not None
    torch.testing.assert_close(closed, distributions.kl_divergence(q, p))
    z, log_q = posterior.draw(theta.expand(40_000, 5, 4), Generator().manual_seed(1))
    torch.testing.assert_close(log_q, q.log_prob(z))
    drawn = log_q - prior.log_prob(z)
    assert ((drawn.mean(0) - closed).abs() < 4 * drawn.std(0) / 200).all()


def test_free_bits_cost_nothing_and_are_reported() -> None:
    pair = Pair(None, MLP(2, 3), encoder(), dim=3, latent_dim=2).double()
    model = LatentModel(pair, StandardNormal(2).double(), divergence=KL(free_bits=1e3))
    assert float(model.loss(rows(5, 3))["kl"].detach()) == 1e3
    assert model.evaluate(rows(5, 3))["kl"] < 1e2


def test_mmd_is_unbiased_and_sees_dead_dimensions() -> None:
    """By loops over pairs; the null's mean and deviation at 100 rows of 16, and what half of the dimensions dead give."""
    a, b = rows(7, 3), rows(5, 3, 1)

    def kernel(x: Tensor, y: Tensor) -> float:
        return sum(c / (c + float((x - y).square().sum())) for c in (6 * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)))

    within = [np.mean([kernel(x, y) for i, x in enumerate(t) for j, y in enumerate(t) if i != j]) for t in (a, b)]
    across = np.mean([kernel(x, y) for x in a for y in b])
    torch.testing.assert_close(float(imq(a, b)), float(sum(within) - 2 * across))
    null = torch.stack([imq(rows(100, 16, 2 * i), rows(100, 16, 2 * i + 1)) for i in range(300)])
    assert abs(float(null.mean())) < 3 * float(null.std()) / math.sqrt(300)
    assert 0.006 < float(null.std()) < 0.010
    half = rows(1000, 16)
    half[:, 8:] = 0
    assert float(imq(half, rows(1000, 16, 3))) > 0.12


@pytest.mark.parametrize("kind", ["gan", "wgan-gp"])
def test_a_critic_brings_codes_to_the_prior(kind: Any) -> None:
    x = rows(1000, 2).float() * 1.5 + 2
    torch.manual_seed(0)
    pair = Pair(nn.Linear(2, 2), nn.Linear(2, 2), dim=2, latent_dim=2)
    critic = Critic(MLP(2, 1, (32,), "silu"), kind, steps=3)
    model = LatentModel(pair, StandardNormal(2), cost=lambda x, xh: 0 * xh.sum(-1), divergence=critic)
    assert [p.name for p in model.players()] == ["critic", "model"]
    before = model.evaluate(x)["mmd of codes"]
    fit(model, x, epochs=20, batch_size=50, lr=1e-2, seed=0, progress=False)
    after = model.evaluate(x)
    assert after["mmd of codes"] < 0.2 * before
    assert after["critic"] == pytest.approx(after["mmd of codes"], abs=0.1), "held-out rows are given no verdict"


def test_the_penalty_holds_the_slope() -> None:
    """At a critic of slope s everywhere it is penalty · (s − 1)², and the verdicts cancel where codes are as draws."""
    net = nn.Linear(2, 1)
    critic = Critic(net, "wgan-gp", penalty=7.0).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 4.0]]))
    pair = Pair(nn.Identity(), nn.Identity(), dim=2, latent_dim=2)
    model = LatentModel(pair, StandardNormal(2).double(), divergence=critic)
    x, state = rows(9, 2), torch.get_rng_state()
    value = critic.turn(model, "critic", x)
    torch.set_rng_state(state)
    n = model.prior._sample((9,), None, None)
    torch.testing.assert_close(value, critic.verdict(n).mean() - critic.verdict(x).mean() + 7.0 * 16)


# -- bounds ------------------------------------------------------------------------------------------------------------


def principal(x: Tensor, latent: int) -> tuple[LatentModel, Any]:
    """The linear VAE at its optimum, where its posterior is exact, and scikit-learn's probabilistic PCA."""
    from sklearn.decomposition import PCA

    pca = PCA(latent).fit(x.numpy())
    sigma2, lam = pca.noise_variance_, torch.as_tensor(pca.explained_variance_)
    axes, mean = torch.as_tensor(pca.components_), torch.as_tensor(pca.mean_)
    w = axes.mT * (lam - sigma2).sqrt()
    inside = w.mT @ w + sigma2 * torch.eye(latent)
    dim = x.shape[1]
    net, decoder = nn.Linear(dim, 2 * latent).double(), nn.Linear(latent, dim).double()
    with torch.no_grad():
        back = torch.linalg.solve(inside, w.mT)
        log_std = 0.5 * (sigma2 / inside.diagonal()).log()
        net.weight.copy_(torch.cat([back, torch.zeros_like(back)]))
        net.bias.copy_(torch.cat([-back @ mean, 7 * torch.atanh(log_std / 7)]))
        decoder.weight.copy_(w)
        decoder.bias.copy_(mean)
    pair = Pair(None, decoder, GaussianPosterior(net, dim, latent), dim=dim, latent_dim=latent)
    return LatentModel(pair, StandardNormal(latent).double(), cost=Gaussian(sigma2**0.5).double()), pca


def test_the_bound_of_the_best_linear_vae_is_the_likelihood_of_principal_components() -> None:
    x = rows(400, 5) @ rows(5, 5, 7) + 3
    model, pca = principal(x, 2)
    torch.testing.assert_close(model.log_prob_bound(x), torch.as_tensor(pca.score_samples(x.numpy())))
    terms = elbo_terms(model, x, 2)
    assert terms.gap[0] == pytest.approx(0.0, abs=1e-9)
    assert terms.elbo[0] == pytest.approx(float(pca.score(x.numpy())))


@pytest.mark.parametrize("standardized", [False, True])
def test_draws_with_noise_are_those_of_the_likelihood(standardized: bool) -> None:
    x = rows(400, 5) @ rows(5, 5, 7) + 3
    model, pca = principal(x, 2)
    mean, scale = torch.as_tensor(pca.mean_), torch.ones(5)
    if standardized:  # the same behind a change of units, in which the noise is meant
        scaler = Standardize(5).double()
        with torch.no_grad():
            scaler.mean.fill_(2.0)
            scaler.std.copy_(scale := torch.arange(1.0, 6.0))
        model = LatentModel(Chain(scaler, model.autoencoder), model.prior, cost=model.cost)  # type: ignore[arg-type]
        mean = 2 + scale * mean
    n = 100_000
    outer = LatentModel(Pair(nn.Identity(), nn.Identity(), dim=5, latent_dim=5), model, divergence=())
    for draws in (
        model.sample_noisy(n, generator=Generator().manual_seed(0)),
        outer.sample(n, generator=Generator().manual_seed(1)),
    ):
        close = torch.as_tensor(pca.get_covariance()) * scale[:, None] * scale
        error = (torch.outer(close.diagonal(), close.diagonal()) + close.square()).div(n).sqrt()
        assert ((torch.cov(draws.mT) - close).abs() < 4 * error).all()
        assert ((draws.mean(0) - mean).abs() < 4 * (close.diagonal() / n).sqrt()).all()
    assert float(torch.cov(model.sample(1000).mT).det()) == pytest.approx(0.0, abs=1e-9)  # a plane without it


def test_data_below_the_least_deviation_are_told() -> None:
    x = 1e-6 * rows(50, 3).float()
    with pytest.warns(UserWarning, match="vary by 1e-06, less than the least deviation that is learned, 0.001"):
        fit(recipes.vae(3, 2, cost="gaussian", hidden=(8,)), x, epochs=1, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(recipes.vae(3, 2, cost="gaussian", standardize=True, hidden=(8,)), x, epochs=1, progress=False)


@pytest.mark.parametrize("unit", [1e-20, 1e9, 1e20])
def test_noise_is_in_units_of_the_data(unit: float) -> None:
    """Also where one is nothing beside the data in float32."""
    model = recipes.vae(3, 2, cost="gaussian", standardize=True, hidden=(8,))
    model.prepare(unit * (rows(50, 3).float() + 5))
    means, draws = (draw(500, generator=Generator().manual_seed(0)) for draw in (model.sample, model.sample_noisy))
    assert (draws - means).div(unit).std(0) == pytest.approx(rows(50, 3).std(0), rel=0.15)


def test_bounds_are_per_unit_of_the_data_behind_what_standardises() -> None:
    """Ten times the unit of each of three columns takes 3 log 10 off, and of the parts only off the first."""
    x = rows(50, 3) * torch.tensor([1.0, 5.0, 0.2])
    model = shaken(recipes.vae(3, 2, cost="gaussian", standardize=True, hidden=(8,)))
    found = []
    for unit in (1.0, 10.0):
        model.prepare(unit * x)
        bound = model.log_prob_bound(unit * x, 2, Generator().manual_seed(0))
        found.append((bound, elbo_terms(model, unit * x, 2, Generator().manual_seed(0))))
    (one, parts), (ten, others) = found
    torch.testing.assert_close(ten, one - 3 * math.log(10))
    assert others.reconstruction[0] == pytest.approx(parts.reconstruction[0] - 3 * math.log(10))
    assert others.elbo[0] == pytest.approx(parts.elbo[0] - 3 * math.log(10))
    assert (others.kl, others.gap) == (pytest.approx(parts.kl), pytest.approx(parts.gap, abs=1e-9))


@pytest.mark.parametrize("latent", [1, 3])
def test_a_linear_vae_learns_principal_components(latent: int) -> None:
    """Trained, with a learned deviation: its ELBO is the likelihood of probabilistic PCA, by eigenvalues, to .05 nats."""
    n, dim = 500, 6
    x = rows(n, dim, 1) @ rows(dim, dim, 7) + rows(1, dim, 3)
    torch.manual_seed(0)
    posterior = GaussianPosterior(nn.Linear(dim, 2 * latent), dim, latent)
    pair = Pair(None, nn.Linear(latent, dim), posterior, dim=dim, latent_dim=latent)
    model = LatentModel(pair, StandardNormal(latent), cost=Gaussian())
    before = float(model.log_prob_bound(x.float()).mean())
    fit(model, x, epochs=40, batch_size=50, lr=2e-2, validation=0, weight_decay=0.0, seed=0, progress=False)
    elbo = float(model.log_prob_bound(x.float().repeat(20, 1), generator=Generator().manual_seed(0)).mean())
    kept, rest = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0)).flip(0).split([latent, dim - latent])
    logs = kept.log().sum() + (dim - latent) * rest.mean().log()
    exact = -0.5 * float(dim * math.log(2 * math.pi) + logs + dim)
    assert before < exact - 1
    assert exact - 0.05 < elbo < exact + 0.01
    assert float(model.cost.get_buffer("variance")) == pytest.approx(float(rest.mean()), rel=0.05)


def test_bounds_rise_with_draws_to_the_likelihood() -> None:
    x = rows(200, 5) @ rows(5, 5, 7)
    model, pca = principal(x, 2)
    with torch.no_grad():
        bias: Any = model.get_parameter("autoencoder.posterior.net.bias")
        bias[2:] += 0.7  # posteriors that are too wide
    exact = float(pca.score(x.numpy()))
    means = [float(model.log_prob_bound(x, k, Generator().manual_seed(0)).mean()) for k in (1, 8, 64)]
    assert means[0] < means[1] - 0.1 < means[2] < exact
    assert exact - means[2] < 0.1


def test_parts_of_the_bound_add_up() -> None:
    """I − II − III is the ELBO, and II + III the mean KL within three standard errors."""
    model, x = shaken(recipes.vae(6, 2, hidden=(16,))), rows(1000, 6).sigmoid()
    terms = elbo_terms(model, x, 3, Generator().manual_seed(1))
    i, two, three = terms.reconstruction, terms.mutual_information, terms.marginal
    assert i[0] - two[0] - three[0] == pytest.approx(terms.elbo[0])
    assert abs(two[0] + three[0] - terms.kl[0]) < 3 * math.hypot(two[1], three[1])
    assert 0 < two[0] < math.log(1000)
    assert three[0] > 0
    assert terms.gap[0] > 0
    assert "mutual information" in str(terms)


def test_a_model_as_prior_gives_its_bound() -> None:
    x = rows(300, 5) @ rows(5, 5, 7)
    inner, pca = principal(rows(400, 2) @ rows(2, 2, 3), 1)
    pair = Pair(None, MLP(2, 5, (8,)), encoder(5, 2), dim=5, latent_dim=2)
    model = shaken(LatentModel(pair, inner, cost=Gaussian(1.0)))
    inner, _ = principal(rows(400, 2) @ rows(2, 2, 3), 1)
    model = model.with_base(inner)
    batch, _ = model._batch(x)
    exact = torch.as_tensor(pca.score_samples(batch.z.detach().numpy()))
    assert batch.log_q is not None
    torch.testing.assert_close(KL()(batch), batch.log_q - exact)


# -- priors fitted afterwards ------------------------------------------------------------------------------------------


def test_what_is_fitted_to_codes_takes_their_precision_and_the_cost_its_deviation() -> None:
    """Of an auto-encoder alone the noise of draws is what it leaves of the rows, root mean square."""
    x = rows(300, 4)
    pair = Pair(nn.Linear(4, 2).double(), nn.Linear(2, 4).double(), dim=4, latent_dim=2)
    model = fit_prior(pair, x, GaussianMixture(2, 3))
    left = (x - pair.decode(pair.encode(x))).square().mean()
    assert float(model.cost.get_buffer("variance")) == pytest.approx(float(left.detach()), rel=1e-6)
    assert model.sample(7).dtype == torch.float64
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_prior(recipes.vae(4, 2, hidden=(8,)), x)


@pytest.mark.parametrize("kind", ["vae", "wae", "mlae"])
def test_a_prior_fitted_afterwards_is_that_of_the_codes(kind: str) -> None:
    x = rows(1500, 4).float()
    models: dict[str, Any] = {
        "vae": lambda: recipes.vae(4, 2, hidden=(8,), cost="gaussian"),
        "wae": lambda: recipes.wae_mmd(4, 2, hidden=(8,)),
        "mlae": lambda: mlae(4, 2, width=8, blocks=1),
    }
    model = models[kind]()
    mended = fit_prior(model, x, GaussianMixture(2, 2), seed=3)
    assert mended.autoencoder is model.autoencoder
    wanted = GaussianMixture(2, 2)
    codes = mended.codes(x, Generator().manual_seed(3))
    wanted.prepare(codes)
    found = mended.prior
    assert isinstance(found, GaussianMixture)
    torch.testing.assert_close(found.means, wanted.means)
    assert found.log_prob(codes).mean() > StandardNormal(2).log_prob(codes).mean()
    if kind == "vae":
        assert not torch.equal(codes, mended.autoencoder.encode(x)), "codes of a stochastic encoder are drawn"


def test_flows_are_fitted_to_codes_by_steps() -> None:
    x = rows(600, 3).float()
    model = fit_prior(recipes.wae_mmd(3, 2, hidden=(8,)), x, realnvp(2, depth=2, hidden=(8,)), epochs=2, progress=False)
    assert model.sample(4).shape == (4, 3)
    assert "mmd of codes" in model.evaluate(x)


# -- attributes --------------------------------------------------------------------------------------------------------


def test_directions_of_attributes() -> None:
    """Along the ridge's direction a linear attribute grows by one a step; that of means is their difference."""
    turn = torch.linalg.qr(rows(3, 3)).Q
    pair = Pair(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), dim=3, latent_dim=3).double()
    with torch.no_grad():
        pair.get_parameter("encoder.weight").copy_(turn)
        pair.get_parameter("decoder.weight").copy_(turn.mT)
    x = rows(500, 3) * torch.tensor([1.0, 2.0, 3.0])
    x[:, 1] += x[:, 2]
    slope = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    direction = attribute_direction(pair, x, x @ slope, ridge=0.0)
    moved = manipulated(pair, x[:4], direction, torch.tensor([0.0, 1.0, 2.5]))
    assert torch.equal(moved, manipulated(pair, x[:4], direction.numpy(), [0.0, 1.0, 2.5]))
    torch.testing.assert_close(moved @ slope, (x[:4] @ slope) + torch.tensor([[0.0], [1.0], [2.5]]))
    has = x[:, 0] > 0
    found = attribute_direction(pair, x, has)
    torch.testing.assert_close(found, turn @ (x[has].mean(0) - x[~has].mean(0)))


# -- weights -----------------------------------------------------------------------------------------------------------


def test_a_learned_deviation_counts_rows_by_their_weights() -> None:
    """Full batches: a weighted fit is that of repeated rows, the deviation with it; σ² is Σ w r² / (D Σ w)."""
    x, k = rows(40, 3), torch.randint(1, 5, (40,), generator=Generator().manual_seed(0))
    pair = Pair(nn.Linear(3, 1), nn.Linear(1, 3), dim=3, latent_dim=1).double()
    a, b, c = (LatentModel(deepcopy(pair), StandardNormal(1).double(), divergence=()) for _ in range(3))
    options: Any = {"validation": rows(9, 3, 1), "batch_size": 10**6, "epochs": 60, "seed": 0, "progress": False}
    fit(a, x, sample_weight=k, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicates
        fit(b, x.repeat_interleave(k, 0), **options)
    fit(c, x, **options)
    variance = [float(m.get_buffer("cost.variance")) for m in (a, b, c)]
    torch.testing.assert_close(a.autoencoder.reconstruct(x), b.autoencoder.reconstruct(x))
    assert variance[0] == pytest.approx(variance[1], rel=1e-6)
    assert variance[0] != pytest.approx(variance[2], rel=1e-2)
    squared = (a.autoencoder.reconstruct(x) - x).square().sum(1).detach()
    assert variance[0] == pytest.approx(float((k * squared).sum() / (3 * k.sum())), rel=1e-6)


def test_directions_keep_to_codes_that_decode_hears() -> None:
    """A collapsed dimension tells the attribute by tiny moves of its mean, under noise: the fit leaves it alone."""
    net = nn.Linear(2, 4).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0], [0, 0.01], [0, 0], [0, 0]]))
        net.bias.copy_(7 * torch.atanh(torch.tensor([0.0, 0, math.log(0.1), 0]) / 7))
    pair = Pair(None, nn.Linear(2, 2), GaussianPosterior(net, 2, 2), dim=2, latent_dim=2).double()
    x = rows(4000, 2)
    found = attribute_direction(pair, x, x.sum(1), ridge=0.0, generator=Generator().manual_seed(1))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0], dtype=torch.float64), atol=0.1, rtol=0)


# -- what is reported --------------------------------------------------------------------------------------------------


def test_terms_of_one_name_are_told_apart() -> None:
    """Held-out figures are the objective's, also where two extras are plain functions of one name."""
    pair = Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2)
    extras = [lambda batch: 0 * batch.z[:, 0] + 1, lambda batch: 0 * batch.z[:, 0] + 10]
    model = LatentModel(pair, StandardNormal(2), cost=Square(), divergence=(), extras=extras).eval()
    x = rows(5, 3).float()
    found = model.evaluate(x)
    assert (found["<lambda>"], found["<lambda> 2"]) == (1.0, 10.0)
    assert found["loss"] == pytest.approx(found["reconstruction"] + 11)
    assert model.loss(x)["loss"].item() == pytest.approx(found["loss"])


def test_two_critics_take_turns_of_their_own() -> None:
    critics = [Critic(MLP(2, 1, (8,))), Critic(MLP(2, 1, (8,)))]
    pair = Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2)
    model = LatentModel(pair, StandardNormal(2), cost=Square(), divergence=critics)
    before = [deepcopy(c.state_dict()) for c in critics]
    fit(model, rows(40, 3), epochs=2, validation=0, seed=0, progress=False)
    for critic, start in zip(critics, before, strict=True):
        assert any(not torch.equal(w, start[name]) for name, w in critic.state_dict().items())


@pytest.mark.parametrize("n", [2001, 4001])
def test_any_number_of_rows_is_held_out(n: int) -> None:
    """Figures of whole samples are not taken of a rest of one row."""
    for model in (recipes.wae_mmd(3, 2, hidden=(4,)), recipes.wae_gan(3, 2, hidden=(4,), critic=(4,))):
        x = rows(n, 3).float()
        found = model.evaluate(x)
        assert all(math.isfinite(v) for v in found.values())
        weight = (torch.arange(n) < 1).float()  # all of it in one block
        assert LatentModel(model.autoencoder, model.prior, divergence=()).evaluate(x, weight=weight)["loss"] > 0


def test_evaluation_leaves_a_model_as_it_was() -> None:
    model = recipes.vae(3, 2, hidden=(4,)).train()
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.evaluate(9 * torch.ones(5, 3))
    model.cost.check = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        model.evaluate(torch.ones(5, 3))
    assert all(m.training for m in model.modules())


def test_weights_of_rows_do_not_reach_the_decoders_parameters() -> None:
    model, x, weight = recipes.rae(4, 2, hidden=(8,)), rows(6, 4).float(), torch.tensor([0.0, 0, 1, 2, 2, 1])
    torch.testing.assert_close(model.loss(x, weight=weight)["decoder l2"], model.loss(x)["decoder l2"])
    torch.testing.assert_close(model.loss(x, weight=weight)["loss"], model.loss(x[[2, 3, 3, 4, 4, 5]])["loss"])


def test_a_bound_behind_two_stages_is_repeated_by_its_generator() -> None:
    model = recipes.hierarchical(3, 2, top=1, hidden=(4,))
    x, before = rows(5, 3).float().sigmoid(), torch.get_rng_state()
    found = [model.log_prob_bound(x, 3, Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.equal(before, torch.get_rng_state())


# -- files and bad input -----------------------------------------------------------------------------------------------


def test_functions_are_costs_and_divergences_that_files_refuse(tmp_path: Path) -> None:
    pair = Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2)

    def absolute(x: Tensor, xh: Tensor) -> Tensor:
        return (x - xh).abs().sum(-1)

    def norm(batch: Any) -> Tensor:
        return batch.z.square().sum(-1)

    model = LatentModel(pair, StandardNormal(2), cost=absolute, divergence=norm, weight=0.1)
    terms = model.loss(rows(4, 3).float())
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.1 * terms["norm"])
    save(model, tmp_path / "model.safetensors")
    with pytest.raises(TypeError, match="PlainCost"):
        load(tmp_path / "model.safetensors")


def untrained() -> tuple[Any, Tensor, Tensor]:
    """An auto-encoder, and two rows with their codes."""
    pair = Pair(nn.Linear(3, 1), nn.Linear(1, 3), dim=3, latent_dim=1)
    x = torch.ones(2, 3)
    return pair, x, pair.encode(x)


def of_parts(**parts: Any) -> LatentModel:
    """A deterministic model, and what else it is made of."""
    pair = Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2)
    return LatentModel(pair, StandardNormal(2), **{"divergence": (), **parts})


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "InfoVAE that raises the MMD": (
        lambda: recipes.info_vae(4, 2, lam=1e-3),
        ValueError,
        r"weights >= 0, got \[1.0, -0.999\]: training would raise that divergence",
    ),
    "KL without a posterior": (
        lambda: LatentModel(
            Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2), StandardNormal(2), divergence=KL()
        ),
        TypeError,
        "KL needs a stochastic encoder: Pair has no posterior",
    ),
    "a prior of another dimension": (
        lambda: recipes.vae(4, 2, prior=StandardNormal(3)),
        ValueError,
        "encodes to 2 coordinates, the prior has 3",
    ),
    "two weights for one divergence": (
        lambda: recipes.vae(4, 2, weight=(1.0, 2.0)),  # type: ignore[arg-type]
        ValueError,
        "2 weights for 1 divergences",
    ),
    "no auto-encoder": (lambda: LatentModel(nn.Linear(2, 2), StandardNormal(2)), TypeError, "got Linear"),  # type: ignore[arg-type]
    "no prior": (lambda: recipes.vae(4, 2, prior=nn.Identity()), TypeError, "as prior, got Identity"),  # type: ignore[arg-type]
    "no term": (lambda: recipes.vae(4, 2).with_base(3), TypeError, "as prior, got int"),  # type: ignore[arg-type]
    "grey levels of 255": (
        lambda: fit(recipes.vae(4, 2), 255 * torch.rand(50, 4), epochs=1, progress=False),
        ValueError,
        "Bernoulli expects data between 0 and 1, got",
    ),
    "no shares": (
        lambda: fit(recipes.vae(4, 2, cost="multinomial"), torch.rand(50, 4), epochs=1, progress=False),
        ValueError,
        "shares that sum to one",
    ),
    "batch norm under a penalty": (
        lambda: Critic(nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), "wgan-gp"),
        ValueError,
        "take LayerNorm",
    ),
    "an unknown cost": (lambda: recipes.vae(4, 2, cost="poisson"), ValueError, "got 'poisson'"),  # type: ignore[arg-type]
    "standardised grey levels": (lambda: recipes.vae(4, 2, standardize=True), ValueError, "leave standardize out"),
    "rows with weights under MMD": (
        lambda: fit(recipes.wae_mmd(4, 2), torch.rand(50, 4), sample_weight=torch.rand(50), epochs=1, progress=False),
        ValueError,
        "mmd is a figure of whole batches",
    ),
    "rows with weights before a critic": (
        lambda: fit(recipes.wae_gan(4, 2), torch.rand(50, 4), sample_weight=torch.rand(50), epochs=1, progress=False),
        ValueError,
        "critic compares whole batches",
    ),
    "a deviation of negative rows": (
        lambda: Gaussian().decoded(*untrained(), weight=torch.tensor([1.0, -1.0])),
        ValueError,
        "learns no deviation from rows with negative weights",
    ),
    "a bound of a square": (
        lambda: recipes.wae_mmd(4, 2, stochastic=True).log_prob_bound(torch.rand(3, 4)),
        NotImplementedError,
        "a cost that is a likelihood",
    ),
    "no model": (lambda: fit_prior(nn.Linear(2, 2), torch.rand(9, 2)), TypeError, "or a model with one, got Linear"),
    "an attribute that all have": (
        lambda: attribute_direction(recipes.vae(4, 2).autoencoder, torch.rand(5, 4), torch.ones(5)),
        ValueError,
        "all 5 rows have the same attribute",
    ),
    "a direction in another latent": (
        lambda: manipulated(recipes.vae(4, 2).autoencoder, torch.rand(5, 4), torch.ones(3), torch.ones(2)),
        ValueError,
        r"a direction of 2 numbers, got shape \(3,\)",
    ),
    "a bound of grey levels of 255": (
        lambda: recipes.vae(4, 2).log_prob_bound(255 * torch.rand(5, 4)),
        ValueError,
        "Bernoulli expects data between 0 and 1, got",
    ),
    "an attribute of NaN": (
        lambda: attribute_direction(recipes.vae(4, 2).autoencoder, torch.rand(2, 4), [math.nan, 1.0], ridge=0.1),
        ValueError,
        "attribute of attribute_direction contains NaN",
    ),
    "an attribute that codes do not know": (
        lambda: attribute_direction(
            Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2), torch.ones(2, 3), [0.0, 1.0], ridge=0.1
        ),
        ValueError,
        "the codes do not vary with the attribute",
    ),
    "an attribute in a model": (
        lambda: attribute_direction(recipes.vae(4, 2), torch.rand(2, 4), [0, 1]),  # type: ignore[arg-type]
        TypeError,
        "expects an Autoencoder, got LatentModel: that of a model is model.autoencoder",
    ),
    "codes by halves": (lambda: recipes.wae_mmd(4, 1.5), ValueError, "latent must be a whole number, got 1.5"),  # type: ignore[arg-type]
    "one width": (lambda: recipes.vae(4, 2, hidden=8), TypeError, r"one a layer, such as \(256, 256\); got 8"),
    "an attribute of numbers": (
        lambda: attribute_direction(recipes.vae(4, 2).autoencoder, torch.rand(5, 4), torch.rand(5)),
        ValueError,
        "zeros and ones; give ridge=",
    ),
    "held-out grey levels of 255": (
        lambda: fit(recipes.vae(4, 2), torch.rand(50, 4), validation=255 * torch.rand(9, 4), epochs=1, progress=False),
        ValueError,
        "Bernoulli expects data between 0 and 1, got",
    ),
    "figures of another width": (
        lambda: recipes.vae(4, 2).evaluate(torch.rand(5, 3)),
        ValueError,
        r"LatentModel.evaluate expects `x` with 4 ambient coordinates in the last axis, got shape \(5, 3\)",
    ),
    "figures of NaN": (
        lambda: recipes.vae(4, 2).evaluate(torch.full((5, 4), torch.nan)),
        ValueError,
        "evaluate contains NaN in 5 of 5 rows",
    ),
    "figures of no rows": (
        lambda: recipes.vae(4, 2).evaluate(torch.rand(0, 4)),
        ValueError,
        r"one row \(n, dim\) or more",
    ),
    "one row held out": (
        lambda: fit(recipes.wae_gan(4, 2), torch.rand(9, 4), validation=torch.rand(1, 4), epochs=1, progress=False),
        ValueError,
        r"two rows or more in a batch: raise batch_size=, or hold out more rows \(validation=\)",
    ),
    "weights that are no numbers": (
        lambda: recipes.vae(4, 2, weight="big"),
        TypeError,
        "weight as a number, .* got 'big'",
    ),  # type: ignore[arg-type]
    "a cost by name": (
        lambda: of_parts(cost="square"),
        TypeError,
        r"expects a Cost, as Square\(\), or a function .* 'square'",
    ),
    "a cost's class": (lambda: of_parts(cost=Square), TypeError, r"expects a Cost, as Square\(\)"),
    "a divergence's class": (lambda: of_parts(divergence=MMD), TypeError, r"got the class MMD: pass MMD\(\)"),
    "a cost that is a mean": (
        lambda: of_parts(cost=nn.functional.mse_loss).loss(torch.rand(5, 3)),
        ValueError,
        r"of cost PlainCost a tensor with one number a row, \(5,\), summed over coordinates; got shape \(\)",
    ),
    "a cost of each coordinate": (
        lambda: of_parts(cost=lambda x, xh: (x - xh) ** 2).loss(torch.rand(5, 3)),
        ValueError,
        r"\(5,\), summed over coordinates; got shape \(5, 3\)",
    ),
    "a term of each coordinate": (
        lambda: of_parts(divergence=lambda batch: batch.z**2).loss(torch.rand(5, 3)),
        ValueError,
        r"of <lambda> a tensor with one number a row, \(5,\), or one for the batch, \(\); got shape \(5, 2\)",
    ),
    "a term that is no tensor": (
        lambda: of_parts(divergence=lambda batch: 1.0).loss(torch.rand(5, 3)),
        ValueError,
        "got a float",
    ),
    "a narrow decoder": (
        lambda: LatentModel(Pair(nn.Linear(3, 2), nn.Linear(2, 1), dim=3, latent_dim=2), StandardNormal(2)).sample(),
        ValueError,
        r"decode gave shape \(1,\), expected \(3,\): flatten",
    ),
    "a narrow encoder": (
        lambda: Pair(nn.Linear(3, 1), nn.Linear(2, 3), dim=3, latent_dim=2).encode(torch.rand(5, 3)),
        ValueError,
        r"encode gave shape \(5, 1\), expected \(5, 2\): flatten",
    ),
    "a posterior of other codes": (
        lambda: Pair(None, nn.Linear(3, 4), GaussianPosterior(nn.Linear(4, 4), 4, 2), dim=4, latent_dim=3),
        ValueError,
        "a posterior of 3 coordinates given 4 as context, got one of 2 given 4",
    ),
    "a posterior without deviations": (
        lambda: GaussianPosterior(nn.Linear(4, 3), 4, 2).location(torch.rand(5, 4)),
        ValueError,
        "GaussianPosterior expects a network with 4 outputs, got 3",
    ),
    "shares without numbers": (
        lambda: DirichletPosterior(nn.Linear(4, 6), 4, 3).location(torch.rand(5, 4)),
        ValueError,
        "DirichletPosterior expects a network with 3 outputs, got 6",
    ),
    "a flow in a posterior": (
        lambda: recipes.flow_vae(4, 2, posterior=realnvp(2)),  # type: ignore[arg-type]
        TypeError,
        "expects a bijection, got Flow: that of a Flow is flow.bijection",
    ),
    "two verdicts": (
        lambda: of_parts(divergence=Critic(nn.Linear(2, 2))).loss(torch.rand(5, 3)),
        ValueError,
        r"Critic expects a network with one output, from \(5, 2\) it gave \(5, 2\)",
    ),
    "a penalty that rewards": (
        lambda: Critic(nn.Linear(2, 1), "wgan-gp", penalty=-1.0),
        ValueError,
        "penalty >= 0, got -1",
    ),
    "a rate below zero": (lambda: Critic(nn.Linear(2, 1), rate=-1.0), ValueError, "rate >= 0, got -1"),
    "grey levels without a link": (
        lambda: of_parts(cost=Bernoulli()).loss(torch.rand(5, 3)),
        ValueError,
        r'decode\(z\) between 0 and 1, got .* Linked\(autoencoder, "sigmoid"\)',
    ),
    "shares without a link": (
        lambda: of_parts(cost=Multinomial()).loss(torch.full((5, 3), 1 / 3)),
        ValueError,
        r'decode\(z\) as shares that sum to one, got .* Linked\(autoencoder, "softmax"\)',
    ),
    "a model without a bound as prior": (
        lambda: fit_prior(recipes.vae(4, 2), torch.rand(9, 4), recipes.wae_mmd(2, 1)),
        TypeError,
        "a LatentModel as prior needs a bound",
    ),
    "a prior of another space": (
        lambda: fit_prior(recipes.dirichlet_vae(4, 3), torch.full((20, 4), 0.25), GaussianMixture(3, 2)),
        TypeError,
        r"codes lie in Simplex\(k=3\), and the draws of the prior, GaussianMixture, in Euclidean",
    ),
    "an infinite deviation": (lambda: Gaussian(math.inf), ValueError, "positive number, got inf"),
    "one scale": (lambda: MMD(1.0), ValueError, "positive scales, one or more, got 1.0"),  # type: ignore[arg-type]
    "no free bits": (lambda: KL(free_bits=-1.0), ValueError, "free_bits >= 0"),
    "no scales": (lambda: MMD(()), ValueError, "positive scales"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("what", [*BAD])
def test_bad_input(what: str) -> None:
    call, kind, words = BAD[what]
    with pytest.raises(kind, match=words):
        call()
