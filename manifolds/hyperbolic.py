"""Hyperbolic space, twice: the Poincaré ball and the hyperboloid, with digits that last near and far."""

import math
from typing import Any

import torch
from torch import Tensor

from manifolds import checks, series
from manifolds.manifold import Manifold
from manifolds.shapes import Coordinates, Frames, Points, Values


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return series.dot(u, v)[..., None]


class _Hyperbolic(Manifold):
    """What the two models share: their arguments, n and c, with k = √c."""

    def __init__(self, n: int, curvature: float = 1.0) -> None:
        name = type(self).__name__
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"{name} expects `n` as an int, got {type(n).__name__}.")
        if n < 1:
            raise ValueError(f"{name} expects n >= 1, got {n}.")
        if isinstance(curvature, bool) or not isinstance(curvature, (int, float)):
            raise TypeError(f"{name} expects `curvature` as a number, got {type(curvature).__name__}.")
        if not 0 < curvature < math.inf:
            raise ValueError(
                f"{name} expects a positive, finite curvature (the sectional curvature is minus that), got {curvature}; "
                "for curvature 0 use Euclidean(n)."
            )
        self._n, self._c, self._k = n, float(curvature), math.sqrt(curvature)

    @property
    def dim(self) -> int:
        return self._n

    @property
    def curvature(self) -> float:
        """Minus the sectional curvature."""
        return self._c

    def config(self) -> dict[str, Any]:
        return {"n": self._n, "curvature": self._c}


