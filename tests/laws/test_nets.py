"""Laws of default networks: rows go through one by one, in any batch and dtype, and come back from copies and files."""

from typing import Any

import pytest
import torch
from torch import Generator

from geoflow import load, save
from geoflow.nets import MLP
from geoflow.nets.mlp import ACTIVATIONS
from tests.laws.registry import NETS, Case
from tests.laws.tools import build, cases, close, copies, derivatives_are_finite, eps, obeys_batches, untouched


@cases(NETS)
def test_rows_go_through_one_by_one(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """In training mode too: no row sees another, as vmapped Jacobians and log-dets ask."""
    net = build(case, dtype).train()
    x = torch.randn(6, net.inputs, dtype=dtype, generator=generator)
    y = net(x)
    assert y.shape == (6, net.outputs)
    assert y.dtype == dtype
    with untouched(x):
        obeys_batches(net, x, tol=64 * eps(dtype) * float(y.detach().abs().max().clamp_min(1)))
    derivatives_are_finite(net, x)


@cases(NETS)
@torch.no_grad()
def test_copies_are_equal_to_the_bit(case: Case, dtype: torch.dtype, generator: Generator, tmp_path: Any) -> None:
    net = build(case, dtype)
    x = torch.randn(6, net.inputs, dtype=dtype, generator=generator)
    save(net, tmp_path / "net.safetensors")
    for how, other in [*copies(net), ("file", load(tmp_path / "net.safetensors"))]:
        assert torch.equal(other(x), net(x)), how


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, generator: Generator) -> None:
    """Each by its name, between layers and not after the last; with `zero_last` it starts as zero, and can learn."""
    x = torch.randn(5, 3, generator=generator)
    plain, zero = MLP(3, 2, (8,), activation), MLP(3, 2, (8,), activation, zero_last=True)
    first, between, last = plain.layers
    close(plain(x), last(between(first(x))), 0)
    assert type(between) is type(ACTIVATIONS[activation]())
    close(zero(x), torch.zeros(5, 2), 0)
    (zero(x) - 1).square().sum().backward()
    assert zero.layers[-1].weight.grad.any()


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation of relu, silu, .*; got 'sigmoidal'"):
        MLP(3, 2, activation="sigmoidal")
