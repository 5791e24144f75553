"""Free-form flows of particles: double wells and Lennard-Jones clusters beside their entropy, and molecules of QM9.

Reads the rows of LJ13 and QM9 from the folder that GEOFLOW_DATA names.
"""

import itertools
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from geoflow import Chain, Pair, Standardize, datasets, fit
from geoflow.datasets import Dataset, double_well_energy, lennard_jones_energy, sample_boltzmann, stability
from geoflow.datasets.bonds import SYMBOLS
from geoflow.density import log_prob_in_blocks
from geoflow.distributions import MeanFreeNormal
from geoflow.freeform import FreeFormFlow
from geoflow.nets import EGNN
from geoflow.train import History

RESULTS = Path(__file__).parent / "results"
INTRO = """# Free-form flows of particles and molecules

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- molecules`, torch {version}, one thread, float32, one seed. Part by part the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_molecules <name> ...`, which renews the parts of those names.
Encoder and decoder are an `EGNN` each, behind one factor for all coordinates (`Standardize(dim, "scale")`), before
a `MeanFreeNormal`: the densities do not change when configurations turn, reflect or are renumbered. Nats a row, against
the volume of centred configurations, `MeanFree`'s.

The entropy is E[U] + log Z. log Z is the sum of Bennett's estimates between neighbours on the way from a normal density q to
exp(-U), each exp(-U)^b q^(1-b) drawn from by Hamiltonian chains; with the error of a bootstrap over chains, and from two
normals of different width, which must agree. "beside the entropy" is the mean of log p_true - log p over the same
held-out rows, with its standard error, in which the noise of the rows' own energies cancels. W1 is the Wasserstein
distance between samples of energies, in standard deviations of the true one: of all draws as they are, and after those
above the highest true energy (their share is given) are set down to it, since a single pair of particles too close
together has an energy of thousands. Nothing else is cut off, rejected or reweighted, but for the rows that say so.

What limits them is the length of training, and the size of the nets: five layers, for minutes on one thread of a busy machine,
where the papers' nets have 8 to 20 layers. DW4 gains with every thousand steps: 1.08 nats were left after 1,710 with beta 1,000,
and .37 after 11,400. Molecules have hardly begun. Energies are a hard judge besides: the width of a double well is about a
tenth of the coordinates' deviation, so that an error of that size costs many kT, and behind the steep walls of LJ13 nearly
every draw has a pair too close. An invalid verdict says that the two densities differ by more than it allows, or that decode does
not undo encode; with a smaller beta the likelihood grows faster, and the verdict comes sooner.

"""
Energy = Callable[[Tensor], Tensor]
CHOOSING, SCORED = 3_000, 40_000
"""Numbers in the rows that choose the weights, and in those whose exact densities are taken, which cost whole Jacobians."""


# -- what both kinds of particles are judged by ------------------------------------------------------------------------


def bennett(up: Tensor, down: Tensor) -> Tensor:
    """log Z_1/Z_0 of neighbours ``(*batch)`` from U_1 − U_0 at as many draws of either, ``(*batch, n)``. (Bennett, 1976)"""
    low = torch.full(up.shape[:-1], -1e3, dtype=torch.float64)
    high = -low
    for _ in range(60):
        c = (low + high) / 2
        less = torch.sigmoid(c[..., None] - up).mean(-1) < torch.sigmoid(down - c[..., None]).mean(-1)
        low, high = torch.where(less, c, low), torch.where(less, high, c)
    return -(low + high) / 2


