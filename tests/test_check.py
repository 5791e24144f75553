"""`check`: praises what is good and finds each fault that was put in."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import (
    Bijection,
    ChainBijection,
    ClassConditional,
    Density,
    DiagonalNormal,
    FermatSpace,
    Flow,
    GaussianMixture,
    Sampler,
    StandardNormal,
    fit,
)
from geoflow.diagnostics import HonestyTable, calibration, lines
from geoflow.diagnostics import check as full_check
from geoflow.diagnostics.mass import grid_mass, importance_mass
from geoflow.diagnostics.simple import Kernels, simple_log_probs
from geoflow.distributions import VonMisesFisher
from geoflow.flows import AffineCoupling, realnvp
from manifolds import Euclidean, Sphere


def blobs(n: int, seed: int = 0, dim: int = 2) -> Tensor:
    """Two normals, far apart in the first column."""
    g = Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g)
    x[:, 0] = 0.5 * x[:, 0] + 2 * (torch.rand(n, generator=g) < 0.5).float()
    return x


def two(dim: int = 2, width: float = 1.0) -> GaussianMixture:
    """The truth of `blobs`, or one that is too wide or narrow."""
    means = torch.zeros(2, dim)
    means[1, 0] = 2.0
    variances = torch.ones(2, dim)
    variances[:, 0] = 0.25
    return GaussianMixture.of(torch.tensor([0.5, 0.5]), means, variances * width**2)


def check(*args: Any, **options: Any) -> HonestyTable:
    """Without the p-value of the classifier, which takes most of the time."""
    return full_check(*args, permutations=0, **options)


def verdicts(table: HonestyTable) -> dict[str, str]:
    return {line.name: line.verdict for line in table.lines}


TRAIN, HELD = blobs(1500), blobs(800, 1)


def test_a_good_flow_passes_and_the_table_reads() -> None:
    flow = Flow(ChainBijection(AffineCoupling(2), AffineCoupling(2)), two())  # untrained: the identity
    rng, training = torch.get_rng_state(), flow.train().training
    table = full_check(flow, HELD, train=TRAIN, permutations=19)
    assert torch.equal(torch.get_rng_state(), rng)
    assert flow.training is training
    assert table.ok
    assert list(verdicts(table)) == [
        "held-out log p",
        "C2ST accuracy",
        "coverage, largest gap",
        "mass",
        "round trip",
        "score, error against differences",
        "memorisation ratio",
        "outliers",
        "PIT of columns, largest gap",
    ]
    assert set(verdicts(table).values()) == {"good"}
    text = str(table)
    assert "nothing bad found (800 of 800 held-out rows, 1,500 of 1,500 training rows, 2,000 samples, seed 0)" in text
    for line in table.lines:
        assert line.sentence in text
        assert line.number() in text
    figures = table["held-out log p"].details
    assert figures["a Gaussian"] < table["held-out log p"].figure  # type: ignore[operator]
    first, same, other = (
        str(check(flow, h, train=t, seed=seed))
        for h, t, seed in ((HELD, TRAIN, 0), (HELD.numpy(), TRAIN.double(), 0), (HELD, TRAIN, 1))
    )
    assert first == same  # the seed decides everything
    assert first != other
    html = table._repr_html_()
    assert html.count("<tr>") == 1 + len(table.lines)
    assert json.loads(json.dumps(table.to_dict(), allow_nan=False))["lines"][3]["name"] == "mass"
    figure = table.plot()
    assert [ax.get_title().split(":")[0] for ax in figure.axes] == table.drawn
    assert len(table.drawn) == 4
    with pytest.raises(ValueError, match="expects 4 axes"):
        table.plot([figure.axes[0]])
    with pytest.raises(KeyError, match="no line 'misspelt'"):
        table["misspelt"]


@pytest.mark.parametrize(("width", "lean"), [(0.5, "too narrow"), (2.0, "too wide")])
def test_a_wrong_width_is_seen(width: float, lean: str) -> None:
    table = check(two(width=width), HELD, train=TRAIN)
    found = verdicts(table)
    assert not table.ok
    assert found["held-out log p"] == found["C2ST accuracy"] == found["coverage, largest gap"] == "bad"
    assert lean in table["coverage, largest gap"].sentence
    assert "Loses to" in table["held-out log p"].sentence
    assert found["mass"] == "good"
    assert found["memorisation ratio"] == "good"


class OffBy(Density):
    """A density that lies about its own height by a number of nats."""

    def __init__(self, inside: Density, nats: float) -> None:
        super().__init__()
        self.inside, self.nats, self.space = inside, nats, inside.space

    def _log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        return self.inside._log_prob(x) + self.nats

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Any) -> Tensor:
        return self.inside._sample(shape, context, generator)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_mass_that_is_not_one_is_seen(dim: int) -> None:
    truth = DiagonalNormal.of(torch.ones(dim), torch.full((dim,), 3.0))
    g = Generator().manual_seed(0)
    x = truth.sample(600, generator=g).detach()
    assert check(truth, x)["mass"].verdict == "good"
    line = check(OffBy(truth, 0.1), x)["mass"]
    assert line.verdict == "bad"
    assert line.figure == pytest.approx(math.exp(0.1), rel=0.02)
    # everything else looks fine, and better than it should: that is why the line is there
    assert check(OffBy(truth, 0.1), x)["coverage, largest gap"].verdict == "good"


def test_mass_by_importance_is_unbiased_within_its_error() -> None:
    mixture = two(dim=4)
    x = blobs(500, dim=4)
    found = [importance_mass(mixture, x, None, 2000, seed) for seed in range(12)]
    z = [(m.value - 1) / m.error for m in found]
    assert abs(sum(z) / len(z)) < 4 / math.sqrt(len(z))
    assert 0.3 < torch.tensor(z).std() < 2
    assert min(m.effective for m in found) > 500


def test_mass_far_from_the_data_is_found() -> None:
    """A third of the model's mass lies where no row is: only samples lead there."""
    dim = 5
    means = torch.zeros(2, dim)
    means[1] = 8.0
    model = GaussianMixture.of(torch.tensor([2 / 3, 1 / 3]), means, torch.ones(2, dim))
    x = torch.randn(500, dim)
    assert check(model, x)["mass"].verdict == "good"
    alone = importance_mass(model, x, None, 5000, 0)
    assert alone.value < 0.9  # with the rows alone it goes unnoticed
    assert check(model, x)["C2ST accuracy"].verdict == "bad"


