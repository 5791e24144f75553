"""GIN beside its controls: two artificial mixtures of known sources, and images by class.

Reads images from the folder that GEOFLOW_DATA names.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from geoflow import datasets, fit, plots
from geoflow.datasets import MixedSources
from geoflow.datasets.folder import _idx, _images
from geoflow.flows import (
    GIN,
    class_moments,
    gin,
    identifiability_gap,
    informative,
    joint_diagonalizer,
    spectrum,
)
from geoflow.metrics import feature_classifier, mean_correlation
from tests.reproduce.renewed import RESULTS, needs_data, renew

INTRO = """# GIN

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- gin` on {date}, torch {version}, one thread, float32. Row by row the same
is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_gin <name> ...`, which renews the rows of those names.

Known sources: two, in five classes, behind ten columns (`datasets.sheared_sources`, `datasets.glow_sources`; the seed is in
the name). {train} rows train, {valid} are held out, and correlations are of {test} more. Figures are MCC, mean correlations
with the sources after the best matching: unless they say otherwise by Pearson, within classes and averaged over them,
since class means lift all of them ("overall"). "GIN" ends in the joint diagonalisation of the classes' covariances; "JD"
gives the same closing step, with the classes, to a control. "Flow without classes" is the same network with as many
steps and restarts. "Raw" and "PCA": the two columns of largest deviation within classes, the first two principal
components. "All columns, JD": linear GIN, all ten columns turned by classes, of which it is told the two that match
best. Of two starts (one for the paper's mixture) the better held-out NLL counts; "held-out NLL" lists GIN's and those
without classes. "2nd / 3rd" is of GIN's spectrum, "gap / floor" the number of informative dimensions by the largest gap of
the spectrum, and by counting deviations above twice the noise's. "Identifiability gap": nats for confusing the true sources
by 45 degrees. "Volume": largest error of log |det J| by autograd on 50 rows, the trained weights in float64 (in float32,
where the determinant is rounded, up to 2e-5 was seen).

Images: pixels are levels / 255 with normal noise of a hundredth, labels are the classes. Epochs: {epochs}. Dense couplings of
width 256. Spectra in units of pixels. "By floor" counts deviations above {floor} times that noise. Then test accuracy of a
linear classifier that sees so many latents, or as many principal components ({decided} training rows). "Confidence": what a
classifier (its accuracy stands behind) gives the own class on average along sweeps of each of the first {swept} latents from
-2 to 2 deviations, the others at the means of the class; the least of a latent, and of a class. Pictures:
`gin_mnist.png`, `gin_fashion_mnist.png`.
{findings}"""
FINDINGS = """
What they show. Shear-2: on each of the six mixtures GIN finds the axes (.97 and more) and two deviations thirty times the third
and more, on seeds 4 and 5 as well, which the earlier recipe below lost. In the mean the flow without classes is .34 below GIN
and the best linear control .17. Volume is kept to rounding. The NLL stays above the truth's, -22.5 for every seed.

The paper's mixture: principal components turned by classes do as well as the flow where the mixing is nearly a permutation.
There the MCC proves little, and the gap is small.

Images: the largest gap of the spectrum counts three, two and four dimensions (MNIST), two, two and three (Fashion-MNIST): not
stable over seeds. Behind it the spectrum falls without a knee, and no latent is at the noise's floor, so that no number of
informative dimensions can be claimed. A linear classifier sees a little less in the first latents than in as many principal
components. Along sweeps the classifier stays sure of digits (.99) and on average of clothes (.85 to .92), not of every class
of them. Five epochs were chosen on another seed of Fashion-MNIST, where they lowered the held-out NLL by a hundred nats
against one, with its confidence (.87) in view. Statistics and noise are the earlier recipe's, for batches hold few rows a class.

How the settings were chosen. An earlier recipe (noise from a tenth of the data's deviation, at its floor after nine tenths
of the steps; statistics that kept nine tenths a batch, without the batch at hand) left the sources in three latents on seeds 4
(MCC .57, second over third deviation 5.5) and 5 (2.5). That was seen first. What follows was measured on other mixtures, of
which 13 and 14 turned out as hard: held-out NLL / MCC / second over third, one start.

| settings | mixture 10 | 11 | 13 | 14 |
|---|---|---|---|---|
| earlier recipe | -17.91 / .979 / 52 | -15.85 / .984 / 45 | -16.88 / .709 / 6.7 | -20.74 / .756 / 4.3 |
| noise from .4 to .002 | – | – | -15.81 / .979 / 46 | -20.38 / .893 / 5.5 |
| statistics with the batch, keeping half | – | – | -17.41 / .532 / 2.2 | -21.12 / .886 / 4.5 |
| these statistics, noise from .4 to .001 | – | – | -17.10 / .986 / 55 | -21.05 / .994 / 19 |
| and at its floor at .6 of the steps | -18.38 / .987 / 79 | -15.02 / .986 / 60 | -17.85 / .984 / 40 | -21.36 / .992 / 18 |
| the same, second start | – | – | -17.32 / .610 / 4.6 | -21.23 / .849 / 7.9 |
| **chosen**: noise from 1 | -17.98 / .983 / 62 | -16.81 / .984 / 48 | -17.21 / .987 / 69 | -21.27 / .991 / 21 |
| the same, second start | – | – | -17.10 / .933 / 117 | -21.25 / .993 / 42 |
| statistics of the batch alone | – | – | -17.45 / .978 / 25 | -21.44 / .992 / 7.4 |
| the same, second start | – | – | -18.06 / .946 / 36 | -21.52 / .996 / 21 |

Held-out NLL alone did not settle it: it hangs on few rows in the tails, and is equal on average for noise from .4 and from 1.
That second starts lost the axes with the former decided, so that correlations had a say, of those two mixtures. Added to the
earlier recipe, half the clamp (.58 on 13, .78 on 14) and twice the depth (.54 on 13) mended nothing. Learned rotations in place
of permutations, with noise from .4, found the axes of 13 and 14 and lost those of 11 (.70); twice the rate lost them on
13's second start (.75). Batches of 1000 at twice the rate without noise, with the earlier statistics: .959 on 10, .972 on 11.

Earlier still, settings without clipped gradients and with noise that stayed at the data's own had been seen on seed 0 (MCC .85)
when the mixtures 10 to 12 spoke against them. All of this was before `fit` averaged weights; the tables are with it, and the
last one holds what was run again: 13 loses its axes with less noise, and the slower statistics do a little worse.
"""
TRAIN, VALID, TEST = 9_000, 1_000, 5_000
SOURCES = 2


# -- sources that are known -------------------------------------------------------------------------------------------


def trained(data: MixedSources, conditional: bool, restarts: int, **options: Any) -> tuple[GIN, list[float]]:
    """The restart of least held-out negative log-likelihood, and those of all."""
    x, held = data.x[:TRAIN], data.x[TRAIN : TRAIN + VALID]
    labels = data.labels if conditional else torch.zeros_like(data.labels)
    training = {k: options.pop(k) for k in ("epochs", "lr", "batch_size")}
    found = []
    for start in range(restarts):
        torch.manual_seed(start)
        flow = gin(10, 5 if conditional else 1, generator=Generator().manual_seed(start), **options)
        history = fit(
            flow,
            x,
            labels[:TRAIN],
            validation=(held, labels[TRAIN : TRAIN + VALID]),
            patience=None,
            seed=start,
            progress=False,
            **training,
        )
        found.append((history.final["loss"], flow))
    return min(found, key=lambda pair: pair[0])[1], [loss for loss, _ in found]


def codes(flow: GIN, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([flow.bijection.encode(b) for b in x.split(2000)])


def largest(z: Tensor, labels: Tensor, k: int = SOURCES) -> Tensor:
    """The k columns of largest root mean square deviation within classes."""
    return z[:, spectrum(class_moments(z, labels).std).argsort(descending=True)[:k]]


def turned(z: Tensor, labels: Tensor) -> Tensor:
    """Columns turned to where classes' covariances of the training rows are most nearly diagonal."""
    moments = class_moments(z[:TRAIN], labels[:TRAIN])
    return z.double() @ joint_diagonalizer(moments.covariance, moments.share).mT


def principal(x: Tensor) -> Tensor:
    vectors = torch.linalg.eigh(torch.cov(x[:TRAIN].double().T)).eigenvectors.flip(1)
    return x.double() @ vectors


def matched(z: Tensor, data: MixedSources, within: bool = True, kind: Any = "pearson") -> float:
    """MCC on the test rows."""
    rows = slice(TRAIN + VALID, None)
    return mean_correlation(z[rows], data.sources[rows], data.labels[rows] if within else None, kind)


def baselines(data: MixedSources) -> dict[str, Tensor]:
    """Two columns each: the largest ones within classes, and all ten turned by classes before two are taken.

    Of those, classes choose axes but not lengths, so that the two which match best are taken: they are told the truth.
    """
    x, labels = data.x, data.labels
    rows = slice(TRAIN + VALID, None)
    both = turned(x, labels)
    table = torch.stack(
        [
            torch.corrcoef(torch.cat([both[rows], data.sources[rows].double()], 1)[labels[rows] == u].T)[:10, 10:]
            for u in range(5)
        ]
    )
    best = table.mean(0).abs().argmax(0)
    if best[0] == best[1]:
        best[1] = table.mean(0).abs()[:, 1].topk(2).indices[1]
    return {"raw": largest(x, labels), "PCA": principal(x)[:, :SOURCES], "all columns, JD": both[:, best]}


def volume_error(flow: GIN, x: Tensor) -> float:
    """Largest |log |det J| − that of the scaler|, by autograd in float64: in float32 it is the determinant that is rough."""
    flow = deepcopy(flow).double()
    jacobian = torch.func.vmap(torch.func.jacrev(flow.bijection._encode))(x.double())
    scaler = flow.bijection.parts[0]
    return float((torch.linalg.slogdet(jacobian).logabsdet + scaler.std.log().sum()).abs().max())


def sources(
    make: Callable[[int, int], MixedSources], options: dict[str, Any], restarts: int, name: str
) -> Iterator[str]:
    seed = int(name.split("_")[1])
    data = make(TRAIN + VALID + TEST, seed)
    start = time.perf_counter()
    flow, losses = trained(data, True, restarts, **options)
    plain, plain_losses = trained(data, False, restarts, **options)
    seconds = time.perf_counter() - start
    z, z_plain = codes(flow, data.x), codes(plain, data.x)[:, :SOURCES]
    flow_spectrum = flow.spectrum
    raw_spectrum = spectrum(class_moments(data.x, data.labels).std).sort(descending=True).values
    linear = baselines(data)
    figures = [
        matched(z[:, :SOURCES], data),
        matched(z[:, :SOURCES], data, kind="spearman"),
        matched(z[:, :SOURCES], data, within=False),
        float(flow_spectrum[1] / flow_spectrum[2]),
        matched(turned(z_plain, data.labels), data),
        matched(z_plain, data),
        matched(turned(linear["raw"], data.labels), data),
        matched(linear["raw"], data),
        matched(turned(linear["PCA"], data.labels), data),
        matched(linear["PCA"], data),
        matched(linear["all columns, JD"], data),
        matched(z_plain, data, within=False),
        matched(linear["raw"], data, within=False),
    ]
    cells = " | ".join(f"{v:.1f}" if i == 3 else f"{v:.3f}" for i, v in enumerate(figures))
    counted = f"{flow.informative()} / {flow.informative(2 * datasets.mixed_sources.NOISE)}"
    gap = float(identifiability_gap(data.std)[0, 1])
    held = ", ".join(f"{v:.2f}" for v in losses) + "; " + ", ".join(f"{v:.2f}" for v in plain_losses)
    yield (
        f"| {name} | {cells} | {counted} | {said(flow_spectrum[:4])} | {said(raw_spectrum[:4])} | {gap:.3f} | {held} "
        f"| {volume_error(flow, data.x[:50]):.0e} | {seconds:.0f} |"
    )


def said(values: Tensor) -> str:
    return " ".join(f"{float(v):.2g}" for v in values)


def summary(lines: list[str], name: str) -> str:
    """Means over the rows of a table with their standard errors, of the columns that are single numbers."""
    columns = list(zip(*[[c.strip() for c in line.strip("|").split("|")][1:] for line in lines], strict=True))
    cells = []
    for column in columns:
        single = all(re.fullmatch(r"-?\d+\.\d+", c) for c in column)
        if not single or len(column) < 2:
            cells.append("–")
            continue
        t = torch.tensor([float(c) for c in column], dtype=torch.float64)
        digits = len(column[0].split(".")[1])
        cells.append(f"{float(t.mean()):.{digits}f} ± {float(t.std()) / math.sqrt(len(t)):.{digits}f}")
    return f"| {name} | " + " | ".join(cells) + " |"


# -- images -----------------------------------------------------------------------------------------------------------


def emnist(dequantise: bool) -> datasets.Dataset:
    """EMNIST's digits, from the four idx files in the folder `emnist`; as published, images stand on their side."""
    root = Path(os.environ["GEOFLOW_DATA"]) / "emnist"
    parts = ("train-images-idx3", "test-images-idx3", "train-labels-idx1", "test-labels-idx1")
    train, test, *labels = (_idx(root / f"emnist-digits-{part}-ubyte.gz") for part in parts)
    sides = train.transpose(0, 2, 1), test.transpose(0, 2, 1)
    return _images("emnist", *sides, *labels, dequantise, 0, "EMNIST digits, 28 × 28.")


LOADERS: dict[str, Callable[..., datasets.Dataset]] = {
    "mnist": datasets.mnist,
    "fashion_mnist": datasets.fashion_mnist,
    "emnist": emnist,
}
PIXEL_NOISE, FLOOR = 1e-2, 1.5
HELD, DECIDED, KEPT, SWEPT = 2_000, 20_000, (10, 20, 40), 10
NET: dict[str, Any] = {"depth": 8, "hidden": (256, 256), "decay": 0.9, "noise": (0.1, 0.001)}
OF_IMAGES: dict[str, Any] = {"epochs": 5, "batch_size": 128, "lr": 2e-3, "patience": None}


class Judge:
    """Images of a set with a classifier of its own: sixty-four learned features, and logistic regression on them."""

    def __init__(self, kind: str) -> None:
        data = LOADERS[kind](dequantise=False)
        assert data.test is not None
        assert data.labels is not None
        x = data.x + PIXEL_NOISE * torch.randn(data.x.shape, generator=Generator().manual_seed(0))
        self.x, self.labels = x[~data.test], data.labels[~data.test]
        self.test, self.test_labels = x[data.test], data.labels[data.test]
        self.axes = torch.linalg.eigh(torch.cov(self.x.T)).eigenvectors.flip(1)
        self.features = feature_classifier(self.x, self.labels, progress=False)
        self.head = decides(self._seen(self.x[:DECIDED]), self.labels[:DECIDED])
        self.right = float(self.head.score(self._seen(self.test).numpy(), self.test_labels.numpy()))
        self.by_pca = {k: self.accuracy(lambda rows, k=k: rows @ self.axes[:, :k]) for k in KEPT}

    @torch.no_grad()
    def _seen(self, x: Tensor) -> Tensor:
        return torch.cat([self.features(b) for b in x.split(2000)])

    def accuracy(self, columns: Callable[[Tensor], Tensor]) -> float:
        """On test images, of a linear classifier that sees these columns of them."""
        head = decides(columns(self.x[:DECIDED]), self.labels[:DECIDED])
        return float(head.score(columns(self.test).numpy(), self.test_labels.numpy()))

    def confidence(self, x: Tensor, labels: Tensor) -> Tensor:
        """Probability that the classifier gives each image's own class."""
        found = torch.as_tensor(self.head.predict_proba(self._seen(x).numpy()))
        return found[torch.arange(len(x)), labels]


@cache
def judge(kind: str) -> Judge:
    return Judge(kind)


def decides(x: Tensor, labels: Tensor) -> Any:
    """Logistic regression on standardised columns."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(x.numpy(), labels.numpy())


def images(name: str) -> Iterator[str]:
    kind, number = name.rsplit("_", 1)
    try:
        seed, seen = int(number), judge(kind)
    except FileNotFoundError:
        yield f"| {name} | data absent" + " | –" * (IMAGE_HEAD.count("|") - 3) + " |"
        return
    start = time.perf_counter()
    torch.manual_seed(seed)
    flow = gin(784, 10, generator=Generator().manual_seed(seed), **NET)
    held = seen.x[:HELD], seen.labels[:HELD]
    fit(flow, seen.x[HELD:], seen.labels[HELD:], validation=held, seed=seed, progress=False, **OF_IMAGES)
    seconds = time.perf_counter() - start
    deviations = factor(flow) * flow.spectrum
    kept = [f"{seen.accuracy(lambda x, k=k: codes(flow, x)[:, :k]):.3f} / {seen.by_pca[k]:.3f}" for k in KEPT]
    classes = torch.arange(10)
    along = torch.stack([flow.sweep(i, classes, steps=9) for i in range(SWEPT)])  # (latent, class, step, pixel)
    truth = classes[None, :, None].expand(along.shape[:-1])
    sure = seen.confidence(along.flatten(0, 2), truth.flatten()).reshape(truth.shape)
    if not seed:
        pictures(kind, flow, spectrum(class_moments(seen.x @ seen.axes, seen.labels).std))
    changed = volume_error(flow, seen.test[:2])
    yield (
        f"| {name} | {flow.evaluate(seen.test, seen.test_labels)['loss']:.1f} | {flow.informative()} "
        f"| {informative(deviations, FLOOR * PIXEL_NOISE)} | {said(deviations[[0, 1, 4, 9, 19, 39, 79, 159, 319, 639]])} "
        f"| {' | '.join(kept)} | {float(sure.mean()):.3f} | {float(sure.mean((1, 2)).min()):.3f} "
        f"| {float(sure.mean((0, 2)).min()):.3f} | {seen.right:.4f} | {changed:.0e} | {seconds:.0f} |"
    )


def factor(flow: GIN) -> float:
    """From latents' units to those of the pixels: the scaler's one factor."""
    return float(flow.bijection.parts[0].std[0])


def pictures(kind: str, flow: GIN, raw: Tensor) -> None:
    """Spectrum, and sweeps along the first latents for each class."""
    fig = plots.figure(11, 6.2)
    left, right = fig.subplots(1, 2, width_ratios=[1, 2.2])
    plots.plot_spectrum({"GIN": factor(flow) * flow.spectrum, "principal components": raw}, left, marker="")
    classes, latents = torch.arange(10), range(4)
    strips = torch.stack(
        [flow.sweep(i, classes, steps=5)[:, [0, 2, 4]] for i in latents], 1
    )  # (class, latent, step, ·)
    plots.plot_images(strips.flatten(1, 2), right, shape=(28, 28), limits=(0, 1))
    right.set(title="each class at -2, 0 and 2 deviations of the first four latents")
    fig.savefig(RESULTS / f"gin_{kind}.png", dpi=75)


# -- what is run ------------------------------------------------------------------------------------------------------

FIT: dict[str, Any] = {"depth": 8, "hidden": (64, 64), "epochs": 120, "batch_size": 256, "lr": 5e-3}
TRIED: dict[str, dict[str, Any]] = {
    "as chosen": {},
    "noise from a tenth of the data's deviation": {"noise": (0.1, 0.001)},
    "slower statistics": {"decay": 0.9},
}


def choose(name: str) -> Iterator[str]:
    """Settings on another mixture: held-out likelihood, and what was found."""
    data = datasets.sheared_sources(TRAIN + VALID + TEST, int(name.split("_")[1]))
    for what, change in TRIED.items():
        flow, losses = trained(data, True, 1, **{**FIT, **change})
        z = codes(flow, data.x)[:, :SOURCES]
        yield f"| {name} | {what} | {losses[0]:.2f} | {matched(z, data):.3f} |"


KNOWN_HEAD = (
    "| run | GIN | Spearman | overall | 2nd / 3rd | flow without classes, JD | without JD | raw, JD | raw | PCA, JD | PCA "
    "| all columns, JD | flow without classes, overall | raw, overall | gap / floor | spectrum | raw spectrum "
    "| identifiability gap | held-out NLL | volume | seconds |"
)
IMAGE_HEAD = (
    "| run | test NLL | by gap | by floor | spectrum at 1, 2, 5, 10, 20, 40 ... 640 "
    + "".join(f"| {k} latents / PCA " for k in KEPT)
    + "| confidence | least of a latent | least of a class | classifier | volume | seconds |"
)
SHEAR, GLOW = [f"shear_{i}" for i in range(6)], [f"glow_{i}" for i in range(4)]
IMAGES = [*(f"{k}_{i}" for k in ("mnist", "fashion_mnist") for i in range(3)), "emnist_0"]
CHOICES = [f"choose_{i}" for i in (13, 14)]
ITEMS: dict[str, Callable[[str], Iterator[str]]] = {
    **dict.fromkeys(SHEAR, partial(sources, datasets.sheared_sources, FIT, 2)),
    **dict.fromkeys(GLOW, partial(sources, datasets.glow_sources, {**FIT, "epochs": 60}, 1)),
    **dict.fromkeys(IMAGES, images),
    **dict.fromkeys(CHOICES, choose),
}
HEADS = {
    "## Shear-2": (KNOWN_HEAD, SHEAR),
    "## The paper's mixture": (KNOWN_HEAD, GLOW),
    "## Images": (IMAGE_HEAD, IMAGES),
    "## How the settings were chosen": ("| run | settings | held-out NLL | GIN |", CHOICES),
}


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        train=TRAIN,
        valid=VALID,
        test=TEST,
        epochs=OF_IMAGES["epochs"],
        floor=FLOOR,
        decided=DECIDED,
        swept=SWEPT,
        findings=FINDINGS,
    )
    for title, (head, names) in HEADS.items():
        rows = [line for name in names for line in lines.get(name, [])]
        if not rows:
            continue
        if names in (SHEAR, GLOW) and len(rows) > 1:
            rows.append(summary(rows, "**mean**"))
        text += f"\n{title}\n\n" + "\n".join([head, re.sub("[^|]+", "---", head), *rows]) + "\n"
    return text


def main() -> None:
    needs_data()
    renew("gin.md", ITEMS, lambda name: ITEMS[name](name), written)


if __name__ == "__main__":
    main()
