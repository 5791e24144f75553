"""Fréchet distance, precision and recall, and the map they are taken under: closed forms, optimal maps, real digits."""

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import load, save
from geoflow.metrics import (
    ImageFeatures,
    feature_classifier,
    frechet,
    frechet_report,
    gaussian_w2,
    precision_recall,
)


def rows(n: int, dim: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dim: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(rows(dim, dim, seed))[0]


def positive(dim: int, seed: int = 0) -> Tensor:
    """A symmetric positive definite matrix that shares no axes with others."""
    u = rotation(dim, seed)
    return (u * torch.linspace(0.3, 2.5, dim, dtype=torch.float64)) @ u.T


# -- frechet ----------------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Means 1 and 3, variances (over n − 1) 1 and 9: (1 − 3)² + (1 − 3)²."""
    assert frechet(torch.tensor([[0], [1], [2]]), [[0.0], [3.0], [6.0]]) == pytest.approx(8, rel=1e-14)


def test_covariances_with_common_axes() -> None:
    """Σᵢ (sᵢ − tᵢ)² + |m|², with deviations s and t along axes of any direction."""
    u, m = rotation(5), rows(1, 5)[0]
    s, t = (rows(1, 5, seed)[0].exp() for seed in (1, 2))
    expected = float((s - t).square().sum() + m.square().sum())
    found = gaussian_w2(m, (u * s**2) @ u.T, torch.zeros(5), ((u * t**2) @ u.T).numpy())
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim", [2, 7, 30])
def test_against_the_matrix_square_root(dim: int) -> None:
    from scipy.linalg import sqrtm

    a, b = rows(200, dim) @ positive(dim), rows(150, dim, 1) @ positive(dim, 1) + 0.3
    ca, cb = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [6, 2])
def test_cost_of_the_optimal_map(dtype: torch.dtype, rank: int) -> None:
    """x → A x + c with A symmetric and positive is the optimal map: the distance is the mean of |x − A x − c|²."""
    a, c = positive(6, 1), rows(1, 6, 2)
    x = rows(500, rank) @ rows(rank, 6, 3)
    move = (x @ a + c) - x
    expected = float(move.mean(0).square().sum() + move.var(0).sum())
    found = frechet(x.to(dtype), (x @ a + c).to(dtype))
    assert found == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)
    turned = x @ rotation(6, 4)  # a map, but not the optimal one
    cost = (turned - turned.mean(0) - x + x.mean(0)).square().sum() / 499
    assert frechet(x - x.mean(0), turned - turned.mean(0)) < 0.9 * float(cost)


def test_laws_of_a_distance_between_shapes() -> None:
    a, b = rows(300, 4) @ positive(4), rows(200, 4, 1) @ positive(4, 1) + 1
    d = frechet(a, b)
    assert d > 1
    assert frechet(b, a) == pytest.approx(d, rel=1e-12)
    u, shift = rotation(4, 5), rows(1, 4, 6)
    assert frechet(a @ u + shift, b @ u + shift) == pytest.approx(d, rel=1e-12)
    assert frechet(a + 1e5, b + 1e5) == pytest.approx(d, rel=1e-9)
    assert frechet(3 * a, 3 * b) == pytest.approx(9 * d, rel=1e-12)
    c = rows(200, 4, 2) - 2
    assert math.sqrt(d) < math.sqrt(frechet(a, c)) + math.sqrt(frechet(c, b))


@pytest.mark.parametrize("rank", [64, 10, 1])
def test_the_same_rows_in_another_order(rank: int) -> None:
    """Zero, and of rows blown up twice the trace; for singular covariances too, where the roots of the eigenvalues of a
    product are off by 1e-7 of it."""
    a = rows(1000, rank) @ rows(rank, 64, 1) + 5
    again = a[torch.randperm(1000, generator=Generator().manual_seed(0))]
    trace = float(a.var(0).sum())
    assert 0 <= frechet(a, again) < 1e-12 * trace
    assert frechet(a, 2 * again - a.mean(0)) == pytest.approx(trace, rel=1e-12)


