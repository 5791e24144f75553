"""`geoflow fit`: from a table to a model file."""

import argparse
import difflib
import json
import math
import re
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geoflow import LatentModel, describe, save, validate
from geoflow.autoencoders import fit_prior
from geoflow.baselines import mixture_by_bic
from geoflow.cli import latent, likelihood, split
from geoflow.cli.common import Console, console, device_of, in_lines, plain
from geoflow.cli.parser import FIT_DEFAULTS
from geoflow.columns import Bounded
from geoflow.density import Density, Sampler, log_prob_in_blocks
from geoflow.distributions import GaussianMixture
from geoflow.flows import maf, nsf, realnvp
from geoflow.interop.zoo import ZOO, zoo
from geoflow.nets.mlp import ACTIVATIONS
from geoflow.tables import Table, choose, counter_columns, read, writable
from geoflow.train import History
from geoflow.train import fit as train_model

BIC_ROWS, BIC_COLUMNS = 5000, 64
"""On how many training rows the number of Gaussians is chosen, and up to how many columns."""
QUANTILES = 1001
"""How many quantiles of log p over the training rows a model file keeps, for percentiles."""
COARSE = 1e-3
"""Rounding, as a share of a column's deviation, that is worth a remark."""
BOUND_ROWS = 5000
"""Of how many training rows, evenly spaced, the bound of a latent model is taken for them."""


def run(args: argparse.Namespace) -> int:
    """Read, choose, train, say how well, write."""
    out, settings = console(args), configuration(args)
    path = writable(settings["out"] or f"{Path(settings['table']).stem}.safetensors", (".safetensors",))
    settings["out"] = str(path)
    place = device_of(settings["device"])
    table = _table(settings, out)
    x = torch.as_tensor(table.values, dtype=getattr(torch, settings["dtype"]))
    _say_what_is_rounded(table, x, settings["dtype"], out)
    if settings["model"] == "dirichlet-vae":
        x = latent.shares(x, table.columns, settings["table"])
    held = torch.as_tensor(split.held_out(len(x), settings["test"], settings["seed"]))
    train, test = x[~held], x[held]
    if settings["model"] != "dirichlet-vae":
        with warnings.catch_warnings():
            if (
                settings["model"] in latent.RECIPES
            ):  # for which rows may lie on a surface, and constant columns alone are wrong
                warnings.simplefilter("ignore")
            validate.training_rows(train, settings["table"], table.columns)
    bounds = _bounds(settings, table)
    torch.manual_seed(settings["seed"])
    model = build(settings, train, bounds).to(train.dtype).to(place)
    weight = None if table.weights is None else torch.as_tensor(table.weights, dtype=x.dtype)[~held]
    started = time.perf_counter()
    with warnings.catch_warnings():  # the same remarks on the rows, but by number of column, are not worth a line
        warnings.filterwarnings("ignore", r"fit: (column|a column|fewer rows|\d+ of \d+ rows|the rows span)")
        history = train_model(
            model,
            train.to(place),
            epochs=settings["epochs"],
            batch_size=settings["batch_size"],
            lr=settings["lr"],
            validation=settings["validation"],
            seed=settings["seed"],
            sample_weight=weight,
            checkpoint=settings["checkpoint"],
            progress=not args.quiet,
        )
    if isinstance(model, LatentModel) and settings["model"] == "rae":
        model = _with_prior(settings, model, train.to(place))
    seconds = time.perf_counter() - started
    report = _report(model, train.to(place), test.to(place), history, seconds)
    notes = {
        "columns": table.columns,
        "named": table.raw.named,
        "units": units(table.columns),
        "scale": train.double().std(0, correction=0).tolist(),
        "split": split.note(table, settings["test"], settings["seed"]),
        "quantiles": report.pop("quantiles", None),
        "training": report,
        "config": settings,
    }
    save(model.cpu(), path, **plain(notes))
    _say(out, settings, table, held, model, report, test)
    out.data({"model": str(path), "columns": table.columns, "training": report, "config": settings})
    return 0


def configuration(args: argparse.Namespace) -> dict[str, Any]:
    """Defaults, then the file of --config, then the flags given."""
    given = {k: v for k, v in vars(args).items() if k in FIT_DEFAULTS or k == "table"}
    settings: dict[str, Any] = {**FIT_DEFAULTS, **(_from_file(args.config) if args.config else {}), **given}
    if "table" not in settings:
        raise ValueError("fit needs a TABLE, or a configuration that names one.")
    if settings["activation"] not in ACTIVATIONS:
        raise ValueError(f"unknown activation {settings['activation']!r}: use {', '.join(ACTIVATIONS)}.")
    return settings


