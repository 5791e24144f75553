"""`fit`: what it promises about seeds, rows, players, hooks, checkpoints, interruptions and numbers that are none."""

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from geoflow import ClassConditional, DiagonalNormal, Flow, GaussianMixture, History, Player, Sampler, fit
from geoflow.flows import AffineCoupling, realnvp
from geoflow.train import checkpoint, nonfinite
from manifolds import Euclidean
from tests.laws.tools import close


def banana(n: int = 400, dtype: torch.dtype = torch.float32) -> Tensor:
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(5), dtype=dtype)
    return torch.stack([z[:, 0], 0.5 * z[:, 1] + 2 * z[:, 0] ** 2], 1)


def small() -> Flow:
    torch.manual_seed(3)
    return realnvp(2, depth=2, hidden=(8,))


def quick(model: Any, x: Any, *args: Any, **options: Any) -> History:
    return fit(model, x, *args, **{"epochs": 4, "seed": 1, "progress": False, "lr": 5e-3, **options})


def equal(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


class Toy(Sampler):
    """A sampler with one parameter vector, whose loss and hooks are what a test wants to watch."""

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        self.space = Euclidean(dim)
        self.mean = nn.Parameter(torch.zeros(dim))
        self.calls: list[str] = []
        self.seen: list[Tensor] = []
        self.bad_at: int | None = None
        self.step = -1

    def _sample(self, shape: tuple[int, ...], context: Any, generator: Any) -> Tensor:
        return self.mean + torch.randn(*shape, self.dim, generator=generator)

    def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
        self.calls.append("loss")
        self.seen.append(x)
        row = (x - self.mean).square().sum(-1)
        if self.bad_at == self.step:
            row = row * math.nan
        return {"loss": (row if weight is None else weight * row).mean(), "shift": self.mean.detach().norm()}

    def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
        self.calls.append("evaluate" if weight is None else "evaluate weighted")
        torch.rand(3)
        row = (x - self.mean.detach()).square().sum(-1)
        return {"loss": float((row if weight is None else weight * row).mean()), "other": float(self.mean.detach()[0])}

    def prepare(self, x: Tensor, context: Any = None) -> None:
        self.calls.append(f"prepare {len(x)}")

    def schedule(self, step: int, steps: int) -> None:
        self.step = step
        self.calls.append(f"schedule {step}/{steps}")

    def finish(self, x: Tensor, context: Any = None) -> None:
        self.calls.append(f"finish {len(x)}")


# -- what it gives ---------------------------------------------------------------------------------------------------


def test_learns() -> None:
    x, fresh = banana(2000), banana(3000)[2000:]
    flow = small()
    history = fit(flow, x, seed=0, epochs=40, progress=False, lr=1e-2)
    gauss = DiagonalNormal.from_data(x)
    assert flow.log_prob(fresh).mean() > gauss.log_prob(fresh).mean() + 0.5
    assert history.best is not None
    assert history.best["validation loss"] < history.rows[0]["validation loss"] - 0.5
    assert not flow.training
    # the weights are those of the best row
    assert history.final["loss"] == pytest.approx(history.best["validation loss"], abs=1e-6)
    assert history.column("validation loss").index(min(history.column("validation loss"))) == history.rows.index(
        history.best
    )
    assert all(p.grad is None for p in flow.parameters())


def test_same_seed_same_weights_and_global_generators_untouched() -> None:
    x = banana()
    state, numbers = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    a, b, c = small(), small(), small()
    torch.set_rng_state(state)
    quick(a, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    torch.rand(7)
    quick(b, x)
    quick(c, x, seed=2)
    assert equal(a, b)
    assert not equal(a, c)


def test_evaluation_does_not_disturb_training() -> None:
    """The noise of a loss is the same however often the model is checked, and every check draws the same."""
    draws: list[float] = []

    class Random(Toy):
        def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
            return super().loss(x + torch.randn_like(x))

        def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
            draws.append(float(torch.rand(())))
            return super().evaluate(x)

    a, b = Random(), Random()
    x = banana(400)
    quick(a, x, validation=x[:40], epochs=20, monitor="other", patience=None)
    assert len(draws) > 3
    assert len(set(draws)) == 1
    quick(b, x, validation=0, epochs=20)
    assert torch.equal(torch.stack(a.seen), torch.stack(b.seen))


def test_without_seed_the_global_generator_decides_and_moves_on() -> None:
    x, runs = banana(), []
    for _ in range(2):
        torch.manual_seed(8)
        runs.append([small(), small()])
        torch.manual_seed(8)
        seeds = [quick(m, x, seed=None, epochs=1).seed for m in runs[-1]]
        assert seeds[0] != seeds[1]
    assert equal(runs[0][0], runs[1][0])
    assert equal(runs[0][1], runs[1][1])
    assert not equal(runs[0][0], runs[0][1])


def test_tables_of_every_kind_train_the_same() -> None:
    import pandas

    x = banana()
    expected = small()
    quick(expected, x)
    frame = pandas.DataFrame(x.numpy(), columns=["a", "b"])
    for table in (x.double(), x.numpy(), np.asfortranarray(x.numpy()), frame, x.tolist(), TensorDataset(x)):
        model = small()
        quick(model, table)
        assert equal(model, expected), type(table)
    assert x.requires_grad is False


def test_context_from_arrays_and_data_sets() -> None:
    x = banana()
    labels = (x[:, 0] > 0).long()
    results = []
    for args in ((x, labels), (x, labels.numpy()), (TensorDataset(x, labels),)):
        model = ClassConditional(2, 2)
        history = quick(model, *args)
        results.append(history.final["loss"])
    assert results[0] == results[1] == results[2]
    given = quick(ClassConditional(2, 2), x, labels, validation=(x[:50], labels[:50]))
    assert given.config["training rows"] == len(x)
    assert given.config["held-out rows"] == 50


def test_a_mixture_alone_is_prepared_on_all_rows() -> None:
    x = banana(300)
    a, b = GaussianMixture(2, 3), GaussianMixture.from_data(x, components=3)
    history = fit(a, x, progress=False, seed=0)
    assert torch.allclose(a.log_prob(x), b.log_prob(x), atol=1e-5)
    assert "no steps" in history.stopped
    assert fit(a, x, validation=x[:20], seed=0).final["loss"] == pytest.approx(
        -float(a.log_prob(x[:20]).detach().mean()), abs=1e-5
    )
    with pytest.raises(ValueError, match="without weights"):
        fit(a, x, sample_weight=torch.ones(300))


# -- the order of things ---------------------------------------------------------------------------------------------


def test_hooks_come_in_order() -> None:
    toy, x = Toy(), banana(40)
    history = quick(toy, x, batch_size=12, epochs=2)
    steps = round(36 / 12) * 2
    expected = ["prepare 36", "evaluate"]
    for step in range(steps):
        expected += [f"schedule {step}/{steps}", "loss"]
    assert toy.calls == [*expected, "evaluate", "finish 36", "evaluate"]
    assert [r["step"] for r in history.rows] == [0, steps]
    assert history.rows[1]["train shift"] > 0
    assert history.rows[1]["lr"] < history.config["lr"] / 2


def test_rows_come_equally_often_and_none_is_held_out_twice() -> None:
    x = torch.arange(80.0).reshape(40, 2)
    toy = Toy()
    history = quick(toy, x, batch_size=12, epochs=12)
    seen = torch.cat(toy.seen)[:, 0]
    counts = torch.bincount((seen / 2).long(), minlength=40)
    assert sorted(set(counts.tolist())) == [0, 12]
    assert int((counts == 0).sum()) == history.config["held-out rows"] == 4
    assert {len(b) for b in toy.seen} == {12}


def test_monitor_patience_and_no_validation() -> None:
    x = banana(200) + 3

    class Worse(Toy):
        def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
            return {"loss": float(self.step), "down": -float(self.step)}

    stopped = quick(Worse(), x, epochs=100, batch_size=18, patience=2)
    assert [r["step"] for r in stopped.rows] == [0, 50, 100]
    assert "no improvement in 2 checks since step 0" in stopped.stopped
    other = Worse()
    history = quick(other, x, epochs=20, batch_size=18, monitor="down")
    assert history.best == history.rows[-1]
    with pytest.raises(ValueError, match=r"monitor='up'.*loss, down"):
        quick(Worse(), x, monitor="up")
    last = quick(other, x, validation=0)
    assert last.best is None
    assert last.monitor is None
    assert last.stopped == "all epochs done"

    class Scheduled(Worse):
        to_the_end = True

    moved, kept = Scheduled(), Scheduled()
    whole = quick(moved, x, epochs=20, batch_size=18, patience=2)
    asked = quick(kept, x, epochs=20, batch_size=18, patience=2, monitor="loss")
    assert (whole.stopped, whole.best) == ("all epochs done", None)
    assert asked.best == asked.rows[0]
    assert not kept.mean.any()
    assert moved.mean.all()


class Duel(Toy):
    """Two players with parameters of their own; the second plays twice a step at a tenth of the rate, by SGD."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.zeros(2))
        self.log: list[tuple[str, float, float]] = []

    def players(self) -> list[Player]:
        return [
            Player("one", [self.mean]),
            Player("two", [self.other], repeat=2, lr_scale=0.1, optimizer=lambda p, lr: torch.optim.SGD(p, lr)),
        ]

    def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
        assert self.mean.grad is None
        assert self.other.grad is None
        self.seen.append(x)
        self.log.append((player, float(self.mean.detach()[0]), float(self.other.detach()[0])))
        # both parameters get gradients in both turns: only the player's own may move
        return {"loss": ((x - self.mean - self.other).square().sum(-1)).mean()}


def test_players_take_turns_on_fresh_batches() -> None:
    duel, x = Duel(), banana(100) + torch.tensor([2.0, 0.0])
    history = quick(duel, x, epochs=1, batch_size=15, lr=0.1, clip=None)
    assert [name for name, *_ in duel.log] == ["one", "two", "two"] * 6
    for (name, mean, other), (_, later_mean, later_other) in zip(duel.log, duel.log[1:], strict=False):
        assert (mean != later_mean) == (name == "one")
        assert (other != later_other) == (name == "two")
    # the first SGD step, by hand: lr_scale 0.1, gradient −2 mean(x − mean) before the schedule has fallen
    batch = duel.seen[1]
    gradient = -2 * (batch - torch.tensor([duel.log[1][1], 0.0])).mean(0)[0]
    assert duel.log[2][2] == pytest.approx(float(-0.1 * 0.1 * gradient), rel=1e-4)
    assert not torch.equal(duel.seen[0], duel.seen[1])
    assert {"train one loss", "train two loss"} <= history.rows[-1].keys()


# -- weights ---------------------------------------------------------------------------------------------------------


def test_integer_weights_equal_repeated_rows() -> None:
    """Full batches: the weighted problem and the one with repeated rows take the same steps."""
    x = banana(60, torch.float64)
    k = torch.randint(1, 4, (60,), generator=torch.Generator().manual_seed(0))
    held = banana(20, torch.float64)
    a, b, c = (small().double() for _ in range(3))
    for model in (a, b, c):
        model.bijection.parts[0].prepare(x)
        model.bijection.parts[0].prepare = lambda *args: None  # statistics do not see weights
    options = {"validation": held, "batch_size": 10**6, "epochs": 30}
    quick(a, x, sample_weight=k, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicates
        quick(b, x.repeat_interleave(k, 0), **options)
    quick(c, x, **options)
    probe = banana(10, torch.float64)
    assert torch.allclose(a.log_prob(probe), b.log_prob(probe), atol=1e-9)
    assert not torch.allclose(a.log_prob(probe), c.log_prob(probe), atol=1e-3)


def test_weights_have_mean_one_and_reach_evaluate() -> None:
    toy, x = Toy(), banana(100)
    w = torch.rand(100) * 7
    history = quick(toy, x, sample_weight=w)
    assert "evaluate weighted" in toy.calls
    assert "evaluate" not in toy.calls
    watched: list[Tensor] = []

    class Watch(Toy):
        def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
            watched.append(weight)
            return super().loss(x, weight=weight)

        def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
            watched.append(weight)
            return super().evaluate(x, weight=weight)

    quick(Watch(), x, sample_weight=w, batch_size=90, epochs=1)
    assert [len(v) for v in watched] == [10, 90, 10, 10]
    assert all(float(v.mean()) == pytest.approx(1, abs=1e-6) for v in watched)
    # zero weight everywhere but on one side moves the mean there
    side = Toy()
    quick(side, x, sample_weight=(x[:, 0] > 0).float(), epochs=60, lr=0.1)
    assert abs(float(side.mean[0].detach()) - float(x[x[:, 0] > 0, 0].mean())) < 0.2
    assert history.stopped == "all epochs done"


def test_weights_that_do_not_fit() -> None:
    x = banana(100)
    for wrong, words in (
        (torch.ones(99), r"shape \(100,\)"),
        (torch.full((100,), math.nan), "NaN"),
        (torch.zeros(100), "zero everywhere"),
    ):
        with pytest.raises(ValueError, match=words):
            quick(small(), x, sample_weight=wrong)

    with (
        pytest.warns(UserWarning, match="negative"),
        pytest.raises(ValueError, match="all training rows .* is negative"),
    ):
        quick(small(), x, sample_weight=-torch.ones(100), validation=x[:10])

    class Deaf(Toy):
        def loss(self, x: Tensor, context: Any = None, *, player: Any = None) -> dict[str, Tensor]:  # type: ignore[override]
            return super().loss(x)

    with pytest.raises(TypeError, match="takes no weights"):
        quick(Deaf(), x, sample_weight=torch.ones(100))


def test_negative_weights_are_taken_from_the_rest() -> None:
    """A cloud with weight one and a part of it with minus one leave the other part; the warning says how much it is."""
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(400, 2, generator=g) - 4, torch.randn(400, 2, generator=g) + 4
    again = torch.randn(300, 2, generator=g) - 4
    x, w = torch.cat([left, right, again]), torch.ones(1100)
    w[800:] = -1
    toy, plain = Toy(), Toy()
    with pytest.warns(
        UserWarning, match=r"300 of 1100 rows have negative sample_weight \(27.3% of all absolute weight\)"
    ):
        quick(toy, x, sample_weight=w, validation=0, epochs=100, lr=0.1)
    quick(plain, x[:800], validation=0, epochs=100, lr=0.1)
    expected = (left.sum(0) + right.sum(0) - again.sum(0)) / 500  # the loss is a square, so its minimum is a mean
    assert torch.allclose(toy.mean.detach(), expected, atol=0.15)
    assert float((toy.mean - plain.mean).detach().norm()) > 1


def test_the_effective_number_of_rows_is_told(capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
    x = banana(100)
    history = quick(small(), x, sample_weight=torch.ones(100))
    assert history.effective_rows == pytest.approx(90)  # a tenth is held out
    w = torch.ones(100)
    w[:50] = 3.0
    with caplog.at_level("INFO", "geoflow"):
        history = quick(small(), x, sample_weight=w, validation=x[:5], progress=True)
    assert history.effective_rows == pytest.approx(200**2 / (50 * 9 + 50))  # (Σ w)² / Σ w²
    assert "100 rows worth 80" in capsys.readouterr().err
    assert "effective sample size 80.0" in caplog.text
    assert "100 weighted rows worth 80" in repr(history)
    assert quick(small(), x).effective_rows is None
    w = torch.full((100,), 1e-3)
    w[:5] = 1.0
    with pytest.warns(UserWarning, match=r"100 training rows worth 5\..* \(threshold: 10"):
        quick(small(), x, sample_weight=w, validation=x[:5])
    many = banana(3000)
    w = torch.full((3000,), 1e-9)
    w[:20] = 1.0
    with pytest.warns(UserWarning, match="3000 training rows worth 20 "):
        quick(small(), many, sample_weight=w, validation=x[:5], epochs=1)


def test_training_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert quick(small(), banana()).stopped == "all epochs done"


# -- refusals --------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_in_words(unchecked: None, tmp_path: Path) -> None:
    x = banana()
    for arguments, options, words in (
        ((x[:1],), {}, "minimum of 2"),
        ((x[:, :1],), {}, "has 2 columns, x has 1"),
        ((x[:, 0],), {}, "Expected 2D"),
        ((torch.where(x > 5, math.nan, x),), {}, "NaN"),
        ((torch.cat([x[:, :1], 0 * x[:, 1:]], 1),), {}, "constant"),
        ((x,), {"validation": 1.0}, "fraction"),
        ((x,), {"validation": (x, None, x)}, "tuple of 3"),
        ((x,), {"validation": x[:, :1]}, "has 2 columns, validation has 1"),
        ((x,), {"epochs": 0}, "epochs must be at least 1"),
        ((x,), {"lr": 0.0}, "lr must be positive"),
        ((x,), {"ema": 1.0}, "decay"),
        ((x,), {"precision": "fp8"}, "bf16"),
        ((x,), {"checkpoint": tmp_path / "no" / "file"}, "folder that does not exist"),
    ):
        with pytest.raises(ValueError, match=words):
            quick(small(), *arguments, **options)
    with pytest.raises(TypeError, match="no context"):
        quick(small(), x, x)
    with pytest.raises(ValueError, match="per row"):
        quick(ClassConditional(2, 2), x, torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="interop"):
        quick(nn.Linear(2, 2), x)
    from geoflow.datasets import two_moons

    with pytest.raises(TypeError, match=r"pass its rows, x\.x"):
        quick(small(), two_moons(50))
    with pytest.raises(TypeError, match="items be"):
        quick(small(), TensorDataset(x), x)
    with pytest.raises(TypeError, match="Fabric"):
        quick(small(), x, fabric=object())
    frame = {"a": x[:, 0].tolist(), "b": [1.0] * len(x)}
    import pandas

    with pytest.raises(ValueError, match="'b' is constant"):
        quick(small(), pandas.DataFrame(frame))


# -- numbers that are none -------------------------------------------------------------------------------------------


def test_nan_stops_with_the_best_weights() -> None:
    toy, x = Toy(), banana(400) + 5
    toy.bad_at = 130
    with pytest.warns(UserWarning, match=r"loss at step 131 of .*batch rows \d+.*the model \(Toy\).*best validated"):
        history = quick(toy, x, epochs=40, batch_size=36, lr=0.1)
    assert "not finite" in history.stopped
    assert history.rows[-1]["step"] == 100
    assert toy.mean.isfinite().all()
    assert history.best is not None
    assert history.final["loss"] == history.best["validation loss"]
    first = Toy()
    first.bad_at = 0
    with pytest.raises(ValueError, match="No step was good"):
        quick(first, x)
    alone = Toy()
    alone.bad_at = 5
    with pytest.warns(UserWarning, match="weights before it are kept"):
        quick(alone, x, validation=0)
    assert alone.mean.isfinite().all()
    assert alone.mean.abs().sum() > 0


def test_the_guilty_module_is_named() -> None:
    flow = small()
    flow.prepare(banana())
    with torch.no_grad():
        flow.bijection.parts[2].net.layers[0].weight.fill_(math.inf)
    name = nonfinite.first_guilty(flow, lambda: flow(banana()))
    assert name == "bijection.parts.2.net (MLP)"
    assert "_encode" not in flow.bijection.__dict__  # nothing is left behind
    assert not flow.bijection.parts[2].net.layers[0]._forward_hooks
    assert nonfinite.first_guilty(small(), lambda: None) is None


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    class Root(Toy):
        def loss(self, x: Tensor, context: Any = None, *, weight: Any = None, player: Any = None) -> dict[str, Tensor]:
            value = super().loss(x)["loss"]
            return {"loss": value + (0 * self.mean).abs().sqrt().sum()} if self.step == 3 else {"loss": value}

    model = Root()
    with pytest.warns(UserWarning, match="gradient at step 4.*first in mean"):
        quick(model, banana())
    assert model.mean.isfinite().all()


# -- interruptions ---------------------------------------------------------------------------------------------------


class Noisy(Dataset[Any]):
    """A map-style data set that draws noise from all three global generators at each access."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Tensor:
        import random

        noise = torch.randn(2) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return self.x[i] + 0.01 * noise


def interrupted(
    model: Any, x: Any, path: Path | None, at: int | None, number: int = signal.SIGINT, **options: Any
) -> Any:
    """A run that a signal meets in step `at`."""
    plain = type(model).schedule

    def schedule(step: int, steps: int) -> None:
        plain(model, step, steps)
        if step == at:
            signal.raise_signal(number)

    model.schedule = schedule
    history = quick(model, x, checkpoint=path, **options)
    return model, history


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"validation": 0}], ids=["plain", "ema", "no validation"])
def test_an_interrupted_run_continues_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    x, path = banana(900), tmp_path / "run.pt"
    options = {"epochs": 15, "ema": None, **options}
    whole, expected = interrupted(small(), x, None, None, **options)
    for at in (0, 6, 55, 118):
        with pytest.warns(UserWarning, match=f"interrupted by Ctrl-C after step {at + 1} of 120"):
            _, history = interrupted(small(), x, path, at, **options)
        assert "interrupted" in history.stopped
    torch.manual_seed(99)  # another start: everything comes from the file
    other = realnvp(2, depth=2, hidden=(8,))
    other.bijection = small().bijection
    model, history = interrupted(other, x, path, None, **options)
    assert equal(model, whole)
    assert history.best == expected.best if history.best is None else history.best["step"] == expected.best["step"]
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in expected.rows]
    start = time.monotonic()
    again, finished = interrupted(small(), x, path, None, **options)
    assert equal(again, whole)
    assert time.monotonic() - start < 1
    assert repr(finished) == repr(history)


