"""geomstats' manifolds as ours: flat points, base point first, float64 inside whatever the caller's dtype."""

import inspect
import logging
import math
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor

from manifolds import checks
from manifolds.manifold import Device, Manifold
from manifolds.shapes import Frames, Points, Values

_LOCK = threading.RLock()
_UNIFORM = {  # SO(n), for one, calls a random rotation uniform that is not
    "Hypersphere": "HypersphereMetric",
    "Stiefel": "StiefelCanonicalMetric",
    "Grassmannian": "GrassmannianCanonicalMetric",
    "PreShapeSpace": "PreShapeMetric",
}
_ADVICE = {
    "project": "make points with `exp`, or with the manifold's own `random_point`",
    "exp": "`retract` is a first-order stand-in, or give the metric an `exp_solver` of geomstats.numerics",
    "log": "use an optimiser over `retract`, or give the metric a `log_solver` of geomstats.numerics",
}


def from_geomstats(space: Any) -> Manifold:
    """A manifold of geomstats, with its metric, as a `Manifold`.

    Points stay flat, ``(*batch, ambient_dim)``; `as_matrix` views them in geomstats' shape. geomstats computes in float64
    on the CPU, results come back in the input's dtype and on its device. One call runs at a time, and during it torch's
    default dtype is float64 for every thread. `dist` is the length of `log`. At v = 0 and x = y exactly, `exp` and `log`
    have right values and first derivatives (geomstats' are often NaN), but not second ones; `squared_dist` has those too.
    The volume is that of geomstats' metric. `transport` is geomstats' own or, where it has none, the pole ladder. vmap
    and accuracy near and far are geomstats': tests/reproduce/results/geomstats.md has a table; our own spaces are better
    where they exist. Batches that geomstats fails on are asked row by row.

    Equality is by class, constructor arguments and metric where these can be read, else by identity. Such a space cannot
    be written to files: a file never says what to import.

    Args:
        space: a manifold of geomstats with a Riemannian metric and real points, or a function without arguments that
            imports and makes one. The function is the simple way: geomstats is loaded with its torch backend (which a
            process chooses once, at the first import), nothing else is changed, and it makes its constants in float64.

    Raises:
        RuntimeError: geomstats is loaded with another backend.

    >>> def positive_definite():
    ...     from geomstats.geometry.spd_matrices import SPDMatrices
    ...     return SPDMatrices(2)
    >>> space = from_geomstats(positive_definite)  # doctest: +SKIP
    >>> x, y = torch.tensor([[1.0, 0.0, 0.0, 1.0], [4.0, 0.0, 0.0, 4.0]])  # doctest: +SKIP
    >>> space, space.dist(x, y)  # doctest: +SKIP
    (from_geomstats(SPDMatrices(n=2), SPDAffineMetric()), tensor(1.9605))
    """
    with _LOCK:
        _load_geomstats()
        with _float64():
            made = space() if callable(space) and not isinstance(space, type) else space
        return _Geomstats(made)