def _from_file(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.endswith(".safetensors"):
        found = describe(path).get("config", {})
    else:
        try:
            found = json.loads(Path(path).read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no JSON: {error}") from None
        found = found.get("config", found) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no configuration: it should be a JSON object, as fit prints it.")
    known = [*FIT_DEFAULTS, "table"]
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}."
            raise ValueError(f"{path}: unknown setting {name!r}{hint}")
    return found


FLOWS: dict[str, Callable[..., Density]] = {"realnvp": realnvp, "nsf": nsf, "maf": maf}
FLOWS |= {name: partial(zoo, name) for name in ZOO}
"""Recipes by the words for them, which take the same settings."""


def build(settings: dict[str, Any], train: Tensor, bounds: Bounded | None = None) -> Sampler:
    """The model that the settings ask for."""
    dim, kind = train.shape[1], settings["model"]
    if kind in latent.RECIPES:
        return latent.build(settings, train)
    if settings["latent"] is not None:
        raise ValueError(f"--latent is of models with codes: use --model {' or '.join(latent.RECIPES)}, not {kind}.")
    if kind in FLOWS:
        if dim < 2:
            raise ValueError(f"{kind} needs two columns or more: use --model mixture for one.")
        # On few rows a flow on one Gaussian loses to a plain mixture; on a mixture it starts where that ends.
        components = settings["components"] or _components(train if bounds is None else bounds.encode(train))
        base = None if components == 1 else GaussianMixture(dim, components, seed=settings["seed"])
        sizes = {name: settings[name] for name in ("depth", "hidden") if settings[name] is not None}
        return FLOWS[kind](
            dim,
            **sizes,
            activation=settings["activation"],
            base=base,
            bounds=bounds,
        )
    covariance, seed = settings["covariance"], settings["seed"]
    components = 1 if kind == "gaussian" else settings["components"]
    components = components or _components(train, covariance)
    return GaussianMixture(dim, components, covariance, seed=seed)


def _bounds(settings: dict[str, Any], table: Table) -> Bounded | None:
    """The bounds asked for by name, checked against every row."""
    asked = settings["bounds"]
    if not asked:
        return None
    if settings["model"] not in FLOWS:
        raise ValueError(
            f"--bounds needs a flow: a {settings['model']} has tails everywhere; use --model {' or '.join(list(FLOWS)[:3])}."
        )
    for name, bound in asked.items():
        table.raw.position(name)
        if name not in table.columns:
            raise ValueError(f"--bounds {name}: that column is left out.")
        if not (isinstance(bound, list) and len(bound) == 2):
            raise ValueError(f"bounds of {name!r} must be a pair such as [0, null]; got {bound!r}.")
        low, high = (math.inf * sign if b is None else b for b, sign in zip(bound, (-1, 1), strict=True))
        values = table.values[:, table.columns.index(name)]
        bad = np.flatnonzero((values <= low) | (values >= high))
        if len(bad):
            on = ((values == low) | (values == high)).sum()
            raise ValueError(
                f"{table.raw.path}: {len(bad)} of {len(values)} rows are not inside --bounds {name}={_ends(bound)} "
                f"({table.raw.where(int(table.rows[bad[0]]))}: {values[bad[0]]:g}"
                f"{f'; {on} lie on a bound, where the density ends' if on else ''}): widen the bound, or leave these rows out."
            )
    pairs = [asked.get(name, [None, None]) for name in table.columns]
    return Bounded([a for a, _ in pairs], [b for _, b in pairs])


def _ends(bound: list[float | None]) -> str:
    return ":".join("" if b is None else f"{b:g}" for b in bound)


def _components(train: Tensor, covariance: Literal["full", "diagonal"] = "full") -> int:
    """How many Gaussians the training rows ask for, by BIC; one where trying would take minutes."""
    few = train.shape[1] <= BIC_COLUMNS
    return mixture_by_bic(train[:BIC_ROWS], covariance).components if few else 1


def _with_prior(settings: dict[str, Any], model: LatentModel, train: Tensor) -> LatentModel:
    """With a mixture fitted to codes, where nothing in training brought these to a prior."""
    parts, covariance, seed = settings["components"], settings["covariance"], settings["seed"]
    parts = parts or _components(model.codes(train), covariance)
    mixture = GaussianMixture(model.autoencoder.latent_dim, parts, covariance, seed=seed).to(train)
    return fit_prior(model, train, mixture, seed=seed)


def units(columns: list[str]) -> dict[str, str]:
    """Units that column names carry in brackets, as in ``mass (kg)`` or ``T [K]``."""
    found = {name: re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", name) for name in columns}
    return {name: hit.group(1) for name, hit in found.items() if hit}


def _table(settings: dict[str, Any], out: Console) -> Table:
    raw = read(settings["table"], settings["key"])
    table = choose(
        raw,
        settings["columns"],
        settings["drop"] or [],
        settings["missing"],
        settings["drop_constant"],
        settings["weights"],
    )
    if len(table.values) < 3:
        raise ValueError(f"{raw.path} has {len(table.values)} rows to use; a density needs some hundreds.")
    for name in counter_columns(table):
        out.remark(
            f"remark: column {name!r} looks like a row number (whole numbers in order), and is fitted as data: "
            f"leave it out with --drop {name}."
        )
    return table


def _say_what_is_rounded(table: Table, x: Tensor, dtype: str, out: Console) -> None:
    """A remark on columns that lose digits that count in the model's precision; refused where none are left.

    Seconds since 1970, for instance, are whole multiples of 128 in float32.
    """
    off, deviation = np.abs(x.double().numpy() - table.values).max(0), table.values.std(0)
    for j in np.flatnonzero((off > COARSE * deviation) & (np.ptp(table.values, 0) > 0)):
        kept = len(x[:, j].unique()) > 1
        text = (
            f"column {table.columns[j]!r} is rounded by up to {off[j]:.2g} in {dtype}, beside a deviation of {deviation[j]:.2g}"
            f"{'' if kept else ', which makes it constant'}: use --dtype float64, or subtract a constant."
        )
        if not kept:
            raise ValueError(f"{table.raw.path}: {text}")
        out.remark(f"remark: {text}")


def _report(model: Sampler, train: Tensor, test: Tensor, history: History, seconds: float) -> dict[str, Any]:
    """How the training went and how well it did, in JSON values."""
    last = history.rows[-1] if history.rows else {}
    report: dict[str, Any] = {
        "stopped": history.stopped,
        "epochs": last.get("epoch"),
        "steps": last.get("step"),
        "seconds": round(seconds, 2),
        "verdict": history.verdict,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if isinstance(model, LatentModel):
        report["codes"] = latent.about_codes(model, train, test if len(test) > 1 else train)
    if not likelihood.has_log_p(model):
        return report
    name = likelihood.column(model)
    every = -(-len(train) // BOUND_ROWS) if isinstance(model, LatentModel) else 1
    of_train = likelihood.log_p(model, train[::every])
    report[f"train_{name}"] = float(of_train.mean())
    report["quantiles"] = torch.quantile(of_train.cpu().double(), torch.linspace(0, 1, QUANTILES).double()).tolist()
    if len(test):
        of_test = likelihood.log_p(model, test)
        report |= {f"test_{name}": float(of_test.mean()), "test_text": in_lines(of_test)}
        if not latent.of_shares(model):
            gaussian = GaussianMixture(model.dim, 1).to(train)
            gaussian.prepare(train)
            of_test = log_prob_in_blocks(gaussian, test)
            report |= {"gaussian_log_prob": float(of_test.mean()), "gaussian_text": in_lines(of_test)}
    return report


def _say(
    out: Console,
    settings: dict[str, Any],
    table: Table,
    held: Tensor,
    model: Sampler,
    report: dict[str, Any],
    test: Tensor,
) -> None:
    left = [
        n for n in table.raw.names if n not in table.columns and n not in table.constant and n != settings["weights"]
    ]
    besides = [f"column {n!r} left out" for n in left] + [f"constant column {n!r} left out" for n in table.constant]
    besides += [f"{n!r} bounded by {_ends(b)}" for n, b in (settings["bounds"] or {}).items()]
    besides += [f"weights from {settings['weights']!r}"] if settings["weights"] else []
    besides += [f"{table.dropped} rows with blank cells left out"] if table.dropped else []
    more = f" ({'; '.join(besides)})" if besides else ""
    out.result(f"table     {table.raw.path}: {len(table.values)} rows × {len(table.columns)} columns{more}")
    n = int((~held).sum())
    validation = round(settings["validation"] * n) if report["steps"] else 0
    out.result(
        f"rows      {n} to train{f', {validation} of them to stop by' if validation else ''}; "
        f"{len(test)} held out for check (seed {settings['seed']})"
    )
    mixture = model if isinstance(model, GaussianMixture) else getattr(model, "base", None)
    kind = settings["model"]
    if isinstance(mixture, GaussianMixture) and mixture.components > 1:
        kind += f" {'of' if mixture is model else 'on'} {mixture.components} Gaussians"
    steps = f"{report['epochs']:.0f} epochs, {report['stopped']}" if report["steps"] else "in closed form or by EM"
    out.result(f"model     {kind}, {report['parameters']} parameters; {steps}; {report['seconds']:.1f} s")
    if report["verdict"]:
        out.result(f"verdict   {report['verdict']}")
    if "codes" in report:
        out.result(f"codes     {latent.in_words(report['codes'])}")
    if "test_text" in report:
        beside = f"; a Gaussian fitted to the same rows {report['gaussian_text']}" if "gaussian_text" in report else ""
        out.result(f"held out  mean {likelihood.words(model)} {report['test_text']} nats per row{beside}")
    elif len(test):
        out.result(f"held out  {settings['model']} has no log p, nor a bound of it; `geoflow anomaly` has its scores")
    else:
        out.result("held out  nothing (--test 0), so nobody knows how good it is")
    out.result(f"file      {settings['out']}")
    out.result(f"config    {json.dumps(plain(settings))}")
    out.result(f"next      geoflow check {settings['out']} {settings['table']}")
