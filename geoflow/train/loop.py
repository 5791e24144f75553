"""One training run: its settings, its steps, and how it begins, continues and ends."""

import logging
import math
import numbers
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.density import Sampler
from geoflow.train import checkpoint as files
from geoflow.train import nonfinite
from geoflow.train.engine import Engine
from geoflow.train.feed import MATERIAL, Order, Rows
from geoflow.train.history import History

logger = logging.getLogger("geoflow")


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
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"fit: ema is a decay between 0 and 1, such as 0.999; got {self.ema}.")
        if self.precision not in (None, "bf16"):
            raise ValueError(
                f"fit: precision is None or 'bf16', got {self.precision!r}; model.double() trains in float64."
            )


class NotFinite(Exception):
    """A loss or gradient that is no number, with the sentence that says where."""


class Turn:
    """A player with its optimiser: what one turn needs."""

    def __init__(self, player: Any, settings: Settings, runner: Engine) -> None:
        self.name, self.repeat = player.name, player.repeat
        self.parameters: list[Tensor] = [p for p in player.parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"fit: player {player.name!r} has no trainable parameters: leave it out of players().")
        lr = (2e-3 if settings.lr is None else settings.lr) * player.lr_scale
        if player.optimizer is not None:
            self.optimizer = player.optimizer(self.parameters, lr)
        else:
            kind = (
                dict[str, Any](fused=True) if self.parameters[0].device.type in ("cpu", "cuda") else {"foreach": True}
            )
            self.optimizer = torch.optim.Adam(self.parameters, lr=lr, weight_decay=settings.weight_decay, **kind)
        self.wrapped = runner.setup_optimizer(self.optimizer)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def slow(self, factor: float) -> None:
        """Set the learning rates to a share of the first ones."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = factor * rate


class Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: Sampler,
        rows: Rows,
        weight: Tensor | None,
        runner: Engine,
        settings: Settings,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.rows, self.runner, self.settings, self.device = model, rows, runner, settings, device
        self.stepless = not model.players()
        self.seed, self.step = seed, 0
        self.signal: int | None = None
        self.index, self.held, self.held_weight = self._split(weight)
        self.weight = None if weight is None else _mean_one(weight, self.index, "training")
        n = len(self.index)
        self.batch = min(n, settings.batch_size or (256 if n >= 2048 else max(16, n // 8)))
        self.epoch_steps = max(1, round(n / self.batch))
        epochs = settings.epochs or max(3, math.ceil(min(max(20 * n**0.5, 1000), 10_000) / self.epoch_steps))
        self.steps = 0 if self.stepless else epochs * self.epoch_steps
        # about once an epoch, but at least twenty times a run and no more than every fifty steps
        self.check_every = max(50, min(self.epoch_steps, self.steps // 20))
        self.history = History(seed=seed, config=self._config(weight))
        self.best: dict[str, Tensor] | None = None
        self.average: list[Tensor] | None = None
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.started, self.earlier, self.written = time.monotonic(), 0.0, time.monotonic()

    # -- before the first step --------------------------------------------------------------------------------------

    def _split(self, weight: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor | None] | None, Tensor | None]:
        """Numbers of the training rows, the held-out rows, and their weights."""
        n, wanted = len(self.rows), self.settings.validation
        everything = torch.arange(n, device=self.rows.device if self.rows.x is not None else None)
        if wanted is not None and not isinstance(wanted, numbers.Real):
            pair = wanted if isinstance(wanted, tuple) else (wanted, None)
            if len(pair) != 2:
                raise ValueError(f"fit: validation is a fraction, rows x, or (x, context); got a tuple of {len(pair)}.")
            held = Rows(self.model, *pair, dtype=self.rows.dtype, device=self.device, name="validation")
            return everything, held.material(torch.arange(len(held))), None
        fraction = float(wanted or 0.0)
        if not 0 <= fraction < 1:
            raise ValueError(f"fit: validation as a fraction lies in [0, 1), got {fraction}.")
        count = 0 if self.stepless else int(fraction * n + 0.5)
        if fraction and not count and not self.stepless:
            warnings.warn(f"fit: {n} rows are too few to hold out {fraction:.0%}: nothing is validated.", stacklevel=4)
        if not count:
            return everything, None, None
        if n - count < 1:
            raise ValueError(f"fit: validation={fraction} of {n} rows leaves none to train on.")
        shuffled = everything[
            torch.randperm(n, generator=torch.Generator().manual_seed(self.seed)).to(everything.device)
        ]
        index = shuffled[:count] if self.rows.x is not None else shuffled[:count][:MATERIAL]
        held_weight = None if weight is None else _mean_one(weight, index, "held-out")
        return shuffled[count:], self.rows.material(index), held_weight

    def _config(self, weight: Tensor | None) -> dict[str, Any]:
        """What must be equal for one run to continue another."""
        s, model = self.settings, self.model
        shapes = [tuple(p.shape) for p in model.parameters()]
        return {
            "model": f"{type(model).__name__}, {sum(math.prod(k) for k in shapes)} parameters in {len(shapes)} tensors",
            "dtype": str(self.rows.dtype),
            "rows": len(self.rows),
            "data": self.rows.fingerprint(),
            "sample_weight": None if weight is None else f"sum {float(weight.double().sum()):.17g}",
            "training rows": len(self.index),
            "held-out rows": 0 if self.held is None else len(self.held[0]),
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
            "processes": self.runner.world,
        }

    def go(self, saved: dict[str, Any] | None) -> History:
        """The whole run, from the start or from where `saved` was written."""
        path = self.settings.checkpoint
        if saved is not None:
            assert path is not None
            files.refuse_changes(path, saved["config"], self.history.config)
            if saved["done"]:
                self.model.load_state_dict(saved["model"])
                self.model.eval()
                return History(**saved["history"])
        self.model.train()
        self.model.prepare(*self.rows.material(self.index))
        self._set_up()
        if saved is not None:
            self._restore(saved)
        elif self.steps:
            self._check()
        with files.Signals() as signals:
            self.history.stopped = self._steps(signals)
            self.signal = signals.caught
        if self.signal is not None:
            self._write(done=False)
            if self.signal == signal.SIGINT and self.history.rows[-1]["step"] < self.step:
                self._check()  # of this call alone: the file continues as if nothing had happened
            kept = "the last weights are kept" if self.best is None else "the best weights so far are kept"
            path = self.settings.checkpoint
            again = "" if path is None else f"; the same call with checkpoint={str(path)!r} continues"
            warnings.warn(f"fit was {self.history.stopped}: {kept}{again}.", stacklevel=3)
        self._use_best()
        self._finish()
        if self.signal is None:
            self._write(done=True)
        logger.info("%r", self.history)
        return self.history

    def _set_up(self) -> None:
        """Optimisers, order of rows, and what training calls; after `prepare`, which may set parameters."""
        players = self.model.players() if self.steps else []
        if self.runner.world > 1:
            self.runner.refuse_unused(len(players))
            torch.manual_seed(self.seed + self.runner.rank)  # noise differs between processes, parameters do not
        module: nn.Module = torch.compile(self.model) if self.settings.compile else self.model  # type: ignore[assignment]
        self.call = self.runner.setup(module) if players else module
        self.turns = [Turn(p, self.settings, self.runner) for p in players]
        self.order = Order(self.index, self.batch, self.seed)
        self.parameters: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        if self.settings.ema is not None:
            self.average = [p.detach().clone() for p in self.parameters]

    # -- steps ------------------------------------------------------------------------------------------------------

    def _steps(self, signals: files.Signals) -> str:
        """Step until something ends it; returns what."""
        if not self.steps:
            return "prepared: this model has no steps to train"
        settings = self.settings
        with self._bar() as bar:
            while self.step < self.steps:
                if self._patience_over():
                    best = self.history.best
                    assert best is not None
                    return f"no improvement in {settings.patience} checks since step {best['step']:.0f}"
                factor = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
                self.model.schedule(self.step, self.steps)
                try:
                    for turn in self.turns:
                        turn.slow(factor)
                        for _ in range(turn.repeat):
                            self._turn(turn)
                except NotFinite as error:
                    return self._not_finite(str(error))
                self.step += 1
                if self.average is not None:
                    assert settings.ema is not None
                    decay = min(settings.ema, (1 + self.step) / (10 + self.step))
                    torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
                bar.update()
                if self.step % self.check_every == 0 or self.step == self.steps:
                    self._check()
                    bar.set_postfix(self._shown(), refresh=False)
                if self.runner.any(signals.caught is not None):
                    name = "SIGTERM" if signals.caught == signal.SIGTERM else "Ctrl-C"
                    return f"interrupted by {name} after step {self.step} of {self.steps}"
                if time.monotonic() - self.written > 60 * settings.checkpoint_minutes:
                    self._write(done=False)
                    self.written = time.monotonic()
        return "all epochs done"

    def _turn(self, turn: Turn) -> None:
        """One forward and backward on a fresh batch, and a step of this player's optimiser alone."""
        index = self._share(next(self.order))
        x, context = self.rows.take(index)
        given: dict[str, Any] = {} if self.weight is None else {"weight": self.weight[index]}
        if len(self.turns) > 1:
            given["player"] = turn.name
        self.model.zero_grad(set_to_none=True)
        before = torch.get_rng_state()
        with self.runner.autocast(self.device, self.settings.precision):
            terms = self.call(x, context, **given)
        loss = terms["loss"]
        if not loss.requires_grad:
            raise ValueError(f"fit: the loss of player {turn.name!r} does not depend on any trainable parameter.")
        self.runner.backward(loss)
        norm = self.runner.clip(turn.parameters, self.settings.clip)
        if not bool((loss.detach() + norm).isfinite()):
            raise NotFinite(self._diagnosis(turn, index, (x, context), given, loss, before))
        turn.wrapped.step()
        prefix = f"{turn.name} " if len(self.turns) > 1 else ""
        for name, value in terms.items():
            key = prefix + name
            value = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def _share(self, index: Tensor) -> Tensor:
        return index[self.runner.rank :: self.runner.world]

    def _diagnosis(
        self,
        turn: Turn,
        index: Tensor,
        batch: tuple[Tensor, Tensor | None],
        given: dict[str, Any],
        loss: Tensor,
        before: Tensor,
    ) -> str:
        """Which step, rows and part of the model gave something that is no number."""
        rows = index.tolist()
        shown = ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
        where = f"at step {self.step + 1} of {self.steps} (player {turn.name!r}), batch rows {shown}"
        if bool(loss.isfinite()):
            return f"the gradient {where} is not finite, first in {nonfinite.guilty_gradient(self.model)}"
        torch.set_rng_state(before)
        guilty = nonfinite.first_guilty(self.model, lambda: self.model(*batch, **given))
        return f"the loss {where} is {float(loss):g}; " + (
            f"first not finite: {guilty}" if guilty else "a second look at the batch found every output finite"
        )

    def _not_finite(self, message: str) -> str:
        if self.step == 0:
            raise ValueError(f"fit: {message}. No step was good: look at the scale of the data and the model's start.")
        kept = "the best validated weights are restored" if self.best is not None else "the weights before it are kept"
        warnings.warn(f"fit stopped: {message}; {kept}. A smaller lr or clip may help.", stacklevel=5)
        return f"not finite: {message}"

    # -- looking ------------------------------------------------------------------------------------------------------

    def _figures(self) -> dict[str, float]:
        """The model's figures on held-out rows, the monitored one first; the generators do not notice."""
        if self.held is None:
            return {}
        given = {} if self.held_weight is None else {"weight": self.held_weight}
        training = self.model.training
        self.model.eval()
        with files.seeded(0, self.device):
            figures = {k: self.runner.mean(float(v)) for k, v in self.model.evaluate(*self.held, **given).items()}
        self.model.train(training)
        monitor = self.settings.monitor or next(iter(figures))
        if monitor not in figures:
            raise ValueError(
                f"fit: monitor={monitor!r} is not a figure of this model's evaluate: {', '.join(figures)}."
            )
        self.history.monitor = monitor
        return figures

    def _check(self) -> None:
        """Add a row to the history, and keep the weights if they are the best so far."""
        row = {"step": self.step, "epoch": self.step / self.epoch_steps, "seconds": self._seconds()}
        if self.turns:
            row["lr"] = self.turns[0].optimizer.param_groups[0]["lr"]
        row |= {f"train {k}": self.runner.mean(float(v)) / self.counts[k] for k, v in self.sums.items()}
        self.sums, self.counts = {}, {}
        with self._averaged():
            row |= _named("validation", self._figures())
            self.history.rows.append(row)
            if self.history.best is row:
                self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        logger.info("step %d: %s", self.step, self._shown())

    def _patience_over(self) -> bool:
        best, patience = self.history.best, self.settings.patience
        return (
            best is not None
            and patience is not None
            and len(self.history.rows) - 1 - self.history.rows.index(best) >= patience
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The running average in the parameters' place, if there is one."""
        if self.average is None:
            yield
            return
        current = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, current)

    def _shown(self) -> dict[str, str]:
        """What the bar shows: the last training terms and the monitored figure."""
        row = self.history.rows[-1]
        names = [k for k in row if k.startswith("train ")][:4]
        names += [f"validation {self.history.monitor}"] if self.history.monitor else []
        return {k.removeprefix("train "): f"{row[k]:.4g}" for k in names}

    def _bar(self) -> Any:
        from tqdm.auto import tqdm

        quiet = not self.settings.progress or self.runner.rank > 0
        return tqdm(
            total=self.steps, initial=self.step, disable=quiet, desc=f"fit {type(self.model).__name__}", leave=True
        )

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    # -- ending and continuing ----------------------------------------------------------------------------------------

    def _use_best(self) -> None:
        """Put the best validated weights into the model; without validation the last, averaged if asked for."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, self.average)

    def _finish(self) -> None:
        self.model.eval()
        self.model.zero_grad(set_to_none=True)
        self.model.finish(*self.rows.material(self.index))
        self.history.final = self._figures()
        if self.stepless:
            row = {"step": 0, "epoch": 0.0, "seconds": self._seconds()}
            self.history.rows.append(row | _named("validation", self.history.final))

    def _write(self, done: bool) -> None:
        path = self.settings.checkpoint
        if path is None or self.runner.rank > 0:
            return
        state: dict[str, Any] = {
            "config": self.history.config,
            "done": done,
            "step": self.step,
            "seconds": self._seconds(),
            "model": self.model.state_dict(),
            "history": self.history.state(),
        }
        if not done:
            state |= {
                "optimizers": [t.optimizer.state_dict() for t in self.turns],
                "order": self.order.state(),
                "generators": files.generators(self.device),
                "best": self.best,
                "average": self.average,
                "sums": self.sums,
                "counts": self.counts,
                "scaler": self.runner.scaler(),
            }
        files.write(path, state)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Continue where a checkpoint was written: the learning rate follows from the step."""
        self.model.load_state_dict(saved["model"])
        for turn, state in zip(self.turns, saved["optimizers"], strict=True):
            turn.optimizer.load_state_dict(state)
        self.order.restore(saved["order"])
        files.restore_generators(saved["generators"], self.device)
        self.runner.restore_scaler(saved["scaler"])
        self.history = History(**saved["history"])
        self.step, self.earlier = saved["step"], saved["seconds"]
        self.best = saved["best"]
        if self.average is not None:
            torch._foreach_copy_(self.average, [a.to(self.device) for a in saved["average"]])
        self.sums = {k: v.to(self.device) for k, v in saved["sums"].items()}
        self.counts = dict(saved["counts"])


def _named(kind: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{kind} {k}": v for k, v in figures.items()}


def _mean_one(weight: Tensor, index: Tensor, kind: str) -> Tensor:
    """Weights scaled to mean one over the rows of the given numbers; of held-out rows only those are returned."""
    mean = weight[index.to(weight.device)].double().mean()
    if not mean > 0:
        raise ValueError(
            f"fit: all {kind} rows have sample_weight zero: pass the held-out rows as validation=(x, context)."
        )
    scaled = (weight.double() / mean).to(weight.dtype)
    return scaled if kind == "training" else scaled[index.to(weight.device)]
