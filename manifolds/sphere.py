"""The unit sphere Sⁿ in ℝⁿ⁺¹, right from coincident to antipodal points."""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks, series
from manifolds.manifold import Device, Manifold
from manifolds.shapes import Frames, Points, Values


def latlon_to_sphere(x: Tensor) -> Tensor:
    """Latitude and longitude in degrees ``(*batch, 2)``, in this order, as points of S² ``(*batch, 3)``."""
    x = checks.check_vectors(x, 2, "x", "latlon_to_sphere")
    if not checks.tracing(x) and bool((x[..., 0].abs() > 90).any()):
        raise ValueError(
            f"latlon_to_sphere expects latitudes within 90 degrees in the first column, got "
            f"{float(x[..., 0].detach().abs().max()):.4g}: are the columns swapped? Latitude comes first."
        )
    lat, lon = torch.deg2rad(x).unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)


def sphere_to_latlon(x: Tensor) -> Tensor:
    """Points of S² as latitude and longitude in degrees ``(*batch, 2)``; at the poles the longitude is arbitrary."""
    x = Sphere(2)._points(x, "x", "sphere_to_latlon")
    lat = torch.atan2(x[..., 2], series.norm(x[..., :2]))
    return torch.rad2deg(torch.stack([lat, torch.atan2(x[..., 1], x[..., 0])], -1))


class Sphere(Manifold):
    """Sⁿ = {x ∈ ℝⁿ⁺¹ : |x| = 1} with the metric of the embedding; volume 2 π^((n+1)/2) / Γ((n+1)/2).

    dist(x, y) = 2 atan2(|x − y|, |x + y|) keeps its digits where arccos⟨x, y⟩ loses them. At antipodes `log` points
    along the first vector of `tangent_basis`.

    Args:
        n: intrinsic dimension, at least one.

    >>> import torch
    >>> Sphere(2).dist(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    tensor(1.5708)
    """

    def __init__(self, n: int) -> None:
        self._n = checks.check_count(n, "Sphere", "n")

    @property
    def dim(self) -> int:
        return self._n

    @property
    def ambient_dim(self) -> int:
        return self._n + 1

    def config(self) -> dict[str, Any]:
        return {"n": self._n}

    def _project(self, x: Points) -> Points:
        length = series.norm(x)[..., None]
        first = torch.zeros_like(x)
        first[..., 0] = 1
        return torch.where(length == 0, first, x / torch.where(length == 0, torch.ones_like(length), length))

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return v - series.dot(x, v)[..., None] * x

    def _exp(self, x: Points, v: Points) -> Points:
        s = series.dot(v, v)[..., None]
        return series.cos_sqrt(s) * x + series.sinc_sqrt(s) * v

    def _log(self, x: Points, y: Points) -> Points:
        u = self._to_tangent(x, y - x)
        sin2, cos = series.dot(u, u), series.dot(x, y)
        antipodal = (cos < 0) & (sin2 < (8 * torch.finfo(x.dtype).eps) ** 2)
        ratio = series.angle_over_sin(sin2.masked_fill(antipodal, 1.0), cos)
        return torch.where(antipodal[..., None], math.pi * self._first(x), ratio[..., None] * u)

    def _first(self, x: Points) -> Points:
        """The first vector of `tangent_basis` alone."""
        last = x[..., -1:]
        sign = torch.where(last < 0, -torch.ones_like(last), torch.ones_like(last))
        w = torch.cat([x[..., :-1], last + sign], -1)
        e = torch.zeros(self._n + 1, dtype=x.dtype, device=x.device)
        e[0] = 1
        return e - w * (x[..., :1] / (1 + last.abs()))

    def _dist(self, x: Points, y: Points) -> Values:
        return 2 * torch.atan2(series.norm(x - y), series.norm(x + y))

    def _squared_dist(self, x: Points, y: Points) -> Values:
        u = self._to_tangent(x, y - x)
        sin2, cos = series.dot(u, u), series.dot(x, y)
        near = cos > 0
        ratio = series.angle_over_sin(
            torch.where(near, sin2, torch.zeros_like(sin2)), torch.where(near, cos, torch.ones_like(cos))
        )
        far = 2 * torch.atan2(series.norm(x - y), series.norm(x + y))
        return torch.where(near, ratio * ratio * sin2, torch.where(near, torch.ones_like(far), far) ** 2)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        p = x + y  # the reflection v − 2⟨p, v⟩ p/|p|²: an isometry to rounding however near y is to −x
        s = series.dot(p, p)[..., None]
        antipodal = s < (8 * torch.finfo(s.dtype).eps) ** 2
        e = self._first(x)
        across = v - 2 * series.dot(e, v)[..., None] * e
        along = v - 2 * series.dot(p, v)[..., None] / torch.where(antipodal, torch.ones_like(s), s) * p
        return torch.where(antipodal, across, along)

    def _tangent_basis(self, x: Points) -> Frames:
        last = x[..., -1:]
        sign = torch.where(last < 0, -torch.ones_like(last), torch.ones_like(last))
        w = torch.cat([x[..., :-1], last + sign], -1)
        eye = torch.eye(self._n + 1, self._n, dtype=x.dtype, device=x.device)
        return eye - w[..., :, None] * (x[..., None, :-1] / (1 + last.abs())[..., None])

    @property
    def log_volume_total(self) -> float:
        h = (self._n + 1) / 2
        return math.log(2) + h * math.log(math.pi) - math.lgamma(h)

    @property
    def injectivity_radius(self) -> float:
        return math.pi

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points uniform on the sphere: normalised Gaussians."""
        return self._project(torch.randn(*shape, self._n + 1, generator=generator, dtype=dtype, device=device))
