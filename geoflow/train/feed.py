"""What is fed to training: rows of a table, array, frame or map-style data set, and the order in which they come."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from geoflow import validate
from geoflow.density import Density, Sampler
from manifolds import Euclidean

Batch = tuple[Tensor, Tensor | None]

MATERIAL = 50_000
"""Rows of a data set that `prepare`, `finish` and validation see at most; tables are seen whole."""


class Rows:
    """Rows of x ``(n, dim)`` with their contexts, in the model's dtype on its device.

    A data set is read batch by batch.

    Args:
        model: what they are for: tells dimension, space and kind of context.
        x: tensor, array, DataFrame, nested list, or a data set whose items are x or (x, context).
        context: one per row, unless the data set gives it.
        name, who: of x and of the caller, in messages.
    """

    def __init__(
        self,
        model: Sampler,
        x: Any,
        context: Any,
        dtype: torch.dtype,
        device: torch.device,
        name: str = "x",
        who: str = "fit",
    ) -> None:
        self.model, self.dtype, self.device, self.name, self.who = model, dtype, device, name, who
        self.columns: Sequence[str] | None = [str(c) for c in x.columns] if hasattr(x, "dtypes") else None
        self.data: Dataset[Any] | None = None
        self.x: Tensor | None = None
        self.context: Tensor | None = None
        minimum = 2 if name == "x" else 1
        if isinstance(x, Dataset):
            if not hasattr(x, "__len__") or not hasattr(x, "__getitem__"):
                raise TypeError(f"{who}: {name} is an iterable-style data set: it needs __len__ and __getitem__.")
            if context is not None:
                raise TypeError(f"{who}: with a data set the context comes from it: let its items be (x, context).")
            self.data = x
            if len(x) < minimum:
                raise ValueError(f"{who}: {name} has {len(x)} row(s) while a minimum of {minimum} is required.")
            self.take(torch.arange(1))
        elif isinstance(getattr(x, "x", None), Tensor):
            raise TypeError(f"{who}: {name} is a {type(x).__name__}: pass its rows, {name}.x.")
        else:
            self.x, self.context = self._checked(x, context, minimum)

    def __len__(self) -> int:
        return len(self.x) if self.x is not None else len(self.data)  # type: ignore[arg-type]

    def _checked(self, x: Any, context: Any, minimum: int) -> Batch:
        who, model = self.who, self.model
        x = validate.table(x, who, self.name, minimum, self.dtype, self.device)
        if x.shape[1] != model.dim:
            raise ValueError(f"{who}: {type(model).__name__} has {model.dim} columns, {self.name} has {x.shape[1]}.")
        if not isinstance(model.space, Euclidean):
            model.space._points(x, self.name, who)
        if context is not None and model.context_dim:
            context = validate.table(context, who, "context", dtype=self.dtype, device=self.device)
        elif context is not None and not isinstance(context, Tensor):
            context = torch.from_numpy(np.array(context))
        if context is not None:
            context = context.to(self.device)
        context = validate.context(context, x.shape[:1], model.context_dim, model.classes, who)
        if context is not None and len(context) != len(x):
            raise ValueError(f"{who}: {len(x)} rows of {self.name}, but {len(context)} of context: give one per row.")
        if context is not None and model.classes and context.ndim != 1:
            raise ValueError(f"{who}: labels must have shape ({len(x)},), got {tuple(context.shape)}.")
        return x, context

    def take(self, index: Tensor) -> Batch:
        """The rows of the given numbers: x ``(b, dim)`` and their contexts."""
        if self.x is not None:
            index = index.to(self.x.device)
            return self.x[index], None if self.context is None else self.context[index]
        items = [self.data[i] for i in index.tolist()]  # type: ignore[index]
        pairs = [tuple(item) if isinstance(item, (tuple, list)) else (item,) for item in items]
        x = torch.stack([torch.as_tensor(p[0]).reshape(-1) for p in pairs])
        context = torch.stack([torch.as_tensor(p[1]) for p in pairs]) if len(pairs[0]) > 1 else None
        return self._checked(x, context, minimum=1)

    def material_index(self, index: Tensor) -> Tensor:
        """The numbers that are looked at all at once: every one of a table, at most `MATERIAL` of a data set."""
        return index if self.x is not None else index[:MATERIAL]

    def inspect(self) -> None:
        """Refuse or warn about tables that no density in the full dimension should be fitted to."""
        bottleneck = getattr(self.model, "autoencoder", self.model)
        narrow = getattr(bottleneck, "latent_dim", self.model.dim) < self.model.dim
        if (
            self.x is not None
            and isinstance(self.model, Density)
            and isinstance(self.model.space, Euclidean)
            and not narrow
        ):
            validate.training_rows(self.x, self.who, self.columns)

    def fingerprint(self) -> str:
        """A short digest of the table, or of a data set's length and ends, to tell data apart."""
        if self.x is not None:
            return digest(self.x, self.context)
        return f"{len(self)} {digest(*self.take(torch.tensor([0, len(self) - 1])))}"


