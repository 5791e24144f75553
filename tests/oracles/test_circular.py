"""Flows with angles: normflows' formulas, no seam, one mass, a known density on the torus found again."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from geoflow import DiagonalNormal, Standardize, fit, load, save
from geoflow.distributions import Mixture, VonMises
from geoflow.flows import CircularSplineCoupling, circular_nsf, nsf
from geoflow.flows.circular import closed_knots
from geoflow.flows.curves.rational_quadratic import LEVEL, spline, spline_inverse
from manifolds import Euclidean, Product, Torus
from tests.laws.tools import close

TURN = 2 * math.pi


def stirred(model: Any, size: float = 0.3) -> Any:
    """The model in float64 with noise on every parameter."""
    for p in model.double().parameters():
        p.data.add_(size * torch.randn(p.shape, dtype=p.dtype, generator=Generator().manual_seed(0)))
    return model


def test_closed_curves_agree_with_normflows(generator: Generator) -> None:
    """With tails="circular", values, slopes and inverses are theirs."""
    from normflows.utils.splines import unconstrained_rational_quadratic_spline

    theta = torch.randn(300, 3, 24, dtype=torch.float64, generator=generator)
    x = TURN * torch.rand(300, 3, dtype=torch.float64, generator=generator) - math.pi
    table = closed_knots(theta.permute(1, 2, 0), 8)
    for ours, inverse in ((spline, False), (spline_inverse, True)):
        found, log_slope = ours(x.T, table, math.pi)
        other, other_slope = unconstrained_rational_quadratic_spline(
            x,
            theta[..., :8],
            theta[..., 8:16],
            theta[..., 16:] + LEVEL,
            inverse=inverse,
            tails="circular",
            tail_bound=math.pi,
        )
        close(found.T, other, 1e-7)
        close(log_slope.T, other_slope, 1e-7)


def test_there_is_no_seam(generator: Generator) -> None:
    """A turn more changes nothing, and just before and after ±π values, log-dets and their slopes meet."""
    part = stirred(CircularSplineCoupling(3, [0, 1], [1, 2], hidden=(16,), activation="tanh"))
    x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
    turns = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64) * TURN
    z, log_det = part.encode_and_log_det(x)
    again, same = part.encode_and_log_det(x + turns)
    close(same, log_det, 1e-9)
    close(torch.cos(again - z)[:, :2], torch.ones(50, 2, dtype=torch.float64), 1e-12)
    close(again[:, 2], z[:, 2], 1e-9)
    assert (z[:, 1].abs() <= math.pi).all()
    for column in (0, 1):
        sides = []
        for side in (-1, 1):
            at = x.clone()
            at[:, column] = side * (math.pi - 1e-7)
            sides.append(at)
        (z0, l0), (z1, l1) = (part.encode_and_log_det(s) for s in sides)
        assert ((z0 - z1 + math.pi).remainder(TURN) - math.pi).abs().max() < 1e-4
        assert (l0 - l1).abs().max() < 1e-4
        slopes = [torch.func.vmap(torch.func.grad(lambda r: part.encode_and_log_det(r)[1]))(s) for s in sides]
        if column == 0:  # the curve of an active angle has a knot at its own seam, where log g′ has a kink
            assert (slopes[0] - slopes[1]).abs().max() < 1e-3


def test_the_log_det_holds_beside_the_seam(dtype: torch.dtype) -> None:
    """At the floating point numbers around the seam the Jacobian's volume is what is said, also where wrapping rounds."""
    part = stirred(CircularSplineCoupling(2, [0, 1], [1], hidden=(16,)))
    still = torch.tensor([[0.7]], dtype=torch.float64)
    shift = float(part._tables(still[:0], still, None)[2].detach())
    part = part.to(dtype)
    near = torch.arange(-30, 31, dtype=dtype) * (2 * torch.finfo(dtype).eps)
    angles = torch.cat([near + math.pi - shift, near - math.pi - shift, near + 3 * math.pi - shift])
    x = torch.stack([torch.full_like(angles, 0.7), angles], -1)
    log_det = part.encode_and_log_det(x)[1].detach()
    jacobian = torch.vmap(torch.func.jacrev(part.encode))(x).detach()
    close(torch.linalg.slogdet(jacobian).logabsdet, log_det, 1e3 * torch.finfo(dtype).eps)
    close(log_det, log_det[:1].expand_as(log_det), 1e4 * torch.finfo(dtype).eps)
    assert log_det.abs().min() > 1e-2


