"""Spaces beside geomstats and geoopt: time of dist, exp, log and projection, and the digits that come out."""

import math
import os
from collections.abc import Callable
from functools import partial

import mpmath
import torch
from torch import Tensor

os.environ["GEOMSTATS_BACKEND"] = "pytorch"
import geomstats._backend as gs
import geoopt
from geomstats.geometry.hyperboloid import Hyperboloid as TheirHyperboloid
from geomstats.geometry.hypersphere import Hypersphere
from geomstats.geometry.poincare_ball import PoincareBall as TheirBall
from geomstats.geometry.product_manifold import ProductManifold
from geomstats.geometry.special_orthogonal import SpecialOrthogonal as TheirRotations

from manifolds import (
    Hyperboloid,
    Manifold,
    PoincareBall,
    SpecialOrthogonal,
    Sphere,
    Torus,
    angles_to_embedded,
)
from tests.bench.timing import interleaved, ratio, write

torch.set_default_dtype(torch.float64)
BATCH, FEW = 10_000, 20
mpmath.mp.dps = 45
Verbs = dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]


def ours(space: Manifold) -> Verbs:
    return {
        "dist": lambda x, y, v: space._dist(x, y),
        "exp": lambda x, y, v: space._exp(x, v),
        "log": lambda x, y, v: space._log(x, y),
        "project": lambda x, y, v: space._project(1.1 * x),
    }


def geomstats_of(space: object, shape: tuple[int, ...] | None = None) -> Verbs:
    """Their verbs on flat vectors; theirs take the vector or the far point first."""

    def view(x: Tensor) -> Tensor:
        return x if shape is None else x.reshape(*x.shape[:-1], *shape)

    metric = space.metric  # type: ignore[attr-defined]
    return {
        "dist": lambda x, y, v: metric.dist(view(x), view(y)),
        "exp": lambda x, y, v: metric.exp(view(v), view(x)),
        "log": lambda x, y, v: metric.log(view(y), view(x)),
        "project": lambda x, y, v: space.projection(view(1.1 * x)),  # type: ignore[attr-defined]
    }


def geoopt_of(space: geoopt.Manifold) -> Verbs:
    return {
        "dist": lambda x, y, v: space.dist(x, y),
        "exp": lambda x, y, v: space.expmap(x, v),
        "log": lambda x, y, v: space.logmap(x, y),
        "project": lambda x, y, v: space.projx(1.1 * x),
    }


def spaces() -> dict[str, tuple[Manifold, Verbs, Verbs, Callable[[int], Tensor]]]:
    """Space, geomstats' verbs, geoopt's, and random points."""
    g = torch.Generator().manual_seed(0)

    def uniform(space: Manifold) -> Callable[[int], Tensor]:
        return lambda n: space.sample_uniform(n, generator=g, dtype=torch.float64)

    def ball(n: int) -> Tensor:
        x = torch.randn(n, 3, generator=g)
        return torch.tanh(x.norm(dim=-1, keepdim=True) / 2) * x / x.norm(dim=-1, keepdim=True)

    circles = ProductManifold([Hypersphere(1), Hypersphere(1)])
    return {
        "Sphere(2)": (Sphere(2), geomstats_of(Hypersphere(2)), geoopt_of(geoopt.Sphere()), uniform(Sphere(2))),
        "Sphere(9)": (Sphere(9), geomstats_of(Hypersphere(9)), geoopt_of(geoopt.Sphere()), uniform(Sphere(9))),
        "Torus(2), pairs": (
            Torus(2, embedded=True),
            geomstats_of(circles, (2, 2)),
            {},
            lambda n: angles_to_embedded(uniform(Torus(2))(n)),
        ),
        "PoincareBall(3)": (PoincareBall(3), geomstats_of(TheirBall(3)), geoopt_of(geoopt.PoincareBallExact()), ball),
        "Hyperboloid(3)": (
            Hyperboloid(3),
            geomstats_of(TheirHyperboloid(3)),
            geoopt_of(geoopt.Lorentz()),
            lambda n: Hyperboloid(3)._project(torch.randn(n, 4, generator=g)),
        ),
        "SpecialOrthogonal(3)": (
            SpecialOrthogonal(3),
            geomstats_of(TheirRotations(3), (3, 3)),
            {},
            uniform(SpecialOrthogonal(3)),
        ),
    }


