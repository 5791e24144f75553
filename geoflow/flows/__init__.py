"""Flows with an exact change of volume: building blocks, the model, and recipes."""

from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.permutation import Permutation
from geoflow.flows.recipes import realnvp
from geoflow.flows.reflection import Reflection

__all__ = ["AffineCoupling", "Flow", "Permutation", "Reflection", "realnvp"]
