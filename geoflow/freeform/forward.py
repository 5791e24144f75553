"""Forward derivatives of networks at the cost that counting operations says.

Torch 2.13 differentiates a linear layer forwards as if weight and bias might vary, with zeros for their derivatives: that
and SiLU in many small steps make a derivative twice as slow as it need be. Inside `cheaply` both take one operation,
SiLU where its derivative is not differentiated again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class _Rules(TorchFunctionMode):
    """Rules for single operations; everything else is torch's own.

    Args:
        recorded: whether derivatives are differentiated in turn.
    """

    def __init__(self, recorded: bool) -> None:
        super().__init__()
        self.recorded = recorded

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        # the fused derivative of SiLU has none of its own
        silu = func is functional.silu and not self.recorded and len(args) == 1 and not given.get("inplace")
        if silu or func is functional.linear:
            value, tangent = forward_ad.unpack_dual(args[0])
            fixed = all(forward_ad.unpack_dual(a).tangent is None for a in args[1:] if isinstance(a, Tensor))
            if tangent is not None and fixed:
                with torch.set_grad_enabled(self.recorded and torch.is_grad_enabled()):
                    moved = (
                        torch.ops.aten.silu_backward(tangent, value) if silu else functional.linear(tangent, args[1])
                    )
                return forward_ad.make_dual(func(value, *args[1:], **given), moved)
        return func(*args, **given)


@contextmanager
def cheaply(recorded: bool = True) -> Iterator[None]:
    """Take forward derivatives with the rules above; not while compiling, where the compiler sees to it."""
    if torch.compiler.is_compiling():
        yield
        return
    with _Rules(recorded):
        yield
