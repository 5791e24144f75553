"""Balls around rows, each as wide as to its k-th neighbour: which other rows lie inside."""

from collections.abc import Iterator

import numpy as np

ROUNDING = 1e-13
"""Of squared distances, beside the squared lengths of both rows: hundreds of times that of float64."""


def held(x: np.ndarray, centers: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Truth values ``(rows, n)`` for block after block of rows of x ``(m, d)``: inside the ball of each of n centres?

    A centre is not its own neighbour, and borders belong to balls: distances that differ by rounding alone are equal, as
    they often are between rows of whole numbers, of grey levels, or of copies. Where the origin is does not matter.
    """
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    middle = centers.mean(0)
    x, centers = x - middle, centers - middle  # far from the origin |a|² + |b|² − 2 a·b has no digits left
    reach = NearestNeighbors(n_neighbors=k).fit(centers).kneighbors()[0][:, -1] ** 2
    reach += ROUNDING * (centers**2).sum(1)
    own = ROUNDING * (x**2).sum(1, keepdims=True)
    yield from pairwise_distances_chunked(
        x, centers, reduce_func=lambda d, i: d - own[i : i + len(d)] <= reach, squared=True
    )
