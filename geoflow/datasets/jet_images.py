"""Jets as images: the momenta of a jet on a grid of pixels, turned so that jets compare; and a jet's mass."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from manifolds.checks import first_bad

BLOCK = 10_000
"""Jets at a time, which bounds the memory."""


def jet_images(constituents: Any, weights: Any = None, *, size: int = 40, reach: float = 0.8) -> Tensor:
    """Images of jets ``(n, size²)``, flat, of sum one, the same however a jet lies in its detector.

    With pᵢ the transverse momentum of constituent i, and (ηᵢ, φᵢ) its direction, a jet is

    1. centred: less the mean direction under p, angles counted from that of the summed momentum, so that ±π is no border;
    2. rotated: the direction in which the jet is longest, the first eigenvector of Σᵢ pᵢ (ηᵢ, φᵢ)(ηᵢ, φᵢ)ᵀ, runs along
       the rows' index, from the first row to the last;
    3. flipped along both axes: among the quadrants, that of the last rows and columns holds most of p;
    4. counted: pixel (r, c) holds the sum of pᵢ in it, of size × size pixels over [−reach, reach)²;
    5. normalised: what lies outside is left out, and the rest divided by its sum.

    Shifts, rotations and reflections of the (η, φ) plane, other units of momentum and another order of constituents leave
    the image as it was. Where two directions are equally long, as for three equal constituents in a regular triangle, or
    two quadrants hold equally much, the choice between them is left to rounding. Sums over 2 × 2 pixels, often called
    pooling, are the images of half the size. [macaluso2018]

    Costs a few passes over the constituents, without a loop over jets.

    Args:
        constituents: (p, η, φ) of each, ``(n, constituents, 3)``, or four-momenta (E, p_x, p_y, p_z) along the beam's z,
            ``(n, constituents, 4)``. Rows of zero momentum, wherever they point, fill up jets with fewer constituents.
        weights: factors of pᵢ ``(n, constituents)``, such as a constituent's probability not to be pile-up; None is one.
        size: pixels along each side.
        reach: half the side of the image, in units of η and φ (radians).

    Raises:
        ValueError: a jet has no transverse momentum, or none within reach.

    >>> import torch
    >>> hard, soft = (100.0, 0.5, 3.1), (50.0, 0.5, -3.0)
    >>> image = jet_images(torch.tensor([[hard, soft, (0.0, 0.0, 0.0)]]), size=8, reach=0.4).reshape(8, 8)
    >>> image.nonzero().tolist(), image[4].max()
    ([[2, 4], [4, 4]], tensor(0.6667))
    """
    x, w = _checked(constituents, weights, "jet_images")
    size = validate.count(size, "jet_images", "size", 1)
    if not 0 < reach < math.inf:
        raise ValueError(f"jet_images expects reach > 0, half the side of the image; got {reach}.")
    image = torch.cat([_pixels(*block, size, reach) for block in _blocks(x, w)])
    outside = ~(image > 0).any(1)
    if bool(outside.any()):
        raise ValueError(
            f"jet_images: nothing of {int(outside.sum())} of {len(x)} jets ({first_bad(outside)}) lies within "
            f"reach={reach} of its centre: raise reach, or drop them."
        )
    return image / image.sum(1, keepdim=True)


def jet_mass(constituents: Any, weights: Any = None) -> Tensor:
    """Invariant masses of jets ``(n,)``, in the units of their momenta: m² = (Σ E)² − |Σ p|².

    Constituents as (p, η, φ) are massless, Eᵢ = pᵢ cosh ηᵢ, and are summed as seen from a frame moved along the beam with
    the jet, where little cancels.

    Args:
        constituents, weights: as for `jet_images`; weights multiply momenta and energies.
    """
    x, w = _checked(constituents, weights, "jet_mass")
    return torch.cat([_mass(*block) for block in _blocks(x, w)])


def _blocks(x: Tensor, w: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(x.split(BLOCK), w.split(BLOCK), strict=True)


def _mass(x: Tensor, w: Tensor) -> Tensor:
    if x.shape[-1] == 4:
        energy, px, py, pz = (x.double() * w.double()[..., None]).sum(1).unbind(-1)
    else:
        p, eta, phi = _directions(x, w)
        eta = eta - (p * eta).sum(1, keepdim=True) / p.sum(1, keepdim=True)
        parts = (eta.cosh(), phi.cos(), phi.sin(), eta.sinh())
        energy, px, py, pz = ((p * part).sum(1) for part in parts)
    return ((energy - pz) * (energy + pz) - px**2 - py**2).clamp_min(0).sqrt().to(x.dtype)


def _pixels(x: Tensor, w: Tensor, size: int, reach: float) -> Tensor:
    """Steps one to four; pixels hold shares of the jet's momentum."""
    p, eta, phi = _directions(x, w)
    p = p / p.sum(1, keepdim=True)
    towards = torch.atan2((p * phi.sin()).sum(1, keepdim=True), (p * phi.cos()).sum(1, keepdim=True))
    phi = torch.remainder(phi - towards + math.pi, 2 * math.pi) - math.pi
    a = eta - (p * eta).sum(1, keepdim=True)
    b = phi - (p * phi).sum(1, keepdim=True)
    angle = 0.5 * torch.atan2(2 * (p * a * b).sum(1), (p * (a * a - b * b)).sum(1))[:, None]
    long, across = angle.cos() * a + angle.sin() * b, angle.cos() * b - angle.sin() * a
    # rounding would put what lies on an axis, as every jet of two constituents does, into either half
    long, across = (torch.where(u.abs() < 1e-6 * reach, 0.0, u) for u in (long, across))
    first, second = ((torch.stack([-u.sign(), u.sign()]) + 1) / 2 for u in (long, across))
    quadrant = torch.stack([(p * i * j).sum(1) for i in first for j in second]).argmax(0)[:, None]
    long, across = torch.where(quadrant < 2, -long, long), torch.where(quadrant % 2 == 0, -across, across)
    row, column = (((u / (2 * reach) + 0.5) * size).floor() for u in (long, across))
    inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    pixel = torch.where(inside, size * row + column, 0.0).long()
    return p.new_zeros(len(p), size * size).scatter_add_(1, pixel, torch.where(inside, p, 0.0)).to(x.dtype)


