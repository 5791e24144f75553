"""Posteriors of simulation-based inference: conditional free-form flows beside coupling flows of the same simulations.

Reads the benchmark's observations and reference posteriors from the folder that GEOFLOW_DATA names.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from geoflow import ChainBijection, Flow, StandardNormal, datasets, fit
from geoflow.columns import Bounded, Positive, Standardize
from geoflow.density import Context, Density, log_prob_in_blocks
from geoflow.distributions import GaussianMixture
from geoflow.flows import realnvp
from geoflow.freeform import FreeFormFlow, fff
from geoflow.maps import Bijection, Data, Latent
from geoflow.metrics import c2st
from geoflow.nets import MLP
from tests.bench.timing import interleaved, ratio
from tests.reproduce.renewed import needs_data, renew

INTRO = """# Posteriors of simulation-based inference

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- sbi` on {date}, torch {version}, one thread, float32, one seed. Task by task
the same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_sbi <name> ...`, which renews the rows of those names.

C2ST is the accuracy of a classifier, out of {folds} folds, that tells {rows} draws of a flow from as many of the benchmark's
reference posterior: 0.5 is chance, 1 is told apart for certain. Mean over the ten stored observations, with its standard
error; "above coupling" is that of the ten differences. The classifier is the benchmark's network (two layers of ten times
as many units as parameters, on standardised columns), but stopped early on a tenth of its training rows and given half
of the benchmark's draws, so that the figures are to be compared with each other rather than with other papers' tables.

Both flows learn from the same {train} simulations out of the prior; the other {valid} of {all} are held out. Both work
behind the same front, fitted first: logit or logarithm of the parameters, then their mean and deviation given the data,
by a small perceptron (row "front alone": with a normal density behind it). Each flow is offered three settings, is trained for
{trial} epochs with each, and for {epochs} with the one of the smallest negative log-likelihood on held-out simulations; a
free-form flow is charged for the distance of its encoder's and decoder's densities on top. Held-out simulations also choose
among the epochs. No reference posterior chooses between settings; the lists of settings, the same for every task, were
revised by held-out likelihoods, after a run of 40 epochs whose C2ST had been seen. NLL is that of the held-out simulations, in
nats of the task's own parameters, with the standard error over rows; for the free-form flow that of the encoder, and
"apart" is how much lower the decoder's is, with which it draws.

A free-form flow has β 25. One whose own verdict on held-out simulations is "invalid" (both of its densities are more than 0.1
nats apart, or decode does not undo encode) is trained again with a β that is steered, whatever its C2ST.

Seconds are of the whole choice and training on a shared machine. "coupling / this" is the ratio of times for {rows}
draws from one posterior, the front included: medians of interleaved rounds, with quartiles.

"""
TASKS = {"two_moons": 1.0, "slcp": 3.0, "gaussian_mixture": 10.0, "lotka_volterra": None}
"""The prior's box [−b, b]; None is a prior of positive parameters."""
ROWS, HELD, TRIAL, EPOCHS, SLACK = 10_000, 1_000, 10, 70, 0.05
DRAWS, FOLDS = 5_000, 5


@dataclass(frozen=True)
class Setting:
    """What a candidate is made of and how it is trained.

    Attributes:
        about: in words, for the table.
        make: from the numbers of parameters and of coordinates of the data.
        lr: Adam's first learning rate.
    """

    about: str
    make: Callable[[int, int], Density]
    lr: float


def free_form(width: int, beta: float | Literal["auto"] = 25.0) -> Callable[[int, int], Density]:
    """A free-form flow with eight normals as base, three blocks each way and one probe a row."""

    def make(dim: int, context: int) -> Density:
        options: dict[str, Any] = {"surrogate": "conditional", "probes": 1, "base": GaussianMixture(dim, 8)}
        return fff(dim, context=context, width=width, blocks=3, beta=beta, **options)

    return make


def coupling(components: int) -> Callable[[int, int], Density]:
    """Eight affine couplings of width 128, with normals as base: one that stays standard, or several that learn."""

    def make(dim: int, context: int) -> Density:
        base = GaussianMixture(dim, components) if components > 1 else None
        return realnvp(dim, context=context, hidden=(128, 128), activation="silu", base=base)

    return make


