"""Laws of estimated changes of volume, on every space: unbiased, exact with all directions, the same as autograd's.

The decoder of these laws undoes the encoder to first order at each code, z ↦ project(x + L(z − f(x))) with L the inverse
of the encoder's Jacobian between tangent spaces: the estimator's assumption holds exactly, whatever the space.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from geoflow.freeform import exact
from geoflow.freeform.probes import Kind, Probes, frame, probes_for
from geoflow.freeform.surrogate import volume_change
from geoflow.nets import MLP
from manifolds import Euclidean, Manifold, MeanFree, PoincareBall, SpecialOrthogonal
from tests.laws.registry import MANIFOLDS, Case
from tests.laws.tools import cases, close, untouched

Map = Callable[[Tensor], Tensor]


class Tilt:
    """x ↦ project(x + net(x)/8), a map near the identity of any space, and its inverse to first order at each point."""

    def __init__(self, space: Manifold, dtype: torch.dtype = torch.float64) -> None:
        self.space = space
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.net = MLP(space.ambient_dim, space.ambient_dim, (8,), "tanh").to(dtype)

    def encode(self, x: Tensor) -> Tensor:
        x = self.space._project(x)
        return self.space._project(x + 0.125 * self.net(x))

    def decoder(self, x: Tensor) -> Map:
        with torch.no_grad():
            z, jacobian = exact.square(self.encode, x, self.space, self.space)
            undo = torch.linalg.inv(jacobian)
            there, here = frame(self.space, z), frame(self.space, x)
            if there is not None and here is not None:
                undo = here @ undo @ there.mT
        return lambda y: self.space._project(x + (undo @ (y - z)[..., None])[..., 0])

    def gradient(self, value: Tensor) -> Tensor:
        """In all parameters, as one vector."""
        given = torch.autograd.grad(value, list(self.net.parameters()), allow_unused=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in given])


def rows(case: Case, n: int, g: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    space = case.make()
    raw = torch.randn(n, space.ambient_dim, dtype=dtype, generator=g)
    return space.project(0.7 * raw if case.points is None else case.points(raw))


def estimated(tilt: Tilt, x: Tensor, probes: Probes, kind: Any, g: Generator | None = None) -> Tensor:
    """Rows whose gradient in the encoder is the estimate of that of log|det|, metric included."""
    found = volume_change(tilt.encode, tilt.decoder(x), x, (tilt.space, tilt.space), probes, kind, generator=g)
    assert not bool((found.defect > 1e-12).any())
    return found.change + tilt.space._log_volume(found.z)


def wanted(tilt: Tilt, x: Tensor) -> Tensor:
    return tilt.gradient(exact.log_det(tilt.encode, x, tilt.space, tilt.space)[1].sum())


@cases(MANIFOLDS)
def test_all_directions_give_the_exact_gradient(case: Case, generator: Generator) -> None:
    """That of log|det ∂f/∂x| with respect to the Riemannian volume, by autograd through the whole Jacobian."""
    tilt, x = Tilt(case.make()), rows(case, 4, generator)
    truth = wanted(tilt, x)
    change = estimated(tilt, x, probes_for(tilt.space, "exact"), "encoder")
    close(tilt.gradient(change.sum()), truth, 1e-8 * (1 + float(truth.abs().max())))


@cases(MANIFOLDS)
@pytest.mark.parametrize("kind", ["orthonormal", "gaussian", "rademacher"])
def test_random_directions_are_unbiased(case: Case, kind: Kind, generator: Generator) -> None:
    """The mean of 4000 estimates, along the exact gradient, is that gradient within four and a half standard errors.

    Probes of the embedding's scale would make it ambient_dim / dim times as long.
    """
    tilt, x = Tilt(case.make()), rows(case, 4, generator)
    truth = wanted(tilt, x) / 4
    many, probes = x.repeat(100, 1), Probes(tilt.space.dim, 1, kind)
    found = [tilt.gradient(estimated(tilt, many, probes, "encoder", generator).mean()) for _ in range(10)]
    ratios = torch.stack(found) @ truth / (truth @ truth)
    assert float((ratios.mean() - 1).abs()) < 4.5 * float(ratios.std()) / math.sqrt(10) + 1e-9


@cases(MANIFOLDS)
def test_the_decoders_form(case: Case, generator: Generator) -> None:
    """With encoder and decoder exchanged, the gradient of −log|det ∂g/∂z| in the decoder."""
    tilt, z = Tilt(case.make()), rows(case, 4, generator)
    x = tilt.encode(z).detach()
    encode = tilt.decoder(z)
    spaces = (tilt.space, tilt.space)
    _, back, change, *_ = volume_change(encode, tilt.encode, x, spaces, probes_for(tilt.space, "exact"), "decoder")
    truth = -wanted(tilt, z)
    close(tilt.gradient((change - tilt.space._log_volume(back)).sum()), truth, 1e-8 * (1 + float(truth.abs().max())))


@cases(MANIFOLDS)
def test_without_forward_derivatives(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Two backward passes give the same numbers; nothing is propagated to the data, whose flag stays; the value is zero."""
    tilt = Tilt(case.make(), dtype)
    x = rows(case, 4, generator, dtype).requires_grad_()
    probes, found = Probes(tilt.space.dim, 1), []
    for forward in (True, False):
        decode = tilt.decoder(x.detach())
        with untouched(x):
            z, back, change, *_ = volume_change(
                tilt.encode, decode, x, (tilt.space, tilt.space), probes, "encoder", forward, Generator().manual_seed(3)
            )
        assert not bool(change.detach().any())
        assert x.requires_grad
        assert torch.autograd.grad(change.sum(), x, allow_unused=True, retain_graph=True)[0] is None
        found.append((z, back, tilt.gradient(change.sum())))
    for a, b in zip(*found, strict=True):
        close(a, b, 1e3 * torch.finfo(dtype).eps * (1 + float(b.detach().abs().max())))


