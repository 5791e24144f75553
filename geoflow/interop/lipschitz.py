"""A network whose steps are shorter than those of its input, as residual flows need."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from geoflow.nets.mlp import activation_named

SLOPES = {"relu": 1.0, "silu": 1.1, "gelu": 1.13, "tanh": 1.0, "elu": 1.0, "softplus": 1.0, "sin": 1.0}
"""Upper bounds of the slopes of activations."""


class LipschitzMLP(nn.Module):
    """|g(x) − g(y)| ≤ bound |x − y|, whatever the weights: no correction after steps is needed. [behrmann2019]

    Each matrix is divided by its spectral norm where that is larger than the layer's share of the bound, and each
    activation by its steepest slope. The norms are exact (singular values), and part of the gradient. The last layer
    starts at zero.

    Args:
        dim: of input and output.
        hidden, activation: as in `MLP`.
        bound: below one.
    """

    def __init__(self, dim: int, hidden: Sequence[int], activation: str = "silu", bound: float = 0.9) -> None:
        super().__init__()
        self.activation, self.slope = activation_named(activation, "LipschitzMLP"), SLOPES[activation]
        widths = (dim, *hidden, dim)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.share = bound ** (1 / len(self.layers))
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            if i:
                x = self.activation(x) / self.slope
            norm = torch.linalg.matrix_norm(layer.weight, 2)  # type: ignore[arg-type]
            x = nn.functional.linear(x, layer.weight * (self.share / norm.clamp_min(self.share)), layer.bias)  # type: ignore[arg-type]
        return x
