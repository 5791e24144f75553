"""Independent densities side by side, on the product of their spaces."""

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, given
from geoflow.registry import register
from manifolds import Product
from manifolds.shapes import Points, Values


@register
class ProductDensity(Density):
    """p(x₁, x₂, …) = p₁(x₁) p₂(x₂) …, on `Product` of the factors' spaces: coordinates in one row, log densities added.

    A context goes to the factors that declare one; they must declare the same.

    Args:
        factors: densities, at least one.

    >>> from geoflow import StandardNormal
    >>> ProductDensity(StandardNormal(2), StandardNormal(1)).log_prob(torch.zeros(3))
    tensor(-2.7568)
    """

    def __init__(self, *factors: Density) -> None:
        super().__init__()
        wrong = [type(f).__name__ for f in factors if not isinstance(f, Density)]
        if wrong:
            raise TypeError(f"ProductDensity expects densities, which have a log_prob; got {', '.join(wrong)}.")
        if not factors:
            raise ValueError("ProductDensity expects at least one density.")
        self.context_dim, self.classes = validate.common_context(factors, "ProductDensity")
        self.factors = nn.ModuleList(factors)
        self.space = Product(*(f.space for f in factors))

    def _parts(self) -> list[Density]:
        return list(self.factors)  # type: ignore[arg-type]

    def _pieces(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split([f.dim for f in self._parts()], -1)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        pairs = zip(self._parts(), self._pieces(x), strict=True)
        return torch.stack([f._log_prob(piece, given(f, context)) for f, piece in pairs]).sum(0)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return torch.cat([f._sample(shape, given(f, context), generator) for f in self._parts()], -1)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return torch.cat([f._rsample(shape, given(f, context), generator) for f in self._parts()], -1)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """The sum of the factors'."""
        entropies = [f.entropy(given(f, context)) for f in self._parts()]
        return torch.stack(torch.broadcast_tensors(*entropies)).sum(0)

    def tempered(self, temperature: float) -> Density:
        """The product of the tempered factors."""
        return ProductDensity(*(f.tempered(temperature) for f in self._parts()))

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Each factor on its own columns."""
        for f, piece in zip(self._parts(), self._pieces(x), strict=True):
            f.prepare(piece, given(f, context))

    def schedule(self, step: int, steps: int) -> None:
        for f in self._parts():
            f.schedule(step, steps)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        for f, piece in zip(self._parts(), self._pieces(x), strict=True):
            f.finish(piece, given(f, context))
