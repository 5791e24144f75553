"""`geoflow check`, `logprob` and `sample`: a model file at work."""

import argparse
import sys

import numpy as np
import torch
from torch import Tensor

from geoflow.autoencoders import Gaussian, LatentModel
from geoflow.cli import likelihood, split
from geoflow.cli.common import Console, Fitted, blanks, console, match, open_model
from geoflow.cli.latent import of_shares
from geoflow.tables import SUFFIXES, Raw, Table, writable, write


def check(args: argparse.Namespace) -> int:
    """The honesty table on held-out rows."""
    from geoflow.diagnostics import check as honesty

    out = console(args)
    picture = writable(args.plot, (".png", ".svg", ".pdf")) if args.plot else None
    fitted = open_model(args.model, args.device, args.dtype)
    _, table = match(fitted, args)
    if table.dropped:
        out.remark(blanks(table))
    rows, train, which = held_out_rows(fitted, table)
    found = honesty(fitted.model, rows, train=train, seed=args.seed or 0)
    out.result(f"checked on {which}\n")
    out.result(str(found))
    if picture is not None:
        drawn = found.plot()
        getattr(drawn, "figure", drawn).savefig(picture, dpi=150)
        out.remark(f"drawn in {picture}")
    out.data({"rows": len(rows), "train_rows": 0 if train is None else len(train), **found.to_dict()})
    return 1 if args.strict and not found.ok else 0


def held_out_rows(fitted: Fitted, table: Table) -> tuple[Tensor, Tensor | None, str]:
    """The rows of a table that are a fair test of the model, the rows it was trained on if they are here, and which."""
    x, name = fitted.rows(table.values), table.raw.path
    held = split.recall(table, fitted.notes.get("split"))
    if held is not None and held.any():
        mask = torch.as_tensor(held)
        told = f"{int(mask.sum())} rows of {name} that were held out in training, against the {int((~mask).sum())} training rows"
        return x[mask], x[~mask], told
    why = "not the table of the training: all rows count as held out, lines that need training rows are missing"
    if held is not None:
        why = "nothing was held out in training, so these rows are no fair test"
    return x, None, f"{len(x)} rows of {name} ({why})"


def logprob(args: argparse.Namespace) -> int:
    """The table with two more columns: log p, or of a latent model its bound, and its percentile."""
    out = console(args)
    target = writable(args.out, SUFFIXES) if args.out else None
    fitted = open_model(args.model, args.device, args.dtype)
    raw, table = match(fitted, args, missing="drop" if args.missing == "keep" else None)
    if not likelihood.has_log_p(fitted.model):
        raise NotImplementedError(
            f"{args.model} has no log p, nor a bound of it: its codes are no draws, or its cost is no likelihood. "
            "`geoflow anomaly` has scores of it."
        )
    log_p = likelihood.log_p(fitted.model, fitted.rows(table.values)).cpu().numpy()
    share = percentile(fitted, log_p)
    keep = args.missing == "keep"
    if table.dropped:
        out.remark(unscored(table, keep))
    rows = np.arange(len(raw)) if keep else table.rows
    name = likelihood.column(fitted.model)
    added = {name: log_p} if share is None else {name: log_p, "percentile": share}
    if keep:
        added = {name: spread(values, table.rows, len(raw)) for name, values in added.items()}
    out.data({"rows": rows, **added}) if target is None else None
    if target is not None or not args.json:
        names, cells = widened(raw, table, rows, added)
        write(target, names, cells, sys.stdout)
    _summary(out, fitted, log_p, share, target)
    if target is not None:
        out.data({"out": str(target), "rows": len(rows), f"mean_{name}": float(log_p.mean())})
    return 0


def percentile(fitted: Fitted, log_p: np.ndarray) -> np.ndarray | None:
    """Share of the training rows, in percent, that are less likely; None for a model whose file does not know."""
    quantiles = fitted.notes.get("quantiles")
    if not quantiles:
        return None
    share: np.ndarray = np.interp(log_p, quantiles, np.linspace(0, 100, len(quantiles)))
    return share.round(2)


def sample(args: argparse.Namespace) -> int:
    """New rows under the old header."""
    out = console(args)
    target = writable(args.out, SUFFIXES) if args.out else None
    fitted = open_model(args.model, args.device, args.dtype)
    seed = args.seed or 0
    torch.manual_seed(seed)
    generator = torch.Generator(fitted.like.device).manual_seed(seed)
    rows = fitted.model.sample_noisy(args.n, generator=generator).cpu().numpy()
    if isinstance(fitted.model, LatentModel):
        around = (
            "with the noise of its likelihood"
            if isinstance(fitted.model.cost, Gaussian)
            else "without noise around them"
        )
        out.remark(f"decoded draws of the prior, {around}" + "; rows sum to one" * of_shares(fitted.model))
    if target is not None or not args.json:
        write(target, fitted.columns, list(rows.T), sys.stdout)
    if target is not None:
        out.remark(f"{args.n} rows (seed {seed}) written to {target}")
        out.data({"out": str(target), "rows": args.n, "columns": fitted.columns})
    else:
        out.data({"columns": fitted.columns, "rows": rows})
    return 0


def unscored(table: Table, keep: bool) -> str:
    """What to say of rows with blank cells, which are kept or left out."""
    if keep:
        return f"{table.dropped} of {len(table.raw)} rows of {table.raw.path} have blank cells and are not scored."
    return f"{blanks(table)} --missing keep leaves them in, not scored."


def spread(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Values in the rows of a file that they belong to ``(n,)``, blank elsewhere."""
    full = np.full(n, np.nan)
    full[at] = values
    return full


def widened(
    raw: Raw, table: Table, rows: np.ndarray, added: dict[str, np.ndarray]
) -> tuple[list[str], list[np.ndarray]]:
    """The file's own columns and the new ones, under names that are not taken."""
    cells = [c[rows] for c in raw.cells]
    if raw.comma:  # written with points, since the comma now separates
        for name in table.columns:
            j = raw.names.index(name)
            cells[j] = raw.numbers(j)[0][rows]
    names = [n + "_" * (n in raw.names) for n in added]
    return [*raw.names, *names], [*cells, *added.values()]


def _summary(out: Console, fitted: Fitted, log_p: np.ndarray, share: np.ndarray | None, target: object) -> None:
    text = f"{len(log_p)} rows, mean {likelihood.words(fitted.model)} {log_p.mean():.3f} nats"
    if share is not None:
        text += f"; {(share < 1).sum()} below the 1st percentile of the training rows"
    out.remark(text + (f"; written to {target}" if target else ""))
