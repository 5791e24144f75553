"""A residual network of points: small perceptrons added one after the other, the body of free-form flows."""

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.nets.mlp import MLP
from geoflow.registry import register


@register
class ResidualNet(nn.Module):
    """h₀ = A x + a, h_k = h_{k−1} + MLP_k(h_{k−1}[, context]), y = B h_blocks + b: ``(*batch, inputs)`` → outputs.

    With `skip` the result is x + B h + b and B, b start at zero: the net starts as the identity, so that an encoder and
    a decoder of this kind start as each other's inverse, where the surrogates of free-form flows are exact. All
    derivatives that these take (jvp, vjp twice, reverse over forward, vmap) exist. [draxler2024]

    Args:
        inputs, outputs: numbers of coordinates of the ends.
        width: of h and of the hidden layers.
        blocks: how many perceptrons are added.
        depth: hidden layers in each.
        activation: one of `geoflow.nets.mlp.ACTIVATIONS`; take a smooth one, for relu has no second derivative.
        context: number of floats that every block is given beside h, as ``net(x, context)``; 0 for none.
        skip: add x to the result; None does so where inputs and outputs are equally many.

    >>> import torch
    >>> ResidualNet(3, 3)(torch.tensor([1.0, 2.0, 3.0])).detach()
    tensor([1., 2., 3.])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 256,
        blocks: int = 4,
        depth: int = 2,
        activation: str = "silu",
        context: int = 0,
        skip: bool | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            *(("inputs", inputs, 1), ("outputs", outputs, 1), ("width", width, 1)),
            *(("blocks", blocks, 0), ("depth", depth, 0), ("context", context, 0)),
        ):
            validate.count(value, "ResidualNet", name, least)
        self.skip = inputs == outputs if skip is None else skip
        if self.skip and inputs != outputs:
            raise ValueError(
                f"ResidualNet adds its input to its result only where both have one width, got {inputs} and {outputs}: "
                "pass skip=False."
            )
        self.inputs, self.outputs, self.width, self.blocks = inputs, outputs, width, blocks
        self.depth, self.activation, self.context = depth, activation, context
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        hidden = (width,) * depth
        self.body = nn.ModuleList(MLP(width + context, width, hidden, activation) for _ in range(blocks))
        if self.skip:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if (context is None) != (self.context == 0):
            raise TypeError(
                f"ResidualNet was built with context={self.context} and is called {'with' if self.context == 0 else 'without'} "
                "a context: build with the number of floats you pass."
            )
        h = self.first(x)
        for block in self.body:
            h = h + block(h if context is None else torch.cat([h, context.expand(*h.shape[:-1], -1)], -1))
        y = self.last(h)
        return x + y if self.skip else y
