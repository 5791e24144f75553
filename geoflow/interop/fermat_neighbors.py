"""Classification and regression by the nearest rows in a Fermat space, with scikit-learn's votes and averages."""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, identity
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from geoflow import validate
from geoflow.interop.fermat_fitted import FermatFitted, Measure


class _Neighbors(FermatFitted):
    """The rows nearest to a row, and what scikit-learn's own estimators make of them."""

    n_neighbors: int
    weights: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Distances and row numbers ``(rows, n_neighbors)``, nearest first; X = None asks for the fitted rows' others."""
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        k = validate.count(k, type(self).__name__, "n_neighbors", 1)
        others = len(self._points) - (X is None)
        if k > others:
            raise ValueError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, n_samples_fit = {others}, n_samples = "
                f"{others if X is None else len(X)}: lower n_neighbors."
            )
        q = self._points if X is None else self._asked(X)
        length, index = (t.cpu().numpy() for t in self.space_.knn(q, k + (X is None), self.method, n_jobs=self.n_jobs))
        if X is None:
            itself = index == np.arange(len(index))[:, None]
            itself[~itself.any(1), -1] = True  # twins came first
            length, index = (t[~itself].reshape(len(index), k) for t in (length, index))
        return length, index

    def _fit_votes(self, X: np.ndarray, y: np.ndarray, votes: Any) -> None:
        self._fit_space(X)
        validate.count(self.n_neighbors, type(self).__name__, "n_neighbors", 1)
        self.votes_ = votes(self.n_neighbors, weights=self.weights, metric="precomputed")
        self.votes_.fit(identity(len(X), format="csr"), y)
        if self.n_neighbors > len(X):
            raise ValueError(f"{type(self).__name__}: n_neighbors = {self.n_neighbors} of {len(X)} rows: lower it.")

    def _near(self, X: Any) -> csr_matrix:
        """The nearest rows as a sparse table of distances ``(rows, fitted rows)``, as scikit-learn takes them."""
        length, index = self.kneighbors(X)
        n, k = index.shape
        shape = (n, len(self._points))
        return csr_matrix((length.ravel(), index.ravel(), np.arange(0, n * k + 1, k)), shape=shape)


class FermatNeighborsClassifier(ClassifierMixin, _Neighbors):  # type: ignore[misc]
    """The most frequent class among the k rows nearest in a Fermat space.

    Votes are `sklearn.neighbors.KNeighborsClassifier`'s. By default the density is a Gaussian mixture with as many
    components as BIC takes, of which ``density_name_`` tells; classes take no part in it. Columns are standardised inside.

    Args:
        n_neighbors: k.
        weights: of votes, ``"uniform"``, ``"distance"`` or a function of distances.
        density: ``"mixture"``, ``"flow"`` (see `FlowDensity`), or a fitted density with ``log_prob(x)`` in the table's
            units, which is copied and not trained.
        components: most Gaussians of a mixture.
        power, intrinsic_dim: of `FermatSpace`; None is 1 / columns.
        neighbors: of the space's graph.
        method: how distances are measured: ``"graph"`` in about a millisecond a row beside finding its nearest rows;
            ``"relax"`` exactly, at some ten times that, among the 4 k + 8 rows nearest in a straight line.
        n_jobs: workers of joblib, with the backend of the caller's context.
        random_state: decides the mixture's or flow's start.

    Attributes:
        space_: the `FermatSpace`, in the table's units.
        density_, density_name_: its density, and what that is in words.
        scale_: each column's deviation ``(columns,)``.
        classes_: labels.
        n_features_in_, feature_names_in_: columns seen in `fit`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> model = FermatNeighborsClassifier(3, random_state=0).fit(X, X[:, 0] > 0)
    >>> bool(model.score(X, X[:, 0] > 0) > 0.9), model.density_name_
    (True, 'mixture of 1 Gaussians with full covariances, by BIC')
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: Any = "uniform",
        density: Any = "mixture",
        components: int = 12,
        power: float | None = None,
        intrinsic_dim: Any = None,
        neighbors: int = 15,
        method: Measure = "graph",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_neighbors, self.weights = n_neighbors, weights
        self.density, self.components = density, components
        self.power, self.intrinsic_dim, self.neighbors = power, intrinsic_dim, neighbors
        self.method, self.n_jobs, self.random_state = method, n_jobs, random_state

    def fit(self, X: Any, y: Any) -> "FermatNeighborsClassifier":  # type: ignore[override]
        """Learn the density and the space from rows ``(n, columns)``, and keep their labels ``(n,)`` or ``(n, outputs)``."""
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, ensure_min_samples=2)
        self._fit_votes(X, y, KNeighborsClassifier)
        self.classes_ = self.votes_.classes_
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Labels of rows."""
        check_is_fitted(self)
        return np.asarray(self.votes_.predict(self._near(X)))

    def predict_proba(self, X: Any) -> Any:
        """Shares of votes ``(rows, classes)``; with several outputs a list of these."""
        check_is_fitted(self)
        return self.votes_.predict_proba(self._near(X))


class FermatNeighborsRegressor(RegressorMixin, _Neighbors):  # type: ignore[misc]
    """The mean target of the k rows nearest in a Fermat space.

    Averages are `sklearn.neighbors.KNeighborsRegressor`'s. By default the density is a Gaussian mixture with as many
    components as BIC takes, of which ``density_name_`` tells; targets take no part in it. Columns are standardised inside.

    Arguments and attributes are those of `FermatNeighborsClassifier`, without ``classes_``.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> bool(FermatNeighborsRegressor(3, random_state=0).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.9)
    True
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        weights: Any = "uniform",
        density: Any = "mixture",
        components: int = 12,
        power: float | None = None,
        intrinsic_dim: Any = None,
        neighbors: int = 15,
        method: Measure = "graph",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_neighbors, self.weights = n_neighbors, weights
        self.density, self.components = density, components
        self.power, self.intrinsic_dim, self.neighbors = power, intrinsic_dim, neighbors
        self.method, self.n_jobs, self.random_state = method, n_jobs, random_state

    def fit(self, X: Any, y: Any) -> "FermatNeighborsRegressor":  # type: ignore[override]
        """Learn the density and the space from rows ``(n, columns)``, and keep targets ``(n,)`` or ``(n, outputs)``."""
        options = {"multi_output": True, "y_numeric": True, "ensure_min_samples": 2}
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), **options)
        self._fit_votes(X, y, KNeighborsRegressor)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of rows."""
        check_is_fitted(self)
        return np.asarray(self.votes_.predict(self._near(X)))