@torch.no_grad()
def log_partition(
    energy: Energy,
    draws: Tensor,
    base: MeanFreeNormal,
    seed: int,
    *,
    rungs: Sequence[float],
    steps: int,
    leapfrogs: int,
    step_size: float,
) -> tuple[float, float]:
    """log ∫ exp(−U) over centred configurations, and its standard error.

    Args:
        energy: U.
        draws: rows of exp(−U), where the chains begin.
        base: the density q at the other end.
        seed: of all that is random.
        rungs: powers b of exp(−U) on the way, falling from 1 to 0.
        steps, leapfrogs: of the chains on each rung.
        step_size: of the integrator at b = 1, from where it adapts; it begins larger where b is smaller.
    """
    generator = Generator().manual_seed(seed)

    def height(x: Tensor, b: float) -> Tensor:
        x = base.space.project(x)
        return (b * energy(x) if b else 0.0) - (1 - b) * base.log_prob(x)

    x, ups, downs = base.space.project(draws.double()), [], []
    for b, lower in itertools.pairwise(rungs):
        downs.append(height(x, b) - height(x, lower))
        if lower:
            size = min(step_size * lower**-0.35, 0.4 * float(base.std))
            x = sample_boltzmann(
                lambda y, b=lower: height(y, b),  # type: ignore[misc]
                x,
                steps,
                generator,
                leapfrogs=leapfrogs,
                step_size=size,
            )
            x = base.space.project(x)
        else:
            x = base.sample(len(x), generator=generator)
        ups.append(height(x, b) - height(x, lower))
    up, down = torch.stack(ups), torch.stack(downs)
    again = [torch.randint(len(x), (len(x),), generator=generator) for _ in range(30)]
    totals = torch.stack([bennett(up[:, i], down[:, i]).sum() for i in again])
    return float(bennett(up, down).sum()), float(totals.std())


def mean(rows: Tensor) -> tuple[float, float]:
    """Of independent rows, and its standard error."""
    return float(rows.double().mean()), float(rows.double().std()) / math.sqrt(len(rows))


