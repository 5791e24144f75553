"""normflows' models as densities, its flows as bijections."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.flows import Flow
from geoflow.interop.normflows_bases import NormflowsBase, draws, log_prob
from geoflow.interop.normflows_maps import (
    NormflowsBijection,
    check,
    initialised,
    one_dtype,
    other_end,
    through,
    waits,
)
from geoflow.interop.rows import default_dtype, drawing, dtype_of, per_row
from manifolds import Euclidean
from manifolds.shapes import Points, Values


def from_normflows(
    model: nn.Module, *, shape: Sequence[int] | None = None, context: int = 0, exact: bool = False
) -> Density:
    """A model of normflows as a `Density`: `log_prob`, `sample`, `score`, `fit`, and `.bijection` where there is one.

    A NormalizingFlow, a ConditionalNormalizingFlow or a ClassCondFlow becomes a `Flow`, a MultiscaleFlow a density without
    a bijection. encode is the inverse of normflows' forward. Points are flat: an image ``(3, 8, 8)`` is 192 numbers.
    Log-dets are added up here, in the dtype of the points, so that float64 stays float64 in training too. Nothing of
    normflows is called that changes a model (`reverse_kld` would unfreeze parameters): train with `geoflow.fit`. An
    `ActNorm` takes its scale from the training rows in `prepare`, not from the first batch it meets.

    Such a `Flow` is saved as any other. With a model built as before and ``again = from_normflows(model)``, it is loaded by
    ``load(path, modules={"bijection": again.bijection, "base": again.base})``.

    Args:
        model: one of the four.
        shape: of a data point, where it is not that of a draw.
        context: width of the float condition of a ConditionalNormalizingFlow.
        exact: take the log-det of `Residual` from its whole Jacobian (`dim` backward passes, thrice as many to decode).

    Raises:
        TypeError: `model` is none of these.
        ValueError: a flow or base cannot work, or only with `exact`, with what to do instead; parts differ in dtype.

    >>> import normflows as nf
    >>> flows = [nf.flows.AutoregressiveRationalQuadraticSpline(3, 1, 16) for _ in range(2)]
    >>> density = from_normflows(nf.NormalizingFlow(nf.distributions.DiagGaussian(3), flows))
    >>> density.log_prob(density.sample((2, 5))).shape
    torch.Size([2, 5])
    """
    import normflows as nf

    if isinstance(model, nf.MultiscaleFlow):
        return NormflowsMultiscale(model, shape, exact)
    if not isinstance(model, (nf.NormalizingFlow, nf.ClassCondFlow)):
        raise TypeError(
            "from_normflows expects a NormalizingFlow, ConditionalNormalizingFlow, ClassCondFlow or MultiscaleFlow, got "
            f"{type(model).__name__}: bijection_from_normflows takes single flows."
        )
    if isinstance(model, nf.ConditionalNormalizingFlow) != bool(context):
        raise ValueError(
            "from_normflows expects context=, the width of the condition, with a ConditionalNormalizingFlow and with no "
            f"other model; got context={context} with a {type(model).__name__}."
        )
    check(model, exact)
    base, flow = NormflowsBase(model.q0, context), nf.flows.Composite(list(model.flows))
    one_dtype(base, flow)
    base = base.to(dtype_of(nn.ModuleList([flow, base])))  # a base without parameters follows the flow
    if shape is None:
        blank = torch.zeros(1, context, dtype=dtype_of(flow)) if context else None
        shape = other_end(flow, base.shape, blank, True)
    return Flow(NormflowsBijection(flow, shape, context, exact=exact), base)


def bijection_from_normflows(
    flow: nn.Module, shape: int | Sequence[int], *, context: int = 0, classes: int = 0, exact: bool = False
) -> NormflowsBijection:
    """A single flow of normflows, or a Composite of some, as a `Bijection`: encode is its inverse.

    Args:
        flow: of ``normflows.flows``.
        shape: of a data point, or its number of columns.
        context, classes: width of the float condition it takes, or number of labels (`CCAffineConst`).
        exact: as in `from_normflows`, with what is raised.

    >>> import normflows as nf
    >>> bijection_from_normflows(nf.flows.LULinearPermute(3), 3).encode(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    return NormflowsBijection(flow, shape, context, classes, exact)


class NormflowsMultiscale(Density):
    """A MultiscaleFlow as a density: its codes have several shapes, and a base each.

    Args:
        model: a MultiscaleFlow.
        shape: of a data point; None is that of a draw.
        exact: as in `from_normflows`.
    """

    waiting: Tensor

    def __init__(self, model: nn.Module, shape: Sequence[int] | None = None, exact: bool = False) -> None:
        super().__init__()
        check(model, exact)
        self.model, self.exact = model, exact
        bases: Any = model.q0 if model.class_cond else []
        self.classes = max((getattr(q0, "num_classes", None) or 0 for q0 in bases), default=0)
        self.register_buffer("waiting", torch.tensor(waits(model)))
        initialised(model, True)
        label = torch.zeros(1, dtype=torch.long) if self.classes else None
        self.shape = list(self._drawn(1, label).shape[1:]) if shape is None else list(shape)
        self.space = Euclidean(prod(self.shape))

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let each `ActNorm` that has seen no data take scale and mean of these rows, all at once."""
        if bool(self.waiting):
            initialised(self.model, False)
            self._log_prob(x, context)
            initialised(self.model, True)
            self.waiting.fill_(False)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        batch = x.shape[:-1]
        if 0 in batch:
            return x.new_zeros(batch)
        labels = [] if context is None else [context.reshape(-1)]
        m: Any = self.model
        z: Any = x.reshape(-1, *self.shape).clone()
        total = per_row(0.0, z)
        with default_dtype(x.dtype):
            for flow in [] if m.transform is None else [m.transform]:
                z, log_det = through(flow, z, None, False)
                total = total + log_det
            for level in reversed(range(len(m.q0))):
                for flow in reversed(m.flows[level]):
                    z, log_det = through(flow, z, None, False)
                    total = total + log_det
                code = z
                if level:
                    (z, code), _ = through(m.merges[level - 1], z, None, False)
                total = total + log_prob(m.q0[level], code, labels)
        return total.reshape(batch)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        like = next(self.model.parameters())
        if 0 in shape:
            return like.new_empty(*shape, self.dim)
        context = self._spread(context, shape)
        labels = None if context is None else context.reshape(-1)
        with drawing(generator), default_dtype(like.dtype):
            return self._drawn(prod(shape), labels).to(like.dtype).reshape(*shape, self.dim)

    @torch.no_grad()
    def _drawn(self, n: int, labels: Tensor | None) -> Tensor:
        """n draws in the shape of data."""
        m: Any = self.model
        given = [] if labels is None else [labels]
        z: Any = None
        for level, q0 in enumerate(m.q0):
            code = draws(q0, n, given)
            z = code if not level else through(m.merges[level - 1], [z, code], None, True)[0]
            for flow in m.flows[level]:
                z, _ = through(flow, z, None, True)
        return z if m.transform is None else through(m.transform, z, None, True)[0]
