"""Free-form flows against exact flows, closed forms and known limits; what they say of themselves; refusals."""

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import (
    Autoencoder,
    Chain,
    DiagonalNormal,
    Flow,
    FreeFormFlow,
    Pair,
    Standardize,
    StandardNormal,
    datasets,
    fit,
    load,
    save,
)
from geoflow.distributions import Uniform, VonMisesFisher, WrappedNormal
from geoflow.flows import realnvp
from geoflow.freeform import exact
from geoflow.nets import MLP
from manifolds import Hyperboloid, PoincareBall, Sphere, ball_to_hyperboloid
from tests.laws.examples import Stretch
from tests.laws.tools import close


def bent_flow(dim: int, **options: Any) -> Flow:
    """A RealNVP with random weights, on data of several scales."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = realnvp(dim, depth=4, hidden=(16,), activation="silu", **options).double()
        for p in flow.parameters():
            nn.init.normal_(p, std=0.3)
        first: Any = next(flow.bijection.children())[0]  # type: ignore[index]
        first.prepare(torch.randn(100, dim, dtype=torch.float64) * 3 + 1)
    return flow


class Linear(Autoencoder):
    """x ↦ Ax and back by B."""

    def __init__(self, there: Tensor, back: Tensor) -> None:
        super().__init__()
        self.there, self.back = nn.Parameter(there), nn.Parameter(back)
        self.dim, self.latent_dim = there.shape[1], there.shape[0]
        self.posterior = None

    def _encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x @ self.there.T

    def _decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z @ self.back.T


def nets(dim: int, latent: int, hidden: tuple[int, ...] = (16,)) -> Pair:
    return Pair(MLP(dim, latent, hidden, "silu"), MLP(latent, dim, hidden, "silu"), dim=dim, latent_dim=latent)


# -- against flows that know their volume ------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [0, 2])
def test_a_bijection_as_auto_encoder_is_its_flow(context: int, generator: Generator) -> None:
    """Densities, scores, both NLLs, and with all directions the gradient of the loss, whatever the surrogate."""
    flow = bent_flow(3, context=context)
    given = torch.randn(40, 2, dtype=torch.float64, generator=generator) if context else None
    x = flow.sample(40, generator=generator) if given is None else flow.sample((), given, generator)
    free = FreeFormFlow(flow.bijection, flow.base, probes="exact")
    close(free.log_prob(x, given), flow.log_prob(x, given), 1e-11)
    close(free.log_prob_decoder(x, given), flow.log_prob(x, given), 1e-11)
    close(free.score(x, given), flow.score(x, given), 1e-10)
    g = (Generator().manual_seed(5), Generator().manual_seed(5))
    close(free.sample(3, given, g[0]), flow.sample(3, given, g[1]), 1e-12)
    figures = free.evaluate(x, given)
    assert figures["nll encoder"] == pytest.approx(float(-flow.log_prob(x, given).detach().mean()), abs=1e-11)
    assert figures["nll decoder"] == pytest.approx(figures["nll encoder"], abs=1e-11)
    assert figures["inverse defect"] < 1e-12
    assert free.verdict(figures) is None
    parameters = [p for p in flow.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(flow.loss(x, given)["loss"], parameters)
    for kind in ("encoder", "conditional"):
        free = FreeFormFlow(flow.bijection, flow.base, probes="exact", beta=0, surrogate=kind)  # type: ignore[arg-type]
        for a, b in zip(torch.autograd.grad(free.loss(x, given)["loss"], parameters), wanted, strict=True):
            close(a, b, 1e-12)


def test_loss_leaves_the_batch_alone() -> None:
    free, x = FreeFormFlow(nets(3, 3), StandardNormal(3)), torch.randn(8, 3)
    free.loss(x)["loss"].backward()
    assert not x.requires_grad
    x.requires_grad_()
    free.loss(x)["loss"].backward()
    assert x.grad is None


# -- closed forms ------------------------------------------------------------------------------------------------------


def test_a_bottleneck_estimates_the_trace_it_says(generator: Generator) -> None:
    """Linear maps, all directions: the gradient of S in A is that of tr(A B) with B held."""
    a, b = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((2, 5), (5, 2)))
    model = FreeFormFlow(Linear(a, b), StandardNormal(2).double(), probes="exact", beta=0)
    x = torch.randn(30, 5, dtype=torch.float64, generator=generator)
    found = torch.autograd.grad(model.loss(x)["loss"], list(model.autoencoder.parameters()))[0]
    close(found, a @ (x.T @ x) / 30 - b.T, 1e-12)
    on = model.log_prob_on_manifold(x)
    z = x @ a.T
    close(on, StandardNormal(2).double().log_prob(z) - 0.5 * torch.logdet(b.T @ b), 1e-11)
    close(model.log_prob_decoder(x), on, 0.0)


def test_a_bottleneck_is_kept_by_its_reconstruction() -> None:
    """An untrained decoder draws a tiny surface, on which likelihoods are large: `fit` must not prefer it."""
    torch.manual_seed(0)
    decoder = MLP(1, 2, (16,), "silu")
    with torch.no_grad():
        decoder.layers[-1].weight.mul_(1e-3)  # type: ignore[operator]
    model = FreeFormFlow(Pair(MLP(2, 1, (16,), "silu"), decoder, dim=2, latent_dim=1), StandardNormal(1), beta=1.0)
    x = datasets.noisy_sine(2000, noise=0.1, seed=0).x
    start = model.evaluate(x)
    history = fit(model, x, epochs=12, batch_size=128, lr=5e-3, seed=0, progress=False)
    end = model.evaluate(x)
    assert start["nll on the manifold"] + start["reconstruction"] < end["nll on the manifold"] + end["reconstruction"]
    assert history.best is not None
    assert history.best["step"] > 0
    assert end["reconstruction"] < 0.5 * start["reconstruction"]


def test_linear_maximum_likelihood_autoencoder_finds_the_long_axis() -> None:
    """Data N(0, diag(1, 4)), one latent coordinate: encoder ±(0, ½), decoder ±(0, 2)."""
    x = math.sqrt(2) * torch.tensor([[1.0, 0], [-1, 0], [0, 2], [0, -2]])  # the covariance without sampling error
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FreeFormFlow(Linear(torch.randn(1, 2), torch.randn(2, 1)), StandardNormal(1), beta=10.0)
    optimiser = torch.optim.Adam(model.parameters(), 5e-2)
    for _ in range(1000):
        optimiser.zero_grad()
        model.loss(x)["loss"].backward()
        optimiser.step()
    there, back = (p.detach().flatten() for p in model.autoencoder.parameters())
    sign = torch.sign(back[1])
    assert (sign * there - torch.tensor([0.0, 0.5])).abs().max() < 0.02
    assert (sign * back - torch.tensor([0.0, 2.0])).abs().max() < 0.02


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_angular_central_gaussian(n: int, generator: Generator) -> None:
    """Uniform points pulled back through x ↦ Ax/|Ax| have density |det A| |Ax|^−(n+1) / area; so do draws and scores."""
    raw = torch.randn(n + 1, n + 1, dtype=torch.float64, generator=generator)
    matrix = torch.eye(n + 1, dtype=torch.float64) + 0.3 * raw
    space = Sphere(n)
    model = FreeFormFlow(Stretch(matrix), Uniform(space).double(), probes="exact")
    assert model.space == space
    x = space.sample_uniform(50, generator, torch.float64)
    closed = torch.logdet(matrix @ matrix.T) / 2 - (n + 1) * (x @ matrix.T).norm(dim=-1).log() - space.log_volume_total
    close(model.log_prob(x), closed, 1e-11)
    close(model.log_prob_decoder(x), closed, 1e-11)
    gradient = -(n + 1) * (x @ matrix.T @ matrix) / (x @ matrix.T).square().sum(-1, keepdim=True)
    close(model.score(x), space.to_tangent(x, gradient), 1e-10)
    everywhere = space.sample_uniform(40_000, generator, torch.float64)
    weight = (model.log_prob(everywhere).exp() * math.exp(space.log_volume_total)).detach()
    assert float(weight.mean()) == pytest.approx(1, abs=4 * float(weight.std()) / math.sqrt(40_000))
    drawn = model.sample(40_000, generator=generator) ** 2
    expected = weight[:, None] * everywhere**2
    error = torch.hypot(drawn.std(0), expected.std(0)) / math.sqrt(40_000)
    assert ((drawn.mean(0) - expected.mean(0)).abs() < 4.5 * error).all()
    loss = model.loss(model.sample(50_000, generator=generator))["loss"]
    optimum = torch.autograd.grad(loss, list(model.parameters()))
    assert optimum[0].abs().max() < 0.05


@pytest.mark.parametrize("home", [lambda x: x, ball_to_hyperboloid], ids=["ball", "hyperboloid"])
@torch.no_grad()
def test_mass_where_the_metric_is_not_the_embeddings(home: Any) -> None:
    """A network near the identity moves mass about: by quadrature over the disk it stays one."""
    nodes, w = np.polynomial.legendre.leggauss(120)
    radius, w = torch.from_numpy(0.9999 * (nodes + 1) / 2), torch.from_numpy(0.9999 * w / 2)
    angle = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    disk = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    volume = PoincareBall(2).log_volume(disk).exp() * (w * radius)[:, None] * (2 * math.pi / 64)
    space = PoincareBall(2) if home(disk[0]).shape[-1] == 2 else Hyperboloid(2)
    mean = home(torch.tensor([0.2, -0.1], dtype=torch.float64))
    n = space.ambient_dim
    with torch.random.fork_rng():
        torch.manual_seed(0)
        there = Pair(Nudge(n), Nudge(n), dim=n, latent_dim=n).double()
    model = FreeFormFlow(there, WrappedNormal(space, mean, 0.5))
    assert not torch.allclose(model.log_prob(home(disk)), model.base.log_prob(home(disk)), atol=0.05)
    assert float((model.log_prob(home(disk)).exp() * volume).sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_losses_know_the_metric(kind: Any, generator: Generator) -> None:
    """On the Poincaré ball, with linear maps that undo each other: the gradient is that of the exact volume change."""
    space = PoincareBall(2)
    a = torch.tensor([[0.7, 0.2], [-0.3, 0.6]], dtype=torch.float64)
    base = WrappedNormal(space, torch.zeros(2, dtype=torch.float64), 0.7).requires_grad_(False)
    model = FreeFormFlow(Linear(a, torch.linalg.inv(a)), base, beta=0, probes="exact", surrogate=kind)
    x = base.sample(50, generator=generator)
    there, back = list(model.autoencoder.parameters())
    found = torch.autograd.grad(model.loss(x)["loss"], [there, back], allow_unused=True, materialize_grads=True)
    if kind == "encoder":
        (wanted,) = torch.autograd.grad(-model.log_prob(x).mean(), there)
        close(found[0], wanted, 1e-11)
    else:
        z = model._to_latent(None)(x).detach()
        log_det = exact.log_det(model._to_data(None), z, space, space)[1]
        (wanted,) = torch.autograd.grad(log_det.mean(), back)
        close(found[1], wanted, 1e-11)


class Nudge(nn.Module):
    """x + net(x)/16, a bijection."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.net = MLP(n, n, (8,), "tanh")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x) / 16


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_fixed_base_is_met_by_draws_and_codes() -> None:
    """Data and base the same von Mises-Fisher: after training, draws and codes have its mean, 0.672.

    A surrogate scaled by the embedding's dimension trains towards another distribution.
    """
    space, kappa = Sphere(2), 3.0
    pole = torch.eye(3)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = VonMisesFisher(pole, kappa).requires_grad_(False)
        x = base.sample(10_000)
        model = FreeFormFlow(nets(3, 3, (32, 32)), base, beta=100.0, probes=1)
        fit(model, x, epochs=20, batch_size=256, lr=3e-3, seed=0, progress=False, patience=None)
        truth = float(base.mean_length())
        assert float(model.sample(20_000)[:, 0].mean()) == pytest.approx(truth, abs=0.02)
        assert float(space.project(model.autoencoder.encode(x))[:, 0].mean()) == pytest.approx(truth, abs=0.02)


