"""`fit`: trains any model in place, by the model's own account of its loss, players and held-out figures."""

import os
import signal
from typing import Any, Literal

import torch

from geoflow.density import Sampler, reference, takes_weight
from geoflow.train import checkpoint as files
from geoflow.train.engine import engine
from geoflow.train.feed import Rows, weights
from geoflow.train.history import History
from geoflow.train.loop import Run
from geoflow.train.plan import Plan, Settings


def fit(
    model: Sampler,
    x: Any,
    context: Any = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    validation: Any = 0.1,
    seed: int | None = None,
    progress: bool = True,
    sample_weight: Any = None,
    monitor: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_minutes: float = 10.0,
    compile: bool = False,
    fabric: Any = None,
    weight_decay: float = 1e-5,
    clip: float | None = 5.0,
    patience: int | None = 10,
    ema: float | None = 0.99,
    precision: Literal["bf16"] | None = None,
) -> History:
    """Train `model` in place on rows `x`; returns what happened.

    Adam with a learning rate that falls to zero along a cosine, gradients clipped by norm, and a running average of the
    weights over the last hundred steps or so. Some rows are held out; the model's figure on them (`evaluate`, with the
    averaged weights) is looked at about once an epoch, stops the run when it no longer falls, and chooses the weights
    that the model has in the end. The model is left in eval mode.

    Args:
        model: a density, or anything else that can be sampled and trained. One without steps to train (a Gaussian
            mixture by EM) is only prepared, on all rows.
        x: rows ``(n, dim)``, at least two: tensor, array, DataFrame or nested lists, cast to the model's dtype and
            brought to its device whole; or a map-style data set whose items are x or (x, context), read batch by batch
            (then data statistics and validation use at most 50,000 rows).
        context: one condition per row: float ``(n, context_dim)`` or integer labels ``(n,)``.
        epochs: passes over the rows. None takes a budget of 20 √n steps, at least 1,000, at most 10,000, and at least
            three passes. The learning rate's schedule spans it; early stopping may end it sooner.
        batch_size: rows a step; None is 256, or n/8 (at least 16) below 2,048 rows.
        lr: Adam's first learning rate; None is 2e-3.
        validation: fraction of rows held out, or the held-out rows themselves: x, or (x, context). 0 is none: then
            nothing stops the run early and the last weights stay.
        seed: of the split, the order of rows and every draw; None takes one from torch's global generator. Global
            generators are seeded inside and put back afterwards. The same seed gives the same weights, bit for bit, on
            one device.
        progress: whether to show one bar on stderr.
        sample_weight: ``(n,)``, scaled to mean one over the training rows. For losses that are means over rows: an
            integer weight is as good as a repeated row. The effective number of rows, (Σ w)² / Σ w², is shown beside the
            bar and kept as ``history.effective_rows``. Negative weights (of simulated events, say) are allowed with a
            warning, if each part's sum is positive: the loss is then unbounded below, and held-out rows must stop the run.
            Statistics that `prepare` takes (means, scales, EM) do not see weights; those of `finish` do where a model says so.
        monitor: which figure of `evaluate` decides, lower is better; None is the first, "loss", and of a model that is to
            be trained to the end (`Sampler.to_the_end`) none: it runs all epochs, and keeps the last averaged weights.
        checkpoint: a file to continue from if it exists, written every `checkpoint_minutes`, on Ctrl-C and on SIGTERM
            (which is then passed on). An interrupted run continues bit for bit; a finished one returns at once.
        compile: whether to train through `torch.compile` (seconds to minutes at first, faster steps).
        fabric: a `lightning_fabric.Fabric` for several devices, launched by the caller. Each process takes its share
            of each batch. Models with several players need a strategy that detects unused parameters.
        weight_decay: Adam's, an L2 penalty.
        clip: largest norm of a step's gradient; None is no limit.
        patience: checks without improvement before the run stops; None never stops early.
        ema: decay a step of a running average of the weights, which is what is validated and kept; it forgets sooner in
            the first steps. None is no average.
        precision: "bf16" runs the forward pass in bfloat16 where autocast finds it safe; figures on held-out rows are
            always in full precision. Worth it on a GPU, for large networks.

    Ctrl-C ends the run after the step at hand: the best weights so far are put into the model, and a warning says so.
    So does a loss or gradient that is not finite; the warning then names step, rows and the first guilty module.

    Raises:
        ValueError, TypeError: the data, weights or settings do not fit; a checkpoint is damaged or belongs to another
            run (the message lists the differences); the very first loss is not finite.

    >>> from geoflow.flows import realnvp
    >>> history = fit(realnvp(2), torch.randn(200, 2), epochs=1, seed=0, progress=False)
    >>> history.stopped
    'all epochs done'
    """
    model = getattr(model, "_orig_mod", model)  # train the bare model: a compiled one is asked for by compile=True
    if not isinstance(model, Sampler):
        raise TypeError(
            f"fit expects a geoflow model, got {type(model).__name__}: geoflow.interop wraps other libraries'."
        )
    if fabric is not None and precision is not None:
        raise ValueError(f"fit: with fabric= the precision is the Fabric's: Fabric(precision=...), not {precision!r}.")
    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        validation=validation,
        progress=progress,
        monitor=monitor,
        checkpoint=checkpoint,
        checkpoint_minutes=checkpoint_minutes,
        compile=compile,
        weight_decay=weight_decay,
        clip=clip,
        patience=patience,
        ema=ema,
        precision=precision,
    )
    like = reference(model)
    dtype = torch.get_default_dtype() if like is None else like.dtype
    runner = engine(fabric)
    device = runner.place(model, torch.device("cpu") if like is None else like.device)
    rows = Rows(model, x, context, dtype, device)
    weight = weights(sample_weight, len(rows), dtype, device)
    if weight is not None and not takes_weight(model.loss):
        raise TypeError(f"fit: the loss of {type(model).__name__} takes no weights: leave out sample_weight.")
    if weight is not None and not model.players():
        raise ValueError(f"fit: {type(model).__name__} is fitted in one go, without weights: leave out sample_weight.")
    rows.inspect()
    saved = None if checkpoint is None else files.read(checkpoint)
    if seed is None:
        seed = int(torch.randint(2**62, ())) if saved is None else int(saved["history"]["seed"])
        seed = runner.same(seed)
    with files.seeded(seed, device):
        run = Run(model, Plan(model, rows, weight, settings, seed, runner.world), runner, device)
        with torch.enable_grad():  # also where the caller has switched it off
            history = run.go(saved)
    if run.signal == signal.SIGTERM:
        signal.raise_signal(signal.SIGTERM)  # whoever ends this process still does, with the checkpoint on disk
    return history
