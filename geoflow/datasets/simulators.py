"""Tasks of simulation-based inference: a prior, a simulator whose likelihood is known, and reference posteriors.

The tasks are those of the benchmark sbibm, written from their definitions. [lueckmann2021]
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets import lotka_volterra
from geoflow.density import Density
from geoflow.distributions import DiagonalNormal, GridDensity, LogNormal

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Task:
    """Parameters θ ~ prior and data x ~ p(x | θ); wanted is p(θ | x).

    A conditional density of θ given x as its context is fitted to `draws`, and its samples for `observation(k)` compared
    with `reference_posterior(k)`, k = 1 … 10, by a two-sample test.

    Attributes:
        name: of the task.
        prior: the density of θ ``(*batch, prior.dim)``.
        data_dim: number of coordinates of x.
        simulator: from θ ``(*batch, dim)`` and a generator or None to x.
        likelihood: from θ and x to log p(x | θ).
    """

    name: str
    prior: Density
    data_dim: int
    simulator: Callable[[Tensor, Generator | None], Tensor]
    likelihood: Callable[[Tensor, Tensor], Tensor]

    def simulate(self, theta: Tensor, generator: Generator | None = None) -> Tensor:
        """One x ``(*batch, data_dim)`` for each θ ``(*batch, dim)``."""
        return self.simulator(self._theta(theta, "simulate"), generator)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """log p(x | θ) in nats ``(*batch)``; θ and x broadcast."""
        x = validate.points(x, self.data_dim, f"{self.name}.log_likelihood")
        return self.likelihood(self._theta(theta, "log_likelihood"), x)

    def log_joint(self, theta: Tensor, x: Tensor) -> Tensor:
        """log p(θ) p(x | θ): the log posterior up to a constant, −∞ where the prior has no mass."""
        return self.prior.log_prob(theta) + self.log_likelihood(theta, x)

    def draws(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`n` pairs: θ ``(n, dim)`` from the prior and x ``(n, data_dim)``."""
        generator = Generator().manual_seed(seed)
        theta = self.prior.sample(validate.count(n, f"{self.name}.draws"), generator=generator)
        return theta, self.simulate(theta, generator)

    def observation(self, k: int = 1, folder: str | os.PathLike[str] | None = None) -> Tensor:
        """The benchmark's observed data number k ``(data_dim,)``, from ``sbibm/<name>.npz`` of your folder."""
        return self._stored("observation", k, folder)

    def true_parameters(self, k: int = 1, folder: str | os.PathLike[str] | None = None) -> Tensor:
        """What observation k was simulated with, ``(dim,)``."""
        return self._stored("true_parameters", k, folder)

    def reference_posterior(self, k: int = 1, folder: str | os.PathLike[str] | None = None) -> Tensor:
        """10,000 draws of the posterior for observation k, ``(10000, dim)``."""
        return self._stored("posterior", k, folder)

    def _theta(self, theta: Any, verb: str) -> Tensor:
        return validate.points(theta, self.prior.dim, f"{self.name}.{verb}", "theta")

    def _stored(self, what: str, k: int, folder: str | os.PathLike[str] | None) -> Tensor:
        k = validate.count(k, f"{self.name}.{what}", "k", 1)
        if k > 10:
            raise ValueError(f"{self.name} has observations 1 to 10, got {k}.")
        with shelf._open("sbibm", f"{self.name}.npz", folder) as file:
            (array,) = shelf._arrays(file, f"{what}_{k:02d}")
        return torch.as_tensor(array, dtype=torch.get_default_dtype())


def task(name: str) -> Task:
    """A task by its name.

    - ``"gaussian_linear"``: the mean of a normal in ten dimensions, under a normal prior; both variances 0.1.
    - ``"gaussian_mixture"``: the common mean of two normals in the plane, deviations 1 and 0.1, uniform in [−10, 10]².
    - ``"two_moons"``: a posterior of two crescents in [−1, 1]².
    - ``"slcp"``: simple likelihood, complex posterior: mean and covariance of four points in the plane from five
      numbers in [−3, 3], of which signs drop out.
    - ``"lotka_volterra"``: rates of prey and predators from ten noisy counts of both; see `populations`.

    >>> two_moons = task("two_moons")
    >>> theta, x = two_moons.draws(5)
    >>> two_moons.log_joint(theta, x).shape
    torch.Size([5])
    """
    if name not in _TASKS:
        raise ValueError(f"task has {', '.join(_TASKS)}; got {name!r}.")
    prior, data_dim, simulate, log_likelihood = _TASKS[name]
    density = prior()
    density.requires_grad_(False)
    return Task(name, density, data_dim, simulate, log_likelihood)


def _box(dim: int, bound: float) -> GridDensity:
    return GridDensity(torch.ones((1,) * dim), [-bound] * dim, [bound] * dim)


