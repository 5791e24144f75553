"""What verbs share: where words go, how a model file is opened, and how a table is matched to it."""

import argparse
import difflib
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow import LatentModel, describe, load
from geoflow.cli import latent
from geoflow.density import Density, Sampler, reference
from geoflow.tables import Raw, Table, choose, read


@dataclass
class Console:
    """Results on stdout, remarks on stderr."""

    quiet: bool = False
    as_json: bool = False

    def remark(self, text: str) -> None:
        """Progress and circumstances; nothing when quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def result(self, text: str) -> None:
        """What was asked for, for people; nothing when JSON was."""
        if not self.as_json:
            sys.stdout.write(text + "\n")

    def data(self, found: dict[str, Any]) -> None:
        """What was asked for, for programs, if JSON was."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain(found)) + "\n")


def console(args: argparse.Namespace) -> Console:
    """As the flags say."""
    return Console(args.quiet, args.json)


def plain(value: Any) -> Any:
    """JSON values; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def device_of(text: str | None) -> torch.device:
    """A device that is there, or one line that says which are."""
    try:
        device = torch.device(text or "cpu")
    except RuntimeError:
        raise ValueError(f"unknown device {text!r}: use cpu, cuda, cuda:1 ...") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"no device {text!r} here: torch sees no GPU; use --device cpu.")
    return device


@dataclass
class Fitted:
    """A model from a file with what its notes say.

    Attributes:
        path: the file.
        model: a density or a latent model, on its device.
        notes: what `fit` wrote beside it; empty for models saved from Python.
        columns: names of its columns; ``x0, x1, ...`` where nobody named them.
        named: whether somebody did.
    """

    path: str
    model: Sampler
    notes: dict[str, Any]
    columns: list[str]
    named: bool

    @property
    def like(self) -> Tensor:
        """A tensor of its dtype and device."""
        found = reference(self.model)
        return torch.empty(0) if found is None else found.detach()

    def rows(self, values: np.ndarray) -> Tensor:
        """A table's numbers for the model; of one that takes shares, each row over its sum."""
        rows = torch.as_tensor(values, dtype=self.like.dtype, device=self.like.device)
        return latent.shares(rows, self.columns, self.path) if latent.of_shares(self.model) else rows


def open_model(path: str, device: str | None = None, dtype: str | None = None) -> Fitted:
    """A model file, ready to be asked."""
    place = device_of(device)
    model = load(path)
    if not isinstance(model, (Density, LatentModel)):
        raise TypeError(f"{path} holds a {type(model).__name__}: these verbs need a density, or a latent model.")
    if model.context_dim or model.classes:
        raise ValueError(f"{path} holds a conditional model: the command line has no contexts yet, use it from Python.")
    model = model.to(place)
    if dtype is not None:
        model = model.to(getattr(torch, dtype))
    notes = describe(path)
    columns = notes.get("columns")
    named = bool(notes.get("named", columns is not None))
    return Fitted(path, model.eval(), notes, columns or [f"x{j}" for j in range(model.dim)], named)


def match(fitted: Fitted, args: argparse.Namespace, missing: str | None = None) -> tuple[Raw, Table]:
    """A table's columns that the model knows, in the model's order: by name where both have names, else by count."""
    raw = read(args.table, args.key)
    for name in args.drop or []:
        raw.position(name)
    if fitted.named and raw.named and args.columns is None:
        lacking = [c for c in fitted.columns if c not in raw.names]
        if lacking:
            near = difflib.get_close_matches(lacking[0], [n for n in raw.names if n not in fitted.columns], 1)
            hint = f"is it {near[0]!r} there? " if near else ""
            raise ValueError(
                f"{raw.path} lacks column {lacking[0]!r} that {fitted.path} was fitted on: {hint}"
                f"it needs {', '.join(fitted.columns)}; or choose as many with --columns."
            )
        columns: list[str] | None = [c for c in fitted.columns if c not in (args.drop or [])]
    else:
        columns = args.columns
    chosen = columns if columns is not None else [n for n in raw.names if n not in (args.drop or [])]
    if len(chosen) != len(fitted.columns):
        raise ValueError(
            f"{raw.path}: {len(chosen)} columns are chosen, {fitted.path} was fitted on {len(fitted.columns)} "
            f"({', '.join(fitted.columns)}): choose them with --columns or --drop."
        )
    way = missing if missing is not None else args.missing
    if way is None:
        way = fitted.notes.get("config", {}).get("missing")
    return raw, choose(raw, columns, args.drop or [], way)


def blanks(table: Table) -> str:
    """What to say of rows left out."""
    return f"{table.dropped} of {len(table.raw)} rows of {table.raw.path} have blank cells and are left out."


def in_lines(figures: Tensor) -> str:
    """Mean and standard error of figures per row."""
    error = float(figures.std()) / len(figures) ** 0.5 if len(figures) > 1 else float("nan")
    return f"{float(figures.mean()):.3f} ± {error:.3f}"
