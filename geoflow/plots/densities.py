"""Densities and samples: contours of log p, dots, and columns one by one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geoflow.plots.figures import GEODESIC, INK, OTHER, as_rows, axes_or_new, figure, grid, like_of, margins, pale
from geoflow.plots.globe import Globe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_density(
    density: Any,
    ax: "Axes | None" = None,
    *,
    limits: Sequence[tuple[float, float]] | None = None,
    points: Any = None,
    names: Sequence[str] = ("x1", "x2"),
    resolution: int = 160,
    depth: float = 8.0,
    cmap: Any = None,
    colorbar: bool = True,
    globe: Globe | None = None,
    **contour: Any,
) -> "Axes":
    """log p in the plane, or on a globe, as filled contours, from its maximum to `depth` nats below, blank further out.

    Args:
        density: anything with ``log_prob(x)`` for x ``(n, 2)``, or ``(n, 3)`` of the sphere; with ``sample`` too if neither
            limits nor points come.
        ax: where to draw.
        limits: ``((x_low, x_high), (y_low, y_high))``; None takes the range of points or samples and a margin.
        points: rows ``(n, 2)`` to draw as dots.
        names: of the two axes, with units.
        resolution: grid points a side; the cost is resolution² evaluations.
        depth: range of the colours, in nats.
        cmap: of the colours; None is a pale blue-green, on which dots and paths stand out.
        colorbar: whether to draw one.
        globe: from where to look at a density on the sphere.
        contour: passed to ``Axes.contourf``.
    """
    ax, like = axes_or_new(ax), like_of(density)
    dots = None if points is None else as_rows(points)
    if globe is not None:
        limits, dots = ((-1.0, 1.0), (-1.0, 1.0)), None if dots is None else globe(dots)
    elif limits is None:
        seen = dots if dots is not None else as_rows(density.sample(2000))
        limits = [margins(seen[:, j]) for j in range(seen.shape[1])]
    if len(limits) != 2:
        raise ValueError(f"plot_density draws two columns, this density has {len(limits)}: plot_samples shows any two.")
    x, y, where = grid(limits, resolution, like, None if globe is None else globe.lift)
    with torch.no_grad():
        log_p = density.log_prob(where).reshape(resolution, resolution).cpu().double().numpy()
    finite = log_p[np.isfinite(log_p)]
    if not len(finite):
        raise ValueError(
            "plot_density: the density is zero or not finite everywhere within the limits: pass limits=..."
        )
    top = float(finite.max())
    levels = np.arange(np.ceil(top) - depth, np.ceil(top) + 0.25, 0.5)
    log_p = np.where(np.isfinite(log_p), log_p, top - 2 * depth)
    field = ax.contourf(x, y, log_p, levels=levels, cmap=cmap or pale(), **contour)
    if dots is not None:
        ax.scatter(dots[:, 0], dots[:, 1], s=5, color=INK, alpha=0.5, linewidths=0, label="data")
    if globe is not None:
        field.set_clip_path(globe.draw(ax))
    else:
        ax.set(xlim=limits[0], ylim=limits[1], xlabel=names[0], ylabel=names[1])
    if colorbar:
        ax.figure.colorbar(field, cax=ax.inset_axes((1.02, 0, 0.03, 1)), label="log p (nats)", ticks=levels[::4])
    return ax


def plot_samples(
    x: Any,
    ax: "Axes | None" = None,
    *,
    n: int = 1000,
    columns: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    **dots: Any,
) -> "Axes":
    """Two columns of rows, or of `n` draws of a model, as dots.

    Args:
        x: rows ``(n, dim)``, or anything with ``sample(n)``.
        columns: which two; of one column alone, a histogram is drawn.
        names: of all columns, with units.
        dots: passed to ``Axes.scatter`` (or ``Axes.hist``).
    """
    ax = axes_or_new(ax)
    rows = as_rows(x.sample(n) if hasattr(x, "sample") and not hasattr(x, "columns") else x)
    names = names if names is not None else [f"x{j + 1}" for j in range(rows.shape[1])]
    if rows.shape[1] == 1:
        ax.hist(rows[:, 0], **{"bins": "auto", "density": True, "color": OTHER, "alpha": 0.6, **dots})
        ax.set(xlabel=names[0], ylabel="density")
        return ax
    i, j = columns
    ax.scatter(rows[:, i], rows[:, j], **{"s": 6, "color": INK, "alpha": 0.5, "linewidths": 0, **dots})
    ax.set(xlabel=names[i], ylabel=names[j])
    return ax


def plot_marginals(
    samples: dict[str, Any],
    names: Sequence[str] | None = None,
    fig: "Figure | None" = None,
    *,
    per_row: int = 4,
    bins: int | None = None,
) -> "Figure":
    """Histograms of each column for several samples over each other, on one figure (which is returned).

    Args:
        samples: rows ``(n, dim)`` by label: the first is filled, the others are lines.
        names: of the columns, with units.
        per_row: how many histograms side by side.
        bins: of each histogram; None is 2 ∛n, between 8 and 60.
    """
    rows = {label: as_rows(x) for label, x in samples.items()}
    first = next(iter(rows.values()))
    dim = first.shape[1]
    bins = bins if bins is not None else int(np.clip(2 * len(first) ** (1 / 3), 8, 60))
    names = names if names is not None else [f"x{j + 1}" for j in range(dim)]
    across = min(per_row, dim)
    down = -(-dim // across)
    fig = fig if fig is not None else figure(2.6 * across, 2.1 * down + 0.4)
    grid = np.asarray(fig.subplots(down, across, squeeze=False)).ravel()
    for j, ax in enumerate(grid):
        if j >= dim:
            ax.set_axis_off()
            continue
        edges = np.linspace(*margins(first[:, j], 0.001), bins + 1)
        for i, (label, x) in enumerate(rows.items()):
            style = (
                {"color": OTHER, "alpha": 0.35} if i == 0 else {"histtype": "step", "color": GEODESIC, "linewidth": 1.5}
            )
            ax.hist(x[:, j], edges, density=True, label=label, **style)
        ax.set(xlabel=names[j], yticks=[])
        ax.spines[["left", "top", "right"]].set_visible(False)
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(rows), frameon=False)
    return fig
