"""Tori, simplices, clouds and products against formulas written out; means and principal directions against peers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from manifolds import (
    Euclidean,
    MeanFree,
    Product,
    Simplex,
    Sphere,
    Torus,
    angles_to_embedded,
    embedded_to_angles,
    latlon_to_sphere,
    sphere_to_latlon,
    tangent_pca,
)


def test_angles_and_pairs_are_one_torus(dtype: torch.dtype, generator: Generator) -> None:
    flat, round_ = Torus(3), Torus(3, embedded=True)
    x, y = flat.sample_uniform((2, 100), generator=generator, dtype=dtype)
    a, b = angles_to_embedded(x), angles_to_embedded(y)
    tol = 8 * torch.finfo(dtype).eps * math.pi
    torch.testing.assert_close(round_.dist(a, b), flat.dist(x, y), rtol=0, atol=tol)
    torch.testing.assert_close(embedded_to_angles(a), x, rtol=0, atol=tol)
    torch.testing.assert_close(round_.coords(a, round_.log(a, b)), flat.log(x, y), rtol=0, atol=tol)
    assert flat.log_volume_total == round_.log_volume_total == pytest.approx(3 * math.log(2 * math.pi))


@pytest.mark.parametrize("separation", [1e-9, 1e-4, 1.0, 3.0, math.pi - 1e-7])
@pytest.mark.parametrize("embedded", [False, True])
def test_distances_on_a_circle_keep_their_digits(separation: float, embedded: bool) -> None:
    """Both ends are exact in floating point, so the distance is known to the last digit; over the seam too."""
    x = torch.tensor([[0.0], [2**-20]], dtype=torch.float64)
    y = x + separation
    true = (y - x)[:, 0]
    if embedded:
        found = Torus(1, embedded=True).dist(angles_to_embedded(x), angles_to_embedded(y))
        torch.testing.assert_close(found, true, rtol=1e-12, atol=3e-16)
    else:
        assert torch.equal(Torus(1).dist(x, y), true)
        torch.testing.assert_close(Torus(1).dist(x - 2 * math.pi, y + 4 * math.pi), true, rtol=0, atol=4e-15)


def test_angles_in_degrees_are_noticed() -> None:
    with pytest.warns(UserWarning, match="deg2rad"):
        Torus(2).dist(torch.tensor([270.0, 10.0]), torch.zeros(2))


def test_projection_to_the_simplex_is_the_nearest_point(generator: Generator) -> None:
    """By its optimality condition: x − p is one number where p > 0, and not more where p = 0."""
    x = 2 * torch.randn(200, 6, dtype=torch.float64, generator=generator)
    p = Simplex(6).project(x)
    torch.testing.assert_close(p.sum(-1), torch.ones(200, dtype=torch.float64))
    tau = (x - p).amax(-1, keepdim=True)
    gap = (tau - (x - p)).where(p > 0, torch.zeros_like(p))
    torch.testing.assert_close(gap, torch.zeros_like(gap), rtol=0, atol=1e-14)
    assert bool((p >= 0).all())


@pytest.mark.parametrize("k", [2, 3, 7])
def test_volume_of_the_simplex(k: int) -> None:
    """scipy's flat Dirichlet density is one over the volume in the first k − 1 shares, √k times smaller than ours."""
    lebesgue = -stats.dirichlet(np.ones(k)).logpdf(np.full(k, 1 / k))
    assert Simplex(k).log_volume_total == pytest.approx(lebesgue + 0.5 * math.log(k), rel=1e-12)


