"""Spaces that data live on: points, tangent vectors, distances, geodesics. Knows torch, nothing of geoflow."""

from manifolds.euclidean import Euclidean
from manifolds.manifold import Manifold, Space
from manifolds.sphere import Sphere

__all__ = ["Euclidean", "Manifold", "Space", "Sphere"]