def test_singular_covariances() -> None:
    """A point, and Gaussians on orthogonal lines: nothing is in common, traces add up."""
    c, m = positive(4), rows(1, 4)[0]
    assert gaussian_w2(m, torch.zeros(4, 4), torch.zeros(4), c) == pytest.approx(float(m @ m + c.trace()), rel=1e-12)
    u = rotation(4)
    lines = [4 * torch.outer(v, v) for v in u.T[:2]]
    assert gaussian_w2(torch.zeros(4), lines[0], torch.zeros(4), lines[1]) == pytest.approx(8, rel=1e-7)


def test_excess_over_finite_sets() -> None:
    """The docstring's c / n for two sets of one Gaussian, within the error bar, at n and at 4 n."""
    deviations = torch.tensor([0.5, 1.0, 1.0, 2.0], dtype=torch.float64)
    v = deviations**2
    c = float(2.5 * v.sum() + (v[:, None] * v / (v[:, None] + v)).sum())
    for n in (150, 600):
        a, b = (rows(400 * n, 4, seed).reshape(400, n, 4) * deviations for seed in (n, n + 1))
        scaled = [n * frechet(x, y) for x, y in zip(a, b, strict=True)]
        assert abs(np.mean(scaled) - c) < 4 * np.std(scaled) / math.sqrt(400)
        assert np.std(scaled) / math.sqrt(400) < 0.03 * c


