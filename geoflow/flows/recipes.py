"""Whole models in one line, with defaults that work on tables."""

from collections.abc import Sequence

from torch import Generator

from geoflow import validate
from geoflow.columns import Bounded, Standardize
from geoflow.density import Density
from geoflow.distributions import StandardNormal
from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.permutation import Permutation
from geoflow.flows.reflection import Reflection
from geoflow.maps import Bijection, ChainBijection


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
        generator: of the reflection and the permutations (the networks' weights come from the global generator).
    """
    depth = validate.count(depth, "realnvp", "depth", 1)
    parts: list[Bijection] = [] if bounds is None else [bounds]
    parts += [Standardize(dim), Reflection(dim, generator=generator)]
    for layer in range(depth):
        parts.append(AffineCoupling(dim, context, hidden, activation, clamp))
        if dim > 2 and layer % 2 == 1 and layer < depth - 1:
            parts.append(Permutation(dim, generator=generator))
    return Flow(ChainBijection(*parts), base if base is not None else StandardNormal(dim))
