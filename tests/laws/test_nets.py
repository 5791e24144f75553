"""Laws of default networks: rows go through one by one, in any batch and dtype, under every derivative that free-form
flows take, and come back from copies and files."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import load, save
from geoflow.nets import MLP, ConvDecoder, ConvEncoder, ResidualNet
from geoflow.nets.mlp import ACTIVATIONS
from tests.laws.registry import NETS, Case
from tests.laws.tools import build, cases, central, close, copies, derivatives_are_finite, eps, obeys_batches, untouched


def rows(net: Any, n: int, dtype: torch.dtype, g: Generator) -> tuple[Tensor, Tensor | None]:
    """n points, each with a context if the net takes one."""
    x = torch.randn(n, net.inputs, dtype=dtype, generator=g)
    width = getattr(net, "context", 0) * getattr(net, "particles", 1)
    return x, torch.randn(n, width, dtype=dtype, generator=g) if width else None


def bound(net: nn.Module, context: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The net as a function of points alone."""
    return net if context is None else lambda x: net(x, context)


@cases(NETS)
def test_rows_go_through_one_by_one(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """In training mode too: no row sees another, as vmapped Jacobians and log-dets ask."""
    net = build(case, dtype).train()
    x, context = rows(net, 6, dtype, generator)
    y = bound(net, context)(x)
    assert y.shape == (6, net.outputs)
    assert y.dtype == dtype
    with untouched(x, context):
        given = (x,) if context is None else (x, context)
        obeys_batches(net, *given, tol=64 * eps(dtype) * float(y.detach().abs().max().clamp_min(1)))
    derivatives_are_finite(bound(net, context), x)


@cases(NETS)
@torch.no_grad()
def test_copies_are_equal_to_the_bit(case: Case, dtype: torch.dtype, generator: Generator, tmp_path: Any) -> None:
    net = build(case, dtype)
    x, context = rows(net, 6, dtype, generator)
    save(net, tmp_path / "net.safetensors")
    for how, other in [*copies(net), ("file", load(tmp_path / "net.safetensors"))]:
        assert torch.equal(bound(other, context)(x), bound(net, context)(x)), how


@cases(NETS)
@torch.no_grad()
def test_float32_agrees_with_float64(case: Case, generator: Generator) -> None:
    net = build(case, torch.float32)
    x, context = rows(net, 20, torch.float32, generator)
    single = bound(net, context)(x)
    double = bound(net.double(), None if context is None else context.double())(x.double())
    close(single.double(), double, 256 * eps(torch.float32) * float(double.abs().max().clamp_min(1)))


@cases(NETS)
def test_jacobians_agree(case: Case, generator: Generator) -> None:
    """jvp, vmapped jacrev and jacfwd, and plain autograd give the matrix of difference quotients."""
    net = build(case)
    x, context = rows(net, 3, torch.float64, generator)
    f = bound(net, context)
    unit = torch.eye(net.inputs, dtype=x.dtype)
    expected = torch.stack([central(lambda h, e=e: f(x + h * e))[0] for e in unit], -1).detach()
    tol = 1e-9 * float(expected.abs().max().clamp_min(1))
    given = (x,) if context is None else (x, context)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        close(torch.vmap(transform(net))(*given).detach(), expected, tol)
    pushed = [torch.func.jvp(f, (x,), (e.expand_as(x),))[1] for e in unit]
    close(torch.stack(pushed, -1).detach(), expected, tol)
    leaf = x.clone().requires_grad_()
    y = f(leaf)
    pulled = [torch.autograd.grad(y[:, i].sum(), leaf, retain_graph=True)[0] for i in range(net.outputs)]
    close(torch.stack(pulled, -2), expected, tol)


@cases(NETS, smooth=True)
def test_second_derivatives_agree(case: Case, generator: Generator) -> None:
    """uᵀJ(x)w, what a volume-change surrogate differentiates: reverse over forward and reverse over reverse give one
    gradient, in points and in parameters, and it is that of the difference quotients."""
    net = build(case)
    x, context = rows(net, 3, torch.float64, generator)
    f = bound(net, context)
    u = torch.randn(3, net.outputs, dtype=x.dtype, generator=generator)
    w, d = (torch.randn(3, net.inputs, dtype=x.dtype, generator=generator) for _ in range(2))

    def over_forward(x: Tensor) -> Tensor:
        return (u * torch.func.jvp(f, (x,), (w,))[1]).sum()

    def over_reverse(x: Tensor) -> Tensor:
        return (torch.func.vjp(f, x)[1](u)[0] * w).sum()

    (slope,) = central(lambda h: over_forward(x + h * d))
    found = []
    for value in (over_forward, over_reverse):
        along = (torch.func.grad(value)(x) * d).sum().detach()
        close(along, slope.detach(), 1e-8 * float(slope.abs().detach().clamp_min(1)))
        found.append(torch.autograd.grad(value(x), list(net.parameters()), allow_unused=True))
    for p, one, other in zip(net.parameters(), *found, strict=True):
        zero = torch.zeros_like(p)
        close(zero if one is None else one, zero if other is None else other, 1e-9)
    assert any(g is not None and g.any() for g in found[0])


@cases(NETS)
def test_every_parameter_is_trained(case: Case, generator: Generator) -> None:
    net = build(case)
    x, context = rows(net, 6, torch.float64, generator)
    bound(net, context)(x).square().sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]


