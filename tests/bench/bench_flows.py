"""Training steps, densities and draws of invertible flows against those of other libraries, and what they cost in memory."""

import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from geoflow.flows import realnvp
from geoflow.train.flat import Flat
from tests.bench.peers import COUPLINGS, FAMILIES, HIDDEN, LAYERS, SPLINES, Contestant
from tests.bench.timing import alive, high_water, interleaved, ratio, write

DIMS, BATCHES = (2, 8, 63), (256, 4096)
DEEP, WIDE, MANY = 24, 63, 4096


def training(one: Contestant, x: Tensor, together: bool) -> Callable[[], object]:
    """A step of Adam; `together`: with all parameters in one vector, as `fit` does it."""
    flat = Flat([p for p in one.module.parameters() if p.requires_grad]) if together else None
    optimiser = torch.optim.Adam(one.module.parameters() if flat is None else [flat.vector], 1e-3, fused=True)
    parameters = list(one.module.parameters())

    def step() -> None:
        for p in parameters:
            p.grad = None
        if flat is None:
            one.loss(x).backward()
        else:
            flat.clear()
            with flat:
                loss = one.loss(x)
            loss.backward()
            flat.collect()
        optimiser.step()

    return step


def without_gradients(verb: Callable[..., Tensor], argument: object) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> None:
        verb(argument)

    return run


def cells(family: str, dims: tuple[int, ...] = DIMS, batches: tuple[int, ...] = BATCHES) -> list[str]:
    """Lines of the table of a family."""
    makers = FAMILIES[family]
    peers = [name for name in makers if name != "geoflow"]
    lines = [
        f"| what | dim | batch | geoflow, ms | {' | '.join(f'{p} / ours' for p in peers)} | best peer / ours |",
        "|---" * (5 + len(peers)) + "|",
    ]
    for what in ("training step", "log_prob", "sample"):
        for dim in dims:
            for batch in batches:
                torch.manual_seed(0)
                x = torch.randn(batch, dim)
                built = {name: one for name in makers if (one := made(makers[name], dim)) is not None}
                runs = {name: run_of(what, name, one, x) for name, one in built.items()}
                seconds = interleaved(runs, rounds=41, budget=8.0)
                own = seconds.pop("geoflow")
                ratios = {name: ratio(other, own) for name, other in seconds.items()}
                shown = [
                    "{:.2f} [{:.2f}, {:.2f}]".format(*ratios[p]) if p in ratios else "not installed" for p in peers
                ]
                best = min(m for m, _, _ in ratios.values())
                lines.append(
                    f"| {what} | {dim} | {batch} | {1e3 * statistics.median(own):.2f} | {' | '.join(shown)} | **{best:.2f}** |"
                )
                sys.stderr.write(lines[-1] + "\n")
    sizes = {name: [one.size for d in dims if (one := made(make, d))] for name, make in makers.items()}
    counts = "; ".join(f"{name} {', '.join(f'{n:,}' for n in each)}" for name, each in sizes.items() if each)
    return [*lines, "", f"Trained parameters at dimension {', '.join(map(str, dims))}: {counts}."]


def made(make: Callable[[int], Contestant], dim: int) -> Contestant | None:
    """None where the library is not installed."""
    try:
        return make(dim)
    except ModuleNotFoundError:
        return None


def run_of(what: str, name: str, one: Contestant, x: Tensor) -> Callable[[], object]:
    if what == "training step":
        return training(one, x, name == "geoflow")
    return without_gradients(one.log_prob, x) if what == "log_prob" else without_gradients(one.sample, len(x))


# -- memory ------------------------------------------------------------------------------------------------------------


