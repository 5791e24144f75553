"""Pictures of models beside densities: images side by side, spectra, histories of training."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from geoflow.plots.figures import GEODESIC, INK, OTHER, STRAIGHT, as_array, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    x: Any,
    ax: "Axes | None" = None,
    *,
    shape: tuple[int, ...],
    limits: tuple[float, float] | None = None,
    gap: int = 1,
    **image: Any,
) -> "Axes":
    """Flat images ``(n, size)`` or ``(rows, n, size)`` side by side, in one strip or one a row.

    Args:
        shape: (height, width) of a grey image, or (3, height, width) of one in colour, whose rows are channels first.
        limits: values drawn as white and black, in colour as darkest and brightest; None takes the smallest and largest.
        gap: pixels between images.
        image: passed to ``Axes.imshow``.
    """
    ax = axes_or_new(ax)
    *colours, h, w = shape
    if colours not in ([], [3]):
        raise ValueError(f"plot_images expects shape=(height, width) or (3, height, width), got {shape}.")
    flat, size = as_array(x), math.prod(shape)
    flat = flat[None] if flat.ndim == 2 else flat
    if flat.ndim != 3 or flat.shape[-1] != size:
        raise ValueError(f"plot_images expects (n, {size}) or (rows, n, {size}), got shape {flat.shape}.")
    low, high = limits if limits is not None else (float(flat.min()), float(flat.max()))
    rows, n = flat.shape[:2]
    sheet = np.full((rows, h + gap, n, w + gap, *colours), np.nan)
    sheet[:, :h, :, :w] = np.moveaxis(flat.reshape(rows, n, *colours, h, w), [1, -2, -1], [2, 1, 3])
    sheet = sheet.reshape(rows * (h + gap), n * (w + gap), *colours)[: rows * (h + gap) - gap, : n * (w + gap) - gap]
    if colours:  # which imshow does not scale, and gaps of which it does not leave blank
        sheet = np.nan_to_num(((sheet - low) / ((high - low) or 1.0)).clip(0, 1), nan=1.0)
    ax.imshow(sheet, **{"cmap": "gray_r", "vmin": low, "vmax": high, "interpolation": "nearest", **image})
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def plot_spectrum(spectra: Any, ax: "Axes | None" = None, *, count: int | None = None, **line: Any) -> "Axes":
    """Deviations in falling order on a logarithmic axis: what carries something, and what is noise.

    Args:
        spectra: one deviation a dimension ``(dim,)``, or several of these by label.
        count: how many are informative; a line is drawn behind them.
        line: passed to ``Axes.plot``.
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    named = spectra if isinstance(spectra, dict) else {"spectrum": spectra}
    colors = (GEODESIC, STRAIGHT, OTHER, INK)
    for i, (label, spectrum) in enumerate(named.items()):
        falling = np.sort(as_array(spectrum))[::-1]
        style = {"color": colors[i % len(colors)], "marker": "o", "markersize": 4, "label": label, **line}
        ax.semilogy(np.arange(1, len(falling) + 1), falling, **style)
    if count is not None:
        ax.axvline(count + 0.5, color=STRAIGHT, linestyle="--", linewidth=1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="dimension", ylabel="deviation within classes")
    if len(named) > 1:
        ax.legend(frameon=False)
    return ax


def plot_history(history: Any, ax: "Axes | None" = None, **line: Any) -> "Axes":
    """Training and held-out loss of a `History` against the step."""
    return history.plot(axes_or_new(ax), **line)  # type: ignore[no-any-return]
