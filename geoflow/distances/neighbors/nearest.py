"""Exact k nearest neighbours, by whichever engine is fastest here: one door, one answer."""

import functools
import warnings
from typing import Literal

import torch
from torch import Tensor

from geoflow import validate
from geoflow.distances.neighbors.engines import by_faiss, by_keops, by_tree, why_not
from geoflow.distances.neighbors.tiles import apart, tiled

Engine = Literal["auto", "kdtree", "torch", "faiss", "keops"]
SEARCH = {"kdtree": by_tree, "torch": tiled, "faiss": by_faiss, "keops": by_keops}
ENGINES = ("auto", *SEARCH)


def nearest(points: Tensor, queries: Tensor | None, k: int, engine: str = "auto") -> tuple[Tensor, Tensor]:
    """Euclidean distances and indices ``(m, k)`` of the k points nearest to each query, nearest first.

    Args:
        points: ``(n, d)``.
        queries: ``(m, d)``; None asks for each point's neighbours other than itself.
        k: how many, at least one and at most the number of points there are to find.
        engine: ``"kdtree"`` (SciPy), ``"torch"`` (tiles of squared distances), ``"faiss"`` (its flat index; the extra
            ``neighbors``), ``"keops"``, or ``"auto"``, the fastest of them here (see `choose`). One that does not work
            here is replaced by that choice, with a warning.

    All engines are exact: the fast formula |a|² + |b|² − 2 a·b only proposes candidates, which are compared by |a − b|, and
    what its rounding could hide is sought again (see `proven`). Points at equal distances may come in any order.
    Cost: n log n in few dimensions, m n d otherwise.
    """
    points = _rows(points, "points")
    queries = None if queries is None else _rows(queries, "queries", points)
    n = len(points)
    available = n - (queries is None)
    k = validate.count(k, "nearest", "k", 1)
    if k > available:
        raise ValueError(
            f"nearest: k = {k} neighbours were asked for, but there are only {available} points to find: lower k."
        )
    if engine not in ENGINES:
        raise ValueError(f"nearest: engine must be one of {', '.join(ENGINES)}; got {engine!r}.")
    ask = points if queries is None else queries
    device = points.device.type
    trouble = why_not(engine, device)
    chosen = choose(n, len(ask), points.shape[1], device) if engine == "auto" or trouble else engine
    if trouble:
        _tell(trouble)
    size = min(n, k + (queries is None))
    with torch.no_grad():
        if not len(ask):
            index, distance = torch.empty(0, k, dtype=torch.long, device=points.device), points.new_empty(0, k)
        else:
            index, distance = SEARCH[chosen](points.detach(), ask.detach(), size)
    if torch.is_grad_enabled() and (points.requires_grad or ask.requires_grad):
        distance = apart(points, ask, index)
    if queries is None:
        itself = index == torch.arange(n, device=index.device)[:, None]
        if bool(itself[:, 0].all()):  # always, but for points that coincide
            distance, index = distance[:, 1:], index[:, 1:]
        else:
            distance = distance.masked_fill(itself, float("inf"))
    if bool((distance[:, 1:] < distance[:, :-1]).any()):  # which most engines leave to rounding
        distance, order = distance.sort(dim=1, stable=True)
        index = index.gather(1, order)
    return distance[:, :k], index[:, :k]


@functools.cache
def _tell(trouble: str) -> None:
    """Once a process."""
    warnings.warn(f"{trouble}: neighbours are found by engine='auto'.", stacklevel=3)


def choose(n: int, m: int, dim: int, device: str) -> str:
    """The engine that was fastest for m queries among n points in ``tests/bench``, whatever it searches.

    The tree pays where it is asked often enough to be worth planting, and while it need not look at most of its leaves: in
    up to seven dimensions, or twelve with few points. Data that fill fewer dimensions than they have favour it further:
    say so by ``engine="kdtree"``. On a GPU KeOps, where it works.
    """
    if device == "cuda":
        return "torch" if why_not("keops", device) else "keops"
    return "kdtree" if m >= 256 and dim <= (12 if n <= 4000 else 7) else "torch"


def _rows(x: Tensor, name: str, like: Tensor | None = None) -> Tensor:
    """Finite rows ``(n, d)``, of the points' d, dtype and device."""
    if isinstance(x, Tensor) and x.ndim != 2:
        raise ValueError(f"nearest expects {name} as rows (n, d), got shape {tuple(x.shape)}.")
    wide = like.shape[1] if like is not None else x.shape[1] if isinstance(x, Tensor) else 0
    return validate.points(x, wide, "nearest", name, like)
