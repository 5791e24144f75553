"""What geometry refuses, in words: wrong sizes, whole numbers, points off the space, vectors off its tangent space.

Checks of values step aside while a function is compiled or traced by functorch, where values are not to be looked at.
"""

from typing import Any

import torch
from torch import Tensor


def tracing(*tensors: Any) -> bool:
    """Whether values may not be looked at: inside torch.compile, or a tensor of a functorch transform."""
    if torch.compiler.is_compiling():
        return True
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(isinstance(t, Tensor) and wrapped(t) for t in tensors)


def check_vectors(x: Any, size: int, name: str, where: str) -> Tensor:
    """`x` if it is a real floating tensor with `size` in the last axis; else an error that says what to do."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{where} expects `{name}` as a torch tensor, got {type(x).__name__}: pass torch.as_tensor(...)."
        )
    if x.is_complex():
        raise ValueError(f"{where} expects real numbers in `{name}`, got {x.dtype}.")
    if not x.is_floating_point():
        raise TypeError(f"{where} expects floating point numbers in `{name}`, got {x.dtype}: use {name}.double().")
    if x.ndim == 0 or x.shape[-1] != size:
        raise ValueError(
            f"{where} expects `{name}` with {size} ambient coordinates in the last axis, got shape {tuple(x.shape)}."
        )
    return x


def check_count(n: Any, who: str, name: str, least: int = 1) -> int:
    """`n` if it is a whole number of at least `least`."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{who} expects `{name}` as an int, got {type(n).__name__}.")
    if n < least:
        raise ValueError(f"{who} expects {name} >= {least}, got {n}.")
    return n


def first_bad(bad: Tensor) -> str:
    """The places of the first few true entries, for a message."""
    if bad.ndim == 0:
        return "the point"
    rows = bad.nonzero()[:3].tolist()
    shown = ", ".join(str(r[0] if len(r) == 1 else tuple(r)) for r in rows)
    return f"row {shown}" + (" ..." if int(bad.sum()) > 3 else "")


def tolerance(x: Tensor) -> float:
    """How far off counts as on the space: 1e-8 in float64, 1e-4 below."""
    return 1e-8 if x.dtype == torch.float64 else 1e-4
