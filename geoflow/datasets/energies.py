"""Potential energies of particles, and draws from the Boltzmann densities exp(−U) they make."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from geoflow import validate
from manifolds import series


def double_well_energy(
    x: Tensor, each: int = 2, *, length: float = 4.0, quadratic: float = -4.0, quartic: float = 0.9
) -> Tensor:
    """U = Σ_{i<j} b (d_ij − d₀)² + c (d_ij − d₀)⁴ ``(*batch)``: every pair likes two distances, d₀ ± √(−b/2c).

    With its defaults and four particles in the plane this is DW4, in units of kT. [kohler2020]

    Args:
        x: configurations ``(*batch, particles · each)``, anywhere in space.
        each: coordinates of one particle.
        length, quadratic, quartic: d₀, b and c.

    >>> double_well_energy(torch.tensor([0.0, 0.0, 4.0, 0.0]))
    tensor(0.)
    """
    off = series.sqrt(_squared_distances(x, each, "double_well_energy")) - length
    square = off * off
    return (quadratic * square + quartic * square * square).sum(-1)


def lennard_jones_energy(
    x: Tensor, each: int = 3, *, depth: float = 2.0, radius: float = 1.0, spring: float = 1.0
) -> Tensor:
    """U = ε Σ_{i<j} [(r_m/d_ij)¹² − 2 (r_m/d_ij)⁶] + k/2 Σ_i |x_i − x̄|² ``(*batch)``, +∞ where particles meet.

    With its defaults and 13 particles in space this is LJ13, in units of kT: the file's rows tell ε = 2, by the virial
    identity E[x · ∇U] = (P − 1) · each. Sums that count every pair twice write ε = 1. [kohler2020]

    Args:
        x: configurations ``(*batch, particles · each)``, anywhere in space.
        each: coordinates of one particle.
        depth, radius: ε, and the distance r_m at which a pair's energy is lowest, −ε.
        spring: k, of the pull to the centre, without which particles evaporate.

    >>> lennard_jones_energy(torch.tensor([-0.5, 0.0, 0.0, 0.5, 0.0, 0.0]))
    tensor(-1.7500)
    """
    sixth = (radius**2 / _squared_distances(x, each, "lennard_jones_energy")) ** 3
    cloud = x.unflatten(-1, (-1, each))
    pull = (cloud - cloud.mean(-2, keepdim=True)).square().sum((-2, -1))
    return depth * (sixth * (sixth - 2)).sum(-1) + 0.5 * spring * pull


def _squared_distances(x: Tensor, each: int, who: str) -> Tensor:
    """Of all pairs ``(*batch, pairs)``."""
    validate.count(each, who, "each", 1)
    if not x.is_floating_point() or x.ndim == 0 or x.shape[-1] % each or x.shape[-1] < 2 * each:
        raise ValueError(
            f"{who} expects floats (*batch, particles * {each}) of two particles or more, got {tuple(x.shape)} {x.dtype}."
        )
    cloud = x.unflatten(-1, (-1, each))
    i, j = torch.triu_indices(cloud.shape[-2], cloud.shape[-2], 1, device=x.device)
    # Differences by a matrix of 1, −1 and 0: the derivative of indexing adds up one by one, which takes twice as long.
    eye = torch.eye(cloud.shape[-2], dtype=x.dtype, device=x.device)
    return ((eye[i] - eye[j]) @ cloud).square().sum(-1)


def sample_boltzmann(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    steps: int = 400,
    generator: Generator | None = None,
    *,
    temperatures: Sequence[float] = (1.0,),
    leapfrogs: int = 8,
    step_size: float = 0.05,
) -> Tensor:
    """One draw of exp(−U) from each chain of Hamiltonian Monte Carlo, like `start`, whose rows are where chains begin.

    Chains do not know of each other, so draws from independent starts are independent, and as good as the chain is long:
    compare starts from opposite ends. With several temperatures each chain has a replica ∝ exp(−U/T) at every one of
    them, and neighbours exchange places by Metropolis' rule after each step; the hot ones cross barriers. Step sizes, one a
    temperature, adapt in the first half to accept 80 %, and then stay, so that the second half leaves exp(−U) as it is.
    Costs ``steps · leapfrogs`` gradients of U at ``len(start) · len(temperatures)`` points.
    [duane1987, earl2005]

    Args:
        energy: U, from points ``(n, dim)`` to ``(n,)`` in units of kT, of each row alone; +∞ where nothing may be.
        start: ``(chains, dim)``, of finite energy.
        steps: of each chain.
        generator: of all that is random.
        temperatures: rising from 1.
        leapfrogs: steps of the integrator for each step of the chain.
        step_size: of the integrator at first.
    """
    who = "sample_boltzmann"
    validate.count(steps, who, "steps", 1)
    validate.count(leapfrogs, who, "leapfrogs", 1)
    ladder = [float(t) for t in temperatures]
    if not ladder or ladder[0] != 1.0 or ladder != sorted(set(ladder)):
        raise ValueError(f"{who} expects temperatures that rise from 1, as (1.0, 2.0, 4.0); got {tuple(temperatures)}.")
    if start.ndim != 2 or not bool(energy(start.detach()).isfinite().all()):
        raise ValueError(f"{who} expects start as (chains, dim), each of finite energy; got {tuple(start.shape)}.")
    levels, chains = len(ladder), len(start)
    hot = torch.tensor(ladder, dtype=start.dtype, device=start.device)[:, None]
    x = start.detach().expand(levels, *start.shape)

    def slope(x: Tensor) -> tuple[Tensor, Tensor]:
        """U/T and its gradient at x ``(levels, chains, dim)``."""
        value, pull_back = torch.func.vjp(energy, x.flatten(0, 1))  # type: ignore[misc]
        (gradient,) = pull_back(torch.ones_like(value))
        return value.view(levels, chains) / hot, gradient.view(x.shape) / hot[..., None]

    def random(*shape: int, normal: bool = False) -> Tensor:
        draw = torch.randn if normal else torch.rand
        return draw(*shape, generator=generator, dtype=x.dtype, device=x.device)

    u, g = slope(x)
    size = torch.full_like(hot, step_size)
    for step in range(steps):
        v = random(*x.shape, normal=True)
        # A length that varies, so that no chain swings between the two ends of its valley.
        h = (size * (0.8 + 0.4 * random(levels, chains)))[..., None]
        y, w, gy, uy = x, v, g, u
        for _ in range(leapfrogs):
            w = w - 0.5 * h * gy
            y = y + h * w
            uy, gy = slope(y)
            w = w - 0.5 * h * gy
        gain = u - uy + 0.5 * (v.square() - w.square()).sum(-1)
        taken = random(levels, chains).log() < gain  # never where it is not a number, as where particles met
        if step < steps / 2:
            accepted = gain.clamp_max(0).exp().nan_to_num().mean(-1, keepdim=True)
            size = size * torch.exp(0.2 * (accepted - 0.8))
        x, g, u = torch.where(taken[..., None], y, x), torch.where(taken[..., None], gy, g), torch.where(taken, uy, u)
        if levels > 1:
            x, u, g = _exchange(x, u, g, hot, step % 2, random(levels, chains))
    return x[0].clone()


def _exchange(x: Tensor, u: Tensor, g: Tensor, hot: Tensor, first: int, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replicas of levels (first, first + 1), (first + 2, …) change places with probability min(1, e^{(1/T−1/T′)(U−U′)})."""
    cold = torch.arange(first, len(hot) - 1, 2, device=hot.device)
    energy = u * hot
    gain = (1 / hot[cold] - 1 / hot[cold + 1]) * (energy[cold] - energy[cold + 1])
    swap = draw[cold].log() < gain
    source = torch.arange(len(hot), device=hot.device)[:, None].repeat(1, u.shape[1])
    source[cold] += swap.long()
    source[cold + 1] -= swap.long()
    rows = torch.arange(u.shape[1], device=hot.device)
    force = (g * hot[..., None])[source, rows]
    return x[source, rows], energy[source, rows] / hot, force / hot[..., None]
