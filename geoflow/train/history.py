"""`History`: what a fit did, row by row, and why it stopped."""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(repr=False)
class History:
    """The figures of a training run.

    Attributes:
        rows: one dict a check, ready for `pandas.DataFrame`: ``step``, ``epoch``, ``seconds``, ``lr``, the training
            terms averaged since the row before (``train loss`` ...), the held-out figures (``validation loss`` ...).
        monitor: the held-out figure that chose the weights and stopped the run; None without validation, or where none
            decides.
        stopped: why it ended, in words.
        final: held-out figures of the model as returned, after `finish`.
        verdict: why the model must not be trusted, if it says so itself of its final figures.
        seed: reproduces the run on the same device.
        config: the settings it ran under.
        effective_rows: how many equally weighted rows the weighted training rows are worth, (Σ w)² / Σ w²; None without
            weights.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    monitor: str | None = None
    stopped: str = "not started"
    final: dict[str, float] = field(default_factory=dict)
    verdict: str | None = None
    seed: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    effective_rows: float | None = None

    @property
    def best(self) -> dict[str, float] | None:
        """The row whose monitored figure is lowest (the first of equals), or None: the model has its weights."""
        if self.monitor is None:
            return None
        key = f"validation {self.monitor}"
        rows = [r for r in self.rows if math.isfinite(r.get(key, math.nan))]
        return min(rows, key=lambda r: r[key]) if rows else None

    def column(self, name: str) -> list[float]:
        """One figure over the rows, NaN where a row lacks it."""
        return [row.get(name, math.nan) for row in self.rows]

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Training and held-out loss against the step, with the chosen weights marked; returns the Axes."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(layout="constrained").subplots()
        steps = self.column("step")
        names = {k: None for row in self.rows for k in row if k.startswith("train ") and k.endswith("loss")}
        shown = [*names, *([f"validation {self.monitor}"] if self.monitor else [])]
        for name in shown:
            ax.plot(steps, self.column(name), label=name, **kwargs)
        if self.best is not None:
            ax.plot(self.best["step"], self.best[shown[-1]], "o", color=ax.lines[-1].get_color(), label="chosen")
        ax.set(xlabel="step", ylabel="loss")
        if shown:
            ax.legend()
        return ax

    def __repr__(self) -> str:
        last = self.rows[-1] if self.rows else {}
        done = f"{last.get('step', 0):.0f} steps, {last.get('epoch', 0):.3g} epochs, {last.get('seconds', 0):.3g} s"
        text = f"History: {done}; stopped: {self.stopped}"
        if self.best is not None:
            key = f"validation {self.monitor}"
            text += f"; best {key} {self.best[key]:.5g} at step {self.best['step']:.0f}"
        if self.effective_rows is not None:
            text += f"; {self.config['training rows']:,} weighted rows worth {self.effective_rows:,.0f}"
        if self.verdict is not None:
            text += f"; {self.verdict}"
        return f"<{text}>"

    def state(self) -> dict[str, Any]:
        """Plain values, for checkpoints."""
        return asdict(self)
