"""Bits per dimension of multi-scale flows on MNIST, beside normflows' Glow after as many steps of the same size.

``GEOFLOW_DATA=<folder> python -m tests.reproduce.run_images [row ...]`` writes results/images.md and its picture.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import plots
from geoflow.datasets import mnist
from geoflow.flows import glow_image
from geoflow.levels import Dequantized, Logit
from geoflow.metrics.bits import bits_per_dim
from tests.reproduce.renewed import RESULTS, needs_data, renew, table

SHAPE, DIM, LEVELS, ALPHA = (1, 28, 28), 784, 256, 0.05
SCALES, DEPTH, CHANNELS = 2, 4, 32
BATCH, STEPS, TRIED, VALID = 64, 1500, 150, 2000
RATES = (2e-3, 5e-3, 1e-2, 2e-2)
INTRO = """# Multi-scale flows on MNIST

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- images` on {date}, torch {version}, one thread, float32. Row by row the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_images <row> ...`.

Bits per dimension of the 10,000 test images, grey levels with uniform noise in [0, 1), divided by 256: the mean of
−(log p − 784 log 256) / (784 log 2) with its standard error over images, one draw of the noise, the same for all. A model
without any idea has 8. All models see a logit with α = {alpha} first.

`geoflow` is `Dequantized(glow_image((1, 28, 28)), 256)`, `normflows` its `MultiscaleFlow` of `GlowBlock`s: {scales} scales
of {depth} blocks, {channels} hidden channels and a learned diagonal Gaussian at each end for both. One loop trains them:
{steps} steps of Adam on {batch} images with fresh noise (1.7 passes; published figures of about 1.05 are of far larger models
and longer runs), a learning rate that falls to zero along a cosine, gradients clipped at norm 50, the last weights. The rate
is the best of four by {valid} images held out of the training set, after {tried} steps; the largest was the best for both.
One seed, so that a hundredth of a bit between two flows ranks neither. Seconds are the processor's. Gaussians of the
logits are fitted in closed form to all other training images.

Channels are mixed by maps that start as the identity: with random permutations, as `glow_image` had at first, the same run
came to 1.874 (held-out training images after {tried} steps: 2.698).

Picture: `images_mnist.png`, test images above draws of the flows that were trained in the last run.
"""


def levels() -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test images, as whole numbers."""
    data = mnist(dequantise=False)
    assert data.test is not None
    x = (data.x * (LEVELS - 1)).round()
    seen, test = x[~data.test], x[data.test]
    order = torch.randperm(len(seen), generator=Generator().manual_seed(0))
    return seen[order[VALID:]], seen[order[:VALID]], test


def noisy(x: Tensor) -> Tensor:
    """The same noise for every model."""
    return (x + torch.rand(x.shape, generator=Generator().manual_seed(1))) / LEVELS


@dataclass
class Model:
    """What the loop needs of a model of y in [0, 1]."""

    module: nn.Module
    start: Callable[[Tensor], Any]
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]


def ours() -> Model:
    flow = glow_image(SHAPE, scales=SCALES, depth=DEPTH, channels=CHANNELS, alpha=ALPHA)
    model = Dequantized(flow, LEVELS)
    return Model(model, model.prepare, flow._log_prob, lambda n: model.sample(n) / (LEVELS - 1))


