"""The normal density of a tangent space, pushed onto the manifold along geodesics."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.distributions.curvature import POLE, Radial, mean_of, radial
from geoflow.distributions.normals import LOG_2PI
from geoflow.distributions.parameters import FLOOR, center, point, positive, rows_on
from geoflow.registry import register
from manifolds import Manifold, Product, Simplex, Torus, series
from manifolds.checks import tracing
from manifolds.shapes import Points, Values


@register
class WrappedNormal(Density):
    """x = exp_mean(v), v normal in the tangent space at `mean`: log p(x) = log N(v; 0, std²) − log |det d exp at v|.

    |det d exp| is (sin r/r)ⁿ⁻¹ on spheres, (2 sin(r/2)/r)² on SO(3), (sinh √c r/(√c r))ⁿ⁻¹ on hyperbolic spaces and 1 on
    flat ones, with r = |v|; products multiply. Elsewhere it comes from derivatives of exp, one backward pass for each
    coordinate; exp must be one to one there, as for SPD matrices, and an injectivity radius that is finite or not known
    is refused. [nagano2019, mardia1999]

    On spheres, SO(2), SO(3) and tori all v that lead to x are summed (r + 2πk along the geodesic, or each angle by
    itself), ⌈1 + 4 std/π⌉ turns either way, eight in compiled code, so that the mass is one for every std. On a sphere
    of two dimensions or more these geodesics meet again at the antipode and, after a turn, at the mean, on SO(3) at the
    mean: there the density has poles, integrable and cut off at a distance of 1e-6, which show where std is large.

    `mean` and `std` are learned: the first as a vector that is projected onto the space, the second by its logarithm.

    Args:
        space: where the points live; with `exp` and `log`.
        mean: a point of it.
        std: one positive number, or one for each direction of `space.tangent_basis(mean)`, ``(dim,)``.

    >>> from manifolds import Sphere
    >>> north = torch.tensor([0.0, 0.0, 1.0])
    >>> WrappedNormal(Sphere(2), north, 0.1).log_prob(north).detach()
    tensor(2.7673)
    """

    def __init__(self, space: Manifold, mean: Tensor, std: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        _refuse(space)
        self.space = space
        self.location = nn.Parameter(point(space, mean, "WrappedNormal"))
        self.log_std = nn.Parameter(positive(std, (0, space.dim), self.location, "WrappedNormal", "std").log())

    @property
    def mean(self) -> Tensor:
        """The point of the space around which it is wrapped."""
        return self.space._project(self.location)

    @property
    def std(self) -> Tensor:
        """Standard deviations in the tangent space, a number or ``(dim,)``."""
        return self.log_std.exp()

    @classmethod
    def from_data(
        cls, x: Any, context: Any = None, space: Manifold | None = None, directions: bool = False, **options: Any
    ) -> "WrappedNormal":
        """Fitted to rows of points: their Fréchet mean, and the deviations of their logarithms there.

        For rows that stay within the injectivity radius; what lies farther is taken for its nearest image. Where exp is
        one to one and std one number, it is the maximum of the likelihood given the mean.

        Args:
            x: rows ``(n, ambient_dim)``.
            context: none.
            space: what they are points of.
            directions: one deviation for each direction of the tangent basis, instead of one for all.
        """
        x = rows_on(space, x, "WrappedNormal.from_data")
        assert space is not None
        start = x.new_ones(space.dim) if directions else 1.0
        fitted = cls(space, space._project(x[0]), start)
        fitted.prepare(x)
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the closed-form fit."""
        mean = center(self.space, x)
        square = self.space._coords(mean, self.space._log(mean, x.double())) ** 2
        variance = square.mean(0) if self.log_std.ndim else square.mean()
        self.location.copy_(mean)
        self.log_std.copy_(variance.clamp_min(FLOOR**2).log() / 2)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return _log_prob(self.space, self.mean, x, self.log_std)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        like = self.location
        z = torch.randn(*shape, self.space.dim, generator=generator, dtype=like.dtype, device=like.device)
        basis = self.space._tangent_basis(self.mean)
        return self.space._exp(self.mean, (basis @ (self.std * z)[..., None])[..., 0])

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Of the tangent normal, plus the mean of log |det d exp|: on flat and hyperbolic spaces with one std."""
        known = radial(self.space)
        if known is None or math.isfinite(known.reach) or (self.log_std.ndim and known.curvature):
            return super().entropy(context)
        log_std = self.log_std.double()
        total = log_std.sum() if log_std.ndim else known.dim * log_std
        total = total + 0.5 * known.dim * (1 + LOG_2PI)
        if known.curvature:
            flat, v = Radial(known.dim, 0.0, math.inf), torch.exp(2 * log_std)[..., None]
            law = lambda r: flat.log_area(r) - 0.5 * r * r / v  # noqa: E731
            total = total + mean_of(lambda r: known.log_det(r * r), law, *flat.support(log_std.exp()))
        return total.to(self.log_std)


def _refuse(space: Manifold) -> None:
    """Raise where the mass could not be one."""
    if isinstance(space, Product):
        for factor in space.factors:
            _refuse(factor)
    elif isinstance(space, Simplex):
        raise ValueError(f"WrappedNormal would leave {space!r} over its edge: use Dirichlet(concentration).")
    elif radial(space) is None and not isinstance(space, Torus) and space.injectivity_radius != math.inf:
        raise ValueError(
            f"WrappedNormal on {space!r} needs the sum over all geodesics to a point, which is known here for spheres, "
            "SO(2), SO(3), tori and their products: use one of these, Uniform(space), or a free-form flow."
        )


def _log_prob(space: Manifold, mean: Tensor, x: Tensor, log_std: Tensor) -> Tensor:
    """log p on the space, by factors; log_std is a number or ``(dim,)``."""
    if isinstance(space, Product):
        means, points = space.split(mean), space.split(x)
        sizes = [f.dim for f in space.factors]
        stds = log_std.split(sizes) if log_std.ndim else [log_std] * len(sizes)
        parts = zip(space.factors, means, points, stds, strict=True)
        return torch.stack([_log_prob(*part) for part in parts]).sum(0)
    n, known = space.dim, radial(space)
    constant = -0.5 * n * LOG_2PI - (log_std.sum() if log_std.ndim else n * log_std)
    if isinstance(space, Torus):
        angles = space._coords(mean, space._log(mean, x))
        t = (angles[..., None] + _turns(log_std, zero=True)) * torch.exp(-log_std)[..., None]
        return constant + torch.logsumexp(-0.5 * t * t, -1).sum(-1)
    if known is not None and not log_std.ndim:
        s = space._squared_dist(mean, x)
        quadratic = s * torch.exp(-2 * log_std)
    else:
        v = space._coords(mean, space._log(mean, x))
        s, quadratic = (v * v).sum(-1), ((v * torch.exp(-log_std)) ** 2).sum(-1)
    if known is None:
        return constant - 0.5 * quadratic - _log_det(space, mean, v)
    nearest = -0.5 * quadratic - known.log_det(s)
    if not math.isfinite(known.reach):
        return constant + nearest
    # not logaddexp, whose second derivative is not finite where the terms are far apart
    return constant + torch.logsumexp(torch.stack([nearest, _going_round(known, s, quadratic, log_std)], -1), -1)


def _turns(log_std: Tensor, zero: bool) -> Tensor:
    """2πk, k = −K … K."""
    count = 8 if tracing(log_std) else math.ceil(1 + 4 * math.exp(float(log_std.detach().max())) / math.pi)
    k = torch.arange(1, count + 1, dtype=log_std.dtype, device=log_std.device)
    return 2 * math.pi * torch.cat([-k, k.new_zeros(int(zero)), k])


def _going_round(known: Radial, s: Tensor, quadratic: Tensor, log_std: Tensor) -> Tensor:
    """Log of the summed terms of r + 2πk, k ≠ 0, along the geodesic to x, without the normal's constant."""
    zero = s == 0
    ahead = torch.exp(-2 * log_std.reshape(-1)[0])  # at the mean itself every direction is as good
    precision = torch.where(zero, ahead, quadratic / torch.where(zero, torch.ones_like(s), s))
    r = series.sqrt(s)
    t = r[..., None] + _turns(log_std, zero=False)
    terms = -0.5 * t * t * precision[..., None]
    if known.dim > 1:
        rate = math.sqrt(known.curvature)
        narrow = ((rate * r).sin() / rate).clamp_min(POLE)
        terms = terms + (known.dim - 1) * (t.abs().log() - narrow[..., None].log())
    return torch.logsumexp(terms, -1)


def _log_det(space: Manifold, mean: Tensor, v: Tensor) -> Tensor:
    """log |det d exp| at coordinates v: one pass through exp, and a backward pass for each coordinate of the space.

    Forward derivatives would be fewer; but theirs of eigh, which geomstats uses, have no finite derivatives in turn.
    """
    basis = space._tangent_basis(mean)
    x, pull_back = torch.func.vjp(lambda c: space._exp(mean, (basis @ c[..., None])[..., 0]), v)  # type: ignore[misc]
    rows = [pull_back(e.expand_as(x))[0] for e in torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)]
    columns = torch.stack(rows, -1)  # (*batch, dim, ambient_dim): where the directions of v lead
    # by the Gram matrix, which needs no basis at x
    gram = space._inner(x[..., None, None, :], columns[..., :, None, :], columns[..., None, :, :])
    return 0.5 * torch.linalg.slogdet(gram)[1]
