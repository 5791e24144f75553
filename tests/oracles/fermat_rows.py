"""Fermat distances known independently of this library: closed forms, and boundary-value solutions to nine digits.

Each row is a density with its normalisation, a power, two points and the raw distance (reference zero).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.integrate import quad
from torch import Tensor

from geoflow import GaussianMixture, StandardNormal
from manifolds import Euclidean, Manifold, Sphere


class Formula:
    """A density given by a formula for log p, on flat space unless said otherwise."""

    def __init__(self, log_prob: Callable[[Tensor], Tensor], space: Manifold | None = None) -> None:
        self.log_prob = log_prob
        if space is not None:
            self.space = space


@dataclass(frozen=True)
class Row:
    """One known distance."""

    name: str
    density: Any
    power: float
    x: tuple[float, ...]
    y: tuple[float, ...]
    distance: float

    def ends(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.x, dtype=dtype), torch.tensor(self.y, dtype=dtype)

    @property
    def space(self) -> Manifold:
        return getattr(self.density, "space", Euclidean(len(self.x)))


def _ball(q: float, dim: int) -> Formula:
    """C (1 − |x|²)^q on the unit ball: with power 1/q, Poincaré's ball up to a factor."""
    log_c = math.lgamma(dim / 2 + q + 1) - dim / 2 * math.log(math.pi) - math.lgamma(q + 1)
    return Formula(lambda x: log_c + q * torch.log1p(-(x * x).sum(-1)))


def _student(nu: float, dim: int) -> Formula:
    log_c = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)
    return Formula(lambda x: log_c - (nu + dim) / 2 * torch.log1p((x * x).sum(-1) / nu))


def _normal(*variances: float) -> GaussianMixture:
    v = torch.tensor(variances, dtype=torch.float64)
    return GaussianMixture.of(torch.ones(1, dtype=v.dtype), torch.zeros_like(v)[None], torch.diag(v)[None])


def _standard(dim: int) -> StandardNormal:
    return StandardNormal(dim).double()


def mixture_a() -> GaussianMixture:
    """.6 N((−1.5, 0), .5 I) + .4 N((1.5, 0), [[.4, .15], [.15, .3]])."""
    t = lambda *rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    covariances = torch.stack([t([0.5, 0.0], [0.0, 0.5]), t([0.4, 0.15], [0.15, 0.3])])
    return GaussianMixture.of(t(0.6, 0.4), t([-1.5, 0.0], [1.5, 0.0]), covariances)


def _ring() -> Formula:
    """exp(−(r − 2)² / (2 · 0.5²)) in the plane, normalised."""
    mass = quad(lambda r: 2 * math.pi * r * math.exp(-((r - 2) ** 2) / 0.5), 0, 20, epsabs=1e-13)[0]
    return Formula(lambda x: -(((x * x).sum(-1).sqrt() - 2) ** 2) / 0.5 - math.log(mass))


def _cone(a: float) -> Formula:
    return Formula(lambda x: -a / 2 * (x * x).sum(-1).log())


def _axis(dim: int, i: int) -> tuple[float, ...]:
    return tuple(math.sqrt(dim) * (j == i) for j in range(dim))


def _on_ring(angle: float) -> tuple[float, ...]:
    return (2 * math.cos(angle), 2 * math.sin(angle))


_TILT = Formula(lambda x: -x[..., 0])