def digest(*parts: Tensor | None) -> str:
    """16 hexadecimal digits of shapes and content; of every k-th row, where a tensor has more than 64 MB."""
    total = hashlib.sha256()
    for part in parts:
        if part is not None:
            total.update(repr((tuple(part.shape), str(part.dtype))).encode())
            stride = max(1, part.numel() * part.element_size() // 2**26)
            total.update(part[::stride].contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def weights(sample_weight: Any, n: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Row weights ``(n,)``: finite and not all zero. Negative ones are allowed, with a warning."""
    if sample_weight is None:
        return None
    w = torch.as_tensor(np.array(sample_weight) if not isinstance(sample_weight, Tensor) else sample_weight.detach())
    w = w.to(dtype=dtype, device=device)
    if w.shape != (n,):
        raise ValueError(f"fit: sample_weight must have shape ({n},), one per row; got {tuple(w.shape)}.")
    validate.finite(w[:, None], "fit", "sample_weight")
    if not bool(w.any()):
        raise ValueError("fit: sample_weight is zero everywhere: give the rows that shall count a weight.")
    negative = w < 0
    if bool(negative.any()):
        share = float(w[negative].double().sum() / w.double().abs().sum())
        warnings.warn(
            f"fit: {int(negative.sum())} of {n} rows have negative sample_weight ({-share:.1%} of all absolute weight): "
            "the loss falls without bound wherever a model takes mass from such rows alone, so let held-out rows stop the "
            "run (validation=) and look at check.",
            stacklevel=3,
        )
    return w


def effective_rows(weight: Tensor) -> float:
    """Kish's effective sample size (Σ w)² / Σ w²: as many rows of equal weight give a mean as noisy. [kish1965]"""
    w = weight.double()
    return float(w.sum() ** 2 / w.square().sum())


class Order:
    """An endless stream of batches of row numbers: one random permutation after the other, cut into equal pieces.

    Every row comes equally often and every batch has the same size, also when they do not divide.
    """

    def __init__(self, index: Tensor, batch: int, seed: int) -> None:
        self.index, self.batch = index, batch
        self._generator = torch.Generator().manual_seed(seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self._before = self._generator.get_state()
        permutation = torch.randperm(len(self.index), generator=self._generator)
        self._order, self._position = self.index[permutation.to(self.index.device)], 0

    def __next__(self) -> Tensor:
        piece = self._order[self._position : self._position + self.batch]
        self._position += len(piece)
        while len(piece) < self.batch:
            self._shuffle()
            more = self._order[: self.batch - len(piece)]
            self._position = len(more)
            piece = torch.cat([piece, more])
        return piece

    def state(self) -> dict[str, Any]:
        """The generator before the permutation in use, and the place in it."""
        return {"generator": self._before, "position": self._position}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self._generator.set_state(state["generator"])
        self._shuffle()
        self._position = state["position"]
