"""`geoflow dist`: Fermat distances beside straight ones, between rows of a table."""

import argparse
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow.cli.common import Console, Fitted, blanks, console, match, open_model
from geoflow.density import Density
from geoflow.distances import FermatSpace, Solution
from geoflow.tables import SUFFIXES, Table, writable, write
from manifolds import Euclidean


def run(args: argparse.Namespace) -> int:
    """Measure pairs, or find neighbours, under both distances."""
    out = console(args)
    for path in (args.out, args.paths):
        if path is not None:
            writable(path, SUFFIXES)
    if args.rows is not None and args.neighbors is None:
        raise ValueError("--rows goes with --neighbors; for single distances use --pairs 0:5,3:9.")
    if args.paths is not None and args.neighbors is not None:
        raise ValueError("--paths goes with --pairs or --random, not with --neighbors.")
    fitted = open_model(args.model, args.device, args.dtype or "float64")
    if not isinstance(fitted.model, Density):
        raise TypeError(
            f"{args.model} holds a {type(fitted.model).__name__}, which has no log_prob: dist needs a density."
        )
    _, table = match(fitted, args)
    if table.dropped:
        out.remark(blanks(table))
    if len(table.values) < 3:
        raise ValueError(f"{args.table}: distances need three rows or more, {len(table.values)} are left.")
    rng = np.random.default_rng(args.seed or 0)
    ends = _neighbour_rows(args, table, rng) if args.neighbors else _pairs(args, table, rng)
    space, carriers = fermat_space(fitted, table, args, np.unique(ends), rng, out)
    if args.neighbors:
        return _neighbours(args, out, fitted, table, space, ends, table.rows[carriers])
    return _distances(args, out, fitted, table, space, ends)


def fermat_space(
    fitted: Fitted, table: Table, args: argparse.Namespace, ends: np.ndarray, rng: np.random.Generator, out: Console
) -> tuple[FermatSpace, np.ndarray]:
    """The space in standardised coordinates, and which rows carry its graph: at most --points and those asked for."""
    n = len(table.values)
    chosen = np.arange(n)
    if n > args.points:
        rest = np.setdiff1d(chosen, ends)
        chosen = np.sort(np.concatenate([ends, rng.choice(rest, max(0, args.points - len(ends)), replace=False)]))
        out.remark(f"{len(chosen)} of {n} rows carry the graph that proposes paths (--points).")
    scale = fitted.notes.get("scale") or fitted.rows(table.values).std(0, correction=0).tolist()
    if not all(s > 0 for s in scale):
        raise ValueError(f"{args.table}: a column is constant, so there is no standard deviation to divide it by.")
    space = FermatSpace(
        fitted.model,
        fitted.rows(table.values[chosen]),
        power=args.power,
        reference="mean",
        neighbors=min(15, len(np.unique(table.values[chosen], axis=0)) - 1),
        space=Euclidean(len(scale), scale=scale),
    )
    return space, chosen


def _pairs(args: argparse.Namespace, table: Table, rng: np.random.Generator) -> np.ndarray:
    """Positions ``(pairs, 2)`` in the table of the rows asked for."""
    if args.pairs is not None:
        return np.array([[_position(table, a), _position(table, b)] for a, b in args.pairs])
    n = len(table.values)
    return np.array([rng.choice(n, 2, replace=False) for _ in range(args.random or 10)])


def _neighbour_rows(args: argparse.Namespace, table: Table, rng: np.random.Generator) -> np.ndarray:
    if args.neighbors >= len(table.values):
        raise ValueError(f"--neighbors {args.neighbors}: a row has only {len(table.values) - 1} others here.")
    if args.rows is not None:
        return np.array([_position(table, r) for r in args.rows])
    return rng.choice(len(table.values), min(3, len(table.values)), replace=False)


def _position(table: Table, row: int) -> int:
    """Where a row of the file stands among those that are used."""
    if not 0 <= row < len(table.raw):
        raise ValueError(f"{table.raw.path} has no row {row}: its rows count from 0 to {len(table.raw) - 1}.")
    at = int(np.searchsorted(table.rows, row))
    if at == len(table.rows) or table.rows[at] != row:
        raise ValueError(f"{table.raw.path}: row {row} ({table.raw.where(row)}) has a blank cell and was left out.")
    return at


