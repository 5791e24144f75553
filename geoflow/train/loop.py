"""One training run: its steps and checks, and how it begins, continues and ends."""

import logging
import math
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.density import Sampler, takes_weight
from geoflow.train import checkpoint as files
from geoflow.train.engine import Engine
from geoflow.train.feed import Order
from geoflow.train.history import History
from geoflow.train.plan import Plan
from geoflow.train.turn import NotFinite, Turn

logger = logging.getLogger("geoflow")


class Run:
    """One call of `fit`.

    Attributes:
        step: steps done.
        signal: the signal that ended it, or None.
    """

    def __init__(self, model: Sampler, plan: Plan, runner: Engine, device: torch.device) -> None:
        self.model, self.plan, self.runner, self.device = model, plan, runner, device
        self.settings = plan.settings
        self.history = History(seed=plan.seed, config=plan.config, effective_rows=plan.effective)
        self.step = 0
        self.signal: int | None = None
        self.best: dict[str, Tensor] | None = None
        self.average: list[Tensor] | None = None
        self.running: list[Tensor] = []  # the same, in one vector if the parameters are
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.started = self.written = time.monotonic()
        self.earlier = 0.0

    def go(self, saved: dict[str, Any] | None) -> History:
        """The whole run, from the start or from where `saved` was written."""
        path = self.settings.checkpoint
        if saved is not None:
            assert path is not None
            files.refuse_changes(path, saved["config"], self.plan.config)
            if saved["done"]:
                self.model.load_state_dict(saved["model"])
                self.model.eval()
                return History(**saved["history"])
        if self.plan.effective is not None:
            logger.info("%d weighted rows, effective sample size %.1f", len(self.plan.index), self.plan.effective)
        self.model.train()
        self.model.prepare(*self._material())
        self._set_up()
        if saved is not None:
            self._restore(saved)
        elif self.plan.steps:
            self._check()
        with files.Signals() as signals:
            try:
                self.history.stopped = self._steps(signals)
            finally:
                for turn in self.turns:
                    turn.release()
            self.signal = signals.caught
        if self.signal is not None:
            self._interrupted()
        self._use_best()
        self._finish()
        if self.signal is None:
            self._write(done=True)
        logger.info("%r", self.history)
        return self.history

    def _material(self) -> tuple[Tensor, Tensor | None]:
        return self.plan.rows.take(self._seen())

    def _seen(self) -> Tensor:
        """Numbers of the training rows that statistics are taken of."""
        return self.plan.rows.material_index(self.plan.index)

    def _set_up(self) -> None:
        """Optimisers, order of rows, and what training calls; after `prepare`, which may set parameters."""
        players = self.model.players() if self.plan.steps else []
        if self.runner.world > 1:
            self.runner.refuse_unused(len(players))
            self._seed_noise()
        module: nn.Module = torch.compile(self.model) if self.settings.compile else self.model  # type: ignore[assignment]
        call = self.runner.setup(module) if players else module
        self.turns = [Turn(p, len(players) > 1, self.model, call, self.plan, self.runner) for p in players]
        self.order = Order(self.plan.index, self.plan.batch, self.plan.seed)
        self.parameters: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        if self.settings.ema is not None and self.turns:
            flat = self.turns[0].flat
            if flat is None:
                self.average = self.running = [p.detach().clone() for p in self.parameters]
            else:
                self.parameters, self.running = list(flat.parameters), [flat.vector.detach().clone()]
                self.average = flat.pieces(self.running[0])

    def _seed_noise(self) -> None:
        """Different noise in each process, where parameters and order of rows must not differ."""
        files.seed_all(self.plan.seed + 1 + self.runner.rank + self.runner.world * self.step, self.device)

    # -- steps --------------------------------------------------------------------------------------------------

    def _steps(self, signals: files.Signals) -> str:
        """Step until something ends it; returns what."""
        steps, settings = self.plan.steps, self.settings
        if not steps:
            return "prepared: this model has no steps to train"
        with self._bar() as bar:
            while self.step < steps:
                if self._patience_over():
                    best = self.history.best
                    assert best is not None
                    return f"no improvement in {settings.patience} checks since step {best['step']:.0f}"
                try:
                    self._one_step(0.5 * (1 + math.cos(math.pi * self.step / steps)))
                except NotFinite as error:
                    return self._not_finite(str(error))
                bar.update()
                if self.step % self.plan.check_every == 0 or self.step == steps:
                    self._check()
                    bar.set_postfix(self._shown(), refresh=False)
                if self.runner.any(signals.caught is not None):
                    name = "SIGTERM" if signals.caught == signal.SIGTERM else "Ctrl-C"
                    return f"interrupted by {name} after step {self.step} of {steps}"
                if time.monotonic() - self.written > 60 * settings.checkpoint_minutes:
                    self._write(done=False)
                    self.written = time.monotonic()
        return "all epochs done"

    def _one_step(self, factor: float) -> None:
        """Every player's turns, with learning rates at `factor` of the first."""
        self.model.schedule(self.step, self.plan.steps)
        for turn in self.turns:
            turn.slow(factor)
            for _ in range(turn.repeat):
                for name, value in turn.take(next(self.order), self.step).items():
                    self.sums[name] = self.sums[name] + value if name in self.sums else value
                    self.counts[name] = self.counts.get(name, 0) + 1
        self.step += 1
        if self.average is not None:
            assert self.settings.ema is not None
            decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))  # forget the start sooner than the rest
            flat = self.turns[0].flat
            now = [p.detach() for p in (self.parameters if flat is None else [flat.vector])]
            torch._foreach_lerp_(self.running, now, 1 - decay)

    def _not_finite(self, message: str) -> str:
        if self.step == 0:
            raise ValueError(f"fit: {message}. No step was good: look at the data's scale and at the model's start.")
        kept = "the weights before it are kept" if self.best is None else "the best validated weights are restored"
        warnings.warn(f"fit stopped: {message}; {kept}. A smaller lr or clip may help.", stacklevel=5)
        return f"not finite: {message}"

    def _bar(self) -> Any:
        from tqdm.auto import tqdm

        quiet = not self.settings.progress or self.runner.rank > 0
        about = f"fit {type(self.model).__name__}"
        if self.plan.effective is not None:
            about += f" to {len(self.plan.index):,} rows worth {self.plan.effective:,.0f}"
        hidden = {"disable": True} if quiet else {}  # else TQDM_DISABLE decides
        return tqdm(total=self.plan.steps, initial=self.step, desc=about, **hidden)

    # -- checks -------------------------------------------------------------------------------------------------

    def _figures(self) -> dict[str, float]:
        """The model's figures on held-out rows; the generators do not notice."""
        if self.plan.held is None:
            return {}
        given = {} if self.plan.held_weight is None else {"weight": self.plan.held_weight}
        training = self.model.training
        self.model.eval()
        with files.seeded(0, self.device):
            figures = {k: self.runner.mean(float(v)) for k, v in self.model.evaluate(*self.plan.held, **given).items()}
        self.model.train(training)
        monitor = self.settings.monitor or (None if self.model.to_the_end else next(iter(figures)))
        if monitor is not None and monitor not in figures:
            raise ValueError(f"fit: monitor={monitor!r} is no figure of this model's evaluate: {', '.join(figures)}.")
        self.history.monitor = monitor
        return figures

    def _check(self) -> None:
        """Add a row to the history, and keep the weights if they are the best so far."""
        row = {"step": self.step, "epoch": self.step / self.plan.epoch_steps, "seconds": self._seconds()}
        if self.turns:
            row["lr"] = self.turns[0].optimizer.param_groups[0]["lr"]
        row |= {f"train {k}": self.runner.mean(float(v) / self.counts[k]) for k, v in self.sums.items()}
        self.sums, self.counts = {}, {}
        with self._averaged():
            row |= {f"validation {k}": v for k, v in self._figures().items()}
            self.history.rows.append(row)
            if self.history.best is row:
                self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        logger.info("step %d: %s", self.step, self._shown())

    def _patience_over(self) -> bool:
        best, patience = self.history.best, self.settings.patience
        if best is None or patience is None:
            return False
        return len(self.history.rows) - 1 - self.history.rows.index(best) >= patience

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The running average in the parameters' place, if there is one."""
        if self.average is None:
            yield
            return
        current = [p.detach().clone() for p in self.parameters]
        self._put(self.average)
        try:
            yield
        finally:
            self._put(current)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self.parameters, values)

    def _shown(self) -> dict[str, str]:
        """What the bar shows: the last training terms and the monitored figure."""
        row = self.history.rows[-1]
        names = [k for k in row if k.startswith("train ")][:4]
        names += [f"validation {self.history.monitor}"] if self.history.monitor else []
        return {k.removeprefix("train "): f"{row[k]:.4g}" for k in names}

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    # -- ending and continuing ----------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self._write(done=False)
        if self.signal == signal.SIGINT and self.history.rows[-1]["step"] < self.step:
            self._check()  # for this call's result alone: the file continues as if nothing had happened
        kept = "the last weights are kept" if self.best is None else "the best weights so far are kept"
        path = self.settings.checkpoint
        again = "" if path is None else f"; the same call with checkpoint={str(path)!r} continues"
        warnings.warn(f"fit was {self.history.stopped}: {kept}{again}.", stacklevel=4)

    def _use_best(self) -> None:
        """Put the best validated weights into the model; without validation the last, averaged if asked for."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            self._put(self.average)
        if self.best is None and self.history.monitor is not None:
            warnings.warn(
                f"fit: validation {self.history.monitor} was never finite: the last weights are kept.", stacklevel=4
            )

    def _finish(self) -> None:
        """The model's closing statistics, and its figures as it is returned."""
        self.model.eval()
        self.model.zero_grad(set_to_none=True)
        given = {}
        if self.plan.weight is not None and takes_weight(self.model.finish):
            given = {"weight": self.plan.weight[self._seen().to(self.plan.weight.device)]}
        self.model.finish(*self._material(), **given)
        self.history.final = self._figures()
        if not self.plan.steps:
            figures = {f"validation {k}": v for k, v in self.history.final.items()}
            self.history.rows.append({"step": 0, "epoch": 0.0, "seconds": self._seconds(), **figures})
        verdict = getattr(self.model, "verdict", None)
        self.history.verdict = verdict(self.history.final) if verdict is not None and self.history.final else None
        if self.history.verdict is not None:
            warnings.warn(f"fit: {self.history.verdict}", stacklevel=4)

    def _write(self, done: bool) -> None:
        path = self.settings.checkpoint
        if path is None or self.runner.rank > 0:
            return
        state: dict[str, Any] = {
            "config": self.plan.config,
            "done": done,
            "step": self.step,
            "seconds": self._seconds(),
            "model": self.model.state_dict(),
            "history": self.history.state(),
        }
        if not done:
            state |= {
                "optimizers": [t.optimizer.state_dict() for t in self.turns],
                "scaler": self.runner.scaler(),
                "order": self.order.state(),
                "generators": files.generators(self.device),
                "best": self.best,
                "average": self.average,
                "sums": self.sums,
                "counts": self.counts,
            }
        files.write(path, state)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Continue where a checkpoint was written; the learning rate follows from the step."""
        self.model.load_state_dict(saved["model"])
        for turn, state in zip(self.turns, saved["optimizers"], strict=True):
            turn.optimizer.load_state_dict(state)
        self.runner.restore_scaler(saved["scaler"])
        self.order.restore(saved["order"])
        self.history = History(**saved["history"])
        self.step, self.earlier = saved["step"], saved["seconds"]
        self.best = saved["best"]
        if self.average is not None:
            torch._foreach_copy_(self.average, [a.to(self.device) for a in saved["average"]])
        self.sums = {k: v.to(self.device) for k, v in saved["sums"].items()}
        self.counts = dict(saved["counts"])
        if self.runner.world == 1:
            files.restore_generators(saved["generators"], self.device)
        else:
            self._seed_noise()
