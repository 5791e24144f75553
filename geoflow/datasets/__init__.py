"""Data to try things on: made data with a known density, tables that scikit-learn ships, and loaders from a folder."""

from geoflow.datasets.dataset import Dataset
from geoflow.datasets.folder import adbench, available, mnist, power_subset, uci_regression
from geoflow.datasets.shipped import breast_cancer, digits, wine
from geoflow.datasets.toys import eight_gaussians, ring, spiral, two_moons

__all__ = [
    "Dataset",
    "adbench",
    "available",
    "breast_cancer",
    "digits",
    "eight_gaussians",
    "mnist",
    "power_subset",
    "ring",
    "spiral",
    "two_moons",
    "uci_regression",
    "wine",
]