def test_what_frechet_refuses() -> None:
    good = rows(100)
    with pytest.raises(ValueError, match=r"more than 2 × 3 = 6 rows for 3 columns, got 6 in b"):
        frechet(good, good[:6])
    assert frechet(good, good[:7]) > 0
    with pytest.raises(ValueError, match=r"equally many columns, got 3 and 2"):
        frechet(good, good[:, :2])
    broken = good.clone()
    broken[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"a of frechet contains NaN in 1 of 100 rows"):
        frechet(broken, good)
    with pytest.raises(ValueError, match="2D"):
        frechet(good[:, 0], good)
    zero, one = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match="covariance_b is not symmetric"):
        gaussian_w2(zero, one, zero, [[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match="covariance_a has a negative eigenvalue, -1"):
        gaussian_w2(zero, -one, zero, one)
    with pytest.raises(ValueError, match=r"mean_b \(d,\) and covariance_b \(d, d\), got \(3,\) and \(2, 2\)"):
        gaussian_w2(zero, one, torch.zeros(3), one)
    with pytest.raises(ValueError, match=r"equally many columns, got 2 and 3"):
        gaussian_w2(zero, one, torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="NaN"):
        gaussian_w2(zero * math.nan, one, zero, one)


# -- the report -------------------------------------------------------------------------------------------------------


def halves(x: Tensor) -> Tensor:
    """A feature map that squares, so that the mean image is not the mean of features."""
    return x[:, :2] ** 2


def test_report_is_made_of_distances() -> None:
    train, test, fake = rows(400, 4), rows(300, 4, 1), 1.5 * rows(400, 4, 2)
    found = frechet_report(halves, train, test, fake, block=37)
    assert found.distance == pytest.approx(frechet(halves(fake), halves(test)), rel=1e-12)
    assert found.floor == pytest.approx(frechet(halves(train), halves(test)), rel=1e-12)
    blank = halves(train.mean(0).expand(300, 4))
    assert found.mean_image == pytest.approx(frechet(blank, halves(test)), rel=1e-12)
    assert (found.name, found.rows, found.test_rows) == ("halves", 400, 300)
    assert found.relative == pytest.approx((found.distance - found.floor) / (found.mean_image - found.floor), rel=1e-12)
    assert str(found).startswith(f"FD[halves] {found.distance:.4g} (floor {found.floor:.4g}, mean image ")
    assert "N = 400 against 300" in str(found)
    # ends of the scale
    assert frechet_report(halves, train, test, train).relative == pytest.approx(0, abs=1e-12)
    assert frechet_report(halves, train, test, train.mean(0).expand(400, 4)).relative == pytest.approx(1, rel=1e-9)


def test_report_takes_equally_many_rows() -> None:
    """The longer of fakes and training rows is thinned at random, so that sorted rows do no harm."""
    train, test = rows(2000, 2), rows(1000, 2, 1)
    train = train[train[:, 0].abs().argsort()]
    fake = rows(200, 2, 2)
    found = frechet_report(halves, train, test, fake)
    assert found.rows == 200
    assert found.distance == pytest.approx(frechet(halves(fake), halves(test)), rel=1e-12)
    assert found.floor < 0.2 < frechet(halves(train[:200]), halves(test))
    assert found == frechet_report(halves, train, test, fake)
    assert found.floor != frechet_report(halves, train, test, fake, seed=1).floor


def test_report_leaves_modules_as_they_were() -> None:
    """Dropout and batch statistics are off in the map, each part's mode comes back, rows are cast to its dtype."""
    net = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.BatchNorm1d(2).eval())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    found = frechet_report(net, rows(300, 4), rows(300, 4, 1), 2 * rows(300, 4, 2), block=100)
    assert found == frechet_report(net, rows(300, 4), rows(300, 4, 1), 2 * rows(300, 4, 2))
    assert found.name == "Sequential"
    assert [m.training for m in net] == [True, True, True, False]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_report_refuses() -> None:
    x = rows(100, 4)
    with pytest.raises(ValueError, match=r"rows of 4 \(real_train\), 4 \(real_test\) and 3 \(fake\)"):
        frechet_report(halves, x, x, x[:, :3])
    with pytest.raises(ValueError, match=r"2 × 2 = 4 rows for 2 columns, got 4 in features\(real_train\)"):
        frechet_report(halves, x, x, x[:4])
    with pytest.raises(
        ValueError, match="under the map 'torch.ones_like' the mean image is no farther|sees too little"
    ):
        frechet_report(torch.ones_like, x, x, x)


# -- the classifier ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return torch.as_tensor(x[order]), torch.as_tensor(y[order])


@pytest.fixture(scope="module")
def trained(digits: tuple[Tensor, Tensor]) -> ImageFeatures:
    x, y = (t[:1200] for t in digits)
    return feature_classifier(x, y, steps=150, outputs=32, progress=False)


def test_classifier_learns_digits(digits: tuple[Tensor, Tensor], trained: ImageFeatures) -> None:
    """A linear probe of the features gets held-out digits right as often as the classifier said it does."""
    from sklearn.linear_model import LogisticRegression

    (x, fresh), (y, labels) = (t.split([1200, 597]) for t in digits)
    with torch.no_grad():
        features, others = trained(x.float()), trained(fresh.float())
    accuracy = LogisticRegression(C=0.1, max_iter=1000).fit(features, y).score(others, labels)
    assert accuracy > 0.93
    assert trained.accuracy is not None
    assert abs(trained.accuracy - accuracy) < 4 * math.sqrt(accuracy * (1 - accuracy) / 120)
    assert others.shape == (597, 32)
    assert others.min() == 0
    assert (others > 0).any(0).sum() > 20


def test_distance_under_the_classifier_orders_damage(digits: tuple[Tensor, Tensor], trained: ImageFeatures) -> None:
    """More noise is farther, from the floor to the mean image; and each digit is missed more than as many rows of all."""
    train, test = digits[0].split([1200, 597])
    noise = 16 * rows(1200, 64)
    found = [frechet_report(trained, train, test, train + s * noise).relative for s in (0.1, 0.2, 0.4)]
    assert 0 < found[0] < found[1] < found[2]
    y = digits[1][:1200]
    kept = [train[y != digit] for digit in range(10)]
    without = [frechet_report(trained, train, test, rows) for rows in kept]
    shuffled = [train[torch.randperm(1200, generator=Generator().manual_seed(i))[: len(kept[i])]] for i in range(10)]
    anyone = [frechet_report(trained, train, test, rows).distance for rows in shuffled]
    assert min(found.distance for found in without) > max(anyone)
    assert without[0].name == "conv32"


def test_classifier_is_reproducible_and_can_be_saved(
    digits: tuple[Tensor, Tensor], trained: ImageFeatures, tmp_path: Any
) -> None:
    x, y = (t[:1200] for t in digits)
    torch.rand(3)  # away from where the fixture began
    state = torch.get_rng_state()
    again = feature_classifier(x.numpy(), y.numpy(), steps=150, outputs=32, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(x.float()), trained(x.float()))
    other = feature_classifier(x, y, steps=2, seed=1, name="digits", progress=False)
    twin = feature_classifier(x, y, steps=2, seed=1, progress=False)
    assert torch.equal(other(x.float()), twin(x.float()))
    weights = [feature_classifier(x, y, steps=1, lr=1e-9, seed=s, progress=False).encoder.last.weight for s in (0, 1)]
    assert (weights[0] - weights[1]).abs().mean() > 0.01
    save(other, tmp_path / "map.safetensors")
    loaded = load(tmp_path / "map.safetensors")
    assert torch.equal(loaded(x.float()), other(x.float()))
    assert (loaded.name, loaded.accuracy) == ("digits", other.accuracy)


def test_accuracy_is_that_of_rows_not_seen(digits: tuple[Tensor, Tensor]) -> None:
    """Labels drawn by lot can be learnt by heart, and are then right for one row in ten of the others."""
    x, lots = digits[0][:600], torch.randint(10, (600,), generator=Generator().manual_seed(0))
    features = feature_classifier(x, lots, steps=300, progress=False)
    assert features.accuracy is not None
    assert features.accuracy < 0.1 + 4 * math.sqrt(0.09 / 60)


def test_units_of_pixels_do_not_matter(digits: tuple[Tensor, Tensor]) -> None:
    """x and 255 x − 40 train the same map, up to rounding."""
    x, y = (t[:400] for t in digits)
    plain, moved = (feature_classifier(t, y, steps=20, progress=False) for t in (x, 255 * x - 40))
    torch.testing.assert_close(moved((255 * x - 40).float()), plain(x.float()), rtol=1e-2, atol=1e-2)


def test_labels_are_told_apart_by_value(digits: tuple[Tensor, Tensor]) -> None:
    x, y = (t[:200] for t in digits)
    shifted = feature_classifier(x, 7 * y + 3, steps=3, progress=False)
    assert torch.equal(shifted(x.float()), feature_classifier(x, y, steps=3, progress=False)(x.float()))
    words = feature_classifier(x, [f"digit {k}" for k in y], steps=3, progress=False)
    assert torch.equal(shifted(x.float()), words(x.float()))


def test_shapes_of_images() -> None:
    """Square images of one or three channels by themselves, others as given."""
    x, y = rows(40, 75).float(), torch.arange(40) % 2
    assert feature_classifier(x, y, steps=1, progress=False).image_shape == (3, 5, 5)
    assert feature_classifier(x[:, :49], y, steps=1, progress=False).image_shape == (1, 7, 7)
    wide = feature_classifier(x[:, :70], y, image_shape=(2, 5, 7), steps=1, outputs=8, progress=False)
    assert wide(x[:, :70].reshape(2, 20, 70)).shape == (2, 20, 8)
    with pytest.raises(ValueError, match=r"flat images of 70 numbers, \(2, 5, 7\), got shape \(4, 35\)"):
        wide(x[:4, :35])
    with pytest.raises(ValueError, match=r"70 numbers are no square image of 1 or 3 channels: pass image_shape="):
        feature_classifier(x[:, :70], y)
    with pytest.raises(ValueError, match=r"shape \(3, 5, 5\) are not 70 numbers"):
        feature_classifier(x[:, :70], y, image_shape=(3, 5, 5))
    with pytest.raises(ValueError, match=r"\(channels, height, width\), got \(5, 14\)"):
        feature_classifier(x[:, :70], y, image_shape=(5, 14))


def test_what_the_classifier_refuses() -> None:
    x, y = rows(40, 49), torch.arange(40) % 2
    with pytest.raises(ValueError, match=r"one whole number a row as labels, \(40,\), got torch.int64 \(39,\)"):
        feature_classifier(x, y[1:])
    with pytest.raises(ValueError, match=r"got torch.float32 \(40,\)"):
        feature_classifier(x, y.float())
    with pytest.raises(ValueError, match=r"at least two classes, got \[1\]"):
        feature_classifier(x, torch.ones(40, dtype=torch.long))
    with pytest.raises(ValueError, match="feature_classifier: steps must be at least 1, got 0"):
        feature_classifier(x, y, steps=0)
    with pytest.raises(ValueError, match="feature_classifier expects lr > 0, got -1"):
        feature_classifier(x, y, steps=1, lr=-1.0)
    with pytest.raises(ValueError, match="minimum of 20"):
        feature_classifier(x[:10], y[:10])


@pytest.mark.slow
def test_classifier_on_mnist() -> None:
    """A real set: what a classifier of this size reaches, with the floor three orders below the mean image."""
    if not os.environ.get("GEOFLOW_DATA"):
        pytest.skip("GEOFLOW_DATA is not set")
    from geoflow import datasets

    if not datasets.available()["mnist"]:
        pytest.skip("mnist is not in GEOFLOW_DATA")
    data = datasets.mnist(dequantise=False)
    assert data.test is not None
    assert data.labels is not None
    x, test = data.x[~data.test][:10000], data.x[data.test]
    features = feature_classifier(x, data.labels[~data.test][:10000], steps=400, progress=False)
    assert features.accuracy is not None
    assert features.accuracy > 0.97
    noise = torch.rand(10000, 784, generator=Generator().manual_seed(0))
    found = frechet_report(features, x, test, noise)
    assert found.floor < 0.005 * found.mean_image
    assert 0.5 < found.relative < 1.2


# -- precision and recall ---------------------------------------------------------------------------------------------


def by_loops(x: np.ndarray, centers: np.ndarray, k: int) -> float:
    inside = np.zeros(len(x), dtype=bool)
    for c in centers:
        radius = np.sort(np.sqrt(((centers - c) ** 2).sum(1)))[k]  # place 0 is c itself
        inside |= np.sqrt(((x - c) ** 2).sum(1)) <= radius
    return float(inside.mean())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_against_loops(dtype: torch.dtype, k: int) -> None:
    real, fake = rows(150).to(dtype), (0.7 * rows(90, seed=1) + 0.4).to(dtype)
    found = precision_recall(real, fake.numpy(), k)
    a, b = real.double().numpy(), fake.double().numpy()
    assert found == (by_loops(b, a, k), by_loops(a, b, k), (150, 90))
    assert found.precision != found.recall
    assert precision_recall(fake, real, k)[:2] == (found.recall, found.precision)


def test_precision_sees_strangers_and_recall_sees_gaps() -> None:
    real = torch.cat([rows(200, 2), rows(200, 2, 1) + 30])
    one_mode = rows(400, 2, 2)
    strangers = torch.cat([rows(100, 2, 3), rows(100, 2, 4) + 30, rows(200, 2, 5) - 30])
    assert precision_recall(real, real)[:2] == (1, 1)
    assert precision_recall(real, one_mode).precision > 0.85
    assert precision_recall(real, one_mode).recall == pytest.approx(0.5, abs=0.05)
    assert precision_recall(real, strangers).precision == pytest.approx(0.5, abs=0.05)
    assert precision_recall(real, strangers).recall > 0.85


def test_precision_by_hand() -> None:
    """Real 0, 1, 3 have balls of width 1, 1, 2 (k = 1): 5 is on a border, −1.01 and 5.01 are outside."""
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[5.0], [-1.01], [5.01], [2.0]], dtype=torch.float64)
    assert precision_recall(real, fake, 1).precision == 0.5
    assert precision_recall(torch.zeros(5, 1), torch.tensor([[0.0]] * 3 + [[0.1]])).precision == 0.75


def test_what_precision_recall_refuses() -> None:
    with pytest.raises(ValueError, match="equal width, got 3 and 2"):
        precision_recall(rows(10), rows(10, 2))
    with pytest.raises(ValueError, match="minimum of 4"):
        precision_recall(rows(10), rows(3))
    with pytest.raises(ValueError, match="k must be at least 1"):
        precision_recall(rows(10), rows(10), 0)