def speed() -> list[str]:
    """Time of a peer over ours, batch by batch: above one we are faster."""
    lines = ["| space | verb | geomstats / ours | geoopt / ours | ours compiled: gain |", "|---|---|---|---|---|"]
    for name, (space, theirs, geo, draw) in spaces().items():
        for verb in ("dist", "exp", "log", "project"):
            rows = 40 if name.startswith("Special") and verb in ("dist", "log") else BATCH
            x, y = draw(rows), draw(rows)
            v = space.random_tangent(x, generator=torch.Generator().manual_seed(1))
            plain = ours(space)[verb]
            runs: dict[str, Callable[[], object]] = {"ours": partial(plain, x, y, v)}
            runs["compiled"] = partial(torch.compile(plain), x, y, v)
            for peer, verbs in (("geomstats", theirs), ("geoopt", geo)):
                if verb in verbs:
                    runs[peer] = partial(verbs[verb], x, y, v)
            seconds = interleaved(runs, rounds=15)
            cells = []
            for peer in ("geomstats", "geoopt", "compiled"):
                if peer not in seconds:
                    cells.append("–")
                    continue
                pair = (seconds["ours"], seconds[peer]) if peer == "compiled" else (seconds[peer], seconds["ours"])
                middle, low, high = ratio(*pair)
                cells.append(f"**{middle:.2f}** [{low:.2f}, {high:.2f}]")
            few = " (40 rows)" if rows != BATCH else ""
            lines.append(f"| {name} | {verb}{few} | {' | '.join(cells)} |")
    return lines


def exact_dist(name: str, x: Tensor, y: Tensor) -> mpmath.mpf:
    """The distance between these very numbers, to 45 digits."""
    a, b = ([mpmath.mpf(float(c)) for c in p] for p in (x, y))
    if name.startswith("Sphere"):
        a, b = ([c / mpmath.norm(mpmath.matrix(p)) for c in p] for p in (a, b))
        minus, plus = (mpmath.norm(mpmath.matrix([p + s * q for p, q in zip(a, b, strict=True)])) for s in (-1, 1))
        return 2 * mpmath.atan2(minus, plus)
    if name.startswith("Poincare"):
        chord = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
        inner = (1 - sum(p * p for p in a)) * (1 - sum(q * q for q in b))
        return 2 * mpmath.asinh(mpmath.sqrt(chord / inner))
    a[0], b[0] = (mpmath.sqrt(1 + sum(c * c for c in p[1:])) for p in (a, b))  # the spatial part is trusted
    return mpmath.acosh(a[0] * b[0] - sum(p * q for p, q in zip(a[1:], b[1:], strict=True)))


