"""Solvers of dy/dt = rates(t, y): equal steps that any transform of torch can follow, and adaptive ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from manifolds.checks import tracing

Rates = Callable[[Tensor | float, Tensor], Tensor]


def runge_kutta(rates: Rates, y: Tensor, times: tuple[float, float], steps: int) -> Tensor:
    """The classical method of fourth order."""
    start, end = times
    h = (end - start) / steps
    for i in range(steps):
        t = start + i * h
        a = rates(t, y)
        b = rates(t + h / 2, y + h / 2 * a)
        c = rates(t + h / 2, y + h / 2 * b)
        d = rates(t + h, y + h * c)
        y = y + h / 6 * (a + 2 * b + 2 * c + d)
    return y


def dormand_prince(rates: Rates, y: Tensor, times: tuple[float, float], atol: float, rtol: float) -> Tensor:
    """Dormand and Prince's method of fifth order."""
    if tracing(y):
        raise NotImplementedError(
            "FlowMatching: adaptive steps depend on values, which torch.func and torch.compile do not show: build with "
            "method='rk4'."
        )
    try:
        from torchdiffeq import odeint
    except ImportError:
        raise ImportError(
            "FlowMatching(method='dopri5') needs torchdiffeq, which is not here: pip install 'geoflow[ode]', or build "
            "with method='rk4'."
        ) from None
    try:
        return odeint(rates, y, torch.tensor(times, dtype=y.dtype, device=y.device), rtol=rtol, atol=atol)[-1]  # type: ignore[no-any-return]
    except AssertionError as error:
        raise ValueError(
            f"FlowMatching: the steps shrink to nothing at atol={atol:g}, rtol={rtol:g} ({error}): the velocity is not "
            "finite, or too steep for these tolerances in this dtype: loosen them, use double(), or method='rk4'."
        ) from error
