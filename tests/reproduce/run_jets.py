"""Anomaly search among simulated jets, in both directions: tops among QCD jets and QCD jets among tops.

Reads jets from the folder that GEOFLOW_DATA names.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn

from geoflow import LatentModel, fit, plots
from geoflow.autoencoders import Multinomial, anomaly_scores, decoded_topics, recipes, topic_weights
from geoflow.datasets import jet_images, jet_mixture
from geoflow.metrics import AUC, MassSculpting, auc, conformal_p_values, discoveries, mass_sculpting
from tests.reproduce.renewed import RESULTS, needs_data, renew

INTRO = """# Anomaly search with jets

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- jets` on {date}, torch {version}, one thread, float32. Table by table the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_jets <name> ...`, which renews the rows of those names.

Jets are simulated (`datasets.jets`; nothing published compares), {size} × {size} pixels (`jet_images`). Each model is trained
on a *mixture* of {rows} jets without labels and judged on {test} other jets, half of each kind; {seeds} seeds of the choice
of jets, start and order. "Sought" is the signal, the kind with the smaller share of the mixture, the other its background.
Fixed beforehand, by the specification: a Dirichlet latent of two topics, a = .9, a linear decoder, total N = {total:g},
{steps} steps of {batch}. Adam's rate is, of four, that of the least held-out loss of other mixtures, for each model (last
table): labels had no say, though these mixtures are of the same 34,277 jets as the test jets are. The others have the same
encoder, one layer of {width}, and number of steps; AE (a deterministic encoder) and VAE six codes, the decoder the encoder's
mirror, N = 100, GMVAE two trained components, with six codes and N = 100 or with two codes and N = {total:g}. All costs are
multinomial.

Orientation is part of a score, and no label turns it. Reconstruction, KL and −ELBO: high is anomalous. "Topic": the weight of
the topic of larger entropy where tops are sought (`complex`), of smaller entropy where QCD jets are (`simple`): the search
knows that what it seeks is the busier, or the plainer, kind, and not which topic that is. Jet mass and multiplicity are
read likewise: high for tops, low for QCD jets. An AUC below one half is a score that is wrong in that direction.
Cells: **median** (each seed).

Pictures: `jets_topics.png`, the topics beside mean images of both kinds; `jets_scores.png`, AUC against share.
{findings}"""
FINDINGS = """
What they show. At 20 % the Dirichlet latent finds tops in QCD (.902) and QCD in tops (.890), as the prototype did (.89, .88),
and its topics are in the right order in all 21 mixtures; the exact one and both softmax-normals agree to .01 there.
Reconstruction finds tops only. QCD jets it calls the most usual, however few of them were trained on: AUC .20 and less for AE
and VAE at every share (medians), .23 and less for the Dirichlet latent's own, and −ELBO is no better. A VAE's KL fails there
too (.10 at 20 %). GMVAE's topics depend on the codes: six do as well as the Dirichlet at 20 % (.913, .884) and lose QCD jets
at 5 % (.23); two find QCD jets in mixtures of halves alone (.12 at 20 %): among many tops they part tops from tops. No topic
beats jet mass (.938), which knows that tops are heavy; where tops are few in QCD reconstruction is ahead of topics.

Order: the Dirichlet latent's rarer topic would have been the signal's as well, in all 18 mixtures of 20 % and less, by mean
weights as near as .49 and .51; for the prototype it was not. GMVAE's topics are in order by neither rule.

Topics do not need the signal. With 1 % of tops .875 is left of .902: the topics then are plainer and busier QCD jets, and tops
are busy. So a topic is no sign that there is a signal. With 1 % of QCD jets the seeds are apart (.55 to .87).

Masses: what finds tops in QCD shapes the mass of what passes, topics more than reconstruction (.59 and .45 bits at ε_B = .1,
by lot .006): a bump there is no evidence. Among tops they shape it less (.06) than reconstruction does (.18), and than a cut on
the mass itself (.76).

