"""Rational-quadratic splines: monotone curves on a box, either way, and their derivative in closed form. [durkan2019]"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from geoflow import validate
from geoflow.flows.curves.curve import Curve

FLOOR = 1e-3
"""Least share of a bin in the box, and least slope at a knot."""
LEVEL = math.log(math.expm1(1 - FLOOR))
"""Where softplus, with the floor, is one."""

softmax_backward = torch.ops.aten._softmax_backward_data.default


class RationalQuadratic(Curve):
    """Monotone on [−box, box] and the identity outside; between each two of `bins` + 1 knots a quotient of quadratics.

    On a bin from (x₀, y₀) of width w and height h, with slopes d₀ and d₁ at its ends, s = h/w and t = (x − x₀)/w,

        g = y₀ + h (s t² + d₀ t(1 − t)) / q,   g′ = s² (d₁ t² + 2 s t(1 − t) + d₀ (1 − t)²) / q²,
        q = s + (d₁ + d₀ − 2s) t(1 − t).

    θ holds widths, heights and inner slopes as in `knots`; at both ends the slope is one.

    Args:
        bins: pieces of the curve.
        box: half the width of where it bends.
        who: whose they are, for errors.
    """

    def __init__(self, bins: int, box: float, who: str) -> None:
        bins = validate.count(bins, who, "bins", 2)
        if bins * FLOOR >= 1:
            raise ValueError(f"{who} expects fewer than {1 / FLOOR:.0f} bins, got {bins}.")
        if not 0 < box < math.inf:
            raise ValueError(f"{who} expects a positive, finite box, got {box}.")
        self.bins, self.box, self.each = bins, float(box), 3 * bins - 1

    def _by_coordinate(self, theta: Tensor) -> Tensor:
        """``(d, 3 bins − 1, n)``."""
        return theta.unflatten(0, (-1, self.each))

    def there(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return spline(x, knots(self._by_coordinate(theta), self.bins, self.box), self.box)

    def back(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return spline_inverse(y, knots(self._by_coordinate(theta), self.bins, self.box), self.box)

    def taped(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, "Tape"]:
        y, log_slope, tape = taped(x, self._by_coordinate(theta), self.bins, self.box)
        return y, log_slope.sum(0), tape

    def back_taped(self, y: Tensor, theta: Tensor) -> tuple[Tensor, "Tape"]:
        x, _, tape = taped(y, self._by_coordinate(theta), self.bins, self.box, back=True)
        return x, tape

    def pull(self, tape: "Tape", g: Tensor, g_log_det: Tensor) -> tuple[Tensor, Tensor]:
        g_x, g_theta = pull(tape, g, g_log_det, self.box)
        return g_x, g_theta.flatten(0, 1)


def knots(theta: Tensor, bins: int, box: float) -> Tensor:
    """Places, values and slopes of the knots ``(d, 3, bins + 1, n)`` from free numbers ``(d, 3 bins − 1, n)``.

    Widths and heights are softmaxes of the first 2 · bins, with a floor; slopes are softplus of the rest, one at zero.
    """
    slopes = pad(softplus(theta[:, 2 * bins :] + LEVEL) + FLOOR, (0, 0, 1, 1), value=1.0)
    return torch.cat([corners(theta, bins, box), slopes[:, None]], 1)


def corners(theta: Tensor, bins: int, box: float) -> Tensor:
    """Places and values of the knots ``(d, 2, bins + 1, n)``, from the first 2 · bins numbers."""
    shares = theta[:, : 2 * bins].unflatten(1, (2, bins)).softmax(2) * (2 * box * (1 - FLOOR * bins)) + 2 * box * FLOOR
    return shares.new_ones(bins + 1, bins).tril(-1) @ shares - box


def spline(x: Tensor, table: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """g(x) and log g′(x), for x ``(d, n)`` and knots ``(d, 3, bins + 1, n)``; identity outside of the box."""
    inside = x.clamp(-box, box)
    x0, y0, d0, w, h, d1 = _bin(inside, table, 0)
    s, t = h / w, (inside - x0) / w
    rest = t * (1 - t)
    q = s + (d1 + d0 - 2 * s) * rest
    y = y0 + h * (s * t * t + d0 * rest) / q
    log_slope = _log_slope(s, d0, d1, t, q)
    return torch.where(inside == x, y, x), torch.where(inside == x, log_slope, torch.zeros_like(x))


def spline_inverse(y: Tensor, table: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """The x with g(x) = y, and −log g′(x)."""
    inside = y.clamp(-box, box)
    x0, y0, d0, w, h, d1 = _bin(inside, table, 1)
    s, up = h / w, inside - y0
    bend = up * (d1 + d0 - 2 * s)
    a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * up
    root = (b * b - 4 * a * c).clamp_min(0)
    t = 2 * c / (-b - root.sqrt())  # of the two forms of the root the one that does not cancel
    log_slope = _log_slope(s, d0, d1, t, s + (d1 + d0 - 2 * s) * t * (1 - t))
    return torch.where(inside == y, x0 + t * w, y), torch.where(inside == y, -log_slope, torch.zeros_like(y))


def _bin(x: Tensor, table: Tensor, row: int) -> tuple[Tensor, ...]:
    """x₀, y₀, d₀, w, h, d₁ of the bin that each x is in, found in that row of the table."""
    bins = table.shape[2] - 1
    index = (x[:, None] >= table[:, row, 1:bins]).sum(1, keepdim=True)
    both = torch.cat([index, index + 1], 1)[:, None].expand(-1, 3, -1, -1)
    left, right = table.gather(2, both).unbind(2)
    (x0, y0, d0), (x1, y1, d1) = left.unbind(1), right.unbind(1)
    return x0, y0, d0, x1 - x0, y1 - y0, d1


def _log_slope(s: Tensor, d0: Tensor, d1: Tensor, t: Tensor, q: Tensor) -> Tensor:
    u = 1 - t
    return 2 * (s / q).log() + (d1 * t * t + 2 * s * t * u + d0 * u * u).log()


# -- the same from the free numbers, with what the derivative needs -----------------------------------------------------


@dataclass(slots=True)
class Tape:
    """What `pull` needs of `taped`, each ``(d, n)`` unless said; t = (x − x₀)/w as in `spline`."""

    shares: Tensor
    """The softmaxes ``(d, 2, bins, n)``, without their floor."""
    index: Tensor
    """The bin ``(d, 1, n)``."""
    known: Tensor
    """The numbers ``(d, 2, n)`` of the slopes at its ends among the inner ones, or others that will do."""
    strange: Tensor
    """Whether they are others ``(d, 2, n)``: at the ends of the box the slope is one."""
    raw: Tensor
    """What softplus makes the slopes of ``(d, 2, n)``."""
    inside: Tensor
    """Whether x is in the box."""
    w: Tensor
    h: Tensor
    ends: Tensor
    """(1 − t, t) ``(d, 2, n)``."""
    turn: Tensor
    """The slopes in units of the bin's, (d₀ w/h, d₁ w/h) ``(d, 2, n)``."""
    f: Tensor
    """(g − y₀)/h."""
    m: Tensor
    q: Tensor


