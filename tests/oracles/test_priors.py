"""Priors of codes, and posteriors of shares, against closed forms, grids and their own draws."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, distributions, nn

from geoflow import DiagonalNormal, GaussianMixture, Inverse, Pair, StandardNormal, fit, load, save
from geoflow.autoencoders import (
    KL,
    MMD,
    DirichletPosterior,
    FlowPosterior,
    GaussianPosterior,
    KumaraswamyPosterior,
    LatentModel,
    PushForward,
    RatioPrior,
    ResampledPrior,
    StickBreaking,
    Topics,
    VampPrior,
    decoded_topics,
    fit_prior,
    recipes,
    responsibilities,
    shares,
    softmax_normal,
)
from geoflow.density import Density
from geoflow.distributions import Dirichlet
from geoflow.flows import Autoregressive, maf, nsf, realnvp
from geoflow.nets import MLP
from manifolds import Simplex
from tests.oracles.test_latent import principal, rows, shaken


def within(values: Tensor, wanted: Any, errors: float = 4.5) -> bool:
    """Whether means of columns are what they should be, within standard errors."""
    off = (values.mean(0) - torch.as_tensor(wanted, dtype=values.dtype)).abs()
    return bool((off < errors * values.std(0) / math.sqrt(len(values))).all())


# -- posteriors of shares ----------------------------------------------------------------------------------------------


def test_kl_of_dirichlets_is_closed() -> None:
    posterior = DirichletPosterior(nn.Identity(), 2, 2)
    a, b = torch.tensor([2.0, 3.0], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    found = posterior.kl(a.log(), Dirichlet(b))
    assert found is not None
    assert float(found.detach()) == pytest.approx(math.log(12) - 2.25, abs=1e-12)
    a, b = rows(7, 4).exp(), rows(1, 4, 1)[0].exp()
    wanted = distributions.kl_divergence(distributions.Dirichlet(a), distributions.Dirichlet(b))
    found = DirichletPosterior(nn.Identity(), 4, 4).kl(a.log(), Dirichlet(b))
    torch.testing.assert_close(found, wanted)
    assert posterior.kl(torch.zeros(2), StandardNormal(2)) is None


def test_draws_of_dirichlets_and_their_derivatives() -> None:
    """Var r_1 of Dir(1, 1) is 1/12; the gradient of E r_1² in a is that of a_1 (a_1 + 1)/(A (A + 1)) to 1 %."""
    posterior, g = DirichletPosterior(nn.Identity(), 2, 2), Generator().manual_seed(0)
    r, _ = posterior.draw(torch.zeros(100_000, 2, dtype=torch.float64), g)
    assert float(r[:, 0].var()) == pytest.approx(1 / 12, rel=0.02)
    for start in ([1.0, 1.0], [0.3, 0.8]):
        log_a = torch.tensor(start, dtype=torch.float64).log().requires_grad_()
        a = log_a.exp()
        exact = a[0] * (a[0] + 1) / (a.sum() * (a.sum() + 1))
        r, _ = posterior.draw(log_a.expand(200_000, 2), g)
        drawn = r[:, 0].square().mean()
        (wanted,), (found,) = torch.autograd.grad(exact, log_a), torch.autograd.grad(drawn, log_a)
        torch.testing.assert_close(found, wanted, rtol=0.01, atol=0)


def test_softmaxes_of_normals_are_near_dirichlets() -> None:
    """All log ratios have the moments of the Dirichlet's; Laplace's approximation has half of the variance."""
    a = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
    normal = softmax_normal(a)
    r = Dirichlet(a).sample(40_000, generator=Generator().manual_seed(0)).log()
    ratios = r[:, :1] - r[:, 1:]
    mean, variance = normal.mean, (2 * normal.log_std).exp()
    assert within(ratios, mean[:1] - mean[1:])
    assert within((ratios - ratios.mean(0)).square(), variance[:1] + variance[1:])
    assert not any(p.requires_grad for p in normal.parameters())
    g = Generator().manual_seed(1)
    flat = torch.ones(2, dtype=torch.float64)
    spread = [float(softmax_normal(flat, m).sample(40_000, generator=g).softmax(-1)[:, 0].var()) for m in MOMENTS]
    assert spread == pytest.approx([0.0890, 0.0430], rel=0.03)


MOMENTS: Any = ("exact", "laplace")


def test_kl_of_kumaraswamy_and_beta() -> None:
    """Against Beta's own at a = 1, against draws, and finite with its gradient at the ends of its bounds."""
    posterior = KumaraswamyPosterior(nn.Identity(), 2, 1)
    one = torch.ones((), dtype=torch.float64)
    for alpha in (0.4, 5.0):
        prior = StickBreaking(2, alpha).double()
        log_b = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
        wanted = distributions.kl_divergence(distributions.Beta(one, log_b[:, 0].exp()), distributions.Beta(one, alpha))
        found = posterior.kl(torch.cat([torch.zeros_like(log_b), log_b], 1), prior)
        assert found is not None
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        theta = torch.tensor([[1.2, -0.7], [-0.9, 1.5], [2.0, 2.0]], dtype=torch.float64)
        z, log_q = posterior.draw(theta.expand(40_000, 3, 2), Generator().manual_seed(1))
        torch.testing.assert_close(log_q, posterior.log_q(theta, z), rtol=1e-7, atol=1e-7)
        closed = posterior.kl(theta, prior)
        assert within(log_q - prior.log_prob(z), closed)
    for dtype in (torch.float32, torch.float64):
        ends = torch.cartesian_prod(torch.tensor([-7.0, 0, 7]), torch.tensor([-7.0, 0, 7])).to(dtype).requires_grad_()
        z, log_q = posterior.draw(ends.expand(200, 9, 2), Generator().manual_seed(1))
        total = posterior.kl(ends, prior).sum() + log_q.sum() + posterior.log_q(ends, z).sum()  # type: ignore[union-attr]
        (slope,) = torch.autograd.grad(total, ends)
        assert total.isfinite()
        assert slope.isfinite().all()


