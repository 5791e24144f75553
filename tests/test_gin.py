"""GIN and what it is judged by: axes from classes, spectrum, gap, correlations, volume, closing statistics."""

import copy
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from geoflow import ClassConditional, StandardNormal, datasets, fit, load, plots, save
from geoflow.density import log_prob_in_blocks
from geoflow.flows import (
    GIN,
    Flow,
    Unimodular,
    class_moments,
    gin,
    identifiability_gap,
    informative,
    joint_diagonalizer,
    realnvp,
    spectrum,
    unexplained,
)
from geoflow.metrics import mean_correlation


def bent(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four columns in which two sources are turned by 45 degrees and sheared once; their classes; the sources."""
    g = Generator().manual_seed(seed)
    std = torch.tensor([[0.3, 1.5], [1.5, 0.3], [1.0, 1.0]])
    centre = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    labels = torch.randint(3, (n,), generator=g)
    sources = centre[labels] + std[labels] * torch.randn(n, 2, generator=g)
    c = math.sqrt(0.5)
    u, v = (sources @ torch.tensor([[c, c], [-c, c]])).split(1, 1)
    u = u + 2 * torch.tanh(v)
    x = torch.cat([u, v, 0.1 * torch.randn(n, 2, generator=g)], 1)
    return x, labels, sources


def small(classes: int) -> GIN:
    torch.manual_seed(0)
    return gin(4, classes, depth=4, hidden=(32,), generator=Generator().manual_seed(0))


def fitted(flow: GIN, x: Tensor, labels: Tensor, epochs: int = 80, **options: Any) -> GIN:
    settings: dict[str, Any] = {"lr": 1e-2, "batch_size": 256, "clip": None, "validation": 0}
    fit(flow, x, labels, epochs=epochs, seed=0, progress=False, **settings, **options)
    return flow


@pytest.fixture(scope="module")
def trained() -> GIN:
    """On the first 2,000 rows of `bent`."""
    x, labels, _ = bent(3000)
    return fitted(small(3), x[:2000], labels[:2000])


# -- axes from classes ------------------------------------------------------------------------------------------------


def mixed(std: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Covariances of sources of these deviations behind a random matrix, and that matrix."""
    a = torch.randn(std.shape[1], std.shape[1], generator=Generator().manual_seed(seed), dtype=torch.float64)
    return a @ torch.diag_embed(std.double().square()) @ a.mT, a


@pytest.mark.parametrize("dim", [2, 5])
def test_axes_are_found_exactly_where_they_exist(dim: int, generator: Generator) -> None:
    """Covariances that one matrix diagonalises: W A is a permutation of a diagonal matrix."""
    covariance, a = mixed((torch.randn(4, dim, generator=generator)).exp())
    w = joint_diagonalizer(covariance)
    product = (w @ a).abs()
    product /= product.amax(-1, keepdim=True)
    assert (product.sort(-1).values[:, :-1]).max() < 1e-6
    assert product.argmax(-1).unique().numel() == dim
    assert torch.linalg.det(w) == pytest.approx(1, abs=1e-9)


def test_two_classes_are_the_generalised_eigenvalue_problem() -> None:
    from scipy.linalg import eigh

    covariance, _ = mixed(torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 0.7]]), seed=3)
    w = joint_diagonalizer(covariance, torch.tensor([0.2, 0.8]))
    off = (w @ covariance @ w.mT) * (1 - torch.eye(3))
    assert off.abs().max() < 1e-8 * float(covariance.abs().max())
    ratios = (w @ covariance[0] @ w.mT).diagonal() / (w @ covariance[1] @ w.mT).diagonal()
    wanted = eigh(covariance[0].numpy(), covariance[1].numpy(), eigvals_only=True)
    torch.testing.assert_close(ratios.sort().values, torch.as_tensor(wanted))


def test_no_axes_beat_those_found(generator: Generator) -> None:
    """Covariances that nothing diagonalises: the start costs more, and so does every small change."""
    rows = torch.randn(4, 50, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.3])
    covariance, share = rows.mT @ rows / 50, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    w = joint_diagonalizer(covariance, share)
    best = unexplained(covariance, share, w)
    assert best < unexplained(covariance, share, torch.eye(3, dtype=torch.float64)) - 1e-3
    nearby = w + 1e-3 * torch.randn(200, 3, 3, generator=generator, dtype=torch.float64)
    assert (unexplained(covariance, share, nearby) > best).all()


