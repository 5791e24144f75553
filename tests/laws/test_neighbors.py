"""Engines for nearest neighbours are one function: the same distances to rounding, whatever the cloud."""

import functools
import os
import shutil
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from geoflow.distances import nearest
from geoflow.distances.graph import components
from geoflow.distances.neighbors import engines as neighbor_engines
from geoflow.distances.neighbors import nearest as neighbors
from geoflow.distances.neighbors import tiles as neighbor_tiles

ENGINES = ("auto", "kdtree", "torch", "faiss")


def normal(n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(n + dim), dtype=torch.float64)


# name -> (points, k)
CLOUDS: dict[str, tuple[Callable[[], Tensor], int]] = {
    "plane": (lambda: normal(2049, 2), 5),
    "line": (lambda: normal(700, 1), 7),
    "line in order, each neighbour in another group": (lambda: normal(4096, 1).sort(0).values, 20),
    "many coordinates": (lambda: normal(2049, 32), 5),
    "many neighbours": (lambda: normal(999, 3), 300),
    "far from the origin": (lambda: 1000 + normal(700, 5), 7),
    "two clusters far apart": (lambda: normal(700, 3) + 1e4 * (torch.arange(700) % 2)[:, None], 7),
    "one point far away": (lambda: normal(700, 3) * torch.where(torch.arange(700) == 3, 1e7, 1.0)[:, None], 7),
    "whole numbers, many ties": (lambda: (2 * normal(700, 3)).round(), 7),
    "twins and sextets of twins": (lambda: normal(100, 3).repeat(2, 1)[torch.arange(600) % 123], 7),
    "forty copies of a point": (lambda: torch.cat([normal(660, 3), normal(1, 3).expand(40, -1)]), 7),
    "all points asked for": (lambda: normal(65, 4), 64),
    "two points": (lambda: normal(2, 2), 1),
}


@functools.cache
def brute(cloud: str, dtype: torch.dtype) -> tuple[Tensor, int, Tensor]:
    """The points, k, and each point's distances to the k nearest others by plain differences in float64."""
    make, k = CLOUDS[cloud]
    x = make().to(dtype)
    mode = "donot_use_mm_for_euclid_dist"
    table = torch.cdist(x.double()[:300], x.double(), compute_mode=mode).fill_diagonal_(torch.inf)
    return x, k, table.topk(k, largest=False).values


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_engines_agree_with_plain_differences(cloud: str, engine: str, dtype: torch.dtype) -> None:
    x, k, expected = brute(cloud, dtype)
    distance, index = nearest(x, None, k, engine)
    torch.testing.assert_close(distance[:300].double(), expected, rtol=32 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close((x[index] - x[:, None]).norm(dim=-1), distance, rtol=4 * torch.finfo(dtype).eps, atol=0)
    assert not bool((index == torch.arange(len(x))[:, None]).any())
    assert all(len(set(row)) == k for row in index.tolist())
    # asked from outside, a point finds itself, or a twin, first
    outside, who = nearest(x, x[:50], k + 1, engine)
    assert bool((outside[:, 0] == 0).all())
    torch.testing.assert_close(outside[:, 1:].double(), expected[:50], rtol=32 * torch.finfo(dtype).eps, atol=0)
    assert torch.equal(x[who[:, 0]], x[:50])


def test_tiles_side_by_side_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, k, expected = brute("plane", torch.float64)
    monkeypatch.setattr(neighbor_tiles, "COLUMNS", 1024)
    torch.testing.assert_close(nearest(x, x[:300], k + 1, "torch")[0][:, 1:], expected)


def test_no_queries_and_gradients() -> None:
    x = normal(40, 2).requires_grad_()
    for engine in ENGINES:
        distance, index = nearest(x, x[:0], 3, engine)
        assert distance.shape == index.shape == (0, 3)
    nearest(x, x[:1].detach() + 1, 1)[0].sum().backward()
    assert int((x.grad.norm(dim=1) > 0).sum()) == 1


@pytest.mark.parametrize("engine", ["keops", "faiss"])
def test_what_is_missing_is_told_and_replaced(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(neighbor_engines.importlib.util, "find_spec", lambda name: None)
    neighbor_engines._keops_works.cache_clear()
    neighbors._tell.cache_clear()
    x, k, expected = brute("plane", torch.float64)
    with pytest.warns(UserWarning, match=f"(?i){engine}.*found by engine='auto'"):
        distance, _ = nearest(x, None, k, engine)
    torch.testing.assert_close(distance[:300], expected)
    with warnings.catch_warnings():  # told once
        warnings.simplefilter("error")
        nearest(x, None, k, engine)
    neighbor_engines._keops_works.cache_clear()


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler for KeOps")
@pytest.mark.skipif("CI" not in os.environ, reason="KeOps compiles for ten seconds: set CI=true to run it")
def test_keops_agrees_with_torch() -> None:
    x = normal(100, 2).float()
    distance, index = nearest(x, None, 6, "keops")
    theirs, same = nearest(x, None, 6, "torch")
    torch.testing.assert_close(distance, theirs)
    ties = theirs.diff(dim=1).abs() < 1e-6
    clear = ~torch.nn.functional.pad(ties, (1, 0)) & ~torch.nn.functional.pad(ties, (0, 1))
    assert float(clear.float().mean()) > 0.99
    assert torch.equal(index[clear], same[clear])


@pytest.mark.parametrize("kind", ["plain", "ties"])
@pytest.mark.parametrize("parts", [1, 2, 3, 17, 60])
def test_components_are_joined_by_a_minimum_spanning_tree(parts: int, kind: str, generator: torch.Generator) -> None:
    import networkx as nx

    x = torch.randn(180, 2, generator=generator, dtype=torch.float64)
    x = x if kind == "plain" else torch.unique((4 * x).round(), dim=0)
    part = torch.cat([torch.arange(parts), torch.randint(parts, (len(x) - parts,), generator=generator)])
    inner = torch.cat([torch.stack([m[:-1], m[1:]], 1) for c in range(parts) for m in (part == c).nonzero().mT])
    label, sizes = components.labels(inner, len(x))
    assert torch.equal(label.bincount(), torch.tensor(sizes))
    assert sizes == sorted(part.bincount().tolist(), reverse=True)
    pairs = components.joins(x, label)
    table, between = torch.cdist(x, x), nx.Graph()
    for a in range(parts):
        for b in range(a):
            between.add_edge(a, b, weight=float(table[part == a][:, part == b].min()))
    assert len(pairs) == parts - 1
    length = float(table[pairs[:, 0], pairs[:, 1]].sum())
    assert length == pytest.approx(nx.minimum_spanning_tree(between).size("weight"))
    assert components.labels(torch.cat([inner, pairs]), len(x))[1] == [len(x)]
