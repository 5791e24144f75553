"""A fixed linear map that changes no volume."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.registry import register


@register
class Unimodular(FeaturesFirst):
    """z = A x with |det A| = 1, so log det = 0; A is the identity until `prepare` or `set_matrix` sets it.

    Args:
        dim: number of coordinates.
        start: "identity", or "principal" for the principal axes of the rows that `prepare` is given, those of largest
            variance first.
    """

    matrix: Tensor
    inverse: Tensor

    def __init__(self, dim: int, start: Literal["identity", "principal"] = "identity") -> None:
        super().__init__(dim)
        if start not in ("identity", "principal"):
            raise ValueError(f"Unimodular expects start='identity' or 'principal', got {start!r}.")
        self.start = start
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("inverse", torch.eye(dim))

    def set_matrix(self, matrix: Tensor) -> None:
        """Take a matrix ``(dim, dim)`` over, scaled to determinant one; its inverse is found in float64.

        Raises:
            ValueError: it has another shape, or no inverse.
        """
        if matrix.shape != (self.dim, self.dim):
            raise ValueError(f"Unimodular expects a matrix {(self.dim, self.dim)}, got {tuple(matrix.shape)}.")
        log_volume = torch.linalg.slogdet(matrix.double()).logabsdet
        if not bool(log_volume.isfinite()):
            raise ValueError("Unimodular expects a matrix that has an inverse; this one's determinant is zero.")
        matrix = matrix.double() * (-log_volume / self.dim).exp()
        self.matrix.copy_(matrix)
        self.inverse.copy_(torch.linalg.inv(matrix))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Unimodular":
        """Where dtypes change: what float32 rounded is made right in float64."""
        super()._apply(fn, recurse)
        self.set_matrix(self.matrix)
        return self

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Find the principal axes of rows ``(n, dim)``, if that is the start."""
        if self.start == "principal":
            self.set_matrix(torch.linalg.eigh(torch.cov(x.double().T)).eigenvectors.mT.flip(0))

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.matrix @ x, None

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.inverse @ z, None
