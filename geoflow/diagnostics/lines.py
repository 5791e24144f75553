"""The questions of `check`, a function each: rows and samples in, one line of the table out.

Those to conditions, single columns and derivatives have modules of their own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geoflow.density import Density, Sampler, log_prob_in_blocks
from geoflow.diagnostics import mass
from geoflow.diagnostics.simple import simple_log_probs
from geoflow.diagnostics.table import Line, Verdict
from geoflow.metrics import Coverage, c2st, coverage
from geoflow.metrics.c2st import together
from manifolds import Euclidean


@dataclass(frozen=True)
class Material:
    """What the questions are asked of.

    Attributes:
        model: in eval mode.
        x, context: held-out rows ``(n, dim)`` and their conditions.
        train, train_context: training rows, or None.
        samples: one draw per held-out row and condition, in turn: ``(s, dim)``; `sample_context` its conditions.
        scale: standard deviation of each column of the rows ``(dim,)``.
        why_no_density: why `log_prob` cannot be asked, or None.
        numbers: which of the given held-out rows `x` are ``(n,)``.
        seed: of every further draw.
    """

    model: Sampler
    x: Tensor
    context: Tensor | None
    train: Tensor | None
    train_context: Tensor | None
    samples: Tensor
    sample_context: Tensor | None
    scale: Tensor
    why_no_density: str | None
    numbers: Tensor
    seed: int

    @property
    def density(self) -> Density:
        assert isinstance(self.model, Density)
        return self.model


def held_out(m: Material) -> Line:
    """1: mean held-out log p, beside simple models fitted to the same training rows."""
    name = "held-out log p"
    if m.why_no_density is not None:
        return missing(name, m.why_no_density)
    ours = log_prob_in_blocks(m.density, m.x, m.context).cpu().double()
    figure, error = _mean(ours)
    threshold = "not below the best simple model by more than 2 standard errors"
    if not bool(ours.isfinite().all()):
        n = int((~ours.isfinite()).sum())
        return Line(name, figure, None, threshold, "bad", f"log p of {n} of {len(ours)} held-out rows is not finite.")
    others = _others(m)
    if isinstance(others, str):
        return Line(name, figure, error, "", "unclear", f"{figure:.4g} nats a row, beside nothing: {others}")
    best = max(others, key=lambda k: float(others[k].mean()))
    lead, lead_error = _mean(ours - others[best])
    said = f"{abs(lead):.3g} ± {lead_error:.2g} nats a row"
    verdict: Verdict = "bad" if lead < -2 * lead_error else "good"
    if verdict == "bad":
        sentence = f"Loses to {best} by {said}: the simpler model describes these rows better."
    elif lead < 2 * lead_error:
        sentence = f"No better and no worse than {best} ({lead:+.3g} ± {lead_error:.2g} nats a row)."
    else:
        sentence = f"Beats the best simple model, {best}, by {said}."
    leads = [_mean(ours - v) for v in others.values()]
    drawing = {"lead": torch.tensor([v for v, _ in leads]), "error": torch.tensor([e for _, e in leads])}
    details = {"lead": lead, "lead error": lead_error, **{k: float(v.mean()) for k, v in others.items()}}
    return Line(name, figure, error, threshold, verdict, sentence, details, drawing, tuple(others))


def _others(m: Material) -> dict[str, Tensor] | str:
    """log p of the held-out rows under simple models, or why there are none."""
    space = m.model.space
    if not isinstance(space, Euclidean):
        if not math.isfinite(space.log_volume_total):
            return f"there is no simple density on {space!r} to compare with."
        return {"the uniform density": torch.full((len(m.x),), -space.log_volume_total, dtype=torch.float64)}
    if m.train is None:
        return "pass train= for simple models fitted to the training rows."
    x, train = m.x.cpu().double(), m.train.cpu().double()
    conditions = None
    if m.context is not None and m.train_context is not None:
        conditions = (m.train_context.cpu(), m.context.cpu())
        if not m.model.classes:
            conditions = (conditions[0].double(), conditions[1].double())
    found = simple_log_probs(train, x, conditions, m.model.classes)
    volume = space.log_volume(x)
    return {k: v - volume for k, v in found.items()}


def two_samples(m: Material, permutations: int) -> Line:
    """2: can a classifier tell samples from held-out rows?"""
    name, threshold = "C2ST accuracy", "below 0.6" + (", or p above 0.05" if permutations else "")
    classes = m.model.classes
    drawn = together(m.samples, m.sample_context, classes)[: len(m.x)]
    if len(m.x) < 20 or not bool(drawn.isfinite().all()):
        few = "fewer than 20 held-out rows." if len(m.x) < 20 else "samples are not finite."
        return Line(name, None, None, threshold, "unclear" if len(m.x) < 20 else "bad", f"Not tested: {few}")
    result = c2st(drawn, together(m.x, m.context, classes), permutations=permutations, rows=1000, seed=m.seed)
    p = 0.0 if result.p_value is None else result.p_value
    bad = result.accuracy >= 0.6 and p <= 0.05
    error = 0.5 / math.sqrt(2 * result.rows)
    sentence = (
        f"Boosted trees tell samples from held-out rows in {result.accuracy:.1%} of cases (chance 50%, "
        f"{'' if result.p_value is None else f'p = {p:.2g}, '}{result.rows:,} of each)"
    )
    sentence += ": they are easy to tell apart." if bad else "."
    details = {"rows": float(result.rows), **({} if result.p_value is None else {"p_value": p})}
    return Line(name, result.accuracy, error, threshold, "bad" if bad else "good", sentence, details)


def of_log_p(m: Material) -> Coverage | None:
    """Ranks of the held-out rows' log p among that of samples, for the questions that build on them."""
    return None if m.why_no_density is not None else coverage(m.density, m.x, m.context, draws=2000, seed=m.seed)


