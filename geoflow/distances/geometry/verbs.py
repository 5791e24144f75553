"""What a space with a weight has beyond distances: its metric and curvature, directions, means, and conjugate points."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoflow.distances import doors
from geoflow.distances.geometry import curvature, means, tangent
from geoflow.distances.geometry.variation import Variation, block
from geoflow.distances.paths.geodesics import Solution
from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Manifold

Method = Literal["relax", "graph", "line", "sample"]


class Geometry(nn.Module, ABC):
    """The verbs of Riemannian geometry for whoever knows geodesics: `FermatSpace`."""

    space: Manifold

    @abstractmethod
    def solve(
        self,
        x: Tensor,
        y: Tensor,
        start: str | Tensor = "auto",
        *,
        tol: float | None = None,
        max_iter: int = 200,
        n_jobs: int | None = None,
    ) -> Solution:
        """Geodesics with the facts of how they were found."""

    @abstractmethod
    def pairwise(self, x: Tensor | None = None, y: Tensor | None = None, method: Method = "graph") -> Tensor:
        """All distances ``(n, m)`` between rows."""

    @abstractmethod
    def _weight(self) -> Weight | ScoreWeight: ...

    @abstractmethod
    def _need_density(self, what: str) -> Weight: ...

    @abstractmethod
    def _like(self) -> Tensor | None: ...

    @abstractmethod
    def _pairs(self, x: Any, y: Any, verb: str) -> tuple[Tensor, Tensor, torch.Size]: ...

    @abstractmethod
    def _rows(self, x: Any, verb: str, name: str = "x") -> Tensor: ...

    def metric(self, x: Tensor) -> Tensor:
        """The metric tensor λ² g₀ ``(*batch, ambient, ambient)``, λ = (p / e^c)^{-β}: uᵀ G v is the inner product of
        tangent vectors; on ``Euclidean(dim, scale)`` it is λ² diag(1 / scale²), and it is zero on normals."""
        (x,), batch = doors.vectors(self.space, x, "metric", self._like())
        doors.check_ends(self._need_density("metric"), x, x)
        return curvature.metric_tensor(self._need_density("metric"), x).reshape(*batch, *2 * x.shape[-1:])

    def sectional_curvature(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Sectional curvature ``(*batch)`` of the planes spanned by tangent vectors u and v at x; not positive where p is
        log-concave on flat space. Differentiates log_prob twice. [docarmo1992]

        K = λ^{-2} [K₀ + β ((log p)_uu + (log p)_vv) + f_u² + f_v² − |∇f|²],   f = −β log p,   u, v made orthonormal

        Raises:
            NotImplementedError: the curvature K₀ of the underlying space is not known (meshes, geomstats' spaces).
        """
        (x, u, v), batch = doors.vectors(self.space, x, "sectional_curvature", self._like(), u=u, v=v)
        weight = self._need_density("sectional_curvature")
        doors.check_ends(weight, x, x)
        return curvature.sectional(weight, x, *doors.plane(self.space, x, u, v)).reshape(batch)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x with velocity v is at time one ``(*batch, ambient)``.

        v is a tangent vector of the underlying space; its norm in the Fermat metric, λ(x) |v|, is the geodesic's length,
        also beyond the points where it is shortest. Steps are of sixth order with the error of each below about 1e-9 (in
        float32 1e-6), and cost 27 scores (see `tangent.travel`). Not differentiable. Where the way leads out of the
        density's support the result is NaN, with a warning.
        """
        (x, v), batch = doors.vectors(self.space, x, "exp", self._like(), v=v)
        weight = self._need_density("exp")
        doors.check_ends(weight, x, x)
        end, _ = tangent.travel(weight, x, v)
        doors.warn_lost(end)
        return end.reshape(*batch, end.shape[-1])

    @torch.no_grad()
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity v at x with exp(x, v) = y along the geodesic that `solve` finds ``(*batch, ambient)``.

        In `exp`'s convention: λ(x) |v| is the distance. The relaxed path's direction is corrected until the geodesic hits
        y to 1e-7 of its way (float32: 1e-4); a warning counts those that miss by 100 times that, as in narrow valleys,
        where a geodesic forgets how it began. Cost: about 1,000 scores a pair, beside `solve` and, once, dim scores at
        each node. Not differentiable.
        """
        x, y, batch = self._pairs(x, y, "log")
        v, miss = torch.zeros_like(x), x.new_zeros(len(x))
        for rows, path, log_length in self._relaxed(x, y):
            v[rows], miss[rows] = tangent.aim(self._need_density("log"), path, log_length)
        doors.warn_misses(miss, 1000 * tangent.tolerance(x.dtype))
        return v.reshape(*batch, v.shape[-1])

    @torch.no_grad()
    def is_minimal(self, x: Tensor, y: Tensor, start: str | Tensor = "auto") -> Tensor:
        """Whether the geodesic that `solve` finds from `start` has no conjugate point between x and y ``(*batch)``.

        False says that length has a negative second variation: some nearby path is shorter. True says that no nearby one
        is, and nothing of paths far away; it takes nodes close enough to resolve the path. Costs dim scores at each node.
        Where the score has no derivative the answer is False. [milnor1963]

        Raises:
            NotImplementedError: the curvature of the underlying space is not known (meshes, geomstats' spaces).
        """
        x, y, batch = self._pairs(x, y, "is_minimal")
        out = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.space.dim > 1:
            for rows, path, _ in self._relaxed(x, y, start):
                out[rows] = Variation(self._weight(), path).index == 0
        return out.reshape(batch)

    @torch.no_grad()
    def mean(self, x: Tensor | None = None, weights: Tensor | None = None, max_iter: int = 100) -> Tensor:
        """The Fréchet mean ``(ambient)`` of rows (None: the points): a local minimiser of Σ w d².

        Steps m ← exp_m(t Σ w log_m x), t = 1 or shorter where the sum would rise, from the weighted average or the row
        nearest to it; they end below 1e-6 of 1 + |m| (float32: 1e-3), or after `max_iter` with a warning. The only mean
        where p is log-concave on flat space; elsewhere there may be several. Each step costs n geodesics. [karcher1977]
        """
        x = doors.some(self._rows(x, "mean"), "mean")
        m, rests = means.frechet_mean(self._need_density("mean"), self._arrows, x, weights, max_iter)
        doors.warn_restless(rests, max_iter)
        return m

    def medoid(self, x: Tensor | None = None, method: Method = "graph", squared: bool = False) -> Tensor:
        """Index ``()`` of the row (None: of the points) with the least sum of distances to all rows, or of their squares.

        Distances as in `pairwise`, with a block of rows at a time in memory.
        """
        x = doors.some(self._rows(x, "medoid"), "medoid")
        return means.medoid(lambda a, b: self.pairwise(a, b, method), x, squared)

    def _relaxed(self, x: Tensor, y: Tensor, start: str | Tensor = "auto") -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows of distinct ends with their geodesics and log lengths, in blocks that leave room for matrices."""
        solution = self.solve(x, y, start)
        apart = (x != y).any(-1).nonzero()[:, 0]
        for rows in apart.split(block(solution.path, self.space)) if len(apart) else ():
            yield rows, solution.path[rows], solution.length[rows].log()

    def _arrows(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities ``(B, ambient)`` by the paths' tangents alone, and lengths ``(B,)``."""
        x, y, _ = self._pairs(x, y, "mean")
        v, length = torch.zeros_like(x), x.new_zeros(len(x))
        for rows, path, log_length in self._relaxed(x, y):
            weight = self._need_density("mean")
            v[rows], _ = tangent.depart(weight, Variation(weight, path, strict=False), log_length)
            length[rows] = log_length.exp()
        return v, length
