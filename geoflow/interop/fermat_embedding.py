"""Classical and landmark multidimensional scaling of Fermat distances, by scikit-learn's kernel PCA."""

from typing import Any, Literal

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import KernelPCA
from sklearn.utils.validation import validate_data
from torch import Tensor

from geoflow import validate
from geoflow.interop.fermat_fitted import FermatFitted, Measure


class FermatEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FermatFitted):  # type: ignore[misc]
    """Coordinates whose Euclidean distances are as near as they can be to Fermat distances.

    The leading eigenvectors of −½ J D² J with D the landmarks' distances and J = 1 − 11ᵀ/m; other rows, new ones too, get
    their place by their distances to the landmarks. With every row a landmark this is classical multidimensional scaling
    (what `sklearn.manifold.Isomap` does with lengths along a graph without a density), with fewer landmark
    multidimensional scaling, which never makes a table of all pairs.

    By default the density is a Gaussian mixture with as many components as BIC takes, of which ``density_name_`` tells.
    Columns are standardised inside. `KernelPCA` does the algebra.

    Args:
        n_components: coordinates.
        landmarks: how many; None is every row, "auto" every row up to 2,000 and 500 drawn at random beyond.
        density, components, power, intrinsic_dim, neighbors, random_state: see `FermatNeighborsClassifier`.
        method: ``"graph"``, a run of Dijkstra's algorithm for each landmark, or ``"relax"``, exact at some milliseconds
            for each pair of a row and a landmark.
        n_jobs: workers of joblib, with the backend of the caller's context.

    Attributes:
        embedding_: coordinates of the fitted rows ``(n, n_components)``.
        landmarks_: numbers of the landmarks' rows.
        eigenvalues_: of the kernel ``(n_components,)``.
        space_, density_, density_name_, scale_, n_features_in_, feature_names_in_: see `FermatNeighborsClassifier`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> FermatEmbedding(random_state=0).fit_transform(X).shape
    (60, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
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
        self.n_components, self.landmarks = n_components, landmarks
        self.density, self.components = density, components
        self.power, self.intrinsic_dim, self.neighbors = power, intrinsic_dim, neighbors
        self.method, self.n_jobs, self.random_state = method, n_jobs, random_state

    def fit(self, X: Any, y: Any = None) -> "FermatEmbedding":
        """Place rows ``(n, columns)``; y is ignored."""
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        self._fit_space(X)
        between = self._fit_landmarks(self.landmarks)
        k = min(validate.count(self.n_components, "FermatEmbedding", "n_components", 1), len(between))
        self.scaling_ = KernelPCA(k, kernel="precomputed", eigen_solver="auto", random_state=self._seed)
        self.scaling_.fit(-(between**2) / 2)
        self.eigenvalues_ = self.scaling_.eigenvalues_
        self.embedding_ = self._placed(self._points).astype(X.dtype)
        self._n_features_out = self.embedding_.shape[1]
        return self

    def fit_transform(self, X: Any, y: Any = None, **options: Any) -> np.ndarray:
        """Coordinates ``(n, n_components)`` of the rows that are fitted."""
        return self.fit(X).embedding_

    def transform(self, X: Any) -> np.ndarray:
        """Coordinates ``(rows, n_components)`` of rows, new or not."""
        x = self._asked(X)
        return self._placed(x).astype(X.dtype if getattr(X, "dtype", None) == np.float32 else np.float64)

    def _placed(self, x: Tensor) -> np.ndarray:
        blocks = x.split(max(1, 2**23 // len(self.landmarks_)))
        return np.concatenate([self.scaling_.transform(-(self._to_landmarks(b) ** 2) / 2) for b in blocks])
