"""Extras of latent models, masks and priors that move, against closed forms and by hand."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, distributions, nn

from geoflow import Chain, Pair, Sampler, Standardize, StandardNormal, fit, load, save
from geoflow.autoencoders import (
    Critic,
    DataCritic,
    DecoderL2,
    EmbeddingNorm,
    GaussianPosterior,
    JacobianNorm,
    LatentModel,
    LearnedSimilarity,
    Linked,
    LogJacobian,
    Masked,
    MaskedPrior,
    MaskPolarisation,
    MinibatchTotalCorrelation,
    Spectral,
    TotalCorrelation,
    fit_prior,
    mask_counts,
    recipes,
)
from geoflow.autoencoders.extras.jacobian import squared_jacobian
from geoflow.autoencoders.extras.minibatch import aggregated
from geoflow.autoencoders.extras.total_correlation import gaussian_total_correlation
from geoflow.nets import MLP
from manifolds import Euclidean
from tests.oracles.test_latent import rows, shaken


def plain(dim: int = 4, latent: int = 2, **options: Any) -> LatentModel:
    """A deterministic auto-encoder without a divergence, in float64."""
    pair = Pair(MLP(dim, latent, (8,), "silu"), MLP(latent, dim, (8,), "silu"), dim=dim, latent_dim=latent)
    return shaken(LatentModel(pair, StandardNormal(latent), **{"cost": None, "divergence": (), **options}))


def correlated(n: int, rho: float) -> Tensor:
    z = rows(n, 2)
    return torch.stack([z[:, 0], rho * z[:, 0] + math.sqrt(1 - rho * rho) * z[:, 1]], 1)


# -- total correlation -------------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """The family that holds the log ratio of a Gaussian to its margins."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, z: Tensor) -> Tensor:
        a, b = z.unbind(-1)
        return self.last(torch.stack([a * a, b * b, a * b], -1))


