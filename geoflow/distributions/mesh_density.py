"""Densities on a triangle mesh that are linear in each face: targets whose mass, draws and entropy are exact."""

from typing import Any

import torch
from torch import Generator, Tensor

from geoflow.density import Context, Density
from geoflow.registry import register
from manifolds import Mesh
from manifolds.shapes import Points, Values


@register
class MeshDensity(Density):
    """p(x) = h(x) / Z with h linear in each face between heights at the vertices; Z = Σ area · mean height, exactly.

    Nothing in it is learned. Where h = 0, log p is −∞ and the score is zero.

    Args:
        mesh: the surface.
        heights: ``(V,)``, one number a vertex, none negative, in any unit.
    """

    heights: Tensor

    def __init__(self, mesh: Mesh, heights: Any) -> None:
        super().__init__()
        if not isinstance(mesh, Mesh):
            raise TypeError(f"MeshDensity expects a Mesh, got {type(mesh).__name__}.")
        given = torch.as_tensor(heights)
        if given.shape != (len(mesh.vertices),):
            raise ValueError(
                f"MeshDensity expects `heights` of shape ({len(mesh.vertices)},), one a vertex; got {tuple(given.shape)}."
            )
        heights = given.detach().clone() if given.is_floating_point() else given.to(torch.get_default_dtype())
        if not bool(((heights >= 0) & heights.isfinite()).all()):
            raise ValueError(
                "MeshDensity expects `heights` that are finite and not negative: take the positive part, h.clamp(min=0)."
            )
        self.space = mesh
        self.register_buffer("heights", heights)
        if not float(self._masses().sum()) > 0:
            raise ValueError("MeshDensity expects some height above zero at a vertex of a face.")

    @classmethod
    def eigenfunction(cls, mesh: Mesh, k: int) -> "MeshDensity":
        """p ∝ max(φ_k, 0) at the vertices, φ_k the eigenfunction of the Laplacian counted from 0; more bumps, larger k."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 0:
            raise ValueError(f"MeshDensity.eigenfunction expects k as a whole number from 0, got {k!r}.")
        return cls(mesh, mesh.eigenfunctions(k + 1)[1][:, k].clamp(min=0))

    @property
    def mesh(self) -> Mesh:
        """The surface: `space` by its constructor's name."""
        assert isinstance(self.space, Mesh)
        return self.space

    def _corner_heights(self) -> Tensor:
        return self.heights.double()[self.mesh.faces.to(self.heights.device)]

    def _masses(self) -> Tensor:
        """Unnormalised mass of each face, in float64: sums over thousands of faces are."""
        return self._corner_heights().mean(-1) * self.mesh.areas.to(self.heights.device)

    def log_normalizer(self) -> Tensor:
        """log Z, in float64."""
        return self._masses().sum().log()

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        face, weights = self.mesh._barycentric(x)
        height = (weights * self.mesh._of(self.heights[self.mesh.faces.to(self.heights.device)], face, x)).sum(-1)
        there = height > 0
        log_height = torch.where(there, height, torch.ones_like(height)).log()
        log_p = log_height - self.log_normalizer().to(x)
        return torch.where(there, log_p, torch.full_like(log_p, -torch.inf))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        """A face by its mass; in it, the mixture of Dirichlet(1 + e_i) with the shares of the corners' heights."""
        h = self.heights
        options: dict[str, Any] = {"dtype": torch.float64, "device": h.device}
        heap = self._masses().cumsum(0)
        u = torch.rand(*shape, 2, generator=generator, **options)
        face = torch.searchsorted(heap, (u[..., 0] * heap[-1]).contiguous(), right=True).clamp(max=len(heap) - 1)
        shares = self._corner_heights()[face].cumsum(-1)
        corner = (u[..., 1:] * shares[..., 2:] >= shares[..., :2]).sum(-1)
        gamma = torch.empty(*shape, 3, **options).exponential_(generator=generator)
        extra = torch.empty(*shape, 1, **options).exponential_(generator=generator)
        gamma = gamma.scatter_add(-1, corner[..., None], extra)
        return self.mesh.place(face, gamma).to(h.dtype)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log Z − Σ area · mean(h log h) / Z; the mean over a triangle in closed form."""
        areas, masses = self.mesh.areas.to(self.heights.device), self._masses()
        z = masses.sum()
        h = self._corner_heights() / self.heights.double().max()
        mean = mean_h_log_h(h) * self.heights.double().max() + masses / areas * self.heights.double().max().log()
        return (z.log() - (areas * mean).sum() / z).to(self.heights)


def mean_h_log_h(h: Tensor) -> Tensor:
    """The mean of h log h over triangles on which h is linear, from the heights ``(..., 3)`` at their corners.

    Twice the second divided difference of Φ(h) = h³ log h / 6 − 5 h³ / 36, whose second derivative is h log h
    (Hermite–Genocchi). Where heights are within a factor of two the differences would cancel, and ten Gauss points a
    direction give the same to rounding.
    """
    a, b, c = h.sort(-1).values.unbind(-1)

    def first(low: Tensor, high: Tensor) -> Tensor:
        apart = high > 2 * low
        exact = (_phi(high) - _phi(low)) / torch.where(apart, high - low, torch.ones_like(low))
        u = low[..., None] + (high - low)[..., None] * nodes
        return torch.where(apart, exact, ((u * u) * (torch.log(u.clamp_min(1e-300)) / 2 - 0.25) * weights).sum(-1))

    nodes, weights = gauss(10, h)
    apart = c > 2 * a
    exact = 2 * (first(b, c) - first(a, b)) / torch.where(apart, c - a, torch.ones_like(a))
    s, t = nodes[:, None], nodes
    u = a[..., None, None] + s * ((b - a)[..., None, None] + t * (c - b)[..., None, None])
    near = 2 * (torch.xlogy(u, u) * s * weights[:, None] * weights).sum((-2, -1))
    return torch.where(apart, exact, near)


def gauss(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre quadrature on [0, 1]."""
    import numpy as np

    nodes, weights = (torch.as_tensor(a).to(like) for a in np.polynomial.legendre.leggauss(n))
    return (nodes + 1) / 2, weights / 2


def _phi(h: Tensor) -> Tensor:
    return h * h * (torch.xlogy(h, h) / 6 - 5 * h / 36)