def wasserstein(a: Tensor, b: Tensor) -> float:
    """∫ |F_a − F_b| of two samples of numbers."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(a.double().numpy(), b.double().numpy()))


def distances(x: Tensor, each: int) -> Tensor:
    """Of all pairs of particles in all rows, in one row."""
    cloud = x.unflatten(-1, (-1, each))
    i, j = torch.triu_indices(cloud.shape[-2], cloud.shape[-2], 1)
    return (cloud[..., i, :] - cloud[..., j, :]).norm(dim=-1).flatten()


def particles(
    x: Tensor,
    held: Tensor,
    test: Tensor,
    energy: Energy,
    each: int,
    widths: Sequence[float],
    chains: dict[str, Any],
    flow: FreeFormFlow,
    **options: Any,
) -> list[tuple[str, str]]:
    """Lines of the table: trains `flow` on x, chosen by `held`, and looks at `test`.

    Args:
        x, held, test: rows.
        energy: of them.
        each: coordinates of one particle.
        widths: standard deviations of the two normals on whose side the ways to log Z end.
        chains: how many ("count"), and what else `log_partition` asks for.
        flow: untrained.
        options: of `fit`.
    """
    count, begin = x.shape[1] // each, held[: chains.pop("count")]
    bases = [MeanFreeNormal(count, each, w).double().requires_grad_(False) for w in widths]
    zs = [log_partition(energy, begin, b, seed, **chains) for seed, b in enumerate(bases)]
    log_z = sum(z for z, _ in zs) / len(zs)
    error = max(math.hypot(*(e for _, e in zs)) / len(zs), abs(zs[0][0] - zs[1][0]) / 2)
    start = time.perf_counter()
    few = held[: CHOOSING // x.shape[1]]
    history = fit(flow, x, validation=few, seed=0, progress=False, patience=None, **options)
    seconds = time.perf_counter() - start
    u, scored = energy(test.double()), test[: SCORED // x.shape[1]]
    with torch.no_grad():
        there = log_prob_in_blocks(flow, scored, rows=500).double()
        back = torch.cat([flow.log_prob_decoder(b) for b in scored.split(500)]).double()
        drawn = flow.sample(10_000, generator=Generator().manual_seed(1))
        log_p = log_prob_in_blocks(flow, drawn[: len(scored)], rows=500).double()
    alone = MeanFreeNormal.from_data(flow.space.project(x.double()), each=each).log_prob(
        flow.space.project(test.double())
    )
    v = energy(drawn.double())
    high, deviation = float(u.max()), float(u.std())
    log_w = -v[: len(log_p)] - log_p
    w = (log_w - log_w.logsumexp(0)).exp()
    figures, gap = flow.evaluate(test), mean(-u[: len(scored)] - log_z - there)
    sys.stderr.write(f"log Z {zs}; {history.stopped}, {steps_of(history)} steps; gap {gap}\n")
    raw, cut = (wasserstein(d, u) / deviation for d in (v, v.clamp_max(high)))
    floor = wasserstein(energy(held.double()), u) / deviation
    near = [float((distances(r, each) < distances(test, each).median()).double().mean()) for r in (test, drawn)]
    return [
        ("rows to learn from, to choose by, to test on", f"{len(x):,}, {len(held):,}, {len(test):,}"),
        ("log Z, from two normals", " and ".join(f"{z:.2f} ± {e:.2f}" for z, e in zs)),
        ("mean energy of the test rows, its deviation", "{:.2f} ± {:.2f}, {:.2f}".format(*mean(u), deviation)),
        ("entropy E[U] + log Z", f"{mean(u)[0] + log_z:.2f} ± {math.hypot(mean(u)[1], error):.2f}"),
        (
            f"NLL of {len(scored):,} test rows, encoder and decoder",
            f"**{-mean(there)[0]:.3f}** ± {mean(there)[1]:.3f}, {-mean(back)[0]:.3f}",
        ),
        ("encoder beside the entropy", f"**{gap[0]:.3f}** ± {math.hypot(gap[1], error):.3f}"),
        ("base alone beside the entropy", f"{mean(-u - log_z - alone.detach())[0]:.3f}"),
        (
            "inverse defect, rms reconstruction",
            f"{figures['inverse defect']:.2g}, {figures['reconstruction'] ** 0.5:.2g}",
        ),
        ("verdict", flow.verdict(figures) or "none"),
        ("median energy, truth and 10,000 draws", f"{float(u.median()):.2f}, {float(v.median()):.2f}"),
        ("W1 of energies over their deviation, as they are", f"**{raw:.3g}**"),
        ("W1 with those above the highest true energy set down to it", f"{cut:.3f}"),
        ("share of draws above the highest true energy", f"{float((v > high).double().mean()):.1%}"),
        ("W1 of rows to choose by against test rows: the floor", f"{floor:.3f}"),
        ("pairs closer than the true median, truth and draws", f"{near[0]:.3f}, {near[1]:.3f}"),
        (
            "draws reweighted by exp(-U)/p: effective share, log Z",
            f"{float(1 / (w.square().sum() * len(w))):.2%}, {float(log_w.logsumexp(0)) - math.log(len(w)):.2f}",
        ),
        ("seconds of training, steps", f"{seconds:.0f}, {steps_of(history)}"),
    ]


def steps_of(history: History) -> str:
    return f"{history.rows[-1]['step']:,.0f}"


def told(history: History) -> str:
    """Held-out losses of a run: the first, the highest after it, and the last."""
    first, *later = history.column("validation loss")
    return f"{first:.1f}, {max(later):.1f}, {later[-1]:.1f}"


def flow_of(count: int, each: int, net: dict[str, int], **options: float | str) -> FreeFormFlow:
    """Two nets behind one factor, before a round normal density."""
    torch.manual_seed(0)
    dim, context = count * each, count * net.get("context", 0)
    there, back = EGNN(count, each, **net), EGNN(count, each, **net)  # type: ignore[arg-type]
    pair = Pair(there, back, dim=dim, latent_dim=dim, context_dim=context)
    inside = Chain(Standardize(dim, "scale"), pair)
    return FreeFormFlow(inside, MeanFreeNormal(count, each), surrogate="conditional", **options)  # type: ignore[arg-type]


# -- the three ---------------------------------------------------------------------------------------------------------


def split(data: Dataset) -> tuple[Tensor, Tensor]:
    """Test rows, and the others."""
    assert data.test is not None
    return data.x[data.test], data.x[~data.test]


def dw4() -> list[tuple[str, str]]:
    data = datasets.dw4(draws=12_000)
    test, rest = split(data)
    found = particles(
        rest[1000:],
        rest[:1000],
        test,
        double_well_energy,
        2,
        (1.7, 2.2),
        {
            "count": 1000,
            "rungs": (1, 0.7, 0.45, 0.25, 0.12, 0.05, 0.02, 0.01, 0.003, 0),
            **{"steps": 20, "leapfrogs": 8, "step_size": 0.12},
        },
        flow_of(4, 2, {"features": 32, "layers": 5}, beta=500.0),
        epochs=300,
        batch_size=256,
        lr=4e-3,
        ema=0.999,
    )
    return [
        *found,
        ("goal", "W1 of energies as they are ≤ 0.1"),
        ("published, on the file's rows, most of whose test rows are training rows", "FFF 1.68, NAE 1.39"),
    ]


def lj13() -> list[tuple[str, str]]:
    data = datasets.lj13()
    test, seen = split(data)
    fresh = sample_boltzmann(lennard_jones_energy, seen, 40, Generator().manual_seed(0), step_size=0.02)
    fresh = data.space.project(fresh)  # type: ignore[union-attr]
    found = particles(
        torch.cat([seen[1000:], fresh[1000:]]),
        seen[:1000],
        test[:4000],
        lennard_jones_energy,
        3,
        (0.64, 0.78),
        {
            "count": 120,
            "rungs": (
                *(1, 0.85, 0.7, 0.57, 0.45, 0.35, 0.27, 0.2, 0.14, 0.1, 0.06, 0.03, 0.015),
                *(5e-3, 1e-3, 1e-4, 1e-6, 0),
            ),
            **{"steps": 20, "leapfrogs": 20, "step_size": 0.03},
        },
        flow_of(13, 3, {"features": 32, "layers": 5}, beta=500.0),
        epochs=10,
        batch_size=64,
        lr=4e-3,
        ema=0.999,
    )
    drawn, stored = mean(lennard_jones_energy(fresh.double())), mean(lennard_jones_energy(test.double()))
    return [
        (
            "mean energy of all test rows, and of rows drawn afresh",
            "{:.2f} ± {:.2f}, {:.2f} ± {:.2f}".format(*stored, *drawn),
        ),
        *found,
        ("published, another split and convention", "NAE -17.95"),
    ]


BONDS = (("C", "C"), ("C", "H"), ("C", "N"), ("C", "O"), ("N", "H"), ("O", "H"))


def nearest(x: Tensor, types: Tensor, a: str, b: str) -> Tensor:
    """From each atom of one element to the nearest other one of another, in molecules that have both, in one row."""
    number = {symbol: z for z, symbol in SYMBOLS.items()}
    cloud = x.unflatten(-1, (-1, 3))
    apart = (cloud[:, :, None] - cloud[:, None]).norm(dim=-1)
    apart = apart.masked_fill(torch.eye(apart.shape[-1], dtype=torch.bool), math.inf)
    apart = apart.masked_fill((types != number[b])[:, None, :], math.inf).amin(-1)[types == number[a]]
    return apart[apart.isfinite()]


def qm9() -> list[tuple[str, str]]:
    data = datasets.qm9()
    assert data.types is not None
    assert data.test is not None
    context = (data.types[..., None] == torch.tensor([*SYMBOLS])).flatten(1).float()
    order = torch.randperm(len(data), generator=Generator().manual_seed(0))
    test, rest = order[data.test[order]][:1000], order[~data.test[order]]
    held, seen = rest[:32], rest[32:]
    flow = flow_of(19, 3, {"features": 32, "layers": 5, "context": 5}, beta=1000.0)
    start = time.perf_counter()
    history = fit(
        flow,
        data.x[seen],
        context[seen],
        validation=(data.x[held], context[held]),
        epochs=12,
        batch_size=64,
        lr=4e-3,
        ema=0.999,
        seed=0,
        progress=False,
        patience=None,
    )
    seconds = time.perf_counter() - start
    x, types, given = data.x[test], data.types[test], context[test]
    with torch.no_grad():
        drawn = flow.sample(context=given, generator=Generator().manual_seed(1))
        noise = flow.base.sample(len(test), generator=Generator().manual_seed(1))
        begin = time.perf_counter()
        flow.sample(context=given)
        each = (time.perf_counter() - begin) / len(given)
        there = torch.cat([flow.log_prob(b, c) for b, c in zip(x[:200].split(50), given.split(50), strict=False)])
        back = torch.cat(
            [flow.log_prob_decoder(b, c) for b, c in zip(x[:200].split(50), given.split(50), strict=False)]
        )
    figures = flow.evaluate(x[:200], given[:200])
    sys.stderr.write(f"{history.stopped}, {steps_of(history)} steps, {figures}\n")
    shares = [stability(r, types) for r in (drawn, x, noise)]
    lines = [
        ("molecules to learn from, to choose by, to test on", f"{len(seen):,}, {len(held):,}, {len(test):,}"),
        (
            "NLL of 200 test molecules, encoder and decoder",
            "**{:.2f}** ± {:.2f}, {:.2f}".format(*mean(-there), float(-back.mean())),
        ),
        (
            "inverse defect, rms reconstruction",
            f"{figures['inverse defect']:.2g}, {figures['reconstruction'] ** 0.5:.2g}",
        ),
        ("verdict", flow.verdict(figures) or "none"),
        (
            "run: how it ended; held-out loss at first, at worst later, in the end",
            f"{history.stopped}; {told(history)}",
        ),
        (
            "stable atoms: 1,000 draws, test molecules, the base alone",
            "**{:.1%}**, {:.1%}, {:.1%}".format(*(s["atoms"] for s in shares)),
        ),
        (
            "stable molecules: 1,000 draws, test molecules, the base alone",
            "**{:.1%}**, {:.1%}, {:.1%}".format(*(s["molecules"] for s in shares)),
        ),
        ("published, all sizes, types generated as well: E-NF", "atoms 85.0 %, molecules 4.9 %, NLL -59.7"),
        ("published, all sizes, types generated as well: EDM", "atoms 98.7 %, molecules 82.0 %, NLL -110.7"),
    ]
    for a, b in BONDS:
        got, true = nearest(drawn, types, a, b), nearest(x, types, a, b)
        lines.append(
            (
                f"nearest {b} of each {a}, Å: mean ± deviation of draws and test molecules, W1",
                f"{float(got.mean()):.3f} ± {float(got.std()):.3f}, {float(true.mean()):.3f} ± {float(true.std()):.3f}, "
                f"**{wasserstein(got, true):.3f}**",
            )
        )
    return [*lines, ("seconds of training, steps; ms a draw", f"{seconds:.0f}, {steps_of(history)}; {1e3 * each:.2f}")]


def main() -> None:
    if not os.environ.get("GEOFLOW_DATA"):
        sys.exit("set GEOFLOW_DATA to the folder of the data sets (see geoflow.datasets)")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = RESULTS / "molecules.md"
    known = path.read_text().split("\n## ")[1:] if path.exists() else []
    parts = {name: text for name in PARTS for text in known if text.startswith(name)}
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PARTS:
        title, make = PARTS[name]
        lines = "".join(
            f"| {what} | {value} |\n".replace("|J_e J_d - 1|", "\\|J_e J_d - 1\\|") for what, value in make()
        )
        date = time.strftime("%Y-%m-%d")
        parts[name] = f"{name}: {title}\n\nMade on {date}.\n\n| figure | value |\n|---|---|\n{lines}"
        body = "\n".join(f"## {parts[n].strip()}\n" for n in PARTS if n in parts)
        path.write_text(INTRO.format(version=torch.__version__) + body)
    sys.stdout.write(path.read_text())


PARTS: dict[str, tuple[str, Callable[[], list[tuple[str, str]]]]] = {
    "dw4": ("four particles in the plane, each pair in a double well, fresh draws", dw4),
    "lj13": ("thirteen particles in space, Lennard-Jones", lj13),
    "qm9": ("molecules of QM9 with 19 atoms, positions given the types of atoms", qm9),
}


if __name__ == "__main__":
    main()
