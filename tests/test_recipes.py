"""Recipes: what they promise of the start, and that training leaves it."""

from collections.abc import Callable

import pytest
import torch

from geoflow import DiagonalNormal, GaussianMixture, fit
from geoflow.flows import Flow, maf, nsf, realnvp


def test_untrained_is_the_diagonal_gaussian_of_the_data() -> None:
    x = torch.randn(500, 5) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 7
    flow = realnvp(5)
    flow.prepare(x)
    torch.testing.assert_close(flow.log_prob(x), DiagonalNormal.from_data(x).log_prob(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("make", "dim"), [(realnvp, 2), (realnvp, 5), (nsf, 2), (maf, 2)])
def test_independent_columns_are_no_trap(make: Callable[..., Flow], dim: int) -> None:
    """Two modes along one axis, noise along the others: in these axes the identity is a stationary point."""
    means = torch.zeros(2, dim)
    means[:, 0] = torch.tensor([-1.5, 1.5])
    truth = GaussianMixture.of(torch.tensor([0.5, 0.5]), means, torch.full((2, dim), 0.49))
    x, test = truth.sample(4000), truth.sample(4000)
    flow = make(dim, activation="silu", depth=6, hidden=(32, 32))
    fit(flow, x, epochs=25, lr=5e-3, seed=0, progress=False)
    gap = (truth.log_prob(test) - flow.log_prob(test)).mean()
    normal = (truth.log_prob(test) - DiagonalNormal.from_data(x).log_prob(test)).mean()
    assert normal > 0.18
    assert gap < 0.4 * normal


def test_bad_arguments_are_refused() -> None:
    for words, call in (
        ("dim >= 2", lambda: realnvp(1)),
        ("depth must be at least 1", lambda: realnvp(2, depth=0)),
        ("clamp > 0", lambda: realnvp(2, clamp=0.0)),
        ("activation of relu", lambda: realnvp(2, activation="gold")),
        ("the base has 3", lambda: realnvp(2, base=DiagonalNormal(3))),
    ):
        with pytest.raises(ValueError, match=words):
            call()