def _distances(
    args: argparse.Namespace, out: Console, fitted: Fitted, table: Table, space: FermatSpace, ends: np.ndarray
) -> int:
    x, y = fitted.rows(table.values[ends[:, 0]]), fitted.rows(table.values[ends[:, 1]])
    straight = space.space.dist(x, y)
    found = space.solve(x, y, max_iter=args.max_iter)
    ratio = found.length / straight
    rows = table.rows[ends]
    _explain(out, space)
    out.result(f"{'row':>7}{'row':>7}{'euclidean':>12}{'fermat':>12}{'ratio':>9}  converged")
    for (a, b), e, f, r, ok in zip(rows, straight, found.length, ratio, found.converged, strict=True):
        out.result(f"{a:>7}{b:>7}{e:>12.4f}{f:>12.4f}{_ratio(r):>9}  {'yes' if ok else 'no'}")
    out.result(f"{int(found.converged.sum())} of {len(rows)} paths converged")
    columns: dict[str, Any] = {
        "row_a": rows[:, 0],
        "row_b": rows[:, 1],
        "euclidean": straight.cpu().numpy(),
        "fermat": found.length.cpu().numpy(),
        "ratio": ratio.cpu().numpy(),
        "converged": found.converged.cpu().numpy().astype(int),
    }
    if args.out is not None:
        write(args.out, list(columns), list(columns.values()))
        out.remark(f"distances written to {args.out}")
    if args.paths is not None:
        _write_paths(args.paths, fitted.columns, rows, found)
        out.remark(f"paths written to {args.paths}: {found.path.shape[1]} points each, in the table's units")
    out.data({**_facts(space), "pairs": columns, "converged": float(found.converged.double().mean())})
    return 0


def _write_paths(path: str, columns: list[str], rows: np.ndarray, found: Solution) -> None:
    """One line a point: which pair, the share of the way, and the point in the table's units."""
    pairs, points, dim = found.path.shape
    share = np.tile(np.linspace(0, 1, points), pairs)
    names = ["row_a", "row_b", "share", *columns]
    flat = found.path.reshape(-1, dim).float().cpu().numpy()
    write(path, names, [rows[:, 0].repeat(points), rows[:, 1].repeat(points), share, *flat.T])


def _neighbours(
    args: argparse.Namespace,
    out: Console,
    fitted: Fitted,
    table: Table,
    space: FermatSpace,
    ends: np.ndarray,
    file_row: np.ndarray,
) -> int:
    k = args.neighbors
    assert space.points is not None
    q, points = fitted.rows(table.values[ends]), space.points
    straight = space.space.dist(q[:, None], points[None])
    same = (q[:, None] == points[None]).all(-1)
    near = straight.masked_fill(same, torch.inf).topk(k, largest=False)
    # candidates: those nearest by straight lines, the query and its copies among them
    lengths, index = space.knn(q, k + int(same.sum(1).max()))
    _explain(out, space)
    lines: list[dict[str, Any]] = []
    for i, row in enumerate(table.rows[ends]):
        kept = ~same[i, index[i]]
        by_fermat = [(int(file_row[j]), float(d)) for j, d in zip(index[i][kept], lengths[i][kept], strict=True)][:k]
        by_line = [(int(file_row[j]), float(d)) for j, d in zip(near.indices[i], near.values[i], strict=True)]
        shared = len({r for r, _ in by_fermat} & {r for r, _ in by_line})
        out.result(f"row {row}: {shared} of {k} neighbours are the same under both")
        for name, found in (("euclidean", by_line), ("fermat", by_fermat)):
            out.result(f"  {name:<10}" + "  ".join(f"{r} ({d:.3f})" for r, d in found))
        lines.append({"row": int(row), "euclidean": by_line, "fermat": by_fermat, "shared": shared})
    if args.out is not None:
        flat = [
            (line["row"], rank, kind, r, d)
            for line, kind in itertools.product(lines, ("euclidean", "fermat"))
            for rank, (r, d) in enumerate(line[kind], 1)
        ]
        names = ["row", "rank", "distance", "neighbor", "length"]
        write(args.out, names, [np.array(c) for c in zip(*flat, strict=True)])
        out.remark(f"neighbours written to {args.out}")
    out.data({**_facts(space), "neighbors": lines})
    return 0


def _facts(space: FermatSpace) -> dict[str, Any]:
    return {"power": space.power, "scale": getattr(space.space, "scale", None), "reference": "mean log p of the rows"}


def _explain(out: Console, space: FermatSpace) -> None:
    out.result(
        "in standardised coordinates (each column divided by its standard deviation in training); "
        f"Fermat: ds = (p / p0)^(-{space.power:.4g}) |dx|, log p0 the mean log p of the rows\n"
    )


def _ratio(value: Tensor) -> str:
    return f"{float(value):.3f}" if bool(value.isfinite()) else "-"
