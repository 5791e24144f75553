"""`FlowDensity`: scikit-learn's contract for estimators, and what it does with tables, weights and conditions."""

import copy
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from geoflow import ClassConditional, Density, GaussianMixture
from geoflow.flows import realnvp
from geoflow.interop import FlowDensity

quick = {"epochs": 2, "batch_size": 64, "depth": 2, "hidden": (8,), "random_state": 0}


def rows(n: int = 300, columns: int = 2, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x: np.ndarray = rng.normal(size=(n, columns)) * np.arange(1, columns + 1) + 3
    return x


def expected_failures(estimator: Any) -> dict[str, str]:
    """Checks that may fail, each with its reason. None does."""
    return {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([FlowDensity(**quick), FlowDensity("nsf", **quick)], expected_failed_checks=expected_failures)
def test_scikit_learn_checks(unchecked: None, estimator: Any, check: Any) -> None:
    check(estimator)


def test_likelihood_draws_and_history() -> None:
    x = rows(1200)
    density = FlowDensity(epochs=10, random_state=0).fit(x)
    fresh = rows(500, seed=1)
    truth = -0.5 * (((fresh - 3) / [1, 2]) ** 2).sum(1) - np.log(2 * np.pi) - np.log(2)
    log_p = density.score_samples(fresh)
    assert log_p.dtype == np.float64
    assert abs((truth - log_p).mean()) < 0.1  # in the units of the table
    assert density.score(fresh) == pytest.approx(log_p.mean())
    weight = np.linspace(0, 1, 500)
    assert density.score(fresh, sample_weight=weight) == pytest.approx(np.average(log_p, weights=weight))
    drawn = density.sample(4000, random_state=0)
    assert drawn.shape == (4000, 2)
    assert np.allclose(drawn.mean(0), 3, atol=0.25)
    assert np.allclose(drawn.std(0), [1, 2], rtol=0.1)
    assert np.array_equal(drawn, density.sample(4000, random_state=0))
    assert not np.array_equal(drawn, density.sample(4000, random_state=1))
    assert density.n_iter_ == density.history_.rows[-1]["step"] > 0
    assert density.n_features_in_ == 2
    assert isinstance(density.model_, Density)


def test_seeds_and_global_generators() -> None:
    x = rows()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    a, b = (FlowDensity(**quick).fit(x).score_samples(x) for _ in range(2))
    assert np.array_equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # type: ignore[index] # noqa: NPY002
    assert not np.array_equal(a, FlowDensity(**{**quick, "random_state": 1}).fit(x).score_samples(x))


def test_a_module_is_copied() -> None:
    flow = realnvp(2, depth=2, hidden=(8,))
    before = copy.deepcopy(flow.state_dict())
    density = FlowDensity(flow, **{k: quick[k] for k in ("epochs", "batch_size", "random_state")}).fit(rows())
    assert density.get_params()["flow"] is flow is density.flow
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())
    assert not torch.equal(density.model_.bijection.parts[0].mean, flow.bijection.parts[0].mean)
    again = clone(density)
    assert again.flow is not flow
    assert not hasattr(again, "model_")
    mixture = FlowDensity(GaussianMixture(2, 3)).fit(rows())
    assert mixture.n_iter_ == 0
    assert np.isfinite(mixture.score(rows()))
    with pytest.raises(ValueError, match="has 2 columns, x has 3"):
        FlowDensity(flow).fit(rows(columns=3))


def test_defaults_follow_the_number_of_rows_and_columns() -> None:
    few, many = FlowDensity(epochs=1).fit(rows(100)), FlowDensity(epochs=1).fit(rows(600))

    def layers(density: Any) -> list[str]:
        names = [type(p).__name__ for p in density.model_.bijection.parts]
        return [n for n in names if n not in ("Standardize", "Reflection", "Permutation", "LULinear")]

    assert layers(few) == ["AffineCoupling"] * 4
    assert few.model_.bijection.parts[2].hidden == (32, 32)
    assert set(layers(many)) == {"SplineCoupling"}
    exponential = np.random.default_rng(0).exponential(size=(800, 1))
    one = FlowDensity("nsf", depth=2, epochs=20, random_state=0).fit(exponential)
    assert set(layers(one)) == {"Autoregressive"}
    x = np.linspace(0.1, 3, 50)[:, None]
    assert np.abs(one.score_samples(x) + x[:, 0]).mean() < 0.3  # log p = −x
    named = FlowDensity("maf", depth=3, options={"univariate": "spline"}, epochs=1).fit(rows(100))
    assert layers(named) == ["Autoregressive"] * 3


def test_pickle_and_frames() -> None:
    frame = pd.DataFrame(rows(), columns=["height", "weight"])
    density = FlowDensity(**quick).fit(frame)
    assert density.feature_names_in_.tolist() == ["height", "weight"]
    again = pickle.loads(pickle.dumps(density))
    assert np.array_equal(again.score_samples(frame), density.score_samples(frame))
    assert np.array_equal(again.sample(3, random_state=0), density.sample(3, random_state=0))
    with pytest.raises(ValueError, match="feature names"):
        density.score_samples(frame.rename(columns={"height": "depth"}))
    with pytest.raises(ValueError, match="column 'weight' is constant"):
        FlowDensity(**quick).fit(frame.assign(weight=1.0))


def test_pipeline_and_grid_search() -> None:
    x = rows(300, 4)
    pipeline = make_pipeline(PCA(2), FlowDensity(**quick)).fit(x)
    assert pipeline.score_samples(x).shape == (300,)
    assert np.isfinite(pipeline.score(x))
    search = GridSearchCV(pipeline, {"flowdensity__depth": [1, 2], "flowdensity__lr": [1e-5, 1e-2]}, cv=2)
    search.fit(x)
    assert search.best_params_["flowdensity__lr"] == 1e-2
    assert search.best_estimator_.score(x) > -10


def test_weights_move_the_density() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 6])
    weight = np.repeat([1.0, 0.01], 300)
    options = {**quick, "epochs": 15, "lr": 2e-2}
    plain, weighted = FlowDensity(**options).fit(x), FlowDensity(**options).fit(x, sample_weight=weight)
    gain = weighted.score_samples(x) - plain.score_samples(x)
    assert gain[:300].mean() > 0.3
    assert gain[300:].mean() < -1
    assert plain.history_.effective_rows is None
    assert weighted.history_.effective_rows < 320


