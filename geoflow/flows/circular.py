"""Spline coupling on spaces of which some columns are angles: curves that close up, with no seam."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from geoflow.density import Context
from geoflow.flows.curves import RationalQuadratic
from geoflow.flows.curves.rational_quadratic import FLOOR, LEVEL, corners, knots, spline, spline_inverse
from geoflow.flows.on_columns import columns_of
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.nets import MLP
from geoflow.registry import register
from manifolds.torus import wrap


@register
class CircularSplineCoupling(FeaturesFirst):
    """Active columns are carried by monotone curves that a network of the passive columns and the context chooses.

    A curve of an angle maps the circle to itself once round: θ ↦ g(θ + φ), g a rational-quadratic spline on [−π, π] (see
    `SplineCoupling`) with equal slopes at both ends, and φ a shift, which moves the seam and leaves volumes alone. The
    network sees passive angles as (cos, sin), so that nothing jumps where they do. Other columns have splines on
    [−box, box]. Columns keep their places; angles that it moves come back in [−π, π]. It starts as the identity.
    [rezende2020]

    Args:
        dim: number of columns, at least two.
        periodic: those that are angles, in radians.
        active: those that are moved: some, and not all.
        context_dim: width of a float condition.
        hidden, activation: of the network (see `MLP`).
        bins: pieces of each curve.
        box: half the width of where curves of other columns bend.
    """

    order: Tensor
    back: Tensor

    def __init__(
        self,
        dim: int,
        periodic: Sequence[int],
        active: Sequence[int],
        context_dim: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        bins: int = 8,
        box: float = 5.0,
    ) -> None:
        super().__init__(dim)
        self.periodic = columns_of(periodic, dim, "CircularSplineCoupling", "periodic")
        self.active = columns_of(active, dim, "CircularSplineCoupling", "active")
        if not 0 < len(self.active) < dim:
            raise ValueError(
                f"CircularSplineCoupling expects some of the {dim} columns to be active and some not, got "
                f"{len(self.active)} active ones: the others choose their curves."
            )
        curve = RationalQuadratic(bins, box, "CircularSplineCoupling")
        self.bins, self.box = curve.bins, curve.box
        self.context_dim, self.hidden, self.activation = context_dim, tuple(hidden), activation
        angles, moved = set(self.periodic), set(self.active)
        groups = [
            [c for c in range(dim) if (c in moved) is move and (c in angles) is angle]
            for move in (False, True)
            for angle in (False, True)
        ]
        self._sizes = [len(g) for g in groups]
        order = torch.tensor([c for g in groups for c in g])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)
        self._split = (self._sizes[2] * (3 * bins - 1), self._sizes[3] * (3 * bins + 1))
        self.net = MLP(
            self._sizes[0] + 2 * self._sizes[1] + context_dim, sum(self._split), hidden, activation, zero_last=True
        )

    def _tables(self, still: Tensor, angles: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Knots of the flat columns, knots of the round ones, and the shifts of these."""
        seen = [still, angles.cos(), angles.sin(), *([] if context is None else [context])]
        flat, closed = self.net.turned(torch.cat(seen)).split_with_sizes(self._split)
        closed = closed.unflatten(0, (self._sizes[3], 3 * self.bins + 1))
        flat = flat.unflatten(0, (self._sizes[2], 3 * self.bins - 1))
        return knots(flat, self.bins, self.box), closed_knots(closed[:, :-1], self.bins), closed[:, -1]

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        still, angles, a, b = x.index_select(0, self.order).split_with_sizes(self._sizes)
        flat, closed, shift = self._tables(still, angles, context)
        a, log_a = spline(a, flat, self.box)
        b, log_b = spline(_on_circle(b + shift), closed, math.pi)
        z = torch.cat([still, angles, a, b]).index_select(0, self.back)
        return z, log_a.sum(0) + log_b.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        still, angles, a, b = z.index_select(0, self.order).split_with_sizes(self._sizes)
        flat, closed, shift = self._tables(still, angles, context)
        a, log_a = spline_inverse(a, flat, self.box)
        b, log_b = spline_inverse(_on_circle(b), closed, math.pi)
        x = torch.cat([still, angles, a, _on_circle(b - shift)]).index_select(0, self.back)
        return x, log_a.sum(0) + log_b.sum(0)


def closed_knots(theta: Tensor, bins: int) -> Tensor:
    """Knots ``(d, 3, bins + 1, n)`` on [−π, π] as those of `knots`, the last slope being the first, from 3 bins numbers."""
    slopes = softplus(theta[:, 2 * bins :] + LEVEL) + FLOOR
    return torch.cat([corners(theta, bins, math.pi), torch.cat([slopes, slopes[:, :1]], 1)[:, None]], 1)


def _on_circle(angle: Tensor) -> Tensor:
    """In [−π, π], where rounding would leave it a little outside too; with derivative one everywhere."""
    inside = wrap(angle)
    return inside + (inside.clamp(-math.pi, math.pi) - inside).detach()