def test_sticks() -> None:
    """Shares are the fractions' products, sum to one where fractions round, and have the expected sizes."""
    u = rows(50, 3)
    v = u.sigmoid()
    wanted = torch.stack([v[:, 0], v[:, 1] * (1 - v[:, 0]), v[:, 2] * (1 - v[:, 0]) * (1 - v[:, 1])], 1)
    torch.testing.assert_close(shares(u)[:, :3], wanted)
    torch.testing.assert_close(shares(100 * u.float()).sum(-1), torch.ones(50))
    prior = StickBreaking(4, 2.0).double()
    r = shares(prior.sample(40_000, generator=Generator().manual_seed(0)))
    assert within(r, [1 / 3, 2 / 9, 4 / 27, 8 / 27])


# -- priors ------------------------------------------------------------------------------------------------------------


def vamp(**options: Any) -> VampPrior:
    """Three components of an encoder that tells its rows apart."""
    prior = VampPrior(3, 2, 3, **options)
    posterior = GaussianPosterior(MLP(3, 4, (8,), "tanh"), 3, 2)
    LatentModel(Pair(None, MLP(2, 3), posterior, dim=3, latent_dim=2), prior)
    shaken(posterior)
    prior.start_at(rows(50, 3))
    return shaken(prior)


def steep(by: float) -> Any:
    """A network whose outputs range over some units."""
    net = shaken(MLP(2, 1, (8,), "tanh"))
    with torch.no_grad():
        net.layers[-1].weight.mul_(by)
    return net


def carried() -> VampPrior:
    """The same of posteriors that a flow has bent."""
    prior = VampPrior(3, 2, 3)
    posterior = FlowPosterior(nsf(2, depth=2, hidden=(8,)).bijection, GaussianPosterior(MLP(3, 4, (8,)), 3, 2))
    LatentModel(Pair(None, MLP(2, 3), posterior, dim=3, latent_dim=2), prior)
    shaken(posterior)
    prior.start_at(rows(50, 3))
    return shaken(prior)


