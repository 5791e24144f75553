"""Small convolutional networks between flat images and vectors: each stage halves or doubles the sides."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from geoflow import validate
from geoflow.nets.mlp import activation_named
from geoflow.registry import register


def _stages(image_shape: Sequence[int], channels: Sequence[int], who: str) -> list[tuple[int, int, int]]:
    """(channels, height, width) of the image and after every stage, which halves the sides and rounds down."""
    if len(image_shape) != 3:
        raise ValueError(f"{who} expects image_shape as (channels, height, width), got {tuple(image_shape)}.")
    colours, high, wide = (validate.count(n, who, "image_shape", 1) for n in image_shape)
    for c in channels:
        validate.count(c, who, "channels", 1)
    if not channels or min(high, wide) < 2 ** len(channels):
        raise ValueError(
            f"{who}: each of the channels halves the sides, and {high} × {wide} can be halved between 1 and "
            f"{int(math.log2(min(high, wide)))} times; got channels={tuple(channels)}."
        )
    return [(colours, high, wide), *((c, high >> k, wide >> k) for k, c in enumerate(channels, 1))]


@register
class ConvEncoder(nn.Module):
    """Flat images ``(*batch, C·H·W)`` → ``(*batch, outputs)``: 4 × 4 convolutions of stride two, then a linear layer.

    Sides need not be powers of two: a stage turns n into ⌊n/2⌋ pixels, 28 into 14, 7 and 3. The defaults are meant for
    free-form flows with a bottleneck on images of MNIST's size, at 0.8 million multiplications an image. No layer
    normalises: under BatchNorm a row's derivatives see other rows, and with GroupNorm digits came back less exactly.

    Args:
        image_shape: (C, H, W), channels first.
        outputs: length of the result.
        channels: of each stage.
        activation: one of `geoflow.nets.mlp.ACTIVATIONS`.

    >>> import torch
    >>> ConvEncoder((1, 28, 28), 16)(torch.zeros(5, 784)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (16, 32, 64),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        stages = _stages(image_shape, channels, "ConvEncoder")
        self.image_shape, self.channels = tuple(image_shape), tuple(channels)
        self.inputs, self.outputs = math.prod(image_shape), validate.count(outputs, "ConvEncoder", "outputs", 1)
        self.activation = activation
        layers: list[nn.Module] = []
        for (a, _, _), (b, _, _) in pairwise(stages):
            layers += [nn.Conv2d(a, b, 4, 2, 1), activation_named(activation, "ConvEncoder")]
        self.convolutions = nn.Sequential(*layers)
        self.last = nn.Linear(math.prod(stages[-1]), outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions(x.reshape(-1, *self.image_shape))
        return self.last(y.flatten(1)).reshape(*x.shape[:-1], self.outputs)


@register
class ConvDecoder(nn.Module):
    """Vectors ``(*batch, inputs)`` → flat images ``(*batch, C·H·W)``: the stages of `ConvEncoder` backwards.

    Pixels are not bounded. Transposed convolutions have 4 × 4 kernels, which overlap evenly at stride two.

    Args:
        inputs: length of the vectors.
        image_shape: (C, H, W), channels first.
        channels: of each stage, in the encoder's order.
        activation: as in `ConvEncoder`.

    >>> import torch
    >>> ConvDecoder(16, (1, 28, 28))(torch.zeros(5, 16)).shape
    torch.Size([5, 784])
    """

    def __init__(
        self,
        inputs: int,
        image_shape: Sequence[int],
        channels: Sequence[int] = (16, 32, 64),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        stages = _stages(image_shape, channels, "ConvDecoder")
        self.image_shape, self.channels = tuple(image_shape), tuple(channels)
        self.inputs, self.outputs = validate.count(inputs, "ConvDecoder", "inputs", 1), math.prod(image_shape)
        self.activation = activation
        self.first = nn.Linear(inputs, math.prod(stages[-1]))
        layers: list[nn.Module] = []
        for (a, _, _), (b, high, wide) in pairwise(reversed(stages)):
            odd = (high % 2, wide % 2)
            layers += [activation_named(activation, "ConvDecoder"), nn.ConvTranspose2d(a, b, 4, 2, 1, odd)]
        self._deepest = stages[-1]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        y = self.convolutions(self.first(z).reshape(-1, *self._deepest))
        return y.reshape(*z.shape[:-1], self.outputs)
