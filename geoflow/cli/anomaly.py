"""`geoflow anomaly`: scores of each row, high for strange ones, and which of them are found at a false discovery rate."""

import argparse
import copy
import math
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow import report
from geoflow.autoencoders import LatentModel, Linked, anomaly_scores
from geoflow.autoencoders.anomaly import available
from geoflow.cli import split
from geoflow.cli.common import Console, Fitted, blanks, console, match, open_model
from geoflow.cli.use import spread, unscored, widened
from geoflow.metrics import conformal_p_values, discoveries
from geoflow.tables import SUFFIXES, Table, writable, write

FDR = 0.1


def run(args: argparse.Namespace) -> int:
    """The table with a column for each score; with --calibrate two more, its p-values and 1 where a row is found."""
    out = console(args)
    target = writable(args.out, SUFFIXES) if args.out else None
    if args.fdr is not None and args.calibrate is None:
        raise ValueError("--fdr goes with --calibrate, a table of normal rows that were not trained on.")
    fitted = open_model(args.model, args.device, args.dtype)
    keep = args.missing == "keep"
    raw, table = match(fitted, args, missing="drop" if keep else None)
    if table.dropped:
        out.remark(unscored(table, keep))
    if split.recall(table, fitted.notes.get("split")) is not None:
        out.remark(
            f"{args.table} is the table of the training: rows that trained the model look less strange than new ones."
        )
    wanted = args.scores or _usual(fitted.model)
    seed = args.seed or 0
    scores = _scores(fitted, fitted.rows(table.values), wanted, seed)
    added: dict[str, np.ndarray] = dict(scores)
    found: dict[str, np.ndarray] = {}
    if args.calibrate is not None:
        normal = _scores(fitted, _normal_rows(fitted, args, out), wanted, seed + 1)
        fdr = FDR if args.fdr is None else args.fdr
        added, found = _calibrated(scores, normal, fdr, out)
    if keep:
        added = {name: spread(values, table.rows, len(raw)) for name, values in added.items()}
    rows = np.arange(len(raw)) if keep else table.rows
    if target is not None or not args.json:
        names, cells = widened(raw, table, rows, added)
        write(target, names, cells, sys.stdout)
    out.remark(_summary(scores, found, table) + (f"\nwritten to {target}" if target else ""))
    totals = {"found": {n: int(f.sum()) for n, f in found.items()}} if found else {}
    out.data({"rows": rows, **added, **totals} if target is None else {"out": str(target), "rows": len(rows), **totals})
    return 0


def _usual(model: Any) -> list[str]:
    """All scores of a model; topics only where what is decoded are levels or shares, so that entropy means something."""
    found = available(model)
    if isinstance(model, LatentModel) and not isinstance(model.autoencoder, Linked):
        found = [n for n in found if n not in ("complex", "simple")]
    return found


def _scores(fitted: Fitted, x: Tensor, names: list[str], seed: int) -> dict[str, np.ndarray]:
    generator = torch.Generator(x.device).manual_seed(seed)
    model: Any = fitted.model
    return {n: s.cpu().double().numpy() for n, s in anomaly_scores(model, x, names, generator).items()}


def _normal_rows(fitted: Fitted, args: argparse.Namespace, out: Console) -> Tensor:
    """The rows of --calibrate that the model was not trained on."""
    asked = copy.copy(args)
    asked.table = args.calibrate
    _, table = match(fitted, asked, missing="drop" if args.missing == "keep" else None)
    if table.dropped:
        out.remark(blanks(table))
    rows, held = fitted.rows(table.values), split.recall(table, fitted.notes.get("split"))
    if held is not None and not held.any():
        raise ValueError(
            f"{args.calibrate}: the model was trained on all of these rows, so their scores say nothing of new ones: fit with "
            "--test 0.2, or calibrate with other normal rows."
        )
    rows = rows if held is None else rows[torch.as_tensor(held)]
    which = "" if held is None else " that were held out in training"
    out.remark(f"calibrated with {len(rows)} rows of {args.calibrate}{which}, taken to be normal")
    return rows


def _calibrated(
    scores: dict[str, np.ndarray], normal: dict[str, np.ndarray], fdr: float, out: Console
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Each score with its p-values and discoveries beside it, and the discoveries by score."""
    added: dict[str, np.ndarray] = {}
    found: dict[str, np.ndarray] = {}
    for name, values in scores.items():
        p = conformal_p_values(normal[name], values)
        found[name] = discoveries(p, fdr).long().numpy()
        added |= {name: values, f"{name}_p": p.numpy(), f"{name}_found": found[name]}
    rows, held = len(next(iter(scores.values()))), len(next(iter(normal.values())))
    fewest = math.ceil(rows / (fdr * (held + 1)))
    if fewest > 1:
        out.remark(
            f"{held} normal rows give p-values of {1 / (held + 1):.2g} at least: of {rows} rows, {fewest} or more are found at a "
            f"false discovery rate of {fdr:g}, or none; more normal rows find single ones."
        )
    return added, found


def _summary(scores: dict[str, np.ndarray], found: dict[str, np.ndarray], table: Table) -> str:
    """Of each score the median, the highest with its row, and how many rows are found."""
    header = ["score", "median", "highest", "in row", *(["found"] if found else [])]
    body = [
        [n, f"{np.median(s):.4g}", f"{s.max():.4g}", table.rows[s.argmax()], *([found[n].sum()] if found else [])]
        for n, s in scores.items()
    ]
    head = f"{len(table.rows)} rows, counted from 0 below the header; high scores are strange"
    return f"{head}\n{report.text_table(header, body)}"