SETTINGS = {
    "coupling": (
        Setting("1 normal, rate 5e-3", coupling(1), 5e-3),
        Setting("8 normals, rate 2e-3", coupling(8), 2e-3),
        Setting("8 normals, rate 5e-3", coupling(8), 5e-3),
    ),
    "free-form": (
        Setting("width 64, rate 2e-3", free_form(64), 2e-3),
        Setting("width 64, rate 5e-3", free_form(64), 5e-3),
        Setting("width 128, rate 2e-3", free_form(128), 2e-3),
    ),
}


RESCUE = Setting("β auto, width 64, rate 5e-3, after an invalid one", free_form(64, "auto"), 5e-3)
"""What takes the place of a free-form flow whose density must not be believed."""


class ConditionalScale(Bijection):
    """z = (x − m(c)) / s(c), with m and log s a perceptron of the condition c that starts at zero.

    Args:
        dim: number of columns.
        context_dim: width of the condition.
    """

    def __init__(self, dim: int, context_dim: int) -> None:
        super().__init__(dim)
        self.context_dim = context_dim
        self.net = MLP(context_dim, 2 * dim, (64, 64), "silu", zero_last=True)

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(context).chunk(2, -1)
        return (x - mean) * (-log_std).exp(), -log_std.sum(-1)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(context).chunk(2, -1)
        return z * log_std.exp() + mean, log_std.sum(-1)


class Problem:
    """Simulations of a task, the last `HELD` of them held out, and the front that both flows work behind.

    Attributes:
        theta, context: parameters ``(ROWS, dim)`` and data, standardised (those of positive tasks as logarithms).
        front: the fitted `Flow` of parameters given data, normal behind the conditional scale.
        u, log_det: the parameters as they come out of the front, and its log-det.
    """

    def __init__(self, name: str) -> None:
        self.task, bound = datasets.task(name), TASKS[name]
        dim, width = self.task.prior.dim, self.task.data_dim
        self.positive = bound is None
        self.theta, x = self.task.draws(ROWS, seed=0)
        self.scale = Standardize(width)
        self.scale.prepare(self._shaped(x)[:-HELD])
        self.context = self.seen(x)
        columns = Positive(dim) if bound is None else Bounded([-bound] * dim, [bound] * dim)
        torch.manual_seed(0)
        parts = ChainBijection(columns, Standardize(dim), ConditionalScale(dim, width))
        self.front = Flow(parts, StandardNormal(dim))
        self.train(self.front, self.theta, EPOCHS, 2e-3)
        self.front.requires_grad_(False)
        self.u, self.log_det = parts.encode_and_log_det(self.theta, self.context)

    def _shaped(self, x: Tensor) -> Tensor:
        return x.clamp_min(1e-3).log() if self.positive else x

    def seen(self, x: Tensor) -> Tensor:
        """Data as the flows are given them."""
        return self.scale.encode(self._shaped(x))

    def train(self, model: Density, x: Tensor, epochs: int, lr: float) -> None:
        fit(
            model,
            x[:-HELD],
            self.context[:-HELD],
            validation=(x[-HELD:], self.context[-HELD:]),
            epochs=epochs,
            batch_size=256,
            lr=lr,
            seed=0,
            progress=False,
            patience=20,
        )

    def whole(self, model: Density) -> Flow:
        """The density of parameters given data, of a model of `u`."""
        return Flow(self.front.bijection, model)

    def trained(self, setting: Setting, epochs: int) -> Density:
        torch.manual_seed(0)
        model = setting.make(self.u.shape[-1], self.context.shape[-1])
        self.train(model, self.u, epochs, setting.lr)
        return model

    def nll(self, model: Density) -> Tensor:
        """Of the held-out simulations, in nats of the task's parameters ``(HELD,)``."""
        return -log_prob_in_blocks(self.whole(model), self.theta[-HELD:], self.context[-HELD:], 500)

    def apart(self, model: Density) -> float:
        """How much lower the decoder's NLL is than the encoder's; zero for flows of one map."""
        if not isinstance(model, FreeFormFlow):
            return 0.0
        u, context = self.u[-HELD:].split(500), self.context[-HELD:].split(500)
        with torch.no_grad():
            rows = [model.log_prob_decoder(a, c) - model.log_prob(a, c) for a, c in zip(u, context, strict=True)]
        return float(torch.cat(rows).mean())

    def verdict(self, model: Density) -> str:
        """A free-form flow's of itself, in a word; empty for flows of one map."""
        if not isinstance(model, FreeFormFlow):
            return ""
        said = model.verdict(model.evaluate(self.u[-HELD:], self.context[-HELD:]))
        return "none" if said is None else said.split(":")[0]

    def worth(self, model: Density) -> float:
        """What chooses between settings: the lower the better, NaN last."""
        value = float(self.nll(model).mean()) + abs(self.apart(model))
        return value if math.isfinite(value) else math.inf

    def c2st(self, model: Density) -> Tensor:
        """Accuracies for the ten observations."""
        found = []
        for k in range(1, 11):
            torch.manual_seed(k)
            draws = self.whole(model).sample(DRAWS, self.seen(self.task.observation(k)))
            options: dict[str, Any] = {"classifier": "mlp", "permutations": 0, "folds": FOLDS, "rows": DRAWS}
            found.append(c2st(draws, self.task.reference_posterior(k), **options).accuracy)
        return torch.tensor(found)


