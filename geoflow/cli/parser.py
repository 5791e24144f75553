"""The command line's words: verbs, flags, and help that can be copied."""

import argparse
import csv
import sys
import textwrap
from typing import Any, NoReturn

from geoflow.cli.latent import RECIPES
from geoflow.interop.zoo import ZOO

INTRO = """\
Densities and the distances they make, for tables of numbers.

  geoflow demo                              see it all at work, in two minutes, without data of yours
  geoflow fit table.csv                     learn the density of a table's rows
  geoflow check table.safetensors table.csv is it any good? figures, thresholds, sentences
  geoflow logprob table.safetensors new.csv how likely is each row
  geoflow anomaly table.safetensors new.csv which rows are strange, and in which way
  geoflow sample table.safetensors -n 500   new rows that look like the old
  geoflow dist table.safetensors table.csv  distances along the data, beside straight ones
  geoflow report table.safetensors table.csv   all of it on one page

`geoflow VERB --help` explains a verb, with an example to copy.
"""

FIT_DEFAULTS: dict[str, Any] = {
    "out": None,
    "columns": None,
    "drop": [],
    "missing": None,
    "drop_constant": False,
    "key": None,
    "weights": None,
    "model": "realnvp",
    "latent": None,
    "depth": None,
    "hidden": None,
    "activation": "silu",
    "components": None,
    "covariance": "full",
    "epochs": None,
    "batch_size": None,
    "lr": None,
    "bounds": None,
    "validation": 0.1,
    "test": 0.2,
    "checkpoint": None,
    "seed": 0,
    "device": "cpu",
    "dtype": "float32",
}
"""Settings of `fit`, as its configuration holds them."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(2)


def names(text: str) -> list[str]:
    """Column names separated by commas; one with a comma in it is quoted."""
    return [n.strip() for n in next(csv.reader([text], skipinitialspace=True)) if n.strip()]


def whole(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers separated by commas, got {text!r}") from None


def pairs(text: str) -> list[tuple[int, int]]:
    """Pairs of rows, as in ``0:5,3:9``."""
    try:
        return [(int(a), int(b)) for a, b in (p.split(":") for p in text.split(","))]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected pairs of rows such as 0:5,3:9, got {text!r}") from None


def bounds(text: str) -> dict[str, list[float | None]]:
    """Bounds of columns, as in ``T=0:,share=0:1``."""
    found: dict[str, list[float | None]] = {}
    for entry in names(text):
        name, equals, interval = entry.rpartition("=")
        try:
            low, high = (float(b) if b.strip() else None for b in interval.split(":"))
        except ValueError:
            low = high = None
        if not (equals and name) or (low is None and high is None):
            raise argparse.ArgumentTypeError(f"expected bounds of columns such as T=0:,share=0:1, got {entry!r}")
        found[name.strip()] = [low, high]
    return found


def positive(text: str) -> int:
    """A whole number of at least one."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number of at least 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a fraction from 0 to below 1, got {text!r}")
    return value


def build() -> Parser:
    """The parser with every verb."""
    from importlib.metadata import version

    top = Parser("geoflow", description=INTRO, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"geoflow {version('geoflow')}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser, required=True)
    _demo(verbs)
    _fit(verbs)
    _check(verbs)
    _logprob(verbs)
    _anomaly(verbs)
    _sample(verbs)
    _dist(verbs)
    _report(verbs)
    return top


def _verb(verbs: "argparse._SubParsersAction[Parser]", name: str, purpose: str, text: str, example: str) -> Parser:
    return verbs.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.\n\n{textwrap.fill(text, 88)}",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _common(parser: Parser, default: object = None) -> None:
    group = parser.add_argument_group("how it runs")
    group.add_argument("--seed", type=int, default=default, help="of every draw (default 0)")
    group.add_argument("--device", default=default, help="cpu, cuda, cuda:1 ... (default cpu)")
    group.add_argument("--dtype", choices=["float32", "float64"], default=default, help="precision of the numbers")
    group.add_argument(
        "--threads", type=positive, default=1, help="CPU threads (default 1, quickest for small networks)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no remarks on stderr")
    group.add_argument("--json", action="store_true", help="results on stdout as one JSON object")
    group.add_argument("--traceback", action="store_true", help="show where an error comes from")


def _table(parser: Parser, default: object = None, keep: bool = False) -> None:
    group = parser.add_argument_group("which cells")
    group.add_argument("--columns", type=names, default=default, metavar="A,B", help="columns to use, in this order")
    group.add_argument("--drop", type=names, default=default, metavar="ID", help="columns to leave out")
    ways = ["drop", "keep"] if keep else ["drop"]
    text = "leave out rows with blank cells (their number is told)"
    group.add_argument(
        "--missing", choices=ways, default=default, help=text + ("; keep: leave them in, not scored" if keep else "")
    )
    group.add_argument("--key", default=default, help="which array of an .npz or .h5 that has several")


def _model_and_table(parser: Parser, table: str) -> None:
    parser.add_argument("model", metavar="MODEL", help="a file that `geoflow fit` wrote")
    parser.add_argument("table", metavar="TABLE", help=table)


def _demo(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "demo",
        "train two densities on data that come along, draw pictures, write a page",
        "Handwritten digits and two moons: held-out likelihood beside a Gaussian and a mixture, geodesics beside "
        "straight lines, neighbours under both distances. About two minutes on two cores; needs no network.",
        "  geoflow demo --out geoflow-demo",
    )
    p.add_argument(
        "--out", default="geoflow-demo", metavar="DIR", help="folder for page and pictures (default geoflow-demo)"
    )
    p.add_argument("--seed", type=int, default=0, help="of every draw (default 0)")
    p.add_argument(
        "--quick", action="store_true", help="train for a moment only, to see that it runs; numbers mean nothing"
    )
    p.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1, quickest for small networks)")
    p.add_argument("--quiet", action="store_true", help="no progress and no remarks on stderr")
    p.add_argument("--json", action="store_true", help="results on stdout as one JSON object")
    p.add_argument("--traceback", action="store_true", help="show where an error comes from")


