"""Where things happened on the Earth, as points on the sphere."""

import os

import numpy as np
import torch
from torch import Tensor

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset
from manifolds import latlon_to_sphere

NAMES = ("volcano", "earthquake", "flood", "fire")


def earth(name: str, folder: str | os.PathLike[str] | None = None, *, distinct: bool = True) -> Dataset:
    """Volcanic eruptions, earthquakes, floods or fires as unit vectors ``(n, 3)``, one row for each distinct place.

    Places repeat (267 of the 827 eruptions are at distinct ones), which would leave test rows among the training rows.
    Published figures keep them: for a comparison take ``distinct=False`` and the rows that `reference_split` names, for
    floods and fires alone, where almost no place repeats (under 0.3 % of the test rows; earthquakes 16 %, eruptions
    73 %).

    Args:
        name: ``"volcano"``, ``"earthquake"``, ``"flood"`` or ``"fire"``.
        folder: where ``manifolds/earth/rfm/<name>.csv`` is; by default GEOFLOW_DATA names it.
        distinct: False gives every row of the file in its order, with the reference split's test rows as `test`.
    """
    if name not in NAMES:
        raise ValueError(f"earth has {', '.join(NAMES)}; got {name!r}.")
    path = shelf._root(folder) / "manifolds" / "earth" / "rfm" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing. It comes from {shelf.SOURCES['manifolds/earth']}.")
    places = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    if distinct:
        x = latlon_to_sphere(torch.as_tensor(np.unique(places, axis=0)))
        return Dataset(f"earth_{name}", x, ("x", "y", "z"), about=f"Places of {name}s, distinct ones.")
    x = latlon_to_sphere(torch.as_tensor(places))
    test = torch.zeros(len(x), dtype=torch.bool)
    test[reference_split(len(x))[2]] = True
    return Dataset(f"earth_{name}", x, ("x", "y", "z"), test=test, about=f"Places of {name}s, with those that repeat.")


def reference_split(n: int, seed: int = 1241735) -> tuple[Tensor, Tensor, Tensor]:
    """Rows for training, validation and test (80, 10 and 10 %), as the code of M-FFF draws them from n rows.

    A permutation by NumPy's default generator with that seed, cut at ⌊0.8 n⌋ and ⌊0.9 n⌋. The code of Riemannian
    score-based models permutes by another generator, with the seed of each run, so its rows are others. [sorrenson2024m]

    >>> [len(rows) for rows in reference_split(4875)]
    [3900, 487, 488]
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(validate.count(n, "reference_split", minimum=1)))
    low, high = int(0.8 * n), int(0.9 * n)
    return order[:low], order[low:high], order[high:]
