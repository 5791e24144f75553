"""What every space can do. The noun the rest of the library builds on: `Space` to use one, `Manifold` to write one."""

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from manifolds import checks, series
from manifolds.shapes import Coordinates, Frames, Points, Values

Device = torch.device | str | None

LADDER = 64.0
"""How much shorter than v the rungs of the pole ladder are."""


SPACES: dict[str, type["Manifold"]] = {}
"""The finished spaces of this package by name: all that a file may name."""


def named(name: str, config: dict[str, Any]) -> "Manifold":
    """The space of this package that a file names, by its constructor's arguments; nothing else is ever looked up."""
    if name not in SPACES:
        raise ValueError(f"there is no space {name!r} in this version: update geoflow.")
    return SPACES[name].from_config(config)


@runtime_checkable
class Space(Protocol):
    """Anything with distances and geodesics: a `Manifold`, or the space that a density makes."""

    def dist(self, x: Tensor, y: Tensor) -> Tensor: ...

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor: ...


class Manifold(ABC):
    """A Riemannian manifold embedded in coordinates: points are ``(*batch, ambient_dim)``, and every method broadcasts.

    A manifold has no parameters and compares by content. Base point first, vector second. dtype and device follow the
    input. To write one, give `dim`, `ambient_dim`, `config`, `_project` and `_to_tangent`; where closed forms exist
    add `_exp`, `_log` and whatever has a better formula than the default. The underscored twins see checked input and
    run inside loops; the plain names check and call them.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("manifolds.") and not (cls.__name__.startswith("_") or inspect.isabstract(cls)):
            SPACES[cls.__name__] = cls

    @property
    @abstractmethod
    def dim(self) -> int:
        """Intrinsic dimension."""

    @property
    @abstractmethod
    def ambient_dim(self) -> int:
        """Number of coordinates of a point."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain JSON values: what equality, `repr` and files use."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Manifold":
        """The space that `config` describes."""
        return cls(**config)

    @abstractmethod
    def _project(self, x: Points) -> Points: ...

    @abstractmethod
    def _to_tangent(self, x: Points, v: Points) -> Points: ...

    def _exp(self, x: Points, v: Points) -> Points:
        self._lacks("exp", "`retract` is a first-order stand-in")

    def _log(self, x: Points, y: Points) -> Points:
        self._lacks("log", "use an optimiser over `retract`")

    def _lacks(self, verb: str, advice: str) -> NoReturn:
        raise NotImplementedError(f"{self!r} has no closed form of `{verb}`: {advice}.")

    # -- checked verbs ------------------------------------------------------------------------------------------

    def project(self, x: Tensor) -> Tensor:
        """The point of the space nearest to `x` in the embedding."""
        return self._project(self._vectors(x, "x", "project"))

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """`v` with its part normal to the space at `x` taken away."""
        return self._to_tangent(self._points(x, "x", "to_tangent"), self._vectors(v, "v", "to_tangent"))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from `x` with initial velocity `v` is at time one. Refuses a `v` off the tangent space."""
        return self._exp(self._points(x, "x", "exp"), self._tangent(x, v, "exp"))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The initial velocity at `x` of the shortest geodesic that is at `y` at time one.

        At the cut locus, where there are several, one of them, always the same.
        """
        return self._log(self._points(x, "x", "log"), self._points(y, "y", "log"))

    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        """Length of the shortest geodesic; its gradient is zero (not NaN) where x = y."""
        return self._dist(self._points(x, "x", "dist"), self._points(y, "y", "dist"))

    def squared_dist(self, x: Tensor, y: Tensor) -> Tensor:
        """dist², smooth where x = y: the Hessian there is twice the tangent projector, as it should be."""
        return self._squared_dist(self._points(x, "x", "squared_dist"), self._points(y, "y", "squared_dist"))

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> Tensor:
        """exp_x(t log_x y): x at t = 0, y at t = 1; `t` broadcasts with the batch of x and y."""
        x, y = self._points(x, "x", "geodesic"), self._points(y, "y", "geodesic")
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        return self._exp(x, t[..., None] * self._log(x, y))

    def retract(self, x: Tensor, v: Tensor) -> Tensor:
        """project(x + v): agrees with `exp` to first order and is cheap."""
        return self._project(self._points(x, "x", "retract") + self._tangent(x, v, "retract"))

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """`v` at `x` carried in parallel along the shortest geodesic to `y`."""
        v = self._tangent(x, v, "transport")
        return self._transport(self._points(x, "x", "transport"), self._points(y, "y", "transport"), v)

    def inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Riemannian inner product of the tangent vectors `u` and `v` at `x`."""
        return self._inner(*(self._vectors(a, n, "inner") for a, n in ((x, "x"), (u, "u"), (v, "v"))))

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """Riemannian length of `v` at `x`, with gradient zero at v = 0."""
        return self._norm(self._vectors(x, "x", "norm"), self._vectors(v, "v", "norm"))

    def tangent_basis(self, x: Tensor) -> Tensor:
        """Columns ``(*batch, ambient_dim, dim)``, orthonormal in `inner`.

        Deterministic, but no basis is smooth everywhere on a curved space: detach it where only determinants, traces or
        second moments matter.
        """
        return self._tangent_basis(self._points(x, "x", "tangent_basis"))

    def coords(self, x: Tensor, v: Tensor) -> Tensor:
        """Coordinates ``(*batch, dim)`` of `v` in `tangent_basis(x)`: inner(basis, v), which is not Bᵀv in general."""
        return self._coords(self._points(x, "x", "coords"), self._vectors(v, "v", "coords"))

    def random_tangent(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Standard normal tangent vectors at `x`: E|v|² = dim."""
        basis = self._tangent_basis(self._points(x, "x", "random_tangent"))
        z = torch.randn(*x.shape[:-1], self.dim, dtype=x.dtype, device=x.device, generator=generator)
        return (basis @ z[..., None])[..., 0]

    def egrad_to_rgrad(self, x: Tensor, grad: Tensor) -> Tensor:
        """The Riemannian gradient at `x` of a function whose gradient in the coordinates is `grad`."""
        return self._egrad_to_rgrad(
            self._vectors(x, "x", "egrad_to_rgrad"), self._vectors(grad, "grad", "egrad_to_rgrad")
        )

    def log_volume(self, x: Tensor) -> Tensor:
        """½ log det of the metric against the embedding's: 0 where the embedding is isometric."""
        return self._log_volume(self._vectors(x, "x", "log_volume"))

    @property
    def log_volume_total(self) -> float:
        """Log of the whole volume; infinite for open spaces."""
        return float("inf")

    @property
    def injectivity_radius(self) -> float:
        """Radius below which geodesics from a point are the only shortest ones."""
        return float("inf")

    def sample_uniform(
        self,
        n: int | tuple[int, ...],
        generator: Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Device = None,
    ) -> Tensor:
        """`n` points ``(*n, ambient_dim)`` uniform in the Riemannian volume."""
        shape = (n,) if isinstance(n, int) else tuple(n)
        return self._sample_uniform(shape, generator, dtype or torch.get_default_dtype(), device)

    def mean(
        self,
        x: Tensor,
        weights: Tensor | None = None,
        max_iter: int = 100,
        *,
        strict: bool = False,
    ) -> Tensor:
        """Fréchet mean of ``(*batch, n, ambient_dim)`` over its n points: the minimiser of Σ w dist².

        Iterates m ← exp_m(t Σ w log_m x) with t = 1, or shorter where the sum of squares would rise. Not differentiable.
        Points that fit in a ball of half the injectivity radius have one mean; others may have several, which is said in
        a warning, or refused if `strict`. Cost: a few `log` of all points. [karcher1977]

        Args:
            x: the points.
            weights: ``(n,)`` or ``(*batch, n)``, not negative, of any sum but zero; None weighs all alike.
            max_iter: most steps.
            strict: raise a ValueError instead of warning.
        """
        x = self._points(x, "x", "mean").detach()
        if x.ndim < 2 or x.shape[-2] == 0:
            raise ValueError(f"mean expects at least one point, (*batch, n, {self.ambient_dim}); got {tuple(x.shape)}.")
        w = self._shares(x, weights)

        def spread(m: Tensor) -> Tensor:
            return (w * self._squared_dist(m[..., None, :], x)).sum(-1)

        def step(m: Tensor) -> Tensor:
            return (w[..., None] * self._log(m[..., None, :], x)).sum(-2)

        m = self._descended(self._project((w[..., None] * x).sum(-2)), spread, step, max_iter)
        farthest = float(self._dist(m[..., None, :], x).max()) if x.numel() else 0.0
        if farthest > self.injectivity_radius / 2 * (1 + 1e-6):
            text = (
                f"{self!r}.mean: a point is {farthest:.3g} away from the mean, more than half the injectivity radius "
                f"({self.injectivity_radius / 2:.3g}), so there may be other means as good."
            )
            if strict:
                raise ValueError(text)
            warnings.warn(text, stacklevel=2)
        return m

    def _descended(
        self, m: Tensor, spread: Callable[[Tensor], Tensor], step: Callable[[Tensor], Tensor], max_iter: int
    ) -> Tensor:
        """Points m ``(*batch, ambient_dim)`` moved by exp_m(t step) until they rest; spread ``(*batch)`` does not rise."""
        move = lambda m, v: self._project(self._exp(m, v))  # noqa: E731
        return descended(m, spread, lambda m: self._to_tangent(m, step(m)), move, self._norm, max_iter)[0]

    def _shares(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """Weights of n points that sum to one."""
        n = x.shape[-2]
        if weights is None:
            return torch.full((n,), 1 / n, dtype=x.dtype, device=x.device)
        w = torch.as_tensor(weights, dtype=x.dtype, device=x.device)
        if w.shape[-1:] != (n,) or bool((w < 0).any()) or not bool((w.sum(-1) > 0).all()):
            raise ValueError(
                f"{self!r}: expected {n} weights that are not negative and not all zero, got {tuple(w.shape)}."
            )
        return w / w.sum(-1, keepdim=True)

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether each point lies on the space ``(*batch)``; with ``explain`` also a sentence that says how far off."""
        x = self._vectors(x, "x", "contains")
        off = (self._project(x) - x).abs().amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])
        inside = off <= checks.tolerance(x) * (1 + x.abs().amax(-1))
        if not explain:
            return inside
        if bool(inside.all()):
            return inside, f"every point is on {self!r}"
        worst = float(off.nan_to_num(float("inf")).max())
        where = checks.first_bad(~inside)
        return (
            inside,
            f"{int((~inside).sum())} of {inside.numel()} points are not on {self!r}, {where}, off by up to {worst:.2g}",
        )

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        raise NotImplementedError(f"{self!r} has infinite volume, so no uniform distribution: sample a density on it.")

    # -- defaults of the twins ----------------------------------------------------------------------------------

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return series.dot(u, v)

    def _norm(self, x: Points, v: Points) -> Values:
        return series.norm(v)

    def _dist(self, x: Points, y: Points) -> Values:
        return self._norm(x, self._log(x, y))

    def _squared_dist(self, x: Points, y: Points) -> Values:
        v = self._log(x, y)
        return self._inner(x, v, v)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        """By the pole ladder, exact on symmetric spaces and of third order elsewhere: v is carried through the midpoint
        of x and y, over which the end of its own short geodesic is reflected. [pennec2018]
        """
        middle = self._exp(x, self._log(x, y) / 2)
        over = self._exp(middle, -self._log(middle, self._exp(x, v / LADDER)))
        return -LADDER * self._log(y, over)

    def _tangent_basis(self, x: Points) -> Frames:
        g = torch.Generator().manual_seed(271828)  # one that nobody draws points with: such a point would be its normal
        seed = torch.randn(self.dim, self.ambient_dim, generator=g, dtype=torch.float64).to(x)
        q, r = torch.linalg.qr(self._to_tangent(x[..., None, :], seed).mT)
        return q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[..., None, :]

    def _coords(self, x: Points, v: Points) -> Coordinates:
        return self._inner(x[..., None, :], self._tangent_basis(x).mT, v[..., None, :])

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return self._to_tangent(x, grad)

    def _log_volume(self, x: Points) -> Values:
        return x.new_zeros(x.shape[:-1])

    # -- the door -----------------------------------------------------------------------------------------------

    def _vectors(self, x: Any, name: str, verb: str) -> Tensor:
        return checks.check_vectors(x, self.ambient_dim, name, f"{self!r}.{verb}")

    def _points(self, x: Any, name: str, verb: str) -> Tensor:
        x = self._vectors(x, name, verb)
        if not checks.tracing(x):
            inside, why = self.contains(x.detach(), explain=True)
            if not bool(inside.all()):
                raise ValueError(f"{self!r}.{verb}: in `{name}`, {why}; use .project(...) if that is rounding.")
        return x

    def _tangent(self, x: Tensor, v: Any, verb: str) -> Tensor:
        v = self._vectors(v, "v", verb)
        if not checks.tracing(x, v):
            off = (self._to_tangent(x.detach(), v.detach()) - v.detach()).abs().amax(-1)
            bad = ~(off <= 10 * checks.tolerance(v) * (1 + v.detach().abs().amax(-1)))
            if bool(bad.any()):
                raise ValueError(
                    f"{self!r}.{verb}: `v` is not tangent at `x` ({checks.first_bad(bad)}, off by "
                    f"{float(off.nan_to_num(float('inf')).max()):.2g}); use .to_tangent(x, v)."
                )
        return v

    # -- a value object -----------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.config() == other.config()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.config().items() if v is not None)})"


def descended(
    m: Tensor,
    spread: Callable[[Tensor], Tensor],
    step: Callable[[Tensor], Tensor],
    move: Callable[[Tensor, Tensor], Tensor],
    size: Callable[[Tensor, Tensor], Tensor],
    max_iter: int,
    tol: float | None = None,
    noise: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Points m ``(*batch, ambient)`` moved by move(m, t step(m)), and which of them rest ``(*batch)``.

    t is one, and halved where spread ``(*batch)``, known to a share `noise` of itself (64 rounding errors), would rise. A
    point rests once the size of its step is `tol` (8 rounding errors) of 1 + |m|.
    """
    eps = torch.finfo(m.dtype).eps
    best, t = spread(m), torch.ones_like(m[..., :1])
    rest = torch.zeros_like(best, dtype=torch.bool)
    for _ in range(max_iter):
        along = step(m)
        trial = move(m, t * along)
        now = spread(trial)
        worse = now > best * (1 + (noise or 64 * eps))
        scale = 1 + m.abs().amax(-1)
        rest = ~(size(m, along) > (tol or 8 * eps) * scale)
        m, best = torch.where(worse[..., None], m, trial), torch.where(worse, best, now)
        t = torch.where(worse[..., None], t / 2, t)
        if bool(rest.all()):
            break
    return m, rest
