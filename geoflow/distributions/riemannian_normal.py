"""The normal density of Riemannian distance: the most spread one with a given mean squared distance."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.curvature import Radial, around, radial
from geoflow.distributions.family import ALL, Centered
from geoflow.distributions.law import Law
from geoflow.distributions.parameters import FLOOR, positive, space_of
from geoflow.registry import register
from manifolds import Manifold
from manifolds.shapes import Points, Values


@register
class RiemannianNormal(Centered):
    """log p(x) = −dist(mean, x)²/2 std² − log Z(std), on spheres, hyperbolic spaces, SO(2), SO(3) and flat spaces.

    Z = ∫ area(r) exp(−r²/2 std²) dr over distances r, by 200 nodes in float64, differentiable in std; the areas are
    ω sinⁿ⁻¹ r, ω (sinh(√c r)/√c)ⁿ⁻¹, 16π sin²(r/2) and ω rⁿ⁻¹. Draws invert the distribution function of r, without a
    loop over them. A sphere's std may grow beyond bounds, where the density is uniform. [pennec2006, said2014]

    `mean` and `std` are learned: the first as a vector that is projected onto the space, the second by its logarithm.
    Fitted to data, they are the Fréchet mean and the std whose mean squared distance is the rows', found by bisection:
    the maximum of the likelihood. On compact spaces std is at most 100.

    Args:
        space: where the points live.
        mean: a point of it, or a batch of them ``(*batch_shape, ambient_dim)``.
        std: a positive number, or one for each of the batch; on curved spaces the mean squared distance is not dim · std².

    >>> from manifolds import Sphere
    >>> north = torch.tensor([0.0, 0.0, 1.0])
    >>> RiemannianNormal(Sphere(2), north, 0.1).log_prob(north).detach()
    tensor(2.7706)
    """

    def __init__(self, space: Manifold, mean: Tensor, std: float | Sequence[float] | Tensor) -> None:
        if not isinstance(space, Manifold) or radial(space) is None:
            raise ValueError(
                f"RiemannianNormal needs a space of constant curvature (a sphere, a hyperbolic or flat space, SO(2) or "
                f"SO(3)), got {space!r}: use WrappedNormal, or a ProductDensity of one for each factor."
            )
        super().__init__(space, mean)
        self.log_std = nn.Parameter(positive(std, [self.batch_shape], self.location, "RiemannianNormal", "std").log())

    @property
    def std(self) -> Tensor:
        """The parameter of the exponent, ``(*batch_shape)``."""
        return self.log_std.exp()

    @property
    def _radial(self) -> Radial:
        known = radial(self.space)
        assert known is not None
        return known

    @classmethod
    def _start(
        cls, x: Tensor, batch: tuple[int, ...], space: Manifold | None = None, **options: Any
    ) -> "RiemannianNormal":
        space = space_of(x, space, "RiemannianNormal.from_data")
        return cls(space, space._project(x[0]).expand(*batch, -1), 1.0)

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        mean, pairs = self._recenter(x, weights, refine)
        target = pairs.mean(self.space._squared_dist(pairs.at(mean), pairs.x)).clamp_min(self._radial.dim * FLOOR**2)
        flat = (target / self._radial.dim).sqrt()
        low, high = 0.5 * torch.log(flat**2 / (1 + target)) - 3, torch.log(flat) + 6
        if math.isfinite(self._radial.reach):
            high = torch.maximum(low, high.clamp_max(math.log(100.0)))
        log_std = ((low + high) / 2).clamp_max(torch.log(flat))
        for _ in range(
            60
        ):  # Newton's steps in logarithms, d E r² / d log std = Var r² / std², between ends that close in
            law = self._law(log_std)
            found = law.mean(torch.square)
            low, high = torch.where(found < target, log_std, low), torch.where(found < target, high, log_std)
            slope = (law.mean(lambda r: r**4) - found**2) * torch.exp(-2 * log_std) / found
            step = torch.log(target / found) / slope
            inside = (log_std + step > low) & (log_std + step < high)
            log_std = torch.where(inside, log_std + step, (low + high) / 2)
            if bool((inside & (step.abs() < 1e-7) | (high - low < 1e-14)).all()):
                break
        self.log_std.copy_(-0.5 * torch.exp(-2 * log_std).clamp(*bounds).log())

    def _law(self, log_std: Tensor) -> Law:
        """Of distances."""

        def f(r: Tensor, log_std: Tensor) -> Tensor:
            return self._radial.log_area(r) - 0.5 * r * r * torch.exp(-2 * log_std)

        return Law(f, *self._radial.support(log_std.exp()), log_std)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_z = self._law(self.log_std.double()).log_integral().to(x)
        return -0.5 * self.space._squared_dist(self.mean, x) * torch.exp(-2 * self.log_std) - log_z

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        u = torch.rand(index.shape, generator=generator, dtype=torch.float64, device=index.device)
        r = self._law(self.log_std.double()).draw(index, u, attached)
        return around(self.space, self.mean.reshape(-1, self.dim), r, index, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log Z + E dist²/2 std²."""
        log_std = self.log_std.double()
        law = self._law(log_std)
        return (law.log_integral() + 0.5 * law.mean(torch.square) * torch.exp(-2 * log_std)).to(self.log_std)

    def tempered(self, temperature: float) -> Density:
        """The same with std √T times as large."""
        return RiemannianNormal(self.space, self.mean.detach(), self.std.detach() * math.sqrt(temperature))
