"""`FermatSpace`: a density makes a space, in which straight means through where the data are."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.density import reference as reference_tensor
from geoflow.distances import doors
from geoflow.distances.bulk.parallel import over_rows
from geoflow.distances.bulk.verbs import Bulk
from geoflow.distances.exponents import check_power
from geoflow.distances.geometry.verbs import Method
from geoflow.distances.graph import build as graphs
from geoflow.distances.graph.walks import shortest
from geoflow.distances.neighbors.nearest import ENGINES
from geoflow.distances.paths.geodesics import (
    Solution,
    end_gradient,
    from_walks,
    jittered_line,
    segment_log_cost,
    solve_pairs,
)
from geoflow.distances.paths.line import line_log_length
from geoflow.distances.paths.relax import at_length, resample
from geoflow.distances.sample import sample_dist
from geoflow.distances.scores.network import ScoreNetwork
from geoflow.distances.weight import ScoreWeight, Weight
from geoflow.registry import register
from manifolds import Euclidean, Manifold


@register
class FermatSpace(Bulk):
    """The space a density makes: ds = (p / e^c)^{-β} |dx|, short where data are likely.

        d(x, y) = inf over curves ∫ p(γ)^{-β} |γ'| dt

    Geodesics are found by relaxing paths (see `relax`) from the better of the neighbour graph's path and a straight line,
    on M and 2M segments, with Richardson extrapolation of the length; in one dimension by adaptive quadrature. The graph's
    own distance is returned only when asked for: at fixed `neighbors` it does not converge. [groisman2022, sorrenson2025]

    Args:
        density: anything with ``log_prob(x)``. Frozen: no gradient reaches it. With None, `score` is needed, and only
            relaxed, relative lengths exist.
        points: ``(n, ambient)`` rows for the graph; None does without.
        power: β; None is 1 / dimension, which keeps the weight's range independent of it. Other conventions convert by
            `geoflow.distances.power_from_alpha` and `power_from_metric`.
        intrinsic_dim: the dimension in that default, where data fill fewer dimensions than the space has: a number, or
            ``"twonn"`` or ``"mle"`` to estimate it from the points (see `geoflow.metrics.intrinsic_dimension`).
        reference: c in nats: multiplies every distance by e^{βc}. ``"mean"`` is the points' mean log density, which makes
            lengths comparable with Euclidean ones.
        neighbors: k of the graph.
        knn_engine: see `geoflow.distances.nearest`.
        nodes: M, segments of a path.
        extrapolate: also relax on 2M segments and extrapolate the length to fourth order.
        space: where |dx| is measured; None is the density's own. Another one restates p for its own volume. Give
            ``Euclidean(dim, scale=std)`` for tables in mixed units.
        score: x → ∇ log p in ambient coordinates, or a `ScoreNetwork`, used for directions instead of the density's
            gradient.
        strict: refuse a disconnected graph instead of joining it with a warning.

    Cost of a relaxed distance: about 10 to 40 iterations of a score call at M points and a `log_prob` call at M points;
    far cheaper in batches. The verbs of a curved space, `exp`, `log`, `metric` and others, are those of `Geometry`;
    `pairwise`, `knn`, `landmarks`, and graphs in and out, those of `Bulk`.

    >>> from geoflow import StandardNormal
    >>> space = FermatSpace(StandardNormal(2))
    >>> space.dist(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
    tensor(12.6997)
    """

    density: Any
    points: Tensor | None
    score: Any

    def __init__(
        self,
        density: Any = None,
        points: Any = None,
        *,
        power: float | None = None,
        intrinsic_dim: float | Literal["twonn", "mle"] | None = None,
        reference: float | Literal["mean"] = 0.0,
        neighbors: int = 15,
        knn_engine: str = "auto",
        nodes: int = 32,
        extrapolate: bool = True,
        space: Manifold | None = None,
        score: Callable[[Tensor], Tensor] | ScoreNetwork | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        doors.check_density(density, score, space)
        told = density if density is not None else score
        like = reference_tensor(told) if isinstance(told, nn.Module) else None
        if points is not None:
            given = points
            points = validate.table(points, "FermatSpace", "points", minimum=2)
            if not isinstance(given, Tensor) and like is not None:
                points = points.to(like)
        home = space or getattr(told, "space", None) or (Euclidean(points.shape[1]) if points is not None else None)
        if home is None:
            raise ValueError("FermatSpace: the density tells no dimension: pass points=, or space=Euclidean(dim).")
        if points is not None:
            points = validate.points(points, home.ambient_dim, "FermatSpace", "points", like)
            if not isinstance(home, Euclidean):
                home._points(points, "points", "FermatSpace")
        if isinstance(score, ScoreNetwork):
            doors.check_score_network(score, home, density)
        if knn_engine not in ENGINES:
            raise ValueError(f"FermatSpace: knn_engine must be one of {', '.join(ENGINES)}; got {knn_engine!r}.")
        if reference == "mean" and (points is None or density is None):
            raise ValueError(
                "FermatSpace: reference='mean' is the mean log density of the points: pass both, or a number."
            )
        if reference != "mean" and not (isinstance(reference, (int, float)) and math.isfinite(reference)):
            raise ValueError(f"FermatSpace: reference must be a finite number of nats or 'mean', got {reference!r}.")
        self.density, self.score, self.space = density, score, home
        self.register_buffer("points", points)
        self.intrinsic_dim, self.reference = intrinsic_dim, reference
        self._dim = doors.dimension(intrinsic_dim, home, points)
        self.power = 1 / self._dim if power is None else check_power(power)
        self.neighbors = validate.count(neighbors, "FermatSpace", "neighbors", 1)
        if points is not None and self.neighbors >= len(points):
            raise ValueError(
                f"FermatSpace: neighbors = {neighbors} needs more points than that, got {len(points)}: lower it."
            )
        self.knn_engine = knn_engine
        self.nodes = validate.count(nodes, "FermatSpace", "nodes", 2)
        self.extrapolate, self.strict = extrapolate, strict
        self._graph: graphs.NeighborGraph | None = None
        self._level: float | None = None

    # -- distances ----------------------------------------------------------------------------------------------

    def dist(
        self, x: Tensor, y: Tensor, method: Method = "relax", mu: float | None = None, *, n_jobs: int | None = None
    ) -> Tensor:
        """Fermat distances ``(*batch)`` between points that broadcast against each other.

        Args:
            x, y: ``(*batch, ambient)``.
            method: ``"relax"``, the geodesic's length, differentiable in x and y (envelope theorem: the gradient at an end
                is the weight times the path's unit tangent; zero where x = y). ``"line"``, the cost of the underlying
                space's own geodesic, an upper bound. ``"graph"``, the neighbour graph's path. ``"sample"``, the
                literature's estimate from the points alone, n^β Σ |Δ|^α / μ.
            mu: the percolation constant μ(d, α) of "sample"; known for d = 1, where it is Γ(α + 1). Without it other
                dimensions get un-normalised values.
            n_jobs: workers for relaxed distances, see `pairwise`.
        """
        x, y, batch = self._pairs(x, y, "dist")
        if method == "relax":
            return _Length.apply(x, y, self, n_jobs).reshape(batch)
        x, y = x.detach(), y.detach()
        if method in ("line", "graph"):
            doors.check_ends(self._need_density(method), x, y)
        if method == "line":
            return doors.lengths(line_log_length(self._need_density("line"), x, y)).reshape(batch)
        if method == "graph":
            return doors.lengths(self._walk(x, y)[0]).reshape(batch)
        if method == "sample":
            doors.check_constant(mu)
            how = (self.power, self._dim, self.neighbors, self.knn_engine, self.strict, mu)
            return sample_dist(self.space, self._rows(None, "dist"), x, y, *how).reshape(batch)
        raise ValueError(f"FermatSpace.dist: method must be relax, graph, line or sample; got {method!r}.")

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> Tensor:
        """The point at fraction `t` of the Fermat length on the way from x to y; `t` broadcasts with the batch."""
        solution = self.solve(x, y)
        batch = solution.length.shape
        t = doors.fractions(t, solution.path)
        wide = torch.broadcast_shapes(batch, t.shape)
        path = solution.path.expand(*wide, *solution.path.shape[-2:]).reshape(-1, *solution.path.shape[-2:])
        log_cost = segment_log_cost(self._weight(), path)
        cost = (log_cost - log_cost.amax(1, keepdim=True).nan_to_num(neginf=0.0)).exp()
        along = nn.functional.pad(cost.cumsum(1), (1, 0))
        wanted = t.expand(wide).reshape(-1, 1) * along[:, -1:]
        return at_length(self.space, path, along, wanted)[:, 0].reshape(*wide, path.shape[-1])

    @torch.no_grad()
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
        """Geodesics with the facts of how they were found.

        Args:
            x, y: ends ``(*batch, ambient)``, broadcasting.
            start: ``"auto"`` relaxes from the graph's path (where there are points) and from a jittered line, and keeps
                the shorter; ``"graph"``, ``"line"``, or paths ``(*batch, K, ambient)`` from x to y.
            tol, max_iter: of the relaxation (see `relax`), on each of the two grids. After the first 60 iterations paths
                that still move take Newton-like steps, each of which costs as many scores a node as there are dimensions.
            n_jobs: workers for blocks of pairs, see `pairwise`.
        """
        given = start if isinstance(start, Tensor) else None
        if given is None and start not in ("auto", "graph", "line"):
            raise ValueError(
                f"FermatSpace.solve: start must be auto, graph, line or paths (*batch, K, ambient); got {start!r}."
            )
        x, y, batch = self._pairs(x, y, "solve")
        x, y = x.detach(), y.detach()
        doors.check_effort(tol, max_iter)
        doors.check_ends(self._weight(), x, y)
        if given is not None:
            given = validate.points(given, self.space.ambient_dim, "FermatSpace.solve", "start", x)
            given = doors.starts(given, batch)
            if not (torch.allclose(given[:, 0], x) and torch.allclose(given[:, -1], y)):
                raise ValueError("FermatSpace.solve: the paths in `start` must begin at x and end at y.")
        kinds = ["given"] if given is not None else ["graph", "line"] if start == "auto" else [str(start)]
        if self.points is None or self.density is None:
            if start == "graph":
                raise ValueError("FermatSpace.solve: start='graph' needs points= and a density with log_prob.")
            kinds = [k for k in kinds if k != "graph"]
        if "graph" in kinds:
            self._need_graph()
        call = functools.partial(self._solve, kinds=kinds, tol=tol, max_iter=max_iter)
        parts = over_rows(call, (x, y, given), n_jobs)
        path, length, converged, iterations = (torch.cat([p[k] for p in parts]) for k in range(4))
        doors.warn_unconverged(converged)
        graph_length = torch.cat([p[4] for p in parts]).reshape(batch) if "graph" in kinds else None
        names = [name for p in parts for name in p[5]]
        path = path.reshape(*batch, *path.shape[1:])
        facts = (length.reshape(batch), converged.reshape(batch), iterations.reshape(batch), graph_length, names)
        return Solution(path, *facts)

    def _solve(
        self, x: Tensor, y: Tensor, given: Tensor | None, kinds: list[str], tol: float | None, max_iter: int
    ) -> tuple[Any, ...]:
        """Path, length, convergence, iterations, graph's length and start for rows of pairs."""
        graph_log, walks = self._walk(x, y) if "graph" in kinds else (None, [])
        starts: dict[str, Callable[[Tensor], Tensor]] = {
            "graph": lambda rows: from_walks(self.space, [walks[i] for i in rows.tolist()], self.nodes),
            "line": lambda rows: jittered_line(self.space, x[rows], y[rows], self.nodes),
            "given": lambda rows: resample(self.space, given[rows], self.nodes),  # type: ignore[index]
        }
        chosen = {kind: starts[kind] for kind in kinds}
        found, names = solve_pairs(self._weight(), x, y, chosen, self.nodes, self.extrapolate, tol, max_iter)
        graph_length = None if graph_log is None else doors.lengths(graph_log)
        return found.path, doors.lengths(found.log_length), found.converged, found.iterations, graph_length, names

    # -- inside -------------------------------------------------------------------------------------------------

    def _weight(self) -> Weight | ScoreWeight:
        if self.density is None:
            return ScoreWeight(self.space, self.power, self.score)
        if self._level is None:
            self._level = 0.0 if self.reference == "mean" else float(self.reference)
            if self.reference == "mean":
                self._level = -float(Weight(self.density, self.space, 1.0, 0.0, None).log(self.points).mean())  # type: ignore[arg-type]
        return Weight(self.density, self.space, self.power, self._level, self.score)

    def _need_density(self, what: str) -> Weight:
        weight = self._weight()
        if isinstance(weight, ScoreWeight):
            raise ValueError(
                f"FermatSpace: {what!r} needs a density with log_prob; a score alone gives relaxed, relative lengths."
            )
        return weight

    def _need_graph(self) -> graphs.NeighborGraph:
        if self.points is None:
            raise ValueError("FermatSpace: the neighbour graph needs points=.")
        if self._graph is None:
            self._graph = graphs.build(
                self._need_density("graph"), self.points, self.neighbors, self.knn_engine, self.strict
            )
        return self._graph

    def _apply(self, fn: Any, recurse: bool = True) -> "FermatSpace":
        self._graph = self._level = None
        before = None if self.points is None else self.points.dtype
        super()._apply(fn, recurse)
        if (
            self.points is not None and self.points.dtype != before
        ):  # rounded for the other dtype, they are off the space
            self.points = self.space._project(self.points)
        return self

    def _like(self) -> Tensor | None:
        return self.points if self.points is not None else reference_tensor(self)

    def _pairs(self, x: Any, y: Any, verb: str) -> tuple[Tensor, Tensor, torch.Size]:
        return doors.pairs(self.space, x, y, verb, self._like())

    def _rows(self, x: Any, verb: str, name: str = "x") -> Tensor:
        if x is None:
            if self.points is None:
                raise ValueError(f"FermatSpace.{verb}: pass rows, or build the space with points=.")
            return self.points
        x = validate.points(x, self.space.ambient_dim, f"FermatSpace.{verb}", name, like=self.points).detach()
        if x.ndim != 2:
            raise ValueError(f"FermatSpace.{verb}: expected rows (n, {self.space.ambient_dim}), got {tuple(x.shape)}.")
        return x

    def _walk(self, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        return shortest(self._need_graph(), self._need_density("graph"), x, y, self.neighbors, self.knn_engine)

    @torch.no_grad()
    def _shortest(self, x: Tensor, y: Tensor, n_jobs: int | None = None) -> tuple[Tensor, Tensor]:
        """Lengths ``(B,)`` and paths of the method "relax", which one dimension and power zero know without relaxing."""
        straight = self.power == 0 and self.density is not None
        if straight or (isinstance(self.space, Euclidean) and self.space.dim == 1 and self.density is not None):
            doors.check_ends(self._weight(), x, y)
            weight = self._need_density("dist")
            length = self.space._dist(x, y) if straight else doors.lengths(line_log_length(weight, x, y))
            t = torch.linspace(0, 1, 5, dtype=x.dtype, device=x.device)[:, None]
            return length, self.space._exp(x[:, None], t * self.space._log(x, y)[:, None])
        solution = self.solve(x, y, n_jobs=n_jobs)
        return solution.length, solution.path


class _Length(torch.autograd.Function):
    """The distance, with the envelope theorem's gradient: what the end points' own motion adds to the length."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, space: FermatSpace, n_jobs: int | None) -> Tensor:
        length, path = space._shortest(x.detach(), y.detach(), n_jobs)
        ctx.space = space
        ctx.save_for_backward(path)
        return length

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        (path,) = ctx.saved_tensors
        weight = ctx.space._need_density("the gradient of dist")
        gx = grad[:, None] * end_gradient(weight, path) if ctx.needs_input_grad[0] else None
        gy = grad[:, None] * end_gradient(weight, path.flip(1)) if ctx.needs_input_grad[1] else None
        return gx, gy, None, None
