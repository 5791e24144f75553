"""The gradient of a network's change of volume, estimated with the network that nearly undoes it.

∇ log|det J_f| = tr(J_f⁻¹ ∇J_f), and where g undoes f, J_f⁻¹ is J_g. With random tangent vectors v, E vvᵀ = 1,

    encoder surrogate   S =  vᵀ J_f sg(J_g v)        has the gradient of log|det J_f| in the encoder,
    decoder surrogate   S = −sg(vᵀ J_f) J_g v        that of −log|det J_g| in the decoder (and the codes),

sg meaning that no gradient passes. Their values mean nothing: they are about ±dim wherever g undoes f. On a manifold v
lies in the tangent space at the code, |v|² is on average the dimension of the *manifold*, lengths and vᵀ being those of
the metric there, and all Jacobians are of the maps with their projections. [draxler2024, sorrenson2024, sorrenson2024m]
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor
from torch.autograd import forward_ad

from geoflow.freeform.exact import along
from geoflow.freeform.forward import cheaply
from geoflow.freeform.probes import Probes, frame
from manifolds import Manifold

Map = Callable[[Tensor], Tensor]
Kind = Literal["encoder", "decoder", "conditional"]
KINDS = ("encoder", "decoder", "conditional")


class Estimate(NamedTuple):
    """What one pass through both networks gives, row by row.

    Attributes:
        z: codes ``(*batch, latent_dim)``.
        back: their decoding ``(*batch, dim)``.
        change: zero, with the estimate of the gradient of log|det J_f| as its gradient, ``(*batch)``.
        defect: mean over probes of (vᵀJ_f J_g v / |v|² − 1)², detached: zero where decode undoes encode, ``(*batch)``.
        stretch: mean over probes of |J_fᵀv|²/|v|², detached: how much longer, squared, differences are as codes.
    """

    z: Tensor
    back: Tensor
    change: Tensor
    defect: Tensor
    stretch: Tensor


def volume_change(
    encode: Map,
    decode: Map,
    x: Tensor,
    spaces: tuple[Manifold, Manifold],
    probes: Probes,
    kind: Kind = "encoder",
    forward: bool = True,
    generator: Generator | None = None,
) -> Estimate:
    """Codes, reconstructions, and an estimate of the gradient of the change of volume.

    The estimate is of ∇ log|det J_f|, the determinant between bases that are orthonormal in the embeddings: a space
    with another metric adds `log_volume`. The conditional surrogate takes for each probe the encoder's form where
    vᵀJ_f J_g v < |v|² and the decoder's where it is larger: both then also pull J_f J_g towards the identity.

    Cost: one pass of `encode` and one of `decode` with their graphs, which reconstruction terms share, one forward
    derivative of `decode` and one backward derivative of `encode` for each probe.

    Args:
        encode, decode: the maps between points, projections included, also that of the data before they are encoded:
            `encode` must not see what is normal to their space.
        x: data ``(*batch, dim)``; nothing is propagated to it, and its `requires_grad` stays as it is.
        spaces: of the data and of the codes.
        probes: drawn at the codes.
        kind: which surrogate.
        forward: whether `decode` has forward derivatives; else two backward passes give the same.
        generator: of the probes; None is the global one.
    """
    space, latent = spaces
    start = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        z = encode(start)
        v, c = probes.pairs(latent, z, generator)
        back, w = _pushed(decode, z, v, forward, recorded=kind != "encoder")
        u = _pulled(z, start, c)
        ahead, size = (u * w.detach()).sum(-1), (c * v).sum(-1)
        if kind == "encoder":
            estimate = ahead
        else:
            behind = (_tangent_part(space, x, u.detach()) * w).sum(-1)
            estimate = torch.where(ahead.detach() < size, ahead, -behind) if kind == "conditional" else -behind
    estimate = estimate.mean(0)
    defect = (ahead.detach() / size - 1).square().mean(0)
    stretch = ((u * u).sum(-1).detach() / size).mean(0)
    return Estimate(z, back, estimate - estimate.detach(), defect, stretch)


def _tangent_part(space: Manifold, x: Tensor, u: Tensor) -> Tensor:
    """u without what is normal to the space at x in the embedding."""
    basis = frame(space, x.detach())
    return u if basis is None else (basis @ (basis.mT @ u[..., None]))[..., 0]


def _pushed(decode: Map, z: Tensor, v: Tensor, forward: bool, recorded: bool = True) -> tuple[Tensor, Tensor]:
    """decode(z), and its Jacobian times each v ``(count, *batch, ·)``; the point is decoded once.

    Unless `recorded`, the products need not be differentiated in turn, which saves the memory for it.
    """
    if not forward:
        return _pushed_backward(decode, z, v)
    if len(v) > 1:
        return along(decode, z, v, recorded)
    with forward_ad.dual_level(), cheaply(recorded):
        back, w = forward_ad.unpack_dual(decode(forward_ad.make_dual(z, v[0])))
    return back, torch.zeros_like(back)[None] if w is None else w[None]


def _pushed_backward(decode: Map, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The same by differentiating the backward pass, which is linear in what it is given."""
    back = decode(z)
    given = torch.zeros_like(back, requires_grad=True)
    (pulled,) = torch.autograd.grad(back, z, given, create_graph=True)
    w = [torch.autograd.grad(pulled, given, t, create_graph=True)[0] for t in v]
    return back, torch.stack(w)


def _pulled(z: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """The encoder's transposed Jacobian times each v ``(count, *batch, ·)``."""
    if len(v) == 1:
        return torch.autograd.grad(z, x, v[0], create_graph=True)[0][None]
    return torch.autograd.grad(z, x, v, create_graph=True, is_grads_batched=True)[0]


def forward_failure(f: Map, x: Tensor, second: bool) -> str | None:
    """Why f cannot be differentiated forwards at x, or that derivative backwards if `second`; None if it can."""
    try:
        with torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            y, w = _pushed(f, x, torch.ones_like(x)[None], forward=True)
            total = w.sum() + y.sum()
            if second and total.requires_grad:
                (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
                total = total if gradient is None else gradient.sum() + total
    except (NotImplementedError, RuntimeError) as error:
        return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    return None if bool(total.isfinite()) or not bool(y.isfinite().all()) else "its derivative is not finite"