def test_a_way_out_of_the_simplex_is_refused() -> None:
    x = torch.tensor([0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match=r"leads out.*-0\.1.*retract"):
        Simplex(3).exp(x, torch.tensor([-0.3, 0.1, 0.2]))


def test_clouds_are_flat_and_centred(generator: Generator) -> None:
    space = MeanFree(5, 3)
    assert (space.dim, space.ambient_dim) == (12, 15)
    x = space.project(torch.randn(10, 15, dtype=torch.float64, generator=generator))
    assert float(space.as_particles(x).mean(-2).abs().max()) < 1e-15
    torch.testing.assert_close(space.dist(x[0], x[1:]), (x[0] - x[1:]).norm(dim=-1))


def test_products_add_squares_and_volumes(generator: Generator) -> None:
    space = Product(Sphere(2), Torus(2), Sphere(3))
    x, y = space.sample_uniform((2, 50), generator=generator, dtype=torch.float64)
    parts = [f.dist(a, b) for f, a, b in zip(space.factors, space.split(x), space.split(y), strict=True)]
    torch.testing.assert_close(space.dist(x, y), torch.stack(parts).norm(dim=0))
    assert space.log_volume_total == pytest.approx(math.log(4 * math.pi * 4 * math.pi**2 * 2 * math.pi**2))
    assert space.injectivity_radius == math.pi
    off = x.clone()
    off[7, -1] += 0.1
    with pytest.raises(ValueError, match=r"factor 2: 1 of 50 points"):
        space.dist(off, y)


@pytest.mark.usefixtures("unchecked")
def test_products_are_of_spaces() -> None:
    with pytest.raises(TypeError, match=r"Product\(Sphere\(2\), Euclidean\(1\)\)"):
        Product(Sphere(2), 3)  # type: ignore[arg-type]


def test_mean_agrees_with_geomstats_and_takes_weights(generator: Generator) -> None:
    from geomstats.geometry.hypersphere import Hypersphere
    from geomstats.learning.frechet_mean import FrechetMean

    space = Sphere(3)
    x = space.project(torch.tensor([0.0, 0, 0, 1]) + 0.4 * torch.randn(60, 4, dtype=torch.float64, generator=generator))
    theirs = FrechetMean(Hypersphere(3)).set(epsilon=1e-14, max_iter=200).fit(x.numpy()).estimate_
    np.testing.assert_allclose(space.mean(x).numpy(), theirs, atol=1e-7)
    counts = torch.randint(0, 4, (60,), generator=generator)
    torch.testing.assert_close(space.mean(x, counts.double()), space.mean(x.repeat_interleave(counts, 0)))
    halfway = space.mean(torch.stack([x[0], x[1]]), torch.tensor([3.0, 1.0], dtype=x.dtype))
    torch.testing.assert_close(halfway, space.geodesic(x[0], x[1], 0.25))


def test_a_mean_that_is_not_the_only_one_is_told() -> None:
    x = torch.eye(3, dtype=torch.float64)
    spread = torch.cat([x, -x + 0.01 * x.roll(1, 0)])
    spread = Sphere(2).project(spread)
    with pytest.warns(UserWarning, match="half the injectivity radius"):
        Sphere(2).mean(spread)
    with pytest.raises(ValueError, match="half the injectivity radius"):
        Sphere(2).mean(spread, strict=True)
    with pytest.raises(ValueError, match="3 weights"):
        Sphere(2).mean(x, torch.tensor([1.0, -1.0, 0.0]))


def test_principal_directions_of_flat_data_are_pca(generator: Generator) -> None:
    from sklearn.decomposition import PCA

    x = torch.randn(80, 4, dtype=torch.float64, generator=generator) @ torch.diag(
        torch.tensor([3.0, 2, 1, 0.3]).double()
    )
    theirs, ours = PCA(3).fit(x.numpy()), tangent_pca(Euclidean(4), x, 3)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_ * 79 / 80, rtol=1e-12)
    overlap = (ours.directions.numpy() * theirs.components_).sum(1)
    np.testing.assert_allclose(np.abs(overlap), 1, rtol=1e-12)


def test_principal_direction_of_a_great_circle_is_the_circle() -> None:
    t = torch.linspace(-1, 1, 41, dtype=torch.float64)
    x = torch.stack([t.cos(), t.sin(), torch.zeros_like(t)], 1)
    found = tangent_pca(Sphere(2), x)
    torch.testing.assert_close(found.mean, torch.tensor([1.0, 0, 0], dtype=t.dtype))
    torch.testing.assert_close(found.variances[0], (t * t).mean())
    assert float(found.variances[1]) < 1e-30
    back = Sphere(2).exp(found.mean, found.coordinates @ found.directions)
    torch.testing.assert_close(back, x)


def test_latitude_and_longitude() -> None:
    """Great circles by the haversine formula; columns the wrong way round are refused."""
    cities = torch.tensor([[51.5074, -0.1278], [40.7128, -74.0060], [-33.8688, 151.2093]], dtype=torch.float64)
    x = latlon_to_sphere(cities)
    torch.testing.assert_close(sphere_to_latlon(x), cities)
    lat, lon = np.deg2rad(cities.numpy()).T
    for i, j in ((0, 1), (1, 2)):
        h = math.sin((lat[i] - lat[j]) / 2) ** 2
        h += math.cos(lat[i]) * math.cos(lat[j]) * math.sin((lon[i] - lon[j]) / 2) ** 2
        assert float(Sphere(2).dist(x[i], x[j])) == pytest.approx(2 * math.asin(math.sqrt(h)), rel=1e-12)
    with pytest.raises(ValueError, match=r"151\.2.*swapped"):
        latlon_to_sphere(cities.flip(1))