def test_a_density_ratio_finds_the_total_correlation() -> None:
    """−½ ln(1 − ρ²) of two correlated numbers, by logistic regression in its turns; of a Gaussian in closed form."""
    pair = Pair(nn.Identity(), nn.Identity(), dim=2, latent_dim=2)
    term = TotalCorrelation(Quadratic(), 3.0)
    model = LatentModel(pair, StandardNormal(2).double(), divergence=(), extras=[term]).double()
    assert [p.name for p in model.players()] == ["density ratio"]
    x, wanted = correlated(4000, 0.8), -0.5 * math.log(1 - 0.64)
    error = 3 * 4 * 0.8 / math.sqrt(4000)  # four times what 4,000 rows tell of it
    optimizer = torch.optim.LBFGS(term.net.parameters(), max_iter=12)

    def closure() -> Any:
        torch.manual_seed(0)
        optimizer.zero_grad()
        loss = model.loss(x, player="density ratio")["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        assert float(model.loss(x)["total correlation"]) == pytest.approx(3 * wanted, abs=error)
    assert float(term.figure(model._batch(x)[0])) == pytest.approx(3 * wanted, abs=error)
    still = torch.cat([x, torch.ones(len(x), 1)], 1)
    torch.testing.assert_close(gaussian_total_correlation(still), gaussian_total_correlation(x))


def gaussian(n: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """θ of posteriors, a draw of each, and the exact log density of their mixture and its margins."""
    theta = torch.cat([rows(n, 3) @ rows(3, 3, 1), 0.3 * rows(n, 3, 2) - 0.5], 1)
    mean, std = theta[:, :3], theta[:, 3:].exp()
    z = mean + std * rows(n, 3, 3)
    each = distributions.Normal(mean, std).log_prob(z[:, None])
    exact = torch.cat([torch.logsumexp(each.sum(-1), 1, keepdim=True), torch.logsumexp(each, 1)], 1) - math.log(n)
    return theta, z, exact


def test_minibatch_densities_are_unbiased_and_their_logarithms_low() -> None:
    theta, z, exact = gaussian()
    joint, each = aggregated(theta, z, 40)
    torch.testing.assert_close(torch.cat([joint[:, None], each], 1), exact)
    g, low = Generator().manual_seed(0), {}
    for size in (4, 16):
        found = []
        for _ in range(500):
            others = 1 + torch.randperm(39, generator=g)[: size - 1]
            some = torch.cat([torch.zeros(1, dtype=torch.long), others])
            joint, each = aggregated(theta[some], z[some], 40)
            found.append(torch.cat([joint[:1], each[0]]))
        logs = torch.stack(found)
        p = logs.exp()
        assert ((p.mean(0) - exact[0].exp()).abs() < 4 * p.std(0) / math.sqrt(500)).all()
        low[size] = exact[0] - logs.mean(0)
    assert (low[4] > low[16]).all()
    assert (low[16] > 0).all()


def test_the_minibatch_term_is_the_mean() -> None:
    """That of the batch's own posteriors, also behind another part, and of held-out rows for themselves."""
    q = GaussianPosterior(MLP(4, 6, (8,)), 4, 3)
    chain = Chain(Standardize(4), Pair(None, MLP(3, 4), q, dim=4, latent_dim=3))
    term = MinibatchTotalCorrelation(500, 2.0)
    model = LatentModel(chain, StandardNormal(3), extras=[term]).double()
    batch, _ = model._batch(rows(30, 4))
    assert batch.theta is not None
    joint, each = aggregated(batch.theta, batch.z, 500)
    torch.testing.assert_close(term(batch), 2 * (joint - each.sum(1)).mean())
    joint, each = aggregated(batch.theta, batch.z, 30)
    torch.testing.assert_close(term.figure(batch), 2 * (joint - each.sum(1)).mean())


# -- sizes and Jacobians -----------------------------------------------------------------------------------------------


def test_norms() -> None:
    model, x = plain(extras=[EmbeddingNorm(3.0), DecoderL2(0.5)]), rows(6, 4)
    terms, decoder = model.loss(x), model.get_submodule("autoencoder.decoder")
    torch.testing.assert_close(terms["embedding norm"], 1.5 * model.codes(x).square().sum(1).mean())
    torch.testing.assert_close(terms["decoder l2"], 0.5 * sum(w.square().sum() for w in decoder.parameters()))
    parts = terms["reconstruction"] + terms["embedding norm"] + terms["decoder l2"]
    torch.testing.assert_close(terms["loss"], parts)


def jacobian(model: LatentModel, x: Tensor) -> Tensor:
    """∂decode/∂z ``(n, dim, latent_dim)`` at codes of x, by autograd."""
    return torch.vmap(torch.func.jacrev(model.autoencoder._decode))(model.codes(x))


def test_the_jacobian_norm_is_unbiased() -> None:
    model, x = plain(5, 3, extras=[JacobianNorm(2.0)]), rows(4, 5)
    exact = jacobian(model, x).square().sum((1, 2))
    with torch.no_grad():
        batch, _ = model._batch(x.repeat(4000, 1))
        drawn = squared_jacobian(batch, 2).reshape(4000, 4)
    torch.testing.assert_close(squared_jacobian(model._batch(x)[0], 3), exact)
    assert ((drawn.mean(0) - exact).abs() < 4 * drawn.std(0) / math.sqrt(4000)).all()
    torch.manual_seed(0)
    value = model.loss(x)["jacobian norm"]
    torch.manual_seed(0)
    torch.testing.assert_close(value, 2 * squared_jacobian(model._batch(x)[0], 1).mean())
    value.backward()
    assert all(w.grad is not None and w.grad.any() for w in model.autoencoder.encoder_parameters())


def test_jacobians_are_in_the_units_of_costs() -> None:
    scale = torch.tensor([0.01, 1.0, 5.0, 100.0], dtype=torch.float64)
    inner = plain()
    chain = Chain(Standardize(4), inner.autoencoder).double()
    model = LatentModel(chain, StandardNormal(2).double(), divergence=())
    x = rows(300, 4) * scale
    model.prepare(x)
    found = squared_jacobian(model._batch(x)[0], 2)
    torch.testing.assert_close(found, jacobian(inner, chain.parts[0].encode(x)).square().sum((1, 2)))  # type: ignore[operator]


def test_the_volume_is_bounded() -> None:
    """By the means of eigenvalues: from above, and by the volume itself where the decoder is a scaled isometry."""
    model, x = plain(5, 3, extras=[LogJacobian()]), rows(50, 5)
    batch, _ = model._batch(x)
    j = jacobian(model, x)
    volume = 0.5 * torch.logdet(j.mT @ j)
    bound = LogJacobian()(batch)
    assert (bound > volume + 1e-6).all()
    torch.testing.assert_close(LogJacobian(3.0, 7)(batch), 3 * bound)
    with torch.no_grad():
        many, _ = model._batch(x.repeat(100, 1))
        few = LogJacobian(1.0, 1)(many).reshape(100, 50)
    assert ((few.mean(0) - bound) < 3 * few.std(0) / 10).all(), "one probe is low in the mean"
    assert few.mean() < bound.mean() - 0.01
    turned = nn.Linear(3, 5).double()
    with torch.no_grad():
        turned.weight.copy_(0.7 * torch.linalg.qr(rows(5, 3))[0])
    isometry = LatentModel(
        Pair(nn.Linear(5, 3).double(), turned, dim=5, latent_dim=3), StandardNormal(3), divergence=()
    )
    found = LogJacobian()(isometry._batch(x)[0])
    torch.testing.assert_close(found, torch.full_like(found, 3 * math.log(0.7)), atol=1e-6, rtol=0)


def test_spectral_layers_do_not_stretch(tmp_path: Path) -> None:
    model = recipes.rae(6, 2, kind="sn", hidden=(16,))
    fit(model, 50 * rows(200, 6).float(), epochs=3, lr=1e-2, progress=False)
    layers = [m for m in model.get_submodule("autoencoder.decoder").modules() if isinstance(m, nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight, 2).detach()) == pytest.approx(1.0, abs=0.05)
    save(model, tmp_path / "model.safetensors")
    z = rows(5, 2).float()
    for other in (load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        assert torch.equal(other.autoencoder.decode(z), model.autoencoder.decode(z))


# -- a learned similarity ----------------------------------------------------------------------------------------------


def test_reconstructions_are_measured_in_the_critics_features(tmp_path: Path) -> None:
    model, x = shaken(recipes.vae_gan(5, 2, features=(8, 3), hidden=(8,))), rows(7, 5)
    save(model, tmp_path / "model.safetensors")
    for other in (model, copy.deepcopy(model), load(tmp_path / "model.safetensors").train()):
        critic = other.extras[0]
        batch, cost = other._batch(x, Generator().manual_seed(1))
        torch.testing.assert_close(cost, 0.5 * (critic.features(x) - critic.features(batch.xh)).square().sum(1))
    theirs = {id(w) for w in model.extras[0].parameters()}
    assert {p.name: {id(w) for w in p.parameters} & theirs for p in model.players()} == {
        "data critic": theirs,
        "model": set(),
    }
    batch, _ = model._batch(x)
    torch.testing.assert_close(model.eval().cost(x, batch.xh), (x - batch.xh).square().sum(1))


def test_a_critic_of_data_answers_what_is_decoded() -> None:
    """At verdicts that are the same everywhere both losses are log 2's; data are raised, what is decoded is lowered."""
    term = DataCritic(nn.Identity(), nn.Linear(4, 1)).double()
    model, x = plain(extras=[term], cost=LearnedSimilarity()), rows(50, 4)
    with torch.no_grad():
        for w in term.parameters():
            w.zero_()
    loss = model.loss(x, player="data critic")["loss"]
    assert float(loss.detach()) == pytest.approx(2 * math.log(2))
    assert float(model.loss(x)["data critic"].detach()) == pytest.approx(math.log(2))
    torch.manual_seed(0)
    (slope,) = torch.autograd.grad(model.loss(x, player="data critic")["loss"], term.head.weight)
    torch.manual_seed(0)
    made = model.autoencoder.decode(torch.cat([model.codes(x), model.prior._sample((50,), None, None)]))
    torch.testing.assert_close(slope[0], 0.5 * (made.mean(0) - x.mean(0)))


# -- masks -------------------------------------------------------------------------------------------------------------


def masked(**options: Any) -> LatentModel:
    return shaken(recipes.maskaae(6, 3, hidden=(8,), critic=(8,), activation="silu", **options))


def test_nobody_but_its_player_steps_the_mask() -> None:
    model = masked()
    free = model.get_parameter("autoencoder.autoencoder.free")
    players = {p.name: list(p.parameters) for p in model.players()}
    assert list(players) == ["critic", "encoder", "mask", "model"]
    assert [name for name, own in players.items() if any(w is free for w in own)] == ["mask"]
    encoder = {id(w) for w in model.get_submodule("autoencoder.autoencoder.autoencoder.encoder").parameters()}
    assert {id(w) for w in players["encoder"]} == encoder
    assert encoder < {id(w) for w in players["model"]}
    with torch.no_grad():
        free.copy_(torch.tensor([0.0, 1e-4, 3.0]))
    optimizer = next(p for p in model.players() if p.name == "mask").optimizer
    assert optimizer is not None
    term = model.extras[0]
    assert isinstance(term, MaskPolarisation)
    step = optimizer([free], 7.0)
    free.sum().backward()
    term.schedule(19, 100)
    step.step()
    assert free[2] == 3, "waits"
    term.schedule(20, 100)  # a pace of its own, whatever the rate it was given
    step.step()
    assert free.tolist()[:2] == [0.0, 0.0], "projected"
    assert 3 - 5 * term.reach / 80 < free.tolist()[2] < 3


def test_the_masks_own_loss() -> None:
    """1000 · cost / dim + (1 + the critic's difference)² + w Σ a (1 − a), by hand; and w doubles."""
    model, x = masked(), rows(9, 6).sigmoid()
    term, critic = model.extras[0], model.divergence[0]
    assert isinstance(term, MaskPolarisation)
    assert isinstance(critic, Critic)
    term.schedule(950, 1000)
    mask = -torch.expm1(-model.get_parameter("autoencoder.autoencoder.free").detach().clamp_min(0))
    assert ((mask >= 0) & (mask < 1)).all()
    inner = model.get_submodule("autoencoder.autoencoder.autoencoder")
    e = inner._encode(x)  # type: ignore[operator]
    torch.manual_seed(3)
    found = model.loss(x, player="mask")["loss"]
    torch.manual_seed(3)
    n = StandardNormal(3).double()._sample((9,), None, None)
    torch.testing.assert_close(model.codes(x), mask * e)
    raw = inner._decode(mask * e)  # type: ignore[operator]
    cost = nn.functional.binary_cross_entropy_with_logits(raw, x)
    apart = critic.verdict(mask * e).mean() - critic.verdict(mask * n).mean()
    wanted = 1000 * cost + (1 + apart) ** 2 + 2 / 3 * 16 * (mask * (1 - mask)).sum()
    torch.testing.assert_close(found, wanted)
    shrunk = (e - e.mean(0)).square() * (-10 * mask**2).exp()
    torch.testing.assert_close(model.loss(x)["mask"], 100 * 6 * shrunk.mean())
    assert model.evaluate(x)["mask"] == pytest.approx(float((mask * (1 - mask)).sum()))

    def pressures(term: MaskPolarisation, steps: int, *at: int) -> list[float]:
        return [term.schedule(step, steps) or term.pressure(16) for step in at]

    published = MaskPolarisation(300, limit=2048, moves=0, decides=0)
    assert pressures(published, 10**6, 0, 299, 300, 3000, 10**6) == [0.125, 0.125, 0.25, 128.0, 2048.0]
    own = MaskPolarisation(decides=0.5)
    assert pressures(own, 1600, 0, 799, 800, 899, 900, 999, 1000, 1599) == [0, 0, 0.125, 0.125, 0.25, 0.25, 0.5, 16]


def test_a_mask_is_held_once(tmp_path: Path) -> None:
    """Files, copies and models with another prior share one mask between codes and draws."""
    from safetensors.torch import load_file

    model = masked()
    save(model, tmp_path / "model.safetensors")
    stored = [name for name in load_file(tmp_path / "model.safetensors") if name.endswith("free")]
    assert stored == ["autoencoder.autoencoder.free"]
    others = [
        load(tmp_path / "model.safetensors"),
        copy.deepcopy(model),
        model.with_base(MaskedPrior(StandardNormal(3))),
    ]
    for other in others:
        found = other.get_submodule("autoencoder.autoencoder")
        with torch.no_grad():
            found.free[0] = 0
        z = other.prior.sample(4)
        assert not z[:, 0].any()
        assert z[:, 1:].all()
        assert other.prior.mask.data_ptr() != model.get_parameter("autoencoder.autoencoder.free").data_ptr()


def test_masks_begin_open_over_codes_of_deviation_one() -> None:
    inner = recipes.networks(6, 3, hidden=(8,), stochastic=False)[0].double()
    part, x = Masked(Chain(Standardize(6), inner)).double(), 5 * rows(400, 6) + 2
    torch.testing.assert_close(part.mask, torch.full_like(part.mask, 0.95))
    part.prepare(x)
    codes = part.encode(x).detach()
    torch.testing.assert_close(codes.std(0), part.mask.detach())
    torch.testing.assert_close(codes.mean(0), torch.zeros(3).double(), atol=1e-12, rtol=0)
    drawn = Masked(inner, start=None).get_parameter("free")
    assert drawn.unique().numel() == 3
    assert ((drawn > 0) & (drawn < 5)).all()
    with pytest.raises(ValueError, match="start between 0 and 1, got 1"):
        Masked(inner, start=1.0)


def test_masks_are_counted() -> None:
    x = rows(4000, 5)
    part = Masked(Pair(nn.Identity(), nn.Identity(), dim=5, latent_dim=5)).double()
    with torch.no_grad():
        part.free.copy_(-torch.log1p(-torch.tensor([0.0, 0.05, 0.2, 0.6, 0.9])))
    counts = mask_counts(Chain(Standardize(5), Linked(part)).double(), x)
    assert (counts["mask >= 0.1"], counts["mask >= 0.5"]) == (3, 2)
    squared = torch.tensor([0.0, 0.05, 0.2, 0.6, 0.9]) ** 2
    wanted = float(squared.sum() ** 2 / squared.square().sum())
    assert counts["participation ratio"] == pytest.approx(wanted, rel=0.05)


# -- priors that move --------------------------------------------------------------------------------------------------


class Moved(Sampler):
    """Normal draws, shifted and stretched."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.space = Euclidean(dim)
        self.net = nn.Linear(dim, dim)

    def _rsample(self, shape: tuple[int, ...], context: Any, generator: Generator | None) -> Tensor:
        return self.net(torch.randn(*shape, self.dim, generator=generator))

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        raise NotImplementedError


def test_a_prior_moves_to_the_codes() -> None:
    """FlexAE: it answers the critic in its own turn, as does the encoder at a twentieth of the rate; under momentum 0, .9."""
    torch.manual_seed(0)
    model = recipes.flexae(2, 2, prior=Moved(2), hidden=(), critic=(32, 32))
    players = {p.name: p for p in model.players()}
    assert list(players) == ["critic", "encoder", "prior", "model"]
    assert [players[name].lr_scale for name in players] == [0.5, 0.05, 1.0, 1.0]
    assert players["critic"].repeat == 5
    for name in ("critic", "encoder", "prior"):
        build = players[name].optimizer
        assert build is not None
        assert build(list(players[name].parameters), 1e-3).defaults["betas"] == (0.0, 0.9)
    x = rows(600, 2).float() * 0.5 + 1
    before = model.evaluate(x)["mmd of codes"]
    fit(model, x, epochs=6, batch_size=40, lr=3e-2, seed=0, progress=False)
    assert model.evaluate(x)["mmd of codes"] < 0.3 * before


TOYS: dict[str, Any] = {
    "rae, l2": lambda: recipes.rae(6, 2, kind="l2", hidden=(8,)),
    "rae, gp": lambda: recipes.rae(6, 2, kind="gp", hidden=(8,)),
    "rae, none": lambda: recipes.rae(6, 2, kind="none", hidden=(8,), standardize=True),
    "injective": lambda: recipes.injective(6, 2, hidden=(8,)),
    "factor_vae": lambda: recipes.factor_vae(6, 2, hidden=(8,), ratio=(8,)),
    "vae_gan": lambda: recipes.vae_gan(6, 2, features=(8, 4), hidden=(8,)),
    "beta_tcvae": lambda: recipes.beta_tcvae(6, 2, 270, hidden=(8,), cost="gaussian"),
    "maskaae": lambda: recipes.maskaae(6, 3, hidden=(8,), critic=(8,)),
    "flexae": lambda: recipes.flexae(6, 2, prior=Moved(2), hidden=(8,), critic=(8,)),
}


@pytest.mark.parametrize("recipe", TOYS)
def test_recipes_train_and_take_another_prior(recipe: str) -> None:
    torch.manual_seed(0)
    model, x = TOYS[recipe](), rows(300, 6).sigmoid().float()
    history = fit(model, x, epochs=3, batch_size=90, lr=1e-2, seed=0, progress=False)
    assert history.rows[-1]["validation reconstruction"] < history.rows[0]["validation reconstruction"]
    mended = fit_prior(model, x)
    assert mended.sample(3).shape == (3, 6)
    assert mended.evaluate(x)["mmd of codes"] < 0.1


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "a weight below zero": (lambda: EmbeddingNorm(-1.0), ValueError, "EmbeddingNorm expects weight >= 0, got -1.0"),
    "beta below one": (lambda: recipes.beta_tcvae(4, 2, 100, beta=0.5), ValueError, "would raise"),
    "one row": (
        lambda: recipes.factor_vae(4, 2).loss(torch.rand(1, 4), player="density ratio"),
        ValueError,
        "TotalCorrelation needs two rows",
    ),
    "codes without coordinates' densities": (
        lambda: LatentModel(
            Pair(nn.Linear(3, 2), nn.Linear(2, 3), dim=3, latent_dim=2),
            StandardNormal(2),
            extras=[MinibatchTotalCorrelation(9)],
        ),
        TypeError,
        r"NoneType has not: take TotalCorrelation\(net\)",
    ),
    "a decoder without parameters": (
        lambda: LatentModel(
            Pair(nn.Linear(3, 3), nn.Identity(), dim=3, latent_dim=3), StandardNormal(3), extras=[DecoderL2()]
        ),
        ValueError,
        "has no parameters to hold",
    ),
    "a similarity of nothing": (
        lambda: recipes.vae(4, 2, cost=LearnedSimilarity()),
        TypeError,
        "needs one DataCritic among the extras of the model, got 0",
    ),
    "no layers": (lambda: Spectral(nn.Identity()), ValueError, "linear or convolutional layers, got Identity"),
    "an unknown kind": (lambda: recipes.rae(4, 2, kind="l1"), ValueError, "l2, gp, sn, none; got 'l1'"),  # type: ignore[arg-type]
    "a mask of a stochastic encoder": (
        lambda: recipes.maskaae(4, 2, stochastic=True),
        ValueError,
        "expects a deterministic auto-encoder",
    ),
    "a masked prior without a mask": (
        lambda: recipes.wae_mmd(4, 2, prior=MaskedPrior(StandardNormal(2))),
        ValueError,
        "a Masked auto-encoder to share its mask with, got Pair",
    ),
    "draws without a mask": (
        lambda: MaskedPrior(StandardNormal(2)).sample(),
        NotImplementedError,
        "no mask of its own",
    ),
    "a masked prior fitted": (
        lambda: MaskedPrior(StandardNormal(2)).loss(torch.rand(50, 2)),
        NotImplementedError,
        "has no log_prob to fit by",
    ),
    "polarisation of nothing": (
        lambda: LatentModel(
            recipes.networks(4, 2, stochastic=False)[0], StandardNormal(2), extras=[MaskPolarisation()]
        ),
        TypeError,
        "a Masked auto-encoder, a Critic of kind 'wgan-gp' as divergence in the model",
    ),
    "a mask that decides before it moves": (
        lambda: MaskPolarisation(moves=0.5, decides=0.2),
        ValueError,
        "expects shares moves <= decides < 1 of the steps, got 0.5 and 0.2",
    ),
    "counts of one row": (
        lambda: mask_counts(recipes.maskaae(4, 2).autoencoder, torch.rand(1, 4)),
        ValueError,
        "different masked codes",
    ),
    "a rate of a ratio below zero": (
        lambda: TotalCorrelation(nn.Linear(2, 1), rate=-1.0),
        ValueError,
        "rate >= 0, got -1",
    ),
    "two ratios": (
        lambda: TotalCorrelation(nn.Linear(2, 2)).ratio(torch.rand(5, 2)),
        ValueError,
        "TotalCorrelation expects a network with one output",
    ),
    "two verdicts": (
        lambda: DataCritic(nn.Linear(2, 3), nn.Linear(3, 2)).verdict(torch.rand(5, 2)),
        ValueError,
        "DataCritic expects a network with one output",
    ),
    "counts without a mask": (
        lambda: mask_counts(recipes.wae_mmd(4, 2).autoencoder, torch.rand(9, 4)),
        TypeError,
        "expects a Masked auto-encoder, got Pair",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("what", [*BAD])
def test_bad_input(what: str) -> None:
    call, kind, words = BAD[what]
    with pytest.raises(kind, match=words):
        call()
