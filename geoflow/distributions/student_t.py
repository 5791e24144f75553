"""Student's t in each column: a base whose tails are as heavy as the data's."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density
from geoflow.distributions.normals import moments
from geoflow.distributions.parameters import positive
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

SEEN = 50_000
"""Rows that `prepare` looks at, evenly spaced; a fit to more would not start a flow better."""


@register
class StudentT(Density):
    """log p(x) = Σ_i c(ν_i) − log scale_i − ½(ν_i + 1) log(1 + z_i²/ν_i), z = (x − mean)/scale, ν > 2.

        c(ν) = log Γ((ν + 1)/2) − log Γ(ν/2) − ½ log πν

    The tails of a flow are those of its base: behind affine far ends a normal base calls every outlier impossible, and a
    few rows decide the mean likelihood. Mean, scale and ν (by the logarithm of ν − 2, so that variances exist) are
    learned; the density factorises, and is not the multivariate t. Draws are z = √(ν (e^(2E/ν) − 1)) cos 2πU with E
    exponential and U uniform, smooth in ν and without rejection. [bailey1994]

    Args:
        dim: number of columns.
        dof: ν > 2, one number or one for each column.
        learned: whether ν is trained and fitted, or stays.

    >>> StudentT(1, dof=4.0).log_prob(torch.zeros(1)).detach()
    tensor(-0.9808)
    """

    log_excess: Tensor

    def __init__(self, dim: int, dof: float | Sequence[float] | Tensor = 10.0, learned: bool = True) -> None:
        super().__init__()
        self.space = Euclidean(validate.count(dim, "StudentT", "dim", 1))
        self.learned = learned
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))
        given = positive(dof, [(dim,)], self.mean, "StudentT", "dof")
        if not bool((given > 2).all()):
            raise ValueError(f"StudentT expects dof > 2, where variances exist, got {given.tolist()}.")
        log_excess = (given - 2).log()
        if learned:
            self.log_excess = nn.Parameter(log_excess)
        else:
            self.register_buffer("log_excess", log_excess)

    @classmethod
    def of(cls, mean: Tensor, scale: Tensor, dof: float | Sequence[float] | Tensor, learned: bool = True) -> "StudentT":
        """With the given mean and scales ``(dim,)``; the deviations are scale · √(ν / (ν − 2))."""
        if mean.shape != scale.shape or mean.ndim != 1 or not bool((scale > 0).all()):
            raise ValueError(
                f"StudentT.of expects mean and positive scale of one shape (dim,), got {tuple(mean.shape)} and "
                f"{tuple(scale.shape)}."
            )
        made = cls(len(mean), dof, learned).to(mean)
        with torch.no_grad():
            made.mean.copy_(mean)
            made.log_scale.copy_(scale.log())
            made.log_excess.copy_((torch.as_tensor(dof).to(mean) - 2).log())  # in the dtype of mean
        return made

    @classmethod
    def from_data(cls, x: Any, context: Any = None, **options: Any) -> "StudentT":
        """The maximum of the likelihood of rows ``(n, dim)``, found by L-BFGS; `options` are `dof` and `learned`."""
        x = validate.table(x, "StudentT.from_data", minimum=2)
        validate.training_rows(x, "StudentT.from_data")
        fitted = cls(x.shape[1], **options).to(x)
        fitted._fit(x)
        return fitted

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Start from the fit to at most 50,000 of the rows."""
        self._fit(x[:: -(-len(x) // SEEN)])

    def _fit(self, x: Tensor) -> None:
        mean, std = moments(x)
        rows = (x.detach().double() - mean) / std
        twin = copy.deepcopy(self).double()
        with torch.enable_grad():
            parameters = [p.requires_grad_() for p in twin.parameters()]
            nn.init.zeros_(twin.mean)
            twin.log_scale.data.copy_(0.5 * (-2 / twin.dof).log1p())
            steps = torch.optim.LBFGS(
                parameters, max_iter=100, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
            )

            def closure() -> Tensor:
                steps.zero_grad()
                loss = -twin._log_prob(rows).mean()
                loss.backward()
                return loss

            steps.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.mean.copy_(mean + std * twin.mean)
            self.log_scale.copy_(twin.log_scale + std.log())
            self.log_excess.copy_(twin.log_excess)

    @property
    def dof(self) -> Tensor:
        """ν ``(dim,)``."""
        return 2 + self.log_excess.exp()

    @property
    def scale(self) -> Tensor:
        """Scales ``(dim,)``."""
        return self.log_scale.exp()

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        nu = self.dof.double()  # log Γ of a large ν has no digits to lose in float32
        constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * (math.pi * nu).log()
        z = (x - self.mean) * torch.exp(-self.log_scale)
        bent = ((self.dof + 1) / 2 * torch.log1p(z * z / self.dof)).sum(-1)
        return (constant.sum() - self.log_scale.double().sum()).to(x) - bent

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        radius = torch.empty(*shape, self.dim, dtype=self.mean.dtype, device=self.mean.device)
        radius = radius.exponential_(generator=generator)
        turn = torch.rand(radius.shape, generator=generator, dtype=radius.dtype, device=radius.device)
        z = (self.dof * torch.expm1(2 * radius / self.dof)).sqrt() * (2 * math.pi * turn).cos()
        return self.mean + z * self.scale

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._rsample(shape, context, generator)

    def entropy(self, context: Tensor | None = None) -> Tensor:
        """Σ log scale + ½(ν + 1) (ψ((ν + 1)/2) − ψ(ν/2)) − c(ν)."""
        nu = self.dof.double()
        half, more = nu / 2, (nu + 1) / 2
        constant = torch.lgamma(more) - torch.lgamma(half) - 0.5 * (math.pi * nu).log()
        each = more * (torch.digamma(more) - torch.digamma(half)) - constant
        return (each.sum() + self.log_scale.double().sum()).to(self.mean)

    def tempered(self, temperature: float) -> Density:
        """Student's t again: ν → (ν + 1)/T − 1, with scale² ν as before, where the new ν is above 2."""
        before = self.dof.detach()
        dof = (before + 1) / temperature - 1
        if not bool((dof > 2).all()):
            raise ValueError(
                f"StudentT: at temperature {temperature} p^(1/T) has no variance, with dof {before.tolist()}: lower the "
                f"temperature below {float((before + 1).min()) / 3:.3g}."
            )
        return StudentT.of(self.mean.detach(), self.scale.detach() * (before / dof).sqrt(), dof)
