"""Losses whose least value has the score of the data: Hyvärinen's, exactly and by random slices, and by denoising.

Each is one number a row ``(*batch)``, of any function s from points ``(*batch, dim)`` to vectors there. Over rows of a
density p that vanishes at infinity, the mean of the first two is

    E[½|s|² + tr ∇s] = ½ E|s − ∇log p|² − ½ E|∇log p|²,

and that of the third the same with p smoothed by the noise. The last term does not depend on s: of two scores on the same
rows, the one with the lower value is the better. [hyvarinen2005]
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Score = Callable[[Tensor], Tensor]


def exact(score: Score, x: Tensor) -> Tensor:
    """½|s|² + tr ∇s: s, and `dim` backward derivatives of it."""
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return _by_directions(score, x, eye.reshape(-1, *[1] * (x.ndim - 1), x.shape[-1]).expand(-1, *x.shape))


def sliced(score: Score, x: Tensor, probes: int = 1, generator: Generator | None = None) -> Tensor:
    """½|s|² + mean over v of vᵀ∇s v, unbiased for `exact`: `probes` derivatives, whatever the dimension.

    The entries of v are ±1, which leaves the diagonal of ∇s without variance. [song2019]
    """
    signs = torch.randint(0, 2, (probes, *x.shape), generator=generator, device=x.device).to(x) * 2 - 1
    return _by_directions(score, x, signs / probes**0.5)


def _by_directions(score: Score, x: Tensor, v: Tensor) -> Tensor:
    """½|s|² + Σ vᵀ∇s v over directions v ``(m, *batch, dim)``."""
    s, pull_back = torch.func.vjp(score, x)  # type: ignore[misc]
    rows = torch.func.vmap(pull_back)(v)[0]
    return s.square().sum(-1) / 2 + (rows * v).sum((0, -1))


def denoising(score: Score, x: Tensor, noise: Tensor | float, generator: Generator | None = None) -> Tensor:
    """½|s(x̃)|² + ⟨s(x̃), ε⟩/σ averaged over x̃ = x ± σε with ε standard normal: two evaluations of s, no derivative.

    Without the term ½|ε/σ|², on which s has no influence, this is Vincent's ½|s(x̃) + ε/σ|². The two signs together have
    a variance that stays bounded as σ goes to zero, where the loss becomes `sliced` with normal v; one sign alone has a
    variance of |s|²/σ². [vincent2011]
    """
    e = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    ahead, behind = score(x + noise * e), score(x - noise * e)
    size = (ahead.square() + behind.square()).sum(-1) / 4
    slope = ((ahead - behind) * e / (2 * noise)).sum(-1)
    return size + slope
