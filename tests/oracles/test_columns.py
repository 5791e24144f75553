"""Bounded columns: draws never leave the bounds, however extreme, and densities have one mass inside."""

import math

import pytest
import torch
from torch import Generator, Tensor

from geoflow import Bounded, Flow, Positive, StandardNormal, fit
from geoflow.distributions import StudentT
from geoflow.flows import maf, nsf, realnvp
from tests.laws.tools import close

BOUNDS = {
    "a unit interval": (0.0, 1.0),
    "far from zero": (1e6, 1e6 + 1.0),
    "tiny": (0.0, 1e-30),
    "tiny, far": (1.0, 1.0 + 1e-5),
    "huge": (-1e30, 1e30),
    "across zero": (-1e-3, 1e4),
    "below": (1e4, None),
    "below zero": (-1e-8, None),
    "above": (None, -3.0),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@torch.no_grad()
def test_draws_never_leave(bounds: tuple[float | None, float | None], dtype: torch.dtype, generator: Generator) -> None:
    """10⁵ draws through a base with heavy tails and scales from 1e-3 to 1e3: strictly inside, with finite log-dets."""
    scales = torch.tensor([1e-3, 1.0, 30.0, 1e3], dtype=dtype)
    base = StudentT.of(torch.zeros(4, dtype=dtype), scales, 2.5)
    low, high = bounds
    part = Bounded([low] * 4, [high] * 4)
    flow = Flow(part, base).to(dtype)
    x = flow.sample(100_000, generator=generator)
    assert x.dtype == dtype
    assert not x.isnan().any()
    if low is not None:
        assert (x > torch.tensor(low, dtype=dtype)).all()
    if high is not None:
        assert (x < torch.tensor(high, dtype=dtype)).all()
    z, log_det = part.encode_and_log_det(x[x.isfinite().all(-1)])
    assert z.isfinite().all()
    assert log_det.isfinite().all()


@torch.no_grad()
def test_positive_draws_are_positive(dtype: torch.dtype, generator: Generator) -> None:
    """Also where exp underflows."""
    x = Flow(Positive(1), StudentT.of(torch.zeros(1, dtype=dtype), torch.full((1,), 40.0, dtype=dtype), 2.5)).sample(
        100_000, generator=generator
    )
    assert (x > 0).all()
    assert not x.isnan().any()


def inside(n: int, seed: int) -> Tensor:
    """A share that piles up at one end, beside a positive number that it decides."""
    g = Generator().manual_seed(seed)
    u, v = torch.randn(2, n, dtype=torch.float64, generator=g)
    return torch.stack([(1.5 * u + 1).sigmoid(), (0.5 * u + 0.3 * v).exp()], 1)


RECIPES = {"realnvp": realnvp, "nsf": nsf, "maf": maf}


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES.keys())
def test_a_trained_flow_has_one_mass_inside(make: object) -> None:
    """On a grid in the units of the data, to 1e-3; a flow without bounds puts mass outside."""
    x = inside(1500, 0)
    torch.manual_seed(0)
    bounded = make(2, depth=3, hidden=(16,), bounds=Bounded([0.0, 0.0], [1.0, None])).double()  # type: ignore[operator]
    fit(bounded, x, epochs=3, lr=5e-3, seed=0, progress=False)
    s = torch.linspace(-12, 12, 500, dtype=torch.float64)  # of the share's logit and the number's logarithm
    grid = torch.cartesian_prod(s, s / 2)
    y = torch.stack([grid[:, 0].sigmoid(), grid[:, 1].exp()], 1)
    weight = (y[:, 0] * (1 - y[:, 0]) * y[:, 1]).log() + 2 * math.log(24 / 499) - math.log(2)
    with torch.no_grad():
        assert float((bounded.log_prob(y) + weight).exp().sum()) == pytest.approx(1, abs=1e-3)
        drawn = bounded.sample(100_000, generator=Generator().manual_seed(1))
        assert ((drawn > 0).all(-1) & (drawn[:, 0] < 1)).all()
        outside = bounded.log_prob(torch.tensor([[-0.1, 1.0], [1.1, 1.0], [0.5, -1.0], [0.0, 1.0]]).double())
        assert (outside == -math.inf).all()
        free = make(2, depth=3, hidden=(16,)).double()  # type: ignore[operator]
        free.prepare(x)
        drawn = free.sample(1000, generator=Generator().manual_seed(1))
        assert ((drawn <= 0) | (drawn >= torch.tensor([1.0, math.inf]))).any()


def test_log_dets_keep_their_digits_at_the_ends(dtype: torch.dtype) -> None:
    """log x (1 − x) near both ends, against float64."""
    x = torch.tensor([1e-6, 1e-3, 0.5, 1 - 2.0**-10, 1 - 2.0**-20], dtype=dtype)[:, None]
    z, log_det = Bounded([0.0], [1.0]).encode_and_log_det(x)
    exact = x.double()
    close(z.double(), exact.logit(), 1e-5 if dtype == torch.float32 else 1e-12)
    close(log_det.double(), -(exact.log() + (1 - exact).log())[:, 0], 1e-5 if dtype == torch.float32 else 1e-12)


def test_bounds_that_cannot_be_are_refused(unchecked: None) -> None:
    for low, high, words in (
        ([0.0], [0.0], "column 0 has bounds 0.0 and 0.0; the first must be below"),
        ([0.0, 2.0], [1.0, 1.0], "column 1 has bounds 2.0 and 1.0"),
        ([math.nan], [1.0], "column 0 has bounds nan"),
        ([0.0], [1.0, 2.0], "got 1 low and 2 high"),
    ):
        with pytest.raises(ValueError, match=words):
            Bounded(low, high)
    with pytest.raises(ValueError, match=r"1 values of column 1 are not inside \(0.0, None\), such as -2: widen"):
        fit(Flow(Positive(2), StandardNormal(2)), torch.tensor([[1.5, 2.5], [2.1, -2.0], [3.0, 1.0]]), progress=False)
