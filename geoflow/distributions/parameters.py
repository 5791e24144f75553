"""Parameters of densities on curved spaces, checked where they come in: points of the space, positive numbers."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from manifolds import Manifold

FLOOR = 1e-6
"""Smallest deviation that is fitted to data."""


def point(space: Manifold, mean: Any, who: str, name: str = "mean") -> Tensor:
    """A copy of `mean` if it is one point of the space."""
    mean = mean if isinstance(mean, Tensor) else torch.as_tensor(mean)
    if not mean.is_floating_point():
        mean = mean.to(torch.get_default_dtype())
    if mean.shape != (space.ambient_dim,):
        raise ValueError(
            f"{who} expects `{name}` as one point of {space!r}, shape ({space.ambient_dim},); got {tuple(mean.shape)}."
        )
    inside, why = space.contains(mean.detach(), explain=True)
    if not bool(inside):
        raise ValueError(
            f"{who}: `{name}` is not on {space!r} ({why}): pass space.project({name}) if that is rounding."
        )
    return mean.detach().clone()


def positive(
    value: float | Sequence[float] | Tensor, sizes: tuple[int, ...], like: Tensor, who: str, name: str
) -> Tensor:
    """`value` as a positive, finite tensor like `like`: a number where 0 is in `sizes`, a vector of the other lengths."""
    given = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach().clone()
    size = 0 if given.ndim == 0 else given.shape[0] if given.ndim == 1 else -1
    if size not in sizes:
        wanted = " or ".join("a number" if s == 0 else f"a vector of length {s}" for s in sizes)
        raise ValueError(f"{who} expects `{name}` as {wanted}, got shape {tuple(given.shape)}.")
    if not bool(((given > 0) & (given < math.inf)).all()):
        raise ValueError(f"{who} expects a positive, finite `{name}`, got {given.tolist()}.")
    return given


def rows_on(space: Any, x: Any, who: str, minimum: int = 2) -> Tensor:
    """A table of points of `space`, to fit a density to."""
    if not isinstance(space, Manifold):
        raise TypeError(f"{who} needs space=, the manifold that the rows are points of; got {type(space).__name__}.")
    return space._points(validate.table(x, who, minimum=minimum), "x", who.rpartition(".")[-1])


@torch.no_grad()
def center(space: Manifold, x: Tensor) -> Tensor:
    """The Fréchet mean of rows, in float64. Densities symmetric around their mean have it there, so no warning of far
    points is passed on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return space.mean(space._project(x.detach().double()))