def covers(m: Material, result: Coverage | None) -> Line:
    """3: do highest-density sets hold the share of held-out rows that they promise?"""
    name, threshold = "coverage, largest gap", "below 0.05, or p above 0.01"
    if result is None:
        return missing(name, m.why_no_density or "")
    bad = result.ks >= 0.05 and result.p_value <= 0.01
    inside = float((result.ranks <= 0.9).double().mean())
    lean = "too narrow" if inside < 0.9 else "too wide"
    sentence = (
        f"The set that should hold 90% of the mass holds {inside:.1%} of the held-out rows (p = {result.p_value:.2g})"
    )
    sentence += f": the model is {lean}, or its mass lies elsewhere." if bad else "."
    alpha, share = result.curve()
    details = {"p_value": result.p_value, "inside 90%": inside}
    drawing = {"alpha": alpha, "inside": share}
    return Line(name, result.ks, None, threshold, "bad" if bad else "good", sentence, details, drawing)


def integrates(m: Material) -> Line:
    """5: is the mass one?"""
    name, threshold = "mass", "1, within 3 standard errors + 0.02"
    if m.why_no_density is not None:
        return missing(name, m.why_no_density)
    space = m.model.space
    everything = torch.cat([m.x if m.train is None else m.train[:2000], m.samples])
    if not bool(m.samples.isfinite().all()):
        return Line(name, None, None, threshold, "bad", "Not tested: samples are not finite.")
    if math.isfinite(space.log_volume_total):
        generator = torch.Generator(m.x.device).manual_seed(m.seed)
        found = mass.uniform_mass(m.density, m.context, m.x, 20_000, generator)
    elif not isinstance(space, Euclidean):
        return missing(name, f"no estimate for {space!r}, which is neither flat nor compact.")
    elif space.dim <= 2:
        given = None if m.context is None else m.context[:1]
        found = mass.grid_mass(m.density, everything, given, 2000 if space.dim == 1 else 300)
    else:
        found = mass.importance_mass(m.density, everything, m.context, 20_000, m.seed)
    off, room = abs(found.value - 1), 3 * found.error + 0.02
    worth = "" if math.isinf(found.effective) else f", worth {found.effective:,.0f} independent ones"
    how = f"by {found.how}{worth}"
    details = {"effective draws": found.effective}
    if not math.isfinite(found.value) or off > room:
        sentence = f"The density integrates to {found.value:.4g}, not 1 ({how}): its log p is off."
        return Line(name, found.value, found.error, threshold, "bad", sentence, details)
    if found.error > 0.1 or found.effective < 50:
        sentence = f"The estimate ({how}) is too noisy to say more than that nothing speaks against 1."
        return Line(name, found.value, found.error, threshold, "unclear", sentence, details)
    return Line(name, found.value, found.error, threshold, "good", f"The density integrates to one ({how}).", details)