Discoveries: the share of false ones is below what was asked in every line, and near its bound where there are discoveries.
Of QCD jets in tops half are found at a rate of .05; of tops in QCD next to none at .2, at the same AUC: at ε_S = .3 one of
some 22 QCD jets passes, and with four of them to each top that is two in five. Jet mass likewise. AUC does not tell.
At a rate of .5 two thirds of the tops are found.

Settings hardly matter (N, a, pixels, a quarter of the steps) since topics start at the mean row. Before, they started at
zero: with 900 steps at 5e-3 they had not yet parted on a mixture of seed 100 (held-out loss 42.4, where 3,600 steps had 36.2)
and were in the wrong order (AUC .135 for QCD in tops). That was seen with the labels of that seed, whose jets come from the
same 34,277 as all others. On seeds 0 to 2 such topics, with smaller weights at the start, are in order, but worse for
QCD in tops (.843, row "from zero").
"""
SIZE, ROWS, TEST, SEEDS = 20, 5_000, 10_000, 3
EPOCHS, BATCH, WIDTH, TOTAL = 20, 100, 100, 10.0
SHARES = (0.5, 0.2, 0.05, 0.01)
SOUGHT = {"top": "tops in QCD", "qcd": "QCD in tops"}
TAIL = {"top": "complex", "qcd": "simple"}
DIM = SIZE**2
NETS: dict[str, Any] = {"hidden": (WIDTH,)}


def dirichlet(dim: int = DIM, total: float = TOTAL, concentration: float = 0.9, **kind: Any) -> LatentModel:
    return recipes.dirichlet_vae(dim, 2, total=total, concentration=concentration, **NETS, **kind)


MODELS: dict[str, Callable[[], LatentModel]] = {
    "AE": lambda: recipes.rae(DIM, 6, kind="none", embedding=0.0, cost=Multinomial(), **NETS),
    "VAE": lambda: recipes.vae(DIM, 6, cost=Multinomial(), **NETS),
    "GMVAE, 6 codes": lambda: recipes.gmvae(DIM, 6, components=2, cost=Multinomial(), **NETS),
    "GMVAE, 2 codes": lambda: recipes.gmvae(DIM, 2, components=2, cost=Multinomial(TOTAL), **NETS),
    "Dirichlet": dirichlet,
    "softmax-normal": partial(dirichlet, kind="softmax-gaussian"),
    "softmax-normal, Laplace": partial(dirichlet, kind="softmax-gaussian", moments="laplace"),
}
RATES = dict.fromkeys(MODELS, 4e-2) | dict.fromkeys(("AE", "GMVAE, 6 codes", "GMVAE, 2 codes"), 2e-2)
"""Adam's, by `choose`."""
TRIED, APART, OUT = (5e-3, 1e-2, 2e-2, 4e-2), 100, 500
MIXED = [name for name in MODELS if name not in ("AE", "VAE")]
SHOWN = {
    **dict.fromkeys(("jet mass", "multiplicity"), ("",)),
    "AE": ("reconstruction",),
    "VAE": ("reconstruction", "kl", "elbo"),
    **dict.fromkeys(MIXED[:2], ("reconstruction", "kl", "topic")),
    "Dirichlet": ("reconstruction", "kl", "topic"),
    **dict.fromkeys(MIXED[3:], ("topic",)),
}
LINES = [(model, score) for model, scores in SHOWN.items() for score in scores]
BOLD = "Dirichlet", "topic"


# -- searches -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Jets:
    """Images of a mixture and of test jets; of these what they are, and their observables."""

    train: Tensor
    test: Tensor
    top: Tensor
    mass: Tensor
    multiplicity: Tensor


