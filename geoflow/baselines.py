"""What a density has to beat: a Gaussian and a Gaussian mixture fitted to the same rows."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geoflow.density import Density, log_prob_in_blocks
from geoflow.distributions import GaussianMixture

HEADER = ("density", "held-out log p (nats)", "against the mixture")


@dataclass
class Comparison:
    """Mean log p on held-out rows.

    Attributes:
        rows: name, figure with standard error, paired difference to the mixture, for a table.
        figures: mean by name.
        lead: of our density over the mixture, with its standard error.
        best: which row is highest among those that were fitted.
    """

    rows: list[tuple[str, str, str]]
    figures: dict[str, float]
    lead: tuple[float, float]
    best: int


def compare(
    name: str, density: Density, train: Tensor, test: Tensor, truth: Density | None = None, most: int = 12
) -> Comparison:
    """Gaussian, mixture (of as many, up to `most`, as BIC takes on the training rows), `density`, the truth if known."""
    gaussian = GaussianMixture(train.shape[1], 1)
    gaussian.prepare(train)
    mixture = mixture_by_bic(train, most=most)
    label = f"mixture of {mixture.components} Gaussians"
    contestants: dict[str, Density] = {"Gaussian": gaussian, label: mixture, name: density}
    figures = {k: log_prob_in_blocks(p, test).double() for k, p in contestants.items()}
    best = int(np.argmax([float(f.mean()) for f in figures.values()]))
    if truth is not None:
        figures["the true density"] = log_prob_in_blocks(truth, test).double()
    rows = []
    for k, f in figures.items():
        ahead, error = _mean(f - figures[label])
        beside = "" if k == label else f"{ahead:+.3f} ± {error:.3f}"
        rows.append((k, "{:.3f} ± {:.3f}".format(*_mean(f)), beside))
    return Comparison(
        rows, {k: float(f.mean()) for k, f in figures.items()}, _mean(figures[name] - figures[label]), best
    )


def mixture_by_bic(
    train: Tensor, covariance: Literal["full", "diagonal"] = "full", most: int = 12, seed: int = 0, floor: float = 1e-6
) -> GaussianMixture:
    """The mixture with the lowest Bayesian information criterion on the rows; stops after three that are worse.

    `floor` is the least variance of a component, in standardised columns.
    """
    n, dim = train.shape
    best, lowest, worse = None, float("inf"), 0
    for k in range(1, max(1, min(most, n // 2)) + 1):
        mixture = GaussianMixture(dim, k, covariance, floor, seed).to(train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EM that stops at its limit is still a start for the comparison
            mixture.prepare(train)
        parameters = k - 1 + k * dim + k * (dim * (dim + 1) // 2 if covariance == "full" else dim)
        bic = parameters * np.log(n) - 2 * float(log_prob_in_blocks(mixture, train).sum())
        worse = 0 if bic < lowest else worse + 1
        if bic < lowest:
            best, lowest = mixture, bic
        if worse == 3:
            break
    assert best is not None
    return best


def _mean(figures: Tensor) -> tuple[float, float]:
    return float(figures.mean()), float(figures.std() / len(figures) ** 0.5)


def split(n: int, held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows held out."""
    order = torch.as_tensor(np.random.default_rng(seed).permutation(n))
    return order[held_out:], order[:held_out]
