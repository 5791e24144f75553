"""Cost and memory of a free-form flow's training step against a plain auto-encoder of the same nets, and against dim.

A step is loss, backward, clipping and Adam; rounds interleave all contestants.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from geoflow import FreeFormFlow, Pair, StandardNormal
from geoflow.distributions import Mixture
from geoflow.freeform import exact
from geoflow.nets import ResidualNet
from manifolds import Sphere
from tests.bench.timing import high_water, interleaved, ratio, write

BATCH, WIDTH, BLOCKS, DEPTH = 256, 256, 2, 1
SAMPLE_CYCLES = {"z_sample_reconstruction": 1.0, "x_sample_reconstruction": 1.0}


def nets(dim: int, width: int = WIDTH, blocks: int = BLOCKS) -> Pair:
    there, back = (ResidualNet(dim, dim, width, blocks, DEPTH) for _ in range(2))
    return Pair(there, back, dim=dim, latent_dim=dim)


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, 1e-4, fused=True)

    def once() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()

    return once


def auto_encoder(part: Pair, x: Tensor) -> Callable[[], None]:
    return step(part, lambda: (part._decode(part._encode(x)) - x).square().sum(-1).mean())


def free_form(model: FreeFormFlow, x: Tensor) -> Callable[[], None]:
    return step(model, lambda: model.loss(x)["loss"])


def exact_step(model: FreeFormFlow, x: Tensor) -> Callable[[], None]:
    """Through the encoder's whole Jacobian, with the reconstruction beside it."""

    def loss() -> Tensor:
        z, log_det = exact.log_det(model.autoencoder._encode, x, model.space, model.base.space)
        off = (model.autoencoder._decode(z) - x).square().sum(-1)
        return (10 * off - model.base._log_prob(z) - log_det).mean()

    return step(model, loss)


def shown(runs: dict[str, Callable[[], None]], to: str, rounds: int) -> list[str]:
    seconds = interleaved(runs, rounds, 5)
    lines = []
    for name in runs:
        middle, low, high = ratio(seconds[name], seconds[to])
        lines.append(f"| {name} | {1e3 * float(np.median(seconds[name])):.2f} | {middle:.2f} [{low:.2f}, {high:.2f}] |")
    return lines


def flat(dim: int = 3, rounds: int = 41, batch: int = BATCH) -> list[str]:
    x = torch.randn(batch, dim)
    return shown(
        {
            "auto-encoder": auto_encoder(nets(dim), x),
            "FFF, encoder, 1 probe": free_form(FreeFormFlow(nets(dim), StandardNormal(dim), probes=1), x),
            "FFF, conditional, 1 probe": free_form(
                FreeFormFlow(nets(dim), StandardNormal(dim), probes=1, surrogate="conditional"), x
            ),
            f"FFF, encoder, all {dim} directions": free_form(
                FreeFormFlow(nets(dim), StandardNormal(dim), probes="exact"), x
            ),
        },
        "auto-encoder",
        rounds,
    )


def sphere(rounds: int = 41) -> list[str]:
    space = Sphere(2)
    x = space.sample_uniform(BATCH)
    base = Mixture.from_data(x, components=5)
    options = {"beta": 1e4}
    return shown(
        {
            "auto-encoder": auto_encoder(nets(3), x),
            "M-FFF, 1 probe": free_form(FreeFormFlow(nets(3), base, probes=1, **options), x),
            "M-FFF, both directions (default)": free_form(FreeFormFlow(nets(3), base, **options), x),
            "M-FFF, 1 probe, both sample cycles": free_form(
                FreeFormFlow(nets(3), base, probes=1, **options, **SAMPLE_CYCLES), x
            ),
        },
        "auto-encoder",
        rounds,
    )


def dimensions(dims: Sequence[int] = (2, 8, 32, 128), rounds: int = 15) -> tuple[list[str], float]:
    """Free-form and exact steps by dimension, and the slope of the former's cost in logarithms."""
    runs: dict[str, Callable[[], None]] = {}
    for dim in dims:
        x = torch.randn(BATCH, dim)
        runs[f"free {dim}"] = free_form(FreeFormFlow(nets(dim), StandardNormal(dim), probes=1), x)
        runs[f"exact {dim}"] = exact_step(FreeFormFlow(nets(dim), StandardNormal(dim)), x)
    seconds = interleaved(runs, rounds, 2)
    lines = []
    for dim in dims:
        middle, low, high = ratio(seconds[f"exact {dim}"], seconds[f"free {dim}"])
        free = 1e3 * float(np.median(seconds[f"free {dim}"]))
        lines.append(f"| {dim} | {free:.1f} | {middle:.2f} [{low:.2f}, {high:.2f}] |")
    times = [float(np.median(seconds[f"free {dim}"])) for dim in dims]
    return lines, float(np.polyfit(np.log(dims), np.log(times), 1)[0])


def peak(kind: str) -> float:
    """Mebibytes that 5 steps on large batches add to the process, in one of its own."""
    code = f"from tests.bench.bench_freeform import grown; print(grown({kind!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def grown(kind: str) -> float:
    torch.set_num_threads(1)
    x, part = torch.randn(8192, 3), nets(3)
    model = FreeFormFlow(part, StandardNormal(3), probes=1)
    once = auto_encoder(part, x) if kind == "auto-encoder" else free_form(model, x)
    small = auto_encoder(part, x[:2]) if kind == "auto-encoder" else free_form(model, x[:2])
    small()
    before = high_water()
    for _ in range(5):
        once()
    return high_water() - before


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = sum(p.numel() for p in nets(3).parameters())
    head = "| step | ms | to the auto-encoder |\n|---|---|---|\n"
    by_dim, slope = dimensions()
    memory = {kind: peak(kind) for kind in ("auto-encoder", "free-form flow")}
    body = (
        f"Residual nets of {size / 1e3:.0f} thousand parameters both ways, batch {BATCH}.\n\n## Flat, three coordinates\n\n"
        f"{head}"
        + "\n".join(flat())
        + f"\n\nBatch 32:\n\n{head}"
        + "\n".join(flat(batch=32))
        + f"\n\n## On the sphere, base of five von Mises-Fisher\n\n{head}"
        + "\n".join(sphere())
        + "\n\n## By dimension: one probe against the whole Jacobian of the encoder\n\n"
        "| dim | free-form ms | exact / free-form |\n|---|---|---|\n"
        + "\n".join(by_dim)
        + f"\n\nSlope of the free-form step's cost in dim, in logarithms: {slope:.3f}.\n\n## Memory\n\n"
        f"Peak of a step at batch 8192 beyond the process before it: auto-encoder {memory['auto-encoder']:.0f} MiB, "
        f"free-form flow {memory['free-form flow']:.0f} MiB, "
        f"{memory['free-form flow'] / memory['auto-encoder']:.2f} times.\n"
    )
    write("freeform.md", "Free-form flows: cost of a training step", "nox -s bench -- freeform", body)


if __name__ == "__main__":
    main()