def theirs() -> Model:
    import normflows as nf

    ends, merges, flows = [], [], []
    for i in range(SCALES):
        c, side = 2 ** (SCALES + 1 - i), 28 // 2 ** (SCALES - i)
        blocks = [nf.flows.GlowBlock(c, CHANNELS, split_mode="channel", scale=True) for _ in range(DEPTH)]
        flows.append([*blocks, nf.flows.Squeeze()])
        merges += [nf.flows.Merge()] if i else []
        ends.append(nf.distributions.DiagGaussian((c // 2 if i else c, side, side)))
    model = nf.MultiscaleFlow(ends, flows, merges, transform=nf.transforms.Logit(ALPHA), class_cond=False)

    def log_prob(y: Tensor) -> Tensor:
        return model.log_prob(y.reshape(-1, *SHAPE), None)

    return Model(
        model,
        lambda x: log_prob(noisy(x[:BATCH])),  # sets the scales of its layers
        log_prob,
        lambda n: model.sample(n)[0].reshape(n, DIM),
    )


def trained(make: Callable[[], Model], x: Tensor, steps: int, rate: float) -> tuple[Model, float]:
    """A fresh model after so many steps, and the seconds of the processor they took."""
    torch.manual_seed(0)
    model = make()
    model.start(x)
    parameters = [p for p in model.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.cat([torch.randperm(len(x)) for _ in range(-(-steps * BATCH // len(x)))])
    start = time.process_time()
    for step in range(steps):
        rows = x[order[step * BATCH : (step + 1) * BATCH]]
        loss = -model.log_prob((rows + torch.rand_like(rows)) / LEVELS).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 50.0)
        optimizer.step()
        schedule.step()
    return model, time.process_time() - start


@torch.no_grad()
def figures(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Bits per dimension and their standard error over images."""
    rows = torch.cat([log_prob(b) for b in noisy(x).split(500)]).double()
    return bits_per_dim(rows, DIM, LEVELS), float(rows.std()) / math.sqrt(len(rows)) / (DIM * math.log(2))


MODELS: dict[str, Callable[[], Model]] = {
    "geoflow": ours,
    "normflows": theirs,
}
SHEETS: dict[str, Tensor] = {}


def flow(name: str) -> Iterator[str]:
    train, valid, test = levels()
    held = {}
    for rate in RATES:
        model, seconds = trained(MODELS[name], train, TRIED, rate)
        held[rate] = figures(model.log_prob, valid)[0]
        yield f"| choose_{name} | {rate:g} | {held[rate]:.3f} | {seconds / TRIED * 1000:.0f} |"
    best = min(RATES, key=lambda r: held[r] if math.isfinite(held[r]) else math.inf)
    model, seconds = trained(MODELS[name], train, STEPS, best)
    model.module.eval()
    bits, error = figures(model.log_prob, test)
    with torch.no_grad():
        SHEETS[name] = model.sample(40).clamp(0, 1)
    count = sum(p.numel() for p in model.module.parameters() if p.requires_grad)
    yield (
        f"| {name} | **{bits:.3f}** ± {error:.3f} | {figures(model.log_prob, valid)[0]:.3f} | {count:,} | {best:g} "
        f"| {seconds:.0f} |"
    )


def gaussians(name: str) -> Iterator[str]:
    """Of the logits: a diagonal covariance, or a full one."""
    train, valid, test = levels()
    logit = Logit(DIM, ALPHA)
    z = torch.cat([logit._encode(b) for b in noisy(train).split(2000)]).double()
    mean, covariance = z.mean(0), torch.cov(z.T)
    if name == "diagonal":
        covariance = covariance.diagonal().diag()
    normal = torch.distributions.MultivariateNormal(mean, covariance)

    def log_prob(y: Tensor) -> Tensor:
        code, log_det = logit._encode_and_log_det(y)
        return normal.log_prob(code.double()) + log_det

    bits, error = figures(log_prob, test)
    count = 2 * DIM if name == "diagonal" else DIM + DIM * (DIM + 1) // 2
    yield f"| {name} | **{bits:.3f}** ± {error:.3f} | {figures(log_prob, valid)[0]:.3f} | {count:,} | – | – |"


ITEMS: dict[str, Callable[[str], Iterator[str]]] = {**dict.fromkeys(("diagonal", "full"), gaussians)}
ITEMS |= dict.fromkeys(MODELS, flow)
HEADS = {
    "## Test images": "| model | bits per dimension | of held-out training images | parameters | rate | seconds |",
    "## How the rate was chosen": f"| run | rate | bits per dimension after {TRIED} steps | ms a step |",
}


def picture() -> None:
    """Test images and draws of each model that was trained in this run."""
    _, _, test = levels()
    sheets = {"test images": test[:40] / (LEVELS - 1), **SHEETS}
    fig = plots.figure(9.0, 1.15 * len(sheets))
    for i, (name, images) in enumerate(sheets.items()):
        ax = fig.add_subplot(len(sheets), 1, i + 1)
        plots.plot_images(images.reshape(2, 20, -1), ax, shape=(28, 28), limits=(0, 1))
        ax.set_title(name, fontsize=8)
    fig.savefig(RESULTS / "images_mnist.png", dpi=90)


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        alpha=ALPHA,
        scales=SCALES,
        depth=DEPTH,
        channels=CHANNELS,
        steps=STEPS,
        batch=BATCH,
        valid=VALID,
        tried=TRIED,
    )
    for title, head in HEADS.items():
        chosen = title != "## Test images"
        body = [line for n in ITEMS for line in lines[n] if line.startswith("| choose_") is chosen]
        text += table(title, head, body)
    return text


def main() -> None:
    needs_data()
    renew("images.md", ITEMS, lambda name: ITEMS[name](name), written, also="choose_")
    if SHEETS:
        picture()


if __name__ == "__main__":
    main()
