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


def four_gaussians(n: int = 2000, radius: float = 1.5, noise: float = 0.4, seed: int = 0) -> Dataset:
    """Four round bumps on a circle that just touch, labelled 0 to 3; the entropy is 2.369 nats.

    Free-form flows are tried on it: what they report may undercut the entropy, which no density does on average.
    """
    t = torch.arange(4) * (math.pi / 2)
    return _strung("four_gaussians", list(radius * torch.stack([t.cos(), t.sin()], -1)[:, None]), noise, n, seed)


def noisy_sine(n: int = 2000, noise: float = 0.1, seed: int = 0) -> Dataset:
    """The curve (t, sin πt/2), t standard normal, smeared: rows in the plane that one number nearly describes.

    Without noise its entropy along the curve is ½ (1 + log 2π) + E log √(1 + (π²/4) cos² πt/2) = 1.7795 nats: what a
    manifold-learning auto-encoder with one latent dimension should find. [sorrenson2024]
    """
    t = torch.linspace(-5, 5, _pieces(10 * math.hypot(1, math.pi / 2), noise))
    curve = torch.stack([t, torch.sin(math.pi / 2 * t)], -1)
    return _strung("noisy_sine", [curve], noise, n, seed, torch.exp(-0.5 * t * t))


def _pieces(length: float, noise: float) -> int:
    """Gaussians spaced by their deviation, so that the density along a curve ripples by 2 exp(−2π²) = 5e-9."""
    return max(8, math.ceil(length / _positive(noise)) + 1)


def _positive(noise: float) -> float:
    if not noise > 0:
        raise ValueError(f"made data expects noise > 0, for its density to exist; got {noise}.")
    return noise


def _strung(name: str, curves: list[Tensor], noise: float, n: int, seed: int, weights: Tensor | None = None) -> Dataset:
    """`n` draws of a mixture along curves ``(k, 2)``, labelled by curve; even, unless weights ``(k,)`` of one are given."""
    noise = _positive(noise)
    n = validate.count(n, name, "n", 1)
    means = torch.cat(curves)
    if weights is None:
        weights = torch.cat([torch.full((len(c),), 1 / (len(curves) * len(c))) for c in curves])
    weights = weights / weights.sum()
    density = GaussianMixture.of(weights, means, torch.full_like(means, noise**2))
    density.requires_grad_(False)
    generator = Generator().manual_seed(seed)
    which = torch.multinomial(weights, n, True, generator=generator)
    x = means[which] + noise * torch.randn(n, 2, generator=generator)
    of = torch.cat([torch.full((len(c),), i) for i, c in enumerate(curves)])
    labels = of[which] if len(curves) > 1 else None
    about = f"{n} draws, made here (noise {noise}, seed {seed}); the density is known."
    return Dataset(name, x, ("x1", "x2"), labels, density, about=about)