def test_data_sets_with_noise_and_several_players_continue_bit_for_bit(tmp_path: Path) -> None:
    x = Noisy(banana(200))
    whole, _ = interrupted(Duel(), x, None, None)
    path = tmp_path / "run.pt"
    for at in (3, 20):
        with pytest.warns(UserWarning, match="interrupted"):
            interrupted(Duel(), x, path, at)
    model, _ = interrupted(Duel(), x, path, None)
    assert equal(model, whole)
    assert model.other.detach().abs().sum() > 0


def test_the_best_before_the_interruption_is_not_forgotten(tmp_path: Path) -> None:
    class Early(Toy):
        def evaluate(self, x: Tensor, context: Any = None, weight: Any = None) -> dict[str, float]:
            return {"loss": abs(self.step - 49.0)}

    x, path, options = banana(400), tmp_path / "run.pt", {"epochs": 20, "batch_size": 36}
    whole, expected = interrupted(Early(), x, None, None, **options)
    with pytest.warns(UserWarning, match="interrupted"):
        interrupted(Early(), x, path, 120, **options)
    model, history = interrupted(Early(), x, path, None, **options)
    assert equal(model, whole)
    assert history.best is not None
    assert expected.best is not None
    assert history.best["step"] == expected.best["step"] == 50


def test_ctrl_c_without_a_file_keeps_the_best() -> None:
    x = banana(900)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.warns(UserWarning, match="best weights so far are kept"):
        model, history = interrupted(small(), x, None, 70, epochs=30)
    assert history.rows[-1]["step"] == 71
    assert history.best is not None
    assert history.final["loss"] == history.best["validation loss"] < history.rows[0]["validation loss"]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not model.training


