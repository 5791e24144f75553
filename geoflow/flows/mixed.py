"""Whole flows on tori, and on tables of which some columns are angles."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Generator

from geoflow import validate
from geoflow.columns import Standardize
from geoflow.density import Density
from geoflow.distributions import ProductDensity, StandardNormal, Uniform
from geoflow.flows.circular import CircularSplineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.linear import LULinear
from geoflow.flows.on_columns import OnColumns, columns_of
from geoflow.maps import Bijection, ChainBijection
from manifolds import Torus


def circular_nsf(
    dim: int,
    periodic: Sequence[int],
    *,
    context: int = 0,
    depth: int = 6,
    hidden: Sequence[int] = (64, 64),
    bins: int = 8,
    box: float = 5.0,
    activation: str = "relu",
    base: Density | None = None,
    generator: Generator | None = None,
) -> Flow:
    """Neural spline flow with angles among its columns, on the product of circles and lines in their order. [rezende2020]

    Untrained, after `prepare`, angles are uniform and the other columns have the diagonal Gaussian of the data. Other
    columns are standardised, and mixed by a learned linear map before every second coupling but the first.

    Args:
        dim: number of columns, at least two.
        periodic: numbers of the columns that are angles in radians.
        context: width of a float condition, 0 for none. Conditions are used as given: scale them to about one.
        depth: number of couplings, at least two; two transform every column once.
        hidden, activation, bins, box: of the couplings (see `CircularSplineCoupling`).
        base: the latent density; None is uniform in the angles and standard normal elsewhere.
        generator: of the halves and permutations (the networks' weights come from the global generator).

    >>> circular_nsf(3, periodic=[0, 1]).space
    Product(Torus(n=2, embedded=False), Euclidean(dim=1))
    """
    dim, depth = validate.count(dim, "circular_nsf", "dim", 2), validate.count(depth, "circular_nsf", "depth", 2)
    angles = columns_of(periodic, dim, "circular_nsf", "periodic")
    if not angles:
        raise ValueError("circular_nsf expects periodic columns, numbers of those that are angles: nsf is for none.")
    flat = [c for c in range(dim) if c not in angles]
    parts: list[Bijection] = [OnColumns(Standardize(len(flat)), dim, flat)] if flat else []
    for layer in range(depth):
        if layer % 2 == 0:
            order = torch.randperm(dim, generator=generator).tolist()
            if layer and len(flat) > 1:
                parts.append(OnColumns(LULinear(len(flat), generator=generator), dim, flat))
        active = order[: dim // 2] if layer % 2 else order[dim // 2 :]
        parts.append(CircularSplineCoupling(dim, angles, active, context, hidden, activation, bins, box))
    return Flow(ChainBijection(*parts), base if base is not None else flat_and_round(dim, angles))


def flat_and_round(dim: int, angles: Sequence[int]) -> Density:
    """Uniform in the angles, standard normal in the other columns, in their order."""
    runs = [(angle, len(list(run))) for angle, run in groupby(c in angles for c in range(dim))]
    parts: list[Density] = [Uniform(Torus(n)) if angle else StandardNormal(n) for angle, n in runs]
    return parts[0] if len(parts) == 1 else ProductDensity(*parts)
