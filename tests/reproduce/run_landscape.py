"""Auto-encoders and priors side by side on images: reconstructions, draws, codes, for every row of the landscape.

``GEOFLOW_DATA=<folder> python -m tests.reproduce.run_landscape [row ...]`` writes results/rae-landscape.md and its pictures;
a row is a set of images and a model, as ``"mnist: VampPrior"``.
"""

import math
import re
import time
from collections.abc import Iterator
from functools import cache
from statistics import mean, stdev

import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr
from torch import Generator, Tensor

from geoflow import fit
from geoflow.autoencoders import LatentModel
from geoflow.metrics import active_dimensions, mmd_test, nac
from tests.reproduce.images_seen import DRAWS, IMAGES, INSIDE, Seen, draws, reconstructed, seen
from tests.reproduce.landscape import ROWS, with_prior
from tests.reproduce.renewed import RESULTS, needs_data, renew, table

BATCH, LR, CODES = 100, 1e-3, 2000
LESS = {
    "fashion_mnist": [
        "VAE, cross-entropy",
        "VAE, fixed variance",
        "VAE, learned variance",
        "VAE, flow prior",
        "WAE-MMD",
        "WAE-GAN",
        "MaskAAE",
        "FlexAE",
    ],
    "cifar10": ["AE", "WAE-GAN", "VAE, learned variance", "FlexAE"],
}
NAMES = [f"{images}: {model}" for images, models in {"mnist": list(ROWS), **LESS}.items() for model in models]
HEAD = (
    "| images: model | prior | reconstruction | FD of reconstructions | FD of draws | relative | PRD F8 / F1/8 "
    "| precision / recall | NAC (floor) | MMD of codes (null) | seconds |"
)
INTRO = """# The landscape of regularized auto-encoders

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- landscape` on {date}, torch {version}, one thread, float32. Row by row the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_landscape "<images: model>" ...`. The models are those of
`tests/reproduce/landscape.py`, each a line of `geoflow.autoencoders.recipes` with its defaults but where the line says else.
InfoVAE has λ = 100: with 1,000 all of its posteriors collapsed in a first run. RAE-SN and the injective flow decoded everything
to the mean in a first run; their weights are now those of the best draws, or reconstructions, of 1,000 held-out training digits.
RAE-L2 pulls codes to zero as strongly beside a sum over pixels as the reference does beside a mean, and N(0, I) is then a prior
like others; "less pull" takes the reference's number as it stands, 784 times less, as others do. Check A7 supposes codes that
nothing holds near N(0, I) (of deviation 1.7 in its prototype), so it is asked of both.

All models have the same networks, perceptrons dim-256-256-m and back (512-512 for CIFAR-10), m = 16 (64 for CIFAR-10), and
the same training: {rows:,} images, {epochs} epochs in batches of {batch}, Adam at {lr:g} falling along a cosine, the last
weights. Sizes, rates and weights were fixed before. Sizes are small and times short (the talk's models have convolutions and
train for hundreds of epochs on all images): what can be compared with it is the order of models, not figures.
"GMM10" is `fit_prior(model, train)`, "flow" a `realnvp`, "second VAE" a `LatentModel` of the codes with a learned variance,
all fitted to codes of training rows with the networks as they are; after a VAE of learned variance the last is the two-stage
VAE. Where an adversary takes part figures are means over three seeds, with the deviation of the FD of draws over them;
otherwise, and for other sets than MNIST, one seed.

Reconstruction: Σ (x - decode(encode(x)))² an image, test images. FD: squared 2-Wasserstein distance of Gaussians fitted to
the features of {draws:,} draws (or reconstructed test images) and of the test images, features those of a classifier
trained on other real images (for CIFAR-10 with its accuracy of half, on the same): no FID, and compares within one set of
images alone. Relative: 0 is the floor (real images), 1 the mean image. PRD: F8 is the recall, F1/8 the precision of papers
with one pair. Precision / recall: k = 3, {inside:,} each. NAC: mean |correlation| of codes of test images over active
dimensions, and what independence gives at so many rows. MMD: squared, unbiased, between {codes:,} codes of test images and
draws of the prior, in brackets the deviation over relabelled rows; below two of them is no difference. Seconds: training of
one seed and fitting the prior, processor time.

Picture: `landscape_mnist.png`, draws of every MNIST row with its best-placed prior of its own kind, in the order of the
table: its own prior, or the mixture for auto-encoders without one.
"""


@cache
def images(name: str) -> Seen:
    return seen(name)


