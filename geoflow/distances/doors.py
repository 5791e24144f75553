"""What a Fermat space refuses, in words, and how it brings points to one batch."""

from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.density import Density, Sampler
from geoflow.distances.weight import ScoreWeight, Weight
from manifolds import Euclidean, Manifold


def check_density(density: Any, score: Any) -> None:
    """A density with an exact, unconditional log_prob; or a score."""
    if density is None:
        if score is None:
            raise ValueError("FermatSpace expects a density with log_prob(x), or at least score=.")
        return
    if isinstance(density, Sampler) and not isinstance(density, Density):
        raise TypeError(
            f"FermatSpace needs an exact log_prob, which {type(density).__name__} does not have: use its .prior in the "
            "latent, and LatentSpace to decode the paths."
        )
    if not callable(getattr(density, "log_prob", None)):
        raise TypeError(f"FermatSpace expects a density with log_prob(x), got {type(density).__name__}.")
    if isinstance(density, Density) and (density.context_dim or density.classes):
        raise ValueError(
            "FermatSpace: a conditional density makes a space per condition: wrap it with the context filled in."
        )


def pairs(space: Manifold, x: Any, y: Any, verb: str, like: Tensor | None) -> tuple[Tensor, Tensor, torch.Size]:
    """Both ends as rows ``(B, ambient)``, and the batch that they broadcast to."""
    who, size = f"FermatSpace.{verb}", space.ambient_dim
    x = validate.points(x, size, who, "x", like)
    y = validate.points(y, size, who, "y", like if like is not None else x)
    if not isinstance(space, Euclidean):
        x, y = space._points(x, "x", verb), space._points(y, "y", verb)
    try:
        batch = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    except RuntimeError:
        raise ValueError(f"{who}: x {tuple(x.shape)} and y {tuple(y.shape)} do not broadcast.") from None
    return x.expand(*batch, size).reshape(-1, size), y.expand(*batch, size).reshape(-1, size), batch


def check_ends(weight: Weight | ScoreWeight, x: Tensor, y: Tensor) -> None:
    """Where the log-density is not finite the distance is not either."""
    if isinstance(weight, ScoreWeight) or weight.power == 0:
        return
    for name, end in (("x", x), ("y", y)):
        bad = ~weight.log(end).isfinite()
        if bool(bad.any()):
            raise ValueError(
                f"FermatSpace: the log-density at {name} is not finite in {int(bad.sum())} rows (first: "
                f"{int(bad.nonzero()[0])}), where the distance is infinite: leave them out."
            )


def lengths(log_length: Tensor) -> Tensor:
    """Lengths from their logs; one beyond the dtype is an error that names the cure."""
    length = log_length.exp()
    if bool(length.isinf().any()) or bool(((length == 0) & log_length.isfinite()).any()):
        raise ValueError(
            f"FermatSpace: lengths up to e^{float(log_length.max()):.0f} are out of the range of {length.dtype}: pass "
            "reference='mean' (or a number near the mean log density), which rescales all distances by one factor."
        )
    return length
