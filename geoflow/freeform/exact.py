"""Exact changes of volume by whole Jacobians: for evaluation, and for training in few dimensions."""

from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.freeform.forward import cheaply
from geoflow.freeform.probes import frame
from manifolds import Manifold

Map = Callable[[Tensor], Tensor]
NUMBERS = 4_000_000
"""Of tangents in memory at a time."""


def along(f: Map, x: Tensor, v: Tensor, recorded: bool = True) -> tuple[Tensor, Tensor]:
    """f(x), computed once, and its derivatives ``(m, *batch, outputs)`` along each of v ``(m, *batch, inputs)``."""
    x, v = x.contiguous(), v.contiguous()  # of their own memory, for operations that write into them
    with cheaply(recorded):
        y, w = torch.func.vmap(lambda t: torch.func.jvp(f, (x,), (t,)), randomness="same")(v)  # type: ignore[misc]
    return y[0], w


def columns(f: Map, x: Tensor, space: Manifold, forward: bool = True) -> tuple[Tensor, Tensor]:
    """f(x), and its derivatives ``(*batch, outputs, space.dim)`` along an orthonormal basis of the tangent space at x.

    One forward derivative a column, or, if `forward` is False, one backward one for each output.
    """
    n, basis = space.dim, frame(space, x)
    if not forward:
        y, pull_back = torch.func.vjp(f, x)  # type: ignore[misc]
        eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        rows = torch.func.vmap(lambda e: pull_back(e.expand_as(y))[0])(eye).movedim(0, -2)
        return y, rows if basis is None else rows @ basis
    if basis is None:
        basis = torch.eye(n, dtype=x.dtype, device=x.device)
    tangents = basis.movedim(-1, 0).reshape(n, *[1] * (x.ndim + 1 - basis.ndim), *basis.shape[:-1]).expand(n, *x.shape)
    parts = []
    for t in tangents.split(max(1, NUMBERS // max(1, x.numel()))):
        y, w = along(f, x, t)
        parts.append(w)
    return y, torch.cat(parts).movedim(0, -1)


def square(f: Map, x: Tensor, space: Manifold, target: Manifold, forward: bool = True) -> tuple[Tensor, Tensor]:
    """f(x), and its Jacobian ``(*batch, dim, dim)`` between orthonormal bases of the tangent spaces at x and f(x)."""
    y, jacobian = columns(f, x, space, forward)
    basis = frame(target, y)
    return y, jacobian if basis is None else basis.mT @ jacobian


def log_det(f: Map, x: Tensor, space: Manifold, target: Manifold, forward: bool = True) -> tuple[Tensor, Tensor]:
    """f(x) and log|det J_f| ``(*batch)`` with respect to the Riemannian volumes of both spaces.

    log|det RᵀJ_f Q| + log_volume(f(x)) − log_volume(x), with Q and R orthonormal bases in the embeddings. Smooth in x,
    for the projection in f makes it blind to what is normal at x. Cost: `dim` derivatives of f, and a determinant.
    """
    y, jacobian = square(f, x, space, target, forward)
    metric = target._log_volume(y) - space._log_volume(x)
    return y, torch.linalg.slogdet(jacobian)[1] + metric


def log_gram(g: Map, z: Tensor, latent: Manifold, forward: bool = True) -> tuple[Tensor, Tensor]:
    """g(z) and ½ log det J_gᵀJ_g ``(*batch)``: the volume that g gives to a piece of `latent` in a larger flat space."""
    x, jacobian = columns(g, z, latent, forward)
    # a triangular factor, not the determinant of the product, which squares the condition
    factor = torch.linalg.qr(jacobian)[1].diagonal(dim1=-2, dim2=-1)
    return x, factor.abs().log().sum(-1) - latent._log_volume(z)
