"""Densities of one number in an interval: integrals and means by Gauss and Legendre's rule, draws without rejection.

Draws invert the distribution function: a fixed number of operations for all draws and all members of a batch, and the
same uniform numbers give draws that move smoothly with the parameters.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Function = Callable[..., Tensor]


def _gauss(n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)


COARSE, FINE = _gauss(6), _gauss(200)
CELLS = 512


def _spread(low: Tensor, high: Tensor, rule: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Nodes and log weights of a rule on [low, high], on a new last axis."""
    nodes, weights = (t.to(low) for t in rule)
    length = (high - low)[..., None]
    return low[..., None] + length * nodes, length.log() + weights.log()


class Law:
    """The density on [low, high] proportional to exp f(r, *parameters), one for each member of a batch.

    Args:
        f: its logarithm up to a constant, elementwise in r and the parameters, which broadcast.
        low, high: ends of the interval, ``(*batch)``, not differentiated.
        parameters: each ``(*batch)``, in float64.
    """

    def __init__(self, f: Function, low: Tensor, high: Tensor, *parameters: Tensor) -> None:
        self.f, self.parameters = f, parameters
        self.low, self.high = low.detach().double(), high.detach().double()

    def log_integral(self) -> Tensor:
        """log ∫ exp f, ``(*batch)``, by 200 nodes."""
        r, log_weight = _spread(self.low, self.high, FINE)
        return torch.logsumexp(self._at(r) + log_weight, -1)

    def mean(self, g: Function) -> Tensor:
        """E g(r), ``(*batch)``, for g elementwise in r ``(*batch, 200)``."""
        r, log_weight = _spread(self.low, self.high, FINE)
        return (torch.softmax(self._at(r) + log_weight, -1) * g(r)).sum(-1)

    def draw(self, index: Tensor, u: Tensor, attached: bool = False) -> Tensor:
        """Where the distribution function of the member that `index` names, in the flattened batch, reaches u.

        A table of 512 cells a member is searched, and the rest solved inside the cell by four guarded steps of Newton:
        the distribution function is met to 1e-12, or to 1e-7 where the density has a cusp at an end. If `attached`,
        the derivative in the parameters is that which holds u fixed, −∂F(r)/p(r); second ones are not those of the
        draw. [figurnov2018]

        Args:
            index: whole numbers, any shape.
            u: numbers in (0, 1) of the same shape.
            attached: whether derivatives in the parameters are wanted.
        """
        flat = Law(self.f, self.low.reshape(-1), self.high.reshape(-1), *(p.reshape(-1) for p in self.parameters))
        r = flat._invert(index.reshape(-1), u.detach().double().reshape(-1), attached and torch.is_grad_enabled())
        return r.reshape(u.shape)

    def _at(self, r: Tensor) -> Tensor:
        """f at r ``(*batch, m)``."""
        return self.f(r, *(p[..., None] for p in self.parameters))

    def _table(self, top: Tensor) -> tuple[Tensor, Tensor]:
        """Edges of cells and the mass below each, relative to exp top, ``(members, cells + 1)``."""
        steps = torch.linspace(0, 1, CELLS + 1, dtype=self.low.dtype, device=self.low.device)
        edges = self.low[:, None] + (self.high - self.low)[:, None] * steps
        r, log_weight = _spread(edges[:, :-1], edges[:, 1:], COARSE)
        mass = (self._at(r.flatten(1)).unflatten(1, r.shape[1:]) + log_weight - top[:, None, None]).exp().sum(-1)
        return edges, torch.nn.functional.pad(mass.cumsum(-1), (1, 0))

    def _invert(self, index: Tensor, u: Tensor, attached: bool) -> Tensor:
        own = tuple(p[index] for p in self.parameters)
        top = self._at(_spread(self.low, self.high, FINE)[0]).detach().amax(-1)

        def p(r: Tensor) -> Tensor:
            return (self.f(r, *own) - top[index]).exp()

        def part(a: Tensor, r: Tensor) -> Tensor:
            points, log_weight = _spread(a, r, COARSE)
            return (self.f(points, *(t[:, None] for t in own)) + log_weight - top[index, None]).exp().sum(-1)

        with torch.no_grad():
            edges, below = self._table(top)
            wanted = u * below[index, -1]
            cell = _last_below(below, index, wanted)
            a, b = edges[index, cell], edges[index, cell + 1]
            before, mass = below[index, cell], (below[index, cell + 1] - below[index, cell]).clamp_min(1e-300)
            share = ((wanted - before) / mass).clamp(0, 1)
            # At the ends of the interval the mass may go as a power of the distance, which the density beside it tells.
            power = ((b - a) * p(torch.where(cell == 0, b, a)) / mass).clamp_min(1)
            share = torch.where(cell == 0, share ** (1 / power), share)
            share = torch.where(cell == CELLS - 1, 1 - (1 - share) ** (1 / power), share)
            left, right, r = a, b, a + (b - a) * share
            for _ in range(4):
                excess = part(a, r) - (wanted - before)
                left, right = torch.where(excess < 0, r, left), torch.where(excess < 0, right, r)
                step = r - excess / p(r)
                r = torch.where((step >= left) & (step <= right), step, (left + right) / 2)
        if not attached:
            return r
        below = self._table(top)[1]
        total = below[index, -1]
        reached = (below[index, cell] + part(a, r)) / total
        return r - (reached - reached.detach()) * (total / p(r).clamp_min(1e-300)).detach()


def _last_below(table: Tensor, index: Tensor, wanted: Tensor) -> Tensor:
    """The last cell whose lower edge is at most `wanted`, each in its own row of the table, by halving."""
    cell, size = torch.zeros_like(index), CELLS
    while size > 1:
        size //= 2
        cell = torch.where(table[index, cell + size] <= wanted, cell + size, cell)
    return cell