def jets(signal: str, share: float, seed: int, size: int = SIZE) -> Jets:
    data = jet_mixture(ROWS, signal, share, test=TEST, seed=seed)
    assert data.test is not None
    assert data.labels is not None
    images, held = jet_images(data.x.unflatten(1, (-1, 3)), size=size), data.test
    top = (data.labels == 1) == (signal == "top")
    return Jets(images[~held], images[held], top[held], *(data.observables[k][held] for k in ("mass", "multiplicity")))


def trained(model: Callable[[], LatentModel], x: Tensor, seed: int, lr: float, epochs: int = EPOCHS) -> LatentModel:
    torch.manual_seed(seed)
    made = model()
    fit(made, x, epochs=epochs, batch_size=BATCH, lr=lr, validation=0, seed=seed, progress=False)
    return made


@dataclass(frozen=True)
class Topic:
    """What a topic decodes to, its entropy in nats, and its mean weight in the mixture."""

    image: Tensor
    entropy: float
    weight: float


@dataclass(frozen=True)
class Search:
    """What all models found in one mixture.

    Attributes:
        scores: of test jets, by model and score.
        top: which of them are tops.
        mass: theirs.
        topics: of each model that has them, least entropy first.
        means: of the test images, QCD and top.
    """

    scores: dict[tuple[str, str], Tensor]
    top: Tensor
    mass: Tensor
    topics: dict[str, list[Topic]]
    means: tuple[Tensor, Tensor]

    def score(self, model: str, score: str, signal: str) -> Tensor:
        """As a search for that signal orients it."""
        if score == "topic":
            return self.scores[model, TAIL[signal]]
        found = self.scores[model, score]
        return -found if score == "" and signal == "qcd" else found

    def parts(self, model: str, score: str, signal: str) -> tuple[Tensor, Tensor]:
        """Scores of background and of signal."""
        found, is_signal = self.score(model, score, signal), self.top == (signal == "top")
        return found[~is_signal], found[is_signal]

    def auc(self, model: str, score: str, signal: str) -> AUC:
        return auc(*self.parts(model, score, signal))


def searched(signal: str, share: float, seed: int) -> Search:
    """Halves are the same mixture for both directions."""
    return _searched("top" if share == 0.5 else signal, share, seed)


@cache
def _searched(signal: str, share: float, seed: int) -> Search:
    seen = jets(signal, share, seed)
    scores = {("jet mass", ""): seen.mass, ("multiplicity", ""): seen.multiplicity}
    topics: dict[str, list[Topic]] = {}
    for name, model in MODELS.items():
        made = trained(model, seen.train, seed, RATES[name])
        found = anomaly_scores(made, seen.test, generator=Generator().manual_seed(0))
        scores |= {(name, k): v for k, v in found.items()}
        if "complex" in found:
            of, mean = decoded_topics(made), topic_weights(made, seen.train).mean(0)
            topics[name] = [Topic(of.decoded[i], float(of.entropy[i]), float(mean[i])) for i in of.order]
    means = seen.test[~seen.top].mean(0), seen.test[seen.top].mean(0)
    return Search(scores, seen.top, seen.mass, topics, means)


def seeds(signal: str, share: float) -> list[Search]:
    return [searched(signal, share, seed) for seed in range(SEEDS)]


def middle(values: list[float]) -> float:
    return float(np.median(values))


def cell(values: list[float], digits: str = ".3f") -> str:
    """The median, and all."""
    return f"**{middle(values):{digits}}** ({' '.join(f'{v:{digits}}' for v in values)})"


def said(model: str, score: str) -> str:
    return ", ".join(k for k in (model, {"kl": "KL", "elbo": "−ELBO"}.get(score, score)) if k)


# -- tables ---------------------------------------------------------------------------------------------------------


def areas(name: str) -> Iterator[str]:
    for signal, (model, score) in product(SOUGHT, LINES):
        found = [[s.auc(model, score, signal).value for s in seeds(signal, share)] for share in SHARES]
        yield f"| {name} | {SOUGHT[signal]} | {said(model, score)} | {' | '.join(map(cell, found))} |"
    draw_scan()


