"""Figures of latent codes: values by hand, what chance gives, and what each of them is blind to."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from geoflow.metrics import active_dimensions, marginals, mmd, mmd_test, nac


def rows(n: int, dim: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)


# -- normalised absolute correlation ----------------------------------------------------------------------------------


def test_nac_against_numpy(dtype: torch.dtype) -> None:
    z = (rows(200, 5) @ rows(5, 5, 1)).to(dtype)
    c = np.corrcoef(z.double().numpy().T)
    found = nac(z)
    assert found.value == pytest.approx(np.mean([abs(c[i, j]) for i in range(5) for j in range(i)]), rel=1e-9)
    assert (found.rows, found.active) == (200, 5)
    i, j = np.unravel_index(c.argmin(), c.shape)
    assert c[i, j] < -0.1  # its sign does not count
    assert nac(z, [i, j]).value == pytest.approx(-c[i, j], rel=1e-9)
    chosen = (torch.arange(5) == i) | (torch.arange(5) == j)
    assert nac(z, chosen).value == pytest.approx(-c[i, j], rel=1e-9)


def test_nac_of_independent_dimensions_is_at_its_floor() -> None:
    """A thousand rows of sixteen dimensions: .0252 in the mean."""
    found = nac(rows(1000, 16))
    assert found.floor == pytest.approx(0.02523, abs=1e-5)
    assert abs(found.value - 0.0252) < 0.003
    many = [nac(rows(200, 10, seed)).value for seed in range(60)]
    assert abs(np.mean(many) - math.sqrt(2 / (200 * math.pi))) < 4 * np.std(many) / math.sqrt(60) < 0.004
    assert str(found) == f"NAC {found.value:.4f} (floor 0.0252 at N = 1,000; 16 active dimensions)"


def test_what_nac_refuses() -> None:
    z = rows(50, 4)
    z[:, 2] = 3
    with pytest.raises(ValueError, match="dimension 2 of z is constant.*leave it out by active="):
        nac(z)
    with pytest.raises(ValueError, match="dimension 2 of z is constant"):
        nac(z, [1, 2])
    assert nac(z, [0, 1, 3]).active == 3
    with pytest.raises(ValueError, match="needs two active dimensions, got 1"):
        nac(z, [1])
    with pytest.raises(ValueError, match=r"mask \(4,\) or indices, got \(3,\) truth values"):
        nac(z, torch.ones(3, dtype=torch.bool))
    for wrong in ([1, 1, 0, 1], [0, 4]):
        with pytest.raises(ValueError, match=r"different indices in 0 ... 3 as active"):
            nac(z, wrong)
    with pytest.raises(ValueError, match=r"got torch.float64 \(4,\): pass mask >= 0.5"):
        nac(z, rows(1, 4)[0])
    with pytest.raises(ValueError, match="z of nac contains NaN"):
        nac(torch.where(z > 1, math.nan, z)[:, [0, 1]])


# -- active dimensions ------------------------------------------------------------------------------------------------


def test_counts_differ_as_their_conventions() -> None:
    z = rows(3000, 5) * torch.tensor([1.0, 0.5, 0.11, 0.09, 0.0])
    s = torch.tensor([0.1, 0.5, 0.7, 0.72, 1.0]).expand(3000, 5)
    plain = active_dimensions(z)
    assert (plain.mask_half, plain.mask_tenth, plain.certain) == (None, None, None)
    assert plain.varying == 3  # .11² > .01 > .09²
    assert plain.active.tolist() == [True, True, True, False, False]
    found = active_dimensions(z, s, mask=[1, 0.5, 0.1, 0.09, 0])
    assert (found.mask_half, found.mask_tenth, found.varying, found.certain) == (2, 3, 2, 3)  # .7² < .5 < .72²
    assert found.active.tolist() == [True, True, False, False, False]
    assert active_dimensions(z, s).active.tolist() == [True, True, True, False, False]
    assert (found.latent, found.rows) == (5, 3000)
    # deviations that vary from row to row: the mean of squares, not the square of the mean
    uneven = torch.tensor([[0.0], [1.0]]).repeat(1500, 5) * 1.01
    assert active_dimensions(z, uneven).certain == 0


def test_participation_ratio() -> None:
    """By hand, in any axes, of any scale, beside the eigenvalues; and what finite rows leave of it."""
    z = rows(3000, 4)
    z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(2999)  # mean 0 and covariance one
    scaled = z * torch.tensor([2.0, 1.0, 1.0, 0.0])
    found = active_dimensions(scaled)
    assert found.participation == pytest.approx((4 + 1 + 1) ** 2 / (16 + 1 + 1), rel=1e-9)
    torch.testing.assert_close(found.spectrum, torch.tensor([4.0, 1, 1, 0], dtype=torch.float64))
    turned = 1e-3 * scaled @ torch.linalg.qr(rows(4, 4))[0] + 5
    assert active_dimensions(turned).participation == pytest.approx(2, rel=1e-9)
    assert active_dimensions(turned).varying == 0
    assert active_dimensions(z, mask=[1, 0.5, 0, 0]).participation == pytest.approx(1.25**2 / (1 + 0.5**4), rel=1e-9)
    few = [active_dimensions(rows(60, 12, seed)).participation for seed in range(50)]
    assert np.mean(few) == pytest.approx(12 / (1 + 13 / 60), rel=0.02)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mask": [1, 0.5]}, r"a mask \(3,\) in \[0, 1\], got \(2,\)"),
        ({"mask": [1, 1.5, 0]}, r"got \(3,\) in \[0, 1.5\]"),
        ({"mask": [1, math.nan, 0]}, "mask of active_dimensions contains NaN"),
        ({"deviations": rows(20)}, "none negative.*not their logarithms"),
        ({"deviations": rows(19).abs()}, r"deviations \(20, 3\), none negative, got \(19, 3\)"),
        ({"mask": [0, 0, 0]}, "all 20 codes are the same"),
        ({"z": torch.ones(20, 3)}, "all 20 codes are the same.*collapsed"),
        ({"z": torch.ones(20)}, "2D"),
    ],
)
def test_what_active_dimensions_refuses(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        active_dimensions(**{"z": rows(20), **given})


# -- marginals --------------------------------------------------------------------------------------------------------


def test_distances_of_marginals_in_closed_form() -> None:
    """A shift of δ is at 2 Φ(δ/2) − 1; a scale of s moves the radius as chi² does."""
    from scipy.stats import chi2, norm

    z = 1.5 * rows(20000, 3)
    at = np.linspace(0, 60, 20001)
    assert marginals(z).radius_ks == pytest.approx(np.abs(chi2.cdf(at / 2.25, 3) - chi2.cdf(at, 3)).max(), abs=0.01)
    shift = torch.tensor([0, 0.5, 0])
    back, moved = marginals(rows(20000, 3) - shift), marginals(rows(20000, 3) + shift)
    assert [float(f.ks[1]) for f in (back, moved)] == pytest.approx([2 * norm.cdf(0.25) - 1] * 2, abs=0.01)
    assert moved.ks[[0, 2]].max() < 0.015
    assert moved.p_values.argmin() == 1
    assert moved.p_value < 1e-9
    assert "worst of 3 dimensions" in str(moved)
    assert "(number 1, p =" in str(moved)
    assert "for 4 tests; N = 20,000" in str(moved)


def test_marginals_under_the_null() -> None:
    """Rejected at .2 no more often than in one case of five; radius and dimensions each as often as they should."""
    found = [marginals(rows(200, 4, seed)) for seed in range(50)]
    assert np.mean([f.p_value <= 0.2 for f in found]) < 0.2 + 3 * 0.4 / math.sqrt(50)
    radius = [f.radius_p_value for f in found]
    assert abs(np.mean(radius) - 0.5) < 4 * 0.29 / math.sqrt(50)
    assert found[0].p_value == min(1.0, 5 * min(float(found[0].p_values.min()), found[0].radius_p_value))
    # every marginal right, the radius not: z and its copy
    copies = rows(2000, 1).expand(2000, 6)
    found_copies = marginals(copies)
    assert found_copies.p_values.min() > 1e-3
    assert found_copies.radius_p_value < 1e-9
    with pytest.raises(ValueError, match="z of marginals contains NaN"):
        marginals(torch.tensor([[math.nan, 0], [0, 1]]))


# -- maximum mean discrepancy of codes and prior ----------------------------------------------------------------------


def test_multiquadric_by_hand() -> None:
    """A sum over scales, where the Gaussian kernel is a mean."""
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]])

    def by_hand(c: float) -> float:
        return c / (c + 1) + c / (c + 4) - sum(c / (c + d * d) for d in (3, 5, 2, 4)) / 2

    assert mmd(a, b, kernel="imq", bandwidths=[2.0]) == pytest.approx(by_hand(4), rel=1e-12)
    assert mmd(a, b, kernel="imq", bandwidths=[2.0, 3.0]) == pytest.approx(by_hand(4) + by_hand(9), rel=1e-12)
    scales = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    assert mmd(a, b, kernel="imq") == pytest.approx(sum(by_hand(2 * s) for s in scales), rel=1e-12)


def test_multiquadric_under_the_null_and_its_power() -> None:
    """Batches of 100 codes of 16 dimensions: mean zero, deviation .008; with half of the dimensions dead .17."""
    null = [mmd(rows(100, 16, 2 * i), rows(100, 16, 2 * i + 1), kernel="imq") for i in range(120)]
    assert abs(np.mean(null)) < 3 * np.std(null) / math.sqrt(120)
    assert 0.006 < np.std(null) < 0.010
    assert 0.4 < np.mean(np.array(null) < 0) < 0.65
    alive = (torch.arange(16) < 8).double()
    dead = [mmd_test(alive * rows(100, 16, 2 * i), rows(100, 16, 2 * i + 1)) for i in range(3)]
    assert min(d.statistic for d in dead) > 0.12
    assert max(d.p_value for d in dead) == 1 / 201


@pytest.mark.parametrize("kernel", ["gaussian", "imq"])
def test_statistic_of_the_test(kernel: Any) -> None:
    """It is the plain figure; relabelled copies average to zero whatever the sets are; blocks only save memory."""
    a, b = rows(40, 2) + 1, rows(70, 2, 1)
    given: dict[str, Any] = {"kernel": kernel, "bandwidths": [0.7, 2.0]}
    found = mmd_test(a, b, **given)
    assert found.statistic == pytest.approx(mmd(a, b, **given), rel=1e-9)
    assert found.null_deviation > 0
    assert abs(found.null_mean) < 4 * found.null_deviation / math.sqrt(200)
    assert found.p_value == 1 / 201
    again = mmd_test(a, b, block=7, **given)
    assert again[:3] == pytest.approx(found[:3], rel=1e-9)
    draws = [mmd(rows(50, 8, 2 * i), rows(60, 8, 2 * i + 1), **given) for i in range(60)]
    same = mmd_test(rows(50, 8), rows(60, 8, 1), permutations=300, **given)
    assert same.null_deviation == pytest.approx(np.std(draws), rel=0.25)  # of labels, and of rows
    assert str(found).startswith(f"MMD^2 {found.statistic:.4f} (null ")
    assert str(found).endswith("from 200 permutations; N = 40 and 70)")


def test_p_values_are_uniform_under_the_null() -> None:
    p = [mmd_test(rows(15, 2, 2 * i), rows(25, 2, 2 * i + 1), permutations=19, seed=i).p_value for i in range(80)]
    assert all(round(20 * v, 6) == round(20 * v) for v in p)
    assert abs(np.mean(p) - 0.525) < 3 * 0.29 / math.sqrt(80)
    assert abs(np.mean(np.array(p) <= 0.25) - 0.25) < 3 * 0.43 / math.sqrt(80)


def test_rows_of_the_test_are_drawn_and_said(unchecked: None) -> None:
    a = rows(300, 2)[rows(300, 2)[:, 0].argsort()]  # in order: the first ones would differ
    found = mmd_test(a, rows(90, 2, 1), rows=100)
    assert found.rows == (100, 90)
    assert found == mmd_test(a, rows(90, 2, 1), rows=100)
    assert found != mmd_test(a, rows(90, 2, 1), rows=100, seed=1)
    assert found.p_value > 0.01
    with pytest.raises(ValueError, match="'gaussian' or 'imq', got 'rbf'"):
        mmd_test(a, a, kernel="rbf")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mmd_test expects tables of equally many columns, got 2 and 3"):
        mmd_test(a, rows(9))
    with pytest.raises(ValueError, match=r"mmd expects positive bandwidths, got \[0.0\]"):
        mmd(a, a, bandwidths=[0.0])
    with pytest.raises(ValueError, match="a of mmd_test contains NaN"):
        mmd_test(torch.tensor([[0.0], [math.nan]]), rows(9, 1))
