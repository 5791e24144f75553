"""Maximum likelihood auto-encoders beside plain ones with a mixture: images through sixteen numbers, and two tables.

Reads images and tables from the folder that GEOFLOW_DATA names.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Generator, Tensor

from geoflow import FreeFormFlow, GaussianMixture, Pair, StandardNormal, datasets, fit, plots
from geoflow.columns import Standardize
from geoflow.datasets import Dataset
from geoflow.density import Context, Density, Sampler, log_prob_in_blocks, weighted_mean
from geoflow.flows import realnvp
from geoflow.freeform import mlae
from geoflow.maps import Chain
from geoflow.metrics import (
    FrechetReport,
    ImageFeatures,
    feature_classifier,
    frechet,
    frechet_report,
    gaussian_w2,
    precision_recall,
)
from geoflow.metrics.frechet import in_blocks
from geoflow.nets import ResidualNet
from tests.reproduce.renewed import RESULTS, needs_data, renew, table

INTRO = """# Maximum likelihood auto-encoders

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- mlae` on {date}, torch {version}, one thread, float32. Part by part the same
is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_mlae <name> ...`, which renews the rows of those names.

"MLAE" is `geoflow.freeform.mlae` with noise .01, for images with the dense networks below. "AE" has the same networks from
the same start and sees the same noisy rows for as many epochs and at the same learning rate, but learns reconstruction
alone. What codes are drawn from: N(0, I), with which the MLAE is trained; a mixture of Gaussians, or coupling flow, fitted
afterwards to the codes of training rows ({fitted} of them for mixtures), with the networks as they are. Test rows choose
nothing. NLL on the manifold, in nats, is against the volume of the surface that each decoder draws: it compares bases on
one surface, not surfaces. Inverse defect: median over {rows} test rows of |J_e J_d - 1|; above .5 the library calls the
model invalid, since the density is then that of another map. Seconds are those of training, and for images of fitting the
base; the machine was shared.

Images. Pixels are levels / 255, standardised by one factor: β 1 is 15 (MNIST) and 11 (Fashion-MNIST) per squared level. β is
that of the nearest draws from N(0, I) among valid models after two epochs, by {valid} of the 60,000 training images (last
table). Networks: residual ones of width 256 with two blocks each way, {epochs} epochs in batches of {batch}, one seed: minutes,
where the paper took 2,000 epochs. Convolutions (`image_shape=`) take three and a half times as long a step and had come
less far in the same time.
Reconstruction: mean squared error of a pixel of the 10,000 test images.
FD[conv64]: squared 2-Wasserstein distance of Gaussians fitted to 64 features, those of a small classifier trained on the
training images of the same set (`feature_classifier`; it is no FID, and compares within one set alone), between {draws}
draws and the test images; in brackets the same between the floor, 0, and the mean image, 1. "of reconstructions": the same for
decode(encode(test)), which no base can be expected to beat. Precision and recall: k = 3, the same features, {valid} draws
and {valid} test images.