def digits() -> list[str]:
    """Worst relative error of dist, and whether its gradient is finite, ours / geomstats / geoopt."""
    lines = [
        "| space, dtype, separation | dist: ours | geomstats | geoopt | gradient finite |",
        "|---|---|---|---|---|",
    ]
    cases = [
        ("Sphere(2)", torch.float64, 1e-9), ("Sphere(2)", torch.float64, math.pi - 1e-7),
        ("Sphere(2)", torch.float32, 1e-2), ("Sphere(2)", torch.float32, math.pi - 1e-3),
        ("PoincareBall(3)", torch.float64, 1e-9), ("PoincareBall(3)", torch.float32, 1e-2),
        ("Hyperboloid(3)", torch.float64, 1e-9), ("Hyperboloid(3)", torch.float64, 5.0),
        ("Hyperboloid(3)", torch.float32, 1e-2),
    ]  # fmt: skip
    table = spaces()
    for name, dtype, separation in cases:
        space, theirs, geo, draw = table[name]
        x = draw(FEW)
        u = space.random_tangent(x, generator=torch.Generator().manual_seed(2))
        y = space.exp(x, separation * u / space.norm(x, u)[:, None])
        x, y = space._project(x.to(dtype)), space._project(y.to(dtype))
        true = [exact_dist(name, a, b) for a, b in zip(x, y, strict=True)]
        cells, finite = [], []
        for verbs in (ours(space), theirs, geo):
            far = y.clone().requires_grad_()
            try:
                found = verbs["dist"](x, far, x).reshape(-1)
                (grad,) = torch.autograd.grad(found.sum(), far)
                errors = [
                    abs(mpmath.mpf(float(d)) / t - 1) if d.isfinite() else mpmath.inf
                    for d, t in zip(found, true, strict=True)
                ]
                cells.append(f"{float(max(errors)):.0e}")
                finite.append("yes" if bool(grad.isfinite().all()) else "no")
            except (RuntimeError, ValueError) as error:
                cells.append(type(error).__name__)
                finite.append("–")
        kind = str(dtype).removeprefix("torch.")
        lines.append(
            f"| {name}, {kind}, {separation:.4g} | **{cells[0]}** | {cells[1]} | {cells[2]} | {' / '.join(finite)} |"
        )
    return lines


def finite(f: Callable[[Tensor], Tensor], at: Tensor) -> str:
    """Whether the gradient and the second derivative at a point are finite, as two letters."""
    moved = at.clone().requires_grad_()
    try:
        value = f(moved)
        (first,) = torch.autograd.grad(
            (value * torch.linspace(0.5, 1, value.numel()).view_as(value)).sum(), moved, create_graph=True
        )
        letters = "y" if bool(first.isfinite().all()) else "n"
        if not first.requires_grad:
            return letters + "y"
        (second,) = torch.autograd.grad((first * torch.linspace(0.3, 1, first.numel()).view_as(first)).sum(), moved)
        return letters + ("y" if bool(second.isfinite().all()) else "n")
    except (RuntimeError, ValueError) as error:
        return type(error).__name__


def derivatives() -> list[str]:
    """Gradient and second derivative where formulas break: coincident points, no velocity, opposite points."""
    lines = ["| space, where | ours | geomstats | geoopt |", "|---|---|---|---|"]
    for name, (space, theirs, geo, draw) in spaces().items():
        x = draw(1)
        places = {"dist, x = y": ("dist", x), "log, x = y": ("log", x), "exp, v = 0": ("exp", torch.zeros_like(x))}
        if name.startswith("Sphere"):
            places |= {"dist, y = -x": ("dist", -x), "log, y = -x": ("log", -x)}
        for where, (verb, at) in places.items():
            cells = []
            for verbs in (ours(space), theirs, geo):
                if not verbs:
                    cells.append("–")
                    continue
                call = verbs[verb]
                cells.append(finite(lambda m, x=x, call=call, verb=verb: call(x, x if verb == "exp" else m, m), at))
            lines.append(f"| {name}, {where} | **{cells[0]}** | {cells[1]} | {cells[2]} |")
    return lines


def main() -> None:
    torch.set_num_threads(1)
    assert gs.__name__
    body = (
        f"## Time\n\nMedian of a peer's time over ours in interleaved rounds, {BATCH} points, float64: above one, ours is "
        "faster. \"compiled\" is the gain of `torch.compile` over our own plain code. geomstats takes SO(3)'s logarithm matrix "
        "by matrix: hence 40 rows.\n\n" + "\n".join(speed()) + "\n\n## Digits\n\nWorst relative error of `dist` over "
        f"{FEW} pairs, against 45 digits on the very numbers that the code saw; and whether the gradient is finite: ours / "
        "geomstats / geoopt.\n\n" + "\n".join(digits()) + "\n\n## Derivatives\n\nWhether the gradient and the second "
        "derivative are finite (yy: both) where formulas break, in float64.\n\n" + "\n".join(derivatives())
    )  # fmt: skip
    write("manifolds.md", "Spaces beside geomstats and geoopt", "nox -s bench -- manifolds", body)


if __name__ == "__main__":
    main()
