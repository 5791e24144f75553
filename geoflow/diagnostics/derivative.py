"""Is the score the gradient of log p? Against differences along random directions."""

import copy

import torch
from torch import Generator, Tensor

from geoflow.density import Density
from geoflow.diagnostics.lines import Material, missing
from geoflow.diagnostics.table import Line

ROWS = 200


def score(m: Material) -> Line:
    """7: ⟨score(x), v⟩ against [log p(exp_x(hv)) − log p(exp_x(−hv))] / 2h for a random unit v, in float64.

    The figure is the 90th percentile over rows of the error, in units of the rows' root mean square derivative: a network
    with kinks has none on a few rows, and that is no fault.
    """
    name, threshold = "score, error against differences", "below 0.001"
    if m.why_no_density is not None:
        return missing(name, m.why_no_density)
    x = m.x[:ROWS].double()
    context = None if m.context is None else m.context[:ROWS]
    if context is not None and context.is_floating_point():
        context = context.double()
    try:
        density = copy.deepcopy(m.density).double()
        along, differences = _both(density, x, context, m.scale.double(), m.seed)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        return missing(name, f"not tested: {str(error).splitlines()[0]}")
    size = differences.square().mean().sqrt().clamp_min(1e-300)
    off = ((along - differences).abs() / size).nan_to_num(nan=torch.inf)
    figure, median = float(off.quantile(0.9)), float(off.median())
    bad = figure >= 1e-3
    sentence = (
        f"Along random directions the score differs from differences of log p by {median:.1g} of its size in the median"
    )
    sentence += ": it is not the gradient of log p." if bad else "."
    return Line(name, figure, None, threshold, "bad" if bad else "good", sentence, {"median": median})


def _both(density: Density, x: Tensor, context: Tensor | None, scale: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    space = density.space
    x = space.project(x)  # rows of a curved space are on it to float32 alone
    v = torch.randn(x.shape, generator=Generator().manual_seed(seed), dtype=x.dtype).to(x.device) * scale
    v = space.to_tangent(x, v)
    h = 1e-5
    with torch.enable_grad():
        gradient = density.score(x, context)
    ends = [density.log_prob(space.retract(x, sign * h * v), context) for sign in (1, -1)]
    return space.inner(x, gradient, v), (ends[0] - ends[1]) / (2 * h)
