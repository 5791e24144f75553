"""A learned turn of all coordinates, orthogonal to rounding whatever training does to it."""

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.registry import register


@register
class OrthogonalLinear(FeaturesFirst):
    """z = Q x, Q = H_k … H_1 a product of Householder reflections H_i = 1 − 2 v_i v_iᵀ/|v_i|²: log det = 0.

    With as many reflections as coordinates Q can be any orthogonal matrix of determinant (−1)^k. It starts as a random
    one, which leaves a standard normal as it was. Between couplings it lets every coordinate meet every other, without
    the change of volume of `LULinear`. The product is taken at once: with rows v_i of length one in V,

        Q = 1 − Vᵀ T⁻ᵀ V,   T = ½ 1 + the strict upper triangle of V Vᵀ,

    orthogonal to rounding in every dtype, with no step that projects back. Cost: dim³ a call for Q, dim² a row either
    way; decode is Qᵀ. [tomczak2016]

    Args:
        dim: number of coordinates.
        reflections: k; None is `dim`.
        generator: of the first vectors, normal ones (the global generator if None).
    """

    def __init__(self, dim: int, reflections: int | None = None, generator: Generator | None = None) -> None:
        super().__init__(dim)
        wanted = dim if reflections is None else reflections
        self.reflections = validate.count(wanted, "OrthogonalLinear", "reflections", 1)
        self.vectors = nn.Parameter(torch.randn(self.reflections, dim, generator=generator))

    def matrix(self) -> Tensor:
        """Q ``(dim, dim)``."""
        v = self.vectors / self.vectors.norm(dim=-1, keepdim=True)
        eye = torch.eye(len(v), dtype=v.dtype, device=v.device)
        t = (v @ v.mT).triu(1) + 0.5 * eye
        inner = torch.linalg.solve_triangular(t.mT, v, upper=False)
        return torch.eye(self.dim, dtype=v.dtype, device=v.device) - v.mT @ inner

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.matrix() @ x, None

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.matrix().mT @ z, None
