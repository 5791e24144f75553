"""Tables of Fermat distances at scale: workers, landmarks, files, rows that do not see each other, networkx and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_config
from torch import Tensor

from geoflow import GaussianMixture
from geoflow.distances import FermatSpace
from geoflow.distances.bulk import pairwise as tables
from geoflow.distances.bulk import parallel
from tests.oracles.fermat_rows import mixture_a


@pytest.fixture(scope="module")
def space() -> FermatSpace:
    mixture = mixture_a()
    points = mixture.sample(200, generator=torch.Generator().manual_seed(0))
    return FermatSpace(mixture, torch.cat([points, points[:3]]), power=0.5, neighbors=6, reference="mean")


def fresh(space: FermatSpace, n: int) -> Tensor:
    return space.density.sample(n, generator=torch.Generator().manual_seed(1))


def test_two_workers_equal_one_process(space: FermatSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes for lengths along the graph: 1e-12. Threads for what is relaxed: 1e-7, for relaxation stops when a step is
    below 1e-6 of the path, and rounding in blocks of another size decides which step is the last."""
    q = fresh(space, 15)
    with parallel_config(backend="multiprocessing"):
        torch.testing.assert_close(space.pairwise(q, n_jobs=2), space.pairwise(q), rtol=1e-12, atol=0)
    alone = space.dist(q[:5, None], space.points[:8])
    monkeypatch.setattr(parallel, "PATHS", 16)  # paths a block
    with parallel_config(backend="threading", n_jobs=2):
        table = space.pairwise(q[:5], space.points[:8], "relax")
        torch.testing.assert_close(table, alone, rtol=1e-7, atol=0)
        length, index = space.knn(space.points[:5], 5, "graph")
    torch.testing.assert_close(space.knn(space.points[:5], 5, "graph"), (length, index), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="n_jobs must be a whole number other than 0"):
        space.pairwise(n_jobs=0)


def test_rows_do_not_see_each_other(space: FermatSpace) -> None:
    q = fresh(space, 25)
    together = space.pairwise(q)
    alone = torch.stack([space.pairwise(q[i : i + 1], q)[0] for i in range(5)])
    torch.testing.assert_close(together[:5], alone, rtol=1e-12, atol=0)
    torch.testing.assert_close(together, together.T, rtol=1e-12, atol=0)
    assert together.diagonal().tolist() == [0.0] * 25
    one = space.dist(q[:5], space.points[:5], "graph")
    torch.testing.assert_close(space.pairwise(q[:5], space.points[:5]).diagonal(), one)
    torch.testing.assert_close(space.dist(q[:5], q[5:10], "graph"), together[:5, 5:10].diagonal(), rtol=1e-12, atol=0)


def test_nearest_along_the_graph_are_those_of_the_table(space: FermatSpace) -> None:
    q = torch.cat([fresh(space, 20), space.points[:5]])
    length, index = space.knn(q, 9, "graph")
    table = space.pairwise(q, space.points)
    torch.testing.assert_close(length, table.topk(9, largest=False).values, rtol=1e-12, atol=0)
    torch.testing.assert_close(table.gather(1, index), length, rtol=1e-12, atol=0)
    assert all(len(set(row)) == 9 for row in index.tolist())


def test_landmarks_bound_every_distance(space: FermatSpace) -> None:
    x, y = space.points[:80], torch.cat([space.points[80:155], fresh(space, 5)])
    table = space.pairwise(x, y)
    few = space.landmarks(10)
    lower, upper = few.bounds(x, y)
    exact = table.diagonal()
    assert bool((lower <= exact * (1 + 1e-12)).all())
    assert bool((exact <= upper * (1 + 1e-12)).all())
    assert float((upper / exact).median()) < 1.2
    assert float((lower / exact).median()) > 0.7
    all_of_them = space.pairwise(x, y, landmarks=203)
    torch.testing.assert_close(all_of_them, table, rtol=1e-12, atol=0)
    torch.testing.assert_close(space.pairwise(x, y, landmarks=10).diagonal(), upper, rtol=1e-12, atol=0)
    torch.testing.assert_close(few.dist(x), space.pairwise(x, space.points[few.index]), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="landmarks= bound distances of the graph"):
        space.pairwise(landmarks=3, method="line")
    with pytest.raises(ValueError, match="count = 204 is more than the 203 points"):
        space.landmarks(204)


def test_tables_in_files_and_large_ones(space: FermatSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.npy"
    for x, y, method in (
        (None, None, "graph"),
        (fresh(space, 4), None, "line"),
        (space.points[:9], space.points[:4], "graph"),
    ):
        table = space.pairwise(x, y, method, out=path)
        torch.testing.assert_close(table, space.pairwise(x, y, method), rtol=0, atol=0)
        assert np.array_equal(np.load(path), table.numpy())
    monkeypatch.setattr(tables, "LARGE", 100)
    with pytest.raises(ValueError, match=r"203 × 203 distances take 0.0 GiB: pass allow_large=True"):
        space.pairwise()
    with pytest.warns(UserWarning, match="203 × 203 distances take 0.0 GiB of memory"):
        assert space.pairwise(allow_large=True).shape == (203, 203)
    nobody = GaussianMixture(2, 1)
    much = FermatSpace(nobody, torch.randn(20_001, 2), neighbors=1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"20,001 × 20,001 distances take 1.5 GiB"):
        much.pairwise()


def test_networkx_and_back(space: FermatSpace) -> None:
    graph = space.graph()
    again = FermatSpace.from_graph(graph, space.density)
    x = space.points
    torch.testing.assert_close(again.pairwise(x), space.pairwise(), rtol=1e-12, atol=0)
    assert (again.power, again._need_density("").reference) == (space.power, space._need_density("").reference)
    torch.testing.assert_close(again.dist(x[:4], x[4:8], "line"), space.dist(x[:4], x[4:8], "line"), rtol=1e-12, atol=0)
    bare = graph.copy()
    for *_, edge in bare.edges(data=True):
        del edge["weight"]
    torch.testing.assert_close(
        FermatSpace.from_graph(bare, space.density).pairwise(x), space.pairwise(), rtol=1e-9, atol=0
    )
    graph.remove_edges_from(list(graph.edges(3)))
    with pytest.warns(UserWarning, match=r"in 2 parts \(sizes 199, 1\), joined"):
        assert bool((FermatSpace.from_graph(graph, space.density).pairwise(x) >= space.pairwise() * (1 - 1e-9)).all())
    with pytest.raises(ValueError, match="in 2 parts"):
        FermatSpace.from_graph(graph, space.density, strict=True)
    graph.add_edge(3, 4, weight=-1.0)
    with pytest.raises(ValueError, match=r"positive finite weight.*got -1.0 between nodes 3 and 4"):
        FermatSpace.from_graph(graph, space.density)
    graph.add_node("lost")
    with pytest.raises(ValueError, match="1 of 201 nodes have none"):
        FermatSpace.from_graph(graph, space.density)
