"""Where a NaN comes from: the first part of a model whose output is not finite."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VERBS = (
    "_encode",
    "_decode",
    "_encode_and_log_det",
    "_decode_and_log_det",
    "_encode_turned",
    "_decode_turned",
    "_encode_taped",
    "turned",
    "taped",
    "_log_prob",
    "_rsample",
    "_rsample_and_log_prob",
    "_sample",
    "loss",
)
"""What parts are asked for besides being called."""


def finite(value: Any) -> bool:
    """Whether every floating number in a tensor, or in nested tuples, lists and dicts of them, is finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(finite(v) for v in value) if isinstance(value, (tuple, list)) else True


def first_guilty(model: nn.Module, call: Callable[[], Any]) -> str | None:
    """Name and class of the innermost module that first gave something not finite while `call()` ran, None if none did.

    Watches the modules' calls and, since parts call each other's underscored verbs, those too. One run of `call`.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, output: Any) -> None:
        if not found and not finite(output):
            found.append(f"{name or 'the model'} ({type(module).__name__})")

    def watch(name: str, module: nn.Module, verb: str) -> None:
        inside = getattr(module, verb)

        def watched(*args: Any, **kwargs: Any) -> Any:
            output = inside(*args, **kwargs)
            look(name, module, output)
            return output

        module.__dict__[verb] = watched

    handles, watched_verbs = [], []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(lambda m, i, o, name=name: look(name, m, o)))
            for verb in VERBS:
                if callable(getattr(type(module), verb, None)) and verb not in module.__dict__:
                    watch(name, module, verb)
                    watched_verbs.append((module, verb))
        call()
    except (
        ArithmeticError,
        ValueError,
        RuntimeError,
    ) as error:  # a part may refuse what it is given: that is an answer too
        found.append(f"a part that raised {type(error).__name__}")
    finally:
        for handle in handles:
            handle.remove()
        for module, verb in watched_verbs:
            del module.__dict__[verb]
    return found[0] if found else None


def guilty_gradient(model: nn.Module) -> str | None:
    """Name of the first parameter whose gradient is not finite, None if there is none."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return None