PRIORS: dict[str, Callable[[], Density]] = {
    "VampPrior": vamp,
    "VampPrior, learned, bounded": lambda: vamp(weights="learned", bounded=True),
    "ResampledPrior": lambda: ResampledPrior(StandardNormal(2), steep(4.0), 2),
    "ResampledPrior, long": lambda: ResampledPrior(DiagonalNormal(2), steep(4.0)),
    "RatioPrior": lambda: RatioPrior(StandardNormal(2), steep(2.0)),
    "StickBreaking": lambda: StickBreaking(3, 2.0),
    "StandardNormal": lambda: StandardNormal(2),
    "DiagonalNormal": lambda: shaken(DiagonalNormal(2)),
    "GaussianMixture": lambda: GaussianMixture.of(
        torch.tensor([1.0, 3.0]), rows(2, 2), torch.tensor([[[2.0, 0.5], [0.5, 0.4]], [[0.3, 0.0], [0.0, 1.0]]])
    ),
    "softmax_normal": lambda: softmax_normal([0.9, 2.0]),
    "Dirichlet": lambda: Dirichlet([1.5, 2.0, 4.0]),
    "coupling flow": lambda: shaken(realnvp(2, depth=2, hidden=(8,))),
    "spline flow": lambda: shaken(nsf(2, depth=2, hidden=(8,))),
    "autoregressive flow": lambda: shaken(maf(2, depth=2, hidden=(8,))),
    "VampPrior of a flow's posteriors": carried,
}


def plane(prior: Density) -> tuple[Tensor, float]:
    """Points all over the plane that a prior lives on, and the area that each stands for."""
    if isinstance(prior.space, Simplex):
        side = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
        r = torch.cartesian_prod(side, side)
        r = torch.cat([r, 1 - r.sum(1, keepdim=True)], 1)
        return r[r[:, 2] > 1e-9], math.sqrt(3) / 400**2
    side = torch.linspace(-12, 12, 201, dtype=torch.float64)
    return torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2


@pytest.mark.parametrize("name", PRIORS)
@torch.no_grad()
def test_priors_have_mass_one_and_draws_of_their_own(name: str) -> None:
    """On a grid; and coordinates, squares, products and log p have the means there that they have over draws."""
    torch.manual_seed(0)
    prior = PRIORS[name]().double().eval()
    prior.finish(rows(10, 2))
    z = prior.sample(8000, generator=Generator().manual_seed(1))
    grid, area = plane(prior)
    cell = prior.log_prob(grid).exp() * area
    assert float(cell.sum()) == pytest.approx(1, abs=0.01)

    def features(z: Tensor) -> Tensor:
        return torch.cat([z, z.abs().clamp(max=1), z.prod(1, keepdim=True), prior.log_prob(z)[:, None]], 1)

    assert within(features(z), (cell[:, None] * features(grid)).sum(0) / cell.sum())


def test_vampprior_is_the_mixture_of_posteriors() -> None:
    prior = vamp(weights="learned")
    posterior = prior._mixes[0].posterior
    assert isinstance(posterior, GaussianPosterior)
    mean, log_std = posterior.numbers(prior.pseudo).chunk(2, -1)
    parts = distributions.Independent(distributions.Normal(mean, log_std.exp()), 1)
    wanted = distributions.MixtureSameFamily(distributions.Categorical(logits=prior.logits), parts)
    z = rows(9, 2, 3)
    torch.testing.assert_close(prior.log_prob(z), wanted.log_prob(z))
    assert within(prior.sample(20_000, generator=Generator().manual_seed(0)), wanted.mean.detach())


