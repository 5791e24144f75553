"""Rational-quadratic spline coupling: one half of the coordinates chooses a monotone curve for each of the other half."""

from collections.abc import Sequence

from geoflow.flows.curves import RationalQuadratic
from geoflow.flows.halves import Coupling
from geoflow.registry import register


@register
class SplineCoupling(Coupling):
    """Split x = (a, b); each b_j ← g(b_j; θ_j) with θ a network of a and the context; the halves then change places.

    g is monotone on [−box, box] and the identity outside: a quotient of two quadratics between each two of `bins` + 1
    knots, with its slope given at the inner ones and one at both ends, so that it has one derivative everywhere (see
    `geoflow.flows.curves.RationalQuadratic` for the formula).

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
        curve = RationalQuadratic(bins, box, "SplineCoupling")
        super().__init__(dim, context_dim, hidden, activation, curve)
        self.bins, self.box = curve.bins, curve.box
