"""Spectral clustering of Fermat distances, by scikit-learn."""

from typing import Any, Literal

import numpy as np
from sklearn.base import ClusterMixin
from sklearn.cluster import SpectralClustering
from sklearn.utils.validation import validate_data
from torch import Tensor

from geoflow import validate
from geoflow.interop.fermat_fitted import FermatFitted, Measure

NEAR = 7
"""The neighbour whose distance is a row's scale."""


class FermatClustering(ClusterMixin, FermatFitted):  # type: ignore[misc]
    """Groups of rows that are near each other along the data.

    `sklearn.cluster.SpectralClustering` of the affinities exp(−d_ij² / (s_i s_j)), d the Fermat distances and s_i that of
    the seventh nearest row. Spectral, because scikit-learn has it and groups may have any shape: on interleaved arcs that
    are apart it was ahead of k-medoids, and level where they touch. Average linkage follows single outliers, which are very
    far in a Fermat space.

    Beyond 2,000 rows some landmarks are clustered; other rows, new ones too, belong to their nearest landmark, so that no
    table of all pairs is made. By default the density is a Gaussian mixture with as many components as BIC takes, of which
    ``density_name_`` tells. Columns are standardised inside.

    Args:
        n_clusters: groups.
        landmarks: how many; None is every row, "auto" every row up to 2,000 and 500 drawn at random beyond.
        density, components, power, intrinsic_dim, neighbors, random_state: see `FermatNeighborsClassifier`. A larger power
            parts groups more sharply.
        method, n_jobs: see `FermatEmbedding`.

    Attributes:
        labels_: group of each fitted row ``(n,)``.
        landmarks_: numbers of the landmarks' rows.
        space_, density_, density_name_, scale_, n_features_in_, feature_names_in_: see `FermatNeighborsClassifier`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 2)) + 9 * (np.arange(60) % 2)[:, None]
    >>> labels = FermatClustering(2, random_state=0).fit_predict(X)
    >>> bool((labels == labels[0])[::2].all()), bool((labels == labels[0])[1::2].any())
    (True, False)
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        landmarks: int | Literal["auto"] | None = "auto",
        density: Any = "mixture",
        components: int = 12,
        power: float | None = None,
        intrinsic_dim: Any = None,
        neighbors: int = 15,
        method: Measure = "graph",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_clusters, self.landmarks = n_clusters, landmarks
        self.density, self.components = density, components
        self.power, self.intrinsic_dim, self.neighbors = power, intrinsic_dim, neighbors
        self.method, self.n_jobs, self.random_state = method, n_jobs, random_state

    def fit(self, X: Any, y: Any = None) -> "FermatClustering":
        """Group rows ``(n, columns)``; y is ignored."""
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        self._fit_space(X)
        between = self._fit_landmarks(self.landmarks)
        k = validate.count(self.n_clusters, "FermatClustering", "n_clusters", 1)
        if k > len(between):
            raise ValueError(f"FermatClustering: {k} clusters of {len(between)} landmarks: lower n_clusters.")
        self.landmark_labels_ = spectral(between, k, self._seed)
        self.labels_ = self._nearest(self._points)
        self.labels_[self.landmarks_] = self.landmark_labels_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Groups ``(rows,)`` of rows, new or not: that of the nearest landmark."""
        return self._nearest(self._asked(X))

    def _nearest(self, x: Tensor) -> np.ndarray:
        near = [self._to_landmarks(b).argmin(1) for b in x.split(max(1, 2**23 // len(self.landmarks_)))]
        return np.asarray(self.landmark_labels_[np.concatenate(near)])


def spectral(distance: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
    """Labels ``(n,)`` from distances ``(n, n)``."""
    n = len(distance)
    if clusters == 1 or clusters == n:
        return np.arange(n) % clusters
    scale = np.sort(distance, 1)[:, min(NEAR, n - 1)]
    # exact copies may leave no scale; far groups no affinity
    squared = distance**2 / np.maximum(scale[:, None] * scale, np.finfo(float).tiny)
    affinity = np.maximum(np.exp(-squared), 1e-12)
    model = SpectralClustering(clusters, affinity="precomputed", assign_labels="cluster_qr", random_state=seed)
    return np.asarray(model.fit_predict(affinity))
