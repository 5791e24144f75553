"""Rational-quadratic splines: monotone curves on a box, either way, and their derivative in closed form. [durkan2019]"""

import math
from dataclasses import dataclass

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

    def there(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return spline(x, knots(theta, self.bins, self.box), self.box)

    def back(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return spline_inverse(y, knots(theta, self.bins, self.box), self.box)

    def taped(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, "Tape"]:
        y, log_slope, tape = taped(x, theta, self.bins, self.box)
        return y, log_slope.sum(0), tape

    def back_taped(self, y: Tensor, theta: Tensor) -> tuple[Tensor, "Tape"]:
        x, _, tape = taped(y, theta, self.bins, self.box, back=True)
        return x, tape

    def pull(self, tape: "Tape", g: Tensor, g_log_det: Tensor) -> tuple[Tensor, Tensor]:
        return pull(tape, g, g_log_det, self.box)


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
    s = h / w
    t = _root(inside - y0, h, s, d0, d1)
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


def _root(up: Tensor, h: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """The t in [0, 1] at which the curve has risen by `up`: of the two forms of the root the one that does not cancel."""
    bend = up * (d1 + d0 - 2 * s)
    a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * up
    root = (b * b - 4 * a * c).clamp_min(0)
    return 2 * c / (-b - root.sqrt())


def _log_slope(s: Tensor, d0: Tensor, d1: Tensor, t: Tensor, q: Tensor) -> Tensor:
    u = 1 - t
    return 2 * (s / q).log() + (d1 * t * t + 2 * s * t * u + d0 * u * u).log()


# -- the same from the free numbers, with what the derivative needs -----------------------------------------------------


@dataclass(slots=True)
class Tape:
    """Of each point, ``(d, n)`` unless said, in the letters of `spline`: see `taped`."""

    shares: Tensor
    """The softmaxes ``(d, 2, bins, n)``, without their floor."""
    index: Tensor
    """The bin ``(d, 1, n)``."""
    ends: Tensor
    """The numbers ``(d, 2, n)`` of the slopes at its ends among the inner ones; −1 and bins − 1 do not occur there."""
    raw: Tensor
    """What softplus makes these slopes of ``(d, 2, n)``."""
    inside: Tensor
    """Whether it is in the box."""
    w: Tensor
    h: Tensor
    s: Tensor
    t: Tensor
    d0: Tensor
    d1: Tensor
    q: Tensor


def taped(x: Tensor, theta: Tensor, bins: int, box: float, back: bool = False) -> tuple[Tensor, Tensor, Tape]:
    """g(x), log g′(x) and the tape, unseen by autograd, from free numbers ``(d, 3 bins − 1, n)`` as in `knots`.

    Only the slopes at the ends of the bin in question are worked out, and the table of knots is never put together.

    Args:
        x: ``(d, n)``.
        theta: ``(d, 3 bins − 1, n)``.
        bins, box: of the spline.
        back: take x for a value, and find its place: then log g′ is that there.
    """
    scale, least = 2 * box * (1 - FLOOR * bins), 2 * box * FLOOR
    shares = theta[:, : 2 * bins].unflatten(1, (2, bins)).softmax(2)
    before = theta.new_full((bins, bins), scale).tril_(-1)
    left = torch.arange(bins, dtype=x.dtype, device=x.device).mul_(least).sub_(box)[:, None]
    places = (before @ shares).add_(left)  # of the left ends of bins
    clamped = x.clamp(-box, box)
    inside = clamped == x
    index = (clamped[:, None] >= places[:, int(back), 1:]).sum(1, keepdim=True)
    at = index[:, None].expand(-1, 2, -1, -1)
    x0, y0 = places.gather(2, at).squeeze(2).unbind(1)
    w, h = shares.gather(2, at).squeeze(2).mul_(scale).add_(least).unbind(1)
    ends = torch.cat([index - 1, index], 1)
    known = ends.clamp(0, bins - 2)
    raw = theta[:, 2 * bins :].gather(1, known).mul_(ends == known).add_(LEVEL)
    d0, d1 = softplus(raw).add_(FLOOR).unbind(1)
    s = h / w
    t = _root(clamped - y0, h, s, d0, d1) if back else (clamped - x0).div_(w)
    q, _, a, m = _parts(s, t, d0, d1)
    y = torch.addcmul(x0, w, t) if back else torch.addcmul(y0, h, a.mul_(t).div_(q))
    v = s / q
    log_slope = m.mul_(v).mul_(v).log_()
    tape = Tape(shares, index, ends, raw, inside, w, h, s, t, d0, d1, q)
    return torch.where(inside, y, x), log_slope.mul_(inside), tape


def _parts(s: Tensor, t: Tensor, d0: Tensor, d1: Tensor) -> tuple[Tensor, ...]:
    """q, 1 − t, a = s t + d₀ (1 − t), and m = d₁ t² + 2 s t(1 − t) + d₀ (1 − t)²: g = y₀ + h t a / q, g′ = m s² / q²."""
    u = 1 - t
    q = torch.addcmul(s, (d0 + d1).sub_(s, alpha=2), t * u)
    a = torch.addcmul(d0 * u, s, t)
    m = torch.addcmul(d1 * t, s, u).mul_(t).addcmul_(a, u)
    return q, u, a, m


def pull(tape: Tape, g: Tensor, g_log: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """Gradients at x and at theta from those at g(x) ``(d, n)`` and at log g′(x) ``(n,)``, for a tape on the box.

    With f = (g − y₀)/h, r = t(1 − t), m as in `_parts` and ∂ for derivatives of the loss,

        ∂t = ∂g h s m / q² + 2 ∂log g′ ((d₁ t + s (1 − t) − s t − d₀ (1 − t)) / m − (d₀ + d₁ − 2 s) (1 − 2 t) / q)
        ∂s = ∂g h (t² − f (1 − 2 r)) / q + 2 ∂log g′ (1 / s − (1 − 2 r) / q + r / m)
        ∂d₀ = ∂g h r (1 − f) / q + ∂log g′ ((1 − t)² / m − 2 r / q)
        ∂d₁ = −∂g h r f / q + ∂log g′ (t² / m − 2 r / q)

    and on by s = h/w, t = (x − x₀)/w to x, to the bin and, over all bins before it, to the free numbers.
    """
    shares, index, w, h, s, t, d0, d1, q = (
        tape.shares,
        tape.index,
        tape.w,
        tape.h,
        tape.s,
        tape.t,
        tape.d0,
        tape.d1,
        tape.q,
    )
    bins = shares.shape[2]
    own, g_log = g * tape.inside, g_log * tape.inside
    u, a, m = _parts(s, t, d0, d1)[1:]
    r, f = t * u, (a * t).div_(q)
    c, e, over = (own * h).div_(q), (2 * g_log).div_(q), g_log / m
    both = torch.addcmul(e, c, f)
    g_ends = torch.stack(
        [torch.addcmul((c - both).mul_(r), over, u * u), torch.addcmul((both * r).neg_(), over, t * t)], 1
    )
    g_s = (g_log / s).addcmul_(over, r).mul_(2).addcmul_(c * t, t).addcmul_(both, 1 - 2 * r, value=-1)
    tilt = torch.addcmul(d1 * t, s, u).sub_(a)  # half of how m changes with t
    bend = (d0 + d1).sub_(s, alpha=2)
    g_t = (c * s).mul_(m).div_(q).addcmul_(over, tilt, value=2).addcmul_(e * bend, u - t, value=-1)
    g_x = g_t / w
    g_bin = torch.stack([(g_s * s).addcmul_(g_t, t).div_(w).neg_(), (g_s / w).addcmul_(own, f)], 1)

    before = torch.arange(bins, device=g.device)[:, None] < index
    g_shares = torch.stack([-g_x, own], 1)[:, :, None] * before[:, None]
    g_shares.scatter_(2, index[:, None].expand(-1, 2, -1, -1), g_bin[:, :, None])
    g_shares = softmax_backward(g_shares, shares, 2, g.dtype).mul_(2 * box * (1 - FLOOR * bins))
    known = tape.ends.clamp(0, bins - 2)
    g_ends.mul_(tape.raw.sigmoid()).mul_(tape.ends == known)
    g_slopes = g.new_zeros(len(g), bins - 1, g.shape[1]).scatter_add_(1, known, g_ends)
    return torch.where(tape.inside, g_x, g), torch.cat([g_shares.flatten(1, 2), g_slopes], 1)
