"""Flows of images, scale by scale: points are flat, channels first."""

from geoflow.flows.images.coupling import ImageCoupling
from geoflow.flows.images.glow import glow_image
from geoflow.flows.images.pixels import AtEachPixel
from geoflow.flows.images.squeeze import Squeeze

__all__ = ["AtEachPixel", "ImageCoupling", "Squeeze", "glow_image"]
