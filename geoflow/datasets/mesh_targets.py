"""Draws on a triangle mesh from eigenfunctions of its Laplacian: the more bumps, the higher the number."""

import math
import os

import torch

from geoflow.datasets.dataset import Dataset, drawn
from geoflow.datasets.meshes import mesh
from geoflow.distributions import MeshDensity
from manifolds import Mesh


def mesh_eigen(
    name: str = "bunny_simp",
    k: int = 10,
    n: int = 10_000,
    seed: int = 0,
    area: float | None = 4 * math.pi,
    folder: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Draws of p ∝ max(φ_k, 0), φ_k the eigenfunction number k of a mesh's Laplacian, as points ``(n, 3)`` of it.

    Used to try models on surfaces with k = 10, 50 and 100 on a rabbit (``"bunny_simp"``) and a cow
    (``"spot_simp"``). Mass and entropy are exact: `data.density.entropy()`, and the mesh is `data.density.space`.
    φ_k has a sign of its own: an eigenvector solver's other choice would be the other half of the surface. [chen2024]

    Args:
        name: of the mesh, as `mesh` reads it.
        k: counted from 0, the constant function.
        n: rows.
        seed: of the draws.
        area: what the surface is scaled to, its centre moved to the origin: by default a unit sphere's, which networks
            can see and entropies compare on. None keeps the file's unit and place.
        folder: where ``manifolds/mesh`` is; by default GEOFLOW_DATA names it.
    """
    surface = mesh(name, folder)
    if area is not None:
        surface = _scaled(surface, area)
    density = MeshDensity.eigenfunction(surface, k).to(torch.get_default_dtype())
    about = f"Eigenfunction {k} of the mesh {name}, where it is positive"
    return drawn(f"{name}_{k}", density, ("x", "y", "z"), n, seed, about)


def _scaled(surface: Mesh, area: float) -> Mesh:
    if not area > 0:
        raise ValueError(f"mesh_eigen expects a positive area, or None for the file's own, got {area}.")
    share = surface.areas / surface.areas.sum()
    centre = (share[:, None] * surface.vertices[surface.faces].mean(1)).sum(0)
    return Mesh((surface.vertices - centre) * (area / surface.areas.sum()).sqrt(), surface.faces)
