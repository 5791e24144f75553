"""One bijection of the channels, at every pixel: convolutions of size one, and scales of whole channels."""

from collections.abc import Sequence

from torch import Tensor

from geoflow.density import Context, given
from geoflow.flows.images.squeeze import image_shape
from geoflow.maps import Bijection, FeaturesFirst, Turned, Volume
from geoflow.registry import register

PIXELS = 2**20
"""Pixels that `prepare` and `finish` look at, of images evenly spaced."""


@register
class AtEachPixel(FeaturesFirst):
    """Applies a bijection of C channels to every pixel of flat images (C, H, W); its log-dets are summed over pixels.

    With `LULinear` this is Glow's invertible 1 × 1 convolution, with `Standardize` one factor a channel. [kingma2018]

    Args:
        bijection: of C coordinates.
        shape: (C, H, W), channels first.
    """

    def __init__(self, bijection: Bijection, shape: Sequence[int]) -> None:
        image = image_shape(shape, "AtEachPixel")
        super().__init__(image[0] * image[1] * image[2])
        if bijection.dim != image[0]:
            raise ValueError(
                f"AtEachPixel: a {type(bijection).__name__} of {bijection.dim} coordinates for {image[0]} channels."
            )
        self.bijection, self.shape = bijection, image
        self.context_dim, self.classes = bijection.context_dim, bijection.classes
        self._pixels = image[1] * image[2]

    def _at_each(self, verb: str, x: Turned, context: Context) -> tuple[Turned, Volume]:
        n = x.shape[-1]
        if context is not None:
            context = context[..., None, :].expand(*context.shape[:-1], self._pixels, n).flatten(-2)
        z, volume = getattr(self.bijection, verb)(x.reshape(self.shape[0], -1), given(self.bijection, context))
        if volume is not None:
            volume = volume * self._pixels if volume.dim() == 0 else volume.reshape(self._pixels, n).sum(0)
        return z.reshape(self.dim, n), volume

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._at_each("_encode_turned", x, context)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self._at_each("_decode_turned", z, context)

    def _some(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pixels as rows ``(·, C)``, with the contexts of their images."""
        every = -(-len(x) * self._pixels // PIXELS)
        x, context = x[::every], None if context is None else context[::every].repeat_interleave(self._pixels, 0)
        return x.reshape(len(x), self.shape[0], -1).mT.reshape(-1, self.shape[0]), given(self.bijection, context)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """The bijection's own, on about a million pixels."""
        self.bijection.prepare(*self._some(x, context))

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """The bijection's own, on about a million pixels."""
        self.bijection.finish(*self._some(x, context))
