"""Pictures of models beside densities: images side by side, spectra, histories of training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from geoflow.plots.figures import GEODESIC, INK, OTHER, STRAIGHT, as_array, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_images(
    x: Any,
    ax: "Axes | None" = None,
    *,
    shape: tuple[int, int],
    limits: tuple[float, float] | None = None,
    gap: int = 1,
    **image: Any,
) -> "Axes":
    """Flat images ``(n, height · width)`` or ``(rows, n, height · width)`` side by side, in one strip or one a row.

    Args:
        shape: (height, width) of an image.
        limits: values drawn as white and black; None takes the smallest and largest.
        gap: pixels between images.
        image: passed to ``Axes.imshow``.
    """
    ax = axes_or_new(ax)
    flat = as_array(x)
    flat = flat[None] if flat.ndim == 2 else flat
    h, w = shape
    if flat.ndim != 3 or flat.shape[-1] != h * w:
        raise ValueError(f"plot_images expects (n, {h * w}) or (rows, n, {h * w}), got shape {flat.shape}.")
    low, high = limits if limits is not None else (float(flat.min()), float(flat.max()))
    rows, n = flat.shape[:2]
    sheet = np.full((rows, h + gap, n, w + gap), np.nan)
    sheet[:, :h, :, :w] = flat.reshape(rows, n, h, w).transpose(0, 2, 1, 3)
    sheet = sheet.reshape(rows * (h + gap), n * (w + gap))[: rows * (h + gap) - gap, : n * (w + gap) - gap]
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
