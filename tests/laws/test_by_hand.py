"""Gradients in closed form, and those of layers that are undone on the way back, are autograd's."""

from typing import Literal

import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import ChainBijection, Flow, Player, StandardNormal, fit
from geoflow.flows import AffineCoupling, Autoregressive, LULinear, Permutation, SplineCoupling, realnvp
from geoflow.nets import MLP
from geoflow.nets.mlp import BY_HAND
from geoflow.train.flat import Flat
from tests.laws.tools import close


def gradients(loss: Tensor, at: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, at))


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("volume_preserving", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("activation", BY_HAND)
def test_stacks_of_couplings(
    activation: str, context: int, volume_preserving: bool, reversible: bool, generator: Generator
) -> None:
    parts = [
        part
        for _ in range(3)
        for part in (
            AffineCoupling(5, context, (7, 6), activation, volume_preserving=volume_preserving),
            Permutation(5, generator=generator),
        )
    ]
    flow = Flow(ChainBijection(*parts), StandardNormal(5), reversible).double()
    compare(flow, context, generator, 1e-11)


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("bins", [2, 3, 8])
def test_stacks_of_splines(bins: int, context: int, reversible: bool, generator: Generator) -> None:
    """Points leave the box too; where splines are undone, gradients are right to what a root of theirs is found to."""
    parts = (
        SplineCoupling(5, context, (7, 6), "tanh", bins, 1.5),
        LULinear(5, generator=generator),
        SplineCoupling(5, context, (7,), "relu", bins, 2.5),
        LULinear(5, generator=generator),
        SplineCoupling(5, context, (), "silu", bins, 2.5),
    )
    flow = Flow(ChainBijection(*parts), StandardNormal(5), reversible).double()
    compare(flow, context, generator, 1e-8 if reversible else 1e-11)


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("univariate", ["affine", "spline"])
def test_stacks_of_autoregressive_layers(
    univariate: Literal["affine", "spline"], context: int, reversible: bool, generator: Generator
) -> None:
    parts = [Autoregressive(4, context, (9, 6), act, univariate) for act in ("relu", "silu")]
    flow = Flow(ChainBijection(*parts), StandardNormal(4), reversible).double()
    compare(flow, context, generator, 1e-8 if reversible and univariate == "spline" else 1e-11)


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("univariate", ["affine", "spline"])
def test_draws_one_coordinate_after_the_other(
    univariate: Literal["affine", "spline"], context: int, generator: Generator
) -> None:
    """Without derivatives only one coordinate's numbers are worked out at a time."""
    part = Autoregressive(4, context, (9, 6), "relu", univariate).double()
    for p in part.parameters():
        nn.init.normal_(p, std=0.4, generator=generator)
    z = torch.randn(4, 30, dtype=torch.float64, generator=generator)
    c = torch.randn(2, 30, dtype=torch.float64, generator=generator) if context else None
    before = z.clone()
    with torch.no_grad():
        close(part._undo(z, c), part._decode_turned(z, c)[0], 1e-10)
    assert torch.equal(z, before)


@pytest.mark.parametrize("reversible", [False, True])
def test_stacks_with_parts_that_have_no_closed_form(reversible: bool, generator: Generator) -> None:
    """elu has none here; of such parts only what goes in is kept."""
    parts = (
        AffineCoupling(4, 2, (8,)),
        LULinear(4, generator=generator),
        AffineCoupling(4, 0, (8,), "elu"),
        Autoregressive(4, 2, (8,), "elu"),
        AffineCoupling(4, 2, ()),
        AffineCoupling(4, 0, (8,)),
    )
    flow = Flow(ChainBijection(*parts), StandardNormal(4), reversible).double()
    compare(flow, 2, generator, 1e-11)


def compare(flow: Flow, context: int, generator: Generator, bound: float) -> None:
    """Gradients of the loss at everything, against those of log_prob by autograd."""
    for p in flow.parameters():
        nn.init.normal_(p, std=0.4, generator=generator)
    x = torch.randn(30, flow.dim, dtype=torch.float64, generator=generator).requires_grad_()
    c = torch.randn(30, context, dtype=torch.float64, generator=generator).requires_grad_() if context else None
    weight = torch.rand(30, dtype=torch.float64, generator=generator)
    at = [x, *([] if c is None else [c]), *flow.parameters()]
    right = -(weight * flow.log_prob(x, c)).mean()
    found = flow.loss(x, c, weight=weight)["loss"]
    close(found, right, 1e-12)
    for own, theirs in zip(gradients(found, at), gradients(right, at), strict=True):
        close(own, theirs, bound * (1 + float(theirs.abs().max())))


def test_a_perceptron_pulls_back_to_its_parameters(generator: Generator) -> None:
    net = MLP(3, 2, (5, 4), "silu").double()
    x = torch.randn(3, 9, dtype=torch.float64, generator=generator).requires_grad_()
    g = torch.randn(2, 9, dtype=torch.float64, generator=generator)
    right = torch.autograd.grad(net.turned(x), [x, *net.parameters()], g)
    with torch.no_grad():
        y, tape = net.taped(x)
        g_x, found = net.pull(tape, g)
    close(y, net.turned(x).detach(), 1e-14)
    for own, theirs in zip([g_x, *found], right, strict=True):
        close(own, theirs, 1e-12)
    assert all(a is b for a, b in zip(net.weights(), net.parameters(), strict=True))


def test_a_second_derivative_is_refused(generator: Generator) -> None:
    flow = realnvp(3, depth=2, hidden=(4,))
    x = torch.randn(5, 3, generator=generator).requires_grad_()
    (g,) = torch.autograd.grad(flow.loss(x)["loss"], x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_transforms_take_the_plain_way(generator: Generator) -> None:
    """functorch cannot look into a node of autograd's graph: there, and under autocast, the chain itself is called."""
    flow = realnvp(3, depth=2, hidden=(4,))
    x = torch.randn(5, 3, generator=generator)
    weights = {k: v.detach() for k, v in flow.named_parameters()}

    def loss(w: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(flow, w, (x,))["loss"]

    found = torch.func.grad(loss)(weights)
    flow.loss(x)["loss"].backward()
    for name, p in flow.named_parameters():
        assert p.grad is not None
        close(found[name], p.grad, 1e-5)


def test_training_in_one_vector_is_training_as_ever(generator: Generator) -> None:
    """`fit` steps one vector that all parameters are views of; an optimiser of one's own steps them one by one."""

    class Own(Flow):
        def players(self) -> list[Player]:
            each = lambda parameters, lr: torch.optim.Adam(parameters, lr, weight_decay=1e-5, fused=True)  # noqa: E731
            return [Player("all", self.parameters(), optimizer=each)]

    x = torch.randn(400, 3, generator=generator, dtype=torch.float64) ** 3
    ends = []
    for kind in (Flow, Own):
        torch.manual_seed(0)
        flow = kind(realnvp(3, depth=4, hidden=(8,), generator=Generator().manual_seed(0)).bijection, StandardNormal(3))
        fit(flow.double(), x, epochs=5, batch_size=64, seed=0, progress=False)
        ends.append([p.detach() for p in flow.parameters()])
    for own, theirs in zip(*ends, strict=True):
        close(own, theirs, 1e-10)
        assert own.untyped_storage().nbytes() == 8 * own.numel(), "a parameter keeps no memory of the others"


@pytest.mark.parametrize("start", ["first", "second", "none"])
def test_gradients_reach_the_vector_at_once(start: str, generator: Generator) -> None:
    """Of parameters in one vector; those that stand apart, or make less than half of it, get theirs one by one."""
    front = Permutation(3, generator=generator) if start != "second" else AffineCoupling(3, 0, (2,), "elu")
    back = AffineCoupling(3, 0, (64,), "elu") if start == "none" else Permutation(3, generator=generator)
    chain = ChainBijection(front, AffineCoupling(3, 0, (9,)), LULinear(3, generator=generator), back)
    flow = Flow(chain, StandardNormal(3)).double()
    for p in flow.parameters():
        nn.init.normal_(p, std=0.4, generator=generator)
    x = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    right = torch.cat([g.reshape(-1) for g in gradients(2 * flow.loss(x)["loss"], list(flow.parameters()))])
    flat = Flat(list(flow.parameters()))
    with flat:
        loss = flow.loss(x)["loss"] + flow.loss(x)["loss"]
    assert Flat.active() is None
    loss.backward()
    assert (flat.vector.grad is None) == (start == "none")
    flat.collect()
    assert flat.vector.grad is not None
    close(flat.vector.grad, right, 1e-12)
    flat.spread()
    close(torch.cat([p.grad.reshape(-1) for p in flow.parameters() if p.grad is not None]), right, 1e-12)
    flat.clear()
    assert flat.vector.grad is None


def test_the_way_back_needs_the_weights_of_the_way_there() -> None:
    flow = realnvp(2, depth=2, hidden=(4,))
    loss = flow.loss(torch.randn(6, 2))["loss"]
    with torch.no_grad():
        next(flow.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_chains_of_chains_are_looked_into(generator: Generator) -> None:
    inner = ChainBijection(AffineCoupling(3), Permutation(3, generator=generator))
    flow = Flow(ChainBijection(inner, AffineCoupling(3)), StandardNormal(3)).double()
    compare(flow, 0, generator, 1e-11)
