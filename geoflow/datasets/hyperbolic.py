"""Targets on the hyperbolic plane: densities of a flat plane, carried to the Poincaré ball by exp at its centre."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.datasets.dataset import Dataset, drawn
from geoflow.density import Density
from geoflow.distributions import GaussianMixture, GridDensity, WrappedDensity
from manifolds import PoincareBall


def hyperbolic(name: str, n: int = 10_000, seed: int = 0) -> Dataset:
    """Draws of one of the four targets of M-FFF on `PoincareBall(2)`.

    ``"one_gaussian"`` and ``"five_gaussians"`` are normal in the tangent plane at the centre of the ball, ``"swish"`` is
    four bent ridges around it, and ``"checkerboard"`` eight squares of even density, between which it is zero. With
    the published parameters (in orthonormal coordinates twice those of the ball's, as the metric there is 4|dx|²) and
    mass one with respect to the Riemannian volume, where the reference code's have 1, 5, 0.125 and 1.35.
    [sorrenson2024m]

    Args:
        name: one of the four.
        n: rows.
        seed: of the draws.
    """
    if name not in _PLANE:
        raise ValueError(f"hyperbolic has {', '.join(_PLANE)}; got {name!r}.")
    density = WrappedDensity(_PLANE[name](), PoincareBall(2))
    about = f"{name.replace('_', ' ').capitalize()} in the Poincaré ball"
    return drawn(name, density, ("x1", "x2"), n, seed, about)


def _gaussians(means: list[list[float]], std: float) -> Density:
    centres = torch.tensor(means)
    return GaussianMixture.of(torch.full((len(centres),), 1 / len(centres)), centres, torch.full_like(centres, std**2))


def _checkerboard() -> Density:
    index = torch.arange(4)
    return GridDensity((index[:, None] + index + 1) % 2, [-3.0, -3.0], [3.0, 3.0])


def _swish() -> Density:
    """Four turned copies of exp(−((t − s²)² + 0.08 t²)/0.01), s and t in units of the ball at its centre.

    It factors: s has density ∝ exp(−b s⁴), b = 8/1.08, and t is normal around s²/1.08. The first is taken as a mixture
    of normals, so close that it ripples by 1e-8 and so narrow that log p is right to 0.01 along the ridge; each is
    sheared along the parabola, which leaves it by an 80th of the ridge's deviation.
    """
    width = 0.03
    s = torch.arange(-1.23, 1.24, width, dtype=torch.float64)
    b = 8 / 1.08
    smear = 0.5 * width**2 * ((4 * b * s**3) ** 2 - 12 * b * s**2)  # what the normals' width adds to log p
    weights = torch.exp(-b * s**4 - smear)
    slope = 2 * s / 1.08
    across = torch.full_like(s, 0.01 / 2 / 1.08)
    one = torch.full_like(s, width**2)
    covariance = torch.stack([one, slope * one, slope * one, slope**2 * one + across], -1).unflatten(-1, (2, 2))
    ridge = torch.stack([s, s**2 / 1.08], -1)
    turns = [_turn(k * math.pi / 2 - math.pi / 5) for k in (-1, 0, 1, 2)]
    feet = 0.6 * torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
    means = torch.cat([foot + ridge @ turn.T for foot, turn in zip(feet, turns, strict=True)])
    covariances = torch.cat([turn @ covariance @ turn.T for turn in turns])
    weights = weights.repeat(4) / (4 * weights.sum())
    return GaussianMixture.of(weights, 2 * means, 4 * covariances).to(torch.get_default_dtype())


def _turn(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


_PLANE: dict[str, Callable[[], Density]] = {
    "one_gaussian": lambda: _gaussians([[-1.2, 1.2]], 0.6),
    "five_gaussians": lambda: _gaussians([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0], [0.0, 0.0]], 0.5),
    "checkerboard": _checkerboard,
    "swish": _swish,
}
"""On the tangent plane, in an orthonormal basis."""
