"""Laws of samplers and densities: one mass, one score, one set of draws, whatever the model behind them."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from geoflow import Density, load, save
from manifolds import Euclidean, Hyperboloid, Manifold, MeanFree, PoincareBall, Product
from tests.laws.registry import DENSITIES, SAMPLERS, Case
from tests.laws.tools import (
    build,
    cases,
    central,
    close,
    context_for,
    copies,
    derivatives_are_finite,
    eps,
    is_smooth_along,
    obeys_batches,
    untouched,
)

CONDITIONAL = {n: c for n, c in DENSITIES.items() if (m := c.make()).context_dim or m.classes}
LOG_2PI = math.log(2 * math.pi)


def draw(model: Any, n: int, g: Generator, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor | None]:
    """n of the model's own points, each under a context of its own."""
    context = context_for(model, (n,), dtype, g)
    return (model.sample(n, generator=g) if context is None else model.sample((), context, g)), context


def one_context(model: Any, g: Generator) -> Tensor | None:
    return context_for(model, (), torch.float64, g)


def rounding(case: Case, dtype: torch.dtype, *values: Tensor) -> float:
    """A bound for sums of some hundred numbers of this size."""
    return 256 * case.slack * eps(dtype) * max([1.0, *(float(v.detach().abs().max()) for v in values)])


# -- score and mass ----------------------------------------------------------------------------------------------------


@cases(DENSITIES)
def test_score_is_the_gradient_of_log_prob(case: Case, generator: Generator) -> None:
    """inner(score, b) is the difference quotient of log_prob along each direction b of the tangent space."""
    model = build(case)
    x, context = draw(model, 8, generator)
    score = model.score(x, context)
    close(model.space.to_tangent(x, score), score, 1e-12)
    for b in model.space.tangent_basis(x).unbind(-1):
        slope = central(
            lambda h, b=b: model.log_prob(model.space.retract(x, h * case.width * b), context),
            3e-4 if case.smooth else 1e-6,
        )
        inner = case.width * model.space.inner(x, score, b)
        close(inner, slope[0], 1e-9 if case.smooth else 1e-7, 1e-9 if case.smooth else 1e-7)


def on(space: Manifold) -> Any:
    """Something that has this space."""
    return SimpleNamespace(space=space)


def proposal(model: Any, x: Tensor, n: int, g: Generator) -> tuple[Tensor, Tensor]:
    """Points that cover the space around the rows x, and their log density against the Riemannian volume."""
    space = model.space
    if math.isfinite(space.log_volume_total):
        points = space.sample_uniform(n, generator=g, dtype=x.dtype)
        return points, torch.full((n,), -space.log_volume_total, dtype=x.dtype)
    if isinstance(space, Product):
        parts = [proposal(on(f), rows, n, g) for f, rows in zip(space.factors, space.split(x), strict=True)]
        return torch.cat([p for p, _ in parts], -1), torch.stack([q for _, q in parts]).sum(0)
    if isinstance(
        space, (PoincareBall, Hyperboloid)
    ):  # normals of three widths in the tangent space at the mean, wrapped
        centre, c = space.mean(x), space.curvature
        std = space.coords(centre, space.log(centre, x)).square().mean().sqrt()
        widths = std * torch.tensor([0.8, 1.3, 2.0], dtype=x.dtype)
        v = widths[torch.randint(3, (n, 1), generator=g)] * torch.randn(n, space.dim, dtype=x.dtype, generator=g)
        r2 = v.square().sum(-1)
        each = -0.5 * r2[:, None] / widths**2 - space.dim * (widths.log() + 0.5 * LOG_2PI)
        r = (c * r2).sqrt()
        log_q = torch.logsumexp(each, -1) - math.log(3) - (space.dim - 1) * (r.sinh() / r).log()
        return space.exp(centre, (space.tangent_basis(centre) @ v[..., None])[..., 0]), log_q
    if isinstance(space, MeanFree):  # flat space in the coordinates of an orthonormal basis
        basis = space.tangent_basis(x[0])
        points, log_q = proposal(on(Euclidean(space.dim)), x @ basis, n, g)
        return points @ basis.T, log_q
    if not isinstance(space, Euclidean):
        raise NotImplementedError(f"this law needs a proposal on {space!r}: give it one here.")
    mean, std = x.mean(0), x.std(0)
    widths = torch.tensor([1.3, 2.5, 6.0], dtype=x.dtype)
    wide = widths[torch.randint(3, (n, 1), generator=g)]
    points = mean + wide * std * torch.randn(n, space.dim, dtype=x.dtype, generator=g)
    z2 = (((points - mean) / std) ** 2).sum(-1, keepdim=True)
    each = -0.5 * z2 / widths**2 - space.dim * (widths.log() + 0.5 * LOG_2PI)
    log_q = torch.logsumexp(each, -1) - math.log(3) - std.log().sum()
    return points, log_q - space.log_volume(points)


