"""Rational-quadratic spline coupling: one half of the coordinates chooses a monotone curve for each of the other half."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from geoflow import validate
from geoflow.flows.halves import Coupling
from geoflow.maps import Turned
from geoflow.registry import register

FLOOR = 1e-3
"""Least share of a bin in the box, and least slope at a knot."""
LEVEL = math.log(math.expm1(1 - FLOOR))
"""Where softplus, with the floor, is one."""


@register
class SplineCoupling(Coupling):
    """Split x = (a, b); each b_j ← g(b_j; θ_j) with θ a network of a and the context; the halves then change places.

    g is monotone on [−box, box] and the identity outside: a quotient of two quadratics between each two of `bins` + 1
    knots, with its slope given at the inner ones and one at both ends, so that it has one derivative everywhere. On a bin
    from (x₀, y₀) of width w and height h, with slopes d₀ and d₁, s = h/w and t = (x − x₀)/w,

        g = y₀ + h (s t² + d₀ t(1 − t)) / q,   g′ = s² (d₁ t² + 2 s t(1 − t) + d₀ (1 − t)²) / q²,
        q = s + (d₁ + d₀ − 2s) t(1 − t).

    The network's last layer starts at zero, so the coupling starts as the exchange of halves. Cost: one pass of the
    network either way; the inverse solves a quadratic. [durkan2019]

    Args:
        dim: number of coordinates, at least two; a has the larger half.
        context_dim: width of a float condition, concatenated to a.
        hidden, activation: of the network (see `MLP`).
        bins: pieces of each curve.
        box: half the width of where curves bend; data of unit variance hardly leave five.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        bins: int = 8,
        box: float = 5.0,
    ) -> None:
        bins, box = bins_and_box(bins, box, "SplineCoupling")
        super().__init__(dim, context_dim, hidden, activation, 3 * bins - 1)
        self.bins, self.box = bins, box

    def _knots(self, theta: Turned) -> Tensor:
        return knots(theta.unflatten(0, (self.active, 3 * self.bins - 1)), self.bins, self.box)

    def _there(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        return spline(b, self._knots(theta), self.box)

    def _back(self, b: Turned, theta: Turned) -> tuple[Tensor, Tensor]:
        return spline_inverse(b, self._knots(theta), self.box)


def bins_and_box(bins: int, box: float, who: str) -> tuple[int, float]:
    """Both, if a spline can have them."""
    bins = validate.count(bins, who, "bins", 2)
    if bins * FLOOR >= 1:
        raise ValueError(f"{who} expects fewer than {1 / FLOOR:.0f} bins, got {bins}.")
    if not 0 < box < math.inf:
        raise ValueError(f"{who} expects a positive, finite box, got {box}.")
    return bins, float(box)


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
