"""Monotone curves of one coordinate, chosen by a few numbers: what couplings and autoregressive layers are made of."""

from geoflow.flows.curves.affine import Affine
from geoflow.flows.curves.curve import Curve
from geoflow.flows.curves.rational_quadratic import RationalQuadratic

__all__ = ["Affine", "Curve", "RationalQuadratic"]
