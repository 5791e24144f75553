"""Flows with an exact change of volume: building blocks, the model, and recipes."""

from geoflow.flows.autoregressive import Autoregressive
from geoflow.flows.circular import CircularSplineCoupling
from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.gin import GIN, gin
from geoflow.flows.identify import (
    ClassMoments,
    class_moments,
    identifiability_gap,
    informative,
    joint_diagonalizer,
    spectrum,
    unexplained,
)
from geoflow.flows.images import AtEachPixel, ImageCoupling, Squeeze, glow_image
from geoflow.flows.linear import LULinear, OrthogonalLinear, Permutation, Reflection, Unimodular
from geoflow.flows.mixed import circular_nsf
from geoflow.flows.on_columns import OnColumns
from geoflow.flows.recipes import maf, nsf, realnvp
from geoflow.flows.spline import SplineCoupling

__all__ = [
    "GIN",
    "AffineCoupling",
    "AtEachPixel",
    "Autoregressive",
    "CircularSplineCoupling",
    "ClassMoments",
    "Flow",
    "ImageCoupling",
    "LULinear",
    "OnColumns",
    "OrthogonalLinear",
    "Permutation",
    "Reflection",
    "SplineCoupling",
    "Squeeze",
    "Unimodular",
    "circular_nsf",
    "class_moments",
    "gin",
    "glow_image",
    "identifiability_gap",
    "informative",
    "joint_diagonalizer",
    "maf",
    "nsf",
    "realnvp",
    "spectrum",
    "unexplained",
]
