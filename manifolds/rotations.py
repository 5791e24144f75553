"""Rotations: SO(n) as flat matrices, right from coincident points to half turns, and unit quaternions for SO(3)."""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks, series
from manifolds.manifold import Device, Manifold
from manifolds.shapes import Coordinates, Frames, Points, Values


class SpecialOrthogonal(Manifold):
    """SO(n) = {R ∈ ℝⁿˣⁿ : RᵀR = I, det R = 1}, each R a flat vector, row by row, with the metric ⟨U, V⟩ = ½ tr UᵀV.

    For n ≤ 3 distances are then angles of rotation. The volume is that of S¹ × ... × Sⁿ⁻¹, which is 8π² for n = 3:
    2^(dim/2) times smaller than in the metric of the embedding, and not the probability 1 of Haar's measure.
    dist(R, S) = atan2(|vee D|, 1 + ½ tr D) with D = Rᵀ(S − R) keeps its digits at both ends. `log`, and with it `dist`,
    `geodesic`, `transport` and `mean`, exists for n ≤ 3; at half turns it takes one of the two axes, always the same.

    `project` costs an SVD. Its first two derivatives are right on rotations too, where those of the SVD are not finite;
    where the two smallest singular values (the last with the sign of det) sum to zero, several rotations are nearest,
    and the gradient leaves out the directions between them.

    Args:
        n: size of the matrices, at least two; dim is n(n − 1)/2.

    >>> import torch
    >>> space = SpecialOrthogonal(3)
    >>> space.dist(torch.eye(3).flatten(), torch.tensor([0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    tensor(1.5708)
    """

    def __init__(self, n: int) -> None:
        self._n = checks.check_count(n, "SpecialOrthogonal", "n", 2)

    @property
    def dim(self) -> int:
        return self._n * (self._n - 1) // 2

    @property
    def ambient_dim(self) -> int:
        return self._n**2

    def config(self) -> dict[str, Any]:
        return {"n": self._n}

    def as_matrix(self, x: Tensor) -> Tensor:
        """The view ``(*batch, n, n)`` of points or vectors; ``.flatten(-2)`` leads back."""
        return self._vectors(x, "x", "as_matrix").unflatten(-1, (self._n, self._n))

    def _matrix(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self._n, self._n))

    def _project(self, x: Points) -> Points:
        m = self._matrix(x)
        known = m.detach()  # SVD has no derivative at equal singular values; the Newton step below has the right ones
        eye = torch.eye(self._n, dtype=x.dtype, device=x.device)
        u, s, vh = torch.linalg.svd(torch.where(known.isfinite().all(-1).all(-1)[..., None, None], known, eye))
        signs = torch.cat([torch.ones_like(s[..., 1:]), torch.linalg.det(u @ vh).sign()[..., None]], -1)
        r, s, v = (u * signs[..., None, :]) @ vh, s * signs, vh.mT
        r = r + 0.5 * r @ (eye - r.mT @ r)
        p = r.mT @ m
        sums = s[..., :, None] + s[..., None, :]
        several = sums <= (8 * torch.finfo(s.dtype).eps * s[..., :1, None]).clamp_min(torch.finfo(s.dtype).tiny)
        inverse = torch.where(several, torch.zeros_like(sums), 1 / torch.where(several, torch.ones_like(sums), sums))

        def solve(k: Tensor) -> Tensor:
            return v @ (inverse * (v.mT @ k @ v)) @ v.mT

        # W P_s + P_s W = 2 P_a in the symmetric and skew parts of P = RᵀM: its second order terms cancel those of exp W,
        # so R exp W is right to second order in M. Twice over with fixed factors gives W to that order.
        twice = p - p.mT
        w = solve(twice)
        symmetric = 0.5 * (p + p.mT)
        w = w + solve(twice - w @ symmetric - symmetric @ w)
        return (r + r @ (w + 0.5 * w @ w)).flatten(-2)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        r = self._matrix(x)
        a = r.mT @ self._matrix(v)
        return (0.5 * r @ (a - a.mT)).flatten(-2)

    def _exponential(self, w: Tensor) -> Tensor:
        """exp(ŵ) − I, without cancellation where n ≤ 3."""
        hat = _hat(w, self._n)
        if self._n > 3:
            # Never one matrix alone: torch's matrix_exp then loses up to six digits (pytorch issue 196592).
            eye = torch.eye(self._n, dtype=w.dtype, device=w.device)
            several = torch.cat([hat.reshape(-1, self._n, self._n), torch.zeros_like(eye)[None]])
            return torch.linalg.matrix_exp(several)[:-1].reshape(hat.shape) - eye
        s = 0.25 * series.dot(w, w)[..., None]
        return _turn(series.cos_sqrt(s), 0.5 * series.sinc_sqrt(s) * w, self._n)

    def _exp(self, x: Points, v: Points) -> Points:
        r = self._matrix(x)
        return (r + r @ self._exponential(self._coords(x, v))).flatten(-2)

    def _difference(self, x: Tensor, y: Tensor) -> Tensor:
        return self._matrix(x).mT @ self._matrix(y - x)

    def _vector(self, x: Tensor, y: Tensor) -> Tensor:
        """The rotation vector from x to y in the basis at x."""
        d = self._difference(x, y)
        if self._n == 2:
            d = torch.nn.functional.pad(d, (0, 1, 0, 1))  # about the third axis
        cut = 4 * torch.finfo(d.dtype).eps
        q = _quaternion(d, cut)
        w, axis = q[..., :1], q[..., 1:]
        w = torch.where(w.abs() <= cut, w - w.detach(), w)  # a half turn to rounding is one: length π on either side
        half = series.angle_over_sin(series.dot(axis, axis)[..., None], w)
        return 2 * (half * axis)[..., -self.dim :]

    def _log(self, x: Points, y: Points) -> Points:
        if self._n > 3:
            self._lacks("log", "`project` and `retract` exist for every n, closed forms of `log` for n <= 3")
        return (self._matrix(x) @ _hat(self._vector(x, y), self._n)).flatten(-2)

    def _sine_and_cosine(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """sin(θ) times the axis, and cos θ, of the rotation from x to y."""
        d = self._difference(x, y)
        return _vee(d), 1 + 0.5 * d.diagonal(dim1=-2, dim2=-1).sum(-1)

    def _dist(self, x: Points, y: Points) -> Values:
        if self._n > 3:
            return super()._dist(x, y)
        sine, cos = self._sine_and_cosine(x, y)
        return torch.atan2(series.norm(sine), cos)

    def _squared_dist(self, x: Points, y: Points) -> Values:
        if self._n > 3:
            return super()._squared_dist(x, y)
        sine, cos = self._sine_and_cosine(x, y)
        sin2, near = series.dot(sine, sine), cos > 0
        ratio = series.angle_over_sin(
            torch.where(near, sin2, torch.zeros_like(sin2)), torch.where(near, cos, torch.ones_like(cos))
        )
        far = torch.atan2(series.norm(torch.where(near[..., None], torch.ones_like(sine), sine)), cos)
        return torch.where(near, ratio * ratio * sin2, far * far)

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return 0.5 * series.dot(u, v)

    def _norm(self, x: Points, v: Points) -> Values:
        return math.sqrt(0.5) * series.norm(v)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        if self._n > 3:
            return super()._transport(x, y, v)
        r, half = self._matrix(x), self._exponential(0.5 * self._vector(x, y))
        half = half + torch.eye(self._n, dtype=x.dtype, device=x.device)
        return (r @ half @ _hat(self._coords(x, v), self._n) @ half).flatten(-2)

    def _tangent_basis(self, x: Points) -> Frames:
        return (self._matrix(x)[..., None, :, :] @ _units(self._n, x)).flatten(-2).mT

    def _coords(self, x: Points, v: Points) -> Coordinates:
        return _vee(self._matrix(x).mT @ self._matrix(v))

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return 2 * self._to_tangent(x, grad)

    def _log_volume(self, x: Points) -> Values:
        return torch.full(x.shape[:-1], -0.5 * self.dim * math.log(2), dtype=x.dtype, device=x.device)

    @property
    def log_volume_total(self) -> float:
        halves = [(k + 1) / 2 for k in range(1, self._n)]  # SO(n) / SO(n − 1) is the unit sphere of dimension n − 1
        return sum(math.log(2) + h * math.log(math.pi) - math.lgamma(h) for h in halves)

    @property
    def injectivity_radius(self) -> float:
        """π for every n: the logarithm is unique while all angles are below π, and a turn in one plane gets there first."""
        return math.pi

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Rotations uniform in Haar's measure: QR of Gaussians, made unique, with the first column's sign for det."""
        noise = torch.randn(*shape, self._n, self._n, generator=generator, dtype=dtype, device=device)
        q, r = torch.linalg.qr(noise)
        q = q * torch.where(torch.diagonal(r, dim1=-2, dim2=-1) < 0, -1, 1)[..., None, :]
        det = torch.where(torch.linalg.det(q) < 0, -1, 1)[..., None, None]
        return torch.cat([q[..., :1] * det, q[..., 1:]], -1).flatten(-2)

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether each point is a rotation ``(*batch)``: columns orthonormal, determinant +1.

        With ``explain`` also a sentence that says how far off they are, or that they are reflections.
        """
        m = self.as_matrix(x)
        eye = torch.eye(self._n, dtype=m.dtype, device=m.device)
        off = 0.5 * (m.mT @ m - eye).abs().amax((-2, -1))  # to first order the distance to the nearest
        orthogonal = off <= 2 * checks.tolerance(m)
        reflected = orthogonal & (torch.linalg.det(m) < 0)
        inside = orthogonal & ~reflected
        if not explain:
            return inside
        if bool(inside.all()):
            return inside, f"every point is on {self!r}"
        why = f"{int((~inside).sum())} of {inside.numel()} points are not on {self!r}, "
        if bool(reflected.any()):
            why += f"{checks.first_bad(reflected)} a reflection (determinant -1): negate one of its rows"
        if not bool(orthogonal.all()):
            worst = float(off.nan_to_num(math.inf).max())
            why += "; " * bool(reflected.any()) + f"{checks.first_bad(~orthogonal)}, off by up to {worst:.2g}"
        return inside, why


def quaternion_to_rotation(q: Tensor) -> Tensor:
    """The rotations ``(*batch, 9)`` of unit quaternions (w, x, y, z): I + 2w v̂ + 2v̂², v = (x, y, z).

    q and −q give the same. Lengths off one by rounding are made up for; others are refused.

    >>> quaternion_to_rotation(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    tensor([-1.,  0.,  0.,  0., -1.,  0.,  0.,  0.,  1.])
    """
    q = checks.check_vectors(q, 4, "q", "quaternion_to_rotation")
    s = (q * q).sum(-1)
    if not checks.tracing(q):
        bad = ~((s.detach() - 1).abs() <= 2 * checks.tolerance(q))
        if bool(bad.any()):
            raise ValueError(
                f"quaternion_to_rotation expects unit quaternions, {checks.first_bad(bad)} has length "
                f"{float(s.detach()[bad][0].sqrt()):.6g}: divide by q.norm(dim=-1, keepdim=True)."
            )
    return (torch.eye(3, dtype=q.dtype, device=q.device) + _turn(q[..., :1], q[..., 1:], 3)).flatten(-2)


def rotation_to_quaternion(x: Tensor) -> Tensor:
    """The unit quaternions (w, x, y, z) with w ≥ 0 ``(*batch, 4)`` of rotations ``(*batch, 9)``.

    Differentiable everywhere but at half turns, where the sign of the axis (x, y, z) jumps. Of two unit quaternions
    the distance on SO(3) is twice that on S³.

    >>> rotation_to_quaternion(torch.eye(3).flatten())
    tensor([1., 0., 0., 0.])
    """
    x = checks.check_vectors(x, 9, "x", "rotation_to_quaternion")
    if not checks.tracing(x):
        inside, why = SpecialOrthogonal(3).contains(x.detach(), explain=True)
        if not bool(inside.all()):
            raise ValueError(
                f"rotation_to_quaternion: in `x`, {why}; SpecialOrthogonal(3).project(x) removes rounding."
            )
    return _quaternion(x.unflatten(-1, (3, 3)) - torch.eye(3, dtype=x.dtype, device=x.device), 0.0)


def _turn(w: Tensor, v: Tensor, n: int) -> Tensor:
    """R − I for the rotation of the quaternion (w, v) of any length: orthogonal to rounding whatever the angle."""
    hat = _hat(v, n)
    s = w * w + (v * v).sum(-1, keepdim=True)
    return (2 / s)[..., None] * (w[..., None] * hat + hat @ hat)


def _quaternion(d: Tensor, cut: float) -> Tensor:
    """The unit quaternion of the rotation I + d: w ≥ 0 or, where |w| ≤ cut, the axis towards a fixed direction.

    4 q qᵀ is linear in the rotation, and the row with the largest diagonal entry is far from zero.
    """
    trace = d.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    wv = 2 * _vee(d)[..., None, :]
    lower = d + d.mT - trace * torch.eye(3, dtype=d.dtype, device=d.device)
    table = torch.cat([torch.cat([4 + trace, wv], -1), torch.cat([wv.mT, lower], -1)], -2)
    largest = table.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = table.take_along_dim(largest, -2)[..., 0, :]
    q = row / (row * row).sum(-1, keepdim=True).sqrt()
    w = q[..., :1]
    # A direction to which no axis of small integers is orthogonal.
    towards = torch.tensor([0.0, 1.0, 0.47, 0.21], dtype=q.dtype, device=q.device)
    side = torch.where(w.abs() <= cut, (q * towards).sum(-1, keepdim=True), w)
    return torch.where(side < 0, -q, q)


def _units(n: int, like: Tensor) -> Tensor:
    """Skew matrices (n(n − 1)/2, n, n), orthonormal in ½ tr UᵀV; for n = 3 those of e₁ ×, e₂ ×, e₃ ×."""
    pairs = [(i, j) for i in reversed(range(n)) for j in reversed(range(i))]
    rows, columns = [i for i, _ in pairs], [j for _, j in pairs]
    signs = torch.tensor([(-1.0) ** (i + j + 1) for i, j in pairs], dtype=like.dtype, device=like.device)
    units = torch.zeros(len(pairs), n, n, dtype=like.dtype, device=like.device)
    each = list(range(len(pairs)))
    units[each, rows, columns] = signs
    units[each, columns, rows] = -signs
    return units


def _hat(w: Tensor, n: int) -> Tensor:
    """Σ w_k E_k over the skew units, ``(*batch, n, n)``."""
    return (w @ _units(n, w).flatten(1)).unflatten(-1, (n, n))


def _vee(m: Tensor) -> Tensor:
    """Coordinates of the skew part of ``(*batch, n, n)`` in the skew units."""
    return 0.5 * m.flatten(-2) @ _units(m.shape[-1], m).flatten(1).mT
