"""What a space with a neighbour graph has for many rows: tables of distances, neighbours, landmarks, graphs in and out."""

import os
from abc import abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor

from geoflow import validate
from geoflow.distances import doors
from geoflow.distances.bulk.landmarks import Landmarks, landmarks
from geoflow.distances.bulk.pairwise import Target, along_graph, nearest_along_graph, pair_by_pair
from geoflow.distances.geometry.verbs import Geometry, Method
from geoflow.distances.graph import build as graphs
from geoflow.distances.graph.exchange import from_networkx, points_of, to_networkx
from geoflow.distances.graph.spokes import Spokes, tie
from geoflow.distances.neighbors.nearest import nearest

B = TypeVar("B", bound="Bulk")


class Bulk(Geometry):
    """The verbs for many rows: `FermatSpace`."""

    points: Tensor | None
    power: float
    neighbors: int
    knn_engine: str
    strict: bool
    _graph: graphs.NeighborGraph | None

    @abstractmethod
    def dist(
        self, x: Tensor, y: Tensor, method: Method = "relax", mu: float | None = None, *, n_jobs: int | None = None
    ) -> Tensor:
        """Distances ``(*batch)``."""

    @abstractmethod
    def _need_graph(self) -> graphs.NeighborGraph: ...

    def _tie(self, x: Tensor) -> Spokes:
        return tie(self._need_graph(), self._need_density("graph"), x, self.neighbors, self.knn_engine)

    def pairwise(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        method: Method = "graph",
        *,
        n_jobs: int | None = None,
        landmarks: int | None = None,
        out: str | os.PathLike[str] | None = None,
        allow_large: bool = False,
    ) -> Tensor:
        """All distances ``(n, m)`` between rows of x and of y (None: the points; y = None: x).

        "graph" costs a run of Dijkstra's algorithm per row of the smaller side, and ties each row that is no point to the
        graph by itself; the other methods work pair by pair.

        Args:
            n_jobs: workers of joblib, with the backend of the caller's `joblib.parallel_config`; None is what that says,
                or one. On a GPU there is one. Lengths along the graph agree with one process to
                1e-12 of themselves in float64, relaxed ones to 1e-7, what relaxation leaves open.
            landmarks: give the upper bounds through so many points instead, at a run of Dijkstra's algorithm for each:
                see `landmarks`, which gives lower bounds too.
            out: path of a ``.npy`` file that takes the table, block by block; what is returned is mapped from it.
            allow_large: make a table of more than 4·10⁸ entries, with a warning that says its size.
        """
        x = self._rows(x, "pairwise")
        given = None if y is None else self._rows(y, "pairwise", "y")
        y = x if given is None else given
        target = Target((len(x), len(y)), x, out, allow_large)
        if landmarks is not None:
            if method != "graph":
                raise ValueError(f"FermatSpace.pairwise: landmarks= bound distances of the graph, not of {method!r}.")
            return self.landmarks(landmarks, n_jobs=n_jobs).fill(x, y, target, n_jobs)
        if method != "graph":
            return pair_by_pair(lambda a, b: self.dist(a, b, method, n_jobs=n_jobs).detach(), x, given, target)
        ties = self._tie(torch.cat([x, y]))
        return along_graph(self._need_graph(), ties[: len(x)], ties[len(x) :], target, n_jobs)

    def landmarks(self, count: int, *, seed: int = 0, n_jobs: int | None = None) -> Landmarks:
        """`count` points drawn at random, with their distances along the graph to all others: see `Landmarks`."""
        points = self._rows(None, "landmarks")
        count = validate.count(count, "FermatSpace.landmarks", "count", 1)
        if count > len(points):
            raise ValueError(f"FermatSpace.landmarks: count = {count} is more than the {len(points)} points: lower it.")
        index = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:count].to(points.device)
        return landmarks(self._need_graph(), self._tie, points, index, n_jobs)

    def knn(
        self,
        q: Tensor,
        k: int,
        method: Method = "relax",
        candidates: int | None = None,
        max_iter: int = 60,
        *,
        n_jobs: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fermat distances and indices ``(m, k)`` of the k points nearest to each query in this space.

        Args:
            q: queries ``(m, ambient)``; one that is itself a point finds itself first.
            k: how many.
            method: how candidates are measured (see `dist`); "graph" needs none, and looks at the nearest nodes only.
            candidates: points nearest in the underlying space that are measured; None is 4 k + 8. Only these can be
                found: near points that are apart in the underlying space are missed if it is too low.
            max_iter: of the relaxation; the default ranks by the cheap steps alone, which suffices on smooth densities.
            n_jobs: workers, see `pairwise`.
        """
        points = self._rows(None, "knn")
        q = self._rows(q, "knn", "q")
        k = validate.count(k, "FermatSpace.knn", "k", 1)
        if k > len(points):
            raise ValueError(f"FermatSpace.knn: k = {k} is more than the {len(points)} points: lower it.")
        if method == "graph":
            log_length, near = nearest_along_graph(self._need_graph(), self._tie(q), k, n_jobs)
            return doors.lengths(torch.from_numpy(log_length).to(q)), torch.from_numpy(near).to(q.device)
        most = 4 * k + 8 if candidates is None else validate.count(candidates, "FermatSpace.knn", "candidates", 1)
        pool = min(len(points), most)
        if pool < k:
            raise ValueError(f"FermatSpace.knn: candidates = {candidates} must be at least k = {k}.")
        _, index = nearest(graphs.flat(self.space, points), graphs.flat(self.space, q), pool, self.knn_engine)
        if method == "relax":
            measured = self.solve(q[:, None], points[index], max_iter=max_iter, n_jobs=n_jobs).length
        else:
            measured = self.dist(q[:, None], points[index], method).detach()
        order = measured.argsort(1)[:, :k]
        return measured.gather(1, order), index.gather(1, order)

    def graph(self) -> Any:
        """The neighbour graph as a networkx graph: nodes are the distinct points (attribute ``point``), edges carry
        ``weight``, their Fermat length; ``.graph["components"]`` has the sizes of the parts before they were joined."""
        own = self._need_graph()
        return to_networkx(own, power=self.power, reference=self._need_density("graph").reference)

    @classmethod
    def from_graph(cls: type[B], graph: Any, density: Any, **options: Any) -> B:
        """The way back from `graph`: a space over a networkx graph's points, with its edges in place of nearest pairs.

        Args:
            graph: undirected; nodes have ``point``, the row of numbers; edges may have ``weight``, and without it get
                their Fermat length. Parts without a way between them are joined with a warning, or refused if `strict`.
            density, options: of the constructor; power and reference are those of the graph where it has them. Files hold
                no graph, and a space that is moved to another dtype makes its own.
        """
        known = {k: graph.graph[k] for k in ("power", "reference") if k in graph.graph}
        rows = torch.from_numpy(points_of(graph))
        space = cls(density, rows, **{**known, "neighbors": min(15, len(rows) - 1), **options})
        space._graph = from_networkx(graph, space._need_density("from_graph"), space._rows(None, ""), space.strict)
        return space
