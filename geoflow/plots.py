"""Draws anything that has our verbs on a matplotlib Axes and returns it; nothing is shown, no setting is changed.

Every function takes ``ax=None``: without one it makes a figure of its own, to be had as ``ax.figure``.
"""

from collections.abc import Sequence
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
    **contour: Any,
) -> "Axes":
    """log p in the plane as filled contours, from its maximum down to `depth` nats below, blank further out.

    Args:
        density: anything with ``log_prob(x)`` for x ``(n, 2)``; with ``sample`` too if neither limits nor points come.
        ax: where to draw.
        limits: ``((x_low, x_high), (y_low, y_high))``; None takes the range of points or samples and a margin.
        points: rows ``(n, 2)`` to draw as dots.
        names: of the two axes, with units.
        resolution: grid points a side; the cost is resolution² evaluations.
        depth: range of the colours, in nats.
        cmap: of the colours; None is a pale blue-green, on which dots and paths stand out.
        contour: passed to ``Axes.contourf``.
    """
    ax = _axes(ax)
    like = _like(density)
    dots = None if points is None else _rows(points)
    if limits is None:
        seen = dots if dots is not None else _rows(density.sample(2000))
        limits = [_margin(seen[:, j]) for j in range(seen.shape[1])]
    if len(limits) != 2:
        raise ValueError(f"plot_density draws two columns, this density has {len(limits)}: plot_samples shows any two.")
    sides = [torch.linspace(low, high, resolution, dtype=like.dtype, device=like.device) for low, high in limits]
    with torch.no_grad():
        log_p = density.log_prob(torch.cartesian_prod(*sides)).reshape(resolution, resolution).cpu().double().numpy()
    finite = log_p[np.isfinite(log_p)]
    if not len(finite):
        raise ValueError(
            "plot_density: the density is zero or not finite everywhere within the limits: pass limits=..."
        )
    top = float(finite.max())
    levels = np.arange(np.ceil(top) - depth, np.ceil(top) + 0.25, 0.5)
    x, y = (s.cpu().numpy() for s in sides)
    field = ax.contourf(
        x, y, np.where(np.isfinite(log_p), log_p, top - 2 * depth).T, levels=levels, cmap=cmap or _pale(), **contour
    )
    if dots is not None:
        ax.scatter(dots[:, 0], dots[:, 1], s=5, color=INK, alpha=0.5, linewidths=0, label="data")
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
    ax = _axes(ax)
    rows = _rows(x.sample(n) if hasattr(x, "sample") and not hasattr(x, "columns") else x)
    names = names if names is not None else [f"x{j + 1}" for j in range(rows.shape[1])]
    if rows.shape[1] == 1:
        ax.hist(rows[:, 0], **{"bins": "auto", "density": True, "color": OTHER, "alpha": 0.6, **dots})
        ax.set(xlabel=names[0], ylabel="density")
        return ax
    i, j = columns
    ax.scatter(rows[:, i], rows[:, j], **{"s": 6, "color": INK, "alpha": 0.5, "linewidths": 0, **dots})
    ax.set(xlabel=names[i], ylabel=names[j])
    return ax


def plot_geodesics(
    paths: Any, ax: "Axes | None" = None, *, straight: bool = True, columns: tuple[int, int] = (0, 1), **line: Any
) -> "Axes":
    """Paths as lines, their ends as dots, and the straight lines between the ends dashed.

    Args:
        paths: points along each path ``(paths, points, dim)`` or of one path ``(points, dim)``, or anything that has
            them as ``.path``, such as what ``FermatSpace.solve`` gives.
        straight: whether to draw the straight lines.
        columns: which two columns.
        line: passed to ``Axes.plot``.
    """
    ax = _axes(ax)
    p = _numpy(getattr(paths, "path", paths))
    p = p[None] if p.ndim == 2 else p
    if p.ndim != 3:
        raise ValueError(f"plot_geodesics expects paths (paths, points, dim), got shape {p.shape}.")
    i, j = columns
    if straight:
        ends = p[:, [0, -1]]
        ax.plot(ends[..., i].T, ends[..., j].T, color=STRAIGHT, linestyle="--", linewidth=1.2, zorder=3)
        ax.lines[-1].set_label("straight line")
    ax.plot(p[..., i].T, p[..., j].T, **{"color": GEODESIC, "linewidth": 2.2, "zorder": 4, **line})
    ax.lines[-1].set_label(line.get("label", "geodesic"))
    for path in p:
        ax.scatter(
            path[[0, -1], i], path[[0, -1], j], s=34, color=line.get("color", GEODESIC), edgecolor="white", zorder=5
        )
    return ax


