"""Blocks of rows over workers, by joblib: the backend is the one that the caller's context names."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from geoflow.distances.paths.geodesics import PATHS


def workers(n_jobs: int | None) -> int:
    """How many there are: None is what the context of `joblib.parallel_config` says, or one; −1 is every core."""
    if n_jobs is not None and (not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0):
        raise ValueError(f"FermatSpace: n_jobs must be a whole number other than 0, or None; got {n_jobs!r}.")
    from joblib import effective_n_jobs

    return int(effective_n_jobs(n_jobs))


def each(call: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int | None) -> Iterator[Any]:
    """The calls' results in order; a few tasks a worker are under way at once, so that memory stays bounded."""
    count = workers(n_jobs) if len(tasks) > 1 else 1
    if count == 1:
        for task in tasks:
            yield call(*task)
        return
    from joblib import Parallel, delayed

    with Parallel(n_jobs=n_jobs) as pool:
        for first in range(0, len(tasks), 4 * count):
            yield from pool(delayed(call)(*task) for task in tasks[first : first + 4 * count])


def over_rows(call: Callable[..., Any], rows: Sequence[Tensor | None], n_jobs: int | None) -> list[Any]:
    """`call` on blocks of tensors of one length, each some multiple of the paths that are relaxed at once.

    On one worker, or on a GPU, which has its own, it is a single call.
    """
    n = next(len(r) for r in rows if r is not None)
    on_cpu = all(r is None or r.device.type == "cpu" for r in rows)
    count = workers(n_jobs) if on_cpu else 1
    size = PATHS * max(1, n // (4 * count * PATHS))
    if count == 1 or n <= size:
        return [call(*rows)]
    tasks = [tuple(None if r is None else r[i : i + size] for r in rows) for i in range(0, n, size)]
    return list(each(_untracked, [(call, *task) for task in tasks], n_jobs))


def _untracked(call: Callable[..., Any], *rows: Any) -> Any:
    """Workers do not inherit gradient mode."""
    with torch.no_grad():
        return call(*rows)