def test_grid_counts_units_of_a_scaled_space() -> None:
    """log p against the volume of a space whose unit of length is 10 in one column."""

    class Scaled(OffBy):
        def __init__(self) -> None:
            super().__init__(two(), math.log(10.0))
            self.space = Euclidean(2, scale=[1.0, 10.0])

    table = check(Scaled(), HELD, train=TRAIN)
    assert table["mass"].verdict == "good"
    assert abs(table["held-out log p"].details["lead"]) < 0.05
    assert grid_mass(Scaled(), HELD, None, 200).value == pytest.approx(1, abs=1e-3)


def test_memorising_is_seen_and_only_there() -> None:
    train = TRAIN[:300]
    memory = GaussianMixture.of(torch.full((300,), 1 / 300), train, torch.full((300, 2), 1e-6))
    table = check(memory, HELD[:300], train=train)
    line = table["memorisation ratio"]
    assert line.verdict == "bad"
    assert line.figure == pytest.approx(0, abs=0.05)
    assert table["held-out log p"].verdict == "bad"


class Lossy(Bijection):
    """Rounds what it encodes."""

    def _encode_and_log_det(self, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        return (x * 100).round() / 100, x.new_zeros(x.shape[:-1])

    def _decode_and_log_det(self, z: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(z.shape[:-1])


def test_a_round_trip_that_loses_digits_is_seen() -> None:
    line = check(Flow(Lossy(2), StandardNormal(2)), torch.randn(100, 2))["round trip"]
    assert line.verdict == "bad"
    assert line.details["max"] == pytest.approx(0.005, rel=0.2)
    assert "float32" in line.sentence
    units = check(Flow(Lossy(2), DiagonalNormal.of(torch.zeros(2), torch.full((2,), 100.0))), 100 * torch.randn(100, 2))
    assert units["round trip"].figure == pytest.approx(5e-5, rel=0.4)  # in standard deviations


def test_without_training_rows_the_table_says_so() -> None:
    table = check(two(), HELD)
    assert table.ok
    assert table["held-out log p"].verdict == "unclear"
    assert "train=" in table["held-out log p"].sentence
    assert table["memorisation ratio"].verdict == "missing"
    assert "training rows" not in table.about


def test_a_density_of_zero_on_held_out_rows_is_bad() -> None:
    class Hole(OffBy):
        def _log_prob(self, x: Tensor, context: Any = None) -> Tensor:
            return torch.where(x[..., 0] > 2.5, -math.inf, self.inside._log_prob(x))

    line = check(Hole(two(), 0.0), HELD, train=TRAIN)["held-out log p"]
    assert line.verdict == "bad"
    assert "not finite" in line.sentence


class Only(Sampler):
    """Samples and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.space = Euclidean(2)
        self.anchor = nn.Parameter(torch.zeros(1))

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Any) -> Tensor:
        return torch.randn(*shape, 2, generator=generator)

    def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
        return {"loss": 3.0}

    def verdict(self, figures: dict[str, float]) -> str | None:
        return f"invalid: the loss is {figures['loss']:g}"


def test_a_sampler_without_density_is_asked_what_it_can_answer() -> None:
    table = check(Only(), torch.randn(200, 2), train=torch.randn(200, 2))
    found = verdicts(table)
    assert found["held-out log p"] == found["mass"] == found["coverage, largest gap"] == "missing"
    assert found["score, error against differences"] == found["outliers"] == "missing"
    assert found["C2ST accuracy"] == found["memorisation ratio"] == found["PIT of columns, largest gap"] == "good"
    assert found["own figures"] == "bad"
    assert "round trip" not in found
    assert "the loss is 3" in table["own figures"].sentence


def test_conditional_models_are_compared_per_condition() -> None:
    g = Generator().manual_seed(0)
    labels = torch.randint(0, 2, (1200,), generator=g)
    x = torch.randn(1200, 2, generator=g) + 3 * labels[:, None]
    good = ClassConditional.from_data(x[:800], labels[:800])
    table = check(good, x[800:], labels[800:], train=(x[:800], labels[:800]))
    assert table.ok
    assert "a Gaussian per class" in table["held-out log p"].details
    assert abs(table["held-out log p"].details["a Gaussian per class"] - table["held-out log p"].figure) < 0.02  # type: ignore[operator]
    # the same points with exchanged labels: only a test that looks at the condition sees it
    swapped = check(good, x[800:], 1 - labels[800:], train=(x[:800], 1 - labels[:800]))
    assert verdicts(swapped)["C2ST accuracy"] == "bad"
    assert verdicts(swapped)["held-out log p"] == "bad"
    c = torch.randn(600, 1, generator=g)
    y = torch.cat([2 * c, -c], 1) + 0.1 * torch.randn(600, 2, generator=g)
    with torch.no_grad():
        found = simple_log_probs(y[:500].double(), y[500:].double(), (c[:500].double(), c[500:].double()))
    noise = DiagonalNormal.of(torch.zeros(2), torch.full((2,), 0.1))
    truth = noise.log_prob(y[500:] - torch.cat([2 * c[500:], -c[500:]], 1)).detach().mean()
    assert float(found["a Gaussian, conditioned"].mean()) == pytest.approx(float(truth), abs=0.15)
    flow = realnvp(2, context=1, depth=2, hidden=(8,))
    assert check(flow, y[:100], c[:100], train=(y[100:], c[100:]))["held-out log p"].verdict == "bad"


class GivenMean(Density):
    """x | c ~ N(c, covariance), two columns, c the mean."""

    def __init__(self, covariance: Tensor) -> None:
        super().__init__()
        self.space, self.context_dim = Euclidean(2), 2
        self.inside = GaussianMixture.of(torch.ones(1), torch.zeros(1, 2), covariance[None])

    def _log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        return self.inside._log_prob(x - context)

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Any) -> Tensor:
        return context.expand(*shape, 2) + self.inside._sample(shape, None, generator)


def test_calibration_of_conditional_models() -> None:
    """Draws that spread too little are seen column by column, a wrong correlation only by distances."""
    tilted = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    context = 3 * torch.randn(1000, 2, generator=Generator().manual_seed(0))
    x = GivenMean(tilted).sample((), context, generator=Generator().manual_seed(1)).detach()
    sbc, tarp = "SBC ranks, largest gap", "TARP, largest gap"
    good = check(GivenMean(tilted), x, context)
    assert good[sbc].verdict == good[tarp].verdict == "good"
    assert {sbc, tarp} <= set(good.drawn)
    narrow = check(GivenMean(0.3 * tilted), x, context)
    assert narrow[sbc].verdict == narrow[tarp].verdict == "bad"
    assert "draws spread too little" in narrow[sbc].sentence
    wide = check(GivenMean(4 * tilted), x, context)
    assert "draws spread too much" in wide[sbc].sentence
    shifted = check(GivenMean(tilted), x + torch.tensor([0.0, 0.5]), context)
    assert "column 1" in shifted[sbc].sentence
    assert "draws are too small" in shifted[sbc].sentence
    straight = check(GivenMean(torch.eye(2)), x, context)
    assert straight[sbc].verdict == "good"
    assert straight[tarp].verdict == "bad"
    axes = [ax for ax in good.plot().axes if ax.get_title().startswith("SBC")]
    assert axes[0].get_xlabel() == "rank of the row among its draws"


def test_calibration_is_that_of_the_truth() -> None:
    """p-values of models that are right are uniform: over repeats few are small and few are large."""
    tilted = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    p: list[float] = []
    for seed in range(40):
        context = torch.randn(200, 2, generator=Generator().manual_seed(seed))
        x = GivenMean(tilted).sample((), context, generator=Generator().manual_seed(1000 + seed)).detach()
        scale = x.std(0)
        material = lines.Material(
            GivenMean(tilted), x, context, None, None, x, None, scale, None, torch.arange(200), seed
        )
        found = calibration.ranked(material)
        assert found is not None
        p += [calibration._uniform(ranks)[1] for ranks in (found.distances, *found.columns.T)]
    assert 0.35 < sum(p) / len(p) < 0.65
    assert sum(value < 0.1 for value in p) < 0.2 * len(p)


class WrongScore(OffBy):
    """Its score is a share of the gradient."""

    def _log_prob_and_score(self, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        value, gradient = super()._log_prob_and_score(x, context)
        return value, gradient * (1 + self.nats)


def test_a_score_that_is_no_gradient_is_seen() -> None:
    line = "score, error against differences"
    assert check(two(), HELD)[line].verdict == "good"
    wrong = check(WrongScore(two(), 0.01), HELD)[line]
    assert wrong.verdict == "bad"
    assert 0.003 < wrong.figure < 0.1  # type: ignore[operator]
    torch.manual_seed(0)
    flow = realnvp(2, depth=4, hidden=(16,))  # with kinks
    fit(flow, TRAIN, epochs=1, seed=0, progress=False)
    assert check(flow, HELD)[line].verdict == "good"
    mean = torch.tensor([0.0, 0.6, 0.8])
    sphere = VonMisesFisher(mean, 5.0)
    x = sphere.sample(300, generator=Generator().manual_seed(0)).detach()
    assert check(sphere, x)[line].verdict == "good"
    assert check(WrongScore(sphere, 0.01), x)[line].verdict == "bad"


def test_rows_that_a_density_does_not_expect_are_named() -> None:
    truth = DiagonalNormal.of(torch.zeros(2), torch.ones(2))
    x = truth.sample(3000, generator=Generator().manual_seed(0)).detach()
    assert check(truth, x)["outliers"].verdict == "good"
    assert check(truth, x)["outliers"].figure == pytest.approx(0.01, abs=0.008)
    x[100::25] = torch.tensor([9.0, 9.0])  # a few rows less likely than any sample
    x[2775] = 40.0
    line = check(truth, x, rows=2950)["outliers"]
    assert line.verdict == "bad"
    assert line.figure == pytest.approx(0.05, abs=0.01)
    named = [int(n) for n in line.sentence.split(", rows ")[1].split(" foremost")[0].split(", ")]
    assert all(n >= 100 and n % 25 == 0 for n in named)


def test_a_wrong_column_is_named() -> None:
    model = DiagonalNormal.of(torch.zeros(3), torch.tensor([1.0, 1.0, 0.7]))
    x = torch.randn(800, 3, generator=Generator().manual_seed(0))
    line = check(model, x)["PIT of columns, largest gap"]
    assert line.verdict == "bad"
    assert "number 2" in line.sentence
    assert line.details["column"] == 2
    right = DiagonalNormal.of(torch.zeros(3), torch.ones(3))
    assert check(right, x)["PIT of columns, largest gap"].verdict == "good"


def test_kernels_against_scipy() -> None:
    from scipy.stats import gaussian_kde

    rows, x = TRAIN[:400].double(), HELD[:50].double()
    ours = Kernels(rows)
    theirs = gaussian_kde(rows.T.numpy(), bw_method=ours.h)
    assert torch.allclose(ours.log_prob(x), torch.from_numpy(theirs.logpdf(x.T.numpy())), atol=1e-10)
    side = gaussian_kde(rows[:, 1].numpy(), bw_method=ours.h)
    assert torch.allclose(
        ours.marginal(slice(1, 2)).log_prob(x[:, 1:]), torch.from_numpy(side.logpdf(x[:, 1].numpy())), atol=1e-10
    )
    # the bandwidth is worth its search: better on fresh rows than Scott's rule, for two blobs
    plain = torch.randn(400, 2, dtype=torch.float64)
    assert 0.7 * 400 ** (-1 / 6) <= Kernels(plain).h <= 1.4 * 400 ** (-1 / 6)  # rows do not vouch for themselves
    far = rows + torch.tensor([10.0, 0.0]) * (rows[:, :1] > 1)
    near, scott = Kernels(far), Kernels(far, h=len(rows) ** (-1 / 6))
    fresh = HELD.double() + torch.tensor([10.0, 0.0]) * (HELD[:, :1] > 1)
    assert near.log_prob(fresh).mean() > scott.log_prob(fresh).mean() + 0.1


class Cap(Density):
    """Uniform on the northern half of a sphere, if `height` is right."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.space, self.height = Sphere(2), height

    def _log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        return torch.where(x[..., 2] > 0, math.log(self.height), -math.inf)

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Any) -> Tensor:
        x = self.space.sample_uniform(shape, generator)
        return torch.cat([x[..., :2], x[..., 2:].abs()], -1)


def test_compact_spaces() -> None:
    x = Cap(1.0).sample(400, generator=Generator().manual_seed(0))
    table = check(Cap(1 / (2 * math.pi)), x, train=Cap(1.0).sample(400, generator=Generator().manual_seed(1)))
    assert table.ok
    assert table["mass"].figure == pytest.approx(1, abs=0.03)
    assert table["held-out log p"].details["lead"] == pytest.approx(math.log(2), abs=1e-4)
    assert check(Cap(1 / (4 * math.pi)), x)["mass"].verdict == "bad"


def test_bad_input(unchecked: None) -> None:
    with pytest.raises(TypeError, match="interop"):
        check(nn.Linear(2, 2), HELD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 2 columns, train has 3"):
        check(two(), HELD, train=torch.randn(30, 3))
    with pytest.raises(ValueError, match="NaN"):
        check(two(), torch.full((30, 2), math.nan))
    with pytest.raises(TypeError, match="context"):
        check(two(), HELD, HELD)
    few = check(two(), HELD[:8], train=TRAIN)
    assert few["C2ST accuracy"].verdict == "unclear"


# -- Fermat spaces -----------------------------------------------------------------------------------------------------


class Faulty(Density):
    """A standard normal in the plane with faults: ripples, a call-to-call tremor, a level that can be moved."""

    def __init__(self, ripple: float = 0.0, tremor: float = 0.0) -> None:
        super().__init__()
        self.space, self.ripple, self.tremor, self.level = Euclidean(2), ripple, tremor, 0.0

    def _log_prob(self, x: Tensor, context: Any = None) -> Tensor:
        smooth = -x.square().sum(-1) / 2 + self.level
        return smooth + self.ripple * (40 * x).sin().sum(-1) + self.tremor * torch.randn(())

    def _sample(self, shape: Any, context: Any, generator: Generator | None) -> Tensor:
        raise NotImplementedError


CLOUD = torch.randn(300, 2, generator=Generator().manual_seed(3))


def test_a_good_space_passes() -> None:
    state = torch.get_rng_state()
    table = full_check(FermatSpace(StandardNormal(2), points=CLOUD), CLOUD[:50], pairs=12)
    assert torch.equal(torch.get_rng_state(), state)
    found = verdicts(table)
    assert len(found) == 7
    assert "bad" not in found.values()
    assert "missing" not in found.values()
    assert table["relaxed at most as long as the graph's"].details["median ratio"] < 1
    assert "12 pairs of 50 rows, 300 points" in str(table)
    without = verdicts(full_check(FermatSpace(StandardNormal(2)), CLOUD, pairs=3))
    assert list(without.values()).count("missing") == 5


@pytest.mark.parametrize(
    ("line", "density", "points"),
    [
        ("pieces of the graph", StandardNormal(2), torch.cat([CLOUD, CLOUD + 40])),
        ("geodesics converged", Faulty(ripple=3.0), None),
        ("symmetry, largest difference", Faulty(tremor=0.2), None),
    ],
)
def test_faults_of_a_space_are_found(line: str, density: Density, points: Tensor | None) -> None:
    table = full_check(FermatSpace(density, points=points, nodes=8, extrapolate=False), CLOUD[:30], pairs=2)
    assert not table.ok
    assert table[line].verdict == "bad"


def test_a_density_that_changed_under_its_graph_is_found() -> None:
    density = Faulty()
    space = FermatSpace(density, points=CLOUD, nodes=4)
    space.graph()
    density.level = -1.0
    assert full_check(space, CLOUD[:30], pairs=2)["relaxed at most as long as the graph's"].verdict == "bad"


def test_of_a_space_only_rows_are_asked() -> None:
    space = FermatSpace(StandardNormal(2))
    with pytest.raises(TypeError, match="belong to its density"):
        full_check(space, CLOUD, train=CLOUD)
    with pytest.raises(ValueError, match="pass rows"):
        full_check(space, None)
    with pytest.raises(ValueError, match="at least four rows"):
        full_check(space, CLOUD[:3])
