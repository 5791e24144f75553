"""Maps that act on each column by itself: to zero mean and unit variance, and from an interval to the whole line."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.maps import Bijection, Data, FeaturesFirst, Latent, Turned
from geoflow.registry import register


@register
class Standardize(FeaturesFirst):
    """z = (x − mean) / std, with the training data's mean and standard deviation, set by `prepare`.

    Args:
        dim: number of columns.
        per: ``"column"`` for each its own; ``"all"`` for one factor (images); ``"scale"`` for one factor, the root mean
            square about zero, and no mean: what turns and renumbers centred particles does so after it as before, where a
            mean of its own for each column would tell particles and directions apart.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, per: Literal["column", "all", "scale"] = "column") -> None:
        super().__init__(dim)
        if per not in ("column", "all", "scale"):
            raise ValueError(f"Standardize expects per='column', 'all' or 'scale', got {per!r}.")
        self.per = per
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take mean and standard deviation of the rows ``(n, dim)``; a constant column has neither and is refused."""
        rows = x.reshape(-1, self.dim).double()
        mean = torch.zeros_like(rows[0]) if self.per == "scale" else rows.mean(0)
        std = (rows - mean).square().mean(0).sqrt()
        span = rows.amax(0) - rows.amin(0)
        if self.per != "column":
            std = std.square().mean().sqrt().expand(self.dim)
            span = span.amax().expand(self.dim)
        if bool((span == 0).any()):
            raise ValueError(
                f"Standardize: column {(span == 0).nonzero().flatten().tolist()[:5]} is constant: drop it."
            )
        self.mean.copy_(mean)
        self.std.copy_(torch.maximum(std, 1e-6 * span))

    def residual(self, x: Data, xh: Data) -> Data:
        return (xh - x) / self.std

    def residual_log_det(self) -> Tensor:
        return -self.std.log().sum()

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Tensor]:
        return (x.contiguous() - self.mean[:, None]) / self.std[:, None], -self.std.log().sum()

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Tensor]:
        return z * self.std[:, None] + self.mean[:, None], self.std.log().sum()


@register
class Bounded(Bijection):
    """From intervals to the whole line, column by column: the logit between two bounds, a logarithm at one.

    z = log((x − low) / (high − x)), z = log(x − low), z = −log(high − x), or z = x. The density of a flow behind it is
    zero outside the bounds and on them: there log_det is −∞ and z that of the nearest point inside.

    Args:
        low, high: a bound per column, None where there is none.

    >>> share = Bounded([0.0, None], [1.0, None])
    >>> share.encode(torch.tensor([0.5, 7.0]))
    tensor([0., 7.])
    """

    def __init__(self, low: Sequence[float | None], high: Sequence[float | None]) -> None:
        super().__init__(len(low))
        if len(low) != len(high):
            raise ValueError(
                f"Bounded expects a bound per column on either side, got {len(low)} low and {len(high)} high."
            )
        self.low = [None if b is None or math.isinf(b) else float(b) for b in low]
        self.high = [None if b is None or math.isinf(b) else float(b) for b in high]
        for j, (a, b) in enumerate(zip(self.low, self.high, strict=True)):
            if (a is not None and a != a) or (b is not None and b != b) or (a is not None and b is not None and a >= b):
                raise ValueError(f"Bounded: column {j} has bounds {a} and {b}; the first must be below the second.")

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Refuse rows that are not inside."""
        low, high = self._bounds(x)
        bad = ((x <= low) | (x >= high)).reshape(-1, self.dim)
        if bool(bad.any()):
            j = int(bad.any(0).nonzero()[0])
            worst = float(x.reshape(-1, self.dim)[bad[:, j], j][0])
            raise ValueError(
                f"Bounded: {int(bad[:, j].sum())} values of column {j} are not inside ({self.low[j]}, {self.high[j]}), "
                f"such as {worst:g}: widen the bound (values on it have no finite image)."
            )

    def _bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = x.new_tensor([-math.inf if b is None else b for b in self.low])
        return low, x.new_tensor([math.inf if b is None else b for b in self.high])

    def _edges(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Bounds with finite stand-ins where there are none, and which columns have them."""
        low, high = self._bounds(x)
        below, above = low.isfinite(), high.isfinite()
        return low.where(below, torch.zeros_like(low)), high.where(above, torch.zeros_like(high)), below, above

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        low, high, below, above = self._edges(x)
        inner = self._inside(x)
        one = torch.ones_like(x)
        up, down = (inner - low).where(below, one).log(), (high - inner).where(above, one).log()
        z = (up - down).where(below | above, inner)
        width = (high - low).where(below & above, torch.ones_like(low)).log()
        log_det = (width - up - down).sum(-1)
        return z, log_det.where((inner == x).all(-1), torch.full_like(log_det, -math.inf))

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        low, high, below, above = self._edges(z)
        both, width = below & above, high - low
        share = width * torch.sigmoid(z.where(both, torch.zeros_like(z)))
        grown = torch.exp(torch.where(above, -z, z).where(below ^ above, torch.zeros_like(z)))
        x = torch.where(both, low + share, torch.where(below, low + grown, torch.where(above, high - grown, z)))
        logs = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)
        of_both = logs + width.where(both, torch.ones_like(width)).log()
        log_det = torch.where(both, of_both, torch.where(below, z, torch.where(above, -z, torch.zeros_like(z))))
        return self._inside(x), log_det.sum(-1)

    def _inside(self, x: Tensor) -> Tensor:
        low, high = self._bounds(x)
        return torch.minimum(torch.maximum(x, torch.nextafter(low, high)), torch.nextafter(high, low))


class Alike(Bijection):
    """A `Bounded` with the same bounds for all columns.

    Args:
        dim: number of columns.
        low, high: the bounds, None where there is none.
    """

    def __init__(self, dim: int, low: float | None, high: float | None) -> None:
        super().__init__(dim)
        self.bounded = Bounded([low] * self.dim, [high] * self.dim)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Refuse rows that are not inside."""
        self.bounded.prepare(x)

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.bounded._encode_and_log_det(x)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.bounded._decode_and_log_det(z)


@register
class Positive(Alike):
    """z = log x, for columns that are all above zero; the density of a flow behind it is zero elsewhere.

    Args:
        dim: number of columns.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 0.0, None)
