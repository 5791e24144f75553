"""Prey and predators: their numbers over twenty days by an integrator that gives each row its own steps."""

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor

START = (30.0, 1.0)
"""Prey and predators on day 0."""
TIMES = tuple(2.1 * k for k in range(10))
"""Days on which they are counted."""
NOISE = 0.1
"""Standard deviation of the logarithm of a count."""
TOLERANCE = 1e-8
"""Error of a step, absolute in the logarithms; after twenty days about 1e-6 for wild rates, 1e-8 for mild ones."""
STEPS = 100_000
"""Most steps of a row between two counts."""

# Dormand and Prince's pair of orders 5 and 4: rows of stages, then the difference of both results.
_STAGES = [
    torch.tensor(row, dtype=torch.float64)
    for row in (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
]
_DIFFERENCE = torch.tensor(
    (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40), dtype=torch.float64
)


def populations(theta: Tensor) -> Tensor:
    """Logarithms of prey and predators on the ten days, ``(*batch, 20)``, prey first, in float64.

    dX/dt = αX − βXY, dY/dt = −γY + δXY from (30, 1), θ = (α, β, γ, δ) a row. Solved for log X and log Y, so that counts
    stay positive, by Dormand and Prince's method with a step for each row: a wild row costs the others nothing.
    Differentiable in θ, the steps being held. Cost: some 150 steps of a row, 1000 where rates are wild. [dormand1980]

    Args:
        theta: positive rates ``(*batch, 4)``, per day, and per day and animal.
    """
    rates = theta.double().reshape(-1, 4)
    y = torch.tensor(START, dtype=rates.dtype, device=rates.device).log().expand(len(rates), 2)
    step = torch.full((len(rates),), 1e-2, dtype=rates.dtype, device=rates.device)
    counts = [y]
    for begin, end in pairwise(TIMES):
        y, step = _advance(y, rates, end - begin, step)
        counts.append(y)
    return torch.stack(counts, -1).reshape(*theta.shape[:-1], 20)


def _advance(y: Tensor, rates: Tensor, span: float, step: Tensor) -> tuple[Tensor, Tensor]:
    """The rows after a time `span`, and the steps to go on with."""
    alpha, beta, gamma, delta = rates.unbind(-1)
    growth, meeting = torch.stack([alpha, -gamma], -1), torch.stack([-beta, delta], -1)
    left = torch.full_like(step, span)
    for _ in range(STEPS):
        rows = (left > 0).nonzero()[:, 0]
        if not len(rows):
            return y, step
        h = torch.minimum(step[rows], left[rows])
        new, error = _try(y[rows], growth[rows], meeting[rows], h[:, None])
        fine = error <= 1
        y = y.index_copy(0, rows, torch.where(fine[:, None], new, y[rows]))
        factor = (0.9 * error.clamp_min(1e-10) ** -0.2).nan_to_num(0.2).clamp(0.2, 5.0)
        wished = h * factor
        # a step cut short by the end says little about the next one
        step = step.index_copy(0, rows, torch.where(fine & (h < step[rows]), torch.maximum(wished, step[rows]), wished))
        left = left.index_copy(0, rows, torch.where(fine, left[rows] - h, left[rows]))
    raise RuntimeError(
        f"lotka_volterra: {int((left > 0).sum())} rows of rates need more than {STEPS} steps: leave such rows out, as "
        f"{rates[left > 0][0].tolist()}."
    )


def _try(y: Tensor, growth: Tensor, meeting: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One step, and its error in units of the tolerance, NaN where it left the numbers."""
    slopes = _slope(y, growth, meeting)[..., None]
    new = y
    for row in _STAGES:
        new = y + h * (slopes @ row.to(y))
        slopes = torch.cat([slopes, _slope(new, growth, meeting)[..., None]], -1)
    return new, (h * (slopes @ _DIFFERENCE.to(y))).detach().abs().amax(-1) / TOLERANCE


def _slope(y: Tensor, growth: Tensor, meeting: Tensor) -> Tensor:
    return growth + meeting * y.exp().flip(-1)


def simulate(theta: Tensor, generator: Generator | None = None) -> Tensor:
    """Counts ``(*batch, 20)``: the populations, prey first, with log-normal noise."""
    noise = torch.randn(*theta.shape[:-1], 20, dtype=theta.dtype, device=theta.device, generator=generator)
    return (_log_counts(theta).to(theta) + NOISE * noise).exp()


def log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    """log p(x | θ); −∞ where a rate or a count is not positive."""
    possible = (theta > 0).all(-1)
    log_x = torch.where(x > 0, x, torch.ones_like(x)).double().log()
    z = (log_x - _log_counts(torch.where(possible[..., None], theta, torch.ones_like(theta)))) / NOISE
    log_p = (-0.5 * z**2 - log_x).sum(-1) - 20 * (math.log(NOISE) + 0.5 * math.log(2 * math.pi))
    return torch.where(possible & (x > 0).all(-1), log_p, torch.full_like(log_p, -torch.inf)).to(x)


def _log_counts(theta: Tensor) -> Tensor:
    """Populations between 1e-10 and 10⁴, beyond which the benchmark clips them."""
    return populations(theta).clamp(math.log(1e-10), math.log(1e4))
