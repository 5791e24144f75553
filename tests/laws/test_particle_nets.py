"""Laws of networks of particles: they turn, reflect and renumber with their input, and bear particles that meet."""

from typing import Literal

import pytest
import torch
from torch import Generator, Tensor

from geoflow import Chain, FreeFormFlow, Pair, Standardize
from geoflow.distributions import MeanFreeNormal
from geoflow.nets import EGNN
from manifolds import MeanFree, SpecialOrthogonal
from tests.laws.registry import NETS, Case
from tests.laws.test_nets import bound, rows
from tests.laws.tools import build, cases, close, derivatives_are_finite, eps

EQUIVARIANT = {n: case for n, case in NETS.items() if isinstance(case.make(), EGNN)}


def particles(net: EGNN, x: Tensor) -> Tensor:
    return x.unflatten(-1, (net.particles, -1))


@cases(EQUIVARIANT)
def test_particle_nets_turn_with_their_input(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """net(x Rᵀ + t) = net(x) Rᵀ + t for rotations, reflections and translations."""
    net = build(case, dtype)
    x, context = rows(net, 6, dtype, generator)
    f = bound(net, context)
    turn = SpecialOrthogonal(net.each).project(torch.randn(net.each**2, dtype=dtype, generator=generator))
    mirror = torch.diag(torch.tensor([-1.0] + [1.0] * (net.each - 1), dtype=dtype))
    shift = torch.randn(net.each, dtype=dtype, generator=generator)
    assert (f(x) - x).abs().max() > 0.01
    for r in (turn.view(net.each, net.each), mirror, mirror @ turn.view(net.each, net.each)):

        def move(x: Tensor, r: Tensor = r) -> Tensor:
            return (particles(net, x) @ r.T + shift).flatten(-2)

        close(f(move(x)), move(f(x)), 64 * eps(dtype) * float(x.abs().max()))


@cases(EQUIVARIANT)
def test_particle_nets_keep_the_centre(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    net = build(case, dtype)
    x, context = rows(net, 6, dtype, generator)
    close(particles(net, bound(net, context)(x)).mean(-2), particles(net, x).mean(-2), 16 * eps(dtype))
    space = MeanFree(net.particles, net.each)
    assert space.contains(bound(net, context)(space.project(x))).all()


@cases(EQUIVARIANT)
def test_particle_nets_renumber_with_their_input(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Particles of one type and with their contexts may change places; those of two types may not."""
    net = build(case, dtype)
    x, context = rows(net, 6, dtype, generator)
    types = net.types or (0,) * net.particles

    def swapped(t: Tensor | None, i: int, j: int) -> Tensor | None:
        order = list(range(net.particles))
        order[i], order[j] = j, i
        return None if t is None else t.unflatten(-1, (net.particles, -1))[..., order, :].flatten(-2)

    for i in range(net.particles):
        for j in range(i):
            there = bound(net, swapped(context, i, j))(swapped(x, i, j))  # type: ignore[arg-type]
            gap = (there - swapped(bound(net, context)(x), i, j)).abs().max()  # type: ignore[operator]
            assert gap < 64 * eps(dtype) if types[i] == types[j] else gap > 1e-3


def test_contexts_of_particles_count(generator: Generator) -> None:
    """One-hot types that come along do what types of the net do: they tell particles apart."""
    net = build(NETS["EGNN(3, 3), context"])
    x, context = rows(net, 6, torch.float64, generator)
    assert (net(x, context) - net(x, context.flip(-1))).abs().max() > 1e-3
    with pytest.raises(TypeError, match=r"EGNN was built with context=2 and is called without a context"):
        net(x)
    with pytest.raises(TypeError, match=r"context=0 and is called with a context"):
        EGNN(3, 3)(x, context)


@cases(EQUIVARIANT)
@pytest.mark.parametrize("gap", [0.0, 1e-30, 1e-12, 1e-6, 1e-3])
def test_particles_may_meet(case: Case, gap: float, dtype: torch.dtype, generator: Generator) -> None:
    """Two at one place, or nearly, and all of them: derivatives up to the second are finite and join on smoothly."""
    net = build(case, dtype)
    x, context = rows(net, 2, dtype, generator)
    f = bound(net, context)
    cloud = particles(net, x).clone()
    cloud[0, 1] = cloud[0, 0] + gap
    cloud[1] = cloud[1, :1] + gap * cloud[1]
    derivatives_are_finite(f, cloud.flatten(-2))
    meeting = cloud.clone()
    meeting[0, 1], meeting[1] = cloud[0, 0], cloud[1, :1]
    v = torch.ones_like(x)
    for a, b in zip(*(torch.func.jvp(f, (c.flatten(-2),), (v,)) for c in (cloud, meeting)), strict=True):
        close(a, b, 100 * gap + 64 * eps(dtype))


@cases(EQUIVARIANT)
@torch.no_grad()
def test_particles_move_no_further_than_reach(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """However far apart they are and large the weights: at most layers · reach."""
    net = build(case, dtype, stir=5.0)
    x, context = rows(net, 6, dtype, generator)
    for scale in (1e-3, 1.0, 1e3):
        moved = particles(net, bound(net, context)(scale * x) - scale * x).norm(dim=-1)
        assert moved.isfinite().all()
        assert moved.max() <= net.layers * net.reach + 64 * eps(dtype) * scale


def test_particle_nets_start_as_the_identity_and_can_learn(generator: Generator) -> None:
    x = torch.randn(7, 12, generator=generator)
    net = EGNN(4, 3)
    close(net(x), x, 0)
    net(x).square().sum().backward()
    assert all(e.push.weight.grad.any() for e in net.exchanges)


@pytest.mark.parametrize("per", ["scale", "all"])
def test_flows_of_particles_are_symmetric_behind_a_scale(per: Literal["scale", "all"], generator: Generator) -> None:
    """log p of turned, reflected and renumbered rows is the same behind one factor; behind means of columns it is not."""
    nets = Pair(build(NETS["EGNN(4, 2)"]), build(NETS["EGNN(4, 2)"]), dim=8, latent_dim=8)
    flow = FreeFormFlow(Chain(Standardize(8, per).double(), nets), MeanFreeNormal(4, 2).double())
    x = flow.space.project(3 * torch.randn(40, 8, dtype=torch.float64, generator=generator))
    flow.prepare(x)
    turn = SpecialOrthogonal(2).project(torch.randn(4, dtype=torch.float64, generator=generator)).view(2, 2)
    cloud = x.unflatten(-1, (4, 2))
    for other in (cloud @ turn.T, cloud.flip(-1), cloud[:, [2, 0, 3, 1]]):
        gap = (flow.log_prob(other.flatten(-2)) - flow.log_prob(x)).abs().max()
        assert gap < 1e-10 if per == "scale" else gap > 1e-3


def test_particle_nets_refuse_arguments() -> None:
    with pytest.raises(ValueError, match=r"one type a particle, 3 of them; got 2"):
        EGNN(3, 2, types=(1, 2))
    with pytest.raises(ValueError, match=r"positive reach, got 0"):
        EGNN(3, 2, reach=0.0)
    with pytest.raises(ValueError, match=r"EGNN: particles must be at least 2, got 1"):
        EGNN(1, 2)
