"""What a latent is for: ways between images, attributes moved, and the training images nearest to draws.

Reads MNIST from the folder that GEOFLOW_DATA names.
"""

import copy
import functools
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor

from geoflow import Density, FermatSpace, GaussianMixture, LatentModel, StandardNormal, datasets, fit, plots
from geoflow.autoencoders import attribute_direction, fit_prior, manipulated, recipes
from geoflow.distances import nearest
from geoflow.flows import realnvp
from geoflow.metrics import ImageFeatures, copying, feature_classifier
from tests.reproduce.renewed import RESULTS, needs_data, renew

INTRO = """# Uses of a latent: ways, attributes, neighbours

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- latent_paths` on {date}, torch {version}, one thread. Part by part the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_latent_paths <name> ...`, which renews the rows of those names.

MNIST, levels / 255. {train:,} training images, drawn at random, train the auto-encoders, perceptrons 784-256-256-16 and their
mirror, {epochs} epochs in batches of 100 at a learning rate of 1e-3, the last weights of one seed: `recipes.vae` with a
Bernoulli cost, and `recipes.wae_mmd`. Priors are fitted afterwards to codes of the same images by `fit_prior`: a mixture of
ten Gaussians, and a coupling flow. {judge:,} other training images teach a classifier (`feature_classifier`, and on its 64
features a logistic regression with {head:,} images that neither it nor the auto-encoder has seen, so that its confidence is
honest): {accuracy:.1%} right on the 10,000 test images. Sizes, rates and steps are defaults or fixed beforehand. After a
first look at test images β = 4/d and 1 were added to the default, and `attribute_direction` was mended: with `ridge` it
fitted means of codes, and collapsed dimensions took the direction over. Test images choose nothing else.
"""
TRAIN, EPOCHS, JUDGE, HEAD, LATENT = 10_000, 20, 20_000, 5_000, 16
PAIRS, NODES, GRAPH = 50, 32, 2000


# -- data, models, and who judges --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images ``(n, 784)`` and labels: those that train, and test images in random order."""

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    features: ImageFeatures
    head: Any

    @torch.no_grad()
    def seen(self, x: Tensor) -> Tensor:
        """Features ``(n, 64)``."""
        return torch.cat([self.features(part) for part in x.float().split(2000)])

    def chances(self, x: Tensor) -> Tensor:
        """Class probabilities ``(*batch, 10)``."""
        found = self.head.predict_proba(self.seen(x.reshape(-1, 784)).numpy())
        return torch.as_tensor(found).reshape(*x.shape[:-1], 10)


@functools.cache
def digits() -> Digits:
    data = datasets.mnist(dequantise=False)
    assert data.test is not None
    assert data.labels is not None
    g = Generator().manual_seed(0)
    old, new = ((part).nonzero()[:, 0] for part in (~data.test, data.test))
    old, new = old[torch.randperm(len(old), generator=g)], new[torch.randperm(len(new), generator=g)]
    train, judge, head = old[: TRAIN + JUDGE + HEAD].split([TRAIN, JUDGE, HEAD])
    features = feature_classifier(data.x[judge], data.labels[judge], progress=False).eval()
    with torch.no_grad():
        logistic = LogisticRegression(max_iter=1000).fit(features(data.x[head]).numpy(), data.labels[head].numpy())
    return Digits(data.x[train], data.labels[train], data.x[new], data.labels[new], features, logistic)


@functools.cache
def accuracy() -> float:
    d = digits()
    return float((d.chances(d.test).argmax(1) == d.test_labels).double().mean())


@functools.cache
def model(kind: str) -> LatentModel:
    torch.manual_seed(0)
    made: LatentModel = recipes.vae(784, LATENT) if kind == "VAE" else recipes.wae_mmd(784, LATENT)
    fit(made, digits().train, epochs=EPOCHS, batch_size=100, lr=1e-3, validation=0, seed=0, progress=False)
    return made


