"""Data to try things on: made data with a known density, tables that scikit-learn ships, and loaders from a folder."""

from geoflow.datasets.bonds import bond_orders, stability
from geoflow.datasets.dataset import Dataset
from geoflow.datasets.earth import earth, reference_split
from geoflow.datasets.energies import double_well_energy, lennard_jones_energy, sample_boltzmann
from geoflow.datasets.entropy import entropy
from geoflow.datasets.folder import adbench, available, fashion_mnist, mnist, power_subset, uci_regression
from geoflow.datasets.hyperbolic import hyperbolic
from geoflow.datasets.images import celeba, cifar10, frey_faces, olivetti
from geoflow.datasets.jet_images import jet_images, jet_mass
from geoflow.datasets.jets import jet_mixture, jets
from geoflow.datasets.latent_toy import latent_toy
from geoflow.datasets.mesh_targets import mesh_eigen
from geoflow.datasets.meshes import mesh, read_mesh
from geoflow.datasets.mixed_sources import MixedSources, glow_sources, sheared_sources
from geoflow.datasets.molecules import dw4, lj13, qm9
from geoflow.datasets.patches import bsds300
from geoflow.datasets.rotations import so3_mixture
from geoflow.datasets.shipped import breast_cancer, digits, wine
from geoflow.datasets.simulators import Task, task
from geoflow.datasets.torsion import ramachandran, rna
from geoflow.datasets.toys import eight_gaussians, four_gaussians, noisy_sine, ring, spiral, two_moons

__all__ = [
    "Dataset",
    "MixedSources",
    "Task",
    "adbench",
    "available",
    "bond_orders",
    "breast_cancer",
    "bsds300",
    "celeba",
    "cifar10",
    "digits",
    "double_well_energy",
    "dw4",
    "earth",
    "eight_gaussians",
    "entropy",
    "fashion_mnist",
    "four_gaussians",
    "frey_faces",
    "glow_sources",
    "hyperbolic",
    "jet_images",
    "jet_mass",
    "jet_mixture",
    "jets",
    "latent_toy",
    "lennard_jones_energy",
    "lj13",
    "mesh",
    "mesh_eigen",
    "mnist",
    "noisy_sine",
    "olivetti",
    "power_subset",
    "qm9",
    "ramachandran",
    "read_mesh",
    "reference_split",
    "ring",
    "rna",
    "sample_boltzmann",
    "sheared_sources",
    "so3_mixture",
    "spiral",
    "stability",
    "task",
    "two_moons",
    "uci_regression",
    "wine",
]
