"""Laws of spaces that data inherit from their codes."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from geoflow import LatentSpace, StandardNormal, load, save
from geoflow.flows import realnvp
from manifolds import Euclidean, Space
from tests.laws.registry import LATENT, narrow
from tests.laws.tools import build, close


def made(name: str) -> LatentSpace:
    space = build(LATENT[name])
    assert isinstance(space, LatentSpace)
    return space


@pytest.fixture(params=LATENT)
def latent(request: pytest.FixtureRequest) -> LatentSpace:
    return made(request.param)


@pytest.fixture
def ends(latent: LatentSpace, generator: Generator) -> tuple[Tensor, Tensor]:
    """Data whose codes are about where the latent's points are."""
    z = torch.randn(2, 6, latent.autoencoder.latent_dim, dtype=torch.float64, generator=generator)
    x, y = latent.decode(z).detach()
    return x, y


def test_it_is_a_space(latent: LatentSpace) -> None:
    assert isinstance(latent, Space)


def test_distances_are_those_of_the_codes(latent: LatentSpace, ends: tuple[Tensor, Tensor]) -> None:
    x, y = ends
    found = latent.dist(x, y)
    close(found, latent.space.dist(latent.encode(x), latent.encode(y)), 1e-12)
    close(found, latent.dist(y, x), 1e-9, 1e-6)
    assert latent.dist(x, x).abs().max() < 1e-7
    assert latent.dist(x[:, None], y[None]).shape == (6, 6)


def test_geodesics_are_decoded(latent: LatentSpace, ends: tuple[Tensor, Tensor]) -> None:
    """They join the reconstructions, which a bijection's ends are themselves, at constant speed of the codes."""
    x, y = ends
    t = torch.linspace(0, 1, 3, dtype=x.dtype)[:, None]
    with torch.no_grad():
        path = latent.geodesic(x, y, t)
        close(path[0], latent.decode(latent.encode(x)), 1e-6)
        close(path[-1], latent.decode(latent.encode(y)), 1e-6)
        if hasattr(latent.autoencoder, "encode_and_log_det"):
            close(path[0], x, 1e-6)
            half = latent.dist(x, path[1])
            close(half, latent.dist(x, y) / 2, 0, 5e-3)


def test_gradients_reach_the_data(latent: LatentSpace, ends: tuple[Tensor, Tensor], generator: Generator) -> None:
    x, y = (end[:2] for end in ends)
    v = torch.randn(2, latent.autoencoder.dim, dtype=torch.float64, generator=generator)
    at = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(latent.dist(at, y).sum(), at)
    step = 1e-5
    with torch.no_grad():
        slope = (latent.dist(x + step * v, y) - latent.dist(x - step * v, y)) / (2 * step)
    close((g * v).sum(-1), slope, 1e-3, 1e-3)


def test_saved_and_loaded_they_are_equal(latent: LatentSpace, ends: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    save(latent, tmp_path / "space.safetensors")
    again = load(tmp_path / "space.safetensors")
    assert isinstance(again, LatentSpace)
    x, y = ends
    assert torch.equal(again.dist(x, y), latent.dist(x, y))


def test_a_decoded_solution() -> None:
    latent = made("LatentSpace(Fermat, bottleneck)")
    x = torch.randn(5, 5, dtype=torch.float64, generator=Generator().manual_seed(1))
    found = latent.solve(x[:2], x[2:4], start="line")
    assert found.path.shape == (2, 65, 5)
    close(found.length, latent.dist(x[:2], x[2:4]), 1e-6, 1e-3)
    close(latent.pairwise(x[:2], x[2:]), latent.space.pairwise(latent.encode(x[:2]), latent.encode(x[2:])), 1e-12)
    distance, index = latent.knn(x[:2], 3)
    assert distance.shape == index.shape == (2, 3)


def test_what_it_refuses() -> None:
    with pytest.raises(TypeError, match=r"of a model pass its \.autoencoder"):
        LatentSpace(realnvp(2), Euclidean(2))
    with pytest.raises(ValueError, match="a space per condition"):
        LatentSpace(realnvp(2, context=1).bijection, Euclidean(2))
    with pytest.raises(ValueError, match="2 latent coordinates, the space 3"):
        LatentSpace(narrow(5, 2), Euclidean(3))
    with pytest.raises(TypeError, match="a manifold or a FermatSpace, got StandardNormal"):
        LatentSpace(narrow(5, 2), StandardNormal(2))
    with pytest.raises(NotImplementedError, match=r"use dist\(x\[:, None\], y\)"):
        made("LatentSpace(flat)").pairwise(torch.zeros(2, 2, dtype=torch.float64))
