"""Geodesics of ds = p^(-1/dim) |dx| around a standard normal by solvers that take one pair at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_bvp

Solver = Callable[[np.ndarray, np.ndarray], float]
"""Two ends ``(dim,)`` to the length between them."""


def log_weight(x: np.ndarray) -> np.ndarray:
    """log λ along the first axis of ``(dim, nodes)``: |x|² / 2 dim + log(2π) / 2."""
    return (x**2).sum(0) / (2 * len(x)) + np.log(2 * np.pi) / 2


def length(path: np.ndarray) -> float:
    """Weighted length of ``(dim, nodes)`` by Simpson's rule."""
    middle = (path[:, 1:] + path[:, :-1]) / 2
    a, b, c = (np.exp(log_weight(p)) for p in (path[:, :-1], middle, path[:, 1:]))
    return float(((a + 4 * b + c) / 6 * np.linalg.norm(np.diff(path), axis=0)).sum())


def by_collocation(tol: float = 1e-3, closed: bool = False) -> Solver:
    """SciPy's `solve_bvp` of γ'' = 2β⟨s,γ'⟩γ' − β|γ'|²s with s = −x; `closed`: with its Jacobian in closed form."""

    def solve(x: np.ndarray, y: np.ndarray) -> float:
        dim = len(x)
        power, eye = 1 / dim, np.eye(dim)[..., None]

        def field(_: Any, state: np.ndarray) -> np.ndarray:
            p, v = state[:dim], state[dim:]
            return np.concatenate([v, power * ((v * v).sum(0) * p - 2 * (p * v).sum(0) * v)])

        def jacobian(_: Any, state: np.ndarray) -> np.ndarray:
            p, v = state[:dim], state[dim:]
            out = np.zeros((2 * dim, 2 * dim, state.shape[1]))
            out[:dim, dim:] = eye
            out[dim:, :dim] = power * ((v * v).sum(0) * eye - 2 * v[:, None] * v[None])
            out[dim:, dim:] = 2 * power * (p[:, None] * v[None] - v[:, None] * p[None] - (p * v).sum(0) * eye)
            return out

        first, last = np.zeros((2 * dim, 2 * dim)), np.zeros((2 * dim, 2 * dim))
        first[:dim, :dim] = last[dim:, :dim] = np.eye(dim)
        t = np.linspace(0, 1, 10)
        line = x[:, None] + t * (y - x)[:, None]
        found = solve_bvp(
            field,
            lambda a, b: np.concatenate([a[:dim] - x, b[:dim] - y]),
            t,
            np.concatenate([line, np.repeat((y - x)[:, None], len(t), 1)]),
            fun_jac=jacobian if closed else None,
            bc_jac=(lambda a, b: (first, last)) if closed else None,
            tol=tol,
        )
        return length(found.sol(np.linspace(0, 1, 2001))[:dim])

    return solve


def by_geomstats(dim: int) -> Solver:
    """geomstats' `LogODESolver` on a conformal metric whose Christoffel symbols are given in closed form."""
    from geomstats.geometry.euclidean import Euclidean
    from geomstats.geometry.riemannian_metric import RiemannianMetric
    from geomstats.numerics.geodesic import LogODESolver

    class Conformal(RiemannianMetric):
        def metric_matrix(self, base_point: np.ndarray) -> np.ndarray:
            return np.exp(2 * log_weight(base_point.T))[..., None, None] * np.eye(dim)

        def geodesic_equation(self, state: np.ndarray, _time: Any = None) -> np.ndarray:
            p, v = state[..., 0, :], state[..., 1, :]
            along = (p * v).sum(-1, keepdims=True)
            return np.stack([v, ((v * v).sum(-1, keepdims=True) * p - 2 * along * v) / dim], -2)

    space = Euclidean(dim, equip=False)
    space.equip_with_metric(Conformal)
    solver = LogODESolver(space, n_nodes=10, use_jac=False)

    def solve(x: np.ndarray, y: np.ndarray) -> float:
        return length(solver.geodesic_bvp(y, x)(np.linspace(0, 1, 2001)).T)

    return solve


def by_stochman(dim: int) -> Solver:
    """stochman's `Manifold.connecting_geodesic`: the discrete energy of a cubic spline, at its defaults."""
    from stochman.manifold import Manifold

    class Conformal(Manifold):
        def metric(self, points: torch.Tensor) -> torch.Tensor:
            return torch.exp(points.square().sum(-1, keepdim=True) / dim + np.log(2 * np.pi)).expand_as(points)

    manifold = Conformal()

    def solve(x: np.ndarray, y: np.ndarray) -> float:
        curve, _ = manifold.connecting_geodesic(*(torch.as_tensor(p, dtype=torch.float32)[None] for p in (x, y)))
        with torch.no_grad():
            path = curve(torch.linspace(0, 1, 2001))
        return length(path.reshape(2001, dim).double().numpy().T)

    return solve
