"""Intrinsic dimension of data whose dimension is known, embedded straight and curved in more columns."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from geoflow import FermatSpace, GaussianMixture
from geoflow.metrics import intrinsic_dimension
from manifolds import Sphere

METHODS = ("twonn", "mle")


def cube(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, d))


def sphere(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    z = rng.normal(size=(n, d + 1))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def normal(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, d))


def straight(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned into ten columns."""
    return x @ np.linalg.qr(rng.normal(size=(10, x.shape[1])))[0].T


def curved(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bent into ten columns, by waves along random directions."""
    straightened = straight(x, rng)
    return straightened + 0.2 * np.sin(2 * straightened @ rng.normal(size=(10, 10)) / math.sqrt(10))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bend", [straight, curved])
@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("make", [cube, sphere, normal])
def test_known_dimensions(make: Any, dim: int, bend: Any, method: Any) -> None:
    """To four standard errors and 8 % for edges and curvature, which bias both."""
    rng = np.random.default_rng(dim)
    found = intrinsic_dimension(bend(make(1500, dim, rng), rng), method)
    assert abs(found.dim - dim) < 4 * found.error + 0.08 * dim
    assert found.rows == 1500
    assert found.error < 0.1 * dim


@pytest.mark.parametrize("method", METHODS)
def test_unbiased_within_its_error(method: Any) -> None:
    """On a circle, without edge or curvature to speak of: means over forty data sets, and their spread is the error."""
    rng = np.random.default_rng(0)
    found = [intrinsic_dimension(sphere(400, 1, rng), method) for _ in range(40)]
    dims = np.array([f.dim for f in found])
    spread = dims.std(ddof=1)
    assert abs(dims.mean() - 1) < 4 * spread / math.sqrt(40) + 0.005
    stated = math.sqrt(np.mean([f.error**2 for f in found]))
    assert 0.65 < stated / spread < 1.5


def test_twonn_agrees_with_the_fitted_line() -> None:
    """The paper's figure: the slope of −log(1 − i/n) against log μ through zero, over nine tenths of the rows."""
    from scipy.spatial import cKDTree

    x = cube(3000, 3, np.random.default_rng(0))
    r = cKDTree(x).query(x, k=3)[0]
    y = np.sort(np.log(r[:, 2] / r[:, 1]))[:2700]
    height = -np.log1p(-np.arange(1, 2701) / 3000)
    found = intrinsic_dimension(x)
    assert found.dim == pytest.approx((y @ height) / (y @ y), abs=2 * found.error)
    nothing_discarded = intrinsic_dimension(x, discard=0.0).dim
    assert nothing_discarded == pytest.approx(2999 / np.log(r[:, 2] / r[:, 1]).sum(), rel=1e-12)


def test_mle_averages_inverses() -> None:
    from scipy.spatial import cKDTree

    x = normal(500, 3, np.random.default_rng(0))
    r = cKDTree(x).query(x, k=11)[0][:, 1:]
    inverse = np.log(r[:, -1:] / r[:, :-1]).mean(1)
    found = intrinsic_dimension(x, "mle", neighbors=10).dim
    assert found * len(x) * 9 / (len(x) * 9 - 1) == pytest.approx(1 / inverse.mean(), rel=1e-12)
    assert found < (1 / inverse).mean()


@pytest.mark.parametrize("method", METHODS)
def test_units_and_repetitions_change_nothing(method: Any) -> None:
    x = normal(300, 2, np.random.default_rng(0))
    once = intrinsic_dimension(x, method)
    again = intrinsic_dimension(torch.as_tensor(np.concatenate([x, x[:40], x[:7]])) * 1024, method)
    assert (again.rows, again.duplicates) == (300, 47)
    assert again.dim == pytest.approx(once.dim, rel=1e-9)
    assert again.error == pytest.approx(once.error, rel=1e-9)
    far = intrinsic_dimension(x + 1e6, method)
    assert far.dim == pytest.approx(once.dim, rel=1e-4)


def test_noise_is_seen_by_the_nearest_neighbours_first() -> None:
    """What the docstring warns of: a noisy circle is a line from afar, and a plane to dense rows."""
    rng = np.random.default_rng(0)
    x = sphere(4000, 1, rng) + 0.01 * rng.normal(size=(4000, 2))
    dense, thin = intrinsic_dimension(x).dim, intrinsic_dimension(x[:100]).dim
    assert dense > 1.6
    assert thin < 1.3
    assert dense > intrinsic_dimension(x, "mle", neighbors=60).dim + 0.2


def test_it_sets_the_power_of_a_fermat_space() -> None:
    points = torch.randn(400, 3).double()
    points = torch.cat([points[:, :2], 1e-3 * points[:, :1]], 1)
    density = GaussianMixture.from_data(points, 1)
    for method in METHODS:
        space = FermatSpace(density, points, intrinsic_dim=method)  # type: ignore[arg-type]
        assert space.power == pytest.approx(1 / intrinsic_dimension(points, method).dim)
        assert 1.7 < 1 / space.power < 2.3
    assert FermatSpace(density, points, intrinsic_dim=2).power == 0.5


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_words() -> None:
    x: Any = torch.randn(100, 2)
    space = Sphere(2)
    for error, words, call in (
        (ValueError, "method='twonn' or 'mle'", lambda: intrinsic_dimension(x, "pca")),
        (ValueError, r"fraction in \[0, 1\)", lambda: intrinsic_dimension(x, discard=1.0)),
        (ValueError, "at least 2", lambda: intrinsic_dimension(x, "mle", neighbors=1)),
        (ValueError, "220 distinct rows, got 100 of 100.*lower neighbors", lambda: intrinsic_dimension(x, "mle")),
        (ValueError, "40 distinct rows, got 1 of 100", lambda: intrinsic_dimension(0 * x)),
        (ValueError, "2D", lambda: intrinsic_dimension(x[0])),
        (ValueError, "NaN", lambda: intrinsic_dimension(x.where(x > 0, torch.nan))),
        (ValueError, "a number or one of twonn", lambda: FermatSpace(score=torch.neg, space=space, intrinsic_dim="ml")),
        (ValueError, "from points=", lambda: FermatSpace(score=torch.neg, space=space, intrinsic_dim="twonn")),
        (ValueError, "above 0", lambda: FermatSpace(score=torch.neg, space=space, intrinsic_dim=-1.0)),
    ):
        with pytest.raises(error, match=words):
            call()
