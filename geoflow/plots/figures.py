"""What all pictures share: an empty figure, colours, and how tensors and models become arrays."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GEODESIC, STRAIGHT, INK, OTHER = "#d1495b", "#5b6770", "#22333b", "#2a7f9e"
"""Colours that stay apart for colour-blind readers: along a geodesic, straight, points, a second sample."""


def figure(width: float = 6.0, height: float = 4.5) -> "Figure":
    """An empty figure, in inches, that no window knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def axes_or_new(ax: "Axes | None") -> "Axes":
    return ax if ax is not None else figure().subplots()


def as_array(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def as_rows(x: Any) -> np.ndarray:
    rows = as_array(x)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"a plot expects rows (n, dim), got shape {rows.shape}.")
    return rows


def margins(column: np.ndarray, tail: float = 0.002, margin: float = 0.12) -> tuple[float, float]:
    low, high = np.quantile(column, [tail, 1 - tail])
    pad = margin * (high - low) or 1.0
    return float(low - pad), float(high + pad)


def pale() -> Any:
    """The light two thirds of a blue-green map."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("pale", colormaps["GnBu"](np.linspace(0.05, 0.68, 32)))


def like_of(density: Any) -> Tensor:
    """A tensor whose dtype and device the density's points must have."""
    tensors = [*density.parameters(), *density.buffers()] if isinstance(density, torch.nn.Module) else []
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def grid(
    limits: Sequence[tuple[float, float]], resolution: int, like: Tensor, lift: Callable[[Tensor], Tensor] | None = None
) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Horizontal and vertical places ``(resolution,)`` of a grid, and its points ``(resolution², ambient)``, row by row.

    `lift` takes points of the picture to where the density lives.
    """
    x, y = (torch.linspace(low, high, resolution, dtype=like.dtype, device=like.device) for low, high in limits)
    flat = torch.cartesian_prod(y, x).flip(1)
    return x.cpu().numpy(), y.cpu().numpy(), flat if lift is None else lift(flat)