def mass(model: Density, context: Tensor | None, g: Generator) -> tuple[float, float]:
    """∫ p and its error: on a grid up to two dimensions of flat space, by importance elsewhere."""
    x = model.sample(4000, context, g)
    if isinstance(model.space, Euclidean) and model.dim <= 2:
        side, half = (4001, 16.0) if model.dim == 1 else (600, 16.0)
        steps = torch.linspace(-half, half, side, dtype=x.dtype)
        grid = torch.cartesian_prod(*[steps] * model.dim).reshape(-1, model.dim)
        points = x.mean(0) + x.std(0) * grid
        cell = float(x.std(0).prod()) * float(steps[1] - steps[0]) ** model.dim
        p = (model.log_prob(points, context) + model.space.log_volume(points)).exp()
        return float(p.sum()) * cell, 1e-4
    points, log_q = proposal(model, x, 40_000, g)
    w = (model.log_prob(points, context) - log_q).exp()
    return float(w.mean()), 4 * float(w.std()) / math.sqrt(len(w)) + 1e-9  # a uniform density has no deviation


@cases(DENSITIES)
@torch.no_grad()
def test_mass_is_one(case: Case, generator: Generator) -> None:
    model = build(case)
    for _ in range(2):
        total, error = mass(model, one_context(model, generator), generator)
        assert abs(total - 1) < error < 0.1


@cases(DENSITIES)
@torch.no_grad()
def test_draws_follow_log_prob(case: Case, generator: Generator) -> None:
    """Means over draws of log p, its square, the coordinates and their squares are the density's, within errors."""
    model = build(case)
    context = one_context(model, generator)
    x = model.sample(20_000, context, generator)
    points, log_q = proposal(model, x[:4000], 60_000, generator)
    log_p = model.log_prob(points, context)
    w = (log_p - log_q).exp()[:, None]

    def features(x: Tensor, log_p: Tensor) -> Tensor:
        return torch.cat([log_p[:, None], log_p[:, None] ** 2, x, x**2], -1)

    drawn, wanted = features(x, model.log_prob(x, context)), w * features(points, log_p)
    error = torch.hypot(drawn.std(0) / math.sqrt(len(x)), wanted.std(0) / math.sqrt(len(points))).clamp_min(1e-9)
    z = (drawn.mean(0) - wanted.mean(0)) / error
    assert z.abs().max() < 4.5, z
    assert error[0] < 0.1


@cases(DENSITIES, without="entropy")
@torch.no_grad()
def test_entropy(case: Case, generator: Generator) -> None:
    model = build(case)
    context = one_context(model, generator)
    rows = -model.log_prob(model.sample(20_000, context, generator), context)
    assert abs(float(rows.mean() - model.entropy(context))) < 4 * float(rows.std()) / math.sqrt(len(rows)) + 1e-9
    assert model.entropy(context).dtype == torch.float64


@cases(DENSITIES, without="tempered")
@torch.no_grad()
def test_tempered(case: Case, generator: Generator) -> None:
    """log p_T − log p / T is the same everywhere, and p_T has mass one."""
    model = build(case)
    x, context = draw(model, 50, generator)
    for temperature in (0.5, 3.0):
        other = model.tempered(temperature)
        gap = other.log_prob(x, context) - model.log_prob(x, context) / temperature
        close(gap, gap[:1].expand_as(gap), 1e-11)
        total, error = mass(other, None if context is None else context[0], generator)
        assert abs(total - 1) < error


