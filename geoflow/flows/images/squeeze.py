"""Images with half the sides and four times the channels: neighbours side by side, or their Haar wavelets."""

from collections.abc import Sequence

from geoflow import validate
from geoflow.density import Context
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.registry import register

WAVELETS = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))
"""Twice the orthonormal Haar wavelets of 2 × 2 pixels, row by row; as a matrix it is symmetric."""


@register
class Squeeze(FeaturesFirst):
    """Flat images (C, H, W) → (4C, H/2, W/2); volume preserving.

    The four pixels of each 2 × 2 block become channels, those of the same place together: first the upper left ones of
    all C channels, then the upper right ones. With `haar` they are first turned into their mean and three differences,
    each times two, an orthonormal change of basis: the first C channels are then a coarser image. [dinh2017]

    Args:
        shape: (C, H, W), channels first, with even sides.
        haar: whether to take wavelets.

    >>> import torch
    >>> Squeeze((1, 2, 2), haar=True).encode(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([ 5., -1., -2.,  0.])
    """

    def __init__(self, shape: Sequence[int], haar: bool = False) -> None:
        c, h, w = image = image_shape(shape, "Squeeze")
        if h % 2 or w % 2:
            raise ValueError(f"Squeeze expects even sides, got {h} × {w}: pad the images, or squeeze fewer times.")
        super().__init__(c * h * w)
        self.shape, self.haar = image, haar

    @property
    def squeezed(self) -> tuple[int, int, int]:
        """The shape of what it encodes to."""
        c, h, w = self.shape
        return 4 * c, h // 2, w // 2

    def _wavelets(self, x: Turned) -> Turned:
        """Change of basis of the four places, its own inverse."""
        return (0.5 * x.new_tensor(WAVELETS) @ x.reshape(4, -1)).reshape(x.shape) if self.haar else x

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        c, h, w = self.shape
        blocks = x.reshape(c, h // 2, 2, w // 2, 2, -1).permute(2, 4, 0, 1, 3, 5)
        return self._wavelets(blocks.reshape(self.dim, -1)), None

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        c, h, w = self.shape
        blocks = self._wavelets(z).reshape(2, 2, c, h // 2, w // 2, -1).permute(2, 3, 0, 4, 1, 5)
        return blocks.reshape(self.dim, -1), None


def image_shape(shape: Sequence[int], who: str) -> tuple[int, int, int]:
    """(C, H, W), if it is that."""
    if len(shape) != 3:
        raise ValueError(f"{who} expects a shape (channels, height, width), got {tuple(shape)}.")
    c, h, w = (validate.count(n, who, "shape", 1) for n in shape)
    return c, h, w