def taped(x: Tensor, theta: Tensor, bins: int, box: float, back: bool = False) -> tuple[Tensor, Tensor, Tape]:
    """g(x), log g′(x) and the tape, unseen by autograd, from free numbers ``(d, 3 bins − 1, n)`` as in `knots`.

    Only the slopes at the ends of the bin in question are worked out, and the table of knots is never put together. With
    δ = d w/h for the slopes of both ends, u = 1 − t, r = t u,

        f = t (t + δ₀ u) / q,   q = 1 + (δ₀ + δ₁ − 2) r,   m = δ₁ t² + 2 r + δ₀ u²,   g = y₀ + h f,   g′ = h m / (w q²).

    Args:
        x: ``(d, n)``.
        theta: ``(d, 3 bins − 1, n)``.
        bins, box: of the spline.
        back: take x for a value, and find its place: then log g′ is that there.
    """
    scale, least = 2 * box * (1 - FLOOR * bins), 2 * box * FLOOR
    before, lowest, sides, _ = _ladder(bins, box, x.dtype, x.device)
    shares = theta[:, : 2 * bins].unflatten(1, (2, bins)).softmax(2)
    places = (before @ shares).add_(lowest)  # of the left ends of bins
    clamped = x.clamp(-box, box)
    inside = clamped == x
    index = (clamped[:, None] >= places[:, int(back), 1:]).sum(1, keepdim=True)
    at = index[:, None].expand(-1, 2, -1, -1)
    x0, y0 = places.gather(2, at).squeeze(2).unbind(1)
    w, h = shares.gather(2, at).squeeze(2).mul_(scale).add_(least).unbind(1)
    wanted = index + sides
    known = wanted.clamp(0, bins - 2)
    strange = wanted != known
    raw = theta[:, 2 * bins :].gather(1, known).masked_fill_(strange, 0.0).add_(LEVEL)
    turn = softplus(raw).add_(FLOOR).mul_((w / h)[:, None])
    t = _root((clamped - y0).div_(h), turn) if back else (clamped - x0).div_(w)
    ends = torch.stack([1 - t, t], 1)
    up, down, r = _parts(ends, turn)
    q = turn.sum(1).sub_(2).mul_(r).add_(1)
    f = (up * t).div_(q)
    m = torch.addcmul(down * t, up, ends[:, 0])
    log_slope = (h / w).mul_(m).div_(q).div_(q).log_().mul_(inside)
    y = torch.addcmul(x0, w, t) if back else torch.addcmul(y0, h, f)
    tape = Tape(shares, index, known, strange, raw, inside, w, h, ends, turn, f, m, q)
    return torch.where(inside, y, x), log_slope, tape


