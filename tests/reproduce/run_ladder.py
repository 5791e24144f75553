"""FlexAE's ladder: priors of growing capacity on few images, beside priors fitted afterwards to the same auto-encoder.

``GEOFLOW_DATA=<folder> python -m tests.reproduce.run_ladder [row ...]`` writes results/flexae-ladder.md; a row is a set of
images and a number of them, as ``"mnist 1000"``.
"""

import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import mean, stdev

import torch
from torch import Tensor

from geoflow import StandardNormal, fit
from geoflow.autoencoders import LatentModel, PushForward, recipes
from geoflow.nets import MLP
from tests.reproduce.images_seen import DRAWS, IMAGES, Seen, draws, reconstructed, seen
from tests.reproduce.landscape import with_prior
from tests.reproduce.renewed import RESULTS, needs_data, renew, table

STEPS, BATCH, SEEDS, LR = 600, 100, 3, 1e-3
LADDER: dict[str, Sequence[int] | None] = {
    "1: the normal itself": None,
    "2: linear": (),
    "3: 16": (16,),
    "4: 64": (64,),
    "5: 256-256": (256, 256),
    "6: 1024-1024-1024-1024": (1024,) * 4,
}
AFTER = ("GMM10", "flow")
NAMES = [f"{images} {n}" for images in ("mnist", "cifar10") for n in (1000, 2000, 10_000)]
HEAD = "| images, rows | prior | reconstruction | FD of reconstructions | FD of draws | least inside? |"
INTRO = """# FlexAE's ladder of priors

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- ladder` on {date}, torch {version}, one thread, float32. Row by row the same
is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_ladder "<images rows>" ...`.

`recipes.flexae` with the networks of the landscape (`tests/reproduce/images_seen.py`; critic 256-256-256), its prior the
push-forward of N(0, I) by a perceptron of growing width and depth, on N training images; the first rung has no network, the
prior is N(0, I). {steps} steps in batches of {batch} whatever N, Adam at {lr:g} falling along a cosine, the last weights: fixed
before. Below each ladder the same networks as a plain auto-encoder for as many steps, with a mixture or flow fitted to codes
afterwards; of 10,000 rows these alone. FD of {draws:,} draws (and reconstructions) as in rae-landscape.md, with standard errors
over {seeds} seeds. "Least inside": the smallest FD of draws of the ladder is neither at its first nor its last rung, and by
more than two standard errors below both.
"""
READING = """
## What it says

Digits: there is an inner least, at the fifth of six rungs and clearly below both ends, with 1,000 and with 2,000 images. The
largest prior may be short of training rather than too rich: steps are as many for all. Can the prior be done away with? Ten
Gaussians fitted afterwards to the codes of a plain auto-encoder are nearer than every rung, with 1,000 images as with 10,000.

CIFAR-10: no inner least. The networks do not reconstruct it (no distance of reconstructions below 790, where the mean image has
2,474), and the least distance, of N(0, I), is an accident. Of seed 0, 1,000 images, codes have a deviation of .25, since the
encoder hardly moves in so few steps at a twentieth of the rate. So draws are codes four times too large, which decode to noise
that has the contrast of real images (differences of neighbouring pixels .094, real ones .091, reconstructions .025; variance of
all pixels 194, 190, 117) and is nearer to them under these features than their own reconstructions are. By eye they are noise.
Of the other rungs the last is farthest; the priors fitted afterwards are nearer in the mean than all of them, clearly so with
2,000 images, and about as near as reconstructions.
"""


@cache
def images(name: str) -> Seen:
    return seen(name)


def trained(model: LatentModel, x: Tensor, seed: int) -> LatentModel:
    """After so many steps, whatever the number of rows."""
    fit(
        model,
        x,
        epochs=STEPS * BATCH // len(x),
        batch_size=BATCH,
        lr=LR,
        validation=0,
        seed=seed,
        progress=False,
    )
    return model


def rung(name: str, x: Tensor, what: str, seed: int) -> LatentModel:
    """A model of the ladder, trained."""
    torch.manual_seed(seed)
    m, widths = IMAGES[name].latent, LADDER[what]
    prior = StandardNormal(m) if widths is None else PushForward(MLP(m, m, widths), m, m)
    model = recipes.flexae(x.shape[1], m, prior=prior, hidden=IMAGES[name].hidden, critic=(256, 256, 256))
    return trained(model, x, seed)


def row(name: str) -> Iterator[str]:
    which, n = name.split(" ")[0], int(name.split(" ")[1])
    data = images(which)
    x = data.train[:n]
    found: dict[str, list[tuple[float, float, float]]] = {}

    def judged(what: str, model: LatentModel) -> None:
        back = reconstructed(model, data.test)
        off = float((back - data.test).square().sum(1).mean())
        found.setdefault(what, []).append((off, data.report(back).distance, data.report(draws(model)).distance))

    for seed in range(SEEDS):
        for what in LADDER if n < 10_000 else ():
            judged(what, rung(which, x, what, seed))
        torch.manual_seed(seed)
        plain = recipes.rae(x.shape[1], IMAGES[which].latent, kind="none", embedding=0.0, hidden=IMAGES[which].hidden)
        trained(plain, x, seed)
        for prior in AFTER:
            judged(f"AE, {prior}", with_prior(plain, prior, x, IMAGES[which].hidden, seed))
    verdict = inside([[far for _, _, far in found[w]] for w in LADDER]) if n < 10_000 else "–"
    for what, runs in found.items():
        off, back, far = ([r[i] for r in runs] for i in range(3))
        said = verdict if what == next(iter(LADDER)) else ""
        yield f"| {name} | {what} | {mean(off):.1f} | {spread(back)} | **{spread(far)}** | {said} |"


def spread(values: Sequence[float]) -> str:
    """Mean and its standard error."""
    return f"{mean(values):.1f} ± {error(values):.1f}"


def error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values))


def inside(rungs: Sequence[Sequence[float]]) -> str:
    """Whether the least mean is an inner one, clearly below both ends."""
    means = [mean(r) for r in rungs]
    best = min(range(len(rungs)), key=means.__getitem__)
    if best in (0, len(rungs) - 1):
        return f"no: least at rung {best + 1}"
    clear = all(means[e] - means[best] > 2 * math.hypot(error(rungs[e]), error(rungs[best])) for e in (0, -1))
    return f"{'yes' if clear else 'not clearly'}: rung {best + 1}"


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        steps=STEPS,
        batch=BATCH,
        lr=LR,
        draws=DRAWS,
        seeds=SEEDS,
    )
    body = [line for n in NAMES for line in lines[n]]
    return text + table("", HEAD, body) + READING


def main() -> None:
    needs_data()
    RESULTS.mkdir(exist_ok=True)
    renew("flexae-ladder.md", NAMES, row, written)


if __name__ == "__main__":
    main()