def test_vampprior_shares_its_encoder_in_files_and_copies(tmp_path: Path) -> None:
    x = rows(300, 4).float().sigmoid()
    model = recipes.vampprior(4, 2, components=5, hidden=(8,))
    before = {id(p) for p in model.parameters()}
    fit(model, x, epochs=2, seed=0, progress=False)
    assert {id(p) for p in model.parameters()} == before
    assert [n for n in model.state_dict() if n.startswith("prior")] == ["prior.raw"]
    save(model, tmp_path / "model.safetensors")
    z = rows(6, 2).float()
    for other in (load(tmp_path / "model.safetensors"), copy.deepcopy(model)):
        prior: Any = other.prior
        assert prior._mixes[0] is other.autoencoder
        assert other.autoencoder is not model.autoencoder
        was = prior.log_prob(z)
        torch.testing.assert_close(was, model.prior.log_prob(z))  # type: ignore[operator]
        for w in other.autoencoder.encoder_parameters():
            w.data.mul_(1.5)
        assert not torch.equal(prior.log_prob(z), was)


def test_pseudo_inputs_start_at_rows_and_stay_grey() -> None:
    x = rows(40, 4).sigmoid().float()
    model = recipes.vampprior(4, 2, components=30, hidden=(8,))
    model.prepare(x)
    prior: Any = model.prior
    assert float(torch.cdist(prior.pseudo, x).amin(1).detach().max()) < 0.1
    assert len(torch.cdist(prior.pseudo, x).argmin(1).unique()) == 30
    prior.raw.data.add_(rows(30, 4).float() * 3)
    low, high = prior.pseudo.detach().aminmax()
    assert 0 <= float(low) < float(high) <= 1


def test_pseudo_inputs_do_not_depend_on_the_unit_of_the_data() -> None:
    """Twenty steps on rows, and on a thousand times the rows: a thousand times the pseudo-inputs, equally far from the start."""
    found = []
    for unit in (1.0, 1000.0):
        torch.manual_seed(0)
        model: Any = recipes.vampprior(4, 2, components=5, cost="gaussian", hidden=(8,), standardize=True)
        x = unit * (3 + rows(100, 4))
        fit(model, x, epochs=5, batch_size=25, lr=1e-2, validation=0, seed=0, progress=False)
        found.append(model.prior.pseudo.detach() / unit)
        assert float((found[-1][:, None] - x / unit).abs().amax(-1).amin()) > 0.02, "they have moved"
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-3)


def test_a_constant_acceptance_changes_nothing() -> None:
    """Neither the density nor, in training, its gradient: what Z gives and what a gives cancel."""
    accept = nn.Linear(2, 1).double()
    nn.init.zeros_(accept.weight)
    prior, z = ResampledPrior(StandardNormal(2), accept, 4).double(), rows(5, 2)
    log_p = prior.log_prob(z)
    torch.testing.assert_close(log_p, StandardNormal(2).log_prob(z))
    assert accept.bias is not None
    (slope,) = torch.autograd.grad(log_p.sum(), accept.bias)
    assert float(slope.abs()) < 1e-12


def test_a_ratio_is_learned_from_rows_and_in_turns() -> None:
    x = 0.6 * rows(1500, 1).float() + 1
    torch.manual_seed(0)
    prior = RatioPrior(StandardNormal(1), MLP(1, 1, (32,), "tanh"))
    fit(prior, x, epochs=25, batch_size=100, lr=1e-2, seed=0, progress=False)
    exact = distributions.Normal(1.0, 0.6)
    new = exact.sample((4000, 1))
    assert float((exact.log_prob(new[:, 0]) - prior.log_prob(new)).mean().detach()) == pytest.approx(0, abs=0.03)
    model = recipes.implicit_optimal(4, 2, hidden=(8,), critic=(8,))
    turns = {p.name: {id(w) for w in p.parameters} for p in model.players()}
    inside: Any = model.prior
    assert [*turns] == ["ratio", "model"]
    assert turns["ratio"] == {id(w) for w in inside.critic.parameters()}
    assert not turns["ratio"] & turns["model"]
    assert model.loss(rows(5, 4).float().sigmoid(), player="ratio").keys() == {"loss"}


