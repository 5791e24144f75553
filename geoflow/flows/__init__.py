"""Flows with an exact change of volume: building blocks, the model, and recipes."""

from geoflow.flows.autoregressive import Autoregressive
from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.linear import LULinear
from geoflow.flows.permutation import Permutation
from geoflow.flows.recipes import maf, nsf, realnvp
from geoflow.flows.reflection import Reflection
from geoflow.flows.spline import SplineCoupling

__all__ = [
    "AffineCoupling",
    "Autoregressive",
    "Flow",
    "LULinear",
    "Permutation",
    "Reflection",
    "SplineCoupling",
    "maf",
    "nsf",
    "realnvp",
]