@cases(DENSITIES, without="from_data")
def test_from_data_fits(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """A member of the family fitted to a model's draws likes them no less than the model itself does."""
    model = build(case, dtype)
    x, context = draw(model, 3000, generator, dtype)
    with untouched(x, context):
        fitted = type(model).from_data(x, context, **case.fit)
    assert fitted.log_prob(x, context).dtype == dtype
    gain = fitted.log_prob(x, context).mean() - model.log_prob(x, context).mean()
    assert -1e-3 < gain < 0.05  # EM stops when it gains less than 1e-3


@cases(DENSITIES)
@torch.no_grad()
def test_far_away(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """Where nothing was ever drawn the log density is very low, and a number."""
    model = build(case, dtype)
    x, context = draw(model, 6, generator, dtype)
    if isinstance(model.space, Euclidean):
        log_p = model.log_prob(x + 1e4 * torch.sign(x), context)
        assert log_p.isfinite().all()
        assert (log_p < -1e3).all()
    else:
        log_p = model.log_prob(model.space.project(-x), context)
        assert not log_p.isnan().any()
        assert (log_p < math.inf).all()


# -- derivatives -------------------------------------------------------------------------------------------------------


@cases(DENSITIES, smooth=True)
def test_log_prob_is_smooth(case: Case, generator: Generator) -> None:
    """jvp, jacrev and second derivatives of log_prob and score along a curve equal differences."""
    model = build(case)
    x, context = draw(model, 3, generator)
    v = case.width * model.space.random_tangent(x, generator=generator)
    is_smooth_along(lambda t: model.log_prob(model.space.retract(x, t * v), context), tol=2e-9)
    is_smooth_along(lambda t: model.score(model.space.retract(x, t * v), context), tol=2e-9)


@cases(DENSITIES)
def test_score_can_be_differentiated_by_autograd(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """As score matching does: the gradient of |score|² in x and in the parameters."""
    model = build(case, dtype)
    x, context = draw(model, 5, generator, dtype)
    derivatives_are_finite(lambda y: model.log_prob(y, context), x)
    derivatives_are_finite(lambda y: model.score(y, context), x)
    parameters = list(model.parameters())
    if parameters:
        grads = torch.autograd.grad(model.score(x, context).square().sum(), parameters, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in grads)
        assert any(g is not None and g.any() for g in grads)


# -- draws -------------------------------------------------------------------------------------------------------------


@cases({**DENSITIES, **SAMPLERS}, without="sample")
def test_shapes_of_draws(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """(*n, *context batch, dim); draws are points of the space, of the model's dtype, outside the graph."""
    model = build(case, dtype)
    for n, lead in ((5, (5,)), ((2, 3), (2, 3)), ((), ()), (0, (0,)), ((2, 0), (2, 0))):
        batches: list[tuple[int, ...]] = [(), (4,), (3, 1)] if model.context_dim or model.classes else [()]
        for batch in batches:
            context = context_for(model, batch, dtype, generator)
            x = model.sample(n, context, generator)
            assert x.shape == (*lead, *batch, model.dim)
            assert x.dtype == dtype
            assert not x.requires_grad
            assert model.space.contains(x).all()


@cases({**DENSITIES, **SAMPLERS}, without="sample")
def test_draws_repeat_under_a_seed(case: Case, generator: Generator) -> None:
    """The generator decides alone and the global one is left alone; without a generator the global one decides."""
    model = build(case)
    context = one_context(model, generator)
    before = torch.get_rng_state()
    a, b, c = (model.sample(7, context, Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    torch.manual_seed(5)
    a, b = model.sample(7, context), model.sample(7, context)
    torch.manual_seed(5)
    assert torch.equal(a, model.sample(7, context))
    assert not torch.equal(a, b)


@cases(DENSITIES, without="rsample")
def test_differentiable_draws(case: Case, generator: Generator) -> None:
    """The derivative of rsample in the parameters is what moving them does to the same draws."""
    model = build(case)
    context = context_for(model, (4,), torch.float64, generator)
    close(
        model.rsample(3, context, Generator().manual_seed(2)),
        model.sample(3, context, Generator().manual_seed(2)),
        rounding(case, torch.float64),
    )
    x, log_p = model.rsample_and_log_prob(3, context, generator)
    close(log_p, model.log_prob(x, context), rounding(case, torch.float64, log_p))
    parameters = [p for p in model.parameters() if p.requires_grad]
    if case.implicit or not parameters:
        return
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]

    def moved(h: float) -> Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(h * d)
            x = model.rsample(6, context, Generator().manual_seed(2))
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(h * d)
        weights = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)
        return (weights * x).sum()

    (slope,) = central(moved, 3e-4 if case.smooth else 1e-6)
    x = model.rsample(6, context, Generator().manual_seed(2))
    weights = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)
    grads = torch.autograd.grad((weights * x).sum(), parameters, allow_unused=True)
    along = sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)
    close(along, slope, 1e-7, 1e-7)


# -- calls -------------------------------------------------------------------------------------------------------------


@cases(DENSITIES)
def test_batches(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    model = build(case, dtype)
    x, context = draw(model, 6, generator, dtype)
    with torch.no_grad():
        log_p, score = model.log_prob(x, context), model.score(x, context)
        assert log_p.shape == (6,)
        assert score.shape == x.shape
        assert log_p.dtype == score.dtype == dtype
        obeys_batches(model.log_prob, x, context, tol=rounding(case, dtype, log_p))
        obeys_batches(model.score, x, context, tol=rounding(case, dtype, score))


@cases(CONDITIONAL)
@torch.no_grad()
def test_points_and_contexts_broadcast(case: Case, generator: Generator) -> None:
    """x (5, 1) against contexts (4,) is a table (5, 4)."""
    model = build(case)
    x = draw(model, 5, generator)[0]
    context = context_for(model, (4,), torch.float64, generator)
    table = model.log_prob(x[:, None], context)
    assert table.shape == (5, 4)
    for j in range(4):
        close(table[:, j], model.log_prob(x, context[j]), rounding(case, torch.float64, table))


@cases(DENSITIES)
@torch.no_grad()
def test_float32_agrees_with_float64(case: Case, generator: Generator) -> None:
    model = build(case, torch.float32)
    x, context = draw(model, 200, generator, torch.float32)
    single = model.log_prob(x, context)
    model.double()
    double = model.log_prob(model.space.project(x.double()), context.double() if model.context_dim else context)
    assert single.dtype == torch.float32
    close(single.double(), double, rounding(case, torch.float32, double))


@cases(DENSITIES)
def test_inputs_are_left_alone(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    model = build(case, dtype)
    x, context = draw(model, 30, generator, dtype)
    weight = torch.rand(30, dtype=dtype, generator=generator)
    if model.classes:
        context = torch.arange(30) % model.classes
    for flag in (False, True):
        x.requires_grad_(flag)
        with untouched(x, context, weight):
            model.log_prob(x, context)
            model.score(x, context)
            model.sample(3, context, generator)
            model.loss(x, context, weight=weight)
            model.evaluate(x, context, weight)
            model.prepare(x.detach(), context)
            model.finish(x.detach(), context)


@cases(DENSITIES)
def test_context_is_asked_for_and_refused(
    case: Case, dtype: torch.dtype, generator: Generator, unchecked: None
) -> None:
    model = build(case, dtype)
    x, context = draw(model, 4, generator, dtype)
    if context is None:
        for call in (lambda: model.log_prob(x, torch.zeros(4, 1)), lambda: model.sample(2, torch.zeros(4, 1))):
            with pytest.raises(TypeError, match="takes no context.*leave it out"):
                call()
        return
    for call in (lambda: model.log_prob(x), lambda: model.score(x), lambda: model.sample(2)):
        with pytest.raises(TypeError, match="conditional and needs context="):
            call()
    with pytest.raises(ValueError, match=r"context has batch \(3,\), x has \(4,\): give one context per row"):
        model.log_prob(x, context[:3])
    if model.classes:
        with pytest.raises(
            ValueError, match=rf"labels .* below {model.classes}; got values in \[\d, {model.classes}\]"
        ):
            model.log_prob(x, torch.full((4,), model.classes))
        with pytest.raises(TypeError, match=r"integer labels .* got torch.float"):
            model.log_prob(x, context.to(dtype))
    else:
        with pytest.raises(ValueError, match=rf"{model.context_dim} .*got shape \(4, {model.context_dim + 1}\)"):
            model.log_prob(x, torch.zeros(4, model.context_dim + 1, dtype=dtype))


# -- training's side ---------------------------------------------------------------------------------------------------


@cases(DENSITIES)
def test_loss_is_a_weighted_mean_over_rows(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """mean(weight · row), with the row's own loss −log p, or an estimate that is linear in the weights for given draws.

    The first term is "loss"; `forward` is `loss`.
    """
    model = build(case, dtype)
    x, context = draw(model, 12, generator, dtype)
    weight = torch.rand(12, dtype=dtype, generator=generator)

    def loss(weight: Tensor | None, call: Any = model.loss) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            terms = call(x, context, weight=weight)
        assert next(iter(terms)) == "loss"
        return terms["loss"]

    rows = -model.log_prob(x, context)
    tol = rounding(case, dtype, rows)
    if case.estimated:
        close(loss(weight) + loss(2 - weight), 2 * loss(None), 4 * tol)
    else:
        close(loss(weight), (weight * rows).mean(), tol)
        close(loss(None), rows.mean(), tol)
    close(loss(weight, model), loss(weight), 0)
    for player in model.players():
        trained = list(player.parameters)
        assert trained
        assert {id(p) for p in trained} <= {id(p) for p in model.parameters()}
        terms = model.loss(x, context, weight=weight, player=player.name)
        grads = torch.autograd.grad(terms["loss"], trained, allow_unused=True)
        assert all(g is not None and g.isfinite().all() for g in grads), "a parameter that nothing trains"


@cases(DENSITIES)
def test_evaluate_gives_exact_figures(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    model = build(case, dtype)
    x, context = draw(model, 50, generator, dtype)
    weight = torch.rand(50, dtype=dtype, generator=generator)
    rows = -model.log_prob(x, context).detach()
    figures = model.evaluate(x, context)
    assert next(iter(figures)) == "loss"
    assert all(type(v) is float for v in figures.values())
    assert figures["loss"] == pytest.approx(float(rows.mean()), abs=rounding(case, dtype, rows))
    weighted = model.evaluate(x, context, weight)["loss"]
    assert weighted == pytest.approx(float((weight * rows).mean()), abs=rounding(case, dtype, rows))


@cases(DENSITIES)
def test_prepared_models_fit_better_than_none(case: Case, generator: Generator) -> None:
    """`prepare` on rows of another place and scale leaves a finite loss, and repeats under the same seed."""
    twins = [build(case, stir=0.0) for _ in range(2)]
    x = 40.0 + 7.0 * torch.randn(300, twins[0].dim, dtype=torch.float64, generator=generator)
    if case.points is not None:
        x = case.points((x - 40) / 7)
    if not isinstance(twins[0].space, Euclidean):
        x = twins[0].space.project(x)
    context = context_for(twins[0], (300,), torch.float64, generator)
    before = twins[0].evaluate(x, context)["loss"]
    for twin in twins:
        twin.prepare(x, context)
    after = [twin.evaluate(x, context)["loss"] for twin in twins]
    assert after[0] == after[1]
    assert after[0] <= before


# -- copies and files --------------------------------------------------------------------------------------------------


@cases(DENSITIES)
@torch.no_grad()
def test_copies_are_equal_to_the_bit(case: Case, dtype: torch.dtype, generator: Generator, tmp_path: Any) -> None:
    model = build(case, dtype)
    x, context = draw(model, 20, generator, dtype)
    save(model, tmp_path / "model.safetensors", note="kept")
    others = dict(copies(model)) | {"file": load(tmp_path / "model.safetensors")}
    for how, other in others.items():
        assert type(other) is type(model)
        assert other.space == model.space
        assert torch.equal(other.log_prob(x, context), model.log_prob(x, context)), how
        same = (m.sample(5, context, Generator().manual_seed(1)) for m in (other, model))
        assert torch.equal(*same), how
        assert not {id(p) for p in other.parameters()} & {id(p) for p in model.parameters()}


@cases({**DENSITIES, **SAMPLERS})
def test_what_is_lacking_says_what_to_use(case: Case, generator: Generator) -> None:
    model = build(case)
    context = one_context(model, generator)
    calls = {
        "sample": lambda: model.sample(3, context),
        "rsample": lambda: model.rsample(3, context),
        "entropy": lambda: model.entropy(context),
        "tempered": lambda: model.tempered(2.0),
        "from_data": lambda: type(model).from_data(torch.randn(20, model.dim)),
    }
    for verb in case.lacks:
        with pytest.raises(NotImplementedError, match=r"^\w+ has no .*[:;] .{10,}\.$"):
            calls[verb]()
