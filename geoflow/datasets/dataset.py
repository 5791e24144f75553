"""What every loader gives: rows, what their columns are called, and what else is known about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Generator, Tensor

from geoflow import validate
from geoflow.density import Density
from manifolds import Manifold


@dataclass(frozen=True)
class Dataset:
    """Rows ``(n, columns)`` with names.

    Attributes:
        name: short name.
        x: the rows, a float tensor.
        columns: one name a column.
        labels: one whole number a row ``(n,)``, or None.
        density: the density the rows were drawn from, for made data; None where nobody knows.
        test: mask of the rows that papers hold out ``(n,)``, or None.
        space: where the rows live; None is flat space.
        types: what kind each particle of a row is, whole numbers as atomic numbers ``(n, particles)``, or None.
        observables: what else is known of each row, by name, one number a row ``(n,)``; empty where nothing is.
        about: where it comes from and what was done to it, in a sentence.
    """

    name: str
    x: Tensor
    columns: tuple[str, ...]
    labels: Tensor | None = None
    density: Any = None
    test: Tensor | None = None
    space: Manifold | None = None
    types: Tensor | None = None
    observables: Mapping[str, Tensor] = field(default_factory=dict)
    about: str = ""

    def __len__(self) -> int:
        return len(self.x)

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, with the labels as a last column if there are any."""
        import pandas

        frame = pandas.DataFrame(self.x.numpy(), columns=np.asarray(self.columns))
        return frame if self.labels is None else frame.assign(label=self.labels.numpy())


def drawn(name: str, density: Density, columns: Sequence[str], n: int, seed: int, about: str) -> Dataset:
    """`n` draws of a known density, which is frozen, repeated by their seed alone."""
    n = validate.count(n, name, "n", 1)
    density.requires_grad_(False)
    x = density.sample(n, generator=Generator().manual_seed(seed))
    return Dataset(name, x, tuple(columns), density=density, about=f"{about}; {n} draws (seed {seed}).")
