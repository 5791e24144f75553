"""Student's t, orthogonal maps, bases of flows and embedded conditions, against scipy, numpy and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor, nn

from geoflow import (
    ClassConditional,
    DiagonalNormal,
    Flow,
    FreeFormFlow,
    GaussianMixture,
    Pair,
    Positive,
    Standardize,
    StandardNormal,
    fit,
    load,
    save,
)
from geoflow.distributions import StudentT
from geoflow.embedded import Embedded
from geoflow.flows import OnColumns, OrthogonalLinear, realnvp
from geoflow.nets import MLP, ResidualNet
from tests.laws.tools import close

# -- Student's t -------------------------------------------------------------------------------------------------------


def heavy(n: int, seed: int = 0) -> Tensor:
    """Rows of two independent t of 2.5 and 6 degrees of freedom."""
    g = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([3 + 0.5 * g.standard_t(2.5, n), -1 + 4 * g.standard_t(6, n)], 1))


def test_student_t_is_scipys(generator: Generator) -> None:
    """log p, entropy and draws, for few and for many degrees of freedom."""
    mean, scale, dof = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, -2.0, 0], [0.5, 3, 1], [2.5, 30, 1e7]))
    ours = StudentT.of(mean, scale, dof)
    theirs = [stats.t(float(n), float(m), float(s)) for m, s, n in zip(mean, scale, dof, strict=True)]
    x = 5 * torch.randn(50, 3, dtype=torch.float64, generator=generator)
    x[0] = 1e9
    wanted = sum(t.logpdf(column) for t, column in zip(theirs, x.T.numpy(), strict=True))
    np.testing.assert_allclose(ours.log_prob(x).detach(), wanted, rtol=1e-8)  # scipy's own error at dof 1e7
    assert float(ours.entropy().detach()) == pytest.approx(sum(t.entropy() for t in theirs), rel=1e-8)
    for t, column in zip(theirs, ours.sample(20_000, generator=generator).T.numpy(), strict=True):
        assert stats.kstest(column, t.cdf).pvalue > 1e-3
    single = ours.float().log_prob(x.float())
    np.testing.assert_allclose(single.detach(), wanted, rtol=1e-5)


def test_student_t_is_fitted_as_scipy_does() -> None:
    """The maximum of the likelihood, and with ν held the maximum under it."""
    x = heavy(2000)
    ours = StudentT.from_data(x)
    theirs = [stats.t(*stats.t.fit(column)) for column in x.T.numpy()]
    best = sum(t.logpdf(column).mean() for t, column in zip(theirs, x.T.numpy(), strict=True))
    assert best - 1e-7 < float(ours.log_prob(x).detach().mean()) < best + 1e-5
    held = StudentT.from_data(x, dof=4.0, learned=False)
    close(held.dof, torch.full((2,), 4.0, dtype=torch.float64), 1e-6)
    theirs = [stats.t(*stats.t.fit(column, fdf=4.0)) for column in x.T.numpy()]
    best = sum(t.logpdf(column).mean() for t, column in zip(theirs, x.T.numpy(), strict=True))
    assert float(held.log_prob(x).detach().mean()) == pytest.approx(best, abs=1e-6)
    assert "log_excess" not in dict(held.named_parameters())


def test_recipes_take_it_as_a_base() -> None:
    """On heavy tails a flow with this base is within 0.02 nats of the truth, and one with a normal base is not."""
    train, test = heavy(4000), heavy(4000, seed=1)
    t = StudentT.of(*(torch.tensor(v, dtype=torch.float64) for v in ([3.0, -1.0], [0.5, 4.0])), [2.5, 6.0])
    truth = t.log_prob(test).detach().mean()
    gaps = []
    for base in (StudentT(2), None):
        torch.manual_seed(0)
        flow = realnvp(2, base=base, depth=2, hidden=(16,)).double()
        flow.bijection.parts = nn.ModuleList([p for p in flow.bijection.parts if type(p).__name__ != "Reflection"])
        fit(flow, train, epochs=8, seed=0, progress=False)
        gaps.append(float(truth - flow.log_prob(test).detach().mean()))
    assert -0.005 < gaps[0] < 0.02
    assert gaps[1] > 0.06


def test_student_t_refusals(unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"expects dof > 2, where variances exist, got \[2.0\]"):
        StudentT(1, dof=2.0)
    with pytest.raises(ValueError, match=r"`dof` as a number or shape \(2,\), got shape \(3,\)|got shape \(3,\)"):
        StudentT(2, dof=[3.0, 4.0, 5.0])
    with pytest.raises(ValueError, match="mean and positive scale of one shape"):
        StudentT.of(torch.zeros(2), torch.tensor([1.0, -1.0]), 5.0)
    with pytest.raises(ValueError, match="lower the temperature below 2"):
        StudentT(1, dof=5.0).tempered(2.0)


# -- orthogonal maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "reflections"), [(2, 1), (5, 5), (20, 7), (3, 8)])
def test_the_product_of_reflections(dim: int, reflections: int, generator: Generator) -> None:
    """By numpy, one after the other."""
    part = OrthogonalLinear(dim, reflections, generator).double()
    wanted = np.eye(dim)
    for v in part.vectors.detach().numpy():
        wanted = wanted - 2 * np.outer(v, v @ wanted) / (v @ v)
    np.testing.assert_allclose(part.matrix().detach(), wanted, atol=1e-13)
    assert float(torch.linalg.det(part.matrix().detach())) == pytest.approx((-1) ** reflections)


def test_training_leaves_it_orthogonal(dtype: torch.dtype, generator: Generator) -> None:
    """After 200 large steps of Adam, which take FrEIA's OrthogonalTransform 0.6 away from it."""
    part = OrthogonalLinear(8, generator=generator).to(dtype)
    wanted = torch.randn(8, 8, dtype=dtype, generator=generator)
    optimizer = torch.optim.Adam(part.parameters(), 1e-2)
    before = part.matrix().detach()
    for _ in range(200):
        optimizer.zero_grad()
        (part.matrix() - wanted).square().sum().backward()
        optimizer.step()
    q = part.matrix().detach()
    assert (q - before).abs().max() > 0.3
    close(q @ q.T, torch.eye(8, dtype=dtype), 16 * torch.finfo(dtype).eps)


