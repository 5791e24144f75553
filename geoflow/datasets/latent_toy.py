"""Made rows that a few numbers describe, bent into many columns: how many latent dimensions does a method find?"""

import torch
from torch import Generator

from geoflow import validate
from geoflow.datasets.dataset import Dataset

DIM = 128


def latent_toy(latent: int = 8, n: int = 10_000, seed: int = 0, map_seed: int = 123) -> Dataset:
    """Rows of 128 columns in (0, 1) with a known number of latent dimensions: standard normal z through a random network,

        x = σ(2 W₂ tanh(W₁ z + b)),   entries of W₁, b, W₂ normal with variances 1/latent, 0.09, 1/128.

    No linear method finds the number: 99 % of the variance takes 64 principal components with 8 latent dimensions, 83 with
    16 (the map of seed 123). There is no noise, so no density in 128 columns. [mondal2020]

    Args:
        latent: length of z, 8 and 16 in the papers.
        n: rows.
        seed: of z; rows of another seed are fresh rows of the same kind.
        map_seed: of the network.

    Returns:
        Rows; observables z1, z2, ... are what they were made of.
    """
    latent, n = validate.count(latent, "latent_toy", "latent", 1), validate.count(n, "latent_toy", "n", 1)
    generator = Generator().manual_seed(map_seed)
    first = torch.randn(latent, DIM, generator=generator) / latent**0.5
    shift = 0.3 * torch.randn(DIM, generator=generator)
    second = torch.randn(DIM, DIM, generator=generator) / DIM**0.5
    z = torch.randn(n, latent, generator=Generator().manual_seed(seed))
    x = torch.sigmoid(2 * torch.tanh(z @ first + shift) @ second)
    codes = {f"z{j + 1}": column for j, column in enumerate(z.unbind(1))}
    about = f"{n} draws through a random network of {latent} inputs (seeds {seed} and {map_seed})."
    return Dataset("latent_toy", x, tuple(f"x{j + 1}" for j in range(DIM)), observables=codes, about=about)
