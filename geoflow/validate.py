"""The one door: every array, table, context and count that a user passes is looked at here, and refused in words.

Messages say what was expected, what came, and what to do. Values (finite, in range) are looked at once per public
call; the check steps aside while a function is compiled or traced by functorch.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifolds.checks import check_vectors, first_bad, tracing


def finite(x: Tensor, who: str, name: str = "x") -> Tensor:
    """`x` if every entry is finite; else a ValueError with the count and the first rows."""
    if not tracing(x) and not math.isfinite(x.detach().sum()) and not bool(x.isfinite().all()):  # one pass, then a look
        bad = ~x.isfinite().all(-1) if x.ndim else ~x.isfinite()
        kind = "NaN" if bool(x.isnan().any()) else "infinity"
        raise ValueError(
            f"Input {name} of {who} contains {kind} in {int(bad.sum())} of {bad.numel()} rows ({first_bad(bad)}): "
            "drop or impute them first."
        )
    return x


def points(x: Any, dim: int, who: str, name: str = "x", like: Tensor | None = None) -> Tensor:
    """`x` as points ``(*batch, dim)``: a finite, real floating tensor of the model's dtype and device.

    float16 is cast up with a warning. An empty batch is fine here.
    """
    if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16):
        warnings.warn(f"{who}: {name} is {x.dtype}, too coarse for densities; cast up to float32.", stacklevel=3)
        x = x.float()
    x = check_vectors(x, dim, name, who)
    if like is not None and x.device != like.device:
        raise ValueError(
            f"{who}: {name} is on {x.device}, the model on {like.device}: use {name}.to({str(like.device)!r})."
        )
    if like is not None and x.dtype != like.dtype:
        raise ValueError(
            f"{who}: {name} is {x.dtype}, the model {like.dtype}: use {name}.to({like.dtype}) or model.to({x.dtype})."
        )
    return finite(x, who, name)


def context(
    c: Any, batch: torch.Size | None, context_dim: int, classes: int, who: str, like: Tensor | None = None
) -> Tensor | None:
    """A context checked against what the model declares: float ``(*b, context_dim)`` or labels ``(*b,)``."""
    if not context_dim and not classes:
        if c is not None:
            raise TypeError(
                f"{who}: this model takes no context, but one was passed: leave it out, or build with context=."
            )
        return None
    wanted = f"a float tensor (*batch, {context_dim})" if context_dim else f"integer labels (*batch,) below {classes}"
    if c is None:
        raise TypeError(f"{who}: this model is conditional and needs context=, {wanted}.")
    if not isinstance(c, Tensor):
        raise TypeError(f"{who}: context must be a tensor, {wanted}; got {type(c).__name__}.")
    if context_dim:
        c = points(c, context_dim, who, "context", like)
        lead = c.shape[:-1]
    else:
        if c.is_floating_point() or c.is_complex() or c.dtype == torch.bool:
            raise TypeError(f"{who}: context must be {wanted}; got {c.dtype}.")
        if not tracing(c) and c.numel() and not bool(((c >= 0) & (c < classes)).all()):
            raise ValueError(f"{who}: context must be {wanted}; got values in [{int(c.min())}, {int(c.max())}].")
        lead, c = c.shape, c.long()
    if batch is not None:
        try:
            torch.broadcast_shapes(batch, lead)
        except RuntimeError:
            raise ValueError(
                f"{who}: context has batch {tuple(lead)}, x has {tuple(batch)}: give one context per row of x."
            ) from None
    return c


def common_context(parts: Iterable[Any], who: str) -> tuple[int, int]:
    """(context_dim, classes) that the parts declare together; parts of different kinds raise."""
    kinds = {(p.context_dim, p.classes) for p in parts if p.context_dim or p.classes}
    if len(kinds) > 1:
        shown = ", ".join(f"{c} labels" if c else f"float[{d}]" for d, c in sorted(kinds))
        raise ValueError(f"{who}: its parts declare different contexts ({shown}): give them all the same, or none.")
    return kinds.pop() if kinds else (0, 0)


def count(n: Any, who: str, name: str = "n", minimum: int = 0) -> int:
    """`n` as an int of at least `minimum`."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise (
            TypeError(f"{who}: {name} must be a whole number, got {n!r}.")
            if not isinstance(n, float)
            else ValueError(f"{who}: {name} must be a whole number, got {n!r}.")
        )
    if n < minimum:
        raise ValueError(f"{who}: {name} must be at least {minimum}, got {n}.")
    return int(n)


def shape(n: Any, who: str) -> tuple[int, ...]:
    """A number of draws, an int or a shape, as a shape."""
    if isinstance(n, Sequence) and not isinstance(n, str):
        return tuple(count(k, who) for k in n)
    return (count(n, who),)


def _numeric(column: Any, dtype: Any) -> bool:
    return (getattr(dtype, "kind", None) or np.asarray(column).dtype.kind) in "fiubc"


