"""What a Fermat space refuses, in words, and how it brings points to one batch."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.density import Density, Sampler, reference
from geoflow.distances.graph.build import flat
from geoflow.distances.scores.network import ScoreNetwork
from geoflow.distances.weight import ScoreWeight, Weight
from geoflow.metrics.intrinsic_dimension import METHODS, Method, intrinsic_dimension
from manifolds import Euclidean, Manifold


def check_density(density: Any, score: Any, space: Any = None) -> None:
    """A density with an exact, unconditional log_prob; or a score; and a space, if there is one."""
    if space is not None and not isinstance(space, Manifold):
        raise TypeError(
            f"FermatSpace: space= takes a manifold, such as Euclidean(dim) or Sphere(2), got {type(space).__name__}."
        )
    if isinstance(density, type):
        raise TypeError(
            f"FermatSpace expects a density, got the class {density.__name__}: make one, {density.__name__}(...)."
        )
    if isinstance(score, Sampler) and not isinstance(score, ScoreNetwork):
        raise TypeError(
            f"FermatSpace: score= takes a function or a ScoreNetwork, got {type(score).__name__}: pass its .score."
        )
    if score is not None and not callable(score):
        raise TypeError(f"FermatSpace: score= takes a function x → ∇ log p, got {type(score).__name__}.")
    if isinstance(density, ScoreNetwork):
        raise TypeError(
            "FermatSpace: a ScoreNetwork has no log_prob: pass FermatSpace(score=net), beside a density or alone."
        )
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


def check_score_network(network: ScoreNetwork, space: Manifold, density: Any) -> None:
    """One that fits where paths run and the dtype of the density."""
    if not isinstance(space, Euclidean) or space.dim != network.dim:
        raise ValueError(
            f"FermatSpace on {space!r}: the ScoreNetwork is for {network.space!r}; pass the score of a density on that space."
        )
    own, other = reference(network), reference(density) if isinstance(density, nn.Module) else None
    if own is not None and other is not None and own.dtype != other.dtype:
        raise ValueError(
            f"FermatSpace: the density is {other.dtype}, the ScoreNetwork {own.dtype}: use network.to({other.dtype})."
        )


def dimension(given: float | Method | None, space: Manifold, points: Tensor | None) -> float:
    """The number of dimensions that data fill: as given, that of the space, or estimated from the points."""
    if isinstance(given, str):
        if given not in METHODS:
            raise ValueError(f"FermatSpace: intrinsic_dim is a number or one of {', '.join(METHODS)}; got {given!r}.")
        if points is None:
            raise ValueError(f"FermatSpace: intrinsic_dim={given!r} is estimated from points=: pass them, or a number.")
        return intrinsic_dimension(flat(space, points), given).dim
    if given is not None and (isinstance(given, bool) or not isinstance(given, (int, float))):
        raise TypeError(f"FermatSpace: intrinsic_dim must be a number above 0, or 'twonn' or 'mle', got {given!r}.")
    if given is not None and not (math.isfinite(given) and given > 0):
        raise ValueError(f"FermatSpace: intrinsic_dim must be a number above 0, got {given!r}.")
    return float(given or space.dim)


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


def vectors(space: Manifold, x: Any, verb: str, like: Tensor | None, **given: Any) -> tuple[list[Tensor], torch.Size]:
    """Points and tangent vectors at them as rows ``(B, ambient)``, and the batch that all broadcast to."""
    who, size = f"FermatSpace.{verb}", space.ambient_dim
    x = validate.points(x, size, who, "x", like)
    if not isinstance(space, Euclidean):
        x = space._points(x, "x", verb)
    rows = [x]
    for name, v in given.items():
        v = validate.points(v, size, who, name, x)
        try:
            at, v = torch.broadcast_tensors(x, v)
        except RuntimeError:
            raise ValueError(f"{who}: x {tuple(x.shape)} and {name} {tuple(v.shape)} do not broadcast.") from None
        rows.append(space._tangent(at, v, verb))
    batch = torch.broadcast_shapes(*(r.shape[:-1] for r in rows))
    return [r.detach().expand(*batch, size).reshape(-1, size) for r in rows], batch


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


def check_effort(tol: Any, max_iter: Any) -> None:
    """How long relaxation may take, and when it may stop."""
    validate.count(max_iter, "FermatSpace.solve", "max_iter", 1)
    if tol is not None and not (isinstance(tol, (int, float)) and 0 < tol < math.inf):
        raise ValueError(f"FermatSpace.solve: tol must be a number above 0, or None for 1e-6; got {tol!r}.")


def check_constant(mu: Any) -> None:
    """The percolation constant."""
    if mu is not None and not (isinstance(mu, (int, float)) and 0 < mu < math.inf):
        raise ValueError(f"FermatSpace.dist: mu must be a number above 0, or None if it is not known; got {mu!r}.")


def fractions(t: Any, like: Tensor) -> Tensor:
    """Shares of a way, within rounding of [0, 1]."""
    t = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    slack = 8 * torch.finfo(t.dtype).eps
    if not bool(((t >= -slack) & (t <= 1 + slack)).all()):
        raise ValueError(
            f"FermatSpace.geodesic: t must be in [0, 1], from x to y, got values from {float(t.min()):.4g} to "
            f"{float(t.max()):.4g}: beyond the ends use exp(x, t * log(x, y))."
        )
    return t


def starts(given: Tensor, batch: torch.Size) -> Tensor:
    """Starting paths ``(*batch, K, ambient)`` as rows ``(B, K, ambient)``."""
    if given.ndim < 2 or given.shape[-2] < 2:
        raise ValueError(
            f"FermatSpace.solve: paths in `start` have two points at least, (*batch, K, ambient); got {tuple(given.shape)}."
        )
    try:
        return given.expand(*batch, *given.shape[-2:]).reshape(-1, *given.shape[-2:])
    except RuntimeError:
        raise ValueError(
            f"FermatSpace.solve: paths in `start` (*batch, K, ambient) for pairs of batch {tuple(batch)}; got "
            f"{tuple(given.shape)}."
        ) from None


def some(x: Tensor, verb: str) -> Tensor:
    """Rows, at least one."""
    if not len(x):
        raise ValueError(f"FermatSpace.{verb} of no rows: pass at least one.")
    return x


def lengths(log_length: Tensor) -> Tensor:
    """Lengths from their logs; one beyond the dtype is an error that names the cure."""
    lost = log_length.isnan() | (log_length == math.inf)
    if bool(lost.any()):
        raise ValueError(
            f"FermatSpace: {int(lost.sum())} of {lost.numel()} ways (first: {int(lost.flatten().nonzero()[0])}) lead through "
            "places where the log-density is not finite, or so low that their cost is beyond all numbers: pass points=, or "
            "solve(start=...), for ways around these, or a density that is positive between the ends."
        )
    length = log_length.exp()
    if bool(length.isinf().any()) or bool(((length == 0) & log_length.isfinite()).any()):
        raise ValueError(
            f"FermatSpace: lengths up to e^{float(log_length.max()):.0f} are out of the range of {length.dtype}: pass "
            "reference='mean' (or a number near the mean log density), which rescales all distances by one factor."
        )
    return length


def plane(space: Manifold, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal vectors in the underlying space that span the plane of u and v."""
    first = u / space._norm(x, u)[:, None]
    across = v - space._inner(x, first, v)[:, None] * first
    across = across - space._inner(x, first, across)[:, None] * first
    bad = ~(space._norm(x, across) > 100 * torch.finfo(x.dtype).eps * space._norm(x, v))
    if bool(bad.any()):
        raise ValueError(
            f"FermatSpace.sectional_curvature: u and v span no plane in {int(bad.sum())} rows (first: "
            f"{int(bad.nonzero()[0])}): give two independent tangent vectors."
        )
    return first, across / space._norm(x, across)[:, None]


