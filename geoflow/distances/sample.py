"""The literature's estimate of a Fermat distance from a sample alone, for comparison."""

import math

import torch
from torch import Tensor

from geoflow.distances.exponents import alpha_from_power
from geoflow.distances.graph import build as graphs
from geoflow.distances.graph.walks import shortest
from geoflow.distances.weight import Weight
from manifolds import Manifold


class _One:
    """The density that is one everywhere: its weighted lengths are plain ones."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-1])


def sample_dist(
    space: Manifold,
    points: Tensor,
    x: Tensor,
    y: Tensor,
    power: float,
    dim: float,
    k: int,
    engine: str,
    strict: bool,
    mu: float | None = None,
) -> Tensor:
    """n^β min Σ |Δ|^α / μ over paths ``(B,)`` through the points' k-neighbour graph, α = 1 + β d.

    μ(d, α) is known for d = 1 only, where it is Γ(α + 1); without it other dimensions get un-normalised values. [hwang2016]
    """
    alpha = alpha_from_power(power, dim)
    plain = Weight(_One(), space, 0.0, 0.0, None)
    graph = graphs.build(plain, points, k, engine, strict)
    log_sum, _ = shortest(graph, plain, x, y, k, engine, exponent=alpha)
    constant = mu if mu is not None else math.gamma(alpha + 1) if dim == 1 else 1.0
    return torch.exp(log_sum) * len(graph.points) ** power / constant
