"""The register of classes that files may name, and how an object is rebuilt: each argument under its own attribute.

A file names a class of this register and nothing else, so that loading never imports or executes what a file says.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type)

CLASSES: dict[str, type] = {}
"""Class name to class: every class that `save` can rebuild."""


def register(cls: C) -> C:
    """Enter a class under its name, as a decorator.

    Its constructor's arguments must be readable as attributes of the same names (``*parts`` as ``parts``), and be
    numbers, strings, None, sequences of these, spaces, or registered modules. A user's own class enters the same way.
    """
    if CLASSES.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(f"a class named {cls.__name__!r} is registered already: rename yours.")
    return cls


def arguments(obj: Any) -> dict[str, Any]:
    """Constructor arguments of a registered object, read off its attributes; a variadic one is a list."""
    signature = inspect.signature(type(obj).__init__)
    names = [p for p in list(signature.parameters.values())[1:] if p.name not in ("generator", "seed")]
    return {p.name: list(getattr(obj, p.name)) if p.kind is p.VAR_POSITIONAL else getattr(obj, p.name) for p in names}


def rebuild(cls: type, given: dict[str, Any]) -> Any:
    """The inverse of `arguments`: call the constructor with what it declared."""
    build: Callable[..., Any] = cls
    variadic = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.VAR_POSITIONAL]
    positional = [part for name in variadic for part in given[name]]
    return build(*positional, **{k: v for k, v in given.items() if k not in variadic})