def test_a_ratio_prior_holds_codes_at_deviation_one() -> None:
    """By the gradient of KL(N(m, s²) ‖ N(0, I)) of a batch's own moments, in training; values are as without."""
    prior = RatioPrior(StandardNormal(2), steep(2.0), hold=True).double()
    z = (3 * rows(50, 2) + 1).requires_grad_()
    prior.loss(z.detach())
    slopes = []
    for training in (True, False):
        log_p = prior.train(training).log_prob(z)
        slopes.append(torch.autograd.grad(log_p.mean(), z)[0])
        torch.testing.assert_close(log_p, prior.base.log_prob(z) + prior.log_ratio(z) - prior.mass.log())
    m, variance = z.mean(0), z.var(0, correction=0)
    (wanted,) = torch.autograd.grad(0.5 * (m.square() + variance - variance.log()).sum(), z)
    torch.testing.assert_close(slopes[1] - slopes[0], wanted)


def test_pushed_noise_learns_by_draws() -> None:
    x = rows(300, 2).float() @ torch.tensor([[1.0, 0.5], [0.0, 0.2]]) + 2
    pair = Pair(nn.Identity(), nn.Identity(), dim=2, latent_dim=2)
    torch.manual_seed(0)
    model = LatentModel(pair, PushForward(MLP(3, 2, (16,)), 3, 2), divergence=MMD())
    before = model.evaluate(x)["mmd of codes"]
    assert fit_prior(model, x, model.prior, epochs=8, lr=2e-2, batch_size=50, progress=False).prior is model.prior
    assert model.evaluate(x)["mmd of codes"] < 0.2 * before
    with pytest.raises(TypeError, match="PushForward can only be sampled: take MMD or a critic"):
        recipes.vae(4, 2, prior=PushForward(MLP(3, 2), 3, 2))


def test_draws_of_a_prior_that_is_a_model_tighten_its_bound() -> None:
    x = rows(300, 3)
    inner, pca = principal(rows(400, 2) @ rows(2, 2, 3), 1)
    with torch.no_grad():
        inner.get_parameter("autoencoder.posterior.net.bias")[1:] += 0.7  # posteriors that are too wide
    posterior = shaken(GaussianPosterior(MLP(3, 4, (8,)), 3, 2))
    model = LatentModel(Pair(None, MLP(2, 3), posterior, dim=3, latent_dim=2).double(), inner)
    batch, _ = model._batch(x)
    assert batch.log_q is not None
    exact = batch.log_q - torch.as_tensor(pca.score_samples(batch.z.detach().numpy()))
    one, many = (float((KL(draws=k)(batch) - exact).mean().detach()) for k in (1, 32))
    assert 0 < many < 0.3 * one
    loose, tight = (LatentModel(model.autoencoder, inner, divergence=KL(draws=k)) for k in (1, 32))
    first, second, again = (m.log_prob_bound(x, 1, Generator().manual_seed(0)) for m in (loose, tight, tight))
    assert float((second - first).mean()) == pytest.approx(one - many, rel=0.2)
    assert torch.equal(second, again)


def test_a_hierarchical_prior_starts_as_the_standard_normal() -> None:
    """Its decoder gives zeros and its noise is one, whatever the inner encoder is."""
    torch.manual_seed(0)
    model = recipes.hierarchical(4, 2, top=3, cost="gaussian", hidden=(8,))
    z = model.prior.sample_noisy(10_000, generator=Generator().manual_seed(0))
    assert within(torch.cat([z, z.square(), z.prod(1, keepdim=True)], 1), [0.0, 0.0, 1.0, 1.0, 0.0])
    bound = model.prior.log_prob_bound(z, 20)  # type: ignore[operator]
    assert float((bound - StandardNormal(2).log_prob(z)).mean()) == pytest.approx(0, abs=0.05)


