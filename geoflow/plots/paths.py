"""Ways between points: geodesics and straight lines, log p along them, and the graph from which they started."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geoflow.plots.figures import GEODESIC, STRAIGHT, as_array, axes_or_new, like_of
from geoflow.plots.globe import Globe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    ax = axes_or_new(ax)
    p = as_array(getattr(paths, "path", paths))
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
    ax = axes_or_new(ax)
    known = {"geodesic": {"color": GEODESIC}, "straight line": {"color": STRAIGHT, "linestyle": "--"}}
    like = like_of(density)
    for label, path in paths.items():
        x = torch.as_tensor(as_array(path)).to(like)
        step = (x[1:] - x[:-1]).norm(dim=-1)
        share = torch.cat([step.new_zeros(1), step.cumsum(0)]) / step.sum()
        with torch.no_grad():
            ax.plot(
                share.cpu(), density.log_prob(x).cpu(), label=label, **{"linewidth": 2, **known.get(label, {}), **line}
            )
    ax.set(xlabel="share of the way", ylabel="log p (nats)", xlim=(0, 1))
    ax.legend(frameon=False)
    return ax


def plot_graph(
    graph: Any,
    ax: "Axes | None" = None,
    *,
    columns: tuple[int, int] = (0, 1),
    globe: Globe | None = None,
    **lines: Any,
) -> "Axes":
    """The edges of a neighbour graph as thin lines: the ways that paths along the points can take.

    Args:
        graph: a networkx graph whose nodes have their place as ``point``, or what gives one by ``graph()``, such as a
            `FermatSpace`.
        columns: which two.
        globe: from where to look at points of the sphere; edges over the rim are left out.
        lines: passed to matplotlib's ``LineCollection``.

    >>> import networkx
    >>> square = networkx.cycle_graph(4)
    >>> networkx.set_node_attributes(square, {0: [0, 0], 1: [1, 0], 2: [1, 1], 3: [0, 1]}, "point")
    >>> len(plot_graph(square).collections[0].get_segments())
    4
    """
    from matplotlib.collections import LineCollection

    ax = axes_or_new(ax)
    if callable(getattr(graph, "graph", None)):
        graph = graph.graph()
    place = dict(graph.nodes(data="point"))
    if not place or any(p is None for p in place.values()):
        raise ValueError("plot_graph expects nodes with a place, as attribute point=; got a graph with none, or empty.")
    ends = np.array([[place[i], place[j]] for i, j in graph.edges], dtype=float).reshape(graph.number_of_edges(), 2, -1)
    flat = globe(ends) if globe is not None else ends[..., list(columns)]
    style = {"colors": STRAIGHT, "linewidths": 0.4, "alpha": 0.4, "zorder": 2, **lines}
    ax.add_collection(LineCollection(list(flat[np.isfinite(flat).all((1, 2))]), **style))
    if globe is None:
        ax.autoscale_view()
    return ax