def _directions(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted transverse momenta, η and φ ``(n, constituents)``, in float64; no momentum has the direction zero."""
    if x.shape[-1] == 3:
        p, eta, phi = x.double().unbind(-1)
    else:
        _, px, py, pz = x.double().unbind(-1)
        p, phi = torch.hypot(px, py), torch.atan2(py, px)
        eta = torch.asinh(pz / torch.where(p > 0, p, 1.0))
    p = p * w
    return p, torch.where(p > 0, eta, 0.0), torch.where(p > 0, phi, 0.0)


def _checked(constituents: Any, weights: Any, who: str) -> tuple[Tensor, Tensor]:
    x = torch.as_tensor(constituents)
    if x.ndim != 3 or x.shape[-1] not in (3, 4) or not x.is_floating_point():
        raise ValueError(
            f"{who} expects floats (n, constituents, 3) of (p, η, φ) or (n, constituents, 4) of (E, p_x, p_y, p_z), got "
            f"{x.dtype} of shape {tuple(x.shape)}: pad jets with zeros to one number of constituents."
        )
    x = validate.finite(x.detach() if x.dtype == torch.float64 else x.detach().float(), who, "constituents")
    w = x.new_ones(x.shape[:2]) if weights is None else torch.as_tensor(weights).detach().to(x)
    if w.shape != x.shape[:2]:
        raise ValueError(
            f"{who} expects one weight a constituent, shape {tuple(x.shape[:2])}; got shape {tuple(w.shape)}."
        )
    validate.finite(w, who, "weights")
    if bool((w < 0).any()) or (x.shape[-1] == 3 and bool((x[..., 0] < 0).any())):
        raise ValueError(
            f"{who}: a transverse momentum or a weight is negative: pass constituents as (p, η, φ), p first."
        )
    moving = x[..., 0] > 0 if x.shape[-1] == 3 else (x[..., 1:3] != 0).any(-1)
    empty = ~(moving & (w > 0)).any(1)
    if bool(empty.any()):
        raise ValueError(
            f"{who}: {int(empty.sum())} of {len(x)} jets ({first_bad(empty)}) have no transverse momentum: drop them."
        )
    return x, w
