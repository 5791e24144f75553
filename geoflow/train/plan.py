"""What a run will do, decided before its first step: which rows train, how many steps, how often they are checked."""

import math
import numbers
import os
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.density import Sampler
from geoflow.train.feed import Batch, Rows, digest, effective_rows


@dataclass(frozen=True)
class Settings:
    """`fit`'s arguments that say how to train; see there."""

    epochs: int | None
    batch_size: int | None
    lr: float | None
    validation: Any
    progress: bool
    monitor: str | None
    checkpoint: str | os.PathLike[str] | None
    checkpoint_minutes: float
    compile: bool
    weight_decay: float
    clip: float | None
    patience: int | None
    ema: float | None
    precision: str | None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) is not None:
                validate.count(getattr(self, name), "fit", name, 1)
        for name in ("lr", "clip", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"fit: {name} must be positive, got {value}.")
        if not self.weight_decay >= 0:
            raise ValueError(f"fit: weight_decay must not be negative, got {self.weight_decay}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"fit: ema is a decay between 0 and 1, such as 0.999; got {self.ema}.")
        if self.precision not in (None, "bf16"):
            raise ValueError(
                f"fit: precision is None or 'bf16', got {self.precision!r}; model.double() trains in float64."
            )


class Plan:
    """The split and the budget of one run.

    Attributes:
        index: numbers of the training rows.
        weight: of every row, mean one over the training rows, or None.
        effective: how many equally weighted rows the training rows are worth; None without weights.
        held, held_weight: held-out rows (x, context) and their weights, of mean one; None without.
        batch, epoch_steps, steps, check_every: rows a step, steps an epoch, in all, and between checks.
    """

    def __init__(
        self, model: Sampler, rows: Rows, weight: Tensor | None, settings: Settings, seed: int, processes: int = 1
    ) -> None:
        self.rows, self.settings, self.seed = rows, settings, seed
        self.stepless = not model.players()
        self.held: Batch | None = None
        self.held_weight: Tensor | None = None
        wanted = settings.validation
        self.index = torch.arange(len(rows), device=rows.device if rows.x is not None else None)
        if wanted is not None and not isinstance(wanted, numbers.Real):
            self._take_held(model, wanted)
        else:
            self._split(float(wanted or 0), weight)
        self.weight = None if weight is None else _mean_one(weight, self.index, "training")
        self.effective = None if self.weight is None else self._worth(self.weight)
        n = len(self.index)
        batch = min(n, settings.batch_size or (256 if n >= 2048 else max(16, n // 8)))
        self.batch = max(processes, batch - batch % processes)
        self.epoch_steps = max(1, round(n / self.batch))
        budget = math.ceil(min(max(20 * n**0.5, 1000), 10_000) / self.epoch_steps)
        self.steps = 0 if self.stepless else (settings.epochs or max(3, budget)) * self.epoch_steps
        # about once an epoch, but at least twenty times a run and no more than every fifty steps
        self.check_every = max(50, min(self.epoch_steps, self.steps // 20))
        self.config = self._config(model, weight, processes)

    def _take_held(self, model: Sampler, wanted: Any) -> None:
        pair = wanted if isinstance(wanted, tuple) else (wanted, None)
        if len(pair) not in (1, 2):
            raise ValueError(f"fit: validation is a fraction, rows x, or (x, context); got a tuple of {len(pair)}.")
        x, context = pair if len(pair) == 2 else (pair[0], None)
        held = Rows(model, x, context, self.rows.dtype, self.rows.device, "validation")
        self.held = held.take(held.material_index(torch.arange(len(held))))

    def _split(self, fraction: float, weight: Tensor | None) -> None:
        n = len(self.rows)
        if not 0 <= fraction < 1:
            raise ValueError(f"fit: validation as a fraction lies in [0, 1), got {fraction}.")
        count = 0 if self.stepless else int(fraction * n + 0.5)
        if count == n:
            raise ValueError(f"fit: validation={fraction} of {n} rows leaves none to train on.")
        if fraction and not count and not self.stepless:
            warnings.warn(f"fit: {n} rows are too few to hold out {fraction:.0%}: nothing is validated.", stacklevel=4)
        if count:
            shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed)).to(self.index.device)
            held, self.index = shuffled[:count], shuffled[count:]
            held = self.rows.material_index(held)
            self.held = self.rows.take(held)
            self.held_weight = None if weight is None else _mean_one(weight, held, "held-out")[held.to(weight.device)]

    def _worth(self, weight: Tensor) -> float:
        """The effective number of training rows, with a warning where it is small."""
        n, worth = len(self.index), effective_rows(weight[self.index.to(weight.device)])
        if worth < max(10, 0.01 * n):
            warnings.warn(
                f"fit: sample_weight leaves {n} training rows worth {worth:.3g} equally weighted ones (threshold: 10, and "
                "1% of the rows): a few rows decide the fit; clip the largest weights.",
                stacklevel=5,
            )
        return worth

    def _config(self, model: Sampler, weight: Tensor | None, processes: int) -> dict[str, Any]:
        """What must be equal for one run to continue another, in plain values."""
        s, parameters = self.settings, list(model.parameters())
        return {
            "model": f"{type(model).__name__} of {sum(p.numel() for p in parameters)} parameters in {len(parameters)}",
            "dtype": str(self.rows.dtype),
            "rows": len(self.rows),
            "data": self.rows.fingerprint(),
            "training rows": len(self.index),
            "held-out rows": 0 if self.held is None else len(self.held[0]),
            "held-out data": None if self.held is None else digest(*self.held),
            "sample_weight": None if weight is None else digest(weight),
            "steps": self.steps,
            "batch_size": self.batch,
            "lr": 2e-3 if s.lr is None else s.lr,
            "weight_decay": s.weight_decay,
            "clip": s.clip,
            "patience": s.patience,
            "ema": s.ema,
            "precision": s.precision,
            "compile": s.compile,
            "monitor": s.monitor,
            "seed": self.seed,
            "processes": processes,
        }


def _mean_one(weight: Tensor, index: Tensor, kind: str) -> Tensor:
    """Weights scaled to mean one over the rows of the given numbers."""
    mean = weight[index.to(weight.device)].double().mean()
    if not mean > 0:
        raise ValueError(
            f"fit: sample_weight of all {kind} rows together is {'zero' if mean == 0 else 'negative'}, where a positive sum "
            "is needed: check the signs, or pass the held-out rows as validation=(x, context)."
        )
    return (weight.double() / mean).to(weight.dtype)