# -- recipes -----------------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"hidden": (16,)}
MODELS: dict[str, Callable[[], LatentModel]] = {
    "vampprior": lambda: recipes.vampprior(6, 2, components=20, **SMALL),
    "resampled": lambda: recipes.resampled(6, 2, accept=(16,), draws=200, **SMALL),
    "implicit_optimal": lambda: recipes.implicit_optimal(6, 2, critic=(16,), **SMALL),
    "stick_breaking": lambda: recipes.stick_breaking(6, 4, **SMALL),
    "gmvae": lambda: recipes.gmvae(6, 2, components=3, cost="gaussian", **SMALL),
    "dirichlet_vae": lambda: recipes.dirichlet_vae(6, 3, **SMALL),
    "dirichlet_vae, softmax": lambda: recipes.dirichlet_vae(6, 3, kind="softmax-gaussian", moments="laplace", **SMALL),
    "hierarchical": lambda: recipes.hierarchical(6, 3, top=1, draws=4, cost="gaussian", **SMALL),
    "flow_vae": lambda: recipes.flow_vae(
        6, 2, prior=realnvp(2, depth=2, hidden=(8,)), posterior=Inverse(Autoregressive(2, hidden=(8,))), **SMALL
    ),
}


def mixed(n: int) -> tuple[Tensor, Tensor]:
    """Rows of six shares from three sources, and which."""
    g = Generator().manual_seed(0)
    k = torch.randint(3, (n,), generator=g)
    centers = 2.5 * torch.eye(3).repeat_interleave(2, 1)
    return torch.softmax(centers[k] + 0.5 * torch.randn(n, 6, generator=g), -1), k