def warn_unconverged(converged: Tensor) -> None:
    """Paths that still moved."""
    if not bool(converged.all()):
        warnings.warn(
            f"FermatSpace: {int((~converged).sum())} of {len(converged)} paths did not converge, so their lengths may be too "
            "long. Raise max_iter, or smooth the density (a flow with activation='silu').",
            stacklevel=4,
        )


def warn_lost(end: Tensor) -> None:
    """Geodesics that could not go on."""
    lost = int(end.isnan().any(-1).sum())
    if lost:
        warnings.warn(
            f"FermatSpace.exp: {lost} of {len(end)} geodesics leave the density's support, or shrink their steps to nothing "
            "before their length is used up: they are NaN. Give shorter velocities, or a smoother density.",
            stacklevel=3,
        )


def warn_misses(miss: Tensor, bound: float) -> None:
    """Velocities that do not lead where they should."""
    bad = miss > bound
    if bool(bad.any()):
        warnings.warn(
            f"FermatSpace.log: {int(bad.sum())} of {len(miss)} velocities did not converge: exp misses y by up to "
            f"{float(miss.max()):.1g} of the way. They are the relaxed paths' own; lengths and directions are better than "
            "that where geodesics spread fast.",
            stacklevel=3,
        )


def warn_restless(rests: Tensor, max_iter: int) -> None:
    """A mean that still moves."""
    if not bool(rests.all()):
        warnings.warn(
            f"FermatSpace.mean: it still moves after {max_iter} steps: raise max_iter=, or more nodes= for exact directions.",
            stacklevel=3,
        )
