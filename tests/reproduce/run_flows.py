"""Anchors of invertible flows: where they start, how exactly they turn back, a known density, mass, equal parameters.

Reads ADBench's magic.gamma from the folder that GEOFLOW_DATA names.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Generator, Tensor

from geoflow import DiagonalNormal, Flow, datasets, fit
from geoflow.flows import circular_nsf, nsf, realnvp
from tests.bench import peers
from tests.reproduce.renewed import needs_data, renew
from tests.reproduce.run_likelihoods import TABLES, Split

INTRO = """# Anchors of invertible flows

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- run_flows` on {date}, torch {version}, one thread. Speed and memory are in
tests/bench/results/flows.md, likelihoods beside other libraries' in likelihoods.md, nonlinear ICA in gin.md. The prototype's
figures were measured before this library.

| what | measured | prototype | asked | holds |
|---|---|---|---|---|
"""


def line(name: str, measured: str, prototype: str, asked: str, holds: bool) -> str:
    return f"| {name} | {measured} | {prototype} | {asked} | {'yes' if holds else '**no**'} |"


def trained(flow: Flow, x: Tensor, steps: int, **options: float) -> Flow:
    batch = 256
    epochs = math.ceil(steps / math.ceil(0.9 * len(x) / batch))
    fit(flow, x, epochs=epochs, batch_size=batch, seed=0, progress=False, patience=None, **options)  # type: ignore[arg-type]
    return flow


def start(name: str) -> Iterator[str]:
    g = Generator().manual_seed(0)
    x = torch.randn(10_000, 7, generator=g) @ torch.randn(7, 7, generator=g) + 3
    normal = DiagonalNormal.from_data(x).log_prob(x)
    worst = 0.0
    for make in (realnvp, nsf):
        flow = make(7, generator=g)
        flow.prepare(x)
        with torch.no_grad():
            worst = max(worst, float((flow.log_prob(x) - normal).abs().max()))
    yield line(name, f"{worst:.1g}", "5e-7", "≤ 1e-4", worst <= 1e-4)


def turning_back(name: str) -> Iterator[str]:
    data = datasets.adbench("magic.gamma").x
    x = data[torch.randperm(len(data), generator=Generator().manual_seed(0))].float()
    torch.manual_seed(0)
    flow = trained(realnvp(x.shape[1], depth=12), x[:15_000], 1000)
    held = x[15_000:]
    with torch.no_grad():
        back = flow.bijection.decode(flow.bijection.encode(held))
        off = ((back - held) / x.std(0)).abs().amax(-1)
        single = flow.log_prob(held).double()
        differ = (single - flow.double().log_prob(held.double())).abs()
    median, most = float(off.median()), float(off.max())
    measured = f"{median:.1g}, {most:.1g} deviations; log p {float(differ.median()):.1g}, {float(differ.max()):.1g}"
    yield line(name, measured, "2.4e-7, 3.3e-6", "≤ 2e-6, ≤ 1e-4", median <= 2e-6 and most <= 1e-4)


def banana(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x₂ = x₁² + 0.3 ε, and the true log density."""
    g = Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=g)
    x = torch.stack([z[:, 0], z[:, 0].square() + 0.3 * z[:, 1]], -1)
    return x, -0.5 * z.square().sum(-1) - math.log(2 * math.pi * 0.3)


def known(name: str) -> Iterator[str]:
    x, _ = banana(10_000, 0)
    test, log_p = banana(10_000, 1)
    torch.manual_seed(0)
    flow = trained(realnvp(2), x, 1200)
    with torch.no_grad():
        gap = log_p - flow.log_prob(test)
    mean, error = float(gap.mean()), float(gap.std()) / 100
    yield line(name, f"{mean:.4f} ± {error:.4f} nats", "< .001", "≤ .02", mean <= 0.02)


def mass(name: str) -> Iterator[str]:
    """Sums over fine grids, in float64."""
    side = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    torch.manual_seed(0)
    flow = trained(nsf(2, depth=6, hidden=(64, 64)), banana(4000, 2)[0], 400).double()
    wide = torch.cartesian_prod(side, torch.linspace(-3, 20, 2301, dtype=torch.float64))
    plain = float(values(flow, wide).exp().sum() * (side[1] - side[0]) * 0.01)
    g = Generator().manual_seed(3)
    angles = torch.remainder(
        torch.randn(4000, 2, generator=g) @ torch.tensor([[1.0, 0.8], [0.0, 0.4]]) + 3, 2 * math.pi
    )
    torch.manual_seed(0)
    round_flow = trained(circular_nsf(2, [0, 1]), angles - math.pi, 400).double()
    turn = torch.linspace(-math.pi, math.pi, 801, dtype=torch.float64)[:-1]
    closed = float(values(round_flow, torch.cartesian_prod(turn, turn)).exp().mean() * (2 * math.pi) ** 2)
    worst = max(abs(plain - 1), abs(closed - 1))
    yield line(name, f"{plain:.5f}, {closed:.5f}", "not measured", "1 ± 1e-3", worst <= 1e-3)


PARAMETERS, STEPS, SEEDS = 59_000, 1200, (0, 1, 2)


def of_size(make: Callable[[int], peers.Contestant], dim: int) -> peers.Contestant:
    """The flow whose hidden layers have the width that brings its parameters nearest to the wanted number."""
    before = peers.HIDDEN
    try:
        found = {}
        for width in range(16, 129, 2):
            peers.HIDDEN = (width, width)
            found[width] = abs(make(dim).size - PARAMETERS)
        width = min(found, key=found.__getitem__)
        peers.HIDDEN = (width, width)
        return make(dim)
    finally:
        peers.HIDDEN = before


def held_out(make: Callable[[int], peers.Contestant], s: Split, seed: int) -> Tensor:
    """log p of the test rows after the steps, by `fit`'s defaults."""
    torch.manual_seed(seed)
    dim = s.train.shape[1]
    one = of_size(make, dim)
    model = one.module if isinstance(one.module, Flow) else peers.AsDensity(dim, one)
    epochs = round(STEPS * 256 / len(s.train))
    fit(
        model,
        s.train,
        validation=s.validation,
        batch_size=256,
        epochs=epochs,
        patience=None,
        seed=seed,
        progress=False,
    )
    with torch.no_grad():
        return one.log_prob(s.test).double() + s.shift


def equal_size(name: str, family: str, prototype: str) -> Iterator[str]:
    """Ours minus the best peer, over seeds, on the same splits of magic.gamma."""
    splits = [TABLES["magic.gamma"](seed)[0] for seed in SEEDS]
    scores: dict[str, list[Tensor]] = {}
    for library, make in peers.FAMILIES[family].items():
        try:
            scores[library] = [held_out(make, s, seed) for s, seed in zip(splits, SEEDS, strict=True)]
        except ModuleNotFoundError:
            continue
    means = {library: sum(float(v.mean()) for v in each) / len(each) for library, each in scores.items()}
    best = max((library for library in means if library != "geoflow"), key=means.__getitem__)
    leads = torch.stack([(a - b).mean() for a, b in zip(scores["geoflow"], scores[best], strict=True)])
    lead, error = float(leads.mean()), float(leads.std()) / math.sqrt(len(leads))
    all_of_them = ", ".join(f"{library} {mean:.3f}" for library, mean in means.items())
    yield line(name, f"{lead:+.3f} ± {error:.3f} on {best} ({all_of_them})", prototype, "≥ -.05", lead >= -0.05)


@torch.no_grad()
def values(flow: Flow, x: Tensor) -> Tensor:
    return torch.cat([flow.log_prob(block) for block in x.split(20_000)])


ROWS = {
    "untrained flows against the diagonal Gaussian of 10,000 rows of 7 columns, largest difference in nats": start,
    "12 affine couplings in float32 after 1000 steps on magic.gamma: round trip, median and worst row": turning_back,
    "banana: true log p above the flow's on 10,000 test points, after 1200 steps": known,
    "mass of trained spline flows by a grid, in the plane and on the torus": mass,
    "magic.gamma held out, 59 thousand parameters each, 1200 steps, 3 seeds: spline flows, ours minus the best": partial(
        equal_size, family="spline couplings", prototype="-.09 without LU"
    ),
    "the same of affine couplings": partial(equal_size, family="affine couplings", prototype="-.04"),
}


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(date=time.strftime("%Y-%m-%d"), version=torch.__version__)
    return text + "".join(f"{line}\n" for each in lines.values() for line in each)


def main() -> None:
    needs_data()
    renew("flows.md", ROWS, lambda name: ROWS[name](name), written)


if __name__ == "__main__":
    main()
