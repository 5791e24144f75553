"""Where things happened on the Earth, as points on the sphere."""

import os

import numpy as np
import torch

from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset
from manifolds import latlon_to_sphere

NAMES = ("volcano", "earthquake", "flood", "fire")


def earth(name: str, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Volcanic eruptions, earthquakes, floods or fires as unit vectors ``(n, 3)``, one row for each distinct place.

    Places repeat (267 of the 827 eruptions are at distinct ones), which would leave test rows among the training rows.

    Args:
        name: ``"volcano"``, ``"earthquake"``, ``"flood"`` or ``"fire"``.
        folder: where ``manifolds/earth/rfm/<name>.csv`` is; by default GEOFLOW_DATA names it.
    """
    if name not in NAMES:
        raise ValueError(f"earth has {', '.join(NAMES)}; got {name!r}.")
    path = shelf._root(folder) / "manifolds" / "earth" / "rfm" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing. It comes from {shelf.SOURCES['manifolds/earth']}.")
    places = np.unique(np.loadtxt(path, delimiter=",", skiprows=1), axis=0)
    x = latlon_to_sphere(torch.as_tensor(places))
    return Dataset(f"earth_{name}", x, ("x", "y", "z"), about=f"Places of {name}s, distinct ones.")