def test_sigterm_writes_and_is_passed_on(tmp_path: Path) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with pytest.warns(UserWarning, match="SIGTERM after step 5"):
            interrupted(small(), banana(), tmp_path / "run.pt", 4, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [signal.SIGTERM]
    saved = checkpoint.read(tmp_path / "run.pt")
    assert saved is not None
    assert saved["step"] == 5


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from geoflow import fit
from tests.test_train import banana, long_run, small
flow, history = long_run(sys.argv[1], lambda step: step == 30 and print("ready", flush=True))
torch.save(flow.state_dict(), sys.argv[2])
print(history.stopped)
"""


def long_run(path: str | None, watch: Any) -> tuple[Any, History]:
    """Some seconds of training: `watch` is told each step."""
    flow = small()
    flow.schedule = lambda step, steps: watch(step)
    options = {"epochs": 50, "progress": False, "patience": None, "checkpoint": path}
    return flow, fit(flow, banana(2000), seed=1, **options)


def test_ctrl_c_from_outside(tmp_path: Path) -> None:
    """A process is interrupted at an unknown moment and continues in a second one: as if nothing had happened."""
    path, root = str(tmp_path / "run.pt"), str(Path(__file__).parent.parent)

    def start(out: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-W", "ignore", "-c", SCRIPT, path, str(tmp_path / out), root]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GEOFLOW_SHAPES": "unchecked"}
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)

    first = start("first")
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=60)[0]
    assert "interrupted by Ctrl-C" in said
    assert first.returncode == 0
    second = start("second")
    whole, _ = long_run(None, lambda step: None)
    assert second.communicate(timeout=60)[0].endswith("all epochs done\n")
    results = {name: torch.load(tmp_path / name) for name in ("first", "second")}
    assert all(torch.equal(v, results["second"][k]) for k, v in whole.state_dict().items())
    assert not all(torch.equal(v, results["first"][k]) for k, v in whole.state_dict().items())


def test_a_changed_configuration_is_refused_and_shown(tmp_path: Path) -> None:
    x, path = banana(), tmp_path / "run.pt"
    with pytest.warns(UserWarning, match="continues"):
        interrupted(small(), x, path, 3)
    for options, words in (
        ({"lr": 1e-4}, "lr: 0.005 in the file, 0.0001 now"),
        ({"epochs": 5}, "steps: "),
        ({"seed": 2}, "seed: 1 in the file, 2 now"),
        ({"validation": 0.2}, "held-out rows"),
        ({"sample_weight": torch.ones(len(x))}, "sample_weight"),
        ({"monitor": "nll median"}, "monitor"),
    ):
        with pytest.raises(ValueError, match=words):
            quick(small(), x, checkpoint=path, **options)
    changed = x.clone()
    changed[7, 1] += 1e-3
    with pytest.raises(ValueError, match="data: "):
        quick(small(), changed, checkpoint=path)
    with pytest.raises(ValueError, match="model: "):
        quick(realnvp(2, depth=3, hidden=(8,)), x, checkpoint=path)
    assert quick(small(), x, checkpoint=path, seed=None).seed == 1  # no seed: that of the file


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    x, path = banana(), tmp_path / "run.pt"
    quick(small(), x, checkpoint=path)
    whole = path.read_bytes()
    other = tmp_path / "other"
    torch.save({"a": 1}, other)
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint", other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.pt"):
            quick(small(), x, checkpoint=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "run.pt"]  # no temporary file stays


def test_checkpoints_are_written_by_the_clock(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.pt", []

    class Watch(Toy):
        def schedule(self, step: int, steps: int) -> None:
            seen.append(path.exists() and checkpoint.read(path)["step"])  # type: ignore[index]

    quick(Watch(), banana(), checkpoint=path, checkpoint_minutes=1e-9)
    assert seen[1:] == list(range(1, len(seen)))


# -- the rest --------------------------------------------------------------------------------------------------------


def test_history_plots_and_reads() -> None:
    history = quick(small(), banana(), epochs=12)
    ax = history.plot()
    assert ax.get_xlabel() == "step"
    assert {"train loss", "validation loss", "chosen"} == {t.get_text() for t in ax.get_legend().get_texts()}
    assert ax.lines[1].get_ydata().tolist() == history.column("validation loss")
    assert history.plot(ax) is ax
    assert repr(history).startswith(f"<History: {history.rows[-1]['step']} steps, 12 epochs")
    assert "best validation loss" in repr(history)
    assert History().plot().get_ylabel() == "loss"
    assert History().best is None


def test_ema_keeps_an_average() -> None:
    x = banana()
    fast, slow = small(), small()
    quick(fast, x, validation=0, epochs=8, ema=None)
    quick(slow, x, validation=0, epochs=8, ema=0.99)
    start = small()
    distance = [
        sum(float((p - q).detach().square().sum()) for p, q in zip(m.parameters(), start.parameters(), strict=True))
        for m in (fast, slow)
    ]
    assert 0 < distance[1] < distance[0]


def test_the_bar_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    quick(small(), banana(), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "fit Flow" in err
    assert "validation loss" in err
    quick(small(), banana())
    assert capfd.readouterr() == ("", "")


def test_bf16_and_frozen_parameters() -> None:
    x = banana()
    model = small()
    coupling = next(part for part in model.bijection.parts if isinstance(part, AffineCoupling))
    frozen = coupling.net.layers[0].weight.requires_grad_(False)
    before = frozen.clone()
    history = quick(model, x, precision="bf16", epochs=20)
    assert torch.equal(frozen, before)
    assert history.final["loss"] < history.rows[0]["validation loss"] - 0.1
    exact = small()
    quick(exact, x, epochs=20)
    assert not equal(exact, model)


def test_a_fabric_gives_the_same_weights() -> None:
    fabric = pytest.importorskip("lightning_fabric")
    x = banana()
    plain, driven = small(), small()
    quick(plain, x, ema=0.9)
    history = quick(driven, x, ema=0.9, fabric=fabric.Fabric(accelerator="cpu", devices=1))
    for own, theirs in zip(plain.parameters(), driven.parameters(), strict=True):
        close(own, theirs, 1e-5)  # alone, all gradients are one vector, whose norm rounds in another order
    assert history.stopped == "all epochs done"
    quick(Duel(), x, fabric=fabric.Fabric(accelerator="cpu", devices=1))
    with pytest.raises(ValueError, match="the precision is the Fabric's"):
        quick(small(), x, fabric=fabric.Fabric(accelerator="cpu", devices=1), precision="bf16")