@pytest.mark.parametrize("space", [Euclidean(3), MeanFree(3, 2)], ids=repr)
def test_the_conditional_form_pulls_towards_the_inverse(space: Manifold, generator: Generator) -> None:
    """Where J_f J_g is too small its gradient is the encoder's, which raises it, and where too large the decoder's."""
    x = space.project(torch.randn(5, space.ambient_dim, dtype=torch.float64, generator=generator))
    scales = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in (1.3, 0.5)]
    for factor in (0.9, 1.1):
        e, d = scales
        found = {}
        for kind in ("encoder", "decoder", "conditional"):
            change = volume_change(
                lambda y: e * y,  # noqa: B023 (called at once)
                lambda z: d * factor * z * (2 / 1.3),  # noqa: B023
                x,
                (space, space),
                Probes(space.dim),
                kind,  # type: ignore[arg-type]
                generator=Generator().manual_seed(0),
            ).change
            found[kind] = torch.autograd.grad(change.sum(), scales, allow_unused=True, materialize_grads=True)
        other = "encoder" if factor < 1 else "decoder"
        for a, b in zip(found["conditional"], found[other], strict=True):
            close(a, b, 1e-12)
        change_of_product = float(found["conditional"][0]) * 0.5 + float(found["conditional"][1]) * 1.3
        assert (change_of_product > 0) == (factor < 1)


