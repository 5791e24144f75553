"""Data to try things on: made data with a known density, tables that scikit-learn ships, and loaders from a folder."""

from geoflow.datasets.dataset import Dataset
from geoflow.datasets.earth import earth
from geoflow.datasets.folder import adbench, available, mnist, power_subset, uci_regression
from geoflow.datasets.meshes import mesh, read_mesh
from geoflow.datasets.shipped import breast_cancer, digits, wine
from geoflow.datasets.toys import eight_gaussians, ring, spiral, two_moons

__all__ = [
    "Dataset",
    "adbench",
    "available",
    "breast_cancer",
    "digits",
    "earth",
    "eight_gaussians",
    "mesh",
    "mnist",
    "power_subset",
    "read_mesh",
    "ring",
    "spiral",
    "two_moons",
    "uci_regression",
    "wine",
]
