"""Weighted rows of the members of a family, and Fréchet means over them."""

from torch import Tensor

from manifolds import Manifold

LEAST = 1e-10
"""Rows of smaller weight than this share of a member's largest are left out."""


class Pairs:
    """Each member of a family with the rows that weigh in it: a mixture's fit then costs its rows, not rows × members.

    Args:
        x: rows ``(n, dim)``.
        weights: ``(n, *batch)``, not negative, no member's all zero.

    Attributes:
        x: the rows of the pairs ``(pairs, dim)``, in float64.
        member: which member each is a row of ``(pairs,)``.
    """

    def __init__(self, x: Tensor, weights: Tensor) -> None:
        w = weights.detach().reshape(len(x), -1).double()
        row, self.member = (w > LEAST * w.amax(0)).nonzero(as_tuple=True)
        self.x, self._weight, self._batch = x.detach()[row].double(), w[row, self.member], weights.shape[1:]
        self._total = self._weight.new_zeros(w.shape[1]).index_add(0, self.member, self._weight)

    def mean(self, values: Tensor) -> Tensor:
        """Weighted averages ``(*batch, ...)`` of a number or vector per pair."""
        w = (self._weight / self._total[self.member]).reshape(-1, *[1] * (values.ndim - 1))
        total = values.new_zeros(len(self._total), *values.shape[1:])
        return total.index_add(0, self.member, w * values).reshape((*self._batch, *values.shape[1:]))

    def at(self, parameters: Tensor) -> Tensor:
        """A parameter ``(*batch, k)`` of the members as one of their pairs ``(pairs, k)``."""
        return parameters.reshape(len(self._total), -1)[self.member]

    def frechet_mean(self, space: Manifold, start: Tensor | None = None, rounds: int = 100) -> Tensor:
        """Minimisers of the weighted squared distances ``(*batch, dim)``, by the iteration of `Manifold.mean`."""

        def spread(m: Tensor) -> Tensor:
            return self.mean(space._squared_dist(self.at(m), self.x))

        def step(m: Tensor) -> Tensor:
            return self.mean(space._log(self.at(m), self.x))

        start = self.mean(self.x) if start is None else start
        return space._descended(space._project(start), spread, step, rounds)