class _Geomstats(Manifold):
    """What `from_geomstats` makes. It keeps the manifold as `theirs`."""

    def __init__(self, theirs: Any) -> None:
        from geomstats.geometry.complex_manifold import ComplexManifold
        from geomstats.geometry.manifold import Manifold as RealManifold

        if isinstance(theirs, ComplexManifold):
            raise ValueError(f"from_geomstats expects a manifold with real points, got {type(theirs).__name__}.")
        if not isinstance(theirs, RealManifold):
            what = f"the class {theirs.__name__}" if isinstance(theirs, type) else type(theirs).__name__
            raise TypeError(
                "from_geomstats expects a manifold of geomstats, or a function without arguments that makes one, "
                f"got {what}."
            )
        name = type(theirs).__name__
        if not hasattr(theirs, "metric"):
            raise ValueError(f"from_geomstats expects {name} with a metric: call its equip_with_metric(...) first.")
        signature = getattr(theirs.metric, "signature", None)
        if signature is not None and any(signature[1:]):
            raise ValueError(f"from_geomstats expects a Riemannian metric, got {name} with signature {signature}.")
        if not math.isfinite(theirs.dim):
            raise ValueError(f"from_geomstats expects a manifold of finite dimension, got {name} of dim {theirs.dim}.")
        where = _single_precision(theirs, name)
        if where:
            raise ValueError(
                f"from_geomstats: {where} is in float32, because {name} was made while that was torch's default dtype: "
                "pass a function that makes it, from_geomstats(lambda: ...)."
            )
        self.theirs = theirs

    @property
    def dim(self) -> int:
        return int(self.theirs.dim)

    @property
    def ambient_dim(self) -> int:
        return math.prod(self.point_shape)

    @property
    def point_shape(self) -> tuple[int, ...]:
        """The shape of a point in geomstats."""
        return tuple(self.theirs.shape)

    def as_matrix(self, x: Tensor) -> Tensor:
        """Points ``(*batch, ambient_dim)`` as a view in geomstats' shape, ``(*batch, *point_shape)``."""
        return self._vectors(x, "x", "as_matrix").unflatten(-1, self.point_shape)

    def config(self) -> dict[str, Any]:
        """Class and arguments of manifold and metric; the manifold's identity where an argument cannot be read."""
        try:
            return {"manifold": _described(self.theirs), "metric": _described(self.theirs.metric)}
        except LookupError:
            return {"manifold": {"class": _path(self.theirs), "...": id(self.theirs)}}

    def __repr__(self) -> str:
        return f"from_geomstats({', '.join(_spelled(part) for part in self.config().values())})"

    def __reduce__(self) -> tuple[Callable[[bytes], Manifold], tuple[bytes]]:
        return _unpickled, (pickle.dumps(self.theirs),)  # bytes, so that geomstats is first loaded by our rules

    # -- asking geomstats ---------------------------------------------------------------------------------------

    def _ask(self, verb: str, method: str, *given: Tensor, of_metric: bool = True, **named: Tensor) -> Tensor:
        """geomstats' answer to arguments broadcast to one batch, flat and in float64; what it lacks, we say."""
        owner = self.theirs.metric if of_metric else self.theirs
        arguments = (*given, *named.values())
        batch = torch.broadcast_shapes(*(a.shape[:-1] for a in arguments))
        point = () if method == "inner_product" else (self.ambient_dim,)
        if 0 in batch:
            return torch.zeros(*batch, *point, dtype=torch.float64)
        rows = [_double(a).expand(*batch, -1).reshape(math.prod(batch), *self.point_shape).clone() for a in arguments]
        names = (*(None for _ in given), *named)

        def answer(rows: list[Tensor]) -> Tensor:
            plain = [r for r, name in zip(rows, names, strict=True) if name is None]
            said = getattr(owner, method)(*plain, **{n: r for r, n in zip(rows, names, strict=True) if n is not None})
            return torch.as_tensor(said).reshape(len(rows[0]), *point)

        try:
            with _float64():
                try:
                    result = answer(rows)
                except NotImplementedError:
                    raise
                except RuntimeError:  # some of geomstats fails on batches of some sizes: row by row, then
                    if len(rows[0]) == 1:
                        raise
                    result = torch.cat([answer([r[i : i + 1] for r in rows]) for i in range(len(rows[0]))])
        except (NotImplementedError, AttributeError, ValueError) as error:
            if isinstance(error, ValueError) and "_solver" not in str(error):
                raise
            if isinstance(error, AttributeError) and method not in str(error):
                raise
            self._lacks(verb, _ADVICE.get(verb, "geomstats does not have it"))
        return (result.real if result.is_complex() else result).double().reshape((*batch, *point))

    def _project(self, x: Points) -> Points:
        return self._ask("project", "projection", x, of_metric=False).to(x)

    def _to_tangent(self, x: Points, v: Points) -> Points:
        return self._ask("to_tangent", "to_tangent", v, x, of_metric=False).to(v)

    def _exp(self, x: Points, v: Points) -> Points:
        still = (v == 0).all(-1, keepdim=True)
        end = self._ask("exp", "exp", torch.where(still, v.detach(), v), torch.where(still, x.detach(), x)).to(x)
        return torch.where(still, x + v, end)

    def _log(self, x: Points, y: Points) -> Points:
        same = (x == y).all(-1, keepdim=True)
        # As in exp, many of geomstats' derivatives are NaN here. Detached points in its branch, y − x in the other: value
        # and first derivatives are right, and with them the Hessian of squared_dist.
        apart = self._ask("log", "log", torch.where(same, y.detach(), y), torch.where(same, x.detach(), x)).to(x)
        return torch.where(same, self._to_tangent(x, y - x), apart)

    def _inner(self, x: Points, u: Points, v: Points) -> Values:
        return self._ask("inner", "inner_product", u, v, x).to(v)

    def _norm(self, x: Points, v: Points) -> Values:
        v64 = _double(v)
        s = self._inner(_double(x), v64, v64)
        zero = s <= 0
        return torch.where(zero, torch.zeros_like(s), torch.where(zero, torch.ones_like(s), s).sqrt()).to(v)

    def _dist(self, x: Points, y: Points) -> Values:
        a, b = _double(x), _double(y)
        return self._norm(a, self._log(a, b)).to(x)

    def _squared_dist(self, x: Points, y: Points) -> Values:
        a, b = _double(x), _double(y)
        v = self._log(a, b)
        return self._inner(a, v, v).to(x)

    def _transport(self, x: Points, y: Points, v: Points) -> Points:
        try:
            return self._ask("transport", "parallel_transport", v, x, end_point=y).to(v)
        except NotImplementedError:
            return super()._transport(_double(x), _double(y), _double(v)).to(v)

    def _frame(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A tangent basis orthonormal in the embedding, and the Cholesky factor of the metric in it; float64."""
        # Not seed 0: a point projected from the first draw of a generator seeded alike has that draw as its normal.
        g = torch.Generator().manual_seed(0x6E61F1)
        seeds = torch.randn(self.dim, self.ambient_dim, generator=g, dtype=torch.float64)
        q, r = torch.linalg.qr(self._to_tangent(x[..., None, :], seeds).mT)
        q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[..., None, :]
        columns = q.mT
        gram = self._inner(x[..., None, None, :], columns[..., :, None, :], columns[..., None, :, :])
        factor, failed = torch.linalg.cholesky_ex((gram + gram.mT) / 2)
        if not checks.tracing(x) and bool(failed.any()):
            raise ValueError(
                f"{self!r}: the metric has no full rank on the {self.dim} tangent directions that geomstats gives, as on "
                "quotients, so there are no bases, volumes or random tangents: use `exp`, `log`, `dist` and `geodesic`."
            )
        return q, factor

    def _tangent_basis(self, x: Points) -> Frames:
        q, factor = self._frame(_double(x))
        return torch.linalg.solve_triangular(factor, q.mT, upper=False).mT.to(x)

    def _egrad_to_rgrad(self, x: Points, grad: Points) -> Points:
        basis = self._tangent_basis(_double(x))
        return (basis @ (basis.mT @ _double(grad)[..., None]))[..., 0].to(grad)

    def _log_volume(self, x: Points) -> Values:
        return self._frame(_double(x))[1].diagonal(dim1=-2, dim2=-1).log().sum(-1).to(x)

    # -- the whole ----------------------------------------------------------------------------------------------

    def _metric_name(self) -> str:
        """The metric's class, whatever factor it is scaled by."""
        metric = self.theirs.metric
        return type(getattr(metric, "underlying_metric", metric)).__name__

    @property
    def log_volume_total(self) -> float:
        """geomstats knows no volumes."""
        self._lacks("log_volume_total", "estimate it from `log_volume`")

    @property
    def injectivity_radius(self) -> float:
        """geomstats' radius, where it is the same at every point; NaN where it varies, is not known, or is wrong."""
        if self._metric_name() == "BiInvariantMetric":  # π √dim there, beyond the cut locus
            return math.nan
        try:
            with _float64():
                return float(self.theirs.metric.injectivity_radius())
        except (NotImplementedError, AttributeError, TypeError, ValueError):
            return math.nan

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points uniform in the Riemannian volume, where geomstats draws them so."""
        if self.theirs.intrinsic or _UNIFORM.get(type(self.theirs).__name__) != self._metric_name():
            self._lacks("sample_uniform", "geomstats has no uniform points here; its `random_point` are some others")
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device if generator else None))
        with _LOCK, torch.random.fork_rng(devices=[]), _float64():
            torch.manual_seed(seed)  # geomstats draws from the global generator
            x = self.theirs.random_uniform(math.prod(shape))
        return x.reshape(*shape, self.ambient_dim).to(device, dtype)

    def contains(self, x: Tensor, explain: bool = False) -> Any:
        """What geomstats' `belongs` says ``(*batch)``, to a tolerance that grows with a point's coordinates squared."""
        x = self._vectors(x, "x", "contains").detach()
        rows = _double(x).reshape(-1, *self.point_shape)
        size = rows.flatten(1).abs().amax(1) if len(rows) else rows.new_zeros(0)
        inside = size.isfinite()
        step = torch.exp2((1 + size).log2().ceil())
        with _float64():
            for s in step[inside].unique():  # one tolerance a call
                those = inside & (step == s)
                told = self.theirs.belongs(rows[those], atol=checks.tolerance(x) * float(s) ** 2)
                inside[those] = torch.as_tensor(told).reshape(-1)
        inside = inside.reshape(x.shape[:-1]).to(x.device)
        if not explain:
            return inside
        if bool(inside.all()):
            return inside, f"every point is on {self!r}"
        return inside, (
            f"{int((~inside).sum())} of {inside.numel()} points are not on {self!r}, {checks.first_bad(~inside)}, by "
            "the judgement of geomstats' `belongs`"
        )


def _double(x: Tensor) -> Tensor:
    return x.to("cpu", torch.float64)


@contextmanager
def _float64() -> Iterator[None]:
    """geomstats' constants take torch's default dtype: float64 in here, one thread at a time, and then as it was."""
    with _LOCK:
        backend = sys.modules["geomstats.backend"]
        before, theirs = torch.get_default_dtype(), backend.get_default_dtype()
        if theirs != torch.float64:
            backend.set_default_dtype("float64")
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            if theirs != torch.float64:
                backend.set_default_dtype(str(theirs).removeprefix("torch."))
            torch.set_default_dtype(before)


def _load_geomstats() -> None:
    """Import geomstats with its torch backend and leave environment, default dtype and root logger as they were."""
    if "geomstats" in sys.modules:
        backend = getattr(sys.modules.get("geomstats._backend"), "BACKEND_NAME", "unknown")
        if backend != "pytorch":
            raise RuntimeError(
                f"from_geomstats needs geomstats' pytorch backend, but geomstats is loaded with {backend}, and a process "
                "has one: set the environment variable GEOMSTATS_BACKEND=pytorch before its first import, or pass a "
                "function that imports and makes the manifold, before anything else imports geomstats."
            )
        return
    variable, dtype, root = os.environ.get("GEOMSTATS_BACKEND"), torch.get_default_dtype(), logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    os.environ["GEOMSTATS_BACKEND"] = "pytorch"
    try:
        import geomstats.backend  # noqa: F401
    finally:
        torch.set_default_dtype(dtype)
        if variable is None:
            del os.environ["GEOMSTATS_BACKEND"]
        else:
            os.environ["GEOMSTATS_BACKEND"] = variable
        root.setLevel(level)
        root.handlers[:] = handlers


def _unpickled(data: bytes) -> Manifold:
    def make() -> Any:
        return pickle.loads(data)

    return from_geomstats(make)


def _path(it: Any) -> str:
    return f"{type(it).__module__}.{type(it).__qualname__}"


def _described(it: Any) -> Any:
    """Class and constructor arguments of geomstats' objects as JSON; LookupError where one cannot be read."""
    if it is None or isinstance(it, bool | int | float | str):
        return it
    if isinstance(it, Tensor):
        return it.tolist()
    if isinstance(it, tuple | list):
        return [_described(part) for part in it]
    if not type(it).__module__.startswith("geomstats."):
        raise LookupError(_path(it))
    known: dict[str, Any] = {"class": _path(it)}
    for name, parameter in inspect.signature(type(it)).parameters.items():
        if name in ("equip", "space"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(it, name):
            raise LookupError(f"{_path(it)}.{name}")
        part = getattr(it, name)
        known[name] = _described(part)
        if hasattr(part, "metric") and hasattr(part, "dim"):
            known[f"{name}.metric"] = _described(part.metric)
    if hasattr(it, "underlying_metric"):
        known["underlying_metric"] = _described(it.underlying_metric)
    return known


def _spelled(part: Any) -> str:
    """A description as a call."""
    if isinstance(part, dict):
        named = {k: v for k, v in part.items() if k not in ("class", "signature") and not k.endswith(".metric")}
        given = ", ".join("..." if k == "..." else f"{k}={_spelled(v)}" for k, v in named.items())
        return f"{part['class'].rsplit('.', 1)[-1]}({given})"
    return f"[{', '.join(map(_spelled, part))}]" if isinstance(part, list) else repr(part)


def _single_precision(it: Any, path: str, seen: set[int] | None = None) -> str:
    """Where geomstats' object holds a float32 tensor, or nothing."""
    seen = set() if seen is None else seen
    if id(it) in seen:
        return ""
    seen.add(id(it))
    if isinstance(it, Tensor):
        return path if it.dtype == torch.float32 else ""
    parts = dict(enumerate(it)) if isinstance(it, tuple | list) else it if isinstance(it, dict) else {}
    if type(it).__module__.startswith("geomstats."):
        parts = vars(it) if hasattr(it, "__dict__") else {}
    return next((found for k, v in parts.items() if (found := _single_precision(v, f"{path}.{k}", seen))), "")
