"""Coverage of highest-density sets: does the set that a density says holds 90 % of the mass hold 90 % of the data?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geoflow import validate
from geoflow.density import Density, log_prob_in_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Coverage:
    """Result of `coverage`.

    Attributes:
        ranks: ``(n,)`` for each row the model's mass that is denser than it; uniform on [0, 1] if the model is right.
        ks: largest gap between their distribution and the uniform one.
        p_value: of the two-sided Kolmogorov-Smirnov test.
        draws: model samples a rank was counted from.
    """

    ranks: Tensor
    ks: float
    p_value: float
    draws: int

    def curve(self, levels: int = 101) -> tuple[Tensor, Tensor]:
        """Levels α ``(levels,)`` and the share of rows inside the highest-density set of mass α."""
        alpha = torch.linspace(0, 1, levels, dtype=torch.float64)
        inside = torch.searchsorted(self.ranks.sort().values, alpha, right=True).double() / len(self.ranks)
        return alpha, inside

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> "Axes":
        """Share of rows inside against the level, with the diagonal; below it the model is too narrow."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(layout="constrained").subplots()
        alpha, inside = self.curve()
        ax.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        ax.plot(alpha, inside, **kwargs)
        ax.set(xlabel="mass of the highest-density set", ylabel="share of rows inside", aspect="equal")
        return ax


def coverage(density: Density, x: Any, context: Tensor | None = None, *, draws: int = 2000, seed: int = 0) -> Coverage:
    """Ranks of log p of held-out rows among log p of samples, with their Kolmogorov-Smirnov distance from uniform.

    Convention: rank(x) = share of samples s with log p(s) > log p(x), the mass of the smallest highest-density set that
    reaches x. Curve below the diagonal: too few rows inside, the model is too narrow or looks elsewhere; above: too
    wide. Sees only log p: two densities may have equal ranks and differ. Without context one set of `draws` samples
    serves all rows, and the p-value is that of the two-sample test; with context each row has `draws` // 10 samples of
    its own, and ties are broken at random.

    Cost: `draws` samples and n + draws log p; with context n · draws / 10 of both.

    Args:
        density: with `sample` and exact `log_prob`.
        x: held-out rows ``(n, dim)``.
        context: one condition per row.
        seed: of the samples.
    """
    from scipy import stats

    if not isinstance(density, Density):
        raise TypeError(f"coverage expects a Density, with exact log_prob, got {type(density).__name__}.")
    x = validate.table(x, "coverage")
    x, context = density._door(x, context, "coverage")
    generator = torch.Generator(x.device).manual_seed(seed)
    data = log_prob_in_blocks(density, x, context).cpu().double()
    if context is None:
        samples = log_prob_in_blocks(density, density.sample(draws, generator=generator)).cpu().double()
        denser = torch.searchsorted((-samples).sort().values, -data)
        test = stats.ks_2samp(data.numpy(), samples.numpy())
        return Coverage(denser.double() / draws, float(test.statistic), float(test.pvalue), draws)
    draws = max(20, draws // 10)
    denser = torch.zeros(len(x), dtype=torch.float64)
    block = max(1, 100_000 // draws)
    for i in range(0, len(x), block):
        c = context[i : i + block]
        drawn = density.sample(draws, c, generator=generator)  # (draws, block, dim)
        flat = drawn.reshape(-1, drawn.shape[-1])
        repeated = c.repeat(draws, *[1] * (c.ndim - 1))
        values = log_prob_in_blocks(density, flat, repeated).cpu().double().reshape(draws, -1)
        denser[i : i + block] = (values > data[i : i + block]).sum(0)
    breaker = torch.rand(len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ranks = (denser + breaker) / (draws + 1)
    test = stats.kstest(ranks.numpy(), "uniform")
    return Coverage(ranks, float(test.statistic), float(test.pvalue), draws)
