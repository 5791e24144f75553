"""A perceptron whose i-th outputs see only the inputs before the i-th."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from geoflow import validate
from geoflow.nets.mlp import Tape, activation_named, pull, taped
from geoflow.registry import register


class _MaskedLinear(nn.Linear):
    """A linear layer with some of its weights held at zero."""

    mask: Tensor

    def __init__(self, mask: Tensor, free: int = 0) -> None:
        super().__init__(mask.shape[1] + free, mask.shape[0])
        self.register_buffer("mask", torch.cat([mask, torch.ones(len(mask), free)], 1), persistent=False)

    def masked(self) -> Tensor:
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.masked(), self.bias)

    def turned(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.masked(), x)


@register
class MaskedMLP(nn.Module):
    """``(*batch, dim)`` → ``(*batch, dim · each)``, `each` a coordinate, functions of the coordinates before it alone.

    A hidden unit of degree m sees inputs of degree at most m, input i being of degree i + 1; degrees go round from 1 to
    dim − 1. [germain2015]

    Args:
        dim: number of inputs.
        each: outputs for each input.
        hidden: widths of the hidden layers, each best a multiple of dim − 1.
        activation: as of `MLP`.
        context: width of a float condition, which every unit sees.
        zero_last: start the last layer at zero.
    """

    def __init__(
        self,
        dim: int,
        each: int,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        context: int = 0,
        zero_last: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.each = validate.count(dim, "MaskedMLP", "dim", 1), validate.count(each, "MaskedMLP", "each", 1)
        self.hidden, self.activation, self.context, self.zero_last = tuple(hidden), activation, context, zero_last
        self.inputs, self.outputs = dim, dim * each
        degrees = [torch.arange(1, dim + 1), *(torch.arange(width) % max(1, dim - 1) + 1 for width in self.hidden)]
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(pairwise(degrees)):
            layers.append(_MaskedLinear((b[:, None] >= a).float(), 0 if k else context))
            layers.append(activation_named(activation, "MaskedMLP"))
        last = (degrees[0][:, None] > degrees[-1]).float().repeat_interleave(each, 0)
        layers.append(_MaskedLinear(last, 0 if self.hidden else context))
        if zero_last:
            nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(layers[-1].bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.layers(x if context is None else torch.cat([x, context], -1))

    def turned(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The same of rows with their numbers in front: ``(dim, n)`` → ``(dim · each, n)``."""
        x = x if context is None else torch.cat([x, context])
        for layer in self.layers:
            x = layer.turned(x) if isinstance(layer, _MaskedLinear) else layer(x)
        return x

    def _linear(self) -> list[_MaskedLinear]:
        return [*self.layers._modules.values()][::2]  # type: ignore[return-value, list-item]

    def masked(self) -> list[tuple[Tensor, Tensor]]:
        """Weight, with its mask on, and bias of each layer."""
        return [(layer.masked(), layer.bias) for layer in self._linear()]

    def weights(self) -> list[Tensor]:
        """The parameters, in the order of `pull`; sooner found than by `parameters`."""
        return [w for layer in self._linear() for w in (layer.weight, layer.bias)]

    def taped(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tape]:
        """`turned`, for activations in `BY_HAND` and unseen by autograd, and what `pull` needs."""
        return taped(self.masked(), self.activation, x if context is None else torch.cat([x, context]))

    def pull(self, tape: Tape, g: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradients at x and the context, one over the other, and at the parameters, from that at `turned`."""
        g, found = pull(tape, self.activation, g)
        for layer, weight in zip(self._linear(), found[::2], strict=True):
            weight.mul_(layer.mask)
        return g, found
