"""The weight of a Fermat distance, λ = (p / e^c)^{-β}, in logs: its values and the score it bends paths by."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.density import Density
from geoflow.distances.scores.network import ScoreNetwork
from manifolds import Manifold

ROWS = 4096
"""Points evaluated at once on a CPU: more leave the cache."""


def directions(score: Any) -> Callable[[Tensor], Tensor] | None:
    """What gives the score at points: of a network its unchecked twin, for calling it would give its loss."""
    return score._score if isinstance(score, ScoreNetwork) else score


def _vectors(score: Tensor, x: Tensor) -> Tensor:
    """What a user's score gave, if it is a vector at each point."""
    if score.shape != x.shape:
        raise ValueError(f"FermatSpace: score= must give a vector a point, {tuple(x.shape)}; got {tuple(score.shape)}.")
    return score


class Weight:
    """log λ(x) = −β (log p(x) − c), with p restated for the Riemannian volume of `space`.

    Args:
        density: anything with ``log_prob(x)``; its own ``space`` (if any) says which volume p refers to.
        space: where paths run and lengths are measured.
        power: β.
        reference: c, in nats.
        score: directions to bend by, x → ∇ log p in ambient coordinates, instead of the density's own; a function, or a
            `ScoreNetwork`.
    """

    def __init__(self, density: Any, space: Manifold, power: float, reference: float, score: Any) -> None:
        self.density, self.space, self.power, self.reference = density, space, power, reference
        self.score = directions(score)

    def _log_prob(self, x: Tensor) -> Tensor:
        log_p = self.density._log_prob(x) if isinstance(self.density, Density) else self.density.log_prob(x)
        if log_p.shape != x.shape[:-1]:
            raise ValueError(
                f"FermatSpace: log_prob must give one number a point, {tuple(x.shape[:-1])} for x {tuple(x.shape)}; got "
                f"{tuple(log_p.shape)}."
            )
        home = getattr(self.density, "space", None)
        if home is not None and home != self.space:
            log_p = log_p + home._log_volume(x) - self.space._log_volume(x)
        elif home is None:
            log_p = log_p - self.space._log_volume(x)
        return log_p

    def _blocks(self, x: Tensor) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        return flat.split(ROWS) if flat.device.type == "cpu" and len(flat) > ROWS else (flat,)

    @torch.no_grad()
    def log(self, x: Tensor) -> Tensor:
        """log λ ``(*batch)`` at points ``(*batch, ambient)``."""
        values = torch.cat([self._log_prob(b) for b in self._blocks(x)])
        return (-self.power * (values - self.reference)).reshape(x.shape[:-1])

    def log_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log λ ``(*batch)`` and the score, the Riemannian gradient of log p, ``(*batch, ambient)``, from one call."""
        values, scores = zip(*(self._value_and_score(b) for b in self._blocks(x)), strict=True)
        log_weight = -self.power * (torch.cat(values) - self.reference)
        return log_weight.reshape(x.shape[:-1]), torch.cat(scores).reshape(x.shape)

    def scores(self, x: Tensor) -> Tensor:
        """The score alone ``(*batch, ambient)``."""
        return self.log_and_score(x)[1]

    def _value_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        own = self.score
        if own is None and not isinstance(self.density, nn.Module) and hasattr(self.density, "score"):
            own = self.density.score
        if own is not None:
            with torch.no_grad():
                return self._log_prob(x), self.space._egrad_to_rgrad(x, _vectors(own(x), x))
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = self._log_prob(x)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), self.space._egrad_to_rgrad(x.detach(), gradient)


class ScoreWeight:
    """The weight when only a score is known: log p is its integral along each path, from zero at the path's start.

    The integral depends on the path and misses a constant, so lengths are relative: good for comparing paths between
    the same points, not distances between different ones.
    """

    def __init__(self, space: Manifold, power: float, score: Any) -> None:
        self.space, self.power = space, power
        self.score: Callable[[Tensor], Tensor] = directions(score)  # type: ignore[assignment]

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """The score ``(*batch, ambient)``."""
        return self.space._egrad_to_rgrad(x, _vectors(self.score(x), x))

    @torch.no_grad()
    def along(self, nodes: Tensor, middles: Tensor, forward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log λ at nodes ``(B, M+1)`` and middles ``(B, M)``, scores at nodes, by Simpson's rule along the path.

        `forward` are the vectors ``(B, M, ambient)`` from each node to the next.
        """
        at_nodes, at_middles = self.scores(nodes), self.scores(middles)
        start = self.space._inner(nodes[:, :-1], at_nodes[:, :-1], forward)
        middle = self.space._inner(middles, at_middles, forward)
        end = self.space._inner(nodes[:, 1:], at_nodes[:, 1:], forward)
        log_p = nn.functional.pad(((start + 4 * middle + end) / 6).cumsum(-1), (1, 0))
        log_middle = log_p[:, :-1] + (5 * start + 8 * middle - end) / 24
        return -self.power * log_p, -self.power * log_middle, at_nodes
