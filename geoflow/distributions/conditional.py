"""One normal density per class: the base that labels choose from."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.normals import LOG_2PI, moments
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values


@register
class ClassConditional(Density):
    """x | u ~ N(mean_u, diag std_u²) for integer labels u, with a learned mean and deviation per class.

    Args:
        dim: number of columns.
        classes: number of labels; the context is an integer tensor ``(*batch,)`` below it.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.space = Euclidean(validate.count(dim, "ClassConditional", "dim", 1))
        self.classes = validate.count(classes, "ClassConditional", "classes", 1)
        self.mean = nn.Parameter(torch.zeros(classes, dim))
        self.log_std = nn.Parameter(torch.zeros(classes, dim))

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "ClassConditional":
        """Fitted to rows ``(n, dim)`` with labels ``(n,)``: the moments of each class."""
        if context is None:
            raise TypeError("ClassConditional.from_data needs context=, one integer label per row.")
        x = validate.table(x, "ClassConditional.from_data", minimum=2)
        validate.training_rows(x, "ClassConditional.from_data")
        labels = torch.as_tensor(context)
        fitted = cls(x.shape[1], int(labels.max()) + 1).to(x)
        fitted.prepare(x, validate.context(labels, x.shape[:1], 0, fitted.classes, "ClassConditional.from_data"))
        return fitted

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the moments of each class; every class needs two rows."""
        assert context is not None
        counts = torch.bincount(context, minlength=self.classes)
        if bool((counts < 2).any()):
            few = (counts < 2).nonzero().flatten().tolist()
            raise ValueError(f"ClassConditional expects at least two rows of each class; class {few[:5]} has fewer.")
        floor = 1e-6 * moments(x)[1]
        for u in range(self.classes):
            mean, std = moments(x[context == u])
            self.mean[u], self.log_std[u] = mean, torch.maximum(std, floor).log()

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        log_std = self.log_std[context]
        z = (x - self.mean[context]) * torch.exp(-log_std)
        return -0.5 * ((z * z).sum(-1) + self.dim * LOG_2PI) - log_std.sum(-1)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        z = torch.randn(*shape, self.dim, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean[context] + z * self.log_std[context].exp()

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Of each context's class: Σ log std + d/2 (1 + log 2π)."""
        context = validate.context(context, None, 0, self.classes, "ClassConditional.entropy")
        return self.log_std[context].sum(-1) + 0.5 * self.dim * (1 + LOG_2PI)
