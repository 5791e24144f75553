"""Shares that sum to one."""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks
from manifolds.flat import Flat
from manifolds.manifold import Device
from manifolds.shapes import Frames, Points
from manifolds.sphere import Sphere


def contrasts(count: int, like: Tensor) -> Tensor:
    """Orthonormal columns ``(count, count − 1)`` that each sum to zero."""
    even = torch.full((count,), 1 / math.sqrt(count), dtype=like.dtype, device=like.device)
    return Sphere(count - 1)._tangent_basis(even)


class Simplex(Flat):
    """{x ∈ ℝᵏ : x ≥ 0, Σ x = 1}, flat, with the metric of the embedding; dimension k − 1, volume √k / (k − 1)!.

    It has an edge: geodesics are straight and end there, so `exp` refuses a velocity that leads out. Densities are with
    respect to the induced volume, √k times Lebesgue's in the first k − 1 shares (what scipy's Dirichlet refers to).

    Args:
        k: number of shares, at least two.

    >>> import torch
    >>> Simplex(3).project(torch.tensor([0.9, 0.5, -0.2]))
    tensor([0.7000, 0.3000, 0.0000])
    """

    def __init__(self, k: int) -> None:
        self._k = checks.check_count(k, "Simplex", "k", 2)

    @property
    def dim(self) -> int:
        return self._k - 1

    @property
    def ambient_dim(self) -> int:
        return self._k

    def config(self) -> dict[str, Any]:
        return {"k": self._k}

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """x + v; refuses a vector that does not sum to zero, or that leads out over the edge."""
        x, v = self._points(x, "x", "exp"), self._tangent(x, v, "exp")
        y = x + v
        if not checks.tracing(y) and bool((y < -checks.tolerance(y)).any()):
            raise ValueError(
                f"{self!r}.exp: v leads out of the simplex, to a share of {float(y.detach().min()):.2g}: take a shorter "
                "v, or `retract`, which stops at the edge."
            )
        return y

    def _project(self, x: Points) -> Points:
        """The nearest point: max(x − τ, 0) with the τ that makes it sum to one."""
        down = x.sort(-1, descending=True).values
        rank = torch.arange(1, self._k + 1, dtype=x.dtype, device=x.device)
        tau = (down.cumsum(-1) - 1) / rank
        last = ((down > tau).sum(-1, keepdim=True) - 1).clamp_min(0)
        return (x - tau.gather(-1, last)).clamp_min(0)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return v - v.mean(-1, keepdim=True) + torch.zeros_like(x)

    def _tangent_basis(self, x: Points) -> Frames:
        return contrasts(self._k, x).expand(*x.shape[:-1], self._k, self._k - 1)

    @property
    def log_volume_total(self) -> float:
        return 0.5 * math.log(self._k) - math.lgamma(self._k)

    @property
    def injectivity_radius(self) -> float:
        return math.inf

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points uniform on the simplex: normalised exponentials."""
        waits = -torch.log1p(-torch.rand(*shape, self._k, generator=generator, dtype=dtype, device=device))
        return waits / waits.sum(-1, keepdim=True)