Tables. Columns are standardised by the training rows. POWER: one month of the UCI set, all seven columns, three latent
coordinates as in the paper, a random tenth of the minutes as test rows as the paper's benchmark has it. Minutes are like
their neighbours, so this asks for interpolation: with whole days held out the floor alone is .4 to .7. The published
figure is of another cut (four years, six columns). Protein: UCI, the ten columns with the target among them, five latent
coordinates (half of them), the test rows of fold 0. A ninth of the other rows is for validation: of β, and of the
mixture's number of components (5, 10 or 20) for MLAE and AE alike. {table_epochs} epochs in batches of {batch}, width 128, two
blocks, {seeds} seeds of split, start and order; means with their standard errors. Reconstruction: mean squared error of a
standardised column. Squared W2: |m - m'|² + tr(C + C' - 2(CC')^(1/2)) between {draws} draws and the test rows. The floor is
that of {draws} training rows. "Gaussian on principal components" has the mean of the training rows and their covariance, on
as many directions as there are latent coordinates.

What they show. Trained for minutes, an MLAE's codes are not yet N(0, I): a mixture fitted to them afterwards brings its draws
several times nearer, and without it protein's are farther than a flat Gaussian's. With that mixture the draws of plain
auto-encoders are as near (a little nearer in three sets, a little farther in Fashion-MNIST), and but for protein they
reconstruct a little better: here the likelihood buys codes that can be drawn from without a second fit, not better draws
after one. Coupling flows give codes a higher likelihood than mixtures
and at least their recall, but means and covariances of features that are farther off. Most image models are called invalid, and
POWER's are on the edge of it: the largest of their stretches is off by about a half or more.

Pictures: `mlae_mnist.png` and `mlae_fashion_mnist.png`, test images with their reconstructions above draws of every model.
"""
Beta = float | Literal["auto"]
OF_IMAGES: tuple[Beta, ...] = (1.0, 3.0, 10.0, 30.0)
OF_TABLES: tuple[Beta, ...] = (3.0, 10.0, 30.0, 100.0, "auto")
SEEDS, DRAWS, FITTED, VALID, ROWS, BATCH = 3, 10_000, 10_000, 5_000, 256, 128


class Reconstruction(Sampler):
    """Trains the networks of a free-form flow as a plain auto-encoder: on the same noisy rows, by reconstruction alone."""

    def __init__(self, flow: FreeFormFlow) -> None:
        super().__init__()
        self.flow, self.space = flow, flow.space

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.flow._sample(shape, context, generator)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        self.flow.prepare(x)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        x = self.flow._noisy(x)
        back = self.flow.autoencoder._decode(self.flow.autoencoder._encode(x))
        return {"loss": weighted_mean(self.flow._squared(x, back), weight)}

    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(self.loss(x, weight=weight)["loss"])}


def trained(kind: str, flow: FreeFormFlow, x: Tensor, epochs: int, seed: int = 0) -> float:
    """Trains the flow in place, as "MLAE" or as "AE", on all rows and to the last step; returns the seconds."""
    start = time.perf_counter()
    fit(
        flow if kind == "MLAE" else Reconstruction(flow),
        x,
        epochs=epochs,
        batch_size=BATCH,
        lr=2e-3,
        validation=0,
        seed=seed,
        progress=False,
    )
    flow.eval()
    return time.perf_counter() - start


@torch.no_grad()
def codes_of(flow: FreeFormFlow, x: Tensor) -> Tensor:
    return torch.cat([flow.autoencoder.encode(b) for b in x.split(2000)])


@torch.no_grad()
def reconstructed(flow: FreeFormFlow, x: Tensor) -> Tensor:
    return torch.cat([flow.autoencoder.reconstruct(b) for b in x.split(2000)])


def draws(flow: FreeFormFlow, n: int = DRAWS) -> Tensor:
    generator = Generator().manual_seed(0)
    return torch.cat([flow.sample(min(2000, n - i), generator=generator) for i in range(0, n, 2000)])


@torch.no_grad()
def nll_of(flow: FreeFormFlow, x: Tensor) -> float:
    return -float(flow.log_prob_on_manifold(x).mean())


def shuffled(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=Generator().manual_seed(seed))


def said(flow: FreeFormFlow, figures: dict[str, float]) -> str:
    return "invalid" if flow.verdict(figures) else "valid"


# -- images ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """A set of images and how they are trained on.

    Attributes:
        load: the rows.
        beta: as chosen on validation rows.
        epochs, tried: of the training, and of those that choose β.
    """

    load: Callable[..., Dataset]
    beta: Beta
    epochs: int = 5
    tried: int = 2


IMAGES = {"mnist": Images(datasets.mnist, 1.0), "fashion_mnist": Images(datasets.fashion_mnist, 3.0)}


@dataclass(frozen=True)
class Shown:
    """Training, validation and test rows of a set of images, and its feature map."""

    train: Tensor
    valid: Tensor
    test: Tensor
    features: ImageFeatures

    def report(self, made: Tensor, real: Tensor) -> FrechetReport:
        return frechet_report(self.features, self.train, real, made)

    def inside(self, made: Tensor) -> str:
        """Precision and recall of as many draws and test images as there are for validation."""
        real, fake = (in_blocks(self.features, x[:VALID], 1000) for x in (self.test, made))
        found = precision_recall(real, fake)
        return f"{found.precision:.3f} / {found.recall:.3f}"


def shown(name: str) -> Shown:
    data = IMAGES[name].load(dequantise=False)
    assert data.test is not None
    assert data.labels is not None
    seen = (~data.test).nonzero()[:, 0]
    seen = seen[shuffled(len(seen), 0)]
    train, valid = seen[VALID:], seen[:VALID]
    features = feature_classifier(data.x[train], data.labels[train], progress=False)
    return Shown(data.x[train], data.x[valid], data.x[data.test], features)


def of_images(beta: Beta) -> FreeFormFlow:
    """`mlae` with dense networks for images: on one thread they come further in the same time than convolutions."""
    torch.manual_seed(0)
    there, back = (ResidualNet(a, b, 256, 2) for a, b in ((784, 16), (16, 784)))
    nets = Chain(Standardize(784, "all"), Pair(there, back, dim=784, latent_dim=16))
    return FreeFormFlow(nets, StandardNormal(16), beta=beta, noise=0.01)


def fitted_to(codes: Tensor) -> tuple[dict[str, Density], dict[str, float]]:
    """Densities of codes, and the seconds that fitting them took."""
    start = time.perf_counter()
    mixture = GaussianMixture.from_data(codes[:FITTED], components=10)
    between = time.perf_counter()
    torch.manual_seed(0)
    coupling = realnvp(codes.shape[1])
    fit(coupling, codes, epochs=5, seed=0, progress=False)
    end = time.perf_counter()
    return {"GMM10": mixture, "coupling flow": coupling}, {"GMM10": between - start, "coupling flow": end - between}


def images(name: str) -> Iterator[str]:
    settings, seen = IMAGES[name], shown(name)
    sheets: dict[str, Tensor] = {"test images": seen.test[:16]}
    floor = seen.report(seen.train[:DRAWS], seen.test)
    yield (
        f"| {name} | training images: the floor | – | – | {floor.floor:.2f} (0) "
        f"| {seen.inside(seen.train)} | – | – | – | – |"
    )
    yield f"| {name} | the mean image | – | – | {floor.mean_image:.2f} (1) | – | – | – | – | – |"
    for kind in ("MLAE", "AE"):
        flow = of_images(settings.beta)
        seconds = trained(kind, flow, seen.train, settings.epochs)
        back = reconstructed(flow, seen.test)
        off, limit = float((back - seen.test).square().mean()), seen.report(back, seen.test)
        sheets[f"{kind}, reconstructed"] = back[:16]
        figures = flow.evaluate(seen.test[:ROWS])
        bases, taken = fitted_to(codes_of(flow, seen.train))
        if kind == "MLAE":
            bases, taken = {"N(0, I)": flow.base, **bases}, {"N(0, I)": 0.0, **taken}
        for base, density in bases.items():
            model = flow.with_base(density).eval()
            made, nll = draws(model), nll_of(model, seen.test[:ROWS])
            far = seen.report(made, seen.test)
            sheets[f"{kind}, {base}"] = made[:64]
            yield (
                f"| {name} | {kind}, {base} | {off:.5f} | {limit.distance:.2f} | **{far.distance:.2f}** "
                f"({far.relative:.4f}) | {seen.inside(made)} "
                f"| {nll:.2f} | {figures['inverse defect']:.3f} | {said(flow, figures)} "
                f"| {seconds:.0f} + {taken[base]:.0f} |"
            )
    picture(name, sheets)


def picture(name: str, sheets: dict[str, Tensor]) -> None:
    """Strips of reconstructions above sheets of eight times eight draws."""
    strips = [k for k, x in sheets.items() if len(x) == 16]
    grids = [k for k in sheets if k not in strips]
    fig = plots.figure(3.2 * len(grids), 6.6)
    places = fig.add_gridspec(2, len(grids), height_ratios=[0.9, 1])
    ax = fig.add_subplot(places[0, :])
    plots.plot_images(torch.stack([sheets[k] for k in strips]), ax, shape=(28, 28), limits=(0, 1))
    ax.set_yticks([14 + 29 * i for i in range(len(strips))], strips)
    ax.tick_params(length=0)
    for i, k in enumerate(grids):
        ax = fig.add_subplot(places[1, i])
        plots.plot_images(sheets[k].reshape(8, 8, -1), ax, shape=(28, 28), limits=(0, 1))
        ax.set_title(k)
    path = RESULTS / f"mlae_{name}.png"
    fig.savefig(path, dpi=75)
    Image.open(path).convert("L").quantize(32).save(path, optimize=True)


def choose_images(name: str) -> Iterator[str]:
    """Short trainings for each β, judged on validation rows."""
    seen = shown(name)
    for beta in OF_IMAGES:
        flow = of_images(beta)
        trained("MLAE", flow, seen.train, IMAGES[name].tried)
        figures = flow.evaluate(seen.valid[:ROWS])
        off = float((reconstructed(flow, seen.valid) - seen.valid).square().mean())
        far = seen.report(draws(flow), seen.valid)
        yield (
            f"| choose_{name} | {beta} | {IMAGES[name].tried} | {off:.5f} | {far.distance:.2f} "
            f"| {figures['inverse defect']:.3f} | {said(flow, figures)} |"
        )


# -- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table and how it is trained on.

    Attributes:
        load: rows to train and validate on, test rows.
        latent: number of latent coordinates.
        beta: as chosen on validation rows.
        published: figure of another cut of the data.
        epochs: of the training.
    """

    load: Callable[[], tuple[Tensor, Tensor]]
    latent: int
    beta: Beta
    published: str
    epochs: int = 8


def power() -> tuple[Tensor, Tensor]:
    """A random tenth of the minutes as test rows, as the benchmark of the whole set does."""
    x = datasets.power_subset().x
    order = shuffled(len(x), 0)
    return x[order[len(x) // 10 :]], x[order[: len(x) // 10]]


def protein() -> tuple[Tensor, Tensor]:
    """The published test rows of the first of ten folds."""
    data = datasets.uci_regression("protein")
    assert data.test is not None
    return data.x[~data.test], data.x[data.test]


TABLES = {"power": Table(power, 3, 30.0, ".041 ± .007"), "protein": Table(protein, 5, 30.0, "–")}


@dataclass(frozen=True)
class Parts:
    """Standardised training, validation and test rows."""

    train: Tensor
    valid: Tensor
    test: Tensor


def parts(name: str, seed: int) -> Parts:
    rows, test = TABLES[name].load()
    order = shuffled(len(rows), seed)
    cut = len(rows) // 9
    train = rows[order[cut:]]
    mean, std = train.mean(0), train.std(0)
    return Parts(*((x - mean) / std for x in (train, rows[order[:cut]], test)))


def of_table(name: str, beta: Beta, x: Tensor, seed: int) -> FreeFormFlow:
    torch.manual_seed(seed)
    return mlae(x.shape[1], TABLES[name].latent, beta=beta)  # type: ignore[arg-type]


def mixture(codes: Tensor, held: Tensor) -> GaussianMixture:
    """Of as many Gaussians as give validation rows' codes the largest likelihood."""
    tried = [GaussianMixture.from_data(codes[:FITTED], components=k) for k in (5, 10, 20)]
    return max(tried, key=lambda m: float(log_prob_in_blocks(m, held).mean()))


def tables(name: str) -> Iterator[str]:
    settings = TABLES[name]
    found: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        rows = parts(name, seed)
        found.setdefault("training rows: the floor", []).append(
            [math.nan, frechet(rows.train[shuffled(len(rows.train), 0)[:DRAWS]], rows.test), *3 * [math.nan]]
        )
        found.setdefault("Gaussian on principal components", []).append([*flat(rows, settings.latent), *3 * [math.nan]])
        for kind in ("MLAE", "AE"):
            flow = of_table(name, settings.beta, rows.train, seed)
            seconds = trained(kind, flow, rows.train, settings.epochs, seed)
            off = float((reconstructed(flow, rows.test) - rows.test).square().mean())
            bases = {"GMM": mixture(codes_of(flow, rows.train), codes_of(flow, rows.valid))}
            if kind == "MLAE":
                bases = {"N(0, I)": flow.base, **bases}  # type: ignore[dict-item]
            for base, density in bases.items():
                model = flow.with_base(density).eval()
                figures = model.evaluate(rows.test[:ROWS])
                found.setdefault(f"{kind}, {base}", []).append(
                    [
                        off,
                        frechet(draws(model), rows.test),
                        figures["nll on the manifold"],
                        figures["inverse defect"],
                        seconds,
                    ]
                )
    for what, runs in found.items():
        offs, fars, nlls, defects, times = ([r[i] for r in runs] for i in range(5))
        yield (
            f"| {name} | {what} | {spread(offs, 4)} | **{spread(fars, 3)}** | {spread(nlls, 2)} | {spread(defects, 3)} "
            f"| {settings.published if what == 'MLAE, N(0, I)' else '–'} | {spread(times, 0).split(' ')[0]} |"
        )


def flat(rows: Parts, latent: int) -> tuple[float, float]:
    """Reconstruction and distance of the Gaussian on as many principal components."""
    c = torch.cov(rows.train.T.double())
    values, vectors = torch.linalg.eigh(c)
    values, vectors = values[-latent:], vectors[:, -latent:]
    test = rows.test.double()
    off = float((test @ vectors @ vectors.T - test).square().mean())
    here = (vectors * values) @ vectors.T
    return off, gaussian_w2(rows.train.double().mean(0), here, test.mean(0), torch.cov(test.T))


def spread(values: list[float], digits: int) -> str:
    """Mean and its standard error over seeds."""
    if any(math.isnan(v) for v in values):
        return "–"
    t = torch.tensor(values, dtype=torch.float64)
    return f"{float(t.mean()):.{digits}f} ± {float(t.std()) / math.sqrt(len(t)):.{digits}f}"


def choose_tables(name: str) -> Iterator[str]:
    """The first seed's training for each β, judged on its validation rows."""
    rows = parts(name, 0)
    for beta in OF_TABLES:
        flow = of_table(name, beta, rows.train, 0)
        trained("MLAE", flow, rows.train, TABLES[name].epochs)
        figures = flow.evaluate(rows.valid[:ROWS])
        off = float((reconstructed(flow, rows.valid) - rows.valid).square().mean())
        yield (
            f"| choose_{name} | {beta} | {TABLES[name].epochs} | {off:.5f} | {frechet(draws(flow), rows.valid):.3f} "
            f"| {figures['inverse defect']:.3f} | {said(flow, figures)} |"
        )


ITEMS: dict[str, Callable[[str], Iterator[str]]] = {
    **dict.fromkeys(IMAGES, images),
    **dict.fromkeys(TABLES, tables),
    **{f"choose_{name}": lambda n: choose_images(n.removeprefix("choose_")) for name in IMAGES},
    **{f"choose_{name}": lambda n: choose_tables(n.removeprefix("choose_")) for name in TABLES},
}


HEADS = {
    "## Images": (
        "| images | model | reconstruction | FD of reconstructions | FD of draws | precision / recall | NLL on the manifold "
        "| inverse defect | verdict | seconds |",
        list(IMAGES),
    ),
    "## Tables": (
        "| table | model | reconstruction | squared W2 | NLL on the manifold | inverse defect | published | seconds |",
        list(TABLES),
    ),
    "## How β was chosen": (
        "| run | β | epochs | reconstruction | FD or squared W2 | inverse defect | verdict |",
        [n for n in ITEMS if n.startswith("choose_")],
    ),
}


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        draws=DRAWS,
        fitted=FITTED,
        valid=VALID,
        rows=ROWS,
        batch=BATCH,
        seeds=SEEDS,
        epochs=IMAGES["mnist"].epochs,
        table_epochs=TABLES["power"].epochs,
    )
    for title, (head, names) in HEADS.items():
        body = [line for n in names for line in lines[n]]
        text += table(title, head, body)
    return text


def main() -> None:
    needs_data()
    renew("mlae.md", ITEMS, lambda name: ITEMS[name](name), written)


if __name__ == "__main__":
    main()