def deep(kind: str) -> Callable[[], object]:
    """A training step of 24 affine couplings on 4096 rows of 63 columns."""
    torch.manual_seed(0)
    x = torch.randn(MANY, WIDE)
    if kind in ("kept", "reversible"):
        flow = realnvp(WIDE, depth=DEEP, hidden=HIDDEN, reversible=kind == "reversible")
        return training(Contestant(flow, flow.log_prob, flow.sample, lambda y: flow(y)["loss"]), x, True)
    import tests.bench.peers as peers

    peers.COUPLINGS = DEEP
    return training(FAMILIES["affine couplings"][kind](WIDE), x, False)


def grown(kind: str) -> tuple[float, float]:
    """Mebibytes of tensors at the peak of a step, and those that 5 steps add to the process."""
    torch.set_num_threads(1)
    step = deep(kind)
    before = high_water()
    for _ in range(5):
        step()
    process = high_water() - before
    return alive(step), process


def peak(kind: str) -> list[float]:
    """`grown` in a process of its own."""
    code = f"from tests.bench.bench_flows import grown; print(*grown({kind!r}))"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    return [float(number) for number in run.stdout.splitlines()[-1].split()]


def memory() -> list[str]:
    kinds = ["kept", "reversible", "zuko", "normflows", "FrEIA"]
    peaks = {kind: peak(kind) for kind in kinds}
    seconds = interleaved({kind: deep(kind) for kind in kinds}, rounds=9)
    lines = [
        "| couplings | tensors, MiB | to kept | process, MiB | to kept | time to kept |",
        "|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        middle, low, high = ratio(seconds[kind], seconds["kept"])
        name = {"kept": "geoflow", "reversible": "geoflow, reversible=True"}.get(kind, kind)
        sizes = [f"{own:.0f} | {own / kept:.2f}" for own, kept in zip(peaks[kind], peaks["kept"], strict=True)]
        lines.append(f"| {name} | {' | '.join(sizes)} | {middle:.2f} [{low:.2f}, {high:.2f}] |")
    return lines


def compiled() -> str:
    """A step compiled by torch.compile against the best peer as it is, at dimension 8 and batch 256."""
    torch.manual_seed(0)
    x, makers = torch.randn(256, 8), FAMILIES["affine couplings"]
    built = {name: one for name in makers if (one := made(makers[name], 8)) is not None}
    flow = built["geoflow"].module
    call = torch.compile(flow)
    built["geoflow"].loss = lambda y: call(y)["loss"]
    seconds = interleaved({n: run_of("training step", n, one, x) for n, one in built.items()}, rounds=41)
    own = seconds.pop("geoflow")
    best = min((ratio(other, own) for other in seconds.values()), key=lambda r: r[0])
    return "{:.2f} [{:.2f}, {:.2f}]".format(*best)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    depth = {"affine couplings": COUPLINGS, "spline couplings": SPLINES, "masked autoregressive": LAYERS}
    parts = [
        f"Networks of width {HIDDEN}, Adam (fused), float32, one thread. Above 1: geoflow is faster. A training step of "
        "geoflow is `fit`'s (the closed-form backward pass, parameters in one vector); log_prob and sample are the public "
        "calls without gradients. geoflow's models also standardise their data and check their input, and mix the columns "
        "between layers.\n"
    ]
    for family in FAMILIES:
        parts += [f"## {depth[family]} {family}\n", *cells(family), ""]
    parts += [
        "zuko's spline flow is autoregressive, with half as many layers.\n",
        f"A step of geoflow's affine couplings under `torch.compile` (dimension 8, batch 256): the best peer takes "
        f"**{compiled()}** times as long.\n",
        f"## Memory of a training step: {DEEP} affine couplings, {MANY} rows of {WIDE} columns\n",
        "Tensors: what a step adds at its peak, counted by torch's profiler. Process: growth of the peak over the first 5 "
        "steps in a process of its own, in which some tens of MiB are the library's code, read when first used.\n",
        *memory(),
    ]
    write("flows.md", "Invertible flows against their peers", "nox -s bench -- flows", "\n".join(parts))


if __name__ == "__main__":
    main()