def _randn(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


# -- two moons ---------------------------------------------------------------------------------------------------------

RADIUS, WIDTH, OFFSET = 0.1, 0.01, 0.25
"""Of the half circle that the data lie on: x = r (cos a, sin a) + (OFFSET, 0) + shift, r ~ N(RADIUS, WIDTH²)."""


def _shift(theta: Tensor) -> Tensor:
    """Where θ moves the half circle: both signs of θ₁ + θ₂ to the same place, which makes two moons."""
    a, b = theta.unbind(-1)
    return torch.stack([-(a + b).abs(), b - a], -1) / math.sqrt(2)


def _two_moons(theta: Tensor, generator: Generator | None) -> Tensor:
    u = torch.rand(theta.shape[:-1], dtype=theta.dtype, device=theta.device, generator=generator)
    angle = math.pi * (u - 0.5)
    r = RADIUS + WIDTH * _randn(theta.shape[:-1], theta, generator)
    return torch.stack([r * angle.cos() + OFFSET, r * angle.sin()], -1) + _shift(theta)


def _two_moons_log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    """The angle is uniform on a half circle and the area element is r da dr. Negative radii have a mass of 1e-23."""
    u, v = (x - _shift(theta)).unbind(-1)
    r = torch.hypot(u - OFFSET, v)
    log_p = -0.5 * ((r - RADIUS) / WIDTH) ** 2 - math.log(WIDTH) - 0.5 * LOG_2PI - math.log(math.pi) - r.log()
    return torch.where(u >= OFFSET, log_p, torch.full_like(log_p, -torch.inf))


# -- Gaussian tasks ----------------------------------------------------------------------------------------------------

VARIANCE = 0.1
"""Of the prior and of the noise, in each of ten dimensions."""

SCALES = (1.0, 0.1)
"""Deviations of the mixture's components, half of the mass each."""


def _gaussian_linear(theta: Tensor, generator: Generator | None) -> Tensor:
    return theta + math.sqrt(VARIANCE) * _randn(theta.shape, theta, generator)


def _gaussian_linear_log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    return _log_normal(x - theta, math.sqrt(VARIANCE))


def _gaussian_mixture(theta: Tensor, generator: Generator | None) -> Tensor:
    narrow = torch.rand(theta.shape[:-1], device=theta.device, generator=generator) < 0.5
    std = torch.where(narrow[..., None], SCALES[1], SCALES[0]).to(theta)
    return theta + std * _randn(theta.shape, theta, generator)


def _gaussian_mixture_log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    wide, narrow = (_log_normal(x - theta, std) for std in SCALES)
    return torch.logaddexp(wide, narrow) - math.log(2)


def _log_normal(z: Tensor, std: float) -> Tensor:
    """log N(z; 0, std² I)."""
    return -0.5 * (z / std).square().sum(-1) - z.shape[-1] * (math.log(std) + 0.5 * LOG_2PI)


# -- simple likelihood, complex posterior ------------------------------------------------------------------------------

JITTER = 1e-6
"""Added to variances."""


def _slcp_factor(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cholesky factor (l₁₁, l₂₁, l₂₂) of the covariance, each ``(*batch, 1)``: deviations θ₃² and θ₄², correlation
    tanh θ₅, and JITTER on the diagonal.
    """
    first, second, rho = theta[..., 2:3] ** 2, theta[..., 3:4] ** 2, theta[..., 4:5].tanh()
    top = (first**2 + JITTER).sqrt()
    return top, rho * second * first / top, (second**2 * (1 - (rho * first / top) ** 2) + JITTER).sqrt()


def _slcp(theta: Tensor, generator: Generator | None) -> Tensor:
    """Four points side by side, around (θ₁, θ₂)."""
    a, b = _randn((*theta.shape[:-1], 4, 2), theta, generator).unbind(-1)
    top, low, corner = _slcp_factor(theta)
    return (theta[..., None, :2] + torch.stack([top * a, low * a + corner * b], -1)).flatten(-2)


def _slcp_log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    a, b = (x.unflatten(-1, (4, 2)) - theta[..., None, :2]).unbind(-1)
    top, low, corner = _slcp_factor(theta)
    a = a / top
    b = (b - low * a) / corner
    return (-0.5 * (a**2 + b**2) - LOG_2PI - top.log() - corner.log()).sum(-1)


_TASKS: dict[str, tuple[Callable[[], Density], int, Callable[..., Tensor], Callable[..., Tensor]]] = {
    "gaussian_linear": (
        lambda: DiagonalNormal.of(torch.zeros(10), torch.full((10,), math.sqrt(VARIANCE))),
        10,
        _gaussian_linear,
        _gaussian_linear_log_likelihood,
    ),
    "gaussian_mixture": (lambda: _box(2, 10.0), 2, _gaussian_mixture, _gaussian_mixture_log_likelihood),
    "two_moons": (lambda: _box(2, 1.0), 2, _two_moons, _two_moons_log_likelihood),
    "slcp": (lambda: _box(5, 3.0), 8, _slcp, _slcp_log_likelihood),
    "lotka_volterra": (
        lambda: LogNormal([-0.125, -3.0, -0.125, -3.0], 0.5),
        20,
        lotka_volterra.simulate,
        lotka_volterra.log_likelihood,
    ),
}
"""Prior, coordinates of the data, simulator and its log likelihood."""
