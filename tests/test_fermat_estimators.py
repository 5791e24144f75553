"""The Fermat estimators: scikit-learn's contract, units that do not matter, and what they make of data of known shape."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from geoflow import StandardNormal
from geoflow.datasets import two_moons
from geoflow.interop import (
    FermatClustering,
    FermatEmbedding,
    FermatNeighborsClassifier,
    FermatNeighborsRegressor,
    FlowDensity,
)
from geoflow.interop.fermat_clustering import spectral

quick: dict[str, Any] = {"components": 2, "random_state": 0}
plain: dict[str, Any] = {"components": 1, "random_state": 0}
ESTIMATORS = [
    FermatNeighborsClassifier(3, **plain),
    FermatNeighborsRegressor(3, **plain),
    FermatEmbedding(**plain),
    FermatClustering(2, **plain),
]


def expected_failures(estimator: Any) -> dict[str, str]:
    """Checks that may fail, each with its reason. None does."""
    return {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(unchecked: None, estimator: Any, check: Any) -> None:
    check(estimator)


def arcs(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    data = two_moons(n, 0.1, seed=seed)
    assert data.labels is not None
    return data.x.double().numpy(), data.labels.numpy()


def test_arcs_are_told_apart_and_rows_that_were_not_there_follow() -> None:
    (x, y), (fresh, truth) = arcs(400), arcs(200, seed=1)
    groups = FermatClustering(2, random_state=0).fit(x)
    units = x / x.std(0)
    straight = spectral(np.linalg.norm(units[:, None] - units, axis=-1), 2)
    assert adjusted_rand_score(y, groups.labels_) > adjusted_rand_score(y, straight) + 0.1
    assert np.array_equal(groups.predict(x), groups.labels_)
    assert adjusted_rand_score(truth, groups.predict(fresh)) > 0.9
    assert "Gaussians with full covariances, by BIC" in groups.density_name_
    some = FermatClustering(2, landmarks=100, random_state=0).fit(x)
    assert adjusted_rand_score(y, some.labels_) > 0.9
    assert FermatNeighborsClassifier(random_state=0).fit(x, y).score(fresh, truth) > 0.97


@pytest.mark.parametrize("method", ["graph", "relax"])
def test_a_columns_unit_changes_nothing(method: Any) -> None:
    """Powers of two, so that standardised rows agree to the bit; results to 1e-5, as is asked for."""
    n = 60 if method == "graph" else 16
    x, y = arcs(n)
    unit = np.array([1024.0, 1.0])
    options = {"method": method, "neighbors": 6, **quick}
    near, scaled = (FermatNeighborsRegressor(1, **options).fit(x * u, y) for u in (1.0, unit))
    (length, index), (other, same) = near.kneighbors(x[:4]), scaled.kneighbors(x[:4] * unit)
    assert np.array_equal(index, same)
    assert np.allclose(length, other, rtol=1e-5, atol=1e-9)
    placed, moved = (FermatEmbedding(landmarks=n // 4, **options).fit(x * u) for u in (1.0, unit))
    assert np.allclose(placed.embedding_, moved.embedding_, atol=1e-5)
    assert np.allclose(placed.transform(x[:4] + 0.01), moved.transform((x[:4] + 0.01) * unit), atol=1e-5)


def test_neighbours_are_those_of_the_whole_table() -> None:
    x, y = arcs(150)
    x = np.concatenate([x, x[:5]])  # twins
    y = np.concatenate([y, y[:5]])
    model = FermatNeighborsClassifier(6, weights="distance", **quick).fit(x, y)
    table = model.space_.pairwise().numpy()
    length, index = model.kneighbors(x)
    assert np.allclose(length, np.sort(table, 1)[:, :6])
    assert np.allclose(np.take_along_axis(table, index, 1), length)
    length, index = model.kneighbors()
    assert not (index == np.arange(len(x))[:, None]).any()
    np.fill_diagonal(table, np.inf)
    assert np.allclose(length, np.sort(table, 1)[:, :6])
    assert np.array_equal(model.predict(x), y)  # at no distance a row has the only vote


def test_embedding_keeps_distances_and_places_rows_alike() -> None:
    """Of a plain normal, with power zero, classical scaling gives the rows back up to a motion."""
    x = np.random.default_rng(0).normal(size=(120, 2))
    flat = FermatEmbedding(2, power=0.0, neighbors=119, density=StandardNormal(2).double()).fit(x)
    near = np.linalg.norm(flat.embedding_[:, None] - flat.embedding_, axis=-1)
    units = x / x.std(0)
    assert np.allclose(near, np.linalg.norm(units[:, None] - units, axis=-1), atol=1e-6)
    assert np.allclose(flat.transform(x), flat.embedding_, atol=1e-9)
    few = FermatEmbedding(2, power=0.0, neighbors=119, density=StandardNormal(2).double(), landmarks=12).fit(x)
    near_few = np.linalg.norm(few.embedding_[:, None] - few.embedding_, axis=-1)
    assert np.allclose(near_few, near, atol=1e-6)
    assert flat.get_feature_names_out().tolist() == ["fermatembedding0", "fermatembedding1"]


def test_pipeline_search_pickle_and_frames() -> None:
    x, y = arcs(120)
    wide = np.concatenate([x, x @ [[1.0], [2.0]]], 1) + 1e-3 * np.random.default_rng(0).normal(size=(120, 3))
    pipeline = make_pipeline(PCA(2), FermatNeighborsClassifier(**quick))
    name = "fermatneighborsclassifier__"
    search = GridSearchCV(pipeline, {name + "power": [0.0, 1.0], name + "n_neighbors": [3, 60]}, cv=2).fit(wide, y)
    assert search.best_params_[name + "n_neighbors"] == 3
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict(wide), search.predict(wide))
    frame = pd.DataFrame(x, columns=["height", "weight"])
    model = FermatEmbedding(**quick).fit(frame)
    assert model.feature_names_in_.tolist() == ["height", "weight"]
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame.rename(columns={"height": "depth"}))


def test_densities_that_are_given() -> None:
    x, y = arcs(80)
    given = FlowDensity(epochs=1, depth=2, hidden=(8,), random_state=0).fit(x)
    model = FermatNeighborsClassifier(density=given, **quick).fit(x, y)
    assert model.density_name_ == "flow, as given"
    assert np.allclose(model.density_.log_prob(model.space_.points).detach(), given.score_samples(x))
    with pytest.raises(ValueError, match="'mixture', 'flow' or a fitted density, got 'kernel'"):
        FermatNeighborsClassifier(density="kernel").fit(x, y)
    with pytest.raises(TypeError, match=r"log_prob\(x\), got int"):
        FermatClustering(density=3).fit(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: FermatNeighborsClassifier(90).fit(x, y), "n_neighbors = 90 of 80 rows"),
        (lambda x, y: FermatNeighborsClassifier(0).fit(x, y), "n_neighbors must be at least 1"),
        (lambda x, y: FermatClustering(90).fit(x), "90 clusters of 80 landmarks"),
        (lambda x, y: FermatEmbedding(landmarks=1).fit(x), "landmarks must be at least 2"),
        (lambda x, y: FermatEmbedding(method="line").fit(x), "method 'graph' or 'relax', got 'line'"),
        (lambda x, y: FermatEmbedding().fit(x * [0, 1]), "constant"),
        (lambda x, y: FermatEmbedding(power=-1.0, **quick).fit(x), "power"),
    ],
    ids=["k", "zero", "clusters", "landmarks", "method", "constant", "power"],
)
def test_what_they_refuse(unchecked: None, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(*arcs(80))