def mass(flow: Any, x: Tensor, periodic: list[int], side: int = 250) -> float:
    """∫ p over a grid of two columns: whole circles, and lines six deviations beyond the rows."""
    axes, cell = [], 1.0
    for j in range(2):
        low, high = (-math.pi, math.pi) if j in periodic else (float(x[:, j].min()), float(x[:, j].max()))
        room = 0.0 if j in periodic else 6 * float(x[:, j].std())
        step = (high - low + 2 * room) / side
        axes.append(low - room + step * (torch.arange(side, dtype=x.dtype) + 0.5))
        cell *= step
    with torch.no_grad():
        return float(flow.log_prob(torch.cartesian_prod(*axes)).exp().sum()) * cell


def rows(n: int, seed: int) -> Tensor:
    """An angle and a number that it decides, across the seam."""
    g = Generator().manual_seed(seed)
    angle = math.pi + torch.randn(n, dtype=torch.float64, generator=g)
    return torch.stack(
        [Torus(1).project(angle[:, None])[:, 0], 5 * angle.cos() + torch.randn(n, dtype=torch.float64, generator=g)], 1
    )


def test_mass_is_one_on_grids() -> None:
    """To 1e-3, after training: on the torus, on a cylinder, and of a spline flow on the plane."""
    x = rows(1000, 0)
    for made, periodic, data in (
        (circular_nsf(2, [0, 1], depth=2, hidden=(16,)), [0, 1], Torus(2).project(x)),
        (circular_nsf(2, [1], depth=2, hidden=(16,)), [1], x.flip(1)),
        (nsf(2, depth=3, hidden=(16,)), [], x),
    ):
        flow = made.double()
        flow.prepare(data)
        start = flow.log_prob(data).detach().mean()
        fit(flow, data, epochs=4, lr=1e-2, seed=0, progress=False)
        assert flow.log_prob(data).detach().mean() > start + (0.2 if periodic != [0, 1] else 0.05)
        assert mass(flow, data, periodic) == pytest.approx(1, abs=1e-3)


def test_untrained_it_is_uniform_and_the_gaussian_of_the_data() -> None:
    x = torch.cat([rows(500, 0), rows(500, 1)], 1)
    flow = circular_nsf(4, [0, 2]).double()
    assert flow.space == Product(Torus(1), Euclidean(1), Torus(1), Euclidean(1))
    flow.prepare(x)
    wanted = DiagonalNormal.from_data(x[:, [1, 3]]).log_prob(x[:, [1, 3]]) - 2 * math.log(TURN)
    close(flow.log_prob(x), wanted, 1e-9)
    assert sum(isinstance(m, Standardize) for m in flow.modules()) == 1


def test_a_mixture_on_the_torus_is_found_again(tmp_path: Any) -> None:
    """Three bumps, one of them on the seam: within a twentieth of a nat of the truth on other rows."""
    truth = Mixture(
        [2.0, 1.0, 1.0],
        VonMises(torch.tensor([[math.pi, 0.0], [-1.0, -3.0], [1.5, 1.5]]), torch.tensor([[6.0, 2.0], [9, 9], [4, 20]])),
    ).requires_grad_(False)
    x, test = (truth.sample(4000, generator=Generator().manual_seed(s)) for s in (0, 1))
    torch.manual_seed(0)
    flow = circular_nsf(2, [0, 1], depth=4, hidden=(32,))
    fit(flow, x, epochs=12, lr=5e-3, seed=0, progress=False)
    gap = float((truth.log_prob(test) - flow.log_prob(test).detach()).mean())
    assert -0.01 < gap < 0.05
    uniform = float(truth.log_prob(test).mean()) + 2 * math.log(TURN)
    assert uniform > 1  # what it has learned
    save(flow, tmp_path / "flow.safetensors")
    assert torch.equal(load(tmp_path / "flow.safetensors").log_prob(test), flow.log_prob(test))


def test_refusals(unchecked: None) -> None:
    for make, words in (
        (lambda: circular_nsf(2, []), "periodic columns, numbers of those that are angles: nsf is for none"),
        (lambda: circular_nsf(2, [2]), r"`periodic` among the columns 0 .. 1, each once, got \[2\]"),
        (lambda: circular_nsf(3, [1, 1]), r"each once, got \[1, 1\]"),
        (lambda: circular_nsf(1, [0]), "dim"),
        (lambda: circular_nsf(2, [0], depth=1), "depth"),
        (lambda: CircularSplineCoupling(2, [0], []), "some of the 2 columns to be active and some not, got 0"),
        (lambda: CircularSplineCoupling(2, [0], [0, 1]), "some of the 2 columns to be active and some not, got 2"),
        (lambda: CircularSplineCoupling(2, [0], [1], bins=1), "bins must be at least 2"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