@torch.no_grad()
def test_variances_of_probes(generator: Generator) -> None:
    """Those of `Probes`' docstring within 5 % from 200,000 draws, and none for as many as there are dimensions."""
    d = 6
    a = torch.randn(d, d, dtype=torch.float64, generator=generator)
    symmetric = (a + a.T) / 2
    squares, trace = float((symmetric**2).sum()), float(a.diagonal().sum())
    sphere = 2 * d / (d + 2) * (squares - trace**2 / d)
    formulas: list[tuple[Probes, float]] = [
        (Probes(d, 1, "gaussian"), 2 * squares),
        (Probes(d, 3, "gaussian"), 2 * squares / 3),
        (Probes(d, 1, "rademacher"), 2 * (squares - float((symmetric.diagonal() ** 2).sum()))),
        (Probes(d), sphere),
        (Probes(d, 4), sphere / 4 * (d - 4) / (d - 1)),
    ]
    for probes, variance in formulas:
        u = probes.coordinates(torch.empty(200_000, d, dtype=torch.float64), generator)
        found = torch.einsum("kni,ij,knj->kn", u, a, u).mean(0)
        assert float(found.var()) == pytest.approx(variance, rel=0.05)
        assert float(found.mean()) == pytest.approx(trace, abs=5 * math.sqrt(variance / 200_000))
    u = Probes(d, d).coordinates(torch.empty(100, d, dtype=torch.float64), generator)
    assert float(torch.einsum("kni,ij,knj->kn", u, a, u).mean(0).var()) < 1e-8


@cases(MANIFOLDS)
@torch.no_grad()
def test_second_moments_of_probes(case: Case, generator: Generator) -> None:
    """E vcᵀ is the projector onto the tangent space of the embedding, of trace `dim`, and v of that length in the metric."""
    space, x = case.make(), rows(case, 1, generator)
    basis = frame(space, x)
    projector = (
        torch.eye(space.dim, dtype=x.dtype) if basis is None else (basis @ basis.mT).reshape(2 * basis.shape[-2:-1])
    )
    many = x.expand(20_000, -1)
    for count, kind in ((1, "orthonormal"), (space.dim, "orthonormal"), (1, "gaussian"), (2, "rademacher")):
        v, c = (t.flatten(0, 1) for t in Probes(space.dim, count, kind).pairs(space, many, generator))  # type: ignore[arg-type]
        unit = float(v.norm(dim=-1).mean() * c.norm(dim=-1).mean()) / space.dim
        close((v.mT @ c) / len(v), projector, 6 * unit * math.sqrt(2 / 20_000))
        close(space.to_tangent(x, v[:50]), v[:50], 1e-12 * max(1.0, float(v.abs().max())))
        if isinstance(space, PoincareBall | SpecialOrthogonal):
            continue  # a factor away from the embedding's metric, whose lengths they keep
        lengths = space.inner(x, v[:1000], v[:1000]).mean()
        assert float(lengths) == pytest.approx(space.dim, rel=0.3 if kind == "gaussian" else 1e-6)


def test_traces_are_estimated_in_the_units_of_the_metric(generator: Generator) -> None:
    """cᵀ(SBS⁻¹)v on a space of units S is uᵀBu: other units of the coordinates make no noise."""
    units, b = [1e-3, 1.0, 500.0], torch.randn(3, 3, dtype=torch.float64, generator=generator)
    s = torch.tensor(units, dtype=torch.float64)
    x = torch.zeros(50, 3, dtype=torch.float64)
    v, c = Probes(3).pairs(Euclidean(3, scale=units), x, Generator().manual_seed(0))
    u, _ = Probes(3).pairs(Euclidean(3), x, Generator().manual_seed(0))
    a = s[:, None] * b / s
    close(torch.einsum("...i,ij,...j->...", c, a, v), torch.einsum("...i,ij,...j->...", u, b, u), 1e-9)


def test_refusals(unchecked: None) -> None:
    with pytest.raises(ValueError, match="1 to 3 orthonormal ones, the dimension of the space, got 4"):
        Probes(3, 4)
    with pytest.raises(ValueError, match="a kind of orthonormal, gaussian, rademacher, got 'sphere'"):
        Probes(3, 1, "sphere")  # type: ignore[arg-type]
    assert Probes(3, 7, "gaussian").count == 7
    assert probes_for(Euclidean(3)).exact
    assert not probes_for(Euclidean(4)).exact
