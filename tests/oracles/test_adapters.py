"""geomstats through `from_geomstats`, in one process of its own: this one has geomstats' numpy backend.

Each function in CHECKS runs in that process, in this order, and is a test here.
"""

import functools
import json
import logging
import math
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from manifolds import Manifold, Sphere, from_geomstats

CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__.removeprefix("_")] = function
    return function


@functools.cache
def answers() -> dict[str, str]:
    """What went wrong in each check, or nothing."""
    code = "import tests.conftest; from tests.oracles import test_adapters; test_adapters.main()"
    environment = {k: v for k, v in os.environ.items() if k != "GEOMSTATS_BACKEND"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    import sklearn  # noqa: F401 (geomstats imports it, and it sets a variable for all of OpenMP)

    said = {}
    for name, function in CHECKS.items():
        torch.manual_seed(0)
        try:
            with unchanged():
                function()
            said[name] = ""
        except (Exception, pytest.fail.Exception):
            said[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(said) + "\n")


@contextmanager
def unchanged() -> Iterator[None]:
    """Environment, default dtype, threads, gradient mode and root logger stay as they are."""

    def world() -> tuple[Any, ...]:
        root = logging.getLogger()
        return (
            {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"},  # set by torch for itself
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            root.level,
            list(root.handlers),
        )

    before = world()
    yield
    assert world() == before


# -- spaces ------------------------------------------------------------------------------------------------------------


def spd() -> Any:
    from geomstats.geometry.spd_matrices import SPDMatrices

    return SPDMatrices(3)


def sphere() -> Any:
    from geomstats.geometry.hypersphere import Hypersphere

    return Hypersphere(2)


def grassmannian() -> Any:
    from geomstats.geometry.grassmannian import Grassmannian

    return Grassmannian(4, 2)


def stiefel() -> Any:
    from geomstats.geometry.stiefel import Stiefel

    return Stiefel(4, 2)


def product() -> Any:
    from geomstats.geometry.hyperboloid import Hyperboloid
    from geomstats.geometry.product_manifold import ProductManifold

    return ProductManifold([sphere(), Hyperboloid(2)])


SPACES = (spd, sphere, grassmannian, product)


def points(space: Manifold, g: Generator, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points near a centre of the space, so that no pair is far or cut off."""
    centre = torch.eye(3).flatten() if space.ambient_dim == 9 else torch.linspace(0.5, 1.5, space.ambient_dim)
    x = space.project(centre.double() + 0.2 * torch.randn(*batch, space.ambient_dim, dtype=torch.float64, generator=g))
    return x.to(dtype)


def tangent(space: Manifold, x: Tensor, g: Generator, length: float = 0.7) -> Tensor:
    v = space.random_tangent(x, generator=g)
    return length * v / space.norm(x, v)[..., None]


def close(a: Tensor, b: Tensor, atol: float) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=atol)


def verbs(space: Manifold, x: Tensor, y: Tensor, v: Tensor) -> dict[str, Tensor]:
    """Every verb's answer."""
    return {
        "project": space.project(x),
        "to_tangent": space.to_tangent(x, y),
        "exp": space.exp(x, v),
        "log": space.log(x, y),
        "dist": space.dist(x, y),
        "squared_dist": space.squared_dist(x, y),
        "geodesic": space.geodesic(x, y, 0.3),
        "retract": space.retract(x, v),
        "transport": space.transport(x, y, v),
        "inner": space.inner(x, v, v),
        "norm": space.norm(x, v),
        "tangent_basis": space.tangent_basis(x),
        "coords": space.coords(x, v),
        "egrad_to_rgrad": space.egrad_to_rgrad(x, y),
        "log_volume": space.log_volume(x),
    }


# -- loading -----------------------------------------------------------------------------------------------------------


@check
def _loading_leaves_the_world_alone() -> None:
    assert "geomstats" not in sys.modules
    os.environ["GEOMSTATS_BACKEND"] = "numpy"
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with unchanged():
        space = from_geomstats(spd)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    del os.environ["GEOMSTATS_BACKEND"]
    assert (space.dim, space.ambient_dim, space.point_shape) == (6, 9, (3, 3))


@check
def _calls_leave_the_world_alone() -> None:
    for make in SPACES:
        space, g = from_geomstats(make), Generator().manual_seed(1)
        for dtype in (torch.float32, torch.float64):
            x, y = points(space, g, 3, dtype=dtype), points(space, g, 3, dtype=dtype)
            v, kept = tangent(space, x, g).requires_grad_(), [x.clone(), y.clone()]
            before = torch.get_rng_state()
            with unchanged():
                said = verbs(space, x, y, v)
            assert torch.equal(torch.get_rng_state(), before)
            for verb, answer in said.items():
                assert answer.dtype == dtype, verb
            assert torch.equal(x, kept[0])
            assert torch.equal(y, kept[1])


@check
def _digits_of_float64_whatever_the_default_dtype() -> None:
    """A sphere's log at separation 1, against ours, which is checked against mpmath."""
    assert torch.get_default_dtype() == torch.float32
    ours, theirs, g = Sphere(2), from_geomstats(sphere), Generator().manual_seed(1)
    x = ours.sample_uniform(50, generator=g, dtype=torch.float64)
    v = ours.random_tangent(x, generator=g)
    y = ours.exp(x, v / v.norm(dim=-1, keepdim=True))
    for a, b in ((ours.log(x, y), theirs.log(x, y)), (ours.exp(x, v), theirs.exp(x, v))):
        assert float((a - b).norm(dim=-1).max()) < 1e-14
    close(theirs.dist(x, y), torch.ones(50, dtype=torch.float64), 1e-14)


@check
def _two_threads_at_once() -> None:
    space, g = from_geomstats(spd), Generator().manual_seed(1)
    x, y = points(space, g, 20), points(space, g, 20)
    expected, wrong = space.dist(x, y), []

    def work(dtype: torch.dtype) -> None:
        for _ in range(20):
            d = space.dist(x.to(dtype), y.to(dtype))
            if d.dtype != dtype or not torch.allclose(d.double(), expected, atol=1e-5):
                wrong.append(d)

    with unchanged():
        threads = [threading.Thread(target=work, args=(dtype,)) for dtype in (torch.float32, torch.float64)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


# -- laws --------------------------------------------------------------------------------------------------------------


@check
def _exp_and_log_undo_each_other() -> None:
    for make in (*SPACES, stiefel):
        space, g = from_geomstats(make), Generator().manual_seed(2)
        n = 3 if make is stiefel else 20
        for dtype, tol in ((torch.float64, 1e-7 if make is stiefel else 1e-12), (torch.float32, 1e-5)):
            x, y = points(space, g, n, dtype=dtype), points(space, g, n, dtype=dtype)
            v = tangent(space, x, g)
            close(space._exp(x, space.log(x, y)), y, tol)
            close(space.log(x, space.exp(x, v)), v, tol)
            close(space.dist(x, space.exp(x, v)), torch.full_like(x[:, 0], 0.7), tol)
            close(space.squared_dist(x, y), space.dist(x, y) ** 2, tol)
            assert space.contains(space.exp(x, v)).all()
            close(space.log(x, x), torch.zeros_like(x), 0)
            close(space.exp(x, 0 * v), x, 0)


@check
def _bases_are_orthonormal_in_the_metric() -> None:
    for make in (*SPACES, stiefel):
        space, g = from_geomstats(make), Generator().manual_seed(0)  # the seed that data are often drawn with
        x = points(space, g, 20)
        basis = space.tangent_basis(x)
        assert basis.shape == (20, space.ambient_dim, space.dim)
        columns = basis.mT
        gram = space.inner(x[:, None, None], columns[:, :, None], columns[:, None])
        close(gram, torch.eye(space.dim, dtype=x.dtype).expand_as(gram), 1e-12)
        close(space.to_tangent(x[:, None], columns), columns, 1e-12)
        c = torch.randn(20, space.dim, dtype=x.dtype, generator=g)
        close(space.coords(x, (basis @ c[..., None])[..., 0]), c, 1e-12)
        far = x[:1].expand(5000, -1)
        lengths = space.norm(far, space.random_tangent(far, generator=g)) ** 2 / space.dim
        assert abs(float(lengths.mean()) - 1) < 4 * math.sqrt(2 / space.dim / 5000)
        e = torch.randn(20, space.ambient_dim, dtype=x.dtype, generator=g)
        rgrad = space.egrad_to_rgrad(x, e)
        close(space.inner(x[:, None], rgrad[:, None], columns), (columns * e[:, None]).sum(-1), 1e-10)


@check
def _points_projected_from_the_first_draws_of_seed_zero_have_a_basis() -> None:
    space = from_geomstats(stiefel)
    x = space.project(torch.randn(5, 8, dtype=torch.float64, generator=Generator().manual_seed(0)))
    columns = space.tangent_basis(x).mT
    close(space.to_tangent(x[:, None], columns), columns, 1e-10)


@check
def _transport_is_an_isometry_that_carries_velocities() -> None:
    for make, tol in ((spd, 1e-12), (sphere, 1e-12), (grassmannian, 1e-12), (product, 1e-9)):  # the last by the ladder
        space, g = from_geomstats(make), Generator().manual_seed(4)
        x = points(space, g, 5)
        u, v = tangent(space, x, g), tangent(space, x, g)
        y = space.exp(x, v)
        close(space.transport(x, y, v), -space.log(y, x), tol)
        moved = space._transport(x, y, u)
        close(space.inner(y, moved, moved), space.inner(x, u, u), tol)


@check
def _positive_matrices_have_their_closed_forms() -> None:
    """dist, log-volume −(n + 1)/2 log det P, and Riemannian gradient P sym(G) P of the affine metric."""
    from scipy.linalg import eigvalsh

    space, g = from_geomstats(spd), Generator().manual_seed(5)
    x, y = points(space, g, 10), points(space, g, 10)
    p, q = space.as_matrix(x), space.as_matrix(y)
    expected = [math.sqrt((np.log(eigvalsh(b.numpy(), a.numpy())) ** 2).sum()) for a, b in zip(p, q, strict=True)]
    close(space.dist(x, y), torch.tensor(expected, dtype=x.dtype), 1e-12)
    close(space.log_volume(x), -2 * torch.logdet(p), 1e-12)
    e = torch.randn(10, 3, 3, dtype=x.dtype, generator=g)
    close(space.egrad_to_rgrad(x, e.flatten(1)), (p @ (e + e.mT) / 2 @ p).flatten(1), 1e-12)


@check
def _log_volume_is_zero_in_an_isometric_embedding() -> None:
    space, g = from_geomstats(sphere), Generator().manual_seed(6)
    close(space.log_volume(points(space, g, 5)), torch.zeros(5, dtype=torch.float64), 1e-14)


@check
def _all_batches() -> None:
    """A table of both, one against many, single points, and none."""
    for make in SPACES:
        space, g = from_geomstats(make), Generator().manual_seed(7)
        x, y = points(space, g, 4, 1), points(space, g, 1, 4)
        v = tangent(space, x, g)
        loop = torch.stack([space.log(a, b) for a in x[:, 0] for b in y[0]]).unflatten(0, (4, 4))
        close(space.log(x, y), loop, 1e-13)
        close(space.dist(x, y), space.norm(x, loop), 1e-13)
        close(space.log(x[0, 0], y[0]), loop[0], 1e-13)
        close(space.exp(x[2, 0], v[2, 0]), space.exp(x, v)[2, 0], 1e-13)
        assert space.geodesic(x, y, torch.linspace(0, 1, 4)).shape == (4, 4, space.ambient_dim)
        for verb, answer in verbs(space, x[:0, 0], y[0, :0], v[:0, 0]).items():
            assert answer.shape[0] == 0, verb
        matrices = space.as_matrix(x)
        assert matrices.shape == (4, 1, *space.point_shape)
        assert matrices.data_ptr() == x.data_ptr()


@check
def _gradients() -> None:
    """Through exp and dist as differences say; zero, and twice the metric after one more, at coincident points."""
    for make in SPACES:
        space, g = from_geomstats(make), Generator().manual_seed(8)
        x = points(space, g, 3)
        v, u = tangent(space, x, g), tangent(space, x, g)
        t = torch.zeros((), dtype=x.dtype, requires_grad=True)
        weights = torch.linspace(0.5, 1.5, space.ambient_dim, dtype=x.dtype)

        def moved(t: Tensor, space: Any = space, x: Any = x, v: Any = v, u: Any = u, w: Any = weights) -> Tensor:
            y = space._exp(x, v + t * u)
            return (y * w).sum() + space._dist(space._exp(x, t * u), y).sum()

        (slope,) = torch.autograd.grad(moved(t), t)
        h = 1e-4
        with torch.no_grad():
            difference = (moved(t + h) - moved(t - h)) / (2 * h)
        close(slope, difference, 1e-6)
        a, zero = x.clone().requires_grad_(), torch.zeros_like(x).requires_grad_()
        for f in (space.dist, space.squared_dist):
            (still,) = torch.autograd.grad(f(a, x).sum(), a)
            close(still, torch.zeros_like(x), 0)
        (first,) = torch.autograd.grad((space.exp(x, zero) * weights).sum(), zero)
        close(first, weights.expand_as(x), 1e-14)
        basis = space.tangent_basis(x[0])
        hessian = torch.autograd.functional.hessian(lambda c, s=space, x=x: s.squared_dist(x[0], c), x[0])
        close(basis.mT @ hessian @ basis, 2 * torch.eye(space.dim, dtype=x.dtype), 1e-10)


@check
def _vmap_where_geomstats_has_no_branches() -> None:
    space, g = from_geomstats(sphere), Generator().manual_seed(9)
    x, y = points(space, g, 5), points(space, g, 5)
    close(torch.vmap(space.dist)(x, y), space.dist(x, y), 1e-14)


@check
def _means() -> None:
    space, g = from_geomstats(spd), Generator().manual_seed(10)
    x = points(space, g, 8)
    m = space.mean(x)
    close(space.log(m, x).mean(0), torch.zeros(9, dtype=x.dtype), 1e-12)


# -- a value object, and what it refuses -------------------------------------------------------------------------------


@check
def _compares_by_content() -> None:
    import copy

    from geomstats.geometry.full_rank_correlation_matrices import FullRankCorrelationMatrices, OffLogMetric
    from geomstats.geometry.spd_matrices import SPDBuresWassersteinMetric

    one, two = from_geomstats(spd), from_geomstats(spd)
    assert one == two
    assert hash(one) == hash(two)
    assert repr(one) == "from_geomstats(SPDMatrices(n=3), SPDAffineMetric())"
    assert json.loads(json.dumps(one.config())) == one.config()
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    assert from_geomstats(lambda: spd().equip_with_metric(SPDBuresWassersteinMetric)) != one
    doubled = spd()
    doubled.equip_with_metric(2.0 * doubled.metric)
    assert from_geomstats(doubled) != one
    close(from_geomstats(doubled).inner(torch.eye(3).flatten(), *torch.eye(9)[:1].expand(2, 9)), torch.tensor(2.0), 0)
    assert from_geomstats(product) == from_geomstats(product)
    assert from_geomstats(product) != from_geomstats(sphere)
    other = FullRankCorrelationMatrices(3).equip_with_metric(OffLogMetric)  # its arguments cannot be read
    assert from_geomstats(other) == from_geomstats(other)
    assert from_geomstats(other) != from_geomstats(FullRankCorrelationMatrices(3).equip_with_metric(OffLogMetric))


@check
def _uniform_points() -> None:
    space = from_geomstats(grassmannian)
    before = torch.get_rng_state()
    x, again = (space.sample_uniform((500, 3), generator=Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, again)
    assert x.dtype == torch.float32
    assert x.shape == (500, 3, 16)
    assert space.contains(x).all()
    mean = x.flatten(0, 1).mean(0)  # projections of rank 2 in four dimensions: half the identity
    assert float((mean - 0.5 * torch.eye(4).flatten()).abs().max()) < 4 * 0.4 / math.sqrt(1500)
    assert not torch.equal(space.sample_uniform(3), space.sample_uniform(3))


@check
def _bad_input() -> None:
    from geomstats.geometry.hypersphere import Hypersphere
    from geomstats.geometry.minkowski import Minkowski
    from geomstats.geometry.siegel import Siegel

    for wrong, error, text in (
        (3.0, TypeError, "manifold of geomstats.*got float"),
        (Hypersphere, TypeError, "the class Hypersphere"),
        (lambda: Sphere(2), TypeError, "got Sphere"),
        (Hypersphere(2, equip=False), ValueError, "equip_with_metric"),
        (lambda: Minkowski(3), ValueError, r"signature \(2, 1\)"),
        (lambda: Siegel(2), ValueError, "real points"),
        (Hypersphere(2), ValueError, "float32.*pass a function"),
    ):
        with pytest.raises(error, match=text):
            from_geomstats(wrong)
    space = from_geomstats(spd)
    x = torch.eye(3).flatten()
    with pytest.raises(ValueError, match="9 ambient coordinates"):
        space.dist(x[:8], x)
    with pytest.raises(ValueError, match="1 of 2 points.*row 1"):
        space.dist(torch.stack([x, -x]), x)
    with pytest.raises(ValueError, match="not tangent"):
        space.exp(x, torch.arange(9.0))
    with pytest.raises(NotImplementedError, match="sample_uniform.*: .{10,}"):
        space.sample_uniform(3)
    with pytest.raises(NotImplementedError, match="log_volume_total.*: .{10,}"):
        _ = space.log_volume_total
    from geomstats.geometry.open_hemisphere import OpenHemisphere

    with pytest.raises(NotImplementedError):
        from_geomstats(lambda: OpenHemisphere(2)).sample_uniform(3)


@check
def _a_density_on_it_makes_a_space() -> None:
    """Fermat geodesics between positive matrices: relaxed, the same both ways, and no longer than the line's cost."""
    from geoflow import FermatSpace
    from geoflow.distributions import WrappedNormal

    mean = torch.tensor([2.0, 0.3, 0.0, 0.3, 1.0, 0.1, 0.0, 0.1, 1.5], dtype=torch.float64)
    density = WrappedNormal(from_geomstats(spd), mean, 0.5)
    x, y = density.sample((2, 2), generator=Generator().manual_seed(0)).detach()
    space = FermatSpace(density, power=0.3)
    there, back = space.solve(x, y), space.solve(y, x)
    assert bool(there.converged.all() & back.converged.all())
    torch.testing.assert_close(there.length, back.length, rtol=1e-6, atol=0)
    assert bool((there.length <= space.dist(x, y, "line") * (1 + 1e-6)).all())


@check
def _the_example_in_the_docstring() -> None:
    import doctest

    import manifolds.adapters as module

    (example,) = [t for t in doctest.DocTestFinder().find(module) if t.name.endswith(".from_geomstats")]
    for line in example.examples:
        line.options.clear()
    example.globs["torch"] = torch
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


# -- here --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
def test_in_its_own_process(name: str) -> None:
    assert not answers()[name], answers()[name]


def test_another_backend_is_refused() -> None:
    from geomstats.geometry.hypersphere import Hypersphere

    for space in (Hypersphere(2), sphere):
        with pytest.raises(RuntimeError, match=r"loaded with numpy.*GEOMSTATS_BACKEND=pytorch"):
            from_geomstats(space)