def rejections(name: str) -> Iterator[str]:
    for signal, (model, score) in product(SOUGHT, LINES):
        found = [[s.auc(model, score, signal).rejection for s in seeds(signal, share)] for share in SHARES]
        cells = " | ".join(cell(values, ".3g") for values in found)
        yield f"| {name} | {SOUGHT[signal]} | {said(model, score)} | {cells} |"


def orientation(name: str) -> Iterator[str]:
    """Right: the topic of larger entropy weighs more in tops than in QCD jets."""
    large = [*seeds("top", 0.5), *seeds("top", 0.2), *seeds("qcd", 0.2)]
    small = [s for signal, share in product(SOUGHT, SHARES[2:]) for s in seeds(signal, share)]
    for model in MIXED:
        of = [[s.auc(model, "topic", "top").value for s in runs] for runs in (large, small)]
        right = [f"{sum(v > 0.5 for v in values)} of {len(values)}" for values in of]
        rarer = [
            [by_rarity(s, model, signal) for signal, share in product(SOUGHT, shares) for s in seeds(signal, share)]
            for shares in ((0.2,), SHARES[2:])
        ]
        entropies = [[s.topics[model][i].entropy for s in large] for i in (0, -1)]
        yield (
            f"| {name} | {model} | {right[0]} | {min(of[0]):.3f} | {' / '.join(f'{middle(e):.2f}' for e in entropies)} "
            f"| {right[1]} | {' | '.join(f'{sum(v > 0.5 for v in r)} of {len(r)}' for r in rarer)} |"
        )


def by_rarity(search: Search, model: str, signal: str) -> float:
    """AUC of the topic of less mean weight."""
    simple, complex_ = search.topics[model]
    value = search.auc(model, "topic", signal).value
    return value if (complex_.weight < simple.weight) == (signal == "top") else 1 - value


def masses(name: str) -> Iterator[str]:
    for signal, (model, score) in product(SOUGHT, LINES):
        found = []
        for s in seeds(signal, 0.2):
            is_signal = s.top == (signal == "top")
            found.append(mass_sculpting(s.parts(model, score, signal)[0], s.mass[~is_signal]))
        cells = " | ".join(
            f"{cell([f.divergence[i] for f in found])} | {_by_lot(found, i)}" for i in range(len(found[0].eps_b))
        )
        yield f"| {name} | {SOUGHT[signal]} | {said(model, score)} | {cells} |"


def _by_lot(found: list[MassSculpting], i: int) -> str:
    return f"{middle([f.floor[i] for f in found]):.4f} ± {middle([f.floor_deviation[i] for f in found]):.4f}"


LOTS, HELD, LEVELS = 200, 2_500, (0.05, 0.1, 0.2, 0.3, 0.5)
SIGNAL = HELD // 4
"""Jets of the signal among those that are judged: a share of one fifth."""


def false_discoveries(name: str) -> Iterator[str]:
    for signal, which, level in product(SOUGHT, (("jet mass", ""), ("VAE", "reconstruction"), BOLD), LEVELS):
        lots = np.array([judged(s, *which, signal, level) for s in seeds(signal, 0.2)])  # (seeds, LOTS, 3)
        first = " ".join(f"{n:.0f}: {false:.2f}" for n, false, _ in lots[:, 0])
        counts, false, caught = lots.mean((0, 1))
        yield (
            f"| {name} | {SOUGHT[signal]} | {said(*which)} | {level:g} | {first} | {counts:.0f} "
            f"| {false:.3f} ± {lots[..., 1].mean(1).std(ddof=1) / SEEDS**0.5:.3f} | {0.8 * level:.2f} | {caught:.2f} |"
        )