@functools.cache
def priors(kind: str) -> dict[str, Density]:
    """In float64."""
    found: dict[str, Density] = {"N(0, I)": StandardNormal(LATENT)}
    torch.manual_seed(0)
    for name, to in {"GMM10": GaussianMixture(LATENT, 10), "coupling flow": realnvp(LATENT)}.items():
        fitted = fit_prior(model(kind), digits().train, to, progress=False).prior
        assert isinstance(fitted, Density)
        found[name] = copy.deepcopy(fitted)
    return {name: prior.double().eval().requires_grad_(False) for name, prior in found.items()}


@torch.no_grad()
def codes(kind: str, x: Tensor) -> Tensor:
    """encode(x), float64."""
    return model(kind).autoencoder.encode(x).double()


@torch.no_grad()
def decoded(kind: str, z: Tensor) -> Tensor:
    return model(kind).autoencoder.decode(z.float())


@functools.cache
def space(kind: str, prior: str, times: int = 1) -> FermatSpace:
    """Of power times / latent dimension."""
    points = codes(kind, digits().train[:GRAPH])
    return FermatSpace(priors(kind)[prior], points, reference="mean", power=times / LATENT)


def log_p(prior: Density, z: Tensor) -> Tensor:
    with torch.no_grad():
        return prior.log_prob(z)


def mean(values: Tensor) -> str:
    v = values.double()
    return f"{float(v.mean()):.3f} ± {float(v.std()) / len(v) ** 0.5:.3f}"


def over(a: Tensor, b: Tensor) -> str:
    """In how many pairs a is above b, and by how much in the median."""
    return f"{int((a > b).sum())} of {len(a)}, {float((a - b).median()):+.2f}"


# -- ways --------------------------------------------------------------------------------------------------------------


@functools.cache
def ends() -> tuple[Tensor, Tensor]:
    """Numbers of test images: 50 pairs of different digits."""
    i, j = np.random.default_rng(0).choice(len(digits().test), (2, 500))
    apart = np.flatnonzero(digits().test_labels[i].numpy() != digits().test_labels[j].numpy())[:PAIRS]
    return torch.as_tensor(i[apart]), torch.as_tensor(j[apart])


OTHER = {"N(0, I)": "GMM10", "GMM10": "coupling flow", "coupling flow": "GMM10"}
"""Who else judges ways of each prior."""
POWERS = {
    "VAE": {"N(0, I)": (1,), "GMM10": (1, 4, 16), "coupling flow": (1, 4)},
    "WAE-MMD": {"N(0, I)": (1,), "GMM10": (1, 4, 16), "coupling flow": (1,)},
}
"""In units of 1 / latent dimension."""


