"""Sampling 2000 points of the sphere: one evaluation of a decoder against the solved flow of a trained velocity."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from geoflow import datasets, fit
from geoflow.distributions import Mixture, Uniform, VonMisesFisher
from geoflow.freeform import FlowMatching
from geoflow.nets import MLP
from manifolds import Sphere
from tests.bench.timing import interleaved, ratio, write

POINTS, WIDTH, BLOCKS, TRAINING = 2000, 64, 4, 2000


class Residual(nn.Module):
    """Blocks of two hidden layers, added one after the other, between linear layers: decoder and velocity alike."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, outputs)
        self.body = nn.ModuleList(MLP(WIDTH, WIDTH, (WIDTH, WIDTH), "silu") for _ in range(BLOCKS))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.body:
            h = h + block(h)
        return self.last(h)


class InTime(nn.Module):
    """The same network of a point and a time."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Residual(4, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t[..., None]], -1))


def places() -> tuple[str, Tensor]:
    """Floods, or where their folder is missing a mixture that is as uneven."""
    try:
        x = datasets.earth("flood").x if os.environ.get("GEOFLOW_DATA") else None
    except FileNotFoundError:
        x = None
    if x is not None:
        return f"{len(x)} floods", x.float()
    means = Sphere(2).sample_uniform(20, torch.Generator().manual_seed(0))
    mixture = Mixture(torch.ones(20), VonMisesFisher(means, 40 * torch.ones(20)))
    return "5000 draws of a mixture of 20 von Mises-Fisher densities", mixture.sample(5000)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about, x = places()
    velocity, decoder = InTime(), Residual(3, 3)
    train, test = x[torch.randperm(len(x))].split([len(x) - 500, 500])
    flow = FlowMatching(Sphere(2), velocity)
    with torch.enable_grad():
        epochs = round(TRAINING * 256 / len(train))
        history = fit(flow, train, epochs=epochs, batch_size=256, seed=0, progress=False, patience=None)
    nll = -float(flow.log_prob(test).mean())
    space, base = Sphere(2), Uniform(Sphere(2))
    solved = {
        tol: FlowMatching(Sphere(2), velocity, method="dopri5", atol=tol, rtol=tol).eval() for tol in (1e-3, 1e-5, 1e-7)
    }
    runs: dict[str, Callable[[], object]] = {
        "one evaluation of the decoder": lambda: space.project(decoder(base.sample(POINTS))),
        "one evaluation of the velocity": lambda: flow._field(base.sample(POINTS), 0.5, None),
        "20 Euler steps along geodesics": lambda: flow.sample_euler(POINTS, 20),
        "100 Euler steps along geodesics": lambda: flow.sample_euler(POINTS, 100),
        **{f"dopri5 at {tol:g}": lambda m=m: m.sample(POINTS) for tol, m in solved.items()},
    }
    seconds = interleaved(runs, rounds=15)
    spent = {"one evaluation of the decoder": 1, "one evaluation of the velocity": 1}
    spent |= {f"{k} Euler steps along geodesics": k for k in (20, 100)}
    spent |= {f"dopri5 at {tol:g}": m.evaluations for tol, m in solved.items()}
    one = seconds["one evaluation of the decoder"]
    lines = ["| sampler | evaluations | ms, median | / decoder |", "|---|---|---|---|"]
    for name, times in seconds.items():
        m, low, high = ratio(times, one)
        ms = 1e3 * sorted(times)[len(times) // 2]
        lines.append(f"| {name} | {spent[name]} | {ms:.2f} | **{m:.1f}** [{low:.1f}, {high:.1f}] |")
    body = (
        f"{POINTS} points of S², float32, one thread; every run draws from the uniform base and ends on the sphere. "
        f"Decoder and velocity are residual networks of width {WIDTH} with {BLOCKS} blocks, and differ by the velocity's "
        f"input of time. The velocity was trained by `FlowMatching` for {history.rows[-1]['step']} steps of 256 rows on "
        f"{about}; its NLL on 500 held-out rows is {nll:.3f} nats (uniform: 2.531). The decoder is untrained, which its "
        "time does not tell. A field trained for longer is less smooth and takes more adaptive steps.\n\n"
    )
    write("sampling.md", "Sampling: one evaluation or a flow", "nox -s bench -- sampling", body + "\n".join(lines))


if __name__ == "__main__":
    main()
