"""Spaces that data live on: points, tangent vectors, distances, geodesics. Knows torch, nothing of geoflow."""

from manifolds.euclidean import Euclidean
from manifolds.manifold import Manifold, Space
from manifolds.meanfree import MeanFree
from manifolds.pca import TangentPCA, tangent_pca
from manifolds.product import Product
from manifolds.simplex import Simplex
from manifolds.sphere import Sphere, latlon_to_sphere, sphere_to_latlon
from manifolds.torus import Torus, angles_to_embedded, embedded_to_angles

__all__ = [
    "Euclidean",
    "Manifold",
    "MeanFree",
    "Product",
    "Simplex",
    "Space",
    "Sphere",
    "TangentPCA",
    "Torus",
    "angles_to_embedded",
    "embedded_to_angles",
    "latlon_to_sphere",
    "sphere_to_latlon",
    "tangent_pca",
]