def test_what_axes_cost_is_the_loss_of_a_normal_per_class(generator: Generator) -> None:
    """`unexplained` differs between two matrices by what fitted diagonal normals differ in, the log-det included."""
    z = torch.randn(600, 3, generator=generator, dtype=torch.float64) @ torch.randn(
        3, 3, generator=generator, dtype=torch.float64
    )
    labels = torch.arange(600) % 3
    moments = class_moments(z, labels)
    w = torch.randn(3, 3, generator=generator, dtype=torch.float64)

    @torch.no_grad()
    def loss(rows: Tensor) -> float:
        base = ClassConditional(3, 3).double()
        base.prepare(rows, labels)
        return -float(base.log_prob(rows, labels).mean())

    costs = unexplained(moments.covariance, moments.share, torch.stack([w, torch.eye(3, dtype=torch.float64)]))
    change = loss(z @ w.mT) - loss(z) - float(torch.linalg.slogdet(w).logabsdet)
    assert change == pytest.approx(float(costs[0] - costs[1]), abs=1e-8)


def test_gap_is_what_a_turn_by_45_degrees_costs(generator: Generator) -> None:
    """Mean log((a² + b²) / 2ab) of deviations a, b scaled to a mean log-ratio of zero; nothing for constant ratios."""
    std, share = torch.rand(4, 3, generator=generator) + 0.2, torch.tensor([0.4, 0.3, 0.2, 0.1])
    gap = identifiability_gap(std, share)
    a, b = std[:, 0], std[:, 2]
    b = b * ((a / b).log() @ share).exp()
    assert float(gap[0, 2]) == pytest.approx(float(share @ ((a * a + b * b) / (2 * a * b)).log()), rel=1e-5)
    scaled = torch.diag_embed(torch.stack([a, b], -1).double().square())
    c = math.sqrt(0.5)
    turn = torch.tensor([[c, c], [-c, c]], dtype=torch.float64)
    costs = unexplained(scaled, share.double(), torch.stack([turn, torch.eye(2, dtype=torch.float64)]))
    assert float(gap[0, 2]) == pytest.approx(float(costs[0] - costs[1]), rel=1e-5)
    torch.testing.assert_close(gap, gap.T)
    same = identifiability_gap(torch.rand(4, 1, generator=generator) * torch.tensor([[1.0, 7.0]]))
    assert float(same.abs().max()) < 1e-6


def test_spectrum_and_the_two_rules() -> None:
    std = torch.tensor([[3.0, 0.01, 1.0, 0.02], [4.0, 0.01, 1.0, 0.02]])
    torch.testing.assert_close(spectrum(std), torch.tensor([math.sqrt(12.5), 0.01, 1.0, 0.02]))
    assert informative(spectrum(std)) == 2
    assert informative(spectrum(std), floor=0.015) == 3
    assert informative(torch.tensor([1.0])) == 1


# -- correlations -----------------------------------------------------------------------------------------------------


def test_correlation_forgives_order_sign_and_scale(generator: Generator) -> None:
    sources = torch.randn(500, 3, generator=generator)
    z = torch.cat([torch.randn(500, 1, generator=generator), -7 * sources[:, [2, 0, 1]] + 3], 1)
    assert mean_correlation(z, sources) == pytest.approx(1, abs=1e-6)
    assert mean_correlation(z.exp(), sources, kind="spearman") == pytest.approx(1, abs=1e-6)
    assert mean_correlation(z.exp(), sources) < 0.9
    c = math.sqrt(0.5)
    turned = sources[:, :2] @ torch.tensor([[c, c], [-c, c]])
    assert mean_correlation(turned, sources[:, :2]) == pytest.approx(c, abs=0.06)


def test_correlation_is_the_mean_of_the_best_matching(generator: Generator) -> None:
    """Against numpy and every permutation."""
    from itertools import permutations

    import numpy as np

    z, sources = (torch.randn(40, 3, generator=generator) for _ in range(2))
    parity = torch.arange(40) % 2
    for labels in (parity.tolist(), parity.numpy()):
        assert mean_correlation(z.numpy(), sources, labels) == mean_correlation(z, sources, parity)
    table = np.abs(np.corrcoef(sources.T.numpy(), z.T.numpy())[:3, 3:])
    best = max(np.mean([table[i, p[i]] for i in range(3)]) for p in permutations(range(3)))
    assert mean_correlation(z, sources) == pytest.approx(best, abs=1e-6)


