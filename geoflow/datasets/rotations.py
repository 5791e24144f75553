"""Mixtures on the rotations of space: as many narrow peaks as one likes, with a density that is known."""

import torch
from torch import Generator

from geoflow import validate
from geoflow.datasets.dataset import Dataset, drawn
from geoflow.distributions import Mixture, WrappedNormal
from manifolds import SpecialOrthogonal


def so3_mixture(components: int = 16, n: int = 10_000, seed: int = 0, centres: int = 0) -> Dataset:
    """Draws of an even mixture of wrapped normals around uniform rotations, flat matrices ``(n, 9)``.

    Deviations are 1/√(2λ) radians with λ ~ Gamma(100, 1), about 0.07 (4°), as in the synthetic SO(3) experiments of
    M-FFF and score-based models, which use 16, 32 and 64 components: there the normal has variance 1/λ in the metric of
    the matrices, whose lengths are √2 those of angles. Peaks hardly touch, so that the entropy is near log K − 3.69
    nats with respect to the volume 8π². `entropy` estimates it. [sorrenson2024m]

    Args:
        components: K.
        n: rows.
        seed: of the draws.
        centres: seed of the mixture itself; every one is another target of the same kind.
    """
    k = validate.count(components, "so3_mixture", "components", 1)
    space, generator = SpecialOrthogonal(3), Generator().manual_seed(centres)
    means = space.sample_uniform(k, generator)
    precision = torch._standard_gamma(torch.full((k,), 100.0, dtype=means.dtype), generator=generator)
    density = Mixture(torch.ones(k), WrappedNormal(space, means, (2 * precision).rsqrt()))
    columns = [f"r{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]
    about = f"Mixture of {k} wrapped normals on SO(3) (centres' seed {centres})"
    return drawn(f"so3_mixture_{k}", density, columns, n, seed, about)