def _fit(verbs: "argparse._SubParsersAction[Parser]") -> None:
    none = argparse.SUPPRESS
    p = _verb(
        verbs,
        "fit",
        "learn the density of a table's rows",
        "Reads .csv (with or without a header), .npy, .npz; .parquet and .h5 with the extra `files`. A part of the "
        "rows is held out and never trained on; `geoflow check` on the same table finds them again. Columns may have "
        "any units: they are standardised inside, and log p is per unit of the data as given. A latent model (vae, "
        "gmvae, ...) has a lower bound of log p at most; dirichlet-vae takes counts or shares, none below zero, and divides "
        "each row by its sum; rae has a mixture fitted to its codes afterwards.",
        "  geoflow fit table.csv --drop id --missing drop --out table.safetensors\n"
        "  geoflow fit --config run.json            # the configuration that fit printed, or a model file",
    )
    p.add_argument("table", nargs="?", default=none, metavar="TABLE", help="rows to learn from")
    p.add_argument(
        "--out", default=none, metavar="FILE", help="model file (default: the table's name, .safetensors, here)"
    )
    p.add_argument("--config", metavar="FILE", help="settings from JSON or a model file; flags given here win")
    _table(p, none)
    p.add_argument("--drop-constant", action="store_true", default=none, help="leave out columns with one value only")
    p.add_argument("--weights", default=none, metavar="COLUMN", help="column with the weight of each row")
    p.add_argument(
        "--bounds",
        type=bounds,
        default=none,
        metavar="T=0:,P=0:1",
        help="where columns end: no density is put outside, and the model sees logs there",
    )
    group = p.add_argument_group("model and training")
    kinds = ["realnvp", "nsf", "maf", "gaussian", "mixture"]
    text = (
        "default realnvp; nsf has splines, maf draws slowly; gaussian and mixture need no steps; with fewer codes than "
        f"columns: {', '.join(RECIPES)}; others': "
    )
    offered = [*kinds, *RECIPES, *ZOO]
    group.add_argument("--model", choices=offered, default=none, metavar="NAME", help=text + ", ".join(ZOO))
    group.add_argument(
        "--latent", type=positive, default=none, metavar="N", help="codes of such a model (default: half the columns)"
    )
    group.add_argument("--depth", type=positive, default=none, help="flows: number of layers (the flow's own)")
    group.add_argument(
        "--hidden", type=whole, default=none, metavar="N,N", help="widths of a model's networks (its own)"
    )
    group.add_argument(
        "--activation", default=none, help="of networks: silu (default, smooth), relu (faster), tanh ..."
    )
    text = "mixture, gmvae, vampprior, rae: parts of it or of the prior; flows: how many Gaussians carry them"
    text += " (default: by BIC on the training rows; gmvae 10, vampprior 100)"
    group.add_argument("--components", type=positive, default=none, help=text)
    group.add_argument("--covariance", choices=["full", "diagonal"], default=none, help="mixture: of each component")
    group.add_argument(
        "--epochs", type=positive, default=none, help="at most so many passes (default: by the number of rows)"
    )
    group.add_argument("--batch-size", type=positive, default=none, help="rows a step")
    group.add_argument("--lr", type=float, default=none, help="first learning rate (default 2e-3)")
    group.add_argument(
        "--validation", type=fraction, default=none, help="share of the training rows that stops training (0.1)"
    )
    group.add_argument("--test", type=fraction, default=none, help="share of rows held out for check (default 0.2)")
    group.add_argument(
        "--checkpoint", default=none, metavar="FILE", help="continue from here if it exists; written on Ctrl-C"
    )
    _common(p, none)


