"""Spaces that data live on: points, tangent vectors, distances, geodesics. Knows torch, nothing of geoflow."""

from manifolds.adapters import from_geomstats
from manifolds.euclidean import Euclidean
from manifolds.hyperbolic import Hyperboloid, PoincareBall, ball_to_hyperboloid, hyperboloid_to_ball
from manifolds.manifold import Manifold, Space
from manifolds.meanfree import MeanFree
from manifolds.mesh import Mesh
from manifolds.pca import TangentPCA, tangent_pca
from manifolds.product import Product
from manifolds.rotations import SpecialOrthogonal, quaternion_to_rotation, rotation_to_quaternion
from manifolds.simplex import Simplex
from manifolds.sphere import Sphere, latlon_to_sphere, sphere_to_latlon
from manifolds.torus import Torus, angles_to_embedded, embedded_to_angles

__all__ = [
    "Euclidean",
    "Hyperboloid",
    "Manifold",
    "MeanFree",
    "Mesh",
    "PoincareBall",
    "Product",
    "Simplex",
    "Space",
    "SpecialOrthogonal",
    "Sphere",
    "TangentPCA",
    "Torus",
    "angles_to_embedded",
    "ball_to_hyperboloid",
    "embedded_to_angles",
    "from_geomstats",
    "hyperboloid_to_ball",
    "latlon_to_sphere",
    "quaternion_to_rotation",
    "rotation_to_quaternion",
    "sphere_to_latlon",
    "tangent_pca",
]
