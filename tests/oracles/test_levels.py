"""Whole numbers by a density of what lies between them, against the exact probabilities that scipy gives."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from geoflow import DiagonalNormal, Flow, StandardNormal, fit
from geoflow.datasets import digits
from geoflow.distributions import Uniform
from geoflow.levels import Dequantized, Logit
from geoflow.metrics.bits import bits_per_dim
from manifolds import Torus
from tests.laws.tools import close

MEAN, STD, LEVELS = 0.4, 0.15, 8


def model() -> Dequantized:
    return Dequantized(
        DiagonalNormal.of(torch.tensor([MEAN], dtype=torch.float64), torch.tensor([STD]).double()), LEVELS
    )


def exact() -> np.ndarray:
    """Probabilities of the levels: what a normal puts between k/8 and (k + 1)/8."""
    return np.diff(stats.norm(MEAN, STD).cdf(np.arange(LEVELS + 1) / LEVELS))


def test_the_bound_is_below_and_closes(generator: Generator) -> None:
    """In the mean below log P by what Jensen takes, and with many draws equal to it within its error."""
    x = torch.arange(LEVELS, dtype=torch.float64)[:, None]
    wanted = torch.from_numpy(np.log(exact()))
    one = model().log_prob_bound(x.expand(4000, -1, -1), generator=generator).detach()
    error = one.std(0) / 4000**0.5
    assert (one.mean(0) < wanted + 4 * error).all()
    assert (one.mean(0) < wanted - 0.05).any()
    nodes = (torch.arange(2000, dtype=torch.float64) + 0.5)[:, None] / 2000
    inside = torch.stack([model().density.log_prob((k + nodes) / LEVELS).detach().mean() for k in x])
    assert ((one.mean(0) - (inside - math.log(LEVELS))).abs() < 4.5 * error).all()  # what it is below log P by
    many = model().log_prob_bound(x.expand(1000, -1, -1), draws=100, generator=generator).detach()
    assert (many.mean(0) - wanted).abs().max() < 0.02


def test_draws_have_the_exact_frequencies(generator: Generator) -> None:
    """Those beside [0, 1] go to the ends."""
    x = model().sample(50_000, generator=generator)[:, 0].long()
    wanted = exact()
    wanted[0] += stats.norm(MEAN, STD).cdf(0)
    wanted[-1] += stats.norm(MEAN, STD).sf(1)
    assert stats.chisquare(torch.bincount(x, minlength=LEVELS).numpy(), 50_000 * wanted).pvalue > 1e-3


def test_loss_and_figures_are_of_the_numbers(generator: Generator) -> None:
    """−mean log p + dim log levels; bits per dimension are that over dim log 2, and those of `bits_per_dim`."""
    flow = Dequantized(StandardNormal(3).double(), 16)
    x = torch.randint(16, (500, 3), generator=generator).double()
    y = flow.between(x, Generator().manual_seed(0))
    nats = 3 * math.log(16) - flow.density.log_prob(y).mean()
    figures = flow.evaluate(x)
    assert figures["loss"] == pytest.approx(float(nats), rel=1e-12)
    assert figures["bits per dim"] == pytest.approx(bits_per_dim(flow.density.log_prob(y), 3, 16), rel=1e-12)
    assert bits_per_dim(flow.log_prob_bound(x), 3) == pytest.approx(figures["bits per dim"], abs=0.1)
    torch.manual_seed(0)
    weight = 2 * torch.rand(500, dtype=torch.float64)
    torch.manual_seed(0)
    rows = flow.between(x)
    torch.manual_seed(0)
    wanted = (weight * (3 * math.log(16) - flow.density.log_prob(rows))).mean()
    close(flow.loss(x, weight=weight)["loss"], wanted, 1e-12)


def test_grey_levels_of_digits_train(generator: Generator) -> None:
    """A logit and a normal per pixel; below log₂ 17 bits, what uniform noise costs."""
    x = (digits(dequantise=False).x * 16).round()
    both = Dequantized(Flow(Logit(64, 0.05), DiagonalNormal(64)), 17)
    history = fit(both, x, epochs=3, seed=0, progress=False)
    assert history.final is not None
    assert history.final["bits per dim"] < math.log2(17) - 1
    drawn = both.sample(50, generator=generator)
    assert torch.equal(drawn, drawn.round())
    assert (drawn.mean(0) - x.mean(0)).abs().mean() < 1.5


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_a_logit_is_its_formula(alpha: float) -> None:
    x = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]
    s = alpha + (1 - 2 * alpha) * x
    z, log_det = Logit(1, alpha).encode_and_log_det(x)
    close(z, torch.logit(s), 1e-9)
    close(log_det, ((1 - 2 * alpha) / (s * (1 - s))).log()[:, 0], 1e-9)
    assert float(z[-1]) == pytest.approx(math.log((1 - alpha) / alpha))


def test_refusals(unchecked: None) -> None:
    flow = Dequantized(StandardNormal(2), 4)
    for x in ([[0.0, 4.0]], [[0.0, -1.0]], [[0.5, 1.0]]):
        with pytest.raises(
            ValueError, match="whole numbers from 0 to 3, got 1 others .* neither divided nor with noise"
        ):
            flow.log_prob_bound(torch.tensor(x))
    with pytest.raises(ValueError, match="whole numbers from 0 to 3"):
        fit(flow, torch.rand(50, 2), progress=False)
    with pytest.raises(ValueError, match=r"flat space, got one on Torus"):
        Dequantized(Uniform(Torus(2)))
    with pytest.raises(TypeError, match="expects a Density, got Logit"):
        Dequantized(Logit(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels"):
        Dequantized(StandardNormal(2), 1)
    with pytest.raises(ValueError, match=r"alpha in \[0, 0.5\), got 0.5"):
        Logit(2, 0.5)
    with pytest.raises(ValueError, match="not inside"):
        Logit(2, 0.05).prepare(torch.tensor([[0.5, 7.0]]))
    with pytest.raises(ValueError, match="one log probability a row, got none"):
        bits_per_dim([], 3)