@pytest.mark.parametrize("name", MODELS)
def test_recipes_train(name: str, tmp_path: Path) -> None:
    """A few steps lower the objective on held-out rows; draws look like rows; files hold all of it."""
    x, _ = mixed(600)
    torch.manual_seed(0)
    model = MODELS[name]()
    before = model.evaluate(x[500:])["loss"]
    fit(model, x[:500], epochs=3, batch_size=50, lr=5e-3, validation=x[500:], seed=0, progress=False)
    after = model.evaluate(x[500:])
    assert after["loss"] < before - 0.1
    assert model.sample(5).shape == (5, 6)
    assert model.log_prob_bound(x[:3], 2).isfinite().all()
    save(model, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").evaluate(x[500:]) == after


def test_a_mixture_as_prior_tells_classes() -> None:
    x, k = mixed(600)
    torch.manual_seed(0)
    model = recipes.gmvae(6, 2, components=3, cost="gaussian", standardize=True, hidden=(32,))
    fit(model, x, epochs=15, batch_size=50, lr=5e-3, seed=0, progress=False)
    r = responsibilities(model, x)
    torch.testing.assert_close(r.sum(1), torch.ones(600))
    own = [int((k[r.argmax(1) == j]).bincount(minlength=1).max()) for j in range(3) if bool((r.argmax(1) == j).any())]
    assert sum(own) > 0.9 * 600


def test_columns_are_topics() -> None:
    """A share of one decodes to its topic alone."""
    model = recipes.dirichlet_vae(6, 3, hidden=(8,))
    topics = [m for m in model.modules() if isinstance(m, Topics)]
    torch.testing.assert_close(model.autoencoder.decode(torch.eye(3)), topics[0].topics())


def test_perceptrons_are_shown_shares_of_order_one() -> None:
    """k r − 1, also at the corners, which are the topics of a broken stick."""
    model = recipes.stick_breaking(6, 3, hidden=(8,))
    ends: Any = model.autoencoder.autoencoder.decoder  # type: ignore[union-attr]
    z = rows(5, 2).float()
    wanted = ends.net(3 * shares(z) - 1).sigmoid()
    torch.testing.assert_close(model.autoencoder.decode(z), wanted)
    corners = model.autoencoder.decode(torch.tensor([[50.0, 0.0], [-50.0, 50.0], [-50.0, -50.0]]))
    torch.testing.assert_close(decoded_topics(model).decoded, corners)


@pytest.mark.parametrize("kind", ["dirichlet", "softmax-gaussian"])
def test_topics_start_near_the_mean_row(kind: Any) -> None:
    """Exactly at it, one uniform row added, where weights are zero; and what was learned is not lost by a second `fit`."""
    x = torch.softmax(3 * rows(50, 6).float(), -1) * (torch.arange(6) > 0)
    x = x / x.sum(1, keepdim=True)
    model = recipes.dirichlet_vae(6, 3, kind=kind, hidden=(8,))
    (topics,) = (m for m in model.modules() if isinstance(m, Topics))
    weight = topics.weight.detach().clone()
    for _ in range(2):
        model.prepare(x)
        assert torch.equal(topics.weight, weight)
        torch.testing.assert_close(topics.common.exp(), torch.cat([x, torch.full((1, 6), 1 / 6)]).mean(0))
    torch.nn.init.zeros_(topics.weight)
    decoded = model.autoencoder.decode(model.codes(x[:2]))
    torch.testing.assert_close(decoded, topics.common.exp().expand(2, 6))


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no encoder yet": (
        lambda: VampPrior(4, 2).log_prob(torch.zeros(1, 2)),
        NotImplementedError,
        "VampPrior has no encoder yet: give it to a LatentModel",
    ),
    "an encoder without posteriors": (
        lambda: recipes.wae_mmd(4, 2, prior=VampPrior(4, 2, 5)),
        TypeError,
        "give it a stochastic encoder",
    ),
    "pseudo-inputs of another width": (
        lambda: recipes.vae(4, 2, prior=VampPrior(3, 2, 5)),
        ValueError,
        "pseudo-inputs of 3 coordinates, the data 4",
    ),
    "a start of another kind": (lambda: VampPrior(4, 2, start="data"), ValueError, "got 'data'"),  # type: ignore[arg-type]
    "weights of another kind": (lambda: VampPrior(4, 2, weights="free"), ValueError, "got 'free'"),  # type: ignore[arg-type]
    "one trial": (
        lambda: ResampledPrior(StandardNormal(2), MLP(2, 1), truncation=1),
        ValueError,
        "truncation",
    ),
    "a base with context": (lambda: RatioPrior(realnvp(2, context=1), MLP(2, 1)), ValueError, "without context"),
    "weights under MMD": (
        lambda: PushForward(MLP(2, 2), 2, 2).loss(torch.rand(5, 2), weight=torch.ones(5)),
        ValueError,
        "rows cannot have weights",
    ),
    "no concentration": (lambda: StickBreaking(3, 0.0), ValueError, "concentration > 0, got 0"),
    "one share": (lambda: StickBreaking(1), ValueError, "k"),
    "a negative concentration": (lambda: softmax_normal([1.0, -1.0]), ValueError, "two positive concentrations"),
    "an unknown kind": (lambda: recipes.dirichlet_vae(4, 2, kind="normal"), ValueError, "got 'normal'"),  # type: ignore[arg-type]
    "no mixture": (lambda: responsibilities(recipes.vae(4, 2), torch.rand(3, 4)), TypeError, "got StandardNormal"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("what", [*BAD])
def test_bad_input(what: str) -> None:
    call, kind, words = BAD[what]
    with pytest.raises(kind, match=words):
        call()


def test_mixtures_are_trained_as_priors() -> None:
    """On its own a mixture takes no steps; as a prior it does."""
    model = recipes.gmvae(6, 2, components=3)
    assert isinstance(model.prior, GaussianMixture)
    assert not model.prior.players()
    (player,) = model.players()
    assert {id(w) for w in model.prior.parameters()} <= {id(w) for w in player.parameters}
