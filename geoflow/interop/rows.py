"""What every adapter owes: rows in the other library's shapes, inputs left alone, one log-det a row in the dtype given."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, reference
from geoflow.maps import Bijection, Data, Latent

Shape = tuple[int, ...]


class Foreign(Bijection):
    """A bijection that another library computes, on rows ``(n, dim)``.

    A subclass gives `_there` and `_back`. Here any batch becomes rows and back again; no rows are answered without asking
    the library; what it writes into is a copy; and torch's default dtype is that of the rows meanwhile, since libraries
    make tensors without naming one, and would mix float32 into float64.
    """

    def __init__(self, dim: int, context_dim: int = 0, classes: int = 0) -> None:
        super().__init__(dim)
        who = type(self).__name__
        self.context_dim = validate.count(context_dim, who, "context_dim")
        self.classes = validate.count(classes, who, "classes")

    @abstractmethod
    def _there(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """z ``(n, dim)`` and log|det ∂z/∂x| ``(n,)``."""

    @abstractmethod
    def _back(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """x ``(n, dim)`` and log|det ∂x/∂z| ``(n,)``."""

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._by_rows(self._there, x, context)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._by_rows(self._back, z, context)

    def _by_rows(self, call: Callable[..., Any], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        batch = x.shape[:-1]
        if 0 in batch:
            return x.clone(), x.new_zeros(batch)
        if context is not None:
            context = context.reshape(-1, self.context_dim) if self.context_dim else context.reshape(-1)
        with default_dtype(x.dtype):
            z, log_det = call(x.reshape(-1, self.dim).clone(), context)
        return z.reshape(*batch, self.dim), log_det.reshape(batch)


def per_row(log_det: Any, like: Tensor) -> Tensor:
    """A library's log-det as ``(n,)``, in dtype and on device of n rows.

    It may come as a number, of shape ``()``, ``(1,)`` or ``(n,)``, or not yet summed over pixels.
    """
    found = torch.as_tensor(log_det, dtype=like.dtype, device=like.device)
    return (found.flatten(1).sum(1) if found.ndim > 1 else found).expand(len(like))


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors ``(n, *shape)`` flattened and side by side, as rows."""
    return torch.cat([t.flatten(1) for t in tensors], -1)


def parted(rows: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
    """The inverse of `joined`."""
    parts = rows.split([prod(s) for s in shapes], -1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def dtype_of(part: nn.Module) -> torch.dtype:
    """That of its first parameter or buffer."""
    found = reference(part)
    return torch.get_default_dtype() if found is None else found.dtype


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """torch's default dtype for a while; nothing changes where it is that already, or while a graph is compiled."""
    before = torch.get_default_dtype()
    if torch.compiler.is_compiling() or dtype == before:
        yield
        return
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def drawing(generator: Generator | None) -> Iterator[None]:
    """Draws of libraries, which know torch's and numpy's global generators only, follow this one.

    numpy's follows in any case and is put back, torch's is unless no generator is given.
    """
    import numpy as np

    device = torch.device("cpu") if generator is None else generator.device
    (seed,) = torch.randint(2**31, (1,), generator=generator, device=device).tolist()
    before = np.random.get_state()  # noqa: NPY002 (the one they draw from)
    try:
        np.random.seed(seed)  # noqa: NPY002
        with torch.random.fork_rng(enabled=generator is not None):
            if generator is not None:
                torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def is_a(module: Any, *names: str) -> bool:
    """Whether its class, or one that it inherits from, has one of these names: libraries stay unimported for that."""
    return any(base.__name__ in names for base in type(module).__mro__)


def refuse(part: nn.Module, sentences: dict[str, str], who: str) -> None:
    """A ValueError with the sentence for the first module in `part` whose class stands in `sentences`."""
    for module in part.modules():
        for name, sentence in sentences.items():
            if is_a(module, name):
                raise ValueError(f"{who}: {type(module).__name__} {sentence}")
