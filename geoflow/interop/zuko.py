"""zuko's lazy flows and distributions as densities."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, reference
from geoflow.flows import Flow
from geoflow.interop.rows import Foreign, default_dtype, drawing, dtype_of, is_a, per_row
from manifolds import Euclidean
from manifolds.shapes import Points, Values


def from_zuko(flow: nn.Module, *, context: int = 0) -> Density:
    """A zuko flow as a `Flow`, with `.bijection` and `.base`; any other lazy distribution as a `Density`.

    encode is zuko's transform, data → latent. Flows that zuko inverts by bisection or by solving an ODE (NAF, UNAF, SOSPF,
    BPF, GF, CNF) decode to its tolerance, about 1e-6. A `Flow`
    is saved and loaded as those of `from_normflows` are.

    Args:
        flow: a lazy distribution: a flow, a mixture, `UnconditionalDistribution(...)`.
        context: width of the condition it was built with.

    Raises:
        TypeError: not a lazy distribution of zuko.
        ValueError: its events are no vectors; or its log-det is a random estimate.
    """
    from zuko.lazy import Flow as Theirs  # type: ignore[import-untyped]
    from zuko.lazy import LazyDistribution

    if not isinstance(flow, LazyDistribution):
        raise TypeError(
            f"from_zuko expects a lazy distribution of zuko, such as zuko.flows.NSF(3), got {type(flow).__name__}: "
            "from_torch takes distributions."
        )
    if not isinstance(flow, Theirs):
        return ZukoDensity(flow, context)
    base = ZukoDensity(flow.base, 0)
    return Flow(ZukoBijection(flow.transform, base.dim, context), base)


class ZukoBijection(Foreign):
    """A lazy transform of zuko as a bijection, for `from_zuko`."""

    def __init__(self, transform: nn.Module, dim: int, context_dim: int = 0) -> None:
        super().__init__(dim, context_dim)
        for part in transform.modules():
            if is_a(part, "FFJTransform") and not part.exact:
                raise ValueError("from_zuko: a CNF with exact=False has a random log-det: build it with exact=True.")
        self.transform = transform

    def _there(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = self.transform(context).call_and_ladj(x)
        return z, per_row(log_det, x)

    def _back(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_det = self.transform(context).inv.call_and_ladj(z)
        return x, per_row(log_det, z)


class ZukoDensity(Density):
    """A lazy distribution of zuko as a density, for `from_zuko`."""

    _anchor: Tensor

    def __init__(self, lazy: nn.Module, context_dim: int = 0) -> None:
        super().__init__()
        self.lazy, self.context_dim = lazy, validate.count(context_dim, "from_zuko", "context")
        like = reference(lazy)
        event = self._law(torch.zeros(context_dim).to(like) if context_dim and like is not None else None).event_shape
        if len(event) != 1:
            raise ValueError(f"from_zuko expects a distribution of vectors, got events of shape {tuple(event)}.")
        self.space = Euclidean(event[0])
        self.register_buffer("_anchor", torch.empty(0, dtype=dtype_of(lazy)), persistent=False)

    def _law(self, context: Context) -> Any:
        return self.lazy(context)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        batch = x.shape[:-1]
        if 0 in batch:
            return x.new_zeros(batch)
        given = None if context is None else context.reshape(-1, self.context_dim)
        with default_dtype(x.dtype):
            return self._law(given).log_prob(x.reshape(-1, self.dim)).to(x.dtype).reshape(batch)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self._draw("sample", shape, context, generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if not self._law(context).has_rsample:
            return super()._rsample(shape, context, generator)
        return self._draw("rsample", shape, context, generator)

    def _draw(self, verb: str, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        if 0 in shape:
            return self._anchor.new_empty(*shape, self.dim)
        context = self._spread(context, shape)
        with drawing(generator), default_dtype(self._anchor.dtype):
            law = self._law(context)
            return getattr(law, verb)(() if context is not None else shape).to(self._anchor)