def test_contexts() -> None:
    rng = np.random.default_rng(0)
    c = rng.normal(size=(900, 1))
    x = np.concatenate([c, -c], 1) + 0.3 * rng.normal(size=(900, 2))
    density = FlowDensity(depth=2, hidden=(16,), epochs=20, lr=1e-2, random_state=0).fit(x, context=c)
    joint = FlowDensity(depth=2, hidden=(16,), epochs=5, random_state=0).fit(x)
    assert density.score(x, context=c) > joint.score(x) + 0.5
    drawn = density.sample(500, random_state=0, context=np.array([[1.5]]))
    assert np.allclose(drawn.mean(0), [1.5, -1.5], atol=0.15)
    each = density.sample(900, random_state=0, context=c)
    assert np.corrcoef(each[:, 0], c[:, 0])[0, 1] > 0.9
    with pytest.raises(TypeError, match="conditional and needs context"):
        density.score_samples(x)
    with pytest.raises(ValueError, match="one context per row, got 2 for 900"):
        density.score_samples(x, c[:2])
    labels = (c[:, 0] > 0).astype(int)
    classes = FlowDensity(ClassConditional(2, 2), epochs=2, random_state=0).fit(x, context=labels)
    assert classes.score_samples(x, labels).shape == (900,)
    assert classes.sample(3, context=np.array([1])).shape == (3, 2)


def test_what_it_refuses(unchecked: None) -> None:
    with pytest.raises(ValueError, match=r"expects flow 'auto', 'nsf', 'realnvp', 'maf' or a density, got 'glow'"):
        FlowDensity("glow").fit(rows())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        FlowDensity(**quick).fit(rows(), sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="n_samples must be at least 1"):
        FlowDensity(**quick).fit(rows()).sample(0)
    with pytest.raises(TypeError, match="takes no context"):
        FlowDensity(GaussianMixture(2, 1)).fit(rows(), context=np.ones((300, 1)))
