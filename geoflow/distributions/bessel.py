"""The normaliser of von Mises-Fisher densities and its derivative, for any dimension and concentration."""

import math
from fractions import Fraction

import torch
from torch import Tensor

ORDER = 20
"""Bessel functions of at least this order are taken from Debye's expansion, lower ones by recursion from there."""
TERMS = 10


def _debye() -> list[list[float]]:
    """Coefficients c_kj of u_k(p) = pᵏ Σ_j c_kj p²ʲ, k = 1 ... TERMS, by the recursion of the u_k in exact fractions."""
    u = {0: Fraction(1)}  # power of p to coefficient
    rows = []
    for k in range(1, TERMS + 1):
        new: dict[int, Fraction] = {}
        for e, c in u.items():
            new[e + 1] = new.get(e + 1, Fraction(0)) + c * e / 2 + c / (8 * (e + 1))
            new[e + 3] = new.get(e + 3, Fraction(0)) - c * e / 2 - 5 * c / (8 * (e + 3))
        u = new
        rows.append([float(u.get(k + 2 * j, 0)) for j in range(TERMS + 1)])
    return rows


_COEFFICIENTS = _debye()


def _expansion(kappa: Tensor, m: Tensor) -> Tensor:
    """g_m(κ) − κ for m ≥ ORDER: Debye's expansion, uniform in κ."""
    s = torch.sqrt(m * m + kappa * kappa)
    c = torch.tensor(_COEFFICIENTS, dtype=kappa.dtype, device=kappa.device)
    k = torch.arange(TERMS + 1, dtype=kappa.dtype, device=kappa.device)
    inner = ((m / s)[..., None] ** (2 * k)) @ c.T
    corrections = (inner * s[..., None] ** -k[1:]).sum(-1)
    stirling = 1 / (12 * m) - 1 / (360 * m**3) + 1 / (1260 * m**5) - 1 / (1680 * m**7) + 1 / (1188 * m**9)
    main = m * m / (s + kappa) - m - m * torch.log((1 + s / m) / 2) - 0.5 * torch.log(s / m)
    return stirling + main + torch.log1p(corrections)


def normaliser(kappa: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """g(κ) − κ and A(κ) on Sⁿ, both in float64.

    g(κ) = log ₀F₁(; ν + 1; κ²/4), ν = (n − 1)/2, is the log of the mean of e^{κ⟨μ, x⟩} over the sphere: even, smooth,
    and zero at κ = 0. A = g' = E⟨μ, x⟩ is the mean length. Orders below 20 come by the downward recursion
    ₀F₁(; m) = ₀F₁(; m + 1) + x/(m (m + 1)) ₀F₁(; m + 2), which only adds positive terms. Errors, for n ≤ 256 and
    κ ≤ 10⁴: a few 10⁻¹⁴. Cost: some hundred operations on tensors of κ's shape. See section 10.41 of [olver2010].

    >>> g, mean = normaliser(torch.tensor(2.0), 2)
    >>> math.isclose(g + 2, math.log(math.sinh(2) / 2))
    True
    """
    kappa = kappa.double()
    nu = (n - 1) / 2
    steps = max(0, math.ceil(ORDER - nu))
    m = nu + steps
    g, above = _expansion(kappa[..., None], kappa.new_tensor([m, m + 1])).unbind(-1)
    ratio = torch.exp(above - g)
    down = m - torch.arange(steps, dtype=kappa.dtype, device=kappa.device)
    terms = []
    for c in (kappa[..., None] ** 2 / (4 * down * (down + 1))).unbind(-1):
        terms.append(c * ratio)
        ratio = (1 + terms[-1]).reciprocal()
    if terms:
        g = g + torch.stack(terms, -1).log1p().sum(-1)
    return g, kappa * ratio / (2 * (nu + 1))