def judged(search: Search, model: str, score: str, signal: str, level: float) -> list[tuple[float, float, float]]:
    """Lot by lot: discoveries, the false share of them, the share of the signal that is found."""
    background, sought = search.parts(model, score, signal)
    found, generator = [], Generator().manual_seed(0)
    for _ in range(LOTS):
        mixed = background[torch.randperm(len(background), generator=generator)]
        asked = sought[torch.randperm(len(sought), generator=generator)[:SIGNAL]]
        p = conformal_p_values(mixed[:HELD], torch.cat([mixed[HELD:], asked]))
        chosen, normal = discoveries(p, level), len(mixed) - HELD
        false, true = int(chosen[:normal].sum()), int(chosen[normal:].sum())
        found.append((false + true, false / max(1, false + true), true / SIGNAL))
    return found


CHANGED: dict[str, dict[str, Any]] = {
    "as above": {},
    "40 × 40 pixels": {"size": 40},
    "N = 3": {"total": 3.0},
    "N = 30": {"total": 30.0},
    "N = 100": {"total": 100.0},
    "a = .5": {"concentration": 0.5},
    "a = 2": {"concentration": 2.0},
    "rate 5e-3, the specification's": {"lr": 5e-3},
    "rate 5e-3, topics from zero (`nn.Linear`)": {"lr": 5e-3, "from_zero": True},
    "rate 2e-2": {"lr": 2e-2},
    "250 steps": {"epochs": 5},
    "4,000 steps": {"epochs": 80},
}


def changed(dim: int, from_zero: bool = False, **given: Any) -> LatentModel:
    """With a decoder that is not shown the mean row, if asked for."""
    return dirichlet(dim, **given, **({"decoder": nn.Linear(2, dim, bias=False)} if from_zero else {}))


def settings(name: str) -> Iterator[str]:
    for what, changes in CHANGED.items():
        given = dict(changes)
        size, epochs = given.pop("size", SIZE), given.pop("epochs", EPOCHS)
        lr = given.pop("lr", RATES["Dirichlet"])
        cells = []
        for signal in SOUGHT:
            found = []
            for seed in range(SEEDS):
                seen = jets(signal, 0.2, seed, size)
                model = trained(partial(changed, size**2, **given), seen.train, seed, lr, epochs)
                score, is_signal = anomaly_scores(model, seen.test, [TAIL[signal]]), seen.top == (signal == "top")
                found.append(auc(score[TAIL[signal]][~is_signal], score[TAIL[signal]][is_signal]).value)
            cells.append(cell(found))
        yield f"| {name} | {what} | {' | '.join(cells)} |"


def topics(name: str) -> Iterator[str]:
    """Each topic beside the mean image of each kind, of the first seed."""
    for signal, model in product(SOUGHT, MIXED):
        search = searched(signal, 0.2, 0)
        for which, topic in zip(("simple", "complex"), search.topics[model], strict=True):
            off = " | ".join(f"{divergence(topic.image, mean):.3f}" for mean in search.means)
            yield (
                f"| {name} | {SOUGHT[signal]} | {model} | {which} | {topic.entropy:.2f} | {topic.weight:.2f} | {off} |"
            )
    draw_topics()


