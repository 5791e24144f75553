"""`check`: asks a model what it should be asked before anyone believes it."""

from typing import Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.density import Density, Sampler, reference
from geoflow.diagnostics import calibration, derivative, lines, marginals
from geoflow.diagnostics.fermat import check_space
from geoflow.diagnostics.table import HonestyTable, Line
from geoflow.distances import FermatSpace
from geoflow.train.feed import Rows


def check(
    model: Sampler | FermatSpace,
    x: Any,
    context: Any = None,
    *,
    train: Any = None,
    rows: int = 5000,
    samples: int = 2000,
    permutations: int = 40,
    pairs: int = 64,
    seed: int = 0,
) -> HonestyTable:
    """The honesty table of a model on rows that it was not trained on.

    Lines: held-out log p beside simple models fitted to the training rows; a classifier between samples and held-out
    rows; coverage of highest-density sets; of conditional models ranks among draws of the same condition, by column
    (SBC) and by distance (TARP); total mass; round trip; the score against differences of log p; memorisation; rows that
    the model does not expect; the distribution of each column by itself (PIT). Each has a figure, a threshold and a
    sentence; what cannot be asked of a model says why. `print` it, look at `.ok`, draw it with `.plot()`. A model that
    has a method `verdict(figures)`, a sentence or None about its own `evaluate`, is asked for that too.

    Of a `FermatSpace`: pieces of its graph and its longest edge; how graph distances move with twice the neighbours and
    with half the points; whether geodesics between rows came to rest, are no longer than the graph's, and as long back.

    A good table is no proof: it says that none of these tests, at this number of rows, found anything. Takes some
    fifteen seconds of one core for 10,000 rows of 10 columns, half of them in the classifier.

    Args:
        model: a density or sampler, its mode is put back; or a `FermatSpace`.
        x: held-out rows ``(n, dim)``, as `fit` takes them; for a Fermat space None takes its points.
        context: their conditions.
        train: the training rows, x or (x, context); without them the lines that need them say so.
        rows: of more held-out and training rows, so many are drawn.
        samples: number of samples.
        permutations: of the classifier's p-value; 0 leaves it out and saves most of the time.
        pairs: of rows, between which the geodesics of a Fermat space are looked at.
        seed: of subsamples, samples and tests; global generators are left alone.

    >>> from geoflow import DiagonalNormal
    >>> rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    >>> table = check(DiagonalNormal.from_data(rows[:200]), rows[200:], train=rows[:200])
    >>> table.ok, table["mass"].verdict
    (True, 'good')
    """
    if isinstance(model, FermatSpace):
        if context is not None or train is not None:
            raise TypeError("check of a FermatSpace takes rows alone: context= and train= belong to its density.")
        return check_space(model, x, validate.count(pairs, "check", "pairs", 1), seed)
    if not isinstance(model, Sampler):
        raise TypeError(f"check expects a geoflow model, got {type(model).__name__}: geoflow.interop wraps others.")
    like = reference(model)
    dtype = torch.get_default_dtype() if like is None else like.dtype
    device = torch.device("cpu") if like is None else like.device
    generator = torch.Generator().manual_seed(seed)
    held, numbers, all_held = _some(Rows(model, x, context, dtype, device, who="check"), rows, generator)
    known: tuple[Tensor | None, Tensor | None] = (None, None)
    all_known = 0
    if train is not None:
        pair = train if isinstance(train, tuple) else (train, None)
        known, _, all_known = _some(Rows(model, pair[0], pair[1], dtype, device, "train", "check"), rows, generator)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            material = _material(model, held, known, samples, numbers, seed)
            of_log_p = lines.of_log_p(material)
            asked = [
                lines.held_out(material),
                lines.two_samples(material, permutations),
                lines.covers(material, of_log_p),
                *_given_conditions(material),
                lines.integrates(material),
                lines.round_trip(material),
                derivative.score(material),
                lines.memorises(material),
                marginals.outliers(material, of_log_p),
                marginals.by_column(material),
                lines.own_verdict(material),
            ]
    finally:
        model.train(training)
    about = f"{len(held[0]):,} of {all_held:,} held-out rows, "
    if known[0] is not None:
        about += f"{len(known[0]):,} of {all_known:,} training rows, "
    about += f"{len(material.samples):,} samples, seed {seed}"
    return HonestyTable(type(model).__name__, tuple(line for line in asked if line is not None), about)


def _some(rows: Rows, most: int, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor | None], Tensor, int]:
    """At most so many rows, drawn without replacement, in their order; their numbers; and how many there are."""
    index = torch.randperm(len(rows), generator=generator)[:most].sort().values
    return rows.take(index), index, len(rows)


def _given_conditions(m: lines.Material) -> list[Line]:
    """What only conditional models are asked."""
    if m.context is None:
        return []
    found = calibration.ranked(m)
    return [calibration.by_column(m, found), calibration.by_distance(found)]


def _material(
    model: Sampler,
    held: tuple[Tensor, Tensor | None],
    known: tuple[Tensor | None, Tensor | None],
    samples: int,
    numbers: Tensor,
    seed: int,
) -> lines.Material:
    x, context = held
    generator = torch.Generator(x.device).manual_seed(seed)
    if context is None:
        conditions, drawn = None, model.sample_noisy(samples, generator=generator)
    else:
        conditions = context[torch.arange(samples, device=context.device) % len(context)]
        drawn = model.sample_noisy((), conditions, generator=generator)
    return lines.Material(
        model=model,
        x=x,
        context=context,
        train=known[0],
        train_context=known[1],
        samples=drawn,
        sample_context=conditions,
        scale=(x if known[0] is None else known[0]).std(0).clamp_min(torch.finfo(x.dtype).tiny),
        why_no_density=_why_not(model, x, context),
        numbers=numbers,
        seed=seed,
    )


def _why_not(model: Sampler, x: Tensor, context: Tensor | None) -> str | None:
    if not isinstance(model, Density):
        return f"{type(model).__name__} has no log_prob" + (
            ", only a bound." if getattr(model, "bounded", False) else "."
        )
    try:
        model.log_prob(x[:1], None if context is None else context[:1])
    except NotImplementedError as error:
        return str(error)
    return None
