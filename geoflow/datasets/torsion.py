"""Angles of molecules' backbones: proteins' torsion densities on T², whose entropy is known, and RNA's rows on T⁷."""

import gzip
import os
from typing import Literal, get_args

import numpy as np
import torch

from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset, drawn
from geoflow.distributions import GridDensity
from manifolds import Torus

Kind = Literal["general", "glycine", "proline"]
NUCLEOTIDE = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "chi")


def ramachandran(
    kind: Kind = "general",
    n: int = 10_000,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    *,
    frequencies: bool = False,
) -> Dataset:
    """Draws of a density of torsion angles (φ, ψ) of amino acids in proteins, radians on `Torus(2)`.

    The Top500 tables give a number in [0, 1] for each cell of 2°, taken as a density that is constant in cells, so that
    its entropy is exact: 1.6288 nats for the general case (not glycine, proline, or before proline), 2.3887 for glycine,
    0.5483 for proline; the uniform density has 3.6758. Proline's is zero on most of the torus. [lovell2003]

    The number is the share of residues at places of lower density, by which structures are validated: it rises with
    their frequency and is flatter, with broad peaks that are easier to learn. ``frequencies=True`` undoes it: the
    differences of sorted shares are the cells' masses, smoothed by isotonic regression since they rise with the share.
    Entropies are then 0.9252, 1.9507 and 0.1142, like the published scores of models on the residues themselves.

    Args:
        kind: ``"general"``, ``"glycine"`` or ``"proline"``.
        n: rows.
        seed: of the draws.
        frequencies: whether to sample as often as proteins do.
        folder: where ``manifolds/torus/ramachandran_<kind>.data.gz`` is; by default GEOFLOW_DATA names it.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"ramachandran has {', '.join(get_args(Kind))}; got {kind!r}.")
    path = shelf._existing("manifolds/torus", f"ramachandran_{kind}.data.gz", folder)
    with gzip.open(path, "rt") as file:
        phi, psi, value = np.loadtxt(file).T
    side = round(len(value) ** 0.5)
    centres = -180 + (np.arange(side) + 0.5) * 360 / side
    if not (np.allclose(phi, np.repeat(centres, side)) and np.allclose(psi, np.tile(centres, side))):
        raise ValueError(f"{path}: expected the centres of a square grid of cells over [-180, 180]°, row by row.")
    value = _masses(value) if frequencies else value
    density = GridDensity(torch.as_tensor(value.reshape(side, side), dtype=torch.get_default_dtype()))
    by = "frequency" if frequencies else "share of less frequent places"
    about = f"Top500 torsion angles, {kind}, by {by} on a grid of {side} × {side}"
    return drawn(f"ramachandran_{kind}", density, ("phi", "psi"), n, seed, about)


def _masses(share: np.ndarray) -> np.ndarray:
    """Mass of each cell from the share of all mass that is at lower density, its own included."""
    from sklearn.isotonic import isotonic_regression

    levels, place, cells = np.unique(share, return_inverse=True, return_counts=True)
    rising = isotonic_regression(np.diff(levels, prepend=0.0) / cells, sample_weight=cells)
    return np.asarray(rising)[place]


def rna(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """9,478 nucleotides of RNA by their seven torsion angles, radians on `Torus(7)`; no density is known.

    Args:
        folder: where ``manifolds/torus/rna.tsv`` is; by default GEOFLOW_DATA names it.
    """
    path = shelf._existing("manifolds/torus", "rna.tsv", folder)
    degrees = np.loadtxt(path, delimiter="\t", usecols=range(2, 9), ndmin=2)
    x = Torus(7).project(torch.deg2rad(torch.as_tensor(degrees)))
    return Dataset("rna", x, NUCLEOTIDE, about="Torsion angles of RNA, degrees in the file.")
