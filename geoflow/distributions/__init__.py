"""Densities in closed form, fitted directly or used as bases of flows."""

from geoflow.distributions.conditional import ClassConditional
from geoflow.distributions.mixture import GaussianMixture
from geoflow.distributions.normals import DiagonalNormal, StandardNormal

__all__ = ["ClassConditional", "DiagonalNormal", "GaussianMixture", "StandardNormal"]
