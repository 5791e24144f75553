"""Densities that are constant in each cell of a grid: histograms, whose mass, draws and entropy are exact."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from geoflow.density import Context, Density
from geoflow.registry import register
from manifolds import Euclidean, Torus
from manifolds.shapes import Points, Values


@register
class GridDensity(Density):
    """p(x) = value of the cell of x / (Σ values · volume of a cell), on `Torus(d)` or on a box of ℝᵈ.

    Cells are equal boxes: on the torus cell (0, …, 0) begins at the angles −π, on a box at its lowest corner. One cell is
    the uniform density of the box. Nothing in it is learned; where the value is zero, and outside the box, log p is −∞;
    the score is zero.

    Args:
        values: ``(n_1, …, n_d)``, one number a cell, none negative, in any unit; axis j belongs to coordinate j.
        low, high: opposite corners of the box, d numbers each; None for the torus.

    >>> GridDensity(torch.ones(1, 1), [0.0, 0.0], [2.0, 2.0]).log_prob(torch.tensor([1.5, 0.5]))  # -log 4
    tensor(-1.3863)
    """

    values: Tensor

    def __init__(self, values: Any, low: Sequence[float] | None = None, high: Sequence[float] | None = None) -> None:
        super().__init__()
        given = torch.as_tensor(values)
        values = (
            given.detach().clone(memory_format=torch.contiguous_format)
            if given.is_floating_point()
            else given.to(torch.get_default_dtype())
        )
        if not values.ndim or not values.numel() or not bool(((values >= 0) & values.isfinite()).all()):
            raise ValueError(
                "GridDensity expects `values` (n_1, ..., n_d), finite and not negative, got shape "
                f"{tuple(values.shape)}" + (f", least {float(values.min())}." if values.numel() else ".")
            )
        if not float(values.sum()) > 0:
            raise ValueError("GridDensity expects some cell with a value above zero.")
        self.low, self.high = _box(low, high, values.ndim)
        self.space = Torus(values.ndim) if self.low is None else Euclidean(values.ndim)
        self.register_buffer("values", values)

    def _corners(self) -> tuple[Tensor, Tensor, Tensor]:
        """Lowest corner, extent and number of cells of each axis, in float64."""
        d = self.values.ndim
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.values.device}
        low = torch.tensor(self.low or (-math.pi,) * d, **options)
        high = torch.tensor(self.high or (math.pi,) * d, **options)
        return low, high - low, torch.tensor(self.values.shape, **options)

    def _log_cell(self) -> float:
        """Log volume of a cell."""
        _, extent, cells = self._corners()
        return float((extent / cells).log().sum())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        low, extent, cells = self._corners()
        where = (x.double() - low) / extent * cells
        index = torch.remainder(where.floor(), cells) if self.low is None else where.floor().clamp_min(0)
        index = torch.minimum(index, cells - 1).long()  # the upper edge belongs to the last cell
        strides = torch.tensor(self.values.stride(), device=index.device)
        flat = (index * strides).sum(-1)
        value = self.values.flatten().index_select(0, flat.reshape(-1)).reshape(flat.shape)  # as vmap can do it
        if self.low is not None:
            value = torch.where(((where >= 0) & (where <= cells)).all(-1), value, torch.zeros_like(value))
        log_total = self.values.double().sum().log() + self._log_cell()
        return (value.double().log() - log_total).to(x) + 0 * x[..., 0]

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        """A cell by its mass, and a uniform point of it."""
        low, extent, cells = self._corners()
        d, dtype = self.values.ndim, self.values.dtype
        u = torch.rand(*shape, d + 1, generator=generator, dtype=torch.float64, device=low.device)
        heap = self.values.double().flatten().cumsum(0)
        cell = torch.searchsorted(heap, (u[..., 0] * heap[-1]).contiguous(), right=True).clamp(max=len(heap) - 1)
        index = torch.stack(torch.unravel_index(cell, self.values.shape), -1)
        # a few roundings away from the walls, so that no point is cast into a cell of no mass
        margin = (4 * torch.finfo(dtype).eps * cells * (low.abs() + (low + extent).abs()) / extent).clamp_max(0.5)
        inside = margin + (1 - 2 * margin) * u[..., 1:]
        return (low + extent * (index + inside) / cells).to(dtype)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """−Σ P log P over cells of mass P, plus the log volume of a cell."""
        mass = self.values.double() / self.values.double().sum()
        return (self._log_cell() - torch.special.xlogy(mass, mass).sum()).to(self.values)

    def tempered(self, temperature: float) -> Density:
        """Values to the power 1/T."""
        return GridDensity((self.values / self.values.max()) ** (1 / temperature), self.low, self.high)


def _box(low: Any, high: Any, d: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Both corners as numbers, or None twice."""
    if low is None and high is None:
        return None, None
    corners = [() if c is None else tuple(float(v) for v in c) for c in (low, high)]
    if [len(c) for c in corners] != [d, d] or not all(
        a < b and math.isfinite(b - a) for a, b in zip(*corners, strict=True)
    ):
        raise ValueError(
            f"GridDensity expects `low` and `high` as {d} finite numbers each, one an axis of `values`, low below high; "
            f"got {low} and {high}. Leave both out for the torus."
        )
    return corners[0], corners[1]
