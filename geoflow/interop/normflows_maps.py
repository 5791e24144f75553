"""normflows' flows as bijections: encode is their inverse, data → latent."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.interop.exact import exactly
from geoflow.interop.outside import outside, transformed
from geoflow.interop.rows import Foreign, Shape, default_dtype, dtype_of, is_a, per_row, refuse

APPROXIMATE = {
    "Residual": "estimates its log-det by random probes, in evaluation too: pass exact=True for the Jacobian's own.",
}
"""Flows whose log-det is an estimate, and what to do."""

REFUSED = {
    "BatchNorm": "makes each row depend on its batch, and has no inverse: use geoflow.Standardize, or ActNorm.",
    "Radial": "has no inverse, so that the density of a row is unknown: take another flow, such as Planar with "
    "act='leaky_relu'.",
    "MetropolisHastings": "moves points at random, which is no bijection: run it on samples instead.",
    "HamiltonianMonteCarlo": "moves points at random, which is no bijection: run it on samples instead.",
}
"""Flows that cannot work, and what to do instead."""

MASKED = (
    "PiecewiseRationalQuadraticCoupling",
    "PiecewiseRationalQuadraticCDF",
    "MaskedPiecewiseRationalQuadraticAutoregressive",
    "Uniform",
)
"""Modules that index by a mask, where functorch transforms cannot follow."""

_HINT = "Call normflows.utils.update_lipschitz(model, 50) after each training step, so that it stays a contraction."


class NormflowsBijection(Foreign):
    """What `bijection_from_normflows` makes."""

    waiting: Tensor

    def __init__(
        self,
        flow: nn.Module,
        shape: int | Sequence[int],
        context_dim: int = 0,
        classes: int = 0,
        exact: bool = False,
    ) -> None:
        from normflows.flows.base import Flow

        if not isinstance(flow, Flow):
            raise TypeError(
                f"bijection_from_normflows expects a flow of normflows, got {type(flow).__name__}: from_normflows takes "
                "whole models."
            )
        check(flow, exact)
        one_dtype(flow)
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        super().__init__(prod(size), context_dim, classes)
        self.flow, self.shape, self.exact = flow, list(size), exact
        self.latent_shape = other_end(flow, size, self._blank(), False)
        if prod(self.latent_shape) != self.dim:
            raise ValueError(
                f"bijection_from_normflows expects as many numbers out as in, got {size} to {self.latent_shape}."
            )
        self.register_buffer("waiting", torch.tensor(waits(flow)))
        initialised(flow, True)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Let each `ActNorm` that has seen no data take scale and mean of these rows, all at once."""
        if bool(self.waiting):
            initialised(self.flow, False)
            self._encode_and_log_det(x, context)
            initialised(self.flow, True)
            self.waiting.fill_(False)

    def _there(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, log_det = through(self.flow, x.reshape(-1, *self.shape), context, False)
        return z.flatten(1), log_det

    def _back(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        x, log_det = through(self.flow, z.reshape(-1, *self.latent_shape), context, True)
        return x.flatten(1), log_det

    def _blank(self) -> Tensor | None:
        """A context of one row."""
        if self.context_dim:
            return torch.zeros(1, self.context_dim, dtype=dtype_of(self.flow))
        return torch.zeros(1, dtype=torch.long) if self.classes else None


def through(flow: Any, z: Any, context: Tensor | None, back: bool) -> tuple[Any, Tensor]:
    """A batch, or the list of two between a Split and a Merge, through a flow: its inverse, or `back` its forward.

    Flows made of flows are walked through here, since some of them add their log-dets up in float32, or in place.
    """
    if is_a(flow, "Reverse"):
        return through(flow.flow, z, context, not back)
    parts = next((getattr(flow, n) for n, kind in _HELD.items() if is_a(flow, *kind)), None)
    if parts is not None:
        total = per_row(0.0, z[0] if isinstance(z, list) else z)
        for part in parts if back else reversed(parts):
            z, log_det = through(part, z, context, back)
            total = total + log_det
        return z, total
    if is_a(flow, "Residual"):
        return _residual(flow, z, back)
    if is_a(flow, "Shift"):  # which writes into what it is given
        z = z.clone()
    verb = "forward" if back else "inverse"
    given = _given(flow, verb, context, z)
    within = _tails if is_a(flow, *_CIRCULAR) else nullcontext
    if transformed() and masked(flow):
        z, log_det = outside(flow, verb, z, *given, within=within)
    else:
        with within():
            z, log_det = getattr(flow, verb)(z, *given)
    return z, per_row(log_det, z[0] if isinstance(z, list) else z)


_HELD = {"_flows": ("Composite",), "flows": ("AffineCouplingBlock", "GlowBlock")}
"""Where flows made of flows keep them, in the order of forward."""


_CIRCULAR = ("CircularCoupledRationalQuadraticSpline", "CircularAutoregressiveRationalQuadraticSpline")


@contextmanager
def _tails() -> Iterator[None]:
    """Splines that leave points beyond their box where they are, for a while.

    With tails that differ by coordinate normflows 1.7.3 sends such points to 0, with a log-det of 0.
    """
    from normflows.utils import splines

    theirs = splines.unconstrained_rational_quadratic_spline

    def ours(inputs: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        outputs, log_det = theirs(inputs, **options)
        return torch.where(inputs.abs() > options["tail_bound"], inputs, outputs), log_det

    splines.unconstrained_rational_quadratic_spline = ours
    try:
        yield
    finally:
        splines.unconstrained_rational_quadratic_spline = theirs


def _given(flow: Any, verb: str, context: Tensor | None, z: Any) -> list[Tensor]:
    """The condition in the form a flow takes it, if it takes one: rows as `context`, labels as a one-hot `y`."""
    takes = inspect.signature(getattr(flow, verb)).parameters
    if context is None or not {"context", "y"} & set(takes):
        return []
    if "y" in takes:
        context = nn.functional.one_hot(context, len(flow.s_cc)).to(z.dtype)
    return [context]


def _residual(flow: Any, z: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """x + g(x) by the network alone, with the log-det of its Jacobian and an inverse to rounding."""
    shape = z.shape

    def ahead(block: Any, rows: Tensor) -> Tensor:
        return block(rows.reshape(-1, *shape[1:])).flatten(1)

    def guess(block: Any, rows: Tensor) -> Tensor:
        return block.inverse(rows.reshape(-1, *shape[1:])).flatten(1)

    found, log_det = exactly(flow.iresblock, ahead, guess, z.flatten(1), back == flow.reverse, _HINT)
    return found.reshape(shape), log_det


def masked(part: nn.Module) -> bool:
    """Whether it indexes by a mask."""
    return any(is_a(m, *MASKED) for m in part.modules())


def check(part: nn.Module, exact: bool) -> None:
    """Refuse flows that have no inverse, or need `exact`."""
    from normflows.flows.base import Flow

    refuse(part, REFUSED if exact else REFUSED | APPROXIMATE, "from_normflows")
    for module in part.modules():
        if is_a(module, "Planar") and module.act != "leaky_relu":  # type: ignore[operator]
            raise ValueError("from_normflows: Planar has no inverse with act='tanh': build it with act='leaky_relu'.")
        if isinstance(module, Flow) and type(module).inverse is Flow.inverse:
            raise ValueError(f"from_normflows: {type(module).__name__} has no inverse, which every density needs.")


def other_end(flow: Any, shape: Shape, context: Tensor | None, back: bool) -> Shape:
    """The shape of what a flow makes of one row of this shape."""
    dtype = dtype_of(flow)
    norms = _norms(flow)
    before = [norm.data_dep_init_done for norm in norms]
    initialised(flow, True)
    with torch.no_grad(), default_dtype(dtype):
        try:
            found, _ = through(flow, torch.zeros(1, *shape), context, back)
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"{type(flow).__name__} of normflows does not take one tensor of shape {shape} in its "
                f"{'forward' if back else 'inverse'} ({error}): parts that map between one tensor and two work between "
                "a Split and a Merge; shape= is that of a data point."
            ) from error
        finally:
            for norm, done in zip(norms, before, strict=True):
                norm.data_dep_init_done = done
    if isinstance(found, list):
        raise ValueError(
            f"{type(flow).__name__} of normflows gives two tensors, which is no bijection of points: put a Merge behind."
        )
    return tuple(found.shape[1:])


def one_dtype(*parts: nn.Module) -> None:
    """Refuse parts of several dtypes, whose points could have none."""
    found = {t.dtype for part in parts for t in part.state_dict().values() if t.is_floating_point()}
    if len(found) > 1:
        raise ValueError(
            f"from_normflows: the model holds {' and '.join(sorted(map(str, found)))} (Residual and bases made from numpy "
            "arrays keep float64): call model.float() or model.double() first."
        )


def _norms(part: nn.Module) -> list[Any]:
    return [m for m in part.modules() if hasattr(m, "data_dep_init_done")]


def waits(part: nn.Module) -> bool:
    """Whether an `ActNorm` has seen no data yet."""
    return any(not bool(norm.data_dep_init_done) for norm in _norms(part))


def initialised(part: nn.Module, done: bool) -> None:
    """Tell each `ActNorm` whether it has seen data; one that has not takes its scale from what it meets next."""
    for norm in _norms(part):
        norm.data_dep_init_done = torch.tensor(float(done)).to(norm.s)