def test_it_finds_principal_axes(generator: Generator) -> None:
    """With a diagonal normal behind it, the maximum of the likelihood is that of the full Gaussian."""
    x = torch.randn(2000, 4, dtype=torch.float64, generator=generator)
    x = x @ torch.randn(4, 4, dtype=torch.float64, generator=generator)
    flow = Flow(OrthogonalLinear(4, generator=generator), DiagonalNormal(4)).double()
    flow.prepare(x)
    steps = torch.optim.LBFGS(flow.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        steps.zero_grad()
        loss = flow.loss(x)["loss"]
        loss.backward()
        return loss

    steps.step(closure)
    best = stats.multivariate_normal(x.mean(0), np.cov(x.T.numpy(), bias=True)).logpdf(x.numpy()).mean()
    assert float(flow.log_prob(x).detach().mean()) == pytest.approx(best, abs=1e-4)


def test_columns_beside_stay_as_they_are(unchecked: None) -> None:
    part = OnColumns(Positive(2), 4, [3, 0])
    x = torch.tensor([[2.0, -5.0, 7.0, 3.0]])
    z, log_det = part.encode_and_log_det(x)
    close(z, torch.tensor([[math.log(2), -5.0, 7.0, math.log(3)]]), 1e-6)
    close(log_det, torch.tensor([-math.log(6)]), 1e-6)
    scaled = OnColumns(Standardize(2), 4, [3, 0])
    rows = torch.randn(50, 4) * torch.tensor([3.0, 1.0, 1.0, 0.1])
    scaled.prepare(rows)
    close(scaled.bijection.std, rows[:, [3, 0]].std(0, correction=0), 1e-6)
    for columns, words in (([0, 0], "each once"), ([0, 4], "each once"), ([1], "1 columns for a Positive of 2")):
        with pytest.raises(ValueError, match=words):
            OnColumns(Positive(2), 4, columns)


# -- bases -------------------------------------------------------------------------------------------------------------


def bananas(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two bent clouds with labels."""
    g = Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    a, b = torch.randn(2, n, dtype=torch.float64, generator=g)
    return torch.stack([a + 3 * labels, a * a + 0.3 * b - 4 * labels], 1), labels


def on_a_grid(flow: Any, x: Tensor, context: Tensor | None = None, side: int = 500) -> float:
    """∫ p over a box around the rows."""
    low, high = x.amin(0) - 4 * x.std(0), x.amax(0) + 4 * x.std(0)
    grid = torch.cartesian_prod(
        *(torch.linspace(float(a), float(b), side, dtype=x.dtype) for a, b in zip(low, high, strict=True))
    )
    p = flow.log_prob(grid, context).detach().exp()
    return float(p.sum() * ((high - low) / (side - 1)).prod())


@pytest.mark.parametrize("kind", ["classes", "mixture"])
def test_a_flow_trains_with_its_base(kind: str) -> None:
    """More likely than before training by 0.3 nats, with mass one; the base moves too."""
    (x, labels), (test, its) = bananas(2000, 0), bananas(1000, 1)
    torch.manual_seed(0)
    base: Any = ClassConditional(2, 2) if kind == "classes" else GaussianMixture(2, 2)
    flow = realnvp(2, depth=4, hidden=(32,), base=base).double()
    given, held = (labels, its) if kind == "classes" else (None, None)
    flow.prepare(x, given)
    start = flow.log_prob(test, held).detach().mean()
    before = [p.detach().clone() for p in base.parameters()]
    fit(flow, x, given, epochs=12, lr=5e-3, seed=0, progress=False)
    assert flow.log_prob(test, held).detach().mean() > start + 0.3
    assert all(not torch.equal(a, b) for a, b in zip(before, base.parameters(), strict=True))
    for label in (0, 1) if kind == "classes" else (None,):
        assert on_a_grid(flow, x, None if label is None else torch.tensor(label)) == pytest.approx(1, abs=1e-3)


# -- embedded conditions -----------------------------------------------------------------------------------------------


class Counted(nn.Module):
    """Counts how often it is asked."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x)


def conditions(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x ~ N(c, ¼), c in both columns the scaled sum of the first 20 of 40 standard normal columns, in units of their own."""
    g = Generator().manual_seed(seed)
    wide = torch.randn(n, 40, generator=g)
    centre = wide[:, :20].sum(-1, keepdim=True) / 20**0.5
    return centre + 0.5 * torch.randn(n, 2, generator=g), 1000 + 50 * wide


def models() -> dict[str, Any]:
    bottom = Pair(
        ResidualNet(2, 2, 16, 2, 1, context=3),
        ResidualNet(2, 2, 16, 2, 1, context=3),
        dim=2,
        latent_dim=2,
        context_dim=3,
    )
    return {
        "Flow": realnvp(2, context=3, depth=2, hidden=(16,), activation="silu"),
        "FreeFormFlow": FreeFormFlow(bottom, StandardNormal(2), beta=30.0),
    }


@pytest.mark.parametrize("kind", ["Flow", "FreeFormFlow"])
def test_an_embedding_is_learned_with_the_model(kind: str, tmp_path: Any) -> None:
    """Conditions of 40 columns in their own units: half a nat better than without them; the file holds all of it."""
    torch.manual_seed(0)
    (x, c), (test, held) = conditions(2200, 0), conditions(500, 1)
    model = Embedded(models()[kind], MLP(40, 3, (16,), "silu"), 40)
    fit(model, x, c, epochs=12, lr=1e-2, seed=0, progress=False)
    gaussian = DiagonalNormal.from_data(x).log_prob(test).detach().mean()
    assert model.log_prob(test, held).detach().mean() > gaussian + 0.6
    centre = (held[:50, :20] - 1000).sum(-1) / 50 / 20**0.5
    off = model.sample(100, held[:50]).mean((0, 2)) - centre
    assert off.square().mean() < 0.5 * centre.square().mean()
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert torch.equal(again.log_prob(test, held), model.log_prob(test, held))
    maps = model.autoencoder
    assert (maps.reconstruct(test, held) - test).square().mean() < 0.01
    assert (maps.dim, maps.latent_dim, maps.context_dim) == (2, 2, 40)


def test_the_network_is_asked_once_a_call() -> None:
    net = Counted(MLP(40, 3, (16,)))
    model = Embedded(realnvp(2, context=3, depth=6), net, 40, standardize=None)
    x, c = conditions(10, 0)
    for call in (model.log_prob, model.score, model.loss):
        net.calls = 0
        call(x, c)
        assert net.calls == 1
    for call in (model.sample, model.rsample, model.rsample_and_log_prob):
        net.calls = 0
        call(3, c)
        assert net.calls == 1
    close(model.log_prob(x, c), model.density.log_prob(x, net(c)), 0)


def test_embeddings_are_refused_in_words(unchecked: None) -> None:
    for make, kind, words in (
        (lambda: Embedded(realnvp(2), MLP(4, 2), 4), ValueError, "takes none: build it with context="),
        (lambda: Embedded(MLP(4, 2), MLP(4, 2), 4), TypeError, "expects a Density, got MLP"),  # type: ignore[arg-type]
        (lambda: Embedded(realnvp(2, context=2), MLP(4, 2), 0), ValueError, "context_dim"),
    ):
        with pytest.raises(kind, match=words):
            make()
    model = Embedded(realnvp(2, context=2), MLP(4, 3), 4)
    with pytest.raises(ValueError, match=r"gave shape \(5, 3\) for conditions \(5, 4\), the density takes 2"):
        model.log_prob(torch.zeros(5, 2), torch.zeros(5, 4))
    with pytest.raises(TypeError, match="needs context="):
        model.sample(3)
    with pytest.raises(AttributeError):
        _ = Embedded(GaussianPosteriorLike(), MLP(4, 2), 4).autoencoder


class GaussianPosteriorLike(StandardNormal):
    """A conditional density without maps."""

    def __init__(self) -> None:
        super().__init__(2)
        self.context_dim = 2