def _check(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "check",
        "is the density any good? figures with thresholds and sentences",
        "On the table that the model was fitted to, the rows held out then are checked, and the training rows are "
        "used where a comparison needs them. Any other table counts as held out whole.",
        "  geoflow check table.safetensors table.csv --plot check.png",
    )
    _model_and_table(p, "the table the model was fitted to, or new rows")
    _table(p)
    p.add_argument("--plot", metavar="FILE", help="also draw the table (.png .svg .pdf)")
    p.add_argument("--strict", action="store_true", help="exit with 1 if a line fails")
    _common(p)


def _logprob(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "logprob",
        "how likely is each row: adds log_prob and its percentile",
        "log_prob is in nats per row, in the units of the table; of a latent model it is a lower bound, and called "
        "log_prob_bound. The percentile says which share of the training rows is less likely: below 1 means unlike nearly "
        "all that was seen. All columns of the table are kept.",
        "  geoflow logprob table.safetensors new.csv --out scored.csv",
    )
    _model_and_table(p, "rows to score")
    _table(p, keep=True)
    p.add_argument("--out", metavar="FILE", help="where to (default: CSV on stdout)")
    _common(p)


def _anomaly(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "anomaly",
        "how strange is each row: adds scores, high for strange ones, and discoveries",
        "Of a flow or mixture: nll, minus log p. Of a latent model: reconstruction, what it cannot draw; elbo, minus the "
        "bound of log p from one draw; kl, how far a row's codes are from the prior; prior, minus log p of its code; of "
        "topics, complex and simple, the weight of the one with most and least entropy. No score is ever turned round: "
        "one that does worse than chance does. With --calibrate each gets conformal p-values from normal rows that the "
        "model never saw, and the rows found at a false discovery rate, each score by itself: whoever picks the best "
        "one afterwards has no such rate.",
        "  geoflow anomaly table.safetensors new.csv --calibrate table.csv --fdr 0.1 --out scored.csv",
    )
    _model_and_table(p, "rows to score")
    _table(p, keep=True)
    p.add_argument("--scores", type=names, metavar="A,B", help="which (default: all that mean something of the model)")
    text = "normal rows that were not trained on; of the table the model was fitted to, those held out"
    p.add_argument("--calibrate", metavar="TABLE", help=text)
    p.add_argument(
        "--fdr", type=fraction, metavar="SHARE", help="with --calibrate: of false ones among rows found (default 0.1)"
    )
    p.add_argument("--out", metavar="FILE", help="where to (default: CSV on stdout)")
    _common(p)


def _sample(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "sample",
        "draw new rows",
        "Written under the header of the training table, in its units.",
        "  geoflow sample table.safetensors -n 1000 --seed 1 --out new.csv",
    )
    p.add_argument("model", metavar="MODEL", help="a file that `geoflow fit` wrote")
    p.add_argument("-n", type=positive, default=100, help="how many rows (default 100)")
    p.add_argument("--out", metavar="FILE", help="where to (default: CSV on stdout)")
    _common(p)


def _dist(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "dist",
        "distances along the data (Fermat) beside straight ones",
        "ds = p^(-power) |dx|: a way through rows like those seen is short, one through empty space long. Both "
        "distances are measured in standardised coordinates, each column divided by its standard deviation. Rows count "
        "from 0 below the header. Without --pairs or --neighbors, ten pairs are drawn at random.",
        "  geoflow dist table.safetensors table.csv --pairs 0:5,3:9 --paths paths.csv\n"
        "  geoflow dist table.safetensors table.csv --neighbors 3 --rows 0,1,2",
    )
    _model_and_table(p, "rows to measure between; they also carry the graph that proposes paths")
    _table(p)
    group = p.add_argument_group("what to measure")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--pairs", type=pairs, metavar="0:5,3:9", help="pairs of rows")
    which.add_argument("--random", type=positive, metavar="N", help="so many pairs drawn at random (default 10)")
    which.add_argument("--neighbors", type=positive, metavar="K", help="nearest rows under both distances, of --rows")
    group.add_argument(
        "--rows", type=whole, metavar="0,1,2", help="with --neighbors: of which rows (default: three at random)"
    )
    group.add_argument("--power", type=float, help="exponent of the density (default 1 / number of columns)")
    group.add_argument("--max-iter", type=positive, default=300, help="most steps of relaxing a path (default 300)")
    group.add_argument(
        "--points", type=positive, default=5000, help="at most so many rows carry the graph (default 5000)"
    )
    group.add_argument("--out", metavar="FILE", help="also write the distances to a table")
    group.add_argument("--paths", metavar="FILE", help="write the points along each geodesic to a table")
    _common(p)


def _report(verbs: "argparse._SubParsersAction[Parser]") -> None:
    p = _verb(
        verbs,
        "report",
        "what a model is, how good, and what it looks like, on one page",
        "One HTML file that loads nothing from elsewhere: the figures of `check`, each column's rows beside samples, the "
        "least likely rows.",
        "  geoflow report table.safetensors table.csv --out report.html",
    )
    _model_and_table(p, "the table the model was fitted to, or new rows")
    _table(p)
    p.add_argument("--out", default="report.html", metavar="FILE", help="the page (default report.html)")
    _common(p)