def test_class_means_lift_nothing_within_classes(generator: Generator) -> None:
    """Columns of noise around the sources' class means: nearly one over all rows, and nothing within classes."""
    labels = torch.arange(2000) % 2
    centre = 20.0 * labels[:, None]
    sources = centre * torch.tensor([[1.0, 0.0]]) + torch.randn(2000, 2, generator=generator)
    z = centre * torch.tensor([[1.0, 0.0]]) + torch.randn(2000, 2, generator=generator)
    assert mean_correlation(z[:, :1], sources[:, :1]) > 0.98
    assert mean_correlation(z[:, :1], sources[:, :1], labels) < 0.1
    flipped = torch.where(labels[:, None] == 0, sources, -sources)
    assert mean_correlation(flipped, sources, labels) < 0.1  # a sign that changes with the class matches nothing


# -- the model --------------------------------------------------------------------------------------------------------


def test_volume_is_that_of_the_scaler(trained: GIN, dtype: torch.dtype) -> None:
    flow, x = copy.deepcopy(trained).to(dtype), bent(20)[0].to(dtype)
    wanted = -4 * float(flow.bijection.parts[0].std.log()[0])
    jacobian = torch.func.vmap(torch.func.jacrev(flow.bijection._encode))(x).double()
    bound = 1e-9 if dtype is torch.float64 else 1e-5
    assert (torch.linalg.slogdet(jacobian).logabsdet - wanted).abs().max() < bound
    assert (flow.bijection.encode_and_log_det(x)[1] - wanted).abs().max() < 1e-5