FLAT = [
    Row("ball 2-D, q=1", _ball(1, 2), 1, (0.5, 0.2), (-0.3, 0.6), 1.81591642868),
    Row("ball 2-D, q=2", _ball(2, 2), 1 / 2, (0.5, 0.2), (-0.3, 0.6), 1.18301510461),
    Row("ball 5-D, q=5", _ball(5, 5), 1 / 5, (0.5, 0.2, 0, 0, 0), (-0.3, 0.6, 0.1, -0.1, 0.2), 0.844019332076),
    Row("cone a=2", _cone(2), 1 / 4, (1, 0, 0), (0.6, 1.2, 0.5), 1.39879095012),
    Row("cone a=3, through 0", _cone(3), 1, (1, 0, 0), (-0.5, 1, 0), 0.640625),
    Row("tilt 2-D", _TILT, 1, (1, 0), (2, 1.5), 7.69061875145),
    Row("tilt 4-D", _TILT, 1 / 2, (0.5, 0, 0, 0), (1.5, 0.6, -0.8, 0.3), 2.38152030884),
    Row("normal 2-D", _standard(2), 1 / 2, (2, 0), (0, 2), 12.6997419098),
    Row("normal 2-D, β=1", _standard(2), 1, (2, 0), (0, 2), 55.6790124262),
    Row("normal 2-D, apart", _standard(2), 1 / 2, (1, 0), (1.5, 2), 11.2732403822),
    Row("normal 2-D, near-antipodal", _standard(2), 1 / 2, (2, 0), (-2, 0.2), 14.7269099042),
    Row("normal 2-D, variance .49", _normal(0.49, 0.49), 1 / 2, (1, 0.3), (-0.8, 1), 4.82906496442),
    *(
        Row(f"normal {d}-D, orthogonal", _standard(d), 1 / d, _axis(d, 0), _axis(d, 1), v)
        for d, v in (
            (5, 10.7562671134),
            (10, 15.2116588322),
            (20, 21.5125342268),
            (50, 34.0143031996),
            (100, 48.1034888995),
        )
    ),
    *(
        Row(f"normal {d}-D, radial", _standard(d), 1 / d, (0.0,) * d, _axis(d, 0), v)
        for d, v in ((5, 6.69772719897), (10, 9.47201664186), (20, 13.3954543979))
    ),
    Row("Student 3, 2-D", _student(3, 2), 1 / 2, (2, 0), (-1, 1.5), 14.1366227028),
    Row("Student 5, 4-D", _student(5, 4), 1 / 4, (2, 0, 0, 0), (-1, 1.5, 0.5, 0), 10.7772001572),
    Row("normal 3-D, anisotropic", _normal(4, 1, 0.25), 1 / 3, (2, -1, 0.5), (-1, 1.5, -0.4), 12.052600782),
    Row("mixture, across", mixture_a(), 1 / 2, (-1.5, 0), (1.5, 0), 10.726591809),
    Row("mixture, across, β=1", mixture_a(), 1, (-1.5, 0), (1.5, 0), 42.306000144),
    Row("mixture, slanted", mixture_a(), 1 / 2, (-2, 1), (2, -0.6), 15.382017774),
    Row("mixture, slanted, β=1", mixture_a(), 1, (-2, 1), (2, -0.6), 57.638365097),
    Row("mixture, below", mixture_a(), 1 / 2, (-1.5, -1.2), (1.2, 1.1), 16.720164043),
    Row("ring, antipodes", _ring(), 1 / 2, _on_ring(0), _on_ring(math.pi), 23.62932601),
    Row("ring, angle 2.5", _ring(), 1 / 2, _on_ring(0), _on_ring(2.5), 18.89127139),
    Row("ring, angle 1.5", _ring(), 1 / 2, _on_ring(0), _on_ring(1.5), 11.48806408),
    Row("ring, angle 2.5, β=1", _ring(), 1, _on_ring(0), _on_ring(2.5), 76.70253675),
]
"""In two and more dimensions."""

LINE = [
    Row("N(0, 1)", _standard(1), 1, (-1,), (1.5,), 8.80252723567),
    Row("N(0, 4)", _normal(4), 1 / 2, (0,), (3,), 8.22096678008),
    Row("Cauchy", Formula(lambda x: -torch.log(math.pi * (1 + x * x)).sum(-1)), 1, (-1,), (2,), 6 * math.pi),
    Row("Laplace", Formula(lambda x: -x.abs().sum(-1) - math.log(2)), 1 / 2, (-1,), (2,), 6.69489577002),
    Row(
        "logistic",
        Formula(lambda x: (-x - 2 * torch.nn.functional.softplus(-x)).sum(-1)),
        1 / 2,
        (-1,),
        (2,),
        6.78518599655,
    ),
    Row("Exp(1)", Formula(lambda x: -x.sum(-1)), 1 / 3, (0.2,), (3,), 4.94802816814),
    Row("U[0, 4]", Formula(lambda x: -math.log(4) + 0 * x.sum(-1)), 1, (0.5,), (3.5,), 12.0),
]
"""In one dimension."""


def _vmf(kappa: float) -> Formula:
    log_c = math.log(kappa / (4 * math.pi * math.sinh(kappa)))
    return Formula(lambda x: kappa * x[..., 2] + log_c, Sphere(2))


def _place(colatitude: float, longitude: float) -> tuple[float, ...]:
    s = math.sin(colatitude)
    return (s * math.cos(longitude), s * math.sin(longitude), math.cos(colatitude))


SPHERE = [
    Row("von Mises-Fisher", _vmf(2), 1 / 2, _place(0.6, 0), _place(1.0, 1.2), 2.059481748),
    Row("von Mises-Fisher, meridian", _vmf(2), 1 / 2, _place(0.3, 0), _place(1.5, 0), 3.306746977),
]
"""On the sphere, with the score as tangent gradient."""
