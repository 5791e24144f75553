"""Draws of the angle from a pole of a sphere by inverting its distribution function, differentiable in one parameter.

Without rejection: a fixed number of operations for all draws and all members of a batch, and the same uniform numbers
give draws that move smoothly with the parameter.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

CELLS = 1024
"""Cells of the table, over the part of [0, π] that holds the mass."""


def _gauss(points: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(points)
    return like.new_tensor((x + 1) / 2), like.new_tensor(w / 2)


def draw_angles(
    n: int,
    kappa: Tensor,
    index: Tensor,
    statistic: Callable[[Tensor], Tensor],
    peak: tuple[Tensor, Tensor],
    generator: Generator | None,
) -> Tensor:
    """Angles θ on Sⁿ with density ∝ sinⁿ⁻¹θ exp(κ s(θ)), each for the member of κ that `index` names.

    The distribution function F is tabulated by Gauss' rule in 1024 cells a member; a draw looks its cell up and takes
    four Newton steps inside: F is met to 1e-13, or 1e-7 where the density has a cusp at θ = π. In the backward pass
    dθ/dκ = −(∂F/∂κ)/p, where ∂F/∂κ = ∫₀^θ (s − E s) p; second derivatives in κ are not those of the draw.
    [figurnov2018]

    Args:
        n: dimension of the sphere.
        kappa: one-dimensional, float64, positive.
        index: which κ, any shape.
        statistic: s(θ) for angles in (0, π), at most 0.
        peak: the most likely angle of each κ, and the curvature there, −d² log p/dθ² or up to twice that. The table
            reaches 27 standard deviations of that curvature to either side.
    """
    free, kappa = kappa, kappa.detach()
    mode, curvature = (p.detach() for p in peak)

    def log_p(theta: Tensor, k: Tensor) -> Tensor:
        return torch.special.xlogy(n - 1, theta.sin()) + k * statistic(theta)

    reach = 27 / curvature.sqrt()
    low, high = (mode - reach).clamp_min(0), (mode + reach).clamp_max(math.pi)
    width = (high - low) / CELLS
    top = log_p(mode.clamp_min(1e-300), kappa)
    nodes, weights = _gauss(8, kappa)
    steps = torch.arange(CELLS, dtype=kappa.dtype, device=kappa.device)
    theta = low[:, None, None] + width[:, None, None] * (steps[:, None] + nodes)
    p = (log_p(theta, kappa[:, None, None]) - top[:, None, None]).exp() * weights * width[:, None, None]
    cdf = torch.nn.functional.pad(p.sum(-1).cumsum(-1), (1, 0))
    first = torch.nn.functional.pad((p * statistic(theta)).sum(-1).cumsum(-1), (1, 0))
    total = cdf[:, -1:]
    cdf, first = cdf / total, first / total

    u = torch.rand(index.shape, generator=generator, dtype=kappa.dtype, device=kappa.device)
    rows = torch.arange(len(kappa), device=kappa.device)[:, None]
    cell = torch.searchsorted((cdf + rows).flatten(), u + index, right=True) - 1 - index * (CELLS + 1)
    cell = cell.clamp(0, CELLS - 1)
    left, mass = cdf[index, cell], cdf[index, cell + 1] - cdf[index, cell]
    start, w, k = low[index] + width[index] * cell, width[index], kappa[index]
    scale = (top + total[:, 0].log())[index]
    share = ((u - left) / torch.where(mass > 0, mass, torch.ones_like(mass))).clamp(0, 1)
    share = torch.where((cell == 0) & (low[index] == 0), share ** (1 / n), share)  # F grows as θⁿ at the pole
    share = torch.where((cell == CELLS - 1) & (high[index] == math.pi), 1 - (1 - share) ** (1 / n), share)
    nodes, weights = _gauss(6, kappa)
    theta = start + w * share

    def inside(theta: Tensor) -> tuple[Tensor, Tensor]:
        """Points of Gauss' rule from the cell's left end to θ, and the probability at each."""
        points = start[..., None] + (theta - start)[..., None] * nodes
        p = (log_p(points, k[..., None]) - scale[..., None]).exp()
        return points, p * weights * (theta - start)[..., None]

    for _ in range(4):
        density = (log_p(theta, k) - scale).exp().clamp_min(1e-300)
        excess = left + inside(theta)[1].sum(-1) - u
        theta = torch.minimum(torch.maximum(theta - excess / density, start), start + w)
    if not torch.is_grad_enabled():
        return theta
    points, p = inside(theta)
    before = first[index, cell] + (p * statistic(points)).sum(-1) - first[:, -1][index] * u
    slope = -before / (log_p(theta, k) - scale).exp().clamp_min(1e-300)
    return theta + slope * (free - kappa)[index]
