"""What a free-form flow must say of itself: both densities, reconstruction, and whether decode undoes encode."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.density import weighted_mean
from geoflow.freeform import exact
from geoflow.freeform.probes import frame, units
from manifolds import Manifold

Map = Callable[[Tensor], Tensor]
GAP, DEFECT = 0.1, 0.5
"""Figures are not to be believed beyond: nats between the two densities, median of |J_e J_d − 1|."""
PASSES = 20_000
"""Rows of the whole Jacobian are as many as cost about so many evaluations of the networks, but 16 to 512."""


def rows_for(n: int, dim: int) -> int:
    """How many of n rows to look at closely."""
    return min(n, max(16, min(512, PASSES // dim)))


@torch.no_grad()
def densities(
    encode: Map,
    decode: Map,
    latent: Map,
    x: Tensor,
    spaces: tuple[Manifold, Manifold],
    forward: bool,
    weight: Tensor | None,
) -> dict[str, float]:
    """NLLs and the inverse defect, from one whole Jacobian of each map.

    Args:
        encode, decode: the maps, with their projections.
        latent: log density of codes.
        x: rows.
        spaces: of data and codes.
        forward: whether the maps have forward derivatives.
        weight: of the rows.
    """
    space, home = spaces
    z = encode(x)
    nll = -latent(z)
    if home.dim < space.dim:
        _, e = exact.columns(encode, x, space, forward=False)  # one derivative for each of its few outputs
        _, d = exact.columns(decode, z, home, forward)
        basis = frame(home, z)
        product = (e if basis is None else basis.mT @ e) @ d
        log_gram = torch.linalg.qr(d)[1].diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) - home._log_volume(z)
        figures = {"nll on the manifold": float(weighted_mean(nll + log_gram, weight))}
    else:
        _, e = exact.square(encode, x, space, home, forward)
        back, d = exact.square(decode, z, home, space, forward)
        product, metric = e @ d, home._log_volume(z)
        log_e = torch.linalg.slogdet(e)[1] + metric - space._log_volume(x)
        log_d = torch.linalg.slogdet(d)[1] + space._log_volume(back) - metric
        figures = {
            "nll encoder": float(weighted_mean(nll - log_e, weight)),
            "nll decoder": float(weighted_mean(nll + log_d, weight)),
        }
    r = units(home, z, frame(home, z))
    product = product if r is None else torch.linalg.solve(r, product @ r)
    one = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    figures["inverse defect"] = float(torch.linalg.matrix_norm(product - one, 2).median())
    return figures


def verdict(figures: dict[str, float]) -> str | None:
    """Why the figures must not be believed, or None."""
    defect = figures["inverse defect"]
    if not all(math.isfinite(v) for v in figures.values()):
        return "invalid: a figure is not finite: the networks fold or flatten the data somewhere; raise beta."
    if "nll encoder" not in figures:
        if defect <= DEFECT:
            return None
        return (
            f"invalid: decode does not undo encode on its surface (|J_e J_d - 1| = {defect:.2g} in the median, "
            f"{DEFECT} at most): its curvature may be running away; raise beta or noise."
        )
    there, back = figures["nll encoder"], figures["nll decoder"]
    if abs(there - back) <= GAP and defect <= DEFECT:
        return None
    return (
        f"invalid: the encoder's density gives {there:.3g} nats a row and the decoder's {back:.3g} (at most {GAP} apart), "
        f"|J_e J_d - 1| = {defect:.2g} (at most {DEFECT}): decode does not undo encode; raise beta, or take "
        "surrogate='conditional'."
    )