def ways(kind: str) -> Iterator[str]:
    x, y = (codes(kind, digits().test[i]) for i in ends())
    t = torch.linspace(0, 1, 2 * NODES + 1, dtype=x.dtype)[:, None]
    chord = x[:, None] + t * (y - x)[:, None]
    strips = {"chord": decoded(kind, chord[:, :: NODES // 4])}
    straight = confidence(kind, chord)
    both = digits().chances(decoded(kind, torch.stack([x, y], 1))).amax(-1)
    blank = " | –" * 7
    yield f"| {kind} | ends, reconstructed{blank} | {float(both.mean()):.3f} | – | {float(both.amin(1).mean()):.3f} | – | – |"
    yield f"| {kind} | chord{blank} | {float(straight[0].mean()):.3f} | – | {float(straight[1].mean()):.3f} | – | – |"
    for name, power in [(n, p) for n, powers in POWERS[kind].items() for p in powers]:
        prior, room = priors(kind)[name], space(kind, name, power)
        start = time.process_time()
        found = room.solve(x, y)
        seconds = time.process_time() - start
        path = found.path
        on, off = log_p(prior, path), log_p(prior, chord)
        other = [log_p(priors(kind)[OTHER[name]], w[:, NODES]) for w in (path, chord)]
        strips[f"{name}, β = {POWER[power]}"] = decoded(kind, path[:, :: NODES // 4])
        sure = confidence(kind, path)
        longer = float((path.diff(dim=1).norm(dim=-1).sum(1) / (y - x).norm(dim=-1)).median())
        cells = [
            kind,
            name,
            POWER[power],
            f"{int(found.converged.sum())} of {len(x)}",
            f"{longer:.2f}",
            over(on[:, NODES], off[:, NODES]),
            over(on.mean(1), off.mean(1)),
            over(on.amin(1), off.amin(1)),
            f"{OTHER[name]}: {over(*other)}",
            *(cell for k in (0, 1) for cell in (f"{float(sure[k].mean()):.3f}", mean(sure[k] - straight[k]))),
            f"{seconds:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"
    picture_of_ways(kind, strips)


POWER = {1: "1/d", 4: "4/d", 16: "1"}


def confidence(kind: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """Largest class probability of what codes ``(pairs, nodes, latent)`` decode to: its mean and minimum on each way."""
    sure = digits().chances(decoded(kind, z)).amax(-1)
    return sure.mean(1), sure.amin(1)


def picture_of_ways(kind: str, strips: dict[str, Tensor]) -> None:
    """The first four pairs: chord, and geodesics of each prior."""
    names = ["chord", *(n for n in strips if n != "chord")]
    fig = plots.figure(11.5, 5.2)
    for k, ax in enumerate(fig.subplots(2, 2).flat):
        plots.plot_images(torch.stack([strips[n][k] for n in names]), ax, shape=(28, 28), limits=(0, 1), gap=2)
        ax.set_yticks([14 + 30 * i for i in range(len(names))], names, fontsize=9)
        ax.tick_params(length=0)
    keep(fig, picture_name(kind))


def picture_name(kind: str) -> str:
    return f"latent_paths_{kind.split('-')[0].lower()}.png"


def keep(fig: Any, name: str) -> None:
    path = RESULTS / name
    fig.savefig(path, dpi=90, bbox_inches="tight")
    Image.open(path).convert("L").quantize(32).save(path, optimize=True)


# -- attributes --------------------------------------------------------------------------------------------------------


def slant(x: Tensor) -> Tensor:
    """Pixels to the right for each upwards ``(*batch)``, by second moments."""
    image = x.reshape(*x.shape[:-1], 28, 28).double()
    place = torch.arange(28, dtype=torch.float64)
    mass = image.sum((-1, -2))
    right, down = (image.sum(-2) * place).sum(-1) / mass, (image.sum(-1) * place).sum(-1) / mass
    off_right, off_up = place - right[..., None], down[..., None] - place
    both = (image * off_up[..., :, None] * off_right[..., None, :]).sum((-1, -2))
    return both / (image.sum(-1) * off_up.square()).sum(-1)


def thickness(x: Tensor) -> Tensor:
    """Of a stroke, in pixels ``(*batch)``: twice its area over the length of its border."""
    image = torch.nn.functional.pad(x.reshape(*x.shape[:-1], 28, 28).double(), (1, 1, 1, 1))
    across, down = image[..., :-1, 1:] - image[..., :-1, :-1], image[..., 1:, :-1] - image[..., :-1, :-1]
    return 2 * image.sum((-1, -2)) / (across.square() + down.square()).sqrt().sum((-1, -2))


ATTRIBUTES = {"slant": slant, "thickness": thickness}
STEPS = torch.linspace(-2, 2, 5, dtype=torch.float64)
MOVED, WALKED = 200, 50


def directions(name: str) -> dict[str, Tensor]:
    """One deviation of the attribute a step, by the training images: of means, and by ridge regression."""
    x, auto = digits().train, model("VAE").autoencoder
    value = ATTRIBUTES[name](x)
    above = value > value.median()
    means = attribute_direction(auto, x, above)
    by_one = means / float(value[above].mean() - value[~above].mean())
    ridge = attribute_direction(auto, x, value, ridge=1e-3, generator=Generator().manual_seed(1))
    return {
        "means": (by_one * float(value.std())).double(),
        "ridge": (ridge * float(value.std())).double(),
    }


def attributes(name: str) -> Iterator[str]:
    auto, prior = model("VAE").autoencoder, priors("VAE")["GMM10"]
    x, y = digits().test[:MOVED], digits().test_labels[:MOVED]
    (other,) = (n for n in ATTRIBUTES if n != name)
    z = codes("VAE", x)
    for label, d in directions(name).items():
        straight = z + STEPS[:, None, None] * d
        assert torch.allclose(decoded("VAE", straight), manipulated(auto, x, d.float(), STEPS), atol=1e-4)
        yield line(name, other, f"{label}, straight", straight, y, prior)
        yield line(name, other, f"{label}, the first {WALKED}", straight[:, :WALKED], y[:WALKED], prior)
        found = [space("VAE", "GMM10").solve(z[:WALKED], straight[k, :WALKED]) for k in (0, -1)]
        down, up = (f.path for f in found)
        half = down.shape[1] // 2
        walk = torch.stack([down[:, -1], down[:, half], z[:WALKED], up[:, half], up[:, -1]])
        converged = sum(int(f.converged.sum()) for f in found)
        told = f"{label}, these along geodesics ({converged} of {2 * WALKED} converged)"
        yield line(name, other, told, walk, y[:WALKED], prior)
    picture_of_attributes()


def line(name: str, other: str, label: str, z: Tensor, y: Tensor, prior: Density) -> str:
    """What five steps of codes ``(5, n, latent)`` do."""
    x = decoded("VAE", z)
    value, beside = ATTRIBUTES[name](x), ATTRIBUTES[other](x)
    unit, width = (float(ATTRIBUTES[n](digits().train).std()) for n in (name, other))
    rising = (value.diff(dim=0) > 0).all(0).double().mean()
    chance = digits().chances(x).gather(-1, y.expand(5, -1)[..., None])[..., 0]
    cells = [
        name,
        label,
        " ".join(f"{float(v):.2f}" for v in value.mean(1)),
        f"{float(rising):.0%}",
        f"{float((value[-1] - value[0]).mean()) / (4 * unit):.2f}",
        f"{float((beside[-1] - beside[0]).mean()) / (4 * width):+.2f}",
        " ".join(f"{float(v):.3f}" for v in chance.mean(1)),
        " ".join(f"{-float(v):.1f}" for v in log_p(prior, z).mean(1)),
    ]
    return f"| {' | '.join(cells)} |"


def picture_of_attributes() -> None:
    """The first test image of each digit, five steps, both directions."""
    auto = model("VAE").autoencoder
    rows = [int((digits().test_labels == k).nonzero()[0]) for k in range(10)]
    fig = plots.figure(11, 5.6)
    panels = iter(fig.subplots(1, 4))
    for name in ATTRIBUTES:
        for label, d in directions(name).items():
            sheet = manipulated(auto, digits().test[rows], d.float(), STEPS)
            ax = next(panels)
            plots.plot_images(sheet.transpose(0, 1), ax, shape=(28, 28), limits=(0, 1), gap=2)
            ax.set_title(f"{name}, {label}", fontsize=10)
            ax.set_xticks([14 + 30 * i for i in range(5)], [f"{float(s):+.0f}" for s in STEPS], fontsize=8)
            ax.tick_params(length=0)
    keep(fig, "latent_paths_attributes.png")


# -- neighbours --------------------------------------------------------------------------------------------------------

DRAWS, SHOWN = 2000, 8


def near() -> Iterator[str]:
    d, kind = digits(), "VAE"
    g = Generator().manual_seed(0)
    maps = {"pixels": lambda x: x, "features": d.seen, "codes": lambda x: codes(kind, x)}
    first, second, old = d.test[:DRAWS], d.test[DRAWS : 2 * DRAWS], d.train[:DRAWS]
    raw = {
        "test images": second,
        "training images, noise .1 a pixel": old + 0.1 * torch.randn(old.shape, generator=g),
        "training images, shifted by a pixel": shifted(old),
    }
    draws = {f"draws, {name}": decoded(kind, p.sample(DRAWS, generator=g)) for name, p in priors(kind).items()}
    again = {
        "test images, reconstructed": decoded(kind, codes(kind, second)),
        "training images, reconstructed": decoded(kind, codes(kind, old)),
        **draws,
    }
    for held_out, made in ((first, raw), (decoded(kind, codes(kind, first)), again)):
        for what, x in made.items():
            cells = []
            for f in maps.values():
                found = copying(f(x), f(d.train), f(held_out))
                cells += [f"{found.ratio:.2f}", f"{found.nearer:.3f} ± {found.null_deviation:.3f}"]
            yield f"| neighbours | {what} | {' | '.join(cells)} |"
    picture_of_neighbours(draws["draws, GMM10"][:SHOWN])


def shifted(x: Tensor) -> Tensor:
    """By a pixel to the right."""
    return x.reshape(-1, 28, 28).roll(1, 2).flatten(1)


def picture_of_neighbours(x: Tensor) -> None:
    """Draws, each before the four training images that are nearest in pixels, in features and by latent Fermat distance."""
    d, kind = digits(), "VAE"
    room = FermatSpace(priors(kind)["GMM10"], codes(kind, d.train), reference="mean", nodes=16)
    found = {
        "pixels": nearest(d.train, x, 4)[1],
        "features": nearest(d.seen(d.train), d.seen(x), 4)[1],
        "latent Fermat distance": room.knn(codes(kind, x), 4)[1],
    }
    fig = plots.figure(10, 5.4)
    for ax, (name, index) in zip(fig.subplots(1, 3), found.items(), strict=True):
        sheet = torch.cat([x[:, None], d.train[index]], 1)
        plots.plot_images(sheet, ax, shape=(28, 28), limits=(0, 1), gap=2)
        ax.axvline(28.5, color=plots.GEODESIC, linewidth=1.5)
        ax.set_title(f"draw | nearest by {name}", fontsize=10)
    keep(fig, "latent_paths_neighbours.png")


# -- the page ----------------------------------------------------------------------------------------------------------

WAYS = """
## Ways between digits

{pairs} pairs of test images of different digits, drawn at random. A way leads from code to code: the straight line (chord),
or the geodesic of `FermatSpace(prior)`, whose lengths are weighed with p^(-β); 1/d, d = {latent}, is the default. Graphs of
{graph:,} training codes, {nodes} segments, twice as many for the extrapolated length. Halves, means and minima are of
{points} points at equal straight steps along each way. "k of {pairs}, +g": in k pairs log p of the prior is higher on the
geodesic than on the chord, and by g nats in the median; half-way, in the mean over the way, and at its least place, which
often is one of the ends, the same for both. "by another": half-way by a prior that the way has not seen. Confidence: the
largest class probability of the decoded images, its mean over the way and its minimum, means over pairs, and differences to
the chord's with standard errors. Converged: the relaxation's own word; ways that it has not called converged are in all
columns.

| model | prior | β | converged | straight length beside the chord's, median | half-way | mean | least \
| half-way by another | confidence, mean | minus the chord's | least | minus the chord's | seconds |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
MOVES = """
Pictures: {ways}, the first four pairs.

## Attributes moved

The VAE. Slant: pixels to the right for each upwards, by second moments of the image. Thickness: twice a stroke's area over the
length of its border, in pixels. Directions are learned from the {train:,} training images: the difference of mean codes above
and below the median ("means"), and `ridge=1e-3` of the number itself. Five steps of {moved} test images, -2 to 2 deviations of
the attribute over the training images if the map from codes were linear; the attribute as measured in the decoded images.
Along geodesics: from the code to those of the steps -2 and 2, half-way and whole, under the mixture, β = 1/d.
Rising: images in which all five steps do. Reached: change from first to last over what was asked for. The other attribute: its
change in units of its own deviation, over the same. Probability: of the image's true class. -log p: of the mixture, nats.

| attribute | direction | attribute at the steps | rising | reached | the other attribute \
| probability at the steps | -log p at the steps |
|---|---|---|---|---|---|---|---|
"""
NEAR = """
Picture: `latent_paths_attributes.png`, the first test image of each digit.

## Neighbours among training images

Are draws copies? `geoflow.metrics.copying`: distances of {draws:,} images to the nearest of the {train:,} training images, beside
those of {draws:,} test images: the ratio of the medians, and the share of pairs in which the image is nearer than the test
image (a half if they are alike, one for copies; ± is what chance gives). The first three lines are compared with test images
as they are, the others with test images that the VAE has reconstructed, since what it decodes is smooth, and nearer to
everything. Pixels; the classifier's 64 features; codes of the VAE.

| | images | pixels: ratio | nearer | features: ratio | nearer | codes: ratio | nearer |
|---|---|---|---|---|---|---|---|
"""
LAST = """
Picture: `latent_paths_neighbours.png`, draws under the mixture before the four training images nearest to them in pixels
(`geoflow.distances.nearest`), in features (the same), and in the latent (`FermatSpace(prior, codes).knn`).
"""


def written(rows: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        train=TRAIN,
        epochs=EPOCHS,
        judge=JUDGE,
        head=HEAD,
        accuracy=accuracy(),
    )
    text += WAYS.format(pairs=PAIRS, latent=LATENT, graph=GRAPH, nodes=NODES, points=2 * NODES + 1)
    text += "".join(f"{line}\n" for kind in KINDS for line in rows.get(kind, []))
    text += MOVES.format(ways=" and ".join(f"`{picture_name(k)}`" for k in KINDS), train=TRAIN, moved=MOVED)
    text += "".join(f"{line}\n" for name in ATTRIBUTES for line in rows.get(name, []))
    text += NEAR.format(draws=DRAWS, train=TRAIN)
    text += "".join(f"{line}\n" for line in rows.get("neighbours", []))
    return text + LAST + READING


KINDS = ("VAE", "WAE-MMD")
READING = """
## What it says

Ways. Half-way the geodesic's code is likelier than the chord's in all pairs, under every prior and β. The median gain is
more than half a nat but for the VAE's coupling flow at the default β, which falls short (.24); with four times as much it
is there too. A prior that the way has not seen agrees in three quarters of the pairs or more. Ways among the VAE's codes
all converged; a few among the WAE's did not, and a third of them at β = 1. Among the VAE's images the classifier is surer
along geodesics, by two hundredths at most in the mean and by two to nine at the least sure place under the fitted priors,
least with the default β and then hardly beyond twice the error; among the WAE's there is no difference to speak of, for
all their nats: probably an encoder without noise makes a density that is steep where images hardly change. The least
likely place is often one of the ends.

Attributes. Every step of either direction raises them, in at least 199 of 200 images. Ridge comes nearer to what was
asked for, and moves the other attribute no more than the means do, that of slant much less. Two deviations cost the
classifier a tenth to a quarter of its confidence in the digit, and the code some nats; geodesics save some of these
half-way, for images that are read as well. Decoded strokes are blurred, which counts as thicker.

Neighbours. Draws are no copies: under no prior and in no space are they nearer to training images than what the VAE makes of
test images; those of N(0, I) are far off the data. That it has seen its training images is told by their codes. A shift by
one pixel hides copies from pixels and codes, and nearly from the features: such figures find near copies only.
"""


def make(name: str) -> Iterator[str]:
    warnings.simplefilter("ignore")
    if name in KINDS:
        return ways(name)
    return attributes(name) if name in ATTRIBUTES else near()


if __name__ == "__main__":
    needs_data()
    renew("latent_paths.md", [*KINDS, *ATTRIBUTES, "neighbours"], make, written)
