"""What bends: the metric tensor λ² g₀ of a Fermat space, and its sectional curvature."""

import torch
from torch import Tensor

from geoflow.distances.paths.steps import lowered
from geoflow.distances.weight import ROWS, Weight
from manifolds import Hyperboloid, Manifold, PoincareBall, Product, SpecialOrthogonal, Sphere, Torus
from manifolds.flat import Flat


@torch.no_grad()
def metric_tensor(weight: Weight, x: Tensor) -> Tensor:
    """G ``(B, ambient, ambient)`` with uᵀ G v = λ² ⟨u, v⟩₀ for tangent u and v, and G n = 0 for what is normal."""
    covectors = lowered(weight.space, x, weight.space._tangent_basis(x))
    return torch.exp(2 * weight.log(x))[:, None, None] * (covectors.mT @ covectors)


def sectional(weight: Weight, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """K ``(B,)`` of the planes that orthonormal u and v span at x, for the conformal metric e^{2f} g₀ with f = log λ:

    K = e^{−2f} (K₀ − f_uu − f_vv + f_u² + f_v² − |∇f|²)

    f_uu is the second derivative along the underlying space's geodesic, by autograd: log_prob is differentiated twice.
    """
    space, parts = weight.space, []
    for a, b, c in zip(x.split(ROWS), u.split(ROWS), v.split(ROWS), strict=True):
        log_weight = weight.log(a)
        f_u, f_uu = _along(weight, a, b)
        f_v, f_vv = _along(weight, a, c)
        with torch.enable_grad():
            point = a.detach().requires_grad_()
            (slope,) = torch.autograd.grad(weight._log_prob(point).sum(), point)
        f_steepest = weight.power * space._norm(a, space._egrad_to_rgrad(a, slope))
        own = space._inner(a, riemann(space, a, b, c), b)
        parts.append(torch.exp(-2 * log_weight) * (own - f_uu - f_vv + f_u**2 + f_v**2 - f_steepest**2))
    return torch.cat(parts) if parts else x.new_zeros(0)


def _along(weight: Weight, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of log λ at the start of the underlying space's geodesic from x with velocity u."""
    with torch.enable_grad():
        t = torch.zeros_like(x[:, 0]).requires_grad_()
        value = weight._log_prob(weight.space._exp(x.detach(), t[:, None] * u.detach()))
        (first,) = torch.autograd.grad(value.sum(), t, create_graph=True)
        second = torch.zeros_like(t)
        if first.requires_grad:  # else log p is linear along u
            second = torch.autograd.grad(first.sum(), t, allow_unused=True)[0]
            second = torch.zeros_like(t) if second is None else second
    return -weight.power * first.detach(), -weight.power * second.detach()


def riemann(space: Manifold, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """R(u, v) v of the underlying space, whose inner product with u is K₀ |u ∧ v|².

    Raises:
        NotImplementedError: the curvature of such a space is not known here.
    """
    if isinstance(space, (Flat, Torus)):
        return torch.zeros_like(u + v)
    if isinstance(space, (Sphere, PoincareBall, Hyperboloid)):
        k = 1.0 if isinstance(space, Sphere) else -space.curvature
        return k * (space._inner(x, v, v)[..., None] * u - space._inner(x, u, v)[..., None] * v)
    if isinstance(space, Product):
        x, u, v = torch.broadcast_tensors(x, u, v)
        return space._joined(lambda f, a, b, c: riemann(f, a, b, c), x, u, v)
    if isinstance(space, SpecialOrthogonal):
        r, a, b = (space._matrix(p) for p in (x, u, v))
        a, b = r.mT @ a, r.mT @ b
        turn = a @ b - b @ a
        return (-0.25 * r @ (turn @ b - b @ turn)).flatten(-2)
    raise NotImplementedError(
        f"the curvature of {space!r} itself is not known here, so neither is that of a Fermat space on it: it is for flat "
        "spaces, spheres, hyperbolic spaces, rotations, and products of these."
    )
