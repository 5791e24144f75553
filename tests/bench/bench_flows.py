"""Training step and log_prob of `realnvp` against zuko's, normflows' and FrEIA's, of equal depth, widths and batch."""

import contextlib
import io
from collections.abc import Callable

import torch
from torch import Tensor, nn

from geoflow.flows import realnvp
from tests.bench.timing import interleaved, ratio, write

DEPTH, HIDDEN = 8, (64, 64)


def ours(dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    flow = realnvp(dim, depth=DEPTH, hidden=HIDDEN)
    return flow, flow.log_prob


def zuko(dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from zuko.flows import RealNVP

    flow = RealNVP(dim, transforms=DEPTH, hidden_features=HIDDEN)
    return flow, lambda x: flow().log_prob(x)


def normflows(dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    import normflows as nf

    a, b = (dim + 1) // 2, dim // 2
    flows: list[nn.Module] = []
    for _ in range(DEPTH):
        net = nf.nets.MLP([a, *HIDDEN, 2 * b], init_zeros=True)
        flows += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(dim), flows)
    return flow, flow.log_prob


def freia(dim: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    def net(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(c_in, HIDDEN[0]),
            nn.ReLU(),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.ReLU(),
            nn.Linear(HIDDEN[1], c_out),
        )

    flow = ff.SequenceINN(dim)
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(DEPTH):
            flow.append(fm.AllInOneBlock, subnet_constructor=net)

    def log_prob(x: Tensor) -> Tensor:
        z, log_det = flow(x)
        return -0.5 * (z * z).sum(-1) - 0.9189385332046727 * dim + log_det

    return flow, log_prob


def step(module: nn.Module, log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.Adam(module.parameters(), 1e-3, fused=True)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()
        optimiser.step()

    return run


def evaluate(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        log_prob(x)

    return run


def main() -> None:
    torch.set_num_threads(1)
    makers = {"geoflow": ours, "zuko": zuko, "normflows": normflows, "FrEIA": freia}
    lines = [
        "| what | dim | batch | geoflow, ms | zuko / ours | normflows / ours | FrEIA / ours | fastest peer / ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what in ("training step", "log_prob"):
        for dim in (8, 63):
            for batch in (256, 4096):
                torch.manual_seed(0)
                x = torch.randn(batch, dim)
                built = {name: make(dim) for name, make in makers.items()}
                runs = {
                    name: step(module, log_prob, x) if what == "training step" else evaluate(log_prob, x)
                    for name, (module, log_prob) in built.items()
                }
                seconds = interleaved(runs, rounds=41 if batch == 256 else 15)
                own = seconds.pop("geoflow")
                ratios = {name: ratio(theirs, own) for name, theirs in seconds.items()}
                cells = " | ".join(f"{m:.2f} [{a:.2f}, {b:.2f}]" for m, a, b in ratios.values())
                lines.append(
                    f"| {what} | {dim} | {batch} | {1e3 * sorted(own)[len(own) // 2]:.2f} | {cells} "
                    f"| **{min(m for m, _, _ in ratios.values()):.2f}** |"
                )
    body = (
        f"{DEPTH} couplings of width {HIDDEN}, Adam (fused), float32, one thread. Above 1: geoflow is faster. geoflow's "
        "model also standardises its data and checks its input: log_prob, here and in the training step, is the public "
        "call.\n\n"
    )
    write("flows.md", "RealNVP against its peers", "nox -s bench -- flows", body + "\n".join(lines))


if __name__ == "__main__":
    main()
