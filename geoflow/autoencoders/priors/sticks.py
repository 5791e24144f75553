"""Shares by breaking a stick, v_1 of it first, then v_2 of what is left: their prior, and the map from fractions to shares.

Codes are the logits of the fractions v_j. They fill all of ℝᵏ⁻¹, where the shares crowd the edges of their simplex and
fractions of float32 round to one; KL is the same in any coordinates.
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

EULER = 0.5772156649015329


@register
class StickBreaking(Density):
    """The first k shares of a Dirichlet process, the last of them all that is left: v_j ~ Beta(1, α), independently.

    In logits u of v, log p(u) = Σ_j log α + log σ(u_j) + α log σ(−u_j). The expected share of the j-th is
    αʲ⁻¹/(1 + α)ʲ: small α leaves most to the first few. [nalisnick2017]

    Args:
        k: number of shares; codes have k − 1 coordinates.
        concentration: α.
    """

    _anchor: Tensor

    def __init__(self, k: int, concentration: float = 1.0) -> None:
        super().__init__()
        self.k = validate.count(k, "StickBreaking", "k", 2)
        if not concentration > 0:
            raise ValueError(f"StickBreaking expects concentration > 0, got {concentration}.")
        self.concentration = float(concentration)
        self.space = Euclidean(self.k - 1)
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_alpha = self._anchor.new_tensor(self.concentration).log()
        return (log_alpha + logsigmoid(x) + self.concentration * logsigmoid(-x)).sum(-1)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        a = self._anchor
        s = torch.rand(*shape, self.dim, generator=generator, dtype=a.dtype, device=a.device)
        left = -torch.log1p(-s) / self.concentration  # −log(1 − v)
        return left + torch.log(-torch.expm1(-left.clamp_min(torch.finfo(a.dtype).tiny)))

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._sample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """(k − 1) (ψ(1 + α) + γ + 1 − log α)."""
        a = self._anchor.new_tensor(self.concentration)
        return self.dim * (torch.digamma(1 + a) + EULER + 1 - a.log())


def shares(logits: Tensor) -> Tensor:
    """π_j = v_j Π_{i<j} (1 − v_i) ``(*batch, k)`` of logits of v ``(*batch, k − 1)``; the last is all that is left."""
    left = logsigmoid(-logits).cumsum(-1)
    none = torch.zeros_like(left[..., :1])
    taken = torch.cat([logsigmoid(logits), none], -1)
    return (taken + torch.cat([none, left], -1)).exp()