def _plain_array(x: Any, who: str, name: str) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{who}: {name} is a masked array: drop the masked rows, or .filled(...) them, first.")
    if type(x).__module__.startswith("scipy.sparse"):
        raise TypeError(f"{who}: {name} is a scipy sparse matrix: pass {name}.toarray().")
    if hasattr(x, "columns") and hasattr(x, "dtypes"):
        text = [str(c) for c, t in zip(x.columns, x.dtypes, strict=True) if not _numeric(x[c], t)]
        if text:
            raise ValueError(f"{who}: column {', '.join(map(repr, text))} of {name} is not numeric: drop or encode it.")
        array = np.asarray(x.to_numpy())
        return array if array.dtype.kind != "O" else x.to_numpy(dtype=np.float64, na_value=np.nan)  # nullable columns
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(f"{who}: the rows of {name} have different lengths: a table needs one length.") from None
    if array.dtype.kind not in "fiubc":
        raise ValueError(f"{who}: {name} must hold numbers, got {array.dtype}: drop or encode text columns.")
    return array


def table(
    x: Any, who: str, name: str = "x", minimum: int = 1, dtype: torch.dtype | None = None, device: Any = None
) -> Tensor:
    """A table ``(rows, columns)`` from a tensor, array, DataFrame or nested list, finite, as a float tensor.

    Integers are cast, for at this door (fit, estimators, command line) tables come as people have them. The caller's
    array is never written to.
    """
    label: Callable[[int], str] = str
    if hasattr(x, "columns"):
        label = [repr(str(c)) for c in x.columns].__getitem__
    if not isinstance(x, Tensor):
        array = _plain_array(x, who, name)
        if array.dtype.kind == "f" and array.dtype.itemsize < 4:
            x = torch.from_numpy(np.array(array, dtype=np.float16))
        else:
            kind = array.dtype if array.dtype in (np.float32, np.complex128, np.complex64) else np.float64
            x = torch.from_numpy(np.array(array, dtype=kind, order="C"))
    if x.is_complex():
        raise ValueError(f"{who}: {name} is complex ({x.dtype}): pass real and imaginary parts as columns.")
    if x.ndim == 1:
        raise ValueError(
            f"Expected 2D array, got 1D array instead: {who} reads {name} as (rows, columns); use "
            f"{name}.reshape(-1, 1) for one column, {name}.reshape(1, -1) for one row."
        )
    if x.ndim != 2:
        raise ValueError(f"{who}: expected 2D array (rows, columns), got {x.ndim}D {name} of shape {tuple(x.shape)}.")
    if x.shape[1] == 0:
        raise ValueError(
            f"{who}: found array with 0 feature(s) (shape={tuple(x.shape)}) while a minimum of 1 is required."
        )
    if x.shape[0] < minimum:
        raise ValueError(
            f"{who}: found array with {x.shape[0]} sample(s) (shape={tuple(x.shape)}) while a minimum of {minimum} is "
            "required."
        )
    if x.dtype in (torch.float16, torch.bfloat16):
        warnings.warn(f"{who}: {name} is {x.dtype}, too coarse for densities; cast up to float32.", stacklevel=3)
        x = x.float()
    elif not x.is_floating_point():
        x = x.to(torch.get_default_dtype() if dtype is None else dtype)
    empty = x.isnan().all(0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{who}: column {', '.join(map(label, empty[:5]))} of {name} is all NaN: drop it.")
    finite(x, who, name)
    y = x.detach().to(dtype=dtype or x.dtype, device=device)
    if not bool(y.isfinite().all()):
        raise ValueError(f"{who}: {name} overflows {dtype}: rescale its columns.")
    return y


def training_rows(x: Tensor, who: str, names: Sequence[str] | None = None) -> None:
    """What a density cannot be fitted to (a constant column), and what makes its likelihood meaningless (warnings)."""
    n, d = x.shape
    label = (lambda j: repr(names[j])) if names is not None else str
    low, high = x.amin(0), x.amax(0)
    constant = (low == high).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            f"{who}: column {', '.join(label(j) for j in constant[:5])} is constant, so its density is unbounded: "
            "drop it (--drop-constant on the command line)."
        )
    if n < d:
        warnings.warn(f"{who}: fewer rows ({n}) than columns ({d}): the fit will not generalise.", stacklevel=3)
    scale = torch.maximum(low.abs(), high.abs())
    if bool((scale > 1e15).any()) or bool((scale < 1e-15).any()):
        worst = float(scale.max()) if bool((scale > 1e15).any()) else float(scale.min())
        warnings.warn(f"{who}: a column has scale {worst:.1g}: standardise the data first.", stacklevel=3)
    distinct = len(torch.unique(x, dim=0)) if n * d <= 10_000_000 else n
    if distinct < 0.95 * n:
        warnings.warn(
            f"{who}: {n - distinct} of {n} rows are exact duplicates ({1 - distinct / n:.0%}, threshold 5%): the "
            "likelihood can grow without bound on them; drop duplicates or add noise.",
            stacklevel=3,
        )
    whole = [j for j in range(d) if bool((x[:, j] == x[:, j].round()).all())]
    if whole:
        shown = ", ".join(label(j) for j in whole[:5]) + (" ..." if len(whole) > 5 else "")
        warnings.warn(
            f"{who}: column {shown} holds whole numbers: a density needs continuous data; dequantise by adding uniform "
            "noise in [0, 1).",
            stacklevel=3,
        )
    if n > d:
        z = (x[: 20 * d + 1000] - x.mean(0)).double() / (high - low).double()
        spectrum = torch.linalg.svdvals(z)
        rank = int((spectrum > 1e-6 * spectrum[0]).sum())
        if rank < d:
            warnings.warn(
                f"{who}: the rows span {rank} of {d} dimensions, so no density exists in {d}: project them (PCA), or "
                "use a free-form flow with a bottleneck (MLAE).",
                stacklevel=3,
            )
