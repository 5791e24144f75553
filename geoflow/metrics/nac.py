"""Normalised absolute correlation: how far from independent, to second order, latent dimensions are."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoflow import validate


class NAC(NamedTuple):
    """Result of `nac`.

    Attributes:
        value: mean |correlation| over pairs of active dimensions.
        floor: what independent dimensions give at so many rows, √(2 / πN).
        rows: N.
        active: number of dimensions that were paired.
    """

    value: float
    floor: float
    rows: int
    active: int

    def __str__(self) -> str:
        return f"NAC {self.value:.4f} (floor {self.floor:.4f} at N = {self.rows:,}; {self.active} active dimensions)"


def nac(z: Any, active: Any = None) -> NAC:
    """mean_{i ≠ j} |corr(zᵢ, zⱼ)| over the active dimensions of codes, with the value that mere chance gives.

    Correlations of N independent rows scatter by 1/√N, so their absolute values average to √(2 / πN): .025 at a thousand
    rows, .008 at ten thousand. Figures near the floor tell models apart no more; give N with every figure. Zero
    correlation is no independence. [mondal2020]

    Args:
        z: codes ``(n, m)``, two rows or more.
        active: which dimensions count, as a mask ``(m,)`` of truth values or as indices, `active_dimensions(...).active`
            for instance; None takes all.

    Raises:
        ValueError: fewer than two active dimensions, or a constant one among them, which has no correlation.

    >>> t = torch.linspace(-1, 1, 101)
    >>> nac(torch.stack([t, t**2, -t], 1)).value  # 0, 0 and 1
    0.33...
    """
    who = "nac"
    x = validate.table(z, who, "z", 2, dtype=torch.float64, device="cpu")
    chosen = torch.arange(x.shape[1]) if active is None else _indices(active, x.shape[1], who)
    x = x[:, chosen]
    if x.shape[1] < 2:
        raise ValueError(f"{who} is a mean over pairs: it needs two active dimensions, got {x.shape[1]}.")
    constant = chosen[x.amax(0) == x.amin(0)].tolist()
    if constant:
        raise ValueError(
            f"{who}: dimension {', '.join(map(str, constant[:5]))} of z is constant, so it has no correlation: leave it out "
            "by active=, see active_dimensions."
        )
    size = x.shape[1]
    off = ~torch.eye(size, dtype=torch.bool)
    value = float(torch.corrcoef(x.T).abs()[off].mean())
    return NAC(value, math.sqrt(2 / (math.pi * len(x))), len(x), size)


def _indices(active: Any, size: int, who: str) -> Tensor:
    """Numbers of the active dimensions, of a mask or of indices."""
    chosen = torch.as_tensor(active, device="cpu")
    if chosen.dtype == torch.bool:
        if chosen.shape != (size,):
            raise ValueError(
                f"{who} expects active as a mask ({size},) or indices, got {tuple(chosen.shape)} truth values."
            )
        return chosen.nonzero().flatten()
    if chosen.is_floating_point() or chosen.ndim != 1:
        raise ValueError(
            f"{who} expects active as truth values or indices of dimensions, got {chosen.dtype} {tuple(chosen.shape)}: "
            "pass mask >= 0.5, for instance."
        )
    if len(chosen.unique()) < len(chosen) or bool(((chosen < 0) | (chosen >= size)).any()):
        raise ValueError(
            f"{who} expects different indices in 0 ... {size - 1} as active, got {chosen.tolist()[:20]}: pass a mask of "
            "truth values, or torch.as_tensor(mask).bool() of one of zeros and ones."
        )
    return chosen.long()
