"""Nearest neighbours by other libraries: SciPy's KD-tree, faiss, KeOps; and whether they work here."""

import functools
import importlib.util
import os
import shutil

import torch
from torch import Tensor

from geoflow.distances.neighbors.tiles import SPARE, apart, proven


def by_tree(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices ``(m, k)`` and distances by SciPy's KD-tree, which works in float64.

    Cost: n log n where data fill few dimensions, worse than n² where they fill many.
    """
    from scipy.spatial import cKDTree

    far, near = cKDTree(points.cpu().numpy()).query(queries.cpu().numpy(), k=k, workers=torch.get_num_threads())
    index = torch.as_tensor(near.reshape(len(queries), k), dtype=torch.long, device=points.device)
    return index, torch.as_tensor(far.reshape(len(queries), k)).to(points)


def by_faiss(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and distances ``(m, k)`` by faiss's flat index, in float32, with torch's number of threads. [douze2024]"""
    import faiss

    center = points.mean(0)
    b = (points - center).float().cpu().numpy()
    index = faiss.IndexFlatL2(b.shape[1])
    index.add(b)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        squared, near = index.search((queries - center).float().cpu().numpy(), min(len(points), k + SPARE))
    finally:
        faiss.omp_set_num_threads(before)
    reach = torch.as_tensor(squared[:, -1]).to(points)
    return proven(points, queries, torch.as_tensor(near).to(points.device), reach, k, torch.finfo(torch.float32).eps)


def by_keops(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and distances ``(m, k)`` by KeOps, which compiles for each dimension, dtype and size of k. [charlier2021]"""
    from pykeops.torch import LazyTensor

    size = next((s for s in (8, 16, 32, 64, 128) if s >= k), k)  # k is compiled in: a few sizes serve all
    size = size if size <= len(points) else k
    squared = ((LazyTensor(queries[:, None].contiguous()) - LazyTensor(points[None].contiguous())) ** 2).sum(-1)
    index = squared.argKmin(size, dim=1)[:, :k]
    return index, apart(points, queries, index)


def why_not(engine: str, device: str) -> str | None:
    """What keeps an engine from working here; None where nothing does."""
    if engine == "faiss" and importlib.util.find_spec("faiss") is None:
        return "faiss is not installed (pip install geoflow[neighbors])"
    if engine == "keops" and not _keops_works(device):
        return f"KeOps does not work here (no {'compiler' if device == 'cpu' else 'CUDA toolkit'}, or a cache it cannot write)"
    return None


@functools.cache
def _keops_works(device: str) -> bool:
    """Whether KeOps can compile and run here: tried once on eight points of the plane."""
    if device == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return False
    try:
        import pykeops

        pykeops.set_verbose(False)
        x = torch.arange(16.0, device=device).reshape(8, 2)
        return by_keops(x, x, 1)[0].flatten().tolist() == list(range(8))
    except Exception:  # KeOps raises whatever its compiler chain raises
        return False
