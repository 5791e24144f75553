"""Aliases for the shapes of tensors; tests check them at run time, elsewhere they are documentation."""

from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "*#batch ambient"]
"""Points of a space, or vectors at them, in ambient coordinates; every leading shape is a batch."""

Coordinates = Float[Tensor, "*#batch dim"]
"""Coordinates of tangent vectors in an orthonormal basis."""

Frames = Float[Tensor, "*#batch ambient dim"]
"""Orthonormal tangent bases, one column a direction."""

Values = Float[Tensor, "*#batch"]
"""One number a point."""
