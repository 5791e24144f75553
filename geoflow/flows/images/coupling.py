"""Affine coupling of images: half of the channels scale and shift the others by a small convolutional network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.density import Context
from geoflow.flows.images.squeeze import image_shape
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.nets.mlp import activation_named
from geoflow.registry import register


@register
class ImageCoupling(FeaturesFirst):
    """Split the channels of flat images into (a, b); b ← b eˢ + t, (s, t) a network of a; the halves change places.

        s = c tanh(r / c), bounded by the clamp c;   log det = Σ s

    The network has three layers, 3 × 3, 1 × 1 and 3 × 3 convolutions, the last of which starts at zero. Cost: one pass of
    the network either way. [kingma2018]

    Args:
        shape: (C, H, W), channels first, at least two channels; a has the larger half.
        context_dim: width of a float condition, which the network sees at every pixel.
        channels: of the hidden layers.
        activation: as of `MLP`.
        clamp: c, the bound of the log-scale.
    """

    def __init__(
        self,
        shape: Sequence[int],
        context_dim: int = 0,
        channels: int = 32,
        activation: str = "relu",
        clamp: float = 2.0,
    ) -> None:
        c, h, w = image = image_shape(shape, "ImageCoupling")
        super().__init__(c * h * w)
        if c < 2:
            raise ValueError("ImageCoupling expects two channels or more: put a Squeeze before it.")
        if clamp <= 0:
            raise ValueError(f"ImageCoupling expects clamp > 0, got {clamp}.")
        self.shape, self.context_dim, self.clamp = image, context_dim, float(clamp)
        self.channels, self.activation = validate.count(channels, "ImageCoupling", "channels", 1), activation
        self.active = c // 2
        self.passive = c - self.active
        last = nn.Conv2d(channels, 2 * self.active, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.net = nn.Sequential(
            nn.Conv2d(self.passive + context_dim, channels, 3, padding=1),
            activation_named(activation, "ImageCoupling"),
            nn.Conv2d(channels, channels, 1),
            activation_named(activation, "ImageCoupling"),
            last,
        )

    def _halves(self, x: Turned, first: int) -> tuple[Tensor, ...]:
        pixels = self.shape[1] * self.shape[2]
        return x.split_with_sizes((first * pixels, self.dim - first * pixels))

    def _scale_and_shift(self, a: Turned, context: Context) -> tuple[Tensor, Tensor]:
        _, h, w = self.shape
        images = a.mT.reshape(-1, self.passive, h, w)
        if context is not None:
            images = torch.cat([images, context.mT[..., None, None].expand(-1, -1, h, w)], 1)
        r, t = self.net(images).flatten(1).mT.chunk(2)
        return self.clamp * torch.tanh(r / self.clamp), t

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        a, b = self._halves(x, self.passive)
        s, t = self._scale_and_shift(a, context)
        return torch.cat([torch.addcmul(t, b, s.exp()), a]), s.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        b, a = self._halves(z, self.active)
        s, t = self._scale_and_shift(a, context)
        return torch.cat([a, (b - t) * (-s).exp()]), -s.sum(0)
