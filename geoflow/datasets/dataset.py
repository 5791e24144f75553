"""What every loader gives: rows, what their columns are called, and what else is known about them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


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
        about: where it comes from and what was done to it, in a sentence.
    """

    name: str
    x: Tensor
    columns: tuple[str, ...]
    labels: Tensor | None = None
    density: Any = None
    test: Tensor | None = None
    about: str = ""

    def __len__(self) -> int:
        return len(self.x)

    def frame(self) -> Any:
        """The rows as a pandas DataFrame, with the labels as a last column if there are any."""
        import pandas

        frame = pandas.DataFrame(self.x.numpy(), columns=np.asarray(self.columns))
        return frame if self.labels is None else frame.assign(label=self.labels.numpy())