@dataclass(frozen=True)
class Result:
    """A flow, chosen and trained in so many seconds, and its C2ST for the ten observations."""

    model: Density
    about: str
    seconds: float
    scores: Tensor


def chosen(problem: Problem, kind: str) -> Result:
    """The best of a kind's settings, trained to the end."""
    start = time.perf_counter()
    worth = {}
    for setting in SETTINGS[kind]:
        worth[setting] = problem.worth(problem.trained(setting, TRIAL))
        sys.stderr.write(f"  {kind}, {setting.about}: {worth[setting]:.3f}\n")
    best = min(worth, key=worth.__getitem__)
    model = problem.trained(best, EPOCHS)
    if problem.verdict(model) == "invalid":
        best = RESCUE
        model = problem.trained(best, EPOCHS)
    seconds = time.perf_counter() - start
    scores = problem.c2st(model)
    sys.stderr.write(f"  {kind}: {measured(scores)}, {seconds:.0f} s\n")
    return Result(model, best.about, seconds, scores)


def size(model: Density) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in model.parameters())


def measured(values: Tensor, digits: int = 3) -> str:
    """Mean ± standard error."""
    return f"{float(values.mean()):.{digits}f} ± {float(values.std()) / math.sqrt(len(values)):.{digits}f}"


def times(problem: Problem, results: dict[str, Result]) -> dict[str, list[float]]:
    """Seconds for draws of one posterior, round by round."""
    context = problem.seen(problem.task.observation(1))

    def draw(model: Density) -> Callable[[], object]:
        whole = problem.whole(model)
        return lambda: whole.sample(DRAWS, context)

    with torch.no_grad():
        return interleaved({kind: draw(r.model) for kind, r in results.items()})


def lines(name: str) -> list[str]:
    """The rows of a task."""
    problem = Problem(name)
    results = {kind: chosen(problem, kind) for kind in SETTINGS}
    seconds = times(problem, results)
    alone = measured(problem.nll(problem.front.base))
    made = [f"| {name} | front alone |  | {size(problem.front)} |  | {alone} |  |  |  |  |  |  |  |"]
    for kind, result in results.items():
        model = result.model
        apart, above, goal = "", "", ""
        if isinstance(model, FreeFormFlow):
            apart = f"{problem.apart(model):.3f}"
            difference = result.scores - results["coupling"].scores
            above = measured(difference)
            goal = "met" if float(difference.mean()) <= SLACK else "missed"
        middle, low, high = ratio(seconds["coupling"], seconds[kind])
        made.append(
            f"| {name} | {kind} | {result.about} | {size(model)} | {result.seconds:.0f} | {measured(problem.nll(model))} "
            f"| {apart} | {problem.verdict(model)} | **{measured(result.scores)}** | {above} | {goal} "
            f"| {1e3 * statistics.median(seconds[kind]):.1f} | {middle:.2f} [{low:.2f}, {high:.2f}] |"
        )
    return made


HEAD = [
    "| task | flow | chosen | parameters | seconds | NLL | apart | verdict | C2ST | above coupling | goal: at most "
    f"{SLACK} | ms for {DRAWS} draws | coupling / this |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
]


def written(rows: dict[str, list[str]]) -> str:
    """The whole page."""
    sizes = {"train": ROWS - HELD, "valid": HELD, "all": ROWS, "trial": TRIAL, "epochs": EPOCHS}
    text = INTRO.format(date=time.strftime("%Y-%m-%d"), version=torch.__version__, rows=DRAWS, folds=FOLDS, **sizes)
    return text + "\n".join([*HEAD, *(line for each in rows.values() for line in each)]) + "\n"


def main() -> None:
    needs_data()
    renew("sbi.md", TASKS, lines, written)


if __name__ == "__main__":
    main()
