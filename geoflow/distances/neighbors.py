"""Exact k nearest neighbours: a KD-tree in few dimensions, tiled torch elsewhere, KeOps on a GPU. One answer."""

import functools
import os
import shutil
import warnings
from typing import Literal

import torch
from torch import Tensor

from geoflow import validate

Engine = Literal["auto", "kdtree", "torch", "keops"]
ENGINES = ("auto", "kdtree", "torch", "keops")


def nearest(points: Tensor, queries: Tensor | None, k: int, engine: str = "auto") -> tuple[Tensor, Tensor]:
    """Euclidean distances and indices ``(m, k)`` of the k points nearest to each query, nearest first.

    Args:
        points: ``(n, d)``.
        queries: ``(m, d)``; None asks for each point's neighbours other than itself.
        k: how many, at least one and at most the number of points there are to find.
        engine: ``"kdtree"`` (SciPy), ``"torch"``, ``"keops"``, or ``"auto"``: the KD-tree on a CPU up to ten dimensions,
            torch above, KeOps on a GPU where it works.

    All engines are exact: the tiled ones find a few candidates too many by the fast formula |a|² + |b|² − 2 a·b on
    centred data, and choose among them by |a − b|. Cost: n log n in few dimensions, m n d otherwise.
    """
    n = len(points)
    available = n - (queries is None)
    k = validate.count(k, "nearest", "k", 1)
    if k > available:
        raise ValueError(
            f"nearest: k = {k} neighbours were asked for, but there are only {available} points to find: lower k."
        )
    if engine not in ENGINES:
        raise ValueError(f"nearest: engine must be one of {', '.join(ENGINES)}; got {engine!r}.")
    chosen = _choose(points) if engine == "auto" else engine
    if chosen == "keops" and not _keops_works(points.device.type):
        warnings.warn(
            "KeOps does not work here (no compiler, or no CUDA): neighbours are found by torch.", stacklevel=2
        )
        chosen = "torch"
    ask = points if queries is None else queries
    find = {"kdtree": _kdtree, "torch": _tiled, "keops": _keops}[chosen]
    index = find(points, ask, min(n, k + (queries is None)))
    distance = (points[index] - ask[:, None]).square().sum(-1).sqrt()
    if queries is None:
        itself = index == torch.arange(n, device=index.device)[:, None]
        distance = distance.masked_fill(itself, float("inf"))
    distance, order = distance.sort(dim=1, stable=True)
    return distance[:, :k], index.gather(1, order)[:, :k]


def _choose(points: Tensor) -> str:
    if points.device.type == "cuda":
        return "keops" if _keops_works("cuda") else "torch"
    return "kdtree" if points.shape[1] <= 10 else "torch"


def _kdtree(points: Tensor, queries: Tensor, k: int) -> Tensor:
    from scipy.spatial import cKDTree

    _, index = cKDTree(points.cpu().numpy()).query(queries.cpu().numpy(), k=k, workers=-1)
    return torch.as_tensor(index.reshape(len(queries), k), dtype=torch.long, device=points.device)


def _tiled(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Top k by the fast formula, with a margin, then by exact differences."""
    center = points.mean(0)
    a, b = queries - center, points - center
    half = b.square().sum(1) / 2
    margin = min(len(points), k + 8)
    rows = max(16, int(2**23 // max(len(points), 1)) if points.device.type == "cpu" else 2**27 // len(points))
    found = []
    for block, original in zip(a.split(rows), queries.split(rows), strict=True):
        near = torch.addmm(half, block, b.mT, alpha=-1).topk(margin, largest=False).indices
        exact = (points[near] - original[:, None]).square().sum(-1)
        found.append(near.gather(1, exact.topk(k, largest=False).indices))
    return torch.cat(found) if found else torch.empty(0, k, dtype=torch.long, device=points.device)


def _keops(points: Tensor, queries: Tensor, k: int) -> Tensor:
    from pykeops.torch import LazyTensor

    center = points.mean(0)
    # K is compiled into the kernel: a few sizes serve all
    size = next((s for s in (8, 16, 32, 64, 128) if s >= k), k)
    size = size if size <= len(points) else k
    a = LazyTensor((queries - center)[:, None].contiguous())
    b = LazyTensor((points - center)[None].contiguous())
    near = ((a - b) ** 2).sum(-1).argKmin(size, dim=1)
    exact = (points[near] - queries[:, None]).square().sum(-1)
    return near.gather(1, exact.topk(k, largest=False).indices)


@functools.cache
def _keops_works(device: str) -> bool:
    """Whether KeOps can compile and run here: tried once on eight points."""
    if device == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return False
    try:
        import pykeops

        pykeops.set_verbose(False)
        x = torch.arange(8.0, device=device)[:, None]
        return _keops(x, x, 1).flatten().tolist() == list(range(8))
    except Exception:  # KeOps raises whatever its compiler chain raises
        return False
