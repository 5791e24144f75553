"""The honesty table: lines of a figure, a threshold, a verdict and a sentence; prints, draws, and goes into JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Verdict = Literal["good", "bad", "unclear", "missing"]

COLORS = {"good": "#2a7d4f", "bad": "#b3261e", "unclear": "#8a6d00", "missing": "#777777"}


@dataclass(frozen=True)
class Line:
    """One question put to a model.

    Attributes:
        name: what is asked.
        figure, error: the answer and its standard error; None where there is none.
        threshold: what the figure is held against, as text.
        verdict: "good", "bad", "unclear" (too noisy to say) or "missing" (could not be asked).
        sentence: what it means.
        details: further figures by name.
        drawing, notes: curves for `HonestyTable.plot`, and the labels of what is compared or of the axes.
    """

    name: str
    figure: float | None
    error: float | None
    threshold: str
    verdict: Verdict
    sentence: str
    details: dict[str, float] = field(default_factory=dict)
    drawing: dict[str, Tensor] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def number(self) -> str:
        """The figure with its error, to the digits that mean something."""
        if self.figure is None:
            return "–"
        if self.error is None or not math.isfinite(self.error) or self.error <= 0:
            return f"{self.figure:.3g}"
        digits = min(max(0, 1 - math.floor(math.log10(self.error))), 6)
        return f"{self.figure:.{digits}f} ± {self.error:.{digits}f}"


@dataclass(frozen=True)
class HonestyTable:
    """What `check` found.

    Attributes:
        model: the model's class.
        lines: one per question.
        about: rows, samples and seed used.
    """

    model: str
    lines: tuple[Line, ...]
    about: str

    @property
    def ok(self) -> bool:
        """Whether no line is bad."""
        return all(line.verdict != "bad" for line in self.lines)

    def __getitem__(self, name: str) -> Line:
        """The line of that name."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"no line {name!r}: there are {', '.join(line.name for line in self.lines)}")

    def __str__(self) -> str:
        bad = [line.name for line in self.lines if line.verdict == "bad"]
        wide = max((len(line.name) for line in self.lines), default=0)
        numbers = max((len(line.number()) for line in self.lines), default=0)
        text = [
            f"{self.model}: {f'bad in {len(bad)}: ' + ', '.join(bad) if bad else 'nothing bad found'} ({self.about})"
        ]
        for line in self.lines:
            text.append(
                f"  {line.verdict:<8} {line.name:<{wide}}  {line.number():<{numbers}}  {line.threshold}".rstrip()
            )
            text.append(f"           {line.sentence}")
        return "\n".join(text)

    def __repr__(self) -> str:
        return f"<HonestyTable: {', '.join(f'{line.name} {line.verdict}' for line in self.lines)}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="color:{COLORS[line.verdict]};font-weight:600">{line.verdict}</td>'
            + "".join(f"<td>{escape(t)}</td>" for t in (line.name, line.number(), line.threshold, line.sentence))
            + "</tr>"
            for line in self.lines
        )
        head = "".join(f"<th>{h}</th>" for h in ("verdict", "line", "figure", "threshold", "what it means"))
        caption = escape(f"{self.model} ({self.about})")
        return f'<table style="text-align:left"><caption>{caption}</caption><tr>{head}</tr>{rows}</table>'

    def to_dict(self) -> dict[str, Any]:
        """Values that JSON can hold; figures that are not finite become None."""

        def plain(value: float | None) -> float | None:
            return value if value is not None and math.isfinite(value) else None

        lines = [
            {
                "name": line.name,
                "figure": plain(line.figure),
                "error": plain(line.error),
                "threshold": line.threshold,
                "verdict": line.verdict,
                "sentence": line.sentence,
                "details": {k: plain(v) for k, v in line.details.items()},
            }
            for line in self.lines
        ]
        return {"model": self.model, "ok": self.ok, "about": self.about, "lines": lines}

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Figure":
        """Draw what can be drawn, a panel a line: log p against simple models, ranks, distances; returns the Figure.

        Args:
            axes: as many Axes as `drawn` has names; None makes a figure.
        """
        names = self.drawn
        if axes is None:
            from matplotlib.figure import Figure

            across = min(3, max(1, len(names)))
            down = -(-max(1, len(names)) // across)
            figure = Figure(figsize=(4.2 * across, 3.6 * down), layout="constrained")
            axes = [figure.add_subplot(down, across, i + 1) for i in range(len(names))]
        else:
            if len(axes) < len(names):
                raise ValueError(f"plot expects {len(names)} axes ({', '.join(names)}), got {len(axes)}.")
            figure = axes[0].figure  # type: ignore[assignment]
        for ax, name in zip(axes, names, strict=False):
            _draw(ax, self[name])
        return figure

    @property
    def drawn(self) -> list[str]:
        """Names of the lines that `plot` draws, in its order."""
        return [line.name for line in self.lines if line.drawing]


def _draw(ax: "Axes", line: Line) -> None:
    color = COLORS[line.verdict]
    drawing = line.drawing
    if "lead" in drawing:
        ax.axvline(0, color=color)
        places = range(len(drawing["lead"]))
        ax.errorbar(-drawing["lead"], places, xerr=2 * drawing["error"], fmt="o", color="0.4", capsize=3)
        ax.set(yticks=places, yticklabels=line.notes, xlabel="nats a row above the model (line), ± 2 standard errors")
        ax.locator_params(axis="x", nbins=5)
        ax.invert_yaxis()
    elif "alpha" in drawing:
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        ax.plot(drawing["alpha"], drawing["inside"], color=color)
        below, inside = line.notes or ("mass of the highest-density set", "share of held-out rows inside")
        ax.set(xlabel=below, ylabel=inside)
    else:
        for name, values in drawing.items():
            ax.ecdf(values.numpy(), label=name, color=color if name == "samples" else "0.5")
        ax.set(xlabel="distance to the nearest training row", ylabel="share")
        ax.legend()
    ax.set_title(f"{line.name}: {line.verdict}", color=color, fontsize="medium")
