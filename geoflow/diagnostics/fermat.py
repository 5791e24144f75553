"""The questions of `check` to a Fermat space: does its graph hold together, and do its geodesics settle and agree?"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from geoflow.diagnostics.lines import missing
from geoflow.diagnostics.table import HonestyTable, Line
from geoflow.distances import FermatSpace, Solution
from geoflow.distances.graph.build import build
from geoflow.distances.graph.walks import shortest

SETTLED, LONG = 0.05, 20.0
"""What graph distances may change by on another graph, and how many medians long an edge may be, without a remark."""


@dataclass(frozen=True)
class Pairs:
    """What the questions are asked of: a space, and ends ``(n, ambient)`` in it."""

    space: FermatSpace
    x: Tensor
    y: Tensor

    @cached_property
    def there(self) -> Solution:
        """Geodesics from x to y."""
        return self.space.solve(self.x, self.y)

    @cached_property
    def why_no_graph(self) -> str | None:
        if self.space.density is None:
            return "the space has a score alone; pass a density for its graph."
        return "the space has no points=." if self.space.points is None else None

    def by_graph(self, points: Tensor, neighbors: int) -> Tensor:
        """Distances ``(n,)`` along the graph of other points or neighbours."""
        weight, engine = self.space._need_density("check"), self.space.knn_engine
        built = build(weight, points, neighbors, engine)
        return shortest(built, weight, self.x, self.y, neighbors, engine)[0].exp()


@torch.no_grad()
def check_space(space: FermatSpace, x: Any, pairs: int, seed: int) -> HonestyTable:
    """The table of a space, from geodesics between so many random pairs of rows ``(m, ambient)``, or of its points."""
    rows = space._rows(x, "check")
    if len(rows) < 4:
        raise ValueError(f"check expects at least four rows to draw pairs from, got {len(rows)}.")
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randperm(len(rows), generator=generator)[:2] for _ in range(pairs)]).T.to(rows.device)
    asked = Pairs(space, rows[index[0]], rows[index[1]])
    with warnings.catch_warnings():  # what they say stands in the lines
        warnings.simplefilter("ignore")
        lines = (
            components(asked),
            edges(asked),
            neighbours_doubled(asked),
            points_halved(asked, generator),
            settled(asked),
            not_longer(asked),
            symmetric(asked),
        )
    points = "no points" if space.points is None else f"{len(space.points):,} points"
    return HonestyTable("FermatSpace", lines, f"{pairs} pairs of {len(rows):,} rows, {points}, seed {seed}")


def components(p: Pairs) -> Line:
    """Is the neighbour graph in one piece?"""
    name = "pieces of the graph"
    if p.why_no_graph is not None:
        return missing(name, p.why_no_graph)
    sizes = p.space._need_graph().components
    if len(sizes) == 1:
        return Line(name, 1.0, None, "1", "good", "All points are connected.")
    shown = ", ".join(f"{s:,}" for s in sizes[:5]) + (" ..." if len(sizes) > 5 else "")
    sentence = (
        f"It fell into pieces of {shown} points, joined along closest pairs: raise neighbors= if they belong together."
    )
    return Line(name, float(len(sizes)), None, "1", "bad", sentence)


def edges(p: Pairs) -> Line:
    """Does an edge cross a gap? In the underlying space's lengths."""
    name, threshold = "longest over median edge", f"below {LONG:g}"
    if p.why_no_graph is not None:
        return missing(name, p.why_no_graph)
    own = p.space._need_graph()
    i, j = (torch.as_tensor(k, dtype=torch.long, device=own.points.device) for k in own.matrix.nonzero())
    length = p.space.space._dist(own.points[i], own.points[j])
    ratio = float(length.max() / length.median())
    if ratio < LONG:
        return Line(name, ratio, None, threshold, "good", "No edge is much longer than the others.")
    sentence = "Some points lie far from all others, or a gap is bridged: look at them before trusting paths there."
    return Line(name, ratio, None, threshold, "unclear", sentence)


def neighbours_doubled(p: Pairs) -> Line:
    """How far do graph distances move with twice the neighbours?"""
    name = "graph distances, neighbours doubled"
    if p.why_no_graph is not None:
        return missing(name, p.why_no_graph)
    own = p.space._need_graph()
    twice = min(2 * p.space.neighbors, len(own.points) - 1)
    return _moved(p, name, own.points, twice)


def points_halved(p: Pairs, generator: torch.Generator) -> Line:
    """How far do graph distances move with half the points?"""
    name = "graph distances, half the points"
    if p.why_no_graph is not None:
        return missing(name, p.why_no_graph)
    points = p.space._need_graph().points
    half = points[torch.randperm(len(points), generator=generator).to(points.device)[: max(2, len(points) // 2)]]
    return _moved(p, name, half, min(p.space.neighbors, len(half) - 1))


def _moved(p: Pairs, name: str, points: Tensor, neighbors: int) -> Line:
    before = p.space.dist(p.x, p.y, "graph")
    change = p.by_graph(points, neighbors) / before - 1
    moved = float(change.nan_to_num(0.0).abs().median())
    threshold, said = f"below {SETTLED:g}", f"They change by {moved:.1%} in the median"
    if moved < SETTLED:
        return Line(name, moved, None, threshold, "good", f"{said}.")
    sentence = f"{said}: the graph has not converged and serves to start paths; believe relaxed lengths."
    return Line(name, moved, None, threshold, "unclear", sentence)


def settled(p: Pairs) -> Line:
    """Did the geodesics come to rest?"""
    name, threshold = "geodesics converged", "at least 0.95"
    share = float(p.there.converged.double().mean())
    steps = f"{float(p.there.iterations.double().median()):.0f} steps in the median"
    if share >= 0.95:
        return Line(name, share, None, threshold, "good", f"{share:.1%} came to rest ({steps}).")
    sentence = f"Only {share:.1%} came to rest ({steps}): the others' lengths may be too long. Smooth the density."
    return Line(name, share, None, threshold, "bad", sentence)


def not_longer(p: Pairs) -> Line:
    """Are relaxed paths at most as long as the graph's?"""
    name, threshold = "relaxed at most as long as the graph's", "at least 0.95"
    if p.why_no_graph is not None or p.there.graph_length is None:
        return missing(name, p.why_no_graph or "no path started from the graph.")
    ratio = p.there.length / p.there.graph_length
    ratio = ratio[ratio.isfinite()]
    share = float((ratio <= 1.001).double().mean())
    details = {"median ratio": float(ratio.median())}
    said = f"{share:.1%} are, at {float(ratio.median()):.3f} of its length in the median"
    if share >= 0.95:
        return Line(name, share, None, threshold, "good", f"{said}.", details)
    sentence = f"Only {said}: edges jump over what the density does between points; raise nodes= or add points."
    return Line(name, share, None, threshold, "bad", sentence, details)


def symmetric(p: Pairs) -> Line:
    """Is the way back as long?"""
    name, threshold = "symmetry, largest difference", "below 0.01"
    there, back = p.there.length, p.space.solve(p.y, p.x).length
    off = float(((back - there).abs() / torch.maximum(there, back).clamp_min(torch.finfo(there.dtype).tiny)).max())
    if off < 0.01:
        return Line(name, off, None, threshold, "good", "The way back is as long as the way there.")
    sentence = "Ways there and back differ: log p is not the same at each call, or paths end in different valleys."
    return Line(name, off, None, threshold, "bad", sentence)
