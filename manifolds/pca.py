"""Principal directions of points on a curved space."""

from typing import NamedTuple

import torch
from torch import Tensor

from manifolds.manifold import Manifold


class TangentPCA(NamedTuple):
    """Where points scatter around their mean."""

    mean: Tensor
    """Fréchet mean ``(ambient,)``."""
    directions: Tensor
    """Orthonormal tangent vectors at the mean ``(components, ambient)``, the widest first."""
    variances: Tensor
    """Mean squared coordinate along each ``(components,)``, in squared units of the space's distance."""
    coordinates: Tensor
    """The points' coordinates along them ``(n, components)``; exp(mean, coordinates @ directions) reconstructs."""


def tangent_pca(space: Manifold, x: Tensor, components: int | None = None, weights: Tensor | None = None) -> TangentPCA:
    """PCA of log_mean(x) at the Fréchet mean of ``(n, ambient)`` points. [fletcher2004]

    On a flat space it is ordinary PCA with weights w: variances are Σ w c² with Σ w = 1. Signs are fixed by the entry of
    largest modulus in the frame at the mean, which is positive. Cost: the mean, and one dim × dim eigendecomposition.

    Args:
        space: where the points live; it needs `log`.
        x: at least two points.
        components: how many; None is all `dim`.
        weights: ``(n,)``, not negative; None weighs all alike.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"tangent_pca expects points (n, {space.ambient_dim}) with n >= 2, got {tuple(x.shape)}.")
    components = space.dim if components is None else components
    if not 1 <= components <= space.dim:
        raise ValueError(f"tangent_pca expects 1 to {space.dim} components on {space!r}, got {components}.")
    mean = space.mean(x, weights)
    frame = space.tangent_basis(mean)
    c = space.coords(mean, space.log(mean, x))
    variances, axes = torch.linalg.eigh(c.mT @ (space._shares(x, weights)[:, None] * c))
    axes = axes[:, -components:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0).to(axes)
    return TangentPCA(mean, (frame @ axes).mT, variances[-components:].flip(0).clamp_min(0), c @ axes)
