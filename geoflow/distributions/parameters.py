"""Parameters of densities on curved spaces, checked where they come in: points of the space, positive numbers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifolds import Manifold

FLOOR = 1e-6
"""Smallest deviation that is fitted to data."""


def points(space: Manifold, mean: Any, who: str, name: str = "mean") -> Tensor:
    """A copy of `mean`, ``(*batch, ambient_dim)``, if it lies on the space."""
    mean = mean if isinstance(mean, Tensor) else torch.as_tensor(mean)
    if not mean.is_floating_point():
        mean = mean.to(torch.get_default_dtype())
    if mean.shape[-1:] != (space.ambient_dim,):
        raise ValueError(
            f"{who} expects `{name}` as a point of {space!r}, shape ({space.ambient_dim},), or a batch of them; got "
            f"{tuple(mean.shape)}."
        )
    inside, why = space.contains(mean.detach(), explain=True)
    if not bool(inside.all()):
        raise ValueError(
            f"{who}: `{name}` is not on {space!r} ({why}): pass space.project({name}) if that is rounding."
        )
    return mean.detach().clone()


def positive(value: Any, shapes: Sequence[tuple[int, ...]], like: Tensor, who: str, name: str) -> Tensor:
    """A copy of `value` as a positive, finite tensor like `like`, of one of the shapes; a number fills the first."""
    given = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    given = given.expand(shapes[0]) if given.ndim == 0 else given
    if given.shape not in shapes:
        wanted = " or ".join(["a number", *(f"shape {shape}" for shape in shapes if shape)])
        raise ValueError(f"{who} expects `{name}` as {wanted}, got shape {tuple(given.shape)}.")
    if not bool(((given > 0) & (given < math.inf)).all()):
        raise ValueError(f"{who} expects a positive, finite `{name}`, got {given.tolist()}.")
    return given.clone(memory_format=torch.contiguous_format)


def space_of(x: Tensor, space: Any, who: str) -> Manifold:
    """`space`, if it is one of points as wide as the rows."""
    if not isinstance(space, Manifold):
        raise TypeError(f"{who} needs space=, the manifold that the rows are points of; got {type(space).__name__}.")
    space._vectors(x, "x", who.rpartition(".")[-1])
    return space
