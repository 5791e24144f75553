"""Whole models in one line, with defaults that work on tables."""

from collections.abc import Sequence
from typing import Literal

from torch import Generator

from geoflow import validate
from geoflow.columns import Bounded, Standardize
from geoflow.density import Density
from geoflow.distributions import StandardNormal
from geoflow.flows.autoregressive import Autoregressive
from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.linear import LULinear, OrthogonalLinear, Permutation, Reflection
from geoflow.flows.spline import SplineCoupling
from geoflow.maps import Bijection, ChainBijection


def _flow(bounds: Bounded | None, parts: Sequence[Bijection], base: Density | None, reversible: bool = False) -> Flow:
    """The parts behind the bounds and `Standardize`, before the base."""
    dim = parts[0].dim
    first: list[Bijection] = [] if bounds is None else [bounds]
    chain = ChainBijection(*first, Standardize(dim), *parts)
    return Flow(chain, base if base is not None else StandardNormal(dim), reversible)


def realnvp(
    dim: int,
    *,
    context: int = 0,
    depth: int = 8,
    hidden: Sequence[int] = (64, 64),
    clamp: float = 2.0,
    activation: str = "relu",
    base: Density | None = None,
    bounds: Bounded | None = None,
    reversible: bool = False,
    generator: Generator | None = None,
) -> Flow:
    """RealNVP: affine couplings on standardised, reflected data, with a random permutation after every second. [dinh2017]

    Untrained, after `prepare`, it is the diagonal Gaussian of the data. Encode and decode cost one pass of `depth`
    small networks each.

    Args:
        dim: number of columns, at least two.
        context: width of a float condition, 0 for none. Conditions are used as given: scale them to about one.
        depth: number of couplings; two transform every coordinate once.
        hidden, activation, clamp: of the couplings (see `AffineCoupling`); a smooth activation ("silu") gives smoother
            scores and geodesics.
        base: the latent density; None is the standard normal.
        bounds: of the columns that have some, as `Bounded(low, high)`: no mass is put outside.
        reversible: train with the memory of one coupling instead of all (see `Flow`).
        generator: of the reflection and the permutations (the networks' weights come from the global generator).
    """
    depth = validate.count(depth, "realnvp", "depth", 1)
    parts: list[Bijection] = [Reflection(dim, generator=generator)]
    for layer in range(depth):
        parts.append(AffineCoupling(dim, context, hidden, activation, clamp))
        if dim > 2 and layer % 2 == 1 and layer < depth - 1:
            parts.append(Permutation(dim, generator=generator))
    return _flow(bounds, parts, base, reversible)


def nsf(
    dim: int,
    *,
    context: int = 0,
    depth: int = 8,
    hidden: Sequence[int] = (128, 128),
    bins: int = 8,
    box: float = 5.0,
    activation: str = "relu",
    mix: Literal["lu", "orthogonal", "permute"] = "lu",
    base: Density | None = None,
    bounds: Bounded | None = None,
    reversible: bool = False,
    generator: Generator | None = None,
) -> Flow:
    """Neural spline flow: rational-quadratic couplings on standardised data, mixed between them. [durkan2019]

    Untrained, after `prepare`, it is the diagonal Gaussian of the data. Splines follow edges, gaps and several modes that
    affine couplings smear, at about four times the cost of a step, seven in many columns.

    Args:
        dim: number of columns, at least two.
        context: width of a float condition, 0 for none. Conditions are used as given: scale them to about one.
        depth: number of couplings; two transform every coordinate once.
        hidden, activation, bins, box: of the couplings (see `SplineCoupling`).
        mix: before each coupling but the first: "lu", a learned linear map, or "orthogonal", a learned turn; or
            "permute", a permutation after every second.
        base: the latent density; None is the standard normal.
        bounds: of the columns that have some, as `Bounded(low, high)`: no mass is put outside.
        reversible: train with the memory of one coupling instead of all (see `Flow`).
        generator: of the permutations or first turns (the networks' weights come from the global generator).
    """
    depth = validate.count(depth, "nsf", "depth", 1)
    if mix not in ("lu", "orthogonal", "permute"):
        raise ValueError(f"nsf expects mix='lu', 'orthogonal' or 'permute', got {mix!r}.")
    parts: list[Bijection] = []
    for layer in range(depth):
        if mix == "lu" and layer:
            parts.append(LULinear(dim, generator=generator))
        elif mix == "orthogonal" and layer:
            parts.append(OrthogonalLinear(dim, generator=generator))
        elif mix == "permute" and dim > 2 and layer % 2 == 0 and layer:
            parts.append(Permutation(dim, generator=generator))
        parts.append(SplineCoupling(dim, context, hidden, activation, bins, box))
    return _flow(bounds, parts, base, reversible)


def maf(
    dim: int,
    *,
    context: int = 0,
    depth: int = 5,
    hidden: Sequence[int] = (64, 64),
    univariate: Literal["affine", "spline"] = "affine",
    activation: str = "relu",
    base: Density | None = None,
    bounds: Bounded | None = None,
    generator: Generator | None = None,
) -> Flow:
    """Masked autoregressive flow on standardised, reflected data, from the first coordinate and the last in turn.

    [papamakarios2017]

    Untrained, after `prepare`, it is the diagonal Gaussian of the data. Densities cost `depth` passes of a network,
    **draws `dim` times as many**.

    Args:
        dim: number of columns.
        context: width of a float condition, 0 for none. Conditions are used as given: scale them to about one.
        depth: number of layers; two let every column see every other.
        hidden, univariate, activation: of the layers (see `Autoregressive`).
        base: the latent density; None is the standard normal.
        bounds: of the columns that have some, as `Bounded(low, high)`: no mass is put outside.
        generator: of the reflection (the networks' weights come from the global generator).
    """
    depth = validate.count(depth, "maf", "depth", 1)
    layers = (Autoregressive(dim, context, hidden, activation, univariate) for _ in range(depth))
    return _flow(bounds, [Reflection(dim, generator=generator), *layers], base)