def plot_along(density: Any, paths: dict[str, Any], ax: "Axes | None" = None, **line: Any) -> "Axes":
    """log p along paths against the share of the way, one line a path.

    Args:
        density: anything with ``log_prob(x)``.
        paths: by label, points ``(points, dim)`` each; "geodesic" and "straight line" get their colours.
        line: passed to ``Axes.plot``.
    """
    ax = _axes(ax)
    known = {"geodesic": {"color": GEODESIC}, "straight line": {"color": STRAIGHT, "linestyle": "--"}}
    like = _like(density)
    for label, path in paths.items():
        x = torch.as_tensor(_numpy(path)).to(like)
        step = (x[1:] - x[:-1]).norm(dim=-1)
        share = torch.cat([step.new_zeros(1), step.cumsum(0)]) / step.sum()
        with torch.no_grad():
            ax.plot(
                share.cpu(), density.log_prob(x).cpu(), label=label, **{"linewidth": 2, **known.get(label, {}), **line}
            )
    ax.set(xlabel="share of the way", ylabel="log p (nats)", xlim=(0, 1))
    ax.legend(frameon=False)
    return ax


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
    ax = _axes(ax)
    flat = _numpy(x)
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
    rows = {label: _rows(x) for label, x in samples.items()}
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
        edges = np.linspace(*_margin(first[:, j], 0.001), bins + 1)
        for i, (label, x) in enumerate(rows.items()):
            style = (
                {"color": OTHER, "alpha": 0.35} if i == 0 else {"histtype": "step", "color": GEODESIC, "linewidth": 1.5}
            )
            ax.hist(x[:, j], edges, density=True, label=label, **style)
        ax.set(xlabel=names[j], yticks=[])
        ax.spines[["left", "top", "right"]].set_visible(False)
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(rows), frameon=False)
    return fig


def plot_spectrum(spectra: Any, ax: "Axes | None" = None, *, count: int | None = None, **line: Any) -> "Axes":
    """Deviations in falling order on a logarithmic axis: what carries something, and what is noise.

    Args:
        spectra: one deviation a dimension ``(dim,)``, or several of these by label.
        count: how many are informative; a line is drawn behind them.
        line: passed to ``Axes.plot``.
    """
    from matplotlib.ticker import MaxNLocator

    ax = _axes(ax)
    named = spectra if isinstance(spectra, dict) else {"spectrum": spectra}
    colors = (GEODESIC, STRAIGHT, OTHER, INK)
    for i, (label, spectrum) in enumerate(named.items()):
        falling = np.sort(_numpy(spectrum))[::-1]
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
    return history.plot(_axes(ax), **line)  # type: ignore[no-any-return]


def _axes(ax: "Axes | None") -> "Axes":
    return ax if ax is not None else figure().subplots()


def _numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _rows(x: Any) -> np.ndarray:
    rows = _numpy(x)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"a plot expects rows (n, dim), got shape {rows.shape}.")
    return rows


def _margin(column: np.ndarray, tail: float = 0.002, margin: float = 0.12) -> tuple[float, float]:
    low, high = np.quantile(column, [tail, 1 - tail])
    pad = margin * (high - low) or 1.0
    return float(low - pad), float(high + pad)


def _pale() -> Any:
    """The light two thirds of a blue-green map."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("pale", colormaps["GnBu"](np.linspace(0.05, 0.68, 32)))


def _like(density: Any) -> Tensor:
    """A tensor whose dtype and device the density's points must have."""
    tensors = [*density.parameters(), *density.buffers()] if isinstance(density, torch.nn.Module) else []
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))
