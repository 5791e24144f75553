"""Invertible flows against other libraries' formulas, and what their construction promises."""

from typing import Any

import pytest
import torch
from torch import Generator

from geoflow import fit
from geoflow.datasets import four_gaussians
from geoflow.flows import LULinear, SplineCoupling, maf, nsf
from geoflow.flows.curves.rational_quadratic import LEVEL, knots, spline, spline_inverse
from geoflow.nets import MaskedMLP
from tests.laws.tools import close


def test_splines_agree_with_normflows(generator: Generator) -> None:
    """The same curve, its slope and its inverse, in the box, on its edge and outside."""
    from normflows.utils.splines import unconstrained_rational_quadratic_spline

    theta = torch.randn(3, 23, 400, dtype=torch.float64, generator=generator)
    x = 4 * torch.randn(3, 400, dtype=torch.float64, generator=generator)
    x[:, 0] = torch.tensor([5.0, -5.0, 0.0])
    widths, heights, slopes = theta.mT.split((8, 8, 7), -1)
    table = knots(theta, 8, 5.0)
    for ours, inverse in ((spline, False), (spline_inverse, True)):
        found, log_slope = ours(x, table, 5.0)
        other, other_slope = unconstrained_rational_quadratic_spline(
            x, widths, heights, slopes + LEVEL, inverse=inverse, tail_bound=5.0
        )
        close(found, other, 1e-7)
        close(log_slope, other_slope, 1e-7)


def test_a_spline_is_the_identity_at_zero_and_outside(generator: Generator) -> None:
    coupling = SplineCoupling(4, bins=5, box=2.0).double()
    x = 3 * torch.randn(200, 4, dtype=torch.float64, generator=generator)
    z, log_det = coupling.encode_and_log_det(x)
    close(z, x[:, [2, 3, 0, 1]], 1e-12)
    close(log_det, torch.zeros_like(log_det), 1e-12)
    for p in coupling.parameters():
        torch.nn.init.normal_(p, generator=generator)
    z, log_det = coupling.encode_and_log_det(x)
    outside = (x[:, 2:].abs() > 2).all(-1)
    assert outside.sum() > 20
    assert torch.equal(z[outside][:, :2], x[outside][:, 2:])
    assert not bool(log_det[outside].any())


@pytest.mark.parametrize("context", [0, 2])
def test_masked_outputs_see_what_is_before_them_and_all_of_it(context: int, generator: Generator) -> None:
    net = MaskedMLP(5, 3, (16, 16), "tanh", context).double()
    x = torch.randn(5, dtype=torch.float64, generator=generator)
    c = torch.randn(context, dtype=torch.float64, generator=generator) if context else None
    jacobian = torch.func.jacrev(lambda t: net(t, c))(x).reshape(5, 3, 5)
    seen = (jacobian.abs() > 0).all(1)
    assert torch.equal(seen, torch.ones(5, 5).tril(-1).bool())


def test_a_linear_map_is_what_its_factors_say(generator: Generator) -> None:
    part = LULinear(4, generator=generator).double()
    for p in part.parameters():
        torch.nn.init.normal_(p, std=0.5, generator=generator)
    matrix = torch.func.jacrev(part.encode)(torch.zeros(4, dtype=torch.float64))
    lower, upper = part._factors()
    close(
        matrix, (lower + torch.eye(4, dtype=lower.dtype)) @ upper @ torch.eye(4, dtype=lower.dtype)[part.order], 1e-12
    )


@pytest.mark.parametrize("make", [nsf, maf])
def test_recipes_learn_four_bumps(make: Any) -> None:
    """Within a tenth of a nat of the truth on the same rows; the Gaussian that they start as is more than half a nat off."""
    torch.manual_seed(0)
    train, test = four_gaussians(5000, seed=0), four_gaussians(5000, seed=1)
    assert test.density is not None
    flow = make(2, univariate="spline") if make is maf else make(2)
    flow.prepare(train.x)
    truth = test.density.log_prob(test.x).mean()
    start = float((truth - flow.log_prob(test.x).mean()).detach())
    fit(flow, train.x, epochs=16, batch_size=256, lr=5e-3, seed=0, progress=False)
    end = float((truth - flow.log_prob(test.x).mean()).detach())
    assert start > 0.5
    assert -0.02 < end < 0.1


def test_refusals(unchecked: None) -> None:
    for make, words in (
        (lambda: SplineCoupling(1), "dim >= 2, one half to condition the other"),
        (lambda: SplineCoupling(3, bins=1), "bins must be at least 2"),
        (lambda: SplineCoupling(3, box=0.0), "positive, finite box, got 0.0"),
        (lambda: nsf(3, mix="both"), "mix='lu', 'orthogonal' or 'permute', got 'both'"),  # type: ignore[arg-type]
        (lambda: maf(3, univariate="cubic"), "univariate='affine' or 'spline', got 'cubic'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=words):
            make()