def divergence(a: Tensor, b: Tensor) -> float:
    """Jensen-Shannon divergence in bits."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(a.double().numpy(), b.double().numpy(), base=2) ** 2)


def choose(name: str) -> Iterator[str]:
    """Held-out loss of each rate, on mixtures of another seed; the sum over both directions decides."""
    parts = [jets(signal, 0.2, APART).train for signal in SOUGHT]
    for what, model in MODELS.items():
        found = {}
        for lr in TRIED:
            runs = [trained(model, x[OUT:], APART, lr).evaluate(x[:OUT])["loss"] for x in parts]
            found[lr] = (sum(runs), " / ".join(f"{v:.2f}" for v in runs))
        best = min(found, key=lambda lr: found[lr][0])
        yield f"| {name} | {what} | {' | '.join(words for _, words in found.values())} | **{best:g}** |"


def goals(name: str) -> Iterator[str]:
    """What was asked, and what came."""
    for model in MIXED[2:]:
        least = [middle([s.auc(model, "topic", signal).value for s in seeds(signal, 0.2)]) for signal in SOUGHT]
        found = " and ".join(f"{v:.3f}" for v in least)
        yield _goal(name, f"{model}: AUC at 20 %, medians of both directions", "≥ .80", found, min(least) >= 0.8)
        large = [*seeds("top", 0.5), *seeds("top", 0.2), *seeds("qcd", 0.2)]
        right = sum(s.auc(model, "topic", "top").value > 0.5 for s in large)
        yield _goal(name, f"{model}: orientation right at 50 and 20 %", "≥ 8 of 9", f"{right} of 9", right >= 8)
    for model in ("AE", "VAE"):
        low = middle([s.auc(model, "reconstruction", "qcd").value for s in seeds("qcd", 0.2)])
        yield _goal(name, f"{model}: reconstruction fails on QCD in tops at 20 %", "< .30", f"{low:.3f}", low < 0.3)


def _goal(name: str, what: str, asked: str, found: str, met: bool) -> str:
    return f"| {name} | {what} | {asked} | {found} | {'yes' if met else '**no**'} |"


# -- pictures -------------------------------------------------------------------------------------------------------

CURVES = {
    ("jet mass", ""): "0.6",
    ("VAE", "reconstruction"): "tab:orange",
    ("VAE", "kl"): "tab:brown",
    ("GMVAE, 6 codes", "topic"): "tab:purple",
    ("GMVAE, 2 codes", "topic"): "tab:green",
    BOLD: "tab:blue",
}


def draw_scan() -> None:
    """AUC against the share of signal: medians and all seeds."""
    fig = plots.figure(10, 4)
    axes = fig.subplots(1, 2, sharey=True)
    for ax, signal in zip(axes, SOUGHT, strict=True):
        for (model, score), color in CURVES.items():
            found = [[s.auc(model, score, signal).value for s in seeds(signal, share)] for share in SHARES]
            ax.semilogx(SHARES, [middle(v) for v in found], color=color, label=said(model, score))
            ax.plot(np.repeat(SHARES, SEEDS), np.ravel(found), "o", color=color, markersize=3)
        ax.axhline(0.5, color="0.8", linewidth=1, zorder=0)
        ax.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
        ax.minorticks_off()
        ax.set(title=SOUGHT[signal], xlabel="share of the signal in the training mixture", ylim=(0, 1))
    axes[0].set_ylabel("AUC")
    axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    saved(fig, "jets_scores.png")


def draw_topics() -> None:
    """Mean images of both kinds, then the simple and the complex topic of each latent."""
    fig = plots.figure(2 + 2 * len(MIXED), 8.6)
    columns = ["means of test jets", *MIXED]
    axes = fig.subplots(4, len(columns))
    for half, signal in enumerate(SOUGHT):
        search = searched(signal, 0.2, 0)
        for j, title in enumerate(columns):
            of = search.topics.get(title)
            for i in (0, 1):
                ax = axes[2 * half + i, j]
                image = search.means[i] if of is None else of[i].image
                plots.plot_images(
                    image.clamp_min(1e-6).log10()[None], ax, shape=(SIZE, SIZE), limits=(-5, -1), cmap="magma"
                )
                what = ("QCD", "top")[i] if of is None else f"{('simple', 'complex')[i]}, {of[i].entropy:.2f} nats"
                ax.set_title(f"{title}\n{what}" if i == 0 else what, fontsize=9)
        axes[2 * half, 0].set_ylabel(f"20 % {SOUGHT[signal]}", loc="bottom")
    saved(fig, "jets_topics.png")


def saved(fig: Any, name: str) -> None:
    path = RESULTS / name
    fig.savefig(path, dpi=75)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


# -- page -----------------------------------------------------------------------------------------------------------

ITEMS: dict[str, Callable[[str], Iterator[str]]] = {
    "goals": goals,
    "auc": areas,
    "rejection": rejections,
    "orientation": orientation,
    "mass": masses,
    "fdr": false_discoveries,
    "topics": topics,
    "settings": settings,
    "choose": choose,
}
ACROSS = " | ".join(f"{share:.0%} signal" for share in SHARES)
HEADS = {
    "goals": ("What was asked", "", "| table | what | asked | found | met |"),
    "auc": ("AUC", "", f"| table | sought | score | {ACROSS} |"),
    "rejection": ("Background rejection", "1/ε_B at ε_S = .3.", f"| table | sought | score | {ACROSS} |"),
    "orientation": (
        "Orientation of topics",
        "Right: the topic of larger entropy has an AUC above one half for tops. Mixtures of 50 % (one for both directions) and "
        "20 %, then of 5 and 1 %. By rarity: how often the topic of less mean weight in the mixture has an AUC above one half "
        "for the signal.",
        "| table | latent | right at ≥ 20 % | least AUC of these | entropies, nats (medians) | right at 5 and 1 % "
        "| by rarity at 20 % | by rarity at 5 and 1 % |",
    ),
    "mass": (
        "Mass sculpting",
        "Models of 20 % mixtures. Jensen-Shannon divergence, in bits, of the mass of background test jets that pass a cut on "
        'the score against all of them (`mass_sculpting`); "by lot" is that of as many jets drawn without a score.',
        "| table | sought | score | at ε_B = .1 | by lot | at ε_B = .01 | by lot |",
    ),
    "fdr": (
        "Discoveries with a false discovery rate",
        "Models of 20 % mixtures. {held} background test jets give conformal p-values to {held} others and {signal} of the "
        "signal; here known background is needed, which simulation or a control region has to give. First the {seeds} searches "
        "with one lot of jets each (discoveries: false share), then means over {lots} lots a search, ± over searches. "
        '"At most": the rate asked times the share of background among those judged, .8. A lot without discoveries has no '
        "false ones.",
        "| table | sought | score | rate asked | one lot | discoveries | false share | at most | signal found |",
    ),
    "topics": (
        "Topics",
        "First seed, 20 % mixtures. Mean weight in the mixture, and Jensen-Shannon divergence (bits) of what each topic decodes "
        "to from the mean image of each kind.",
        "| table | sought | latent | topic | entropy, nats | mean weight | from QCD | from tops |",
    ),
    "settings": (
        "How much the settings matter",
        "AUC of the Dirichlet latent's topic at 20 %, one setting changed at a time. It chose nothing.",
        "| table | setting | tops in QCD | QCD in tops |",
    ),
    "choose": (
        "How the rates were chosen",
        "Held-out loss, tops in QCD / QCD in tops, of {out} rows of 20 % mixtures of seed {apart}, the other {kept} in training. "
        "A rate of 2e-3, tried before 4e-2 was, had the largest loss of every model.",
        f"| table | model | {' | '.join(f'{lr:g}' for lr in TRIED)} | chosen |",
    ),
}


def written(lines: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"),
        version=torch.__version__,
        size=SIZE,
        rows=f"{ROWS:,}",
        test=f"{TEST:,}",
        seeds=SEEDS,
        total=TOTAL,
        steps=f"{EPOCHS * ROWS // BATCH:,}",
        batch=BATCH,
        width=WIDTH,
        findings=FINDINGS,
    )
    for name, (title, words, head) in HEADS.items():
        told = words.format(
            held=f"{HELD:,}", signal=SIGNAL, seeds=SEEDS, lots=LOTS, out=OUT, apart=APART, kept=f"{ROWS - OUT:,}"
        )
        body = [head, "|---" * (head.count("|") - 1) + "|", *lines[name]]
        text += "\n".join(["", f"## {title}", "", *([told, ""] if told else []), *body]) + "\n"
    return text


def main() -> None:
    needs_data()
    renew("jets.md", ITEMS, lambda name: ITEMS[name](name), written)


if __name__ == "__main__":
    main()