def floors(name: str) -> str:
    """The line of real images and of the mean image."""
    data = images(name)
    found = data.report(data.others)
    curve, balls = data.shares(data.others)
    accuracy = data.features.accuracy
    assert found.mean_image is not None
    return (
        f"| {name}: real images | the mean image has FD {found.mean_image:.0f}, the features' classifier an accuracy of "
        f"{accuracy:.3f} | 0 | 0 | {found.floor:.2f} | 0 | {curve} | {balls} | – | – | – |"
    )


def row(name: str) -> Iterator[str]:
    """A model with each of its priors."""
    if name.endswith(": real images"):
        yield floors(name.split(": ")[0])
        return
    which, model_name = name.split(": ")
    what, settings, data = ROWS[model_name], IMAGES[which], images(which)
    priors = [*([what.own] if what.own else []), *what.after]
    found: dict[str, list[dict[str, float]]] = {p: [] for p in priors}
    words: dict[str, str] = {}
    for seed in range(what.seeds if which == "mnist" else 1):
        torch.manual_seed(seed)
        dim, rows = data.train.shape[1], len(data.train)
        model = what.make(dim, settings.latent, rows, hidden=settings.hidden)
        start = time.process_time()
        fit(
            model,
            data.train,
            epochs=settings.epochs,
            batch_size=BATCH,
            lr=LR,
            validation=0,
            seed=seed,
            progress=False,
        )
        seconds = time.process_time() - start
        back = reconstructed(model, data.test)
        shared = {
            "off": float((back - data.test).square().sum(1).mean()),
            "back": data.report(back).distance,
        }
        for prior in priors:
            start = time.process_time()
            whole = model if prior == what.own else with_prior(model, prior, data.train, settings.hidden, seed)
            taken = seconds + (time.process_time() - start if prior != what.own else 0.0)
            made = draws(whole)
            report = data.report(made)
            figures = shared | {"far": report.distance, "relative": report.relative, "seconds": taken}
            if seed == 0:
                curve, balls = data.shares(made)
                words[prior] = f"{curve} | {balls} | {of_codes(whole, data.test)}"
                if prior == priors[0] and which == "mnist":
                    strip(name, made[:20])
            found[prior].append(figures)
    for prior in priors:
        runs = found[prior]
        middle = {k: mean(r[k] for r in runs) for k in runs[0]}
        spread = f" ± {stdev([r['far'] for r in runs]):.1f}" if len(runs) > 1 else ""
        yield (
            f"| {name} | {prior} | {middle['off']:.1f} | {middle['back']:.1f} | **{middle['far']:.1f}**{spread} "
            f"| {middle['relative']:.3f} | {words[prior]} | {middle['seconds']:.0f} |"
        )


def of_codes(model: LatentModel, x: Tensor) -> str:
    """How far codes are from independent, and from the prior."""
    z = model.codes(x, Generator().manual_seed(0))[:CODES]
    with torch.no_grad():
        n = model.prior.sample_noisy(len(z), generator=Generator().manual_seed(1))
    independent = nac(z, active_dimensions(z).active) if active_dimensions(z).active.sum() > 1 else None
    apart = mmd_test(z, n)
    said = "–" if independent is None else f"{independent.value:.3f} ({independent.floor:.3f})"
    return f"{said} | {apart.statistic:.4f} ({apart.null_deviation:.4f})"


# -- the page ---------------------------------------------------------------------------------------------------------


def distances(lines: dict[str, list[str]]) -> dict[tuple[str, str], tuple[float, float]]:
    """FD of reconstructions and of draws, by row and prior."""
    found = {}
    for name in NAMES:
        for line in lines[name]:
            cells = [c.strip() for c in line.strip("|").split("|")]
            found[name, cells[1]] = float(cells[3]), float(re.sub(r"[*]| ±.*", "", cells[4]))
    return found


