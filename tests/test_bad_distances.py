"""Bad inputs to distances (numbers 38 to 42 of the list, and those of the Fermat specification): each is met in words.

`tests/laws/test_fermat.py` has more of them, beside the laws they belong to.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from geoflow import FermatSpace, LatentSpace, StandardNormal
from geoflow.distances import nearest
from geoflow.metrics import intrinsic_dimension
from manifolds import Euclidean
from tests.laws.registry import narrow
from tests.oracles.fermat_rows import Formula

pytestmark = pytest.mark.usefixtures("unchecked")

POINTS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
X, Y = POINTS[:3], POINTS[3:6]
NAN, INF = float("nan"), float("inf")


def put(value: float) -> Tensor:
    return torch.cat([POINTS[:3], torch.full((1, 2), value), POINTS[4:]])


def fermat(**options: Any) -> FermatSpace:
    return FermatSpace(StandardNormal(2), points=POINTS, **options)


def half() -> FermatSpace:
    """Its density is zero where the first coordinate is negative."""
    zero = Formula(lambda x: torch.where(x[..., 0] > 0, -x.square().sum(-1), -INF))
    return FermatSpace(zero, points=POINTS.abs() + 0.01)


def gap(value: float) -> FermatSpace:
    """Its log-density is no number on a strip between left and right."""
    return FermatSpace(
        Formula(lambda x: torch.where(x[..., 0].abs() < 0.3, value, -x.square().sum(-1))), space=Euclidean(2)
    )


def latent() -> LatentSpace:
    return LatentSpace(narrow(5, 2), Euclidean(2))


def one_number(x: Tensor) -> Tensor:
    return x[..., 0]


IN, OUT = POINTS[:3].abs() + 0.1, -POINTS[:3].abs() - 1
LEFT, RIGHT = torch.tensor([-1.0, 0.1]), torch.tensor([1.0, 0.1])

CASES: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    # 38, 39: counts of neighbours
    "neighbours of nearest": (ValueError, "k = 40.*only 39 points", lambda: nearest(POINTS, None, 40)),
    "neighbours among twins": (
        ValueError,
        r"distinct points less one \(0\)",
        lambda: FermatSpace(StandardNormal(2), POINTS[:1].repeat(20, 1)).pairwise(),
    ),
    "neighbours as text": (TypeError, "whole number, got '3'", lambda: fermat(neighbors="3")),
    "k of knn": (ValueError, "knn: k must be a whole number, got 2.5", lambda: fermat().knn(X, 2.5)),
    "no candidates": (ValueError, "candidates must be at least 1, got 0", lambda: fermat().knn(X, 2, candidates=0)),
    # 41: power, and where the density ends
    "power as text": (TypeError, "power must be a number", lambda: fermat(power="big")),
    "power NaN": (ValueError, "power must be finite", lambda: fermat(power=NAN)),
    "line to nowhere": (ValueError, "at y is not finite in 3 rows", lambda: half().dist(IN, OUT, "line")),
    "graph to nowhere": (ValueError, "at y is not finite in 3 rows", lambda: half().dist(IN, OUT, "graph")),
    "rows nowhere": (ValueError, "log-density is not finite at 3 of the rows", lambda: half().pairwise(OUT)),
    "neighbours of nowhere": (
        ValueError,
        "log-density is not finite at 3 of the rows",
        lambda: half().knn(OUT, 2, "graph"),
    ),
    "zero in between": (ValueError, r"1 of 1 ways \(first: 0\).*points=", lambda: gap(-INF).dist(LEFT, RIGHT, "line")),
    "NaN in between": (ValueError, r"1 of 1 ways \(first: 0\).*points=", lambda: gap(NAN).dist(LEFT, RIGHT, "line")),
    # values and shapes of ends and points
    "NaN in y": (
        ValueError,
        r"Input y of .*pairwise contains NaN in 1 of 40 rows \(row 3\)",
        lambda: fermat().pairwise(X, put(NAN)),
    ),
    "infinite query": (ValueError, r"Input q of .*knn contains infinity", lambda: fermat().knn(put(INF), 2)),
    "starts of another batch": (
        ValueError,
        r"pairs of batch \(3,\)",
        lambda: fermat().solve(X, Y, torch.zeros(4, 5, 2)),
    ),
    "starts of one point": (ValueError, "two points at least", lambda: fermat().solve(X, Y, torch.zeros(3, 1, 2))),
    "t beyond the end": (ValueError, r"t must be in \[0, 1\].*1\.5.*exp\(x", lambda: fermat().geodesic(X, Y, 1.5)),
    "t NaN": (ValueError, r"t must be in \[0, 1\]", lambda: fermat().geodesic(X, Y, NAN)),
    "mean of nothing": (ValueError, "mean of no rows", lambda: fermat().mean(X[:0])),
    "medoid of nothing": (ValueError, "medoid of no rows", lambda: fermat().medoid(X[:0])),
    # options
    "no iterations": (ValueError, "max_iter must be at least 1, got 0", lambda: fermat().solve(X, Y, max_iter=0)),
    "tolerance": (ValueError, "tol must be a number above 0.*got -1.0", lambda: fermat().solve(X, Y, tol=-1.0)),
    "percolation constant": (ValueError, "mu must be a number above 0", lambda: fermat().dist(X, Y, "sample", mu=0.0)),
    "intrinsic dimension": (TypeError, "intrinsic_dim must be a number", lambda: fermat(intrinsic_dim=True)),
    "space": (TypeError, r"such as Euclidean\(dim\).*got int", lambda: fermat(space=2)),
    "a class": (TypeError, r"make one, StandardNormal\(\.\.\.\)", lambda: FermatSpace(StandardNormal)),
    "log_prob of another shape": (
        ValueError,
        r"one number a point, \(3,\).*got \(3, 2\)",
        lambda: FermatSpace(Formula(lambda x: x), space=Euclidean(2)).dist(X, Y),
    ),
    "score of another shape": (
        ValueError,
        "score= must give a vector a point",
        lambda: FermatSpace(StandardNormal(2), score=one_number).dist(X, Y),
    ),
    # neighbours by themselves
    "NaN point": (
        ValueError,
        r"Input points of nearest contains NaN.*row 3",
        lambda: nearest(put(NAN), None, 3, "torch"),
    ),
    "NaN query": (ValueError, "Input queries of nearest contains NaN", lambda: nearest(POINTS, put(NAN), 3, "torch")),
    "columns of queries": (
        ValueError,
        "nearest expects `queries` with 2",
        lambda: nearest(POINTS, torch.zeros(3, 3), 1),
    ),
    "one column as a vector": (ValueError, r"rows \(n, d\), got shape \(40,\)", lambda: nearest(POINTS[:, 0], None, 3)),
    "whole numbers": (TypeError, "floating point", lambda: nearest(POINTS.long(), None, 3)),
    "an array": (TypeError, "torch tensor, got ndarray", lambda: nearest(POINTS.numpy(), None, 3)),
    "two precisions": (ValueError, "float64", lambda: nearest(POINTS, POINTS.double(), 3)),
    # codes
    "NaN image": (ValueError, "contains NaN", lambda: latent().dist(torch.full((3, 5), NAN), torch.zeros(3, 5))),
    "batches of images": (
        ValueError,
        "LatentSpace.dist.*do not broadcast",
        lambda: latent().dist(torch.zeros(3, 5), torch.zeros(4, 5)),
    ),
    "whole images": (TypeError, "floating point", lambda: latent().dist(torch.zeros(5).long(), torch.zeros(5))),
    "discarded share": (ValueError, "discard is a fraction.*'a'", lambda: intrinsic_dimension(POINTS, discard="a")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_words(name: str) -> None:
    kind, words, call = CASES[name]
    with pytest.raises(kind, match=words):
        call()


def test_half_precision_neighbours_are_cast_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="nearest: points is torch.float16"):
        distance, _ = nearest(POINTS.half(), None, 3)
    assert distance.dtype == torch.float32


def test_a_hole_without_numbers_is_gone_around() -> None:
    """What is not finite on the way of one start is rejected, and another start is kept."""
    hole = Formula(lambda x: torch.where(x.norm(dim=-1) < 0.3, NAN, -x.square().sum(-1)))
    x, y = torch.tensor([-1.0, 0.1]), torch.tensor([1.0, 0.1])
    points = torch.cat([POINTS[POINTS.norm(dim=1) > 0.6], x[None], y[None]])
    space = FermatSpace(hole, points=points, neighbors=6, nodes=16, extrapolate=False)
    with pytest.warns(UserWarning, match="did not converge"):
        found = space.solve(x, y, max_iter=20)
    assert found.start == ["graph"]
    assert bool(found.length.isfinite())
