"""Balls of a space: how far the same distance reaches in each direction."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoflow.plots.figures import GEODESIC, as_array, as_rows, axes_or_new, margins
from geoflow.plots.globe import Globe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACH = 5
"""Cells that an edge of the grid's graph spans at most: in 80 directions, straight ways are half a percent too long at most."""


def plot_fermat_ball(
    space: Any,
    centre: Any,
    ax: "Axes | None" = None,
    *,
    radii: int | Sequence[float] = 5,
    limits: Sequence[tuple[float, float]] | None = None,
    resolution: int | None = None,
    method: str | None = None,
    globe: Globe | None = None,
    label: bool = True,
    **line: Any,
) -> "Axes":
    """Balls around a point in two dimensions, as level lines of the distance: long along the data, short across.

    Args:
        space: a `FermatSpace`, or to compare with anything that has ``dist(x, y)``.
        centre: a point ``(2,)``, or ``(3,)`` on the sphere.
        radii: how many, at equal steps up to the largest ball that fits in the picture; or the radii, in the space's unit.
        limits: ``((x_low, x_high), (y_low, y_high))``; None takes what the axes show, or if they are empty the range of
            the space's points.
        resolution: points a side; None is 101 for the grid, 41 for other methods.
        method: ``"grid"``, the shortest ways from point to point of the grid, by the space's ``metric``: a percent too long
            where the grid resolves the density, a few off towards a globe's rim. Else that of ``space.dist``,
            such as "relax". None is the grid where there is a metric.
        globe: from where to look at a sphere.
        label: whether to write radii on the lines.
        line: passed to ``Axes.contour``.

    Cost: of the grid sixteen densities a point. Other methods take resolution² distances: relaxed ones take
    seconds under a density in closed form, minutes under a flow, and show as steps where a geodesic is only shorter than
    those near it.

    >>> from manifolds import Euclidean
    >>> ax = plot_fermat_ball(Euclidean(2), torch.zeros(2), radii=[1.0], limits=((-2, 2), (-2, 2)))
    >>> circle = ax.collections[0].get_paths()[0].vertices
    >>> bool((abs(np.linalg.norm(circle, axis=1) - 1) < 0.01).all())
    True
    """
    middle = centre.detach() if isinstance(centre, Tensor) else torch.as_tensor(as_array(centre))
    size = 2 if globe is None else 3
    if middle.shape != (size,):
        raise ValueError(
            f"plot_fermat_ball expects a centre ({size},) {'in the plane' if globe is None else 'on the sphere'}, got shape "
            f"{tuple(middle.shape)}."
        )
    at = as_array(middle if globe is None else globe(middle)).tolist()
    if not np.isfinite(at).all():
        raise ValueError("plot_fermat_ball: the centre is on the far side of the globe: look from elsewhere.")
    if limits is None:
        limits = _limits(space, ax) if globe is None else ((-1.0, 1.0), (-1.0, 1.0))
    method = method or ("grid" if hasattr(space, "metric") else "dist")
    x, y = (
        _side(c, *limit, resolution or (101 if method == "grid" else 41)) for c, limit in zip(at, limits, strict=True)
    )
    if method == "grid":
        source = int(np.abs(y - at[1]).argmin()), int(np.abs(x - at[0]).argmin())
        far = _shortest(space, _points(_halved(x), _halved(y), middle, globe), (len(y), len(x)), source)
    else:
        where = _points(x, y, middle, globe)
        inside = _inside(space, where)
        far = np.full(len(where), np.inf)
        with torch.no_grad():
            found = space.dist(middle, where[inside], **({} if method == "dist" else {"method": method}))
        far[as_array(inside)] = as_array(found)
    far = far.reshape(len(y), len(x))
    if isinstance(radii, int):
        rim = np.ones_like(far, dtype=bool)
        rim[1:-1, 1:-1] = False
        rim = rim if globe is None else np.add.outer(y**2, x**2) >= 1
        radii = (np.arange(1, radii + 1) / radii * far[rim].min()).tolist()
    ax = axes_or_new(ax)
    lines = ax.contour(x, y, far, levels=radii, **{"colors": GEODESIC, "linewidths": 1.4, "zorder": 3.5, **line})
    if label:
        for text in ax.clabel(lines, fmt="%.3g", fontsize=8):
            text.set_visible(globe is None or math.hypot(*text.get_position()) < 1)
    ax.scatter([at[0]], [at[1]], s=34, color=GEODESIC, edgecolor="white", zorder=5)
    if globe is not None:
        lines.set_clip_path(globe.draw(ax))
    return ax


def _limits(space: Any, ax: "Axes | None") -> Sequence[tuple[float, float]]:
    """What the axes show, else the range of the space's points."""
    if ax is not None and ax.has_data():
        return ax.get_xlim(), ax.get_ylim()
    points = getattr(space, "points", None)
    if points is None:
        raise ValueError(
            "plot_fermat_ball: the space holds no points to take a range from: pass limits=((...), (...))."
        )
    return [margins(column) for column in as_rows(points).T]


def _side(centre: float, low: float, high: float, resolution: int) -> np.ndarray:
    """Even steps over a side, one of which is at the centre."""
    step = (high - low) / (resolution - 1)
    return centre + step * np.arange(math.floor((low - centre) / step), math.ceil((high - centre) / step) + 1)


def _halved(side: np.ndarray) -> np.ndarray:
    return np.linspace(side[0], side[-1], 2 * len(side) - 1)


def _points(x: np.ndarray, y: np.ndarray, like: Tensor, globe: Globe | None) -> Tensor:
    """The grid's points ``(len(y) · len(x), ambient)``, row by row."""
    flat = torch.as_tensor(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(like)
    return flat if globe is None else globe.lift(flat)


def _inside(space: Any, where: Tensor) -> Tensor:
    """Where the density that makes the space is not zero."""
    density = getattr(space, "density", None)
    with torch.no_grad():
        return torch.ones(len(where), dtype=torch.bool) if density is None else density.log_prob(where).isfinite()


@torch.no_grad()
def _shortest(space: Any, where: Tensor, shape: tuple[int, int], source: tuple[int, int]) -> np.ndarray:
    """Lengths ``(rows · columns,)`` of the shortest ways over a grid of that shape from one of its nodes.

    `where` holds the grid at half the step, so that edges know their middles: |Δ| by Simpson's rule over the metric.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    rows, columns = shape
    inside = _inside(space, where)
    metric = where.new_full((len(where), where.shape[1], where.shape[1]), torch.inf)
    metric[inside] = space.metric(where[inside])
    at = 2 * np.arange(rows)[:, None] * (2 * columns - 1) + 2 * np.arange(columns)
    parts = []
    for down in range(REACH + 1):
        for right in range(-REACH, REACH + 1):
            if math.gcd(down, right) == 1 and (down, right) != (0, -1):
                i = np.arange(rows * columns).reshape(shape)[: rows - down, max(0, -right) : columns - max(0, right)]
                parts.append(np.stack([i.ravel(), i.ravel() + down * columns + right]))
    i, j = np.concatenate(parts, 1)
    a, b = at.ravel()[i], at.ravel()[j]
    step = where[b] - where[a]
    start, middle, end = (torch.einsum("ni,nij,nj->n", step, metric[k], step).sqrt() for k in (a, (a + b) // 2, b))
    cost = as_array((start + 4 * middle + end) / 6).astype(float)
    use = np.isfinite(cost)
    graph = coo_array((cost[use], (i[use], j[use])), shape=(rows * columns,) * 2).tocsr()
    return np.asarray(dijkstra(graph, directed=False, indices=source[0] * columns + source[1]))
