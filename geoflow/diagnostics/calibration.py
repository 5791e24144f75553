"""Are conditional densities right for each condition? Ranks of rows among draws of their own condition."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from geoflow.diagnostics.lines import Material, missing
from geoflow.diagnostics.table import Line
from manifolds import Euclidean

ROWS, DRAWS = 1000, 100
THRESHOLD = "below 0.05, or p above 0.001"


@dataclass(frozen=True)
class Ranked:
    """Ranks in [0, 1], uniform if the model is right: of each column ``(n, dim)``, and of distances ``(n,)``."""

    columns: Tensor
    distances: Tensor


def ranked(m: Material) -> Ranked | None:
    """Ranks of at most `ROWS` rows among `DRAWS` draws of their own condition; None where a draw is not finite.

    Columns: the share of draws whose column is smaller, as for simulation-based calibration [talts2018]. Distances: the
    share of draws nearer than the row to a point chosen without it, here another row [lemos2023]. Ties break at random.
    """
    generator = Generator().manual_seed(m.seed)
    x, context = m.x[:ROWS], m.context
    assert context is not None
    columns = torch.zeros(x.shape, dtype=torch.float64)
    distances = torch.zeros(len(x), dtype=torch.float64)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    places = torch.empty_like(x)
    places[order] = x[order.roll(1)]  # never the row itself, which would be at distance zero
    of_draws = Generator(x.device).manual_seed(m.seed)
    for i in range(0, len(x), 250):
        part, c = x[i : i + 250], context[i : i + 250]
        drawn = m.model.sample(DRAWS, c, generator=of_draws)
        if not bool(drawn.isfinite().all()):
            return None
        columns[i : i + 250] = _share(drawn, part, generator)
        place = places[i : i + 250]
        distances[i : i + 250] = _share(_distance(m, drawn, place), _distance(m, part, place), generator)
    return Ranked(columns, distances)


def _share(drawn: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """(number of draws below + a uniform share of the ties and itself) / (draws + 1)."""
    below, tied = (drawn < value).sum(0).cpu().double(), (drawn == value).sum(0).cpu().double()
    return (below + (tied + 1) * torch.rand(below.shape, generator=generator, dtype=torch.float64)) / (len(drawn) + 1)


def _distance(m: Material, x: Tensor, place: Tensor) -> Tensor:
    if isinstance(m.model.space, Euclidean):
        return ((x - place) / m.scale).norm(dim=-1)
    return m.model.space.dist(x, place)


def by_column(m: Material, found: Ranked | None) -> Line:
    """4a: among draws of its own condition, is a row's column as often small as large?"""
    name = "SBC ranks, largest gap"
    if found is None:
        return missing(name, "samples are not finite.")
    tests = [_uniform(c) for c in found.columns.T]
    worst = max(range(len(tests)), key=lambda j: tests[j][0])
    gap, p = tests[worst][0], min(1.0, len(tests) * min(t[1] for t in tests))
    bad = gap >= 0.05 and p <= 0.001
    ranks = found.columns[:, worst]
    sentence = f"Ranks of column {worst} among {DRAWS} draws of the row's own condition are off by {gap:.1%} at most"
    sentence += f" (p = {p:.2g} over {len(tests)} columns)"
    sentence += f": {_shape(ranks)}." if bad else "."
    drawing = _curve(ranks)
    labels = ("rank of the row among its draws", "share of held-out rows below")
    details = {"p_value": p, "column": float(worst)}
    return Line(name, gap, None, THRESHOLD, "bad" if bad else "good", sentence, details, drawing, labels)


def by_distance(found: Ranked | None) -> Line:
    """4b: do balls around chosen points hold the share of rows that they hold of the draws?"""
    name = "TARP, largest gap"
    if found is None:
        return missing(name, "samples are not finite.")
    gap, p = _uniform(found.distances)
    bad = gap >= 0.05 and p <= 0.001
    half = float((found.distances < 0.5).double().mean())
    sentence = f"Balls around other rows that should hold half of the rows hold {half:.1%} (p = {p:.2g})"
    sentence += ": given their condition, rows lie elsewhere than draws." if bad else "."
    labels = ("mass of the ball", "share of held-out rows inside")
    return Line(
        name, gap, None, THRESHOLD, "bad" if bad else "good", sentence, {"p_value": p}, _curve(found.distances), labels
    )


def _uniform(ranks: Tensor) -> tuple[float, float]:
    """Largest gap to the uniform distribution and its p-value (Kolmogorov and Smirnov)."""
    from scipy import stats

    test = stats.kstest(ranks.numpy(), "uniform")
    return float(test.statistic), float(test.pvalue)


def _curve(ranks: Tensor) -> dict[str, Tensor]:
    alpha = torch.linspace(0, 1, 101, dtype=torch.float64)
    return {"alpha": alpha, "inside": torch.searchsorted(ranks.sort().values, alpha, right=True).double() / len(ranks)}


def _shape(ranks: Tensor) -> str:
    """What ranks that are not uniform say: by their mean, else by how far they spread."""
    z = (float(ranks.mean()) - 0.5) * math.sqrt(12 * len(ranks))
    if abs(z) > 3:
        return "draws are too small" if z > 0 else "draws are too large"
    return "draws spread too little" if float(ranks.std()) > math.sqrt(1 / 12) else "draws spread too much"
