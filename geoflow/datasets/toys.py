"""Made data in the plane whose density is known: mixtures of Gaussians strung along curves.

A curve smeared with Gaussian noise is a mixture with so many components that the string looks smooth; the mixture, not
the smear, is the definition, so `density.log_prob` is exact and `x` are its draws.
"""

import math

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.datasets.dataset import Dataset
from geoflow.distributions import GaussianMixture


def two_moons(n: int = 2000, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Two interleaved half circles of radius 1, labelled 0 and 1: the usual test of a distance that should go round.

    Args:
        n: rows.
        noise: standard deviation around the curves.
        seed: of the draws.
    """
    t = torch.linspace(0, math.pi, _pieces(math.pi, noise))
    upper = torch.stack([t.cos(), t.sin()], -1)
    lower = torch.stack([1 - t.cos(), 0.5 - t.sin()], -1)
    return _strung("two_moons", [upper, lower], noise, n, seed)


def ring(n: int = 2000, radius: float = 2.0, noise: float = 0.3, seed: int = 0) -> Dataset:
    """A circle: opposite points are π·radius apart along the data, 2·radius through the empty middle."""
    k = _pieces(2 * math.pi * radius, noise)
    t = torch.arange(k) * (2 * math.pi / k)
    return _strung("ring", [radius * torch.stack([t.cos(), t.sin()], -1)], noise, n, seed)


def spiral(n: int = 2000, turns: float = 1.5, noise: float = 0.1, seed: int = 0) -> Dataset:
    """A spiral with arms one unit apart: neighbours across arms are far along the data."""
    s = torch.linspace(0, 1, _pieces(math.pi * turns * (turns + 1), noise)).sqrt()
    angle = 2 * math.pi * turns * s
    return _strung("spiral", [(0.5 + turns * s)[:, None] * torch.stack([angle.cos(), angle.sin()], -1)], noise, n, seed)


def eight_gaussians(n: int = 2000, radius: float = 2.0, noise: float = 0.2, seed: int = 0) -> Dataset:
    """Eight round bumps on a circle, labelled 0 to 7: do samples find every mode, and none between?"""
    t = torch.arange(8) * (math.pi / 4)
    centres = radius * torch.stack([t.cos(), t.sin()], -1)
    return _strung("eight_gaussians", list(centres[:, None]), noise, n, seed)


def _pieces(length: float, noise: float) -> int:
    """Gaussians spaced by their deviation, so that the density along a curve ripples by 2 exp(−2π²) = 5e-9."""
    if not noise > 0:
        raise ValueError(f"made data expects noise > 0, for its density to exist; got {noise}.")
    return max(8, math.ceil(length / noise) + 1)


def _strung(name: str, curves: list[Tensor], noise: float, n: int, seed: int) -> Dataset:
    """`n` draws of an even mixture along curves ``(k, 2)``, labelled by curve."""
    n = validate.count(n, name, "n", 1)
    means = torch.cat(curves)
    weights = torch.cat([torch.full((len(c),), 1 / (len(curves) * len(c))) for c in curves])
    density = GaussianMixture.of(weights, means, torch.full_like(means, noise**2))
    density.requires_grad_(False)
    generator = Generator().manual_seed(seed)
    which = torch.multinomial(weights, n, True, generator=generator)
    x = means[which] + noise * torch.randn(n, 2, generator=generator)
    of = torch.cat([torch.full((len(c),), i) for i, c in enumerate(curves)])
    labels = of[which] if len(curves) > 1 else None
    about = f"{n} draws, made here (noise {noise}, seed {seed}); the density is known."
    return Dataset(name, x, ("x1", "x2"), labels, density, about=about)
