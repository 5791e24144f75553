"""Mixtures of every family: EM finds known ones again, and what it does not find is said."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from geoflow import fit
from geoflow.distributions import (
    Dirichlet,
    IsotropicGaussianSO3,
    Mixture,
    ProductDensity,
    RiemannianNormal,
    StandardNormal,
    Uniform,
    VonMises,
    VonMisesFisher,
    WrappedNormal,
)
from geoflow.distributions.family import Family
from manifolds import Euclidean, Hyperboloid, Manifold, PoincareBall, Product, SpecialOrthogonal, Sphere, Torus

SO3 = SpecialOrthogonal(3)


def matrix(*rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def on(space: Manifold, *rows: Any) -> Tensor:
    return space.project(matrix(*rows))


TURNS = on(SO3, [1.0, 0, 0, 0, 1, 0, 0, 0, 1], [0, 1.0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 1.0, 1, 0, 0, 0, 1, 0])
PAIRS = Product(Sphere(2), Torus(1))

KNOWN: dict[str, tuple[Family, dict[str, Any]]] = {
    "von Mises": (VonMises(matrix([1, 3], [-1.5, 0.5], [2.5, -1]), matrix([20, 9], [30, 30], [8, 40])), {}),
    "wrapped, torus": (
        WrappedNormal(Torus(2), matrix([1, 3], [-1.5, 0.5], [2.5, -1]), [0.3, 0.5, 0.4]),
        {"space": Torus(2)},
    ),
    "wrapped, sphere, directions": (
        WrappedNormal(
            Sphere(2), on(Sphere(2), [1, 0, 0], [0, 1, 0.1], [-1, 0, 2]), matrix([0.2, 0.4], [0.3, 0.1], [0.3, 0.3])
        ),
        {"space": Sphere(2), "directions": True},
    ),
    "wrapped, ball": (
        WrappedNormal(PoincareBall(2), matrix([0.5, 0.5], [-0.6, 0], [0.1, -0.7]), [0.3, 0.5, 0.4]),
        {"space": PoincareBall(2)},
    ),
    "wrapped, product": (
        WrappedNormal(PAIRS, on(PAIRS, [1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, -2]), [0.3, 0.4, 0.2]),
        {"space": PAIRS},
    ),
    "Riemannian, hyperboloid": (
        RiemannianNormal(
            Hyperboloid(2, 0.5), on(Hyperboloid(2, 0.5), [1, 2, 0], [1, -2, 1], [1, 0, -2]), [0.4, 0.5, 0.6]
        ),
        {"space": Hyperboloid(2, 0.5)},
    ),
    "Riemannian, rotations": (RiemannianNormal(SO3, TURNS, [0.3, 0.5, 0.4]), {"space": SO3}),
    "heat kernels": (IsotropicGaussianSO3(TURNS, [0.3, 0.5, 0.4]), {}),
    "Dirichlet": (Dirichlet(matrix([20, 2, 3], [2, 30, 5], [9, 9, 40])), {}),
}


@pytest.mark.parametrize("name", KNOWN)
@torch.no_grad()
def test_em_finds_known_mixtures(name: str, generator: Generator) -> None:
    """From 4000 rows: as likely as the true one up to its eight to fourteen parameters' share, weights within 0.03."""
    parts, options = KNOWN[name]
    true = Mixture([0.5, 0.3, 0.2], parts)
    x = true.sample(4000, generator=generator)
    fitted = Mixture.from_data(x, components=3, family=type(parts), **options)
    parameters = 2 + sum(p.numel() for p in parts.parameters())
    gain = float((fitted.log_prob(x) - true.log_prob(x)).mean())
    assert -0.002 < gain < 1.5 * parameters / (2 * len(x)) + 0.001
    assert (fitted.weights.sort().values - matrix(0.2, 0.3, 0.5)).abs().max() < 0.03
    if not isinstance(parts, Dirichlet):
        means = torch.stack([parts.space.dist(m, fitted.components.mean).min() for m in parts.mean])
        assert means.max() < 0.06


@torch.no_grad()
def test_each_step_of_em_gains(generator: Generator) -> None:
    """Where a family's fit is the maximum of the likelihood, as von Mises' and Dirichlet's, no step may lose any."""
    for name in ("von Mises", "Riemannian, rotations", "Dirichlet"):
        parts, options = KNOWN[name]
        x = Mixture([0.5, 0.3, 0.2], parts).sample(500, generator=generator)
        start = Mixture.from_data(x[:40], components=3, family=type(parts), **options)
        last = -math.inf
        for _ in range(12):
            joint = start.log_prob_components(x)
            value = float(joint.logsumexp(-1).mean())
            assert value > last - 1e-9
            last, responsible = value, joint.softmax(-1)
            start.components._fit(x, responsible)
            start.logits.copy_(responsible.mean(0).log())


