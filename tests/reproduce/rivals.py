"""Other ways to a Fermat distance: explicit descent, a boundary-value solver, and the sum over a sample alone."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from geoflow import FermatSpace
from geoflow.distances.weight import Weight


def descent_calls(space: FermatSpace, path: Tensor, target: Tensor, most: int = 20_000) -> Tensor:
    """Gradients ``(B,)`` that plain descent of the discretised length takes from `path` to the length `target`.

    Each path has a step of its own: 1.1 times longer after a step that made the path shorter, half as long after one
    that did not, which is taken back.
    """
    weight = space._need_density("descent")

    def length_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        middle = (x[:, :-1] + x[:, 1:]) / 2
        node, between = (torch.exp(-weight.power * weight._log_prob(p)) for p in (x, middle))
        cost = (node[:, :-1] + 4 * between + node[:, 1:]) / 6
        length = (cost * (x[:, 1:] - x[:, :-1]).norm(dim=-1)).sum(1)
        (slope,) = torch.autograd.grad(length.sum(), x)
        slope[:, [0, -1]] = 0.0
        return length.detach(), slope

    length, slope = length_and_slope(path)
    step, calls = torch.full_like(length, 1e-3), torch.ones_like(length)
    for _ in range(most):
        if not bool((length > target).any()):
            break
        calls += length > target
        trial = path - step[:, None, None] * slope
        new_length, new_slope = length_and_slope(trial)
        shorter = new_length < length
        path, slope = (torch.where(shorter[:, None, None], a, b) for a, b in ((trial, path), (new_slope, slope)))
        length, step = torch.where(shorter, new_length, length), step * torch.where(shorter, 1.1, 0.5)
    return calls


def by_boundary_values(
    start: np.ndarray,
    log_prob: Callable[[np.ndarray], np.ndarray],
    score: Callable[[np.ndarray], np.ndarray],
    power: float,
    tol: float,
    derivative: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> float:
    """Length of the geodesic near a path ``(dim, K)`` by `scipy.integrate.solve_bvp`, and Simpson's rule on 257 nodes.

    γ'' = −β (|γ'|² s − ⟨s, γ'⟩ γ'), with the derivative of the right-hand side in state and position, if given.
    """
    from scipy.integrate import simpson, solve_bvp

    dim, nodes = start.shape
    at_start, at_end = np.zeros((2, 2 * dim, 2 * dim))
    at_start[:dim, :dim] = at_end[dim:, :dim] = np.eye(dim)

    def flow(_: np.ndarray, state: np.ndarray) -> np.ndarray:
        p, v = state[:dim], state[dim:]
        s = score(p)
        return np.concatenate([v, power * ((s * v).sum(0) * v - (v * v).sum(0) * s)])

    t = np.linspace(0, 1, nodes)
    found = solve_bvp(
        flow,
        lambda a, b: np.concatenate([a[:dim] - start[:, 0], b[:dim] - start[:, -1]]),
        t,
        np.concatenate([start, np.gradient(start, t, axis=1)]),
        fun_jac=derivative,
        bc_jac=lambda a, b: (at_start, at_end),
        tol=tol,
        max_nodes=20_000,
    )
    if not found.success:
        raise ArithmeticError(f"solve_bvp: {found.message}")
    fine = np.linspace(0, 1, 257)
    p, v = np.split(found.sol(fine), 2)
    return float(simpson(np.exp(-power * log_prob(p)) * np.sqrt((v * v).sum(0)), x=fine))


def normal_by_boundary_values(x: np.ndarray, y: np.ndarray, power: float) -> float:
    """Distance between two points under the standard normal, from the straight line on 9 nodes, tolerance 1e-3."""
    dim, eye = len(x), np.eye(len(x))[..., None]

    def derivative(_: np.ndarray, state: np.ndarray) -> np.ndarray:
        p, v = state[:dim], state[dim:]
        out = np.zeros((2 * dim, 2 * dim, state.shape[1]))
        out[:dim, dim:] = eye
        out[dim:, :dim] = power * ((v * v).sum(0) * eye - v[:, None] * v)
        out[dim:, dim:] = power * (2 * p[:, None] * v - v[:, None] * p - (p * v).sum(0) * eye)
        return out

    line = x[:, None] + np.linspace(0, 1, 9) * (y - x)[:, None]
    log_prob = lambda p: -(p * p).sum(0) / 2 - dim / 2 * np.log(2 * np.pi)  # noqa: E731
    return by_boundary_values(line, log_prob, np.negative, power, 1e-3, derivative)


def line_by_boundary_values(x: np.ndarray, y: np.ndarray, weight: Weight) -> float:
    """The same under any density of torch, which is all the solver is given: score and log p by calls of it."""
    line = x[:, None] + np.linspace(0, 1, 9) * (y - x)[:, None]
    rows = lambda p: torch.as_tensor(p.T.copy())  # noqa: E731
    log_prob = lambda p: -weight.log(rows(p)).numpy() / weight.power  # noqa: E731
    return by_boundary_values(line, log_prob, lambda p: weight.scores(rows(p)).numpy().T, weight.power, 1e-3)


def two_modes_by_boundary_values(path: np.ndarray, power: float) -> float:
    """Length of the geodesic near a path ``(K, dim)``, under equal normals of deviation .7 at ±1.5; tolerance 1e-8.

    Across the first axis the density is round, so the geodesic stays in the span of that axis and the two ends.
    """
    dim, variance = path.shape[1], 0.49
    plane = np.linalg.svd(path[[0, -1], 1:], full_matrices=False)[2]
    start = np.concatenate([path[:, :1], path[:, 1:] @ plane.T], 1).T

    def log_prob(p: np.ndarray) -> np.ndarray:
        modes = np.logaddexp(*(-((p[0] - m) ** 2) / (2 * variance) for m in (-1.5, 1.5))) - np.log(2)
        return modes - (p[1:] ** 2).sum(0) / (2 * variance) - dim / 2 * np.log(2 * np.pi * variance)

    def score(p: np.ndarray) -> np.ndarray:
        out = -p / variance
        out[0] += 1.5 / variance * np.tanh(1.5 * p[0] / variance)
        return out

    return by_boundary_values(start, log_prob, score, power, 1e-8)


def sample_sums(points: np.ndarray, alpha: float) -> tuple[np.ndarray, str]:
    """min Σ |Δ|^α ``(n, n)`` over paths through the points, and by whom: the package `fermat`, where it is installed.

    Otherwise the package's definition of its exact method "FW": Floyd and Warshall's algorithm on powers of distances.
    """
    from scipy.sparse.csgraph import floyd_warshall
    from scipy.spatial.distance import cdist

    try:
        from fermat import Fermat
    except ModuleNotFoundError:
        return floyd_warshall(cdist(points, points) ** alpha), "its definition by SciPy"
    exact = Fermat(alpha, path_method="FW").fit(cdist(points, points)).get_distances()
    return np.asarray(exact), "its 'FW'"


def doubled_sums(points: np.ndarray, alpha: float) -> np.ndarray:
    """The same as the package's method 'D' has them at k = n: lengths of both directions are added before the power."""
    from scipy.sparse.csgraph import dijkstra
    from scipy.spatial.distance import cdist

    return dijkstra((2 * cdist(points, points)) ** alpha)