def test_a_wrong_decoder_is_called_invalid(generator: Generator) -> None:
    """An encoder without a decoder that undoes it: its own figures say so, to `fit`'s user too."""
    x = torch.randn(200, 2, generator=generator)
    model = FreeFormFlow(nets(2, 2), StandardNormal(2), beta=0.0)
    said = model.verdict(model.evaluate(x))
    assert said is not None
    assert said.startswith("invalid: the encoder's density gives")
    with pytest.warns(UserWarning, match=r"fit: invalid: .*raise beta"):
        history = fit(model, x, epochs=1, seed=0, progress=False)
    assert history.verdict is not None
    narrow = FreeFormFlow(nets(3, 1), StandardNormal(1), beta=0.0)
    assert "its curvature may be running away" in str(narrow.verdict(narrow.evaluate(torch.randn(50, 3))))
    assert "a figure is not finite" in str(model.verdict({**model.evaluate(x), "loss": math.nan}))


def test_a_chain_measures_reconstruction_in_standardised_units(generator: Generator) -> None:
    """So that beta means the same whatever the units of the data; noise is in these units too."""
    x = torch.randn(500, 2, dtype=torch.float64, generator=generator) * torch.tensor([1e-3, 1e3])
    inside = nets(2, 2).double()
    model = FreeFormFlow(Chain(Standardize(2).double(), inside), StandardNormal(2).double(), noise=0.1)
    model.prepare(x)
    std = x.std(0, correction=0)
    z = (x - x.mean(0)) / std
    off = (inside.reconstruct(z) - z).square().sum(-1).mean().detach()
    assert model.evaluate(x)["reconstruction"] == pytest.approx(float(off), rel=1e-2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = (model._noisy(x) - x) / std
    assert noise.std(0) == pytest.approx(torch.full((2,), 0.1, dtype=torch.float64), rel=0.2)


def test_auxiliary_terms_are_what_they_are_called(generator: Generator) -> None:
    """Zero for exact inverses on their spaces, and each changes the loss by its weight times its value."""
    flow = bent_flow(2)
    x = flow.sample(20, generator=generator)
    names = ("z_sample_reconstruction", "x_sample_reconstruction", "z_reconstruction", "z_projection", "x_projection")
    closed = FreeFormFlow(flow.bijection, flow.base, **dict.fromkeys(names, 1.0)).loss(x)  # type: ignore[arg-type]
    assert all(float(closed[name]) < 1e-20 for name in names)
    space = Sphere(2)
    y = space.sample_uniform(20, generator)
    parts = nets(3, 3)
    plain = FreeFormFlow(parts, Uniform(space), probes="exact")
    for name in names:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            terms = FreeFormFlow(parts, Uniform(space), probes="exact", **{name: 3.0}).loss(y)  # type: ignore[arg-type]
            torch.manual_seed(1)
            rest = plain.loss(y)
        assert float(terms[name]) > 0.01
        close(terms["loss"], rest["loss"] + 3 * terms[name], 1e-4)


def test_warm_up_raises_the_weight_of_the_likelihood() -> None:
    model, x = FreeFormFlow(nets(2, 2), StandardNormal(2), warm_up=0.5, beta=2.0), torch.randn(9, 2)
    shares = []
    for step in (0, 25, 50, 99):
        model.schedule(step, 100)
        terms = model.loss(x)
        shares.append(float((terms["loss"] - 2 * terms["reconstruction"]) / terms["latent loss"]))
    assert shares == pytest.approx([0, 0.5, 1, 1], abs=1e-4)


class Told(Autoencoder):
    """Decodes as far off as it is told β is from the lower of its bounds."""

    dim, latent_dim, context_dim, posterior = 2, 2, 1, None

    def _encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x

    def _decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        return z + 1 + context


def test_a_drawn_beta_weighs_the_rows_that_are_told_it(generator: Generator) -> None:
    """E β |xh − x|² with log β uniform on ± log 10 and xh − x = (1 + p, 1 + p), p = log β / log 10: the integral of
    10^p (1 + p)² over [−1, 1]. Outside of training all rows have one β, whose loss is that of a flow with this β."""
    model = FreeFormFlow(Told(), StandardNormal(2), beta=(0.1, 10.0), probes=1).double()
    x = torch.randn(200_000, 2, dtype=torch.float64, generator=generator)
    terms = model.loss(x)
    p = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    wanted = float(torch.trapezoid(10**p * (1 + p) ** 2, p))
    assert float(terms["loss"] - terms["latent loss"]) == pytest.approx(wanted, abs=0.2)  # five standard errors
    assert float(terms["reconstruction"]) == pytest.approx(8 / 3, abs=0.03)
    assert model.autoencoder is model.at_beta(1.0).autoencoder
    for beta, place in ((0.1, -1.0), (1.0, 0.0), (10.0, 1.0)):
        figures = model.at_beta(beta).evaluate(x[:100])
        assert figures["reconstruction"] == pytest.approx(2 * (1 + place) ** 2)
        assert figures["loss"] == pytest.approx(figures["nll encoder"] + beta * 2 * (1 + place) ** 2)
    assert model.evaluate(x[:100]) == model.at_beta(10.0).evaluate(x[:100])


class Attention(nn.Module):
    """Of a point's coordinates to each other; torch's fused kernel has no forward derivatives."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.inside, self.outside = nn.Linear(1, 8), nn.Linear(8, 1)
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.inside(x[..., None])
        return x + self.outside(self.layer(tokens, tokens, tokens, need_weights=False)[0])[..., 0]


@pytest.mark.parametrize("kind", ["encoder", "conditional"])
def test_networks_without_forward_derivatives_are_trained_all_the_same(kind: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FreeFormFlow(Pair(Attention(4), Attention(4), dim=4, latent_dim=4), StandardNormal(4), surrogate=kind)
        x = torch.randn(64, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = model.loss(x)["loss"]
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters() if p.requires_grad)
        said = [str(w.message) for w in caught]
        assert any("lacks forward derivatives" in s for s in said)
        assert bool(model.log_prob(x).isfinite().all())


def test_files_and_other_bases(tmp_path: Any) -> None:
    model = FreeFormFlow(nets(2, 2), StandardNormal(2), beta=3.0, surrogate="conditional", probes=1, noise=0.1)
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    x = torch.randn(5, 2)
    assert torch.equal(again.log_prob(x), model.log_prob(x))
    assert (again.beta, again.surrogate, again.probes, again.noise) == (3.0, "conditional", 1, 0.1)
    other = model.with_base(DiagonalNormal.of(torch.ones(2), torch.ones(2)))
    assert other.autoencoder is model.autoencoder
    assert (other.beta, other.noise) == (3.0, 0.1)


def test_refusals(unchecked: None) -> None:
    pair, normal = nets(3, 3), StandardNormal(3)
    for make, words in (
        (lambda: FreeFormFlow(pair, StandardNormal(2)), "encodes to 3 coordinates, the base has 2"),
        (lambda: FreeFormFlow(nets(2, 3), normal), "codes would fill no volume there"),
        (
            lambda: FreeFormFlow(pair, normal, surrogate="both"),  # type: ignore[arg-type]
            "surrogate of encoder, decoder, conditional; got 'both'",
        ),
        (lambda: FreeFormFlow(pair, normal, beta=-1.0), "`beta` of at least zero, got -1.0"),
        (lambda: FreeFormFlow(pair, normal, beta="big"), "`beta` of at least zero, got 'big'"),  # type: ignore[arg-type]
        (lambda: FreeFormFlow(pair, normal, beta=(1.0, 10.0)), "one column of context more than it has itself"),
        (lambda: FreeFormFlow(Told(), StandardNormal(2), beta=(2.0, 1.0)), "two positive bounds, the lower first; got"),
        (lambda: FreeFormFlow(Told(), StandardNormal(2), beta=(1.0, 2.0)).at_beta(3.0), "beta from 1 to 2, got 3.0"),
        (lambda: FreeFormFlow(pair, normal).at_beta(3.0), "is for flows trained with two bounds"),
        (lambda: FreeFormFlow(pair, normal, beta_at=3.0), "beta_at=3.0 is for two bounds"),
        (lambda: FreeFormFlow(pair, normal, noise=math.nan), "`noise` of at least zero"),
        (lambda: FreeFormFlow(pair, normal, probes=4), "1 to 3 orthonormal ones"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="expects an Autoencoder, got MLP: Pair"):
        FreeFormFlow(MLP(3, 3), normal)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a Density as base, got Sphere"):
        FreeFormFlow(pair, Sphere(2))  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=r"log_prob_on_manifold\(x\).*LatentSpace"):
        FreeFormFlow(nets(3, 2), StandardNormal(2)).log_prob(torch.randn(4, 3))
    with pytest.raises(ValueError, match="off by up to"):
        FreeFormFlow(pair, Uniform(Sphere(2))).log_prob(torch.ones(4, 3))
    wide = FreeFormFlow(Pair(MLP(3, 3, (4,), "silu"), MLP(3, 4, (4,), "silu"), dim=3, latent_dim=3), normal)
    with pytest.raises(ValueError, match=r"decode gave shape \(2, 4\), expected \(2, 3\): flatten"):
        wide.loss(torch.randn(5, 3))
    with pytest.warns(UserWarning, match="ReLU bends nowhere"):
        FreeFormFlow(Pair(MLP(3, 3), MLP(3, 3), dim=3, latent_dim=3), normal)


def test_beta_finds_its_way(generator: Generator) -> None:
    """Steered, it falls where decode undoes encode anyway, and rises where it does not; its file brings it along."""
    flow = bent_flow(2)
    x = flow.sample(64, generator=generator)
    sure = FreeFormFlow(flow.bijection, flow.base, beta="auto")
    rough = FreeFormFlow(nets(2, 2).double(), StandardNormal(2).double(), beta="auto")
    for model in (sure, rough):
        model.train()
        for step in range(30):
            model.schedule(step, 30)
            model.loss(x)
    assert sure._beta == pytest.approx(100 * math.exp(-0.3), rel=1e-5)
    assert rough._beta > 100
    narrow = FreeFormFlow(nets(3, 1), StandardNormal(1), beta="auto")
    narrow.schedule(0, 100)
    y = torch.randn(9, 3, generator=generator)
    terms = narrow.loss(y)
    close(terms["loss"], 100 * terms["reconstruction"], 1e-3)
    narrow.schedule(50, 100)
    assert float(narrow.loss(y)["loss"]) != pytest.approx(100 * float(terms["reconstruction"]))


# -- geomstats ---------------------------------------------------------------------------------------------------------

SPD = """
import torch
from geoflow import FreeFormFlow, Pair
from geoflow.distributions import WrappedNormal
from geoflow.freeform import exact
from geoflow.freeform.probes import Probes, probes_for
from manifolds import from_geomstats
from tests.laws.test_freeform import Tilt, estimated
from tests.oracles.test_freeform import Nudge
def make():
    from geomstats.geometry.spd_matrices import SPDMatrices
    return SPDMatrices(3)
space, g = from_geomstats(make), torch.Generator().manual_seed(0)
base = WrappedNormal(space, torch.eye(3, dtype=torch.float64).flatten(), 0.4)
x, tilt = base.sample(4, generator=g), Tilt(space)
truth = tilt.gradient(exact.log_det(tilt.encode, x, space, space, forward=False)[1].sum())
found = tilt.gradient(estimated(tilt, x, probes_for(space, "exact"), "encoder").sum())
assert truth.norm() > 1 and (found - truth).abs().max() < 1e-10
many = [tilt.gradient(estimated(tilt, x.repeat(100, 1), Probes(6), "encoder", g).mean()) for _ in range(10)]
ratio = torch.stack(many) @ (4 * truth) / (truth @ truth)
assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / 10**0.5 and ratio.std() < 0.1
model = FreeFormFlow(Pair(Nudge(9), Nudge(9), dim=9, latent_dim=9).double(), base)
b, h = space.tangent_basis(x)[..., 2], 1e-4
up, down = (model.log_prob(space.exp(x, s * h * b)) for s in (1, -1))
assert (space.inner(x, model.score(x), b) - (up - down) / (2 * h)).abs().max() < 1e-6
"""


def test_spd_matrices_of_geomstats() -> None:
    """Unbiased and exact there too, where forward derivatives of eigenvalues are not finite, by backward ones."""
    environment = {k: v for k, v in os.environ.items() if k != "GEOMSTATS_BACKEND"} | {"GEOFLOW_SHAPES": "unchecked"}
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", SPD], capture_output=True, text=True, env=environment, cwd=root, timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
