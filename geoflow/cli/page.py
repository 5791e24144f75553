"""`geoflow report`: what a model file is, how good it is, and what it looks like, on one page."""

import argparse

import torch
from torch import Tensor

from geoflow import plots, report
from geoflow.autoencoders import anomaly_scores
from geoflow.cli.common import Fitted, console, match, open_model
from geoflow.cli.likelihood import has_log_p, log_p, words
from geoflow.cli.use import held_out_rows
from geoflow.density import Density
from geoflow.tables import Table, writable

LEAST = "Candidates for a second look: errors of measurement, or what is rare. Rows count from 0 below the header."
PANELS = 16
"""Most columns that are drawn."""


def run(args: argparse.Namespace) -> int:
    """Check, draw, write."""
    from geoflow.diagnostics import check

    out = console(args)
    path = writable(args.out, (".html",))
    fitted = open_model(args.model, args.device, args.dtype)
    _, table = match(fitted, args)
    rows, train, which = held_out_rows(fitted, table)
    seed = args.seed or 0
    found = check(fitted.model, rows, train=train, seed=seed)
    generator = torch.Generator(fitted.like.device).manual_seed(seed)
    samples = fitted.model.sample_noisy(min(max(len(rows), 500), 5000), generator=generator)
    parts = [
        report.heading("What it is"),
        report.table(("", ""), _facts(fitted, len(table.values), table.dropped)),
        report.heading("Is it any good?"),
        report.text(f"Checked on {which}."),
        report.wide(found._repr_html_()),
        report.picture(found.plot(), "What the table's figures come from."),
        report.heading("What it looks like"),
        _marginals(rows, samples, fitted.columns),
    ]
    if len(fitted.columns) == 2 and isinstance(fitted.model, Density):
        picture = plots.figure(7.0, 4.8)
        plots.plot_density(fitted.model, picture.subplots(), points=rows[:2000], names=fitted.columns)
        parts.append(report.picture(picture, "log p, and the rows that were checked."))
    parts += _least(fitted, table)
    note = f"geoflow report {args.model} {args.table}, seed {seed}."
    path.write_text(report.page(f"geoflow: {args.model}", *parts, footer=note), encoding="utf-8")
    out.result(f"page      {path}")
    out.data({"page": str(path), **found.to_dict()})
    return 0


def _facts(fitted: Fitted, rows: int, dropped: int) -> list[tuple[str, str]]:
    training = fitted.notes.get("training", {})
    parameters = sum(p.numel() for p in fitted.model.parameters())
    facts = [
        ("model", f"{type(fitted.model).__name__}, {parameters} parameters"),
        ("columns", ", ".join(fitted.columns)),
        ("rows", f"{rows}" + (f", {dropped} more with blank cells" if dropped else "")),
    ]
    if training.get("epochs"):
        facts.append(("training", f"{training['epochs']:.0f} epochs, {training['stopped']}, {training['seconds']} s"))
    if "test_text" in training:
        beside = f"; a Gaussian {training['gaussian_text']}" if "gaussian_text" in training else ""
        facts.append((f"held-out {words(fitted.model)}", training["test_text"] + " nats per row" + beside))
    return facts


def _marginals(rows: Tensor, samples: Tensor, columns: list[str]) -> str:
    shown = columns[:PANELS]
    picture = plots.plot_marginals(
        {"rows": rows[:, : len(shown)], "samples of the model": samples[:, : len(shown)]}, shown
    )
    more = f" The first {PANELS} of {len(columns)} columns." if len(columns) > PANELS else ""
    return report.picture(picture, f"Each column: the rows that were checked, and as many samples of the model.{more}")


def _least(fitted: Fitted, table: Table, most: int = 10) -> list[str]:
    """The rows with the lowest log p, or bound; of a model that has neither, those it reconstructs worst."""
    x, model = fitted.rows(table.values), fitted.model
    if has_log_p(model):
        title, name, figures = "The least likely rows", words(model), log_p(model, x).cpu()
        first = figures.argsort()[:most].tolist()
    else:
        title, name = "The rows that it reconstructs worst", "cost"
        figures = anomaly_scores(model, x, ["reconstruction"])["reconstruction"].cpu()  # type: ignore[arg-type]
        first = figures.argsort(descending=True)[:most].tolist()
    shown = fitted.columns[:8]
    body = [(table.rows[i], f"{figures[i]:.2f}", *(f"{v:.4g}" for v in table.values[i][: len(shown)])) for i in first]
    return [report.heading(title), report.text(LEAST), report.table(("row", name, *shown), body)]
