"""Figures of samples that go by neighbours and clusters, and Fréchet reports of features: by hand, loops, expectations."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow.metrics import density_coverage, frechet, frechet_report, prd, precision_recall


def rows(n: int, dim: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


def heaps(*sizes: int, seed: int = 0) -> Tensor:
    """Rows in heaps far from each other, so many in each."""
    centers = torch.tensor([[100.0 * i, 0.0] for i, size in enumerate(sizes) for _ in range(size)])
    return centers + rows(sum(sizes), 2, seed)


# -- precision and recall of distributions ----------------------------------------------------------------------------


def test_curve_in_closed_form() -> None:
    """p = (.5, .5, 0) and q = (.2, .5, .3): the curve from λ = 0 to ∞, and the maxima of both F on it."""
    found = prd(heaps(100, 100, 0), heaps(40, 100, 60, seed=1), clusters=3, repeats=2)
    slope = torch.linspace(0, math.pi / 2, 1001, dtype=torch.float64)[1:-1].tan()
    precision = (0.5 * slope).clamp_max(0.2) + (0.5 * slope).clamp_max(0.5)
    torch.testing.assert_close(found.precision[1:-1], precision)
    torch.testing.assert_close(found.recall[1:-1], precision / slope)
    assert found.recall.max() == pytest.approx(1)
    assert found.precision.max() == pytest.approx(0.7)
    # corners of the curve: all recall until λ = .4, where precision is .4; all precision, .7, from λ = 1 on
    assert found.f8 == pytest.approx(65 * 0.4 / (64 * 0.4 + 1), rel=2e-3)
    assert found.f18 == pytest.approx((1 + 1 / 64) * 0.7 * 0.7 / (0.7 / 64 + 0.7), rel=2e-3)
    assert (found.rows, found.clusters, found.repeats) == (200, 3, 2)
    assert str(found) == (
        f"PRD F8 {found.f8:.3f} (recall), F1/8 {found.f18:.3f} (precision); N = 200 each, 3 clusters, 2 repeats"
    )
    assert len(found.plot().lines) == 1


def test_precision_and_recall_change_places() -> None:
    a, b = heaps(100, 100, 0), heaps(40, 100, 60, seed=1)
    there, back = prd(a, b, clusters=3, repeats=1), prd(b, a, clusters=3, repeats=1)
    torch.testing.assert_close(there.precision, back.recall.flip(0))
    assert there.f8 == pytest.approx(back.f18, abs=1e-9)
    assert there.f8 > 0.9 > there.f18
    nothing = prd(heaps(50, 0), heaps(0, 50), clusters=2, repeats=1)
    assert nothing.f8 == nothing.f18 == 0


def test_repeats_are_averaged_and_seeded() -> None:
    a, b = rows(300, 2), rows(300, 2, 1) + 0.5
    single = [prd(a, b, repeats=1, seed=5 + i) for i in range(3)]
    found = prd(a, b, repeats=3, seed=5)
    torch.testing.assert_close(found.precision, torch.stack([one.precision for one in single]).mean(0))
    torch.testing.assert_close(found.recall, torch.stack([one.recall for one in single]).mean(0))
    assert single[0].f8 != single[1].f8
    assert prd(a, b, repeats=3, seed=5).f8 == found.f8
    assert prd(rows(300, 2, 2), rows(300, 2, 3), repeats=2).f8 > 0.93  # one distribution


def test_what_prd_refuses() -> None:
    with pytest.raises(ValueError, match=r"got 50 and 40: unequal sets fill clusters unequally; give 40 of each"):
        prd(rows(50), rows(40))
    with pytest.raises(ValueError, match="equal width, got 3 and 2"):
        prd(rows(50), rows(50, 2))
    with pytest.raises(ValueError, match="minimum of 20"):
        prd(rows(19), rows(19))
    with pytest.raises(ValueError, match="fake of prd contains NaN"):
        prd(rows(30), rows(30) * torch.tensor([1, 1, math.nan]).where(torch.arange(30)[:, None] == 4, 1.0))


# -- density and coverage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_against_loops(dtype: torch.dtype, k: int) -> None:
    real, fake = rows(90).to(dtype), (0.6 * rows(70, seed=1) + 0.5).to(dtype)
    a, b = real.double().numpy(), fake.double().numpy()
    radius = [np.sort(np.linalg.norm(a - x, axis=1))[k] for x in a]
    inside = np.array([[np.linalg.norm(y - x) <= r for y in b] for x, r in zip(a, radius, strict=True)])
    found = density_coverage(real, fake.numpy(), k)
    assert found.density == pytest.approx(inside.sum() / (k * 70), rel=1e-12)
    assert found.coverage == inside.any(1).mean()
    assert found.rows == (90, 70)


def test_expectations_for_samples_of_the_real_distribution() -> None:
    """Whatever the distribution: density 1 in the mean, coverage 1 − Π (n − i)/(n + m − i)."""
    found = [density_coverage(rows(60, 2, 2 * i).exp(), rows(90, 2, 2 * i + 1).exp(), 3) for i in range(100)]
    expected = 1 - 59 * 58 * 57 / (149 * 148 * 147)
    assert found[0].coverage_expected == pytest.approx(expected, rel=1e-12)
    for values, mean in (([f.density for f in found], 1.0), ([f.coverage for f in found], expected)):
        error = np.std(values, ddof=1) / 10
        assert abs(np.mean(values) - mean) < 4 * error < 0.1


@pytest.mark.parametrize(("unit", "origin"), [(1 / 3, 0.0), (1 / 255, 0.0), (1.0, 1e8), (1 / 255, 1e5)])
def test_units_and_the_origin_do_not_matter(unit: float, origin: float) -> None:
    """Rows of whole numbers lie on the borders of balls, which belong to them, in any unit and far from the origin."""
    real, fake = rows(200, 2).mul(2).round(), rows(150, 2, 1).mul(2).round()
    for figure in (density_coverage, precision_recall):
        wanted = figure(real, fake)
        assert figure(unit * real + origin, unit * fake + origin) == wanted, figure
    copies = rows(90, 20) + origin
    assert precision_recall(copies.repeat(5, 1), copies).precision == 1
    assert density_coverage(copies.repeat(9, 1), copies).coverage == 1


def test_what_density_and_coverage_refuse() -> None:
    with pytest.raises(ValueError, match="equal width, got 3 and 2"):
        density_coverage(rows(10), rows(10, 2))
    with pytest.raises(ValueError, match="minimum of 6"):
        density_coverage(rows(5), rows(10))
    with pytest.raises(ValueError, match="real of density_coverage contains infinity"):
        density_coverage(torch.full((10, 1), math.inf), rows(10, 1))


# -- Fréchet distance of features that came as arrays -----------------------------------------------------------------


def test_report_of_features() -> None:
    """The same as with the map, but for the name; without the mean image no relative figure."""
    train, test, fake = rows(400, 4), rows(300, 4, 1), 1.5 * rows(400, 4, 2)
    by_map = frechet_report(torch.square, train, test, fake, name="squares")
    sets = [t.square().numpy() for t in (train, test, fake)]
    found = frechet_report(None, *sets, mean_image=train.mean(0).square().numpy(), name="squares")
    assert found == by_map
    assert by_map.mean_image is not None
    assert by_map.relative == (by_map.distance - by_map.floor) / (by_map.mean_image - by_map.floor)
    bare = frechet_report(None, *sets, name="inception")
    assert bare.distance == pytest.approx(frechet(sets[2], sets[1]), rel=1e-12)
    assert str(bare) == f"FD[inception] {bare.distance:.4g} (floor {bare.floor:.4g}; N = 400 against 300)"
    with pytest.raises(ValueError, match="no relative figure without the mean image's.*mean_image="):
        _ = bare.relative


def test_what_the_report_of_features_refuses() -> None:
    x = rows(100, 4)
    with pytest.raises(ValueError, match="frechet_report: block must be at least 1, got 0"):
        frechet_report(lambda x: x, rows(9), rows(9), rows(9), block=0)
    with pytest.raises(ValueError, match="pass name="):
        frechet_report(None, x, x, x)
    with pytest.raises(ValueError, match=r"features of the mean image, \(4,\), got 3 numbers"):
        frechet_report(None, x, x, x, mean_image=torch.zeros(3), name="pool3")
    with pytest.raises(TypeError, match="is for features given as tables"):
        frechet_report(torch.square, x, x, x, mean_image=torch.zeros(4))
    with pytest.raises(ValueError, match=r"more than 2 × 4 = 8 rows for 4 columns, got 8 in features\(real_train\)"):
        frechet_report(None, x, x, x[:8], name="pool3")