def test_statistics_are_exact_after_training(trained: GIN) -> None:
    x, labels, _ = bent(3000)
    moments = class_moments(trained.bijection.encode(x[:2000]).detach(), labels[:2000])
    torch.testing.assert_close(trained.base.mean.detach().double(), moments.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trained.base.log_std.detach().double().exp(), moments.std, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(trained.share.double(), moments.share, atol=1e-6, rtol=1e-6)
    assert (trained.spectrum[1:] <= trained.spectrum[:-1]).all()


@torch.no_grad()
def test_closing_step_never_raises_the_loss(trained: GIN) -> None:
    """From axes turned and put out of order on purpose it comes back; from its own it stays."""
    flow, (x, labels, _) = copy.deepcopy(trained), bent(2000)

    def loss() -> float:
        return -float(log_prob_in_blocks(flow, x, labels).mean())

    flow.finish(x, labels)
    found, closing = loss(), flow.bijection.parts[-1]
    flow.finish(x, labels)
    assert loss() == pytest.approx(found, abs=1e-3)
    turn = torch.eye(4)[[2, 0, 1, 3]]
    turn[:, :2] = turn[:, :2] @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    closing.set_matrix(turn @ closing.matrix)
    flow.base.prepare(flow.bijection.encode(x), labels)
    assert loss() > found + 0.1
    flow.finish(x, labels)
    assert loss() == pytest.approx(found, abs=1e-3)
    assert (flow.spectrum[1:] <= flow.spectrum[:-1]).all()


def test_running_statistics_follow_the_codes() -> None:
    """Without memory they are the batch's own, and those of a class that it lacks stay; evaluation leaves them alone, and
    so does a batch that is not finite."""
    x, labels, _ = bent(400)
    flow = gin(4, 3, depth=2, hidden=(8,), decay=0.0)
    flow.prepare(x, labels)
    before = flow.base.mean.detach().clone()
    rows = labels != 2
    flow.eval().loss(x[rows] + 1, labels[rows])
    assert flow.train().loss(x[rows] * math.nan, labels[rows])["loss"].isnan()
    assert torch.equal(flow.base.mean.detach(), before)
    flow.loss(x[rows] + 1, labels[rows])
    z = flow.bijection.encode(x + 1).detach()
    for u in (0, 1):
        std = z[labels == u].std(0, correction=0)
        torch.testing.assert_close(flow.base.mean[u].detach(), z[labels == u].mean(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(flow.base.log_std[u].detach().exp(), std, atol=1e-5, rtol=1e-3)
    assert torch.equal(flow.base.mean[2].detach(), before[2])


def test_running_statistics_are_a_running_average() -> None:
    """One step at decay ½ from N(0, 1) towards a batch of mean m and variance v: m/2 and (1 + v)/2 + m²/4."""
    flow = gin(4, 1, depth=2, hidden=(8,), decay=0.5)
    x = 3 + 2 * torch.randn(500, 4, generator=Generator().manual_seed(0))
    flow.loss(x, torch.zeros(500, dtype=torch.long))
    z = flow.bijection.encode(x).detach()
    mean, variance = z.mean(0), z.var(0, correction=0)
    torch.testing.assert_close(flow.base.mean[0].detach(), mean / 2)
    torch.testing.assert_close(flow.base.log_std[0].detach().exp().square(), (1 + variance) / 2 + mean.square() / 4)


def test_training_sees_the_likelihood_under_statistics_of_the_batch_itself() -> None:
    """At decay 0 the loss is the entropy of each class's normal, and its gradient that of log deviations alone, since they
    are where it is least; statistics of codes that have since moved cost more."""
    x, labels, _ = bent(300)
    torch.manual_seed(0)
    flow, x = gin(4, 3, depth=2, hidden=(8,), decay=0.0, noise=(0, 0)).double(), x.double()
    flow.prepare(x, labels)
    with torch.no_grad():
        for p in flow.bijection.parameters():
            p += 0.3 * torch.randn(p.shape, generator=Generator().manual_seed(p.numel()))
    stale = flow.eval().loss(x, labels)["loss"].item()
    loss = flow.train().loss(x, labels)["loss"]
    z, log_det = flow.bijection.encode_and_log_det(x)
    share = torch.bincount(labels).double() / len(labels)
    logs = torch.stack([z[labels == u].std(0, correction=0).log().sum() for u in range(3)])
    entropy = (share * logs).sum() + 2 * (1 + math.log(2 * math.pi)) - log_det.mean()
    assert loss.item() == pytest.approx(entropy.item(), abs=1e-9)
    parameters = list(flow.bijection.parameters())
    for got, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(entropy, parameters), strict=True
    ):
        torch.testing.assert_close(got, wanted)
    assert stale > loss.item() + 0.1


def test_weights_of_rows_are_repeated_rows() -> None:
    """In the loss and in the statistics that it is taken under."""
    x, labels, _ = bent(60)
    flow, times = small(3), torch.arange(60) % 3
    flow.prepare(x, labels)
    again = copy.deepcopy(flow)
    whole = again.loss(x.repeat_interleave(times, 0), labels.repeat_interleave(times))["loss"]
    torch.testing.assert_close(flow.loss(x, labels, weight=times.float())["loss"], whole)
    torch.testing.assert_close(flow.spectrum, again.spectrum)


def test_noise_cools_by_equal_factors_and_stays_in_training() -> None:
    """From the data's own deviation to a thousandth of it; `finish` ends it, and evaluation never sees it."""
    flow, (x, labels, _) = small(3), bent(200)
    for step, level in ((0, 1.0), (30, 0.001**0.5), (60, 0.001), (99, 0.001)):
        flow.schedule(step, 100)
        assert flow.now == pytest.approx(level)
    for options, wide in (({}, True), ({"noise": (0, 0)}, False)):
        made = gin(4, 3, depth=2, hidden=(8,), **options)  # type: ignore[arg-type]
        made.prepare(100 * x, labels)
        still, narrow = made.loss(100 * x, labels)["loss"].item(), made.spectrum[-1].item()
        made.schedule(0, 100)
        assert made.eval().loss(100 * x, labels)["loss"].item() == pytest.approx(still, abs=1e-4)
        made.train().loss(100 * x, labels)
        assert bool(made.spectrum[-1] > 1.02 * narrow) is wide
        made.finish(100 * x, labels)
        assert made.now == 0


def test_classes_find_what_the_unconditional_flow_does_not(trained: GIN) -> None:
    """On rows not seen, and beside the unconditional flow with the same closing step."""
    x, labels, sources = bent(3000)
    plain = fitted(small(1), x[:2000], 0 * labels[:2000])
    codes = plain.bijection.encode(x).detach()[:, :2]
    moments = class_moments(codes[:2000], labels[:2000])
    turned = codes.double() @ joint_diagonalizer(moments.covariance, moments.share).mT
    found = trained.bijection.encode(x).detach()
    without = mean_correlation(turned[2000:], sources[2000:], labels[2000:])
    assert trained.informative() == 2
    assert mean_correlation(found[2000:, :2], sources[2000:], labels[2000:]) > max(0.94, without + 0.05)


def test_interrupted_runs_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, the running statistics included."""
    x, labels, _ = bent(500)
    whole, half = fitted(small(3), x, labels, 10), small(3)
    take = half.schedule

    def interrupted(step: int, steps: int) -> None:
        take(step, steps)
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(half, "schedule", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        fitted(half, x, labels, 10, checkpoint=tmp_path / "run.pt")
    again = fitted(small(3), x, labels, 10, checkpoint=tmp_path / "run.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_files_hold_all(tmp_path: Path, trained: GIN) -> None:
    save(trained, tmp_path / "gin.safetensors")
    again = load(tmp_path / "gin.safetensors")
    for name, value in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert again.decay == trained.decay
    assert type(trained.with_base(ClassConditional(4, 2))) is GIN
    assert type(trained.with_base(StandardNormal(4))) is Flow


@torch.no_grad()
def test_sweeps_go_along_one_latent(trained: GIN) -> None:
    rows = trained.sweep(1, torch.tensor([2, 0]), steps=5, reach=2.0)
    assert rows.shape == (2, 5, 4)
    wanted = trained.base.mean[[2, 0]][:, None].repeat(1, 5, 1)
    wanted[..., 1] += torch.linspace(-2, 2, 5) * trained.base.log_std[[2, 0], 1].exp()[:, None]
    torch.testing.assert_close(trained.bijection.encode(rows), wanted, atol=1e-4, rtol=1e-4)
    gaps = identifiability_gap(trained.base.log_std.exp(), trained.share)
    torch.testing.assert_close(trained.identifiability(), gaps[:2, :2])


def test_spectra_are_drawn_in_falling_order(trained: GIN) -> None:
    ax = plots.plot_spectrum({"a": torch.tensor([0.1, 2.0, 1.0]), "b": trained.spectrum}, count=2)
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([2.0, 1.0, 0.1])
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert ax.get_yscale() == "log"


# -- data and refusals ------------------------------------------------------------------------------------------------


def test_mixed_sources_have_the_classes_they_say() -> None:
    for made in (datasets.glow_sources, datasets.sheared_sources):
        data = made(20_000, seed=3)
        moments = class_moments(data.sources, data.labels)
        torch.testing.assert_close(moments.std.float(), data.std, atol=0.12, rtol=0.05)
        torch.testing.assert_close(moments.mean.float(), data.mean, atol=0.15, rtol=0.05)
        assert torch.equal(made(50, seed=3).x, made(50, seed=3).x)
    assert float(identifiability_gap(datasets.sheared_sources(2).std)[0, 1]) > 0.5


def test_bad_input_is_refused(trained: GIN, unchecked: None) -> None:
    x, labels, _ = bent(50)
    unimodular = Unimodular(4)
    for error, words, call in (
        (ValueError, "dim >= 4, got 3", lambda: gin(3, 2)),
        (ValueError, "classes must be at least 1", lambda: gin(4, 0)),
        (ValueError, r"decay in \[0, 1\)", lambda: gin(4, 2, decay=1.0)),
        (ValueError, "falling and above 0", lambda: gin(4, 2, noise=(0.1, 0.0))),
        (TypeError, "ends in Unimodular", lambda: GIN(realnvp(4).bijection, ClassConditional(4, 2))),
        (TypeError, "ClassConditional base", lambda: GIN(trained.bijection, StandardNormal(4))),
        (TypeError, "needs context=", lambda: trained.log_prob(x)),
        (TypeError, "needs context=", lambda: fit(trained, x, epochs=1, progress=False)),
        (TypeError, "integer labels", lambda: trained.log_prob(x, labels.float())),
        (ValueError, "two rows of each class", lambda: fit(small(3), x, labels * 0, epochs=1, progress=False)),
        (ValueError, "numbered 0 to 3", lambda: trained.sweep(4, labels)),
        (ValueError, "start=", lambda: Unimodular(4, "random")),  # type: ignore[arg-type]
        (ValueError, "has an inverse", lambda: unimodular.set_matrix(torch.zeros(4, 4))),
        (ValueError, r"a matrix \(4, 4\)", lambda: unimodular.set_matrix(torch.eye(3))),
        (ValueError, "two rows of each class", lambda: class_moments(x, torch.arange(50))),
        (ValueError, "m >= k", lambda: mean_correlation(x[:, :1], x[:, :2])),
        (ValueError, "kind=", lambda: mean_correlation(x, x, kind="kendall")),  # type: ignore[arg-type]
        (ValueError, "one whole number a row", lambda: mean_correlation(x, x, labels.float())),
        (ValueError, "constant", lambda: mean_correlation(x, torch.zeros(50, 1))),
        (ValueError, "two rows of each class", lambda: mean_correlation(x, x, torch.arange(50))),
    ):
        with pytest.raises(error, match=words):
            call()
