"""Functions that torch's transforms cannot look into (indexing by a mask, say) called from outside of them, row by row."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.interop.rows import default_dtype

Function = Callable[..., tuple[Tensor, ...]]


def transformed() -> bool:
    """Whether a functorch transform (vmap, vjp, jvp ...) is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def outside(
    module: nn.Module, method: str, *inputs: Tensor, within: Callable[[], Any] = nullcontext
) -> tuple[Tensor, ...]:
    """``module.method(*inputs)``, as a tuple of tensors, with every derivative and under every transform.

    In inputs and parameters, to any order, as autograd gives them. Under vmap one call a row: slow, and always right.
    Every call, also those for derivatives, is made in the context `within`, and the default dtype of the first input.
    """
    call = _Method(module, method)
    names, parameters = zip(*call.named_parameters(), strict=True) if list(call.parameters()) else ((), ())

    def f(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors[len(inputs) :], strict=True))
        with within(), default_dtype(tensors[0].dtype):
            found = torch.func.functional_call(call, given, tensors[: len(inputs)])
        return (found,) if isinstance(found, Tensor) else tuple(found)

    return _Outside.apply(f, *inputs, *parameters)


class _Method(nn.Module):
    """A method of a module as the call of one."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.module, self.method)(*inputs)


class _Outside(torch.autograd.Function):
    """A function of tensors whose derivatives are again such functions."""

    @staticmethod
    def forward(f: Function, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(t.detach() for t in f(*tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.f = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        moved = [t.is_floating_point() for t in tensors]
        found = iter(_Outside.apply(_pulled(ctx.f, len(tensors)), *tensors, *cotangents))
        return (None, *(next(found) if m else None for m in moved))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        tensors = ctx.saved_tensors
        filled = [torch.zeros_like(t) if v is None else v for t, v in zip(tensors, tangents, strict=True)]
        return _Outside.apply(_pushed(ctx.f, len(tensors)), *tensors, *filled)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], f: Function, *tensors: Tensor) -> Any:
        dims = in_dims[1:]
        rows = [
            _Outside.apply(f, *(t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True)))
            for i in range(info.batch_size)
        ]
        return tuple(torch.stack(r) for r in zip(*rows, strict=True)), (0,) * len(rows[0])


def _tracked(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Floating tensors that a graph starts at, or goes through."""
    return [t.detach().requires_grad_() if t.is_floating_point() and not t.requires_grad else t for t in tensors]


def _gradients(values: Any, tensors: list[Tensor], cotangents: Any) -> list[Tensor]:
    """By autograd, with a graph; zeros where nothing depends on a tensor."""
    live = [(v, c) for v, c in zip(values, cotangents, strict=True) if v.requires_grad]
    if not live:
        return [torch.zeros_like(t) for t in tensors]
    moving, along = zip(*live, strict=True)
    found = torch.autograd.grad(moving, tensors, along, create_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def _pulled(f: Function, n: int) -> Function:
    """(tensors, cotangents of f) → the gradients of f's values along them, of the floating tensors."""

    def g(*given: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            tensors = _tracked(given[:n])
            return tuple(_gradients(f(*tensors), [t for t in tensors if t.is_floating_point()], given[n:]))

    return g


def _pushed(f: Function, n: int) -> Function:
    """(tensors, their tangents) → the tangents of f's values: the derivative of a gradient that is linear in cotangents."""

    def g(*given: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            tensors = _tracked(given[:n])
            moved = [(t, v) for t, v in zip(tensors, given[n:], strict=True) if t.is_floating_point()]
            values = f(*tensors)
            cotangents = [torch.zeros_like(v).requires_grad_() for v in values]
            gradients = _gradients(values, [t for t, _ in moved], cotangents)
            return tuple(_gradients(gradients, cotangents, [v for _, v in moved]))

    return g