class PoincareBall(_Hyperbolic):
    """{x ∈ ℝⁿ : |x| < 1/√c} with the metric λ² |dx|², λ = 2/(1 − c|x|²), of sectional curvature −c.

    dist(x, y) = (2/√c) asinh(√c |x − y| / √((1 − c|x|²)(1 − c|y|²))), and `log` is written in y − x: the usual Möbius
    difference loses the digits of short distances. `log_volume` is n log λ.

    Beyond a radius (√c times the distance from the origin) of about 6 the coordinates crowd at the edge, and in float32
    they hold no more than three digits of a distance: use float64 or `Hyperboloid`. `project` clips to
    |x| = (1 − 4ε)/√c, ε the spacing of the dtype's numbers at one, and so does `exp`: radius 15.2 in float32, 35.4 in
    float64.

    Args:
        n: dimension, at least one.
        curvature: c > 0, minus the sectional curvature.

    >>> import torch
    >>> PoincareBall(2).dist(torch.zeros(2), torch.tensor([0.5, 0.0]))  # log 3
    tensor(1.0986)
    """

    @property
    def ambient_dim(self) -> int:
        return self._n

    def _gap(self, x: Tensor) -> Tensor:
        """1 − c|x|² = 2/λ. The product (1 − √c|x|)(1 + √c|x|) is no more exact, and has no Hessian at the origin."""
        return 1 - self._c * _dot(x, x)

    def _sinh2_half(self, x: Tensor, y: Tensor) -> Tensor:
        """sinh² of half the distance in units of 1/√c."""
        d = y - x
        return self._c * _dot(d, d) / (self._gap(x) * self._gap(y))

    def _project(self, x: Points) -> Points:
        limit = (1 - 4 * torch.finfo(x.dtype).eps) / self._k  # nearer to the edge, rounding could lead out
        s = _dot(x, x)
        outside = s > limit * limit
        return torch.where(outside, x * (limit / torch.where(outside, s, torch.ones_like(s)).sqrt()), x)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return v + torch.zeros_like(x)

    def _exp(self, x: Points, v: Points) -> Points:
        gap = self._gap(x)
        v = v / gap
        w = series.tanhc_sqrt(self._c * _dot(v, v)) * v
        p, w2 = x + w, self._c * _dot(w, w)
        # x ⊕ w = x + ..., with a sum of positive terms below: 1 + 2c⟨x, w⟩ + c²|x|²|w|² cancels where w is near −x
        return self._project(x + gap * (w + w2 * x) / (self._c * _dot(p, p) + gap * (1 - w2)))

    def _log(self, x: Points, y: Points) -> Points:
        d, s = y - x, self._sinh2_half(x, y)
        ratio = series.asinhc_sqrt(s) / (1 + s).sqrt()
        return ratio * (self._gap(x) * d - self._c * _dot(d, d) * x) / self._gap(y)

    def _dist(self, x: Points, y: Points) -> Values:
        return 2 / self._k * (self._k * series.norm(x - y) / (self._gap(x) * self._gap(y))[..., 0].sqrt()).asinh()

    def _squared_dist(self, x: Points, y: Points) -> Values:
        s = self._sinh2_half(x, y)[..., 0]
        return 4 / self._c * s * series.asinhc_sqrt(s) ** 2

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        c, d = self._c, y - x
        below, above = self._gap(x), self._gap(y)

        def wedge(u: Tensor) -> Tensor:  # y⟨x, u⟩ − x⟨y, u⟩
            return d * _dot(x, u) - x * _dot(d, u)

        # The gyration turns the plane of x and y by twice the angle of 1 − c(⟨x, y⟩ + i x∧y).
        along = wedge(v)
        real, size = (below + above + c * _dot(d, d)) / 2, below * above + c * _dot(d, d)
        return above / below * (v - 2 * c / size * (real * along - c * wedge(along)))

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return 4 * (_dot(u, v) / self._gap(x) ** 2)[..., 0]

    def _norm(self, x: Points, v: Points) -> Values:
        return 2 * series.norm(v) / self._gap(x)[..., 0]

    def _tangent_basis(self, x: Points) -> Frames:
        eye = torch.eye(self._n, dtype=x.dtype, device=x.device)
        return eye * (self._gap(x) / 2)[..., None]

    def _coords(self, x: Points, v: Points) -> Coordinates:
        return 2 * v / self._gap(x)

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return grad * (self._gap(x) / 2) ** 2

    def _log_volume(self, x: Points) -> Values:
        return self._n * (math.log(2) - self._gap(x)[..., 0].log())

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether |x| < 1/√c for each point ``(*batch)``; with ``explain`` also a sentence that says how far out."""
        x = self._vectors(x, "x", "contains")
        inside = self._gap(x)[..., 0] > 0
        if not explain:
            return inside
        if bool(inside.all()):
            return inside, f"every point is in {self!r}"
        worst = float(series.norm(x).nan_to_num(float("inf"))[~inside].max())
        return (
            inside,
            f"{int((~inside).sum())} of {inside.numel()} points are not in {self!r}, {checks.first_bad(~inside)}: "
            f"norms must stay below {1 / self._k:.6g}, got up to {worst:.9g}",
        )


class Hyperboloid(_Hyperbolic):
    """{x ∈ ℝⁿ⁺¹ : −x₀² + x₁² + … + xₙ² = −1/c, x₀ > 0}, coordinate 0 the time-like one; sectional curvature −c.

    All coordinates are stored, and only those in space are trusted: x₀ and the time-like part of a tangent vector are
    worked out anew from them, which keeps the digits that the Lorentz product ⟨x, y⟩ = −x₀y₀ + x₁y₁ + … loses to
    cancellation. `project` keeps the coordinates in space and sets x₀ = √(1/c + |x|²): it is not the nearest point of
    the embedding. Tangent vectors are measured by the Lorentz product, so that `coords` is not Bᵀv, and `log_volume` is
    −½ log(1 + 2c|x|²) with the coordinates in space.

    Gradients in the coordinates have time-like part zero; `egrad_to_rgrad` makes them Riemannian.

    Args:
        n: intrinsic dimension, at least one.
        curvature: c > 0, minus the sectional curvature.

    >>> import torch
    >>> space = Hyperboloid(2)
    >>> space.dist(space.project(torch.zeros(3)), space.project(torch.tensor([0.0, 3.0, 4.0])))  # asinh 5
    tensor(2.3124)
    """

    @property
    def ambient_dim(self) -> int:
        return self._n + 1

    def _cosh(self, a: Tensor) -> Tensor:
        """√c x₀ = √(1 + c|a|²), a the coordinates in space."""
        return (1 + self._c * _dot(a, a)).sqrt()

    def _lift(self, a: Tensor) -> Tensor:
        """The point over `a`."""
        return torch.cat([self._cosh(a) / self._k, a], -1)

    def _lift_tangent(self, a: Tensor, v: Tensor) -> Tensor:
        """The tangent vector over `v` at the point over `a`."""
        return torch.cat([self._k * _dot(a, v) / self._cosh(a), v], -1)

    def _sinh2_half(self, a: Tensor, b: Tensor) -> Tensor:
        """sinh² of half the distance in units of 1/√c, without cancellation on either side of the origin."""
        c, d = self._c, a - b
        a2, b2, d2, ab, q = _dot(a, a), _dot(b, b), _dot(d, d), _dot(a, b), _dot(d, a + b)
        cosh_a, cosh_b = self._cosh(a), self._cosh(b)
        opposite = (ab < 0) & (4 * ab * ab > a2 * b2)
        swap = a2 > b2
        short, long, long2 = torch.where(swap, b, a), torch.where(swap, a, b), torch.where(swap, a2, b2)
        short = torch.where(d2 < torch.where(swap, b2, a2), d, short)
        flat = c * long2 < torch.finfo(a2.dtype).tiny ** 0.5
        p = short - long * (_dot(short, long) / torch.where(flat, torch.ones_like(long2), long2))
        turned = 1 + cosh_a * cosh_b + c * torch.where(opposite, torch.zeros_like(ab), ab)
        near = c * (d2 + c * _dot(p, p) * long2) / (2 * turned)  # |p|²|long|² = |a|²|b|² − ⟨a, b⟩²
        length_a = torch.where(opposite, a2, torch.ones_like(a2)).sqrt()
        length_b = torch.where(opposite, b2, torch.ones_like(b2)).sqrt()
        w = self._k * q / (length_a * cosh_b + length_b * cosh_a)  # sinh of the difference of the radii
        far = w * w / (2 * (1 + (1 + w * w).sqrt())) + c * (length_a * length_b - ab) / 2
        return torch.where(opposite, far, near)

    def _project(self, x: Points) -> Points:
        return self._lift(x[..., 1:])

    def _to_tangent(self, x: Points, v: Points) -> Points:
        a, u = x[..., 1:], v[..., 1:]
        cosh = self._cosh(a)
        off = v[..., :1] - self._k * _dot(a, u) / cosh  # zero to the last digit once v is tangent
        return self._lift_tangent(a, u - self._k * cosh * off * a)

    def _exp(self, x: Points, v: Points) -> Points:
        s = self._c * self._inner(x, v, v)[..., None]
        return self._lift(series.cosh_sqrt(s) * x[..., 1:] + series.sinhc_sqrt(s) * v[..., 1:])

    def _log(self, x: Points, y: Points) -> Points:
        a, b = x[..., 1:], y[..., 1:]
        s = self._sinh2_half(a, b)
        return self._lift_tangent(a, series.asinhc_sqrt(s) / (1 + s).sqrt() * (b - a - 2 * s * a))

    def _dist(self, x: Points, y: Points) -> Values:
        return 2 / self._k * series.sqrt(self._sinh2_half(x[..., 1:], y[..., 1:])[..., 0]).asinh()

    def _squared_dist(self, x: Points, y: Points) -> Values:
        s = self._sinh2_half(x[..., 1:], y[..., 1:])[..., 0]
        return 4 / self._c * s * series.asinhc_sqrt(s) ** 2

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        a, b, u = x[..., 1:], y[..., 1:], v[..., 1:]
        d, s = b - a, b + a
        cosh_a, cosh_b = self._cosh(a), self._cosh(b)
        # ⟨y, v⟩ = ⟨y − x, v⟩ in the Lorentz product, and 1 − c⟨x, y⟩ = 2 + 2 sinh²
        product = _dot(d, u) - self._c * _dot(d, s) / (cosh_a + cosh_b) * _dot(a, u) / cosh_a
        return self._lift_tangent(b, u + self._c * product / (2 + 2 * self._sinh2_half(a, b)) * s)

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        a, u, v = x[..., 1:], u[..., 1:], v[..., 1:]
        a2, au, av = _dot(a, a), _dot(a, u), _dot(a, v)
        cosh2 = 1 + self._c * a2
        near = self._c * a2 < 1
        a2 = torch.where(near, torch.ones_like(a2), a2)
        split = _dot(u - a * (au / a2), v - a * (av / a2)) + au * av / a2 / cosh2  # across and along a: no cancellation
        return torch.where(near, _dot(u, v) - self._c * au * av / cosh2, split)[..., 0]

    def _norm(self, x: Points, v: Points) -> Values:
        return series.sqrt(self._inner(x, v, v))

    def _tangent_basis(self, x: Points) -> Frames:
        a = x[..., 1:]
        eye = torch.eye(self._n, dtype=x.dtype, device=x.device)
        space = eye + self._c * a[..., :, None] * (a / (1 + self._cosh(a)))[..., None, :]
        return torch.cat([self._k * a[..., None, :], space], -2)

    def _coords(self, x: Points, v: Points) -> Coordinates:
        a, u = x[..., 1:], v[..., 1:]
        cosh = self._cosh(a)
        return u - self._c * a * (_dot(a, u) / (cosh * (1 + cosh)))

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return self._to_tangent(x, torch.cat([-grad[..., :1], grad[..., 1:]], -1))

    def _log_volume(self, x: Points) -> Values:
        a = x[..., 1:]
        return -0.5 * (2 * self._c * series.dot(a, a)).log1p()


def ball_to_hyperboloid(x: Tensor, curvature: float = 1.0) -> Tensor:
    """The isometry ``(*batch, n)`` → ``(*batch, n + 1)`` of the ball onto the hyperboloid: 2x/(1 − c|x|²), lifted.

    >>> import torch
    >>> ball_to_hyperboloid(torch.tensor([0.5, 0.0]))
    tensor([1.6667, 1.3333, 0.0000])
    """
    x = _sized(x, 1, "ball_to_hyperboloid")
    ball = PoincareBall(x.shape[-1], curvature)
    x = ball._points(x, "x", "ball_to_hyperboloid")
    return Hyperboloid(ball.dim, curvature)._lift(2 * x / ball._gap(x))


def hyperboloid_to_ball(x: Tensor, curvature: float = 1.0) -> Tensor:
    """The isometry ``(*batch, n + 1)`` → ``(*batch, n)`` of the hyperboloid onto the ball: x/(1 + √c x₀), clipped.

    Points farther out than the ball's coordinates can say (see `PoincareBall`) land on its edge.

    >>> import torch
    >>> hyperboloid_to_ball(torch.tensor([5 / 3, 4 / 3, 0.0]))
    tensor([0.5000, 0.0000])
    """
    x = _sized(x, 2, "hyperboloid_to_ball")
    space = Hyperboloid(x.shape[-1] - 1, curvature)
    a = space._points(x, "x", "hyperboloid_to_ball")[..., 1:]
    return PoincareBall(space.dim, curvature)._project(a / (1 + space._cosh(a)))


def _sized(x: Any, least: int, where: str) -> Tensor:
    """`x` if it is a tensor of points with at least so many coordinates."""
    size = x.shape[-1] if isinstance(x, Tensor) and x.ndim else least
    return checks.check_vectors(x, max(least, size), "x", where)