# -- perceptrons and residual nets -------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"ConvEncoder expects an activation of .*; got 'sigmoidal'"):
        ConvEncoder((1, 8, 8), 2, activation="sigmoidal")


def test_sine_is_the_sine() -> None:
    x = torch.linspace(-9, 9, 50)
    close(ACTIVATIONS["sin"]()(x), torch.sin(x), 0)


def test_a_residual_net_starts_as_the_identity_and_can_learn(generator: Generator) -> None:
    """Where widths agree, unless told otherwise."""
    x = torch.randn(5, 3, generator=generator)
    net = ResidualNet(3, 3, 16)
    close(net(x), x, 0)
    (net(x) - 1).square().sum().backward()
    assert net.last.weight.grad.any()
    assert not torch.equal(ResidualNet(3, 3, 16, skip=False)(x), x)
    assert not ResidualNet(3, 2, 16).skip
    with pytest.raises(ValueError, match=r"one width, got 3 and 2: pass skip=False"):
        ResidualNet(3, 2, 16, skip=True)


def test_a_residual_net_is_its_formula(generator: Generator) -> None:
    x, c = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
    net = build(NETS["ResidualNet"], torch.float32)
    h = net.first(x)
    for block in net.body:
        h = h + block(h)
    close(net(x), x + net.last(h), 0)
    net = ResidualNet(3, 4, 8, 2, 1, context=2)
    h = net.first(x)
    h = h + net.body[0](torch.cat([h, c], -1))
    h = h + net.body[1](torch.cat([h, c], -1))
    close(net(x, c), net.last(h), 0)
    close(net(x, c[0]), net(x, c[:1].expand(5, 2)), 0)  # one context for all
    with pytest.raises(TypeError, match=r"context=2 and is called without"):
        net(x)
    with pytest.raises(TypeError, match=r"context=0 and is called with a"):
        ResidualNet(3, 4, 8)(x, c)


@pytest.mark.parametrize("bad", [{"width": 0}, {"blocks": -1}, {"depth": -1}, {"context": -1}])
def test_residual_nets_refuse_counts(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"ResidualNet: {next(iter(bad))} must be at least"):
        ResidualNet(3, 3, **bad)


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 9, 13), (2, 4, 4)])
@torch.no_grad()
def test_convolutions_take_any_sides(shape: tuple[int, int, int]) -> None:
    """Every pixel reaches the code, and every pixel is decoded from it."""
    pixels = shape[0] * shape[1] * shape[2]
    encoder, decoder = ConvEncoder(shape, 16, (4, 8)), ConvDecoder(16, shape, (4, 8))
    moved = encoder(torch.eye(pixels)) - encoder(torch.zeros(pixels))
    assert moved.abs().sum(-1).gt(1e-7).all()
    images = decoder(torch.randn(64, 16))
    assert images.shape == (64, pixels)
    assert images.std(0).gt(0).all()


@torch.no_grad()
def test_convolutions_see_rows_and_columns() -> None:
    """An image moved by four pixels, away from the edges, gives the same features one place on."""
    shape, x = (1, 32, 32), torch.zeros(2, 1, 32, 32)
    blot = torch.randn(4, 4)
    x[0, 0, 12:16, 12:16], x[1, 0, 12:16, 16:20] = blot, blot
    net = ConvEncoder(shape, 3, (4, 8))
    y = net.convolutions(x)
    close(y[1, :, :, 2:-1], y[0, :, :, 1:-2], 1e-6)


@pytest.mark.parametrize(
    ("shape", "channels", "says"),
    [
        ((28, 28), (8,), r"\(channels, height, width\), got \(28, 28\)"),
        ((1, 6, 28), (4, 4, 4), r"6 × 28 can be halved between 1 and 2 times; got channels=\(4, 4, 4\)"),
        ((1, 8, 8), (), r"can be halved between 1 and 3 times; got channels=\(\)"),
        ((1, 8, 8), (0,), r"channels must be at least 1, got 0"),
    ],
)
def test_convolutions_refuse_shapes(shape: tuple[int, ...], channels: tuple[int, ...], says: str) -> None:
    for make in (lambda: ConvEncoder(shape, 3, channels), lambda: ConvDecoder(3, shape, channels)):
        with pytest.raises(ValueError, match=says):
            make()
