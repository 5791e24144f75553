"""Several spaces side by side."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks, series
from manifolds.manifold import Device, Manifold, named
from manifolds.shapes import Frames, Points, Values


class Product(Manifold):
    """M₁ × M₂ × … with |v|² = Σ |v_i|²: points are the factors' points one after the other.

    >>> from manifolds import Sphere, Torus
    >>> Product(Sphere(2), Torus(1))
    Product(Sphere(n=2), Torus(n=1, embedded=False))
    """

    def __init__(self, *factors: Manifold) -> None:
        wrong = [type(f).__name__ for f in factors if not isinstance(f, Manifold)]
        if wrong:
            raise TypeError(f"Product expects spaces such as Product(Sphere(2), Euclidean(1)), got {', '.join(wrong)}.")
        if not factors:
            raise ValueError("Product expects at least one factor.")
        self.factors = factors
        self._sizes = [f.ambient_dim for f in factors]

    @property
    def dim(self) -> int:
        return sum(f.dim for f in self.factors)

    @property
    def ambient_dim(self) -> int:
        return sum(self._sizes)

    def config(self) -> dict[str, Any]:
        return {"factors": [{"space": type(f).__name__, "given": f.config()} for f in self.factors]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Product":
        return cls(*(named(f["space"], f["given"]) for f in config["factors"]))

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The factors' points of ``(*batch, ambient_dim)``, or their vectors at them."""
        return checks.check_vectors(x, self.ambient_dim, "x", f"{self!r}.split").split(self._sizes, -1)

    def _each(self, verb: Callable[..., Tensor], *points: Tensor) -> list[Tensor]:
        """What `verb(factor, parts...)` gives for every factor."""
        parts = (p.split(self._sizes, -1) for p in points)
        return [verb(*group) for group in zip(self.factors, *parts, strict=True)]

    def _joined(self, verb: Callable[..., Tensor], *points: Tensor) -> Tensor:
        """The factors' answers in one vector; factors that ignore a point may leave its batch shape out."""
        answers = self._each(verb, *points)
        batch = torch.broadcast_shapes(*(a.shape[:-1] for a in answers))
        return torch.cat([a.expand(*batch, a.shape[-1]) for a in answers], -1)

    def _project(self, x: Points) -> Points:
        return self._joined(lambda f, a: f._project(a), x)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return self._joined(lambda f, a, u: f._to_tangent(a, u), x, v)

    def _exp(self, x: Points, v: Points) -> Points:
        return self._joined(lambda f, a, u: f._exp(a, u), x, v)

    def _log(self, x: Points, y: Points) -> Points:
        return self._joined(lambda f, a, b: f._log(a, b), x, y)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        return self._joined(lambda f, a, b, u: f._transport(a, b, u), x, y, v)

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        return self._joined(lambda f, a, g: f._egrad_to_rgrad(a, g), x, grad)

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return sum(self._each(lambda f, a, b, c: f._inner(a, b, c), x, u, v), torch.zeros(()).to(x))

    def _norm(self, x: Points, v: Points) -> Values:
        return series.sqrt(self._inner(x, v, v))

    def _squared_dist(self, x: Points, y: Points) -> Values:
        return sum(self._each(lambda f, a, b: f._squared_dist(a, b), x, y), torch.zeros(()).to(x))

    def _dist(self, x: Points, y: Points) -> Values:
        return series.sqrt(self._squared_dist(x, y))

    def _tangent_basis(self, x: Points) -> Frames:
        blocks = self._each(lambda f, a: f._tangent_basis(a), x)
        rows, before = [], 0
        for block, factor in zip(blocks, self.factors, strict=True):
            rows.append(torch.nn.functional.pad(block, (before, self.dim - before - factor.dim)))
            before += factor.dim
        return torch.cat(rows, -2)

    def _log_volume(self, x: Points) -> Values:
        return sum(self._each(lambda f, a: f._log_volume(a), x), torch.zeros(()).to(x))

    @property
    def log_volume_total(self) -> float:
        return sum(f.log_volume_total for f in self.factors)

    @property
    def injectivity_radius(self) -> float:
        return min(f.injectivity_radius for f in self.factors)

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """Whether every factor contains its part ``(*batch)``; with ``explain`` also which does not, and how far off."""
        parts = self._vectors(x, "x", "contains").split(self._sizes, -1)
        found = [f.contains(p, explain=True) for f, p in zip(self.factors, parts, strict=True)]
        inside = torch.stack([ok for ok, _ in found]).all(0)
        if not explain:
            return inside
        wrong = [f"factor {i}: {why}" for i, (ok, why) in enumerate(found) if not bool(ok.all())]
        return inside, "; ".join(wrong) if wrong else f"every point is on {self!r}"

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points, uniform in each factor; raises where a factor has infinite volume."""
        return torch.cat([f._sample_uniform(shape, generator, dtype, device) for f in self.factors], -1)
