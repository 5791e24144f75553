"""Does a density integrate to one? On a grid, by uniform points of a compact space, or by importance sampling."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoflow.baselines import mixture_by_bic
from geoflow.density import Density, log_prob_in_blocks


class Mass(NamedTuple):
    """An estimate of ∫ p with its error, how it was made, and how many draws it is worth."""

    value: float
    error: float
    how: str
    effective: float


def grid_mass(density: Density, rows: Tensor, context: Tensor | None, side: int) -> Mass:
    """Midpoint sum over a box around the rows, each side half as long again; one or two columns.

    Args:
        rows: data and samples ``(n, dim)``: what the box must hold.
        context: one condition (a row of them), or None.
        side: points a side; the error is the difference to the sum with half as many.
    """
    low, high = rows.amin(0), rows.amax(0)
    middle, half = (low + high) / 2, 0.75 * (high - low)

    def total(k: int) -> float:
        ticks = (torch.arange(k, dtype=rows.dtype, device=rows.device) + 0.5) / k * 2 - 1
        points = torch.cartesian_prod(*[ticks] * rows.shape[1]).reshape(-1, rows.shape[1]) * half + middle
        cell = float((2 * half.double() / k).prod())
        return float(_log_density(density, points, context).exp().sum()) * cell

    fine, coarse = total(side), total(side // 2)
    return Mass(fine, abs(fine - coarse), f"a grid of {side} points a side", math.inf)


def uniform_mass(density: Density, context: Tensor | None, like: Tensor, n: int, generator: torch.Generator) -> Mass:
    """Volume times the mean density at uniform points of a compact space."""
    space = density.space
    points = space.sample_uniform(n, generator, like.dtype, like.device)
    log = log_prob_in_blocks(density, points, _cycle(context, n)).double() + space.log_volume_total
    return _from_weights(log, f"{n:,} uniform points")


def importance_mass(density: Density, rows: Tensor, context: Tensor | None, n: int, seed: int) -> Mass:
    """Mean of p / q under heavy tails around the rows: 70 % near (t, 5 degrees, 1.2 times as wide), 30 % far (3, 2.5).

    q starts from a Gaussian mixture fitted to `rows`, data and samples together, so that mass where only the model puts
    it is found too. With contexts the mean over them.
    """
    mixture = mixture_by_bic(rows.cpu().double(), "full" if rows.shape[1] <= 32 else "diagonal", most=6)
    rng, dim = np.random.default_rng(seed), rows.shape[1]
    with torch.no_grad():
        weights, factor, means = mixture.logits.softmax(0), mixture.factor(), mixture.means.detach()
    parts = [(share, degrees, wide) for share, degrees, wide in ((0.7, 5.0, 1.2), (0.3, 3.0, 2.5))]
    component = torch.from_numpy(rng.choice(len(weights), n, p=(weights / weights.sum()).numpy()))
    far = torch.from_numpy(rng.random(n) < parts[1][0])
    degrees = np.where(far.numpy(), parts[1][1], parts[0][1])
    spread = torch.from_numpy(
        np.sqrt(degrees / rng.chisquare(degrees)) * np.where(far.numpy(), parts[1][2], parts[0][2])
    )
    noise = torch.from_numpy(rng.standard_normal((n, dim))) * spread[:, None]
    points = means[component] + (factor[component] @ noise[..., None])[..., 0]
    log_q = []
    for mean, lower, weight in zip(means, factor, weights, strict=True):
        squared = torch.linalg.solve_triangular(lower, (points - mean).T, upper=False).square().sum(0)
        log_det = float(lower.diagonal().log().sum())
        log_q += [
            _log_t(squared / wide**2, v, dim) - log_det - dim * math.log(wide) + torch.log(share * weight)
            for share, v, wide in parts
        ]
    points = points.to(rows)
    log = _log_density(density, points, _cycle(context, n)).cpu() - torch.logsumexp(torch.stack(log_q), 0)
    return _from_weights(log, f"{n:,} draws of a heavy-tailed mixture")


def _log_t(squared: Tensor, v: float, dim: int) -> Tensor:
    constant = math.lgamma((v + dim) / 2) - math.lgamma(v / 2) - dim / 2 * math.log(v * math.pi)
    return constant - (v + dim) / 2 * torch.log1p(squared / v)


def _log_density(density: Density, points: Tensor, context: Tensor | None) -> Tensor:
    """log p against the coordinates' volume: that of a scaled space differs by a constant."""
    if context is not None and len(context) != len(points):
        context = context[:1].expand(len(points), *context.shape[1:])
    log = log_prob_in_blocks(density, points, context).double() + density.space.log_volume(points).double()
    return log.nan_to_num(nan=math.nan, posinf=math.inf, neginf=-math.inf)


def _cycle(context: Tensor | None, n: int) -> Tensor | None:
    return None if context is None else context[torch.arange(n, device=context.device) % len(context)]


def _from_weights(log: Tensor, how: str) -> Mass:
    n, top = len(log), float(log.max())
    if not math.isfinite(top):
        return Mass(math.nan if math.isnan(top) else math.inf if top > 0 else 0.0, math.inf, how, 0.0)
    scaled = torch.exp(log - top)
    mean, error = float(scaled.mean()), float(scaled.std()) / math.sqrt(n)
    size = math.exp(min(top, 600.0))
    return Mass(mean * size, error * size, how, float(scaled.sum() ** 2 / scaled.square().sum()))
