"""Single columns and single rows: marginal distributions, and rows that a density did not expect."""

import torch

from geoflow.diagnostics.lines import Material, missing
from geoflow.diagnostics.table import Line
from geoflow.metrics import Coverage

LEVEL = 0.01
"""The share of the model's own samples that count as unlikely."""


def by_column(m: Material) -> Line:
    """9a: does each column by itself have the distribution that samples have? PIT: ranks of rows among samples."""
    name, threshold = "PIT of columns, largest gap", "below 0.05, or p above 0.001"
    if not bool(m.samples.isfinite().all()):
        return Line(name, None, None, threshold, "bad", "Not tested: samples are not finite.")
    from scipy import stats

    x, samples = m.x.cpu().double(), m.samples.cpu().double()
    tests = [stats.ks_2samp(a.numpy(), b.numpy()) for a, b in zip(x.T, samples.T, strict=True)]
    worst = max(range(len(tests)), key=lambda j: float(tests[j].statistic))
    gap, p = float(tests[worst].statistic), min(1.0, len(tests) * min(float(t.pvalue) for t in tests))
    bad = gap >= 0.05 and p <= 0.001
    sentence = f"Of {len(tests)} columns number {worst} differs most from the samples' (p = {p:.2g} over all)"
    sentence += ": its marginal distribution is wrong." if bad else "."
    rank = torch.searchsorted(samples[:, worst].sort().values, x[:, worst].contiguous()).double() / len(samples)
    alpha = torch.linspace(0, 1, 101, dtype=torch.float64)
    inside = torch.searchsorted(rank.sort().values, alpha, right=True).double() / len(rank)
    labels = (f"share of samples below, column {worst}", "share of held-out rows below")
    details = {"p_value": p, "column": float(worst)}
    drawing = {"alpha": alpha, "inside": inside}
    return Line(name, gap, None, threshold, "bad" if bad else "good", sentence, details, drawing, labels)


def outliers(m: Material, found: Coverage | None) -> Line:
    """9b: how many held-out rows are less likely than 99 % of the model's own samples?"""
    name, threshold = "outliers", f"below {2 * LEVEL:.0%}, or p above 0.001"
    if found is None:
        return missing(name, m.why_no_density or "")
    from scipy import stats

    unlikely = found.ranks > 1 - LEVEL
    n, count = len(unlikely), int(unlikely.sum())
    if m.context is None:  # one set of draws for all rows, of which LEVEL are that unlikely by definition
        few = round(LEVEL * found.draws)
        p = float(stats.fisher_exact([[count, n - count], [few, found.draws - few]], "greater").pvalue)
    else:
        p = float(stats.binomtest(count, n, LEVEL, "greater").pvalue)
    bad = count >= 2 * LEVEL * n and p <= 0.001
    sentence = f"{count / n:.1%} of the held-out rows are less likely than {1 - LEVEL:.0%} of the samples (p = {p:.2g})"
    if bad:
        worst = found.ranks.argsort(descending=True, stable=True)[:5].tolist()
        named = ", ".join(str(int(m.numbers[i])) for i in worst)
        sentence += f", rows {named} foremost: the model does not expect them."
    else:
        sentence += "."
    details = {"rows": float(count), "p_value": p}
    return Line(name, count / n, None, threshold, "bad" if bad else "good", sentence, details)