def round_trip(m: Material) -> Line | None:
    """6: does decode undo encode? In standard deviations of the columns; None for models without an auto-encoder."""
    bijection = getattr(m.model, "bijection", None)
    autoencoder = bijection if bijection is not None else getattr(m.model, "autoencoder", None)
    if autoencoder is None:
        return None
    takes = autoencoder.context_dim or autoencoder.classes
    given = m.context if takes else None
    back = autoencoder.reconstruct(m.x, given) if given is not None else autoencoder.reconstruct(m.x)
    off = ((back - m.x).abs() / m.scale).amax(-1).double().cpu()
    off = off.nan_to_num(nan=math.inf)
    worst, median = float(off.max()), float(off.median())
    details = {"median": median, "max": worst}
    if bijection is None:
        sentence = f"decode(encode(x)) is off by {median:.2g} standard deviations in the median, {worst:.2g} at most."
        return Line("reconstruction", median, None, "", "good" if math.isfinite(worst) else "bad", sentence, details)
    root = math.sqrt(torch.finfo(m.x.dtype).eps)
    threshold = f"median below {0.1 * root:.1g}, all below {10 * root:.1g}"
    bad = median > 0.1 * root or worst > 10 * root
    sentence = f"decode(encode(x)) is off by {median:.1g} standard deviations in the median, {worst:.1g} at most"
    kind = str(m.x.dtype).removeprefix("torch.")
    sentence += f": too much for {kind}; log p of such rows means little." if bad else f", which {kind} explains."
    return Line("round trip", worst, None, threshold, "bad" if bad else "good", sentence, details)


def memorises(m: Material) -> Line:
    """8: are samples nearer to training rows than to held-out ones, beyond the numbers of both?

    Among training and held-out rows together, the one nearest to a sample should be a held-out one in the share of the
    held-out rows. The figure is that share over the expected one: 1 is right, 0 a model that repeats its training rows.
    """
    name, threshold = "memorisation ratio", "above 0.8, or within 3 standard errors of 1"
    if m.train is None:
        return missing(name, "pass train= to see whether samples repeat the training rows.")
    if not bool(m.samples.isfinite().all()):
        return Line(name, None, None, threshold, "bad", "Not tested: samples are not finite.")
    x, train, samples = m.x / m.scale, m.train / m.scale, m.samples / m.scale
    to_train, to_held = _nearest(samples, train), _nearest(samples, x)
    expected = len(x) / (len(x) + len(train))
    share = float((to_held < to_train).double().mean())
    ratio = share / expected
    # samples that share a nearest row are one piece of evidence: the held-out rows count beside the samples
    error = math.sqrt((1 - expected) / expected / len(samples) + (1 - expected) / len(x))
    bad = ratio < 0.8 and 1 - ratio > 3 * error
    sentence = (
        f"The row nearest to a sample is a held-out one in {share:.1%} of cases, where {expected:.1%} is expected"
    )
    sentence += ": samples cling to training rows." if bad else "."
    drawing = {"samples": to_train.cpu(), "held-out rows": _nearest(x, train).cpu()}
    details = {"share": share, "expected": expected}
    return Line(name, ratio, error, threshold, "bad" if bad else "good", sentence, details, drawing)


def own_verdict(m: Material) -> Line | None:
    """What the model says of its own held-out figures (see `Sampler.evaluate`), where it has a `verdict`."""
    verdict = getattr(m.model, "verdict", None)
    if verdict is None:
        return None
    with torch.enable_grad():  # some figures are derivatives
        figures = m.model.evaluate(m.x, m.context)
    said = verdict(figures)
    details = {k: float(v) for k, v in figures.items()}
    sentence = f"{said}" if said else "The model finds its own figures in order."
    return Line("own figures", figures["loss"], None, "", "bad" if said else "good", sentence, details)


def _nearest(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, b).amin(1) for rows in a.split(512)])


def _mean(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def missing(name: str, why: str) -> Line:
    """A question that cannot be asked of this model."""
    return Line(name, None, None, "", "missing", why[0].upper() + why[1:])