@cache
def _ladder(bins: int, box: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """What does not depend on x: the sum over the bins before each, where they begin at least, and small numbers."""
    with torch.inference_mode(False):
        before = torch.full((bins, bins), 2 * box * (1 - FLOOR * bins), dtype=dtype, device=device).tril(-1)
        lowest = torch.arange(bins, dtype=dtype, device=device)[:, None] * (2 * box * FLOOR) - box
        return before, lowest, torch.tensor([[-1], [0]], device=device), torch.arange(bins, device=device)[:, None]


def _root(f: Tensor, turn: Tensor) -> Tensor:
    """The t in [0, 1] with that f: of the two forms of the root the one that does not cancel."""
    first, second = turn.unbind(1)
    bend = (first + second).sub_(2).mul_(f)
    a, b = bend + 1 - first, first - bend
    root = torch.addcmul(b * b, a, f, value=4).clamp_min_(0).sqrt_()
    return f.mul(2).div_(root.add_(b))


def _parts(ends: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """t + δ₀ u, u + δ₁ t, and t u."""
    u, t = ends.unbind(1)
    up, down = torch.addcmul(ends.flip(1), turn, ends).unbind(1)
    return up, down, t * u


def pull(tape: Tape, g: Tensor, g_log: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """Gradients at x and at theta from those at g(x) ``(d, n)`` and at log g′(x) ``(n,)``, for a tape on the box.

    In the letters of `taped`, with ∂ for derivatives of the loss and l = log g′,

        ∂t = ∂g h m / q² + 2 ∂l ((u + δ₁ t − t − δ₀ u) / m − (δ₀ + δ₁ − 2) (u − t) / q)
        ∂δ₀ = ∂g h r (1 − f) / q + ∂l (u² / m − 2 r / q),   ∂δ₁ = −∂g h r f / q + ∂l (t² / m − 2 r / q)
        ∂x = ∂t / w,   ∂w = −(t ∂t + σ) / w,   ∂h = ∂g f + σ / h,   σ = ∂l − δ₀ ∂δ₀ − δ₁ ∂δ₁,   ∂d = ∂δ w / h

    and from the place and value of the bin's beginning to all bins before it.
    """
    shares, w, h, ends, turn, f, m, q = tape.shares, tape.w, tape.h, tape.ends, tape.turn, tape.f, tape.m, tape.q
    bins = shares.shape[2]
    own, g_log = g * tape.inside, g_log * tape.inside
    u, t = ends.unbind(1)
    up, down, r = _parts(ends, turn)
    c, e, over = (own * h).div_(q), (g_log / q).mul_(2), g_log / m
    fall = torch.addcmul(e, c, f)
    g_turn = (ends * ends).mul_(over[:, None]).addcmul_(torch.stack([fall - c, fall], 1), r[:, None], value=-1)
    g_t = (c * m).div_(q).addcmul_(over, down.sub(up), value=2).addcmul_(turn.sum(1).sub_(2).mul_(e), u - t, value=-1)
    g_x = g_t / w
    rest = g_log - (g_turn * turn).sum(1)
    g_bin = torch.stack([torch.addcmul(rest, g_t, t).div_(w).neg_(), (rest / h).addcmul_(own, f)], 1)

    steps = _ladder(bins, box, g.dtype, g.device)[3]
    g_shares = torch.stack([-g_x, own], 1)[:, :, None] * (steps < tape.index)[:, None]
    g_shares.scatter_(2, tape.index[:, None].expand(-1, 2, -1, -1), g_bin[:, :, None])
    g_shares = softmax_backward(g_shares, shares, 2, g.dtype).mul_(2 * box * (1 - FLOOR * bins))
    g_ends = g_turn.mul_((w / h)[:, None]).mul_(tape.raw.sigmoid()).masked_fill_(tape.strange, 0.0)
    g_slopes = g.new_zeros(len(g), bins - 1, g.shape[1]).scatter_add_(1, tape.known, g_ends)
    return torch.where(tape.inside, g_x, g), torch.cat([g_shares.flatten(1, 2), g_slopes], 1)
