"""The normal density of a tangent space, pushed onto the manifold along geodesics."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context
from geoflow.distributions.curvature import POLE, Radial, radial
from geoflow.distributions.family import ALL, Centered
from geoflow.distributions.law import Law
from geoflow.distributions.normals import LOG_2PI
from geoflow.distributions.parameters import FLOOR, positive, space_of
from geoflow.registry import register
from manifolds import Manifold, Product, Simplex, Torus, series
from manifolds.checks import tracing
from manifolds.shapes import Points, Values


@register
class WrappedNormal(Centered):
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
    Fitted to data (`from_data(x, space=space, directions=False)`), they are the Fréchet mean and the deviations of the
    logarithms there, for rows that stay within the injectivity radius: what lies farther is taken for its nearest image.
    Where exp is one to one and std one number, it is the maximum of the likelihood given the mean.

    Args:
        space: where the points live; with `exp` and `log`.
        mean: a point of it, or a batch of them ``(*batch_shape, ambient_dim)``.
        std: positive, a number or ``(*batch_shape)``; or one for each direction of `space.tangent_basis(mean)`,
            ``(*batch_shape, dim)``.

    >>> from manifolds import Sphere
    >>> north = torch.tensor([0.0, 0.0, 1.0])
    >>> WrappedNormal(Sphere(2), north, 0.1).log_prob(north).detach()
    tensor(2.7673)
    """

    def __init__(self, space: Manifold, mean: Tensor, std: float | Sequence[float] | Tensor) -> None:
        _refuse(space)
        super().__init__(space, mean)
        batch = self.batch_shape
        self.log_std = nn.Parameter(
            positive(std, [batch, (*batch, space.dim)], self.location, "WrappedNormal", "std").log()
        )

    @property
    def std(self) -> Tensor:
        """Standard deviations in the tangent space, ``(*batch_shape)`` or ``(*batch_shape, dim)``."""
        return self.log_std.exp()

    @property
    def _directions(self) -> bool:
        """Whether each direction has its own deviation."""
        return self.log_std.ndim == self.location.ndim

    @property
    def _log_stds(self) -> Tensor:
        """``(*batch_shape, 1)`` or ``(*batch_shape, dim)``."""
        return self.log_std if self._directions else self.log_std[..., None]

    @classmethod
    def _start(
        cls,
        x: Tensor,
        batch: tuple[int, ...],
        space: Manifold | None = None,
        directions: bool = False,
        **options: Any,
    ) -> "WrappedNormal":
        space = space_of(x, space, "WrappedNormal.from_data")
        return cls(space, space._project(x[0]).expand(*batch, -1), x.new_ones(*batch, space.dim) if directions else 1.0)

    @torch.no_grad()
    def _fit(self, x: Tensor, weights: Tensor, bounds: tuple[float, float] = ALL, *, refine: bool = False) -> None:
        mean, pairs = self._recenter(x, weights, refine)
        at = pairs.at(mean)
        if self._directions:
            variance = pairs.mean(self.space._coords(at, self.space._log(at, pairs.x)) ** 2)
        else:
            variance = pairs.mean(self.space._squared_dist(at, pairs.x)) / self.space.dim
        self.log_std.copy_(-0.5 * (1 / variance.clamp_min(FLOOR**2)).clamp(*bounds).log())

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return _log_prob(self.space, self.mean, x, self._log_stds)

    def _draw(self, index: Tensor, generator: Generator | None, attached: bool = False) -> Tensor:
        mean, like = self.mean.reshape(-1, self.dim), self.location
        z = torch.randn(*index.shape, self.space.dim, generator=generator, dtype=like.dtype, device=like.device)
        z = self._log_stds.exp().reshape(len(mean), -1)[index] * z
        return self.space._exp(mean[index], (self.space._tangent_basis(mean)[index] @ z[..., None])[..., 0])

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Of the tangent normal, plus the mean of log |det d exp|: on flat and hyperbolic spaces with one std."""
        known = radial(self.space)
        if known is None or math.isfinite(known.reach) or (self._directions and known.curvature):
            return super().entropy(context)
        total = _log_volume(self._log_stds.double(), known.dim) + 0.5 * known.dim * (1 + LOG_2PI)
        if known.curvature:
            log_std, flat = self.log_std.double(), Radial(known.dim, 0.0, math.inf)
            law = Law(
                lambda r, log_std: flat.log_area(r) - 0.5 * r * r * torch.exp(-2 * log_std),
                *flat.support(log_std.exp()),
                log_std,
            )
            total = total + law.mean(lambda r: known.log_det(r * r))
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


def _log_volume(log_std: Tensor, dim: int) -> Tensor:
    """log of the product of all deviations, one given for all or one for each direction on the last axis."""
    return log_std.sum(-1) if log_std.shape[-1] == dim else dim * log_std[..., 0]


def _log_prob(space: Manifold, mean: Tensor, x: Tensor, log_std: Tensor) -> Tensor:
    """log p on the space, by factors; log_std is ``(*batch, 1)`` or ``(*batch, dim)``."""
    if isinstance(space, Product):
        means, points = space.split(mean), space.split(x)
        sizes = [f.dim for f in space.factors]
        stds = [log_std] * len(sizes) if log_std.shape[-1] == 1 else log_std.split(sizes, -1)
        parts = zip(space.factors, means, points, stds, strict=True)
        return torch.stack([_log_prob(*part) for part in parts]).sum(0)
    n, known = space.dim, radial(space)
    constant = -0.5 * n * LOG_2PI - _log_volume(log_std, n)
    if isinstance(space, Torus):
        angles = space._coords(mean, space._log(mean, x))
        t = (angles[..., None] + _turns(log_std, zero=True)) * torch.exp(-log_std)[..., None]
        return constant + torch.logsumexp(-0.5 * t * t, -1).sum(-1)
    if known is not None and log_std.shape[-1] == 1:
        s = space._squared_dist(mean, x)
        quadratic = s * torch.exp(-2 * log_std[..., 0])
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
    ahead = torch.exp(-2 * log_std[..., 0])  # at the mean itself every direction is as good
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
