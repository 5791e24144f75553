"""Densities in closed form, fitted directly or used as bases of flows."""

from geoflow.distributions.conditional import ClassConditional
from geoflow.distributions.dirichlet import Dirichlet
from geoflow.distributions.family_mixture import Mixture
from geoflow.distributions.grid import GridDensity
from geoflow.distributions.igso3 import IsotropicGaussianSO3
from geoflow.distributions.log_normal import LogNormal
from geoflow.distributions.meanfree_normal import MeanFreeNormal
from geoflow.distributions.mesh_density import MeshDensity
from geoflow.distributions.mixture import GaussianMixture
from geoflow.distributions.normals import DiagonalNormal, StandardNormal
from geoflow.distributions.power_spherical import PowerSpherical
from geoflow.distributions.product import ProductDensity
from geoflow.distributions.riemannian_normal import RiemannianNormal
from geoflow.distributions.student_t import StudentT
from geoflow.distributions.uniform import Uniform
from geoflow.distributions.von_mises import VonMises
from geoflow.distributions.von_mises_fisher import VonMisesFisher
from geoflow.distributions.wrapped import WrappedDensity
from geoflow.distributions.wrapped_normal import WrappedNormal

__all__ = [
    "ClassConditional",
    "DiagonalNormal",
    "Dirichlet",
    "GaussianMixture",
    "GridDensity",
    "IsotropicGaussianSO3",
    "LogNormal",
    "MeanFreeNormal",
    "MeshDensity",
    "Mixture",
    "PowerSpherical",
    "ProductDensity",
    "RiemannianNormal",
    "StandardNormal",
    "StudentT",
    "Uniform",
    "VonMises",
    "VonMisesFisher",
    "WrappedDensity",
    "WrappedNormal",
]
