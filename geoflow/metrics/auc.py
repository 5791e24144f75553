"""Area under the ROC curve and background rejection of a score, in both directions."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoflow import validate


@dataclass(frozen=True)
class AUC:
    """Result of `auc`. What is flipped calls low scores signal.

    Attributes:
        value: P(signal's score > background's), ties by half; high scores are signal.
        error: standard error of both directions.
        rejection, rejection_error: 1/ε_B at `eps_s`; infinite where none of the background passes.
        rejection_flipped, rejection_flipped_error: the same.
        eps_s: share of the signal that passes.
        backgrounds, signals: numbers of scores.
    """

    value: float
    error: float
    rejection: float
    rejection_error: float
    rejection_flipped: float
    rejection_flipped_error: float
    eps_s: float
    backgrounds: int
    signals: int

    @property
    def flipped(self) -> float:
        """1 − value: the area where low scores are signal."""
        return 1 - self.value

    def __str__(self) -> str:
        return (
            f"AUC {self.value:.3f} +- {self.error:.3f} (high is signal), {self.flipped:.3f} (low is signal); 1/eps_B at "
            f"eps_S = {self.eps_s:g}: {self.rejection:.3g} +- {self.rejection_error:.2g} (high), "
            f"{self.rejection_flipped:.3g} +- {self.rejection_flipped_error:.2g} (low); {self.backgrounds:,} background "
            f"and {self.signals:,} signal rows"
        )


def auc(score_background: Any, score_signal: Any, *, eps_s: float = 0.3) -> AUC:
    """AUC = P(s > b) + ½ P(s = b) of a score that calls high values signal, and 1/ε_B at ε_S; and both of its negative.

    The direction of a score is part of it: to take the larger of AUC and 1 − AUC is to look at the labels. Both are
    here so that a table can print the one fixed beforehand and show what the other would have been.

    Errors: of the area by [delong1988]; of ε_B the binomial one of the background, and with it half the change of ε_B as
    ε_S moves a binomial deviation of the signal up and down; of 1/ε_B by its derivative, so take it with care where few
    of the background pass. Where none do, no more is known than 1/ε_B > n_B / 3, at 95 %. Tied scores are told apart by
    lot: the curve is straight across them.

    Args:
        score_background, score_signal: ``(n,)`` and ``(m,)``, two or more of each; of scores s with labels y they are
            s[y == 0] and s[y == 1].
        eps_s: share of the signal that passes, in (0, 1).

    Raises:
        ValueError: one of the classes is missing, all scores are the same, NaN.

    >>> found = auc([0.0, 1.0, 2.0, 3.0], [2.5, 3.5], eps_s=0.5)
    >>> found.value, found.rejection, found.rejection_flipped
    (0.875, inf, 1.33...)
    """
    who = "auc"
    if not (isinstance(eps_s, Real) and 0 < eps_s < 1):
        raise ValueError(f"{who}: eps_s is a share of the signal in (0, 1), got {eps_s!r}.")
    missing = [n for n, x in (("background", score_background), ("signal", score_signal)) if 0 in np.shape(x)]
    if missing:
        raise ValueError(
            f"{who} expects scores of both classes, got none of {' and '.join(missing)}: are all labels the same?"
        )
    b = np.sort(vector(score_background, who, "score_background", 2).numpy())
    s = np.sort(vector(score_signal, who, "score_signal", 2).numpy())
    if b[0] == b[-1] == s[0] == s[-1]:
        raise ValueError(f"{who}: all scores are {b[0]:.4g}: a constant score tells nothing apart.")
    below, above = _placements(s, b), 1 - _placements(b, s)  # of each signal, of each background
    error = math.sqrt(below.var(ddof=1) / len(s) + above.var(ddof=1) / len(b))
    high, low = _rejection(b, s, eps_s), _rejection(-b[::-1], -s[::-1], eps_s)
    return AUC(float(below.mean()), error, *high, *low, float(eps_s), len(b), len(s))


def vector(x: Any, who: str, name: str, minimum: int = 1) -> Tensor:
    """Scores ``(n,)`` in float64, finite, or why they are none."""
    array = x if isinstance(x, Tensor) else np.asarray(x)
    if array.ndim != 1:
        raise ValueError(f"{who} expects {name} as one number a row, (n,), got shape {tuple(array.shape)}.")
    return validate.table(array[:, None], who, name, minimum, dtype=torch.float64, device="cpu")[:, 0]


def _placements(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each value the share of the others that lie below it, ties by half; both in order."""
    return (np.searchsorted(among, of, "left") + np.searchsorted(among, of, "right")) / (2 * len(among))


def _rejection(b: np.ndarray, s: np.ndarray, eps_s: float) -> tuple[float, float]:
    """1/ε_B with its error, of scores in order."""
    cuts = np.unique(np.concatenate([b, s]))[::-1]
    passed_s, passed_b = (np.append(0, len(x) - np.searchsorted(x, cuts, "left")) / len(x) for x in (s, b))

    def background(share: float) -> float:
        i = int(np.searchsorted(passed_s, share * (1 - 1e-12)))  # the first cut that lets so many pass
        weight = (share - passed_s[i - 1]) / (passed_s[i] - passed_s[i - 1])
        return float(passed_b[i - 1] + weight * (passed_b[i] - passed_b[i - 1]))

    eps_b, step = background(eps_s), math.sqrt(eps_s * (1 - eps_s) / len(s))
    if eps_b == 0:
        return math.inf, math.inf
    least = 0.5 / len(s)
    change = background(min(1, eps_s + step)) - background(max(least, eps_s - step))
    return 1 / eps_b, math.hypot(math.sqrt(eps_b * (1 - eps_b) / len(b)), change / 2) / eps_b**2
