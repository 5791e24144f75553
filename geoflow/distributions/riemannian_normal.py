"""The normal density of Riemannian distance: the most spread one with a given mean squared distance."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.curvature import Law, Radial, around, attach, invert, log_integral, mean_of, radial
from geoflow.distributions.parameters import FLOOR, center, point, positive, rows_on
from geoflow.registry import register
from manifolds import Manifold
from manifolds.shapes import Points, Values


@register
class RiemannianNormal(Density):
    """log p(x) = −dist(mean, x)²/2 std² − log Z(std), on spheres, hyperbolic spaces, SO(2), SO(3) and flat spaces.

    Z = ∫ area(r) exp(−r²/2 std²) dr over distances r, by 200 nodes in float64, differentiable in std; the areas are
    ω sinⁿ⁻¹ r, ω (sinh(√c r)/√c)ⁿ⁻¹, 16π sin²(r/2) and ω rⁿ⁻¹. Draws invert the distribution function of r, without a
    loop over them. A sphere's std may grow beyond bounds, where the density is uniform. [pennec2006, said2014]

    `mean` and `std` are learned: the first as a vector that is projected onto the space, the second by its logarithm.

    Args:
        space: where the points live.
        mean: a point of it.
        std: a positive number; on curved spaces the mean squared distance is not dim · std².

    >>> from manifolds import Sphere
    >>> north = torch.tensor([0.0, 0.0, 1.0])
    >>> RiemannianNormal(Sphere(2), north, 0.1).log_prob(north).detach()
    tensor(2.7706)
    """

    def __init__(self, space: Manifold, mean: Tensor, std: float | Tensor) -> None:
        super().__init__()
        if not isinstance(space, Manifold) or radial(space) is None:
            raise ValueError(
                f"RiemannianNormal needs a space of constant curvature (a sphere, a hyperbolic or flat space, SO(2) or "
                f"SO(3)), got {space!r}: use WrappedNormal, or a ProductDensity of one for each factor."
            )
        self.space = space
        self.location = nn.Parameter(point(space, mean, "RiemannianNormal"))
        self.log_std = nn.Parameter(positive(std, (0,), self.location, "RiemannianNormal", "std").log())

    @property
    def mean(self) -> Tensor:
        """The most likely point."""
        return self.space._project(self.location)

    @property
    def std(self) -> Tensor:
        """The parameter of the exponent."""
        return self.log_std.exp()

    @property
    def _radial(self) -> Radial:
        known = radial(self.space)
        assert known is not None
        return known

    @classmethod
    def from_data(
        cls, x: Any, context: Any = None, space: Manifold | None = None, **options: Any
    ) -> "RiemannianNormal":
        """The maximum of the likelihood: the Fréchet mean of the rows, and the std whose mean squared distance is theirs.

        Args:
            x: rows ``(n, ambient_dim)``.
            context: none.
            space: what they are points of.
        """
        x = rows_on(space, x, "RiemannianNormal.from_data")
        assert space is not None
        fitted = cls(space, space._project(x[0]), 1.0)
        fitted.prepare(x)
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit, its std found by bisection; on compact spaces at most 100."""
        mean = center(self.space, x)
        target = self.space._squared_dist(mean, x.double()).mean().clamp_min(self._radial.dim * FLOOR**2)
        flat = (target / self._radial.dim).sqrt()
        low, high = 0.5 * torch.log(flat**2 / (1 + target)) - 3, torch.log(flat) + 6
        if math.isfinite(self._radial.reach):
            high = torch.maximum(low, high.clamp_max(math.log(100.0)))
        for _ in range(60):
            middle = (low + high) / 2
            short = self._mean_square(middle) < target
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        self.location.copy_(mean)
        self.log_std.copy_((low + high) / 2)

    def _law(self, log_std: Tensor) -> Law:
        """Log density of distances, without its constant, and its support."""
        precision = torch.exp(-2 * log_std)[..., None]
        return lambda r: self._radial.log_area(r) - 0.5 * r * r * precision, *self._radial.support(log_std.exp())

    def _mean_square(self, log_std: Tensor) -> Tensor:
        """E dist²."""
        return mean_of(torch.square, *self._law(log_std))

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_z = log_integral(*self._law(self.log_std.double())).to(x)
        return -0.5 * self.space._squared_dist(self.mean, x) * torch.exp(-2 * self.log_std) - log_z

    def _draw(self, shape: tuple[int, ...], generator: Generator | None, attached: bool) -> Tensor:
        law = self._law(self.log_std.double())
        u = torch.rand(math.prod(shape), generator=generator, dtype=torch.float64, device=self.log_std.device)
        r = invert(*law, u)
        r = attach(*law, r) if attached else r
        return around(self.space, self.mean, r.reshape(shape), generator)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=False)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw(shape, generator, attached=True)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """log Z + E dist²/2 std²."""
        log_std = self.log_std.double()
        scaled = 0.5 * self._mean_square(log_std) * torch.exp(-2 * log_std)
        return (log_integral(*self._law(log_std)) + scaled).to(self.log_std)

    def tempered(self, temperature: float) -> Density:
        """The same with std √T times as large."""
        return RiemannianNormal(self.space, self.mean.detach(), self.std.detach() * math.sqrt(temperature))
