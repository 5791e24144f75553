"""A plain multi-layer perceptron, optionally starting as the zero function."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from geoflow.registry import register


class Sine(nn.Module):
    """sin x: smooth, and bounded with all its derivatives."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # of a linear layer's output, which nothing else needs
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "sin": Sine,
}


threshold_backward = torch.ops.aten.threshold_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.default
silu_backward = torch.ops.aten.silu_backward.default

BY_HAND: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "relu": (torch.relu_, lambda g, _, y: threshold_backward(g, y, 0, grad_input=g)),
    "tanh": (torch.tanh, lambda g, _, y: tanh_backward(g, y)),
    "silu": (nn.functional.silu, lambda g, h, _: silu_backward(g, h)),
}
"""y = φ(h), and the gradient at h from that at y, h and y, for `MLP.taped`. relu overwrites h, and the gradient."""


def activation_named(name: str, who: str) -> nn.Module:
    """A fresh one of `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"{who} expects an activation of {', '.join(ACTIVATIONS)}; got {name!r}.")
    return ACTIVATIONS[name]()


def _linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """W x + b of ``(inputs, n)``; sooner than `addmm`, which spreads b over the result first."""
    return (weight @ x).add_(bias.unsqueeze(1))


Tape = list[tuple[Tensor, ...]]
"""Of each linear layer its weight and what came in; and h and y of the activation after it, if there is one."""


def taped(layers: Sequence[tuple[Tensor, Tensor]], activation: str, x: Tensor) -> tuple[Tensor, Tape]:
    """Linear layers (weight, bias) with an activation of `BY_HAND` between them, of ``(inputs, n)``, and the tape."""
    act, _ = BY_HAND[activation]
    tape: Tape = []
    for weight, bias in layers:
        if tape:
            h, x = x, act(x)
            tape[-1] += (h, x)
        tape.append((weight, x))
        x = _linear(weight, bias, x)
    return x, tape


def pull(tape: Tape, activation: str, g: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Gradients at what came in, and at each weight and bias, from that at what came out, ``(outputs, n)``."""
    _, back = BY_HAND[activation]
    found: list[Tensor] = []
    for weight, x, *after in reversed(tape):
        if after:
            g = back(g, *after)
        found += (g.sum(1), g @ x.mT)
        g = weight.mT @ g
    return g, found[::-1]


@register
class MLP(nn.Module):
    """Linear layers with an activation between them: ``(*batch, inputs)`` → ``(*batch, outputs)``.

    Args:
        inputs, outputs: widths of the ends.
        hidden: widths between.
        activation: one of relu, silu, gelu, tanh, elu, softplus, sin. relu is fastest; take a smooth one where second
            derivatives of the result matter (scores that are differentiated, geodesics).
        zero_last: start the last layer at zero, so that a flow built on it starts as the identity.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        zero_last: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.hidden = inputs, outputs, tuple(hidden)
        self.activation, self.zero_last = activation, zero_last
        widths = (inputs, *self.hidden)
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation_named(activation, "MLP")]
        last = nn.Linear(widths[-1], outputs)
        if zero_last:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def _linear(self) -> list[nn.Linear]:
        return [*self.layers._modules.values()][::2]  # type: ignore[return-value, list-item]

    def weights(self) -> list[Tensor]:
        """The parameters, in the order of `pull`; sooner found than by `parameters`."""
        return [w for layer in self._linear() for w in (layer.weight, layer.bias)]

    def turned(self, x: Tensor) -> Tensor:
        """The same of rows with their numbers in front: ``(inputs, n)`` → ``(outputs, n)``."""
        first, *others = self._linear()
        x = _linear(first.weight, first.bias, x)
        act = BY_HAND[self.activation][0] if self.activation in BY_HAND else self.layers[1]
        for layer in others:
            x = _linear(layer.weight, layer.bias, act(x))
        return x

    def taped(self, x: Tensor) -> tuple[Tensor, Tape]:
        """`turned`, for activations in `BY_HAND` and unseen by autograd, and what `pull` needs."""
        return taped([(layer.weight, layer.bias) for layer in self._linear()], self.activation, x)

    def pull(self, tape: Tape, g: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gradients at x and at the parameters, in their order, from that at `turned(x)`, ``(outputs, n)``."""
        return pull(tape, self.activation, g)
