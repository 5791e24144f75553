"""Length of a straight line (a geodesic of the space itself) under a weight, by adaptive quadrature to full accuracy."""

import torch
from torch import Tensor

from geoflow.distances.weight import Weight

# Kronrod's 15 points on [-1, 1] and their weights, with Gauss's 7-point weights at the odd ones
_NODES = (0.0, 0.20778495500789847, 0.40584515137739717, 0.58608723546769113, 0.74153118559939444,
          0.86486442335976907, 0.94910791234275852, 0.99145537112081264)  # fmt: skip
_KRONROD = (0.20948214108472783, 0.20443294007529889, 0.19035057806478541, 0.16900472663926790, 0.14065325971552592,
            0.10479001032225018, 0.06309209262997855, 0.02293532201052922)  # fmt: skip
_GAUSS = (0.41795918367346939, 0.0, 0.38183005050511894, 0.0, 0.27970539148927667, 0.0, 0.12948496616886969, 0.0)

MOST = 256
"""Open intervals per line, on average, at which halving stops: a weight that rough has no more digits to give."""


def line_log_length(weight: Weight, x: Tensor, y: Tensor, rtol: float | None = None, max_depth: int = 40) -> Tensor:
    """log ∫ λ ds along the space's geodesic from x to y, ``(B,)``; −∞ where x = y.

    Gauss-Kronrod 7-15, each interval halved until its error is below `rtol` (1e-10, in float32 1e-6) of the line's
    length. In one dimension the line is the only path, so this is the distance. Cost: 15 values of the weight an
    interval; a smooth density takes a few intervals, a kink about 30 more.
    """
    space, dtype = weight.space, x.dtype
    rtol = rtol or (1e-10 if dtype == torch.float64 else 1e-6)
    nodes = x.new_tensor([-n for n in reversed(_NODES[1:])] + list(_NODES))
    kronrod = x.new_tensor([*reversed(_KRONROD[1:]), *_KRONROD])
    gauss = x.new_tensor([*reversed(_GAUSS[1:]), *_GAUSS])
    direction = space._log(x, y)
    speed = space._norm(x, direction)

    pair = torch.arange(len(x), device=x.device)
    low, high = torch.zeros_like(speed), torch.ones_like(speed)
    total = torch.zeros_like(speed)
    shift = torch.maximum(weight.log(x), weight.log(y))
    for depth in range(max_depth):
        t = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * nodes
        log_weight = weight.log(space._exp(x[pair][:, None], t[..., None] * direction[pair][:, None]))
        higher = shift.scatter_reduce(0, pair, log_weight.amax(1), "amax")
        total, shift = total * (shift - higher).exp(), higher
        values = (log_weight - shift[pair, None]).exp() * ((high - low) / 2)[:, None]
        fine, coarse = (values * kronrod).sum(1), (values * gauss).sum(1)
        estimate = total.index_add(0, pair, fine)
        more = (fine - coarse).abs() > rtol * estimate[pair]
        if depth == max_depth - 1 or len(pair) > MOST * len(x):
            more = torch.zeros_like(more)
        total = total.index_add(0, pair[~more], fine[~more])
        if not bool(more.any()):
            break
        pair, low, high = pair[more], low[more], high[more]
        middle = (low + high) / 2
        pair, low, high = torch.cat([pair, pair]), torch.cat([low, middle]), torch.cat([middle, high])
    return shift + (total * speed).log()