def compared(lines: dict[str, list[str]]) -> str:
    """What the table says to the talk's claims and to the checks; nothing before all of MNIST is there."""
    far = distances(lines)
    pairs = [
        (value, far[f"mnist: {model}", prior][1])
        for model, what in ROWS.items()
        for prior, value in what.published
        if (f"mnist: {model}", prior) in far
    ]
    text = "\n## Beside the talk, and the checks\n\n"
    if len(pairs) > 2:
        rho = spearmanr(*zip(*pairs, strict=True)).statistic
        text += f"Rank correlation of our FD of draws on MNIST with its FID (table 3, {len(pairs)} models): **{rho:.2f}**.\n"
    text += "\n| claim or check | measured | |\n|---|---|---|\n"

    def ratio(check: str, a: tuple[str, str], b: tuple[str, str], limit: float, of: int = 1) -> str:
        if a not in far or b not in far:
            return ""
        value = far[a][1] / far[b][of]
        return f"| {check} | {value:.2f} | {'holds' if value < limit else 'does not hold'} |\n"

    normal, flex = "N(0, I)", ("mnist: FlexAE", "generator")
    for model, limit in (("VAE, cross-entropy", 0.6), ("RAE-L2", 0.2), ("RAE-L2, less pull", 0.2), ("WAE-MMD", 0.4)):
        text += ratio(
            f"A7, {model}: FD of GMM10 / N(0, I) < {limit}",
            (f"mnist: {model}", "GMM10"),
            (f"mnist: {model}", normal),
            limit,
        )
    for model, limit in (("VAE, cross-entropy", 0.8), ("VAE, learned variance", 0.5)):
        text += ratio(
            f"A9, {model}: FD of second VAE / N(0, I) < {limit}",
            (f"mnist: {model}", "second VAE"),
            (f"mnist: {model}", normal),
            limit,
        )
    gmm, learned = "GMM10", "mnist: VAE, learned variance"
    text += ratio("A9, learned variance: FD of GMM10 / N(0, I) < 0.3", (learned, gmm), (learned, normal), 0.3)
    text += ratio("A15: FlexAE, FD of draws / of reconstructions < 4", flex, flex, 4.0, of=0)
    text += ratio("A15: FlexAE / VAE from N(0, I) < 0.8", flex, ("mnist: VAE, cross-entropy", normal), 0.8)
    for images_name in IMAGES:
        text += claim(lines, f"{images_name}: FlexAE", "generator", f"{images_name}: RAE-L2", gmm)
        text += claim(lines, f"{images_name}: MaskAAE", "masked N(0, I)", f"{images_name}: WAE-GAN", normal)
    return text


def claim(lines: dict[str, list[str]], a: str, prior_a: str, b: str, prior_b: str) -> str:
    """Whether one model's draws are nearer, by two standard errors of the seeds' differences, than another's."""
    both = []
    for name, prior in ((a, prior_a), (b, prior_b)):
        for line in lines.get(name, []):
            cells = [c.strip().replace("*", "") for c in line.strip("|").split("|")]
            if cells[1] == prior:
                value, _, spread = cells[4].partition(" ± ")
                both.append((float(value), float(spread or 0) / math.sqrt(3)))
    if len(both) < 2:
        return ""
    (x, dx), (y, dy) = both
    off = 2 * math.hypot(dx, dy)
    verdict = "confirmed" if x < y - off else "reversed" if x > y + off else "not"
    alone = ", of one seed" if off == 0 else ""
    return f"| {a} < {b.split(': ')[1]} + {prior_b} | {x:.1f} against {y:.1f} | *{verdict}*{alone} |\n"


def strip(name: str, made: Tensor) -> None:
    """Put a model's draws into the picture, whose other strips stay as they are."""
    names = [n for n in NAMES if n.startswith("mnist: ")]
    path, label, side = RESULTS / "landscape_mnist.png", 190, 30
    size = (label + 20 * side, len(names) * side)
    sheet = Image.open(path).convert("L") if path.exists() else Image.new("L", size, 255)
    sheet = sheet if sheet.size == size else Image.new("L", size, 255)
    top = names.index(name) * side
    levels = 255 - (made.clamp(0, 1) * 255).round().byte().reshape(-1, 28, 28).numpy()
    for i, image in enumerate(levels):
        sheet.paste(Image.fromarray(image), (label + i * side, top + 1))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, top, label - 2, top + side - 1), fill=255)
    pen.text((4, top + 9), name.split(": ")[1], fill=0)
    sheet.quantize(32).save(path, optimize=True)


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        rows=IMAGES["mnist"].rows,
        epochs=IMAGES["mnist"].epochs,
        batch=BATCH,
        lr=LR,
        draws=DRAWS,
        inside=INSIDE,
        codes=CODES,
    )
    for which in IMAGES:
        body = [line for n in ORDER if n.startswith(f"{which}: ") for line in lines[n]]
        if body:
            text += table(f"## {which}", HEAD, body)
    return text + compared(lines)


ORDER = [n for which in IMAGES for n in (f"{which}: real images", *(m for m in NAMES if m.startswith(f"{which}: ")))]


def main() -> None:
    needs_data()
    renew("rae-landscape.md", ORDER, row, written)


if __name__ == "__main__":
    main()
