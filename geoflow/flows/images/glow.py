"""Multi-scale flows of images."""

from collections.abc import Sequence
from math import prod
from typing import Literal

from geoflow import validate
from geoflow.columns import Standardize
from geoflow.density import Density
from geoflow.distributions import DiagonalNormal
from geoflow.flows.flow import Flow
from geoflow.flows.images.coupling import ImageCoupling
from geoflow.flows.images.pixels import AtEachPixel
from geoflow.flows.images.squeeze import Squeeze, image_shape
from geoflow.flows.linear import LULinear
from geoflow.flows.on_columns import OnColumns
from geoflow.levels import Logit
from geoflow.maps import Bijection, ChainBijection


def glow_image(
    shape: Sequence[int],
    *,
    scales: int = 2,
    depth: int = 4,
    channels: int = 32,
    squeeze: Literal["haar", "space"] = "haar",
    alpha: float = 0.05,
    context: int = 0,
    clamp: float = 2.0,
    activation: str = "relu",
    base: Density | None = None,
) -> Flow:
    """Glow for flat images (C, H, W) with values in [0, 1]; `Dequantized(glow_image(...), 256)` takes grey levels.

    After a logit, each scale halves the sides, standardises every channel and applies `depth` pairs of a learned linear
    map of the channels and a coupling of them. Half of the channels then go to the base, with wavelets the differences
    of finest detail, and the next scale works on the others. [kingma2018, dinh2017]

    Args:
        shape: (C, H, W), channels first; the sides are divisible by two `scales` times.
        scales: how often the sides are halved.
        depth: couplings at each scale.
        channels: of the hidden layers of their networks.
        squeeze: "haar", wavelets of neighbouring pixels, or "space", the pixels themselves.
        alpha: of the `Logit`; figures of different ones do not compare.
        context: width of a float condition, 0 for none. Conditions are used as given: scale them to about one.
        clamp, activation: of the couplings (see `ImageCoupling`).
        base: the latent density; None is a learned mean and deviation for each number.

    >>> glow_image((1, 8, 8)).sample(3).shape
    torch.Size([3, 64])
    """
    shape = image_shape(shape, "glow_image")
    scales, depth = validate.count(scales, "glow_image", "scales", 1), validate.count(depth, "glow_image", "depth", 1)
    if squeeze not in ("haar", "space"):
        raise ValueError(f"glow_image expects squeeze='haar' or 'space', got {squeeze!r}.")
    if shape[1] % 2**scales or shape[2] % 2**scales:
        raise ValueError(f"glow_image: sides of {shape[1]} × {shape[2]} cannot be halved {scales} times.")

    def scale(shape: tuple[int, int, int], more: int) -> Bijection:
        first = Squeeze(shape, squeeze == "haar")
        c, h, w = first.squeezed
        parts: list[Bijection] = [first, AtEachPixel(Standardize(c), (c, h, w))]
        for _ in range(depth):
            # It starts as the identity, for couplings exchange halves: permutations would let some channels wait for long,
            # which cost 0.17 bits a pixel in a short run on MNIST.
            parts.append(AtEachPixel(LULinear(c, range(c)), (c, h, w)))
            parts.append(ImageCoupling((c, h, w), context, channels, activation, clamp))
        if more:
            half = c // 2 * h * w
            parts.append(OnColumns(scale((c // 2, h, w), more - 1), c * h * w, range(half)))
        return ChainBijection(*parts)

    dim = prod(shape)
    bijection = ChainBijection(Logit(dim, alpha), scale(shape, scales - 1))
    return Flow(bijection, base if base is not None else DiagonalNormal(dim))