@torch.no_grad()
def test_weighted_fits_count_rows(generator: Generator) -> None:
    """A row of weight three is three rows, in every family; members of a batch are fitted each to its own column."""
    for parts, options in KNOWN.values():
        x = Mixture([0.5, 0.3, 0.2], parts).sample(60, generator=generator)
        counts = torch.arange(60) % 4
        family = type(parts)
        weighted = family.from_data(x, weights=counts, **options)
        repeated = family.from_data(x.repeat_interleave(counts, 0), **options)
        both = family._start(x, (2,), **options)
        both._fit(x, torch.stack([counts.double(), torch.ones(60, dtype=torch.float64)], 1))
        for a, b, c, d in zip(
            *(m.parameters() for m in (weighted, repeated, both, family.from_data(x, **options))), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(a, c[0], rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(d, c[1], rtol=1e-7, atol=1e-7)


@torch.no_grad()
def test_batches_are_their_members(generator: Generator) -> None:
    """Densities, entropies and draws of a batch are those of its members one by one."""
    for parts, _ in KNOWN.values():
        x = parts.space.project(parts.sample(5, generator=generator))
        singles = []
        for i in range(3):
            values = {n.removeprefix("log_"): p[i] for n, p in parts.named_parameters()}
            values = {n: v if n == "location" else v.exp() for n, v in values.items()}
            values = {"mean" if n == "location" else n: v for n, v in values.items()}
            takes_space = isinstance(parts, WrappedNormal | RiemannianNormal)
            singles.append(type(parts)(**({"space": parts.space} if takes_space else {}), **values))
        together = torch.stack([one.log_prob(x[:, i]) for i, one in enumerate(singles)], 1)
        torch.testing.assert_close(parts.log_prob(x), together, rtol=1e-11, atol=1e-11)
        if not isinstance(parts, WrappedNormal):
            each = torch.stack([one.entropy() for one in singles])
            torch.testing.assert_close(parts.entropy(), each, rtol=1e-11, atol=1e-11)
        mine = parts.sample(400, generator=generator)
        theirs = torch.stack([one.sample(400, generator=generator) for one in singles], 1)
        for i, one in enumerate(singles):
            assert stats.ks_2samp(one.log_prob(mine[:, i]), one.log_prob(theirs[:, i])).pvalue > 1e-4


@torch.no_grad()
def test_several_kinds(generator: Generator) -> None:
    """A background under a bump; products; EM moves the bump and leaves the uniform part as it is."""
    space = Sphere(2)
    true = Mixture([0.7, 0.3], [VonMisesFisher(matrix(0, 0.6, 0.8), 40.0), Uniform(space)])
    x = true.sample(4000, generator=generator)
    parts = stats.vonmises_fisher([0, 0.6, 0.8], 40.0).pdf(x.numpy()), 1 / (4 * math.pi)
    np.testing.assert_allclose(true.log_prob(x), np.log(0.7 * parts[0] + 0.3 * parts[1]), rtol=1e-10)
    model = Mixture([0.5, 0.5], [VonMisesFisher(matrix(1, 0, 0), 1.0), Uniform(space)])
    fit(model, x, epochs=1)
    assert abs(float(model.weights[0]) - 0.7) < 0.03
    bump = model.components.parts[0]
    assert float(bump.concentration) == pytest.approx(40, rel=0.1)
    assert float((bump.mean_direction * matrix(0, 0.6, 0.8)).sum()) > 0.999
    mixed = Mixture(
        [1.0, 1.0],
        [ProductDensity(VonMises([1.0 * i], 3.0), StandardNormal(2)) for i in range(2)],
    )
    y = mixed.sample((3, 2), generator=generator)
    assert y.shape == (3, 2, 3)
    apart = Mixture([1.0, 1.0], [VonMises([-1.0], 1e4), VonMises([1.0], 1e4)])
    index = torch.tensor([[0, 1, 1], [0, 0, 1]])
    assert torch.equal(apart.components._draw(index, generator)[..., 0] > 0, index == 1)
    each = torch.stack([p.log_prob(y) for p in mixed.components.parts], -1)
    torch.testing.assert_close(mixed.log_prob(y), each.logsumexp(-1) - math.log(2))


def test_refusals(unchecked: None) -> None:
    up = torch.tensor([0.0, 0.0, 1.0])
    x = Sphere(2).sample_uniform(9)
    for make, words in (
        (lambda: Mixture([1.0, 1.0], [VonMisesFisher(up, 1.0), VonMisesFisher(up[1:], 1.0)]), "on the same space"),
        (lambda: Mixture([1.0], [VonMisesFisher(up.expand(2, 3), 1.0)]), "single densities"),
        (lambda: Mixture([1.0], StandardNormal(2)), "components in one batch.*or in a list; got StandardNormal"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    for make, words in (
        (lambda: Mixture([1.0], [Sphere(2)]), "expects densities, which have a log_prob; got Sphere"),
        (lambda: Mixture([1.0], []), "expects densities"),
        (lambda: Mixture.from_data(x, family=StandardNormal), "expects a family of densities, as VonMisesFisher"),
        (lambda: Mixture.from_data(x, family=WrappedNormal), "needs space=, the manifold"),
        (lambda: Mixture([1.0], [StandardNormal(2)]).prepare(torch.randn(9, 2)), "which EM needs"),
    ):
        with pytest.raises(TypeError, match=words):
            make()
    with pytest.raises(ValueError, match=r"Euclidean.*from_data.*\(9, 3\)"):
        Mixture.from_data(x, components=2, family=WrappedNormal, space=Euclidean(2))
