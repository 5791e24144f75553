"""Active latent dimensions: how many an auto-encoder uses, by mask, by posterior and by spectrum."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoflow import validate


@dataclass(frozen=True)
class ActiveDimensions:
    """Result of `active_dimensions`; counts are None where what they need was not given.

    Attributes:
        mask_half, mask_tenth: dimensions whose mask is at least .5, .1.
        varying: dimensions with Var_x E[zⱼ | x] > .01.
        certain: dimensions with E_x sⱼ²(x) < .5.
        participation: (Σ λ)² / Σ λ² of the covariance's eigenvalues λ; no whole number.
        spectrum: ``(m,)`` these eigenvalues, largest first.
        active: ``(m,)`` truth values: by mask ≥ .5 if there is one, else by sⱼ² if there are any, else by variance.
        latent: m.
        rows: codes that were looked at.
    """

    mask_half: int | None
    mask_tenth: int | None
    varying: int
    certain: int | None
    participation: float
    spectrum: Tensor
    active: Tensor
    latent: int
    rows: int

    def __str__(self) -> str:
        counts = [(self.mask_half, "mask >= 0.5"), (self.mask_tenth, "mask >= 0.1")]
        counts += [(self.varying, "Var E[z|x] > 0.01"), (self.certain, "E s^2 < 0.5")]
        shown = ", ".join(f"{count} ({rule})" for count, rule in counts if count is not None)
        return f"active of {self.latent}: {shown}, {self.participation:.1f} (participation ratio); N = {self.rows:,}"


def active_dimensions(z: Any, deviations: Any = None, *, mask: Any = None) -> ActiveDimensions:
    """Numbers of dimensions that codes use, by three conventions that need not agree.

    - *Mask*: aⱼ ≥ .5, and ≥ .1, which counts half-open dimensions too.
    - *Posterior*: Var_x E[zⱼ | x] > .01 [burda2016], and E_x sⱼ²(x) < .5, for a dimension that the decoder does not hear
      has the prior's deviation 1. Both are meant for a prior of unit variance; a deterministic encoder may shrink all of
      its codes and pass none.
    - *Spectrum*: the participation ratio (Σ λ)² / Σ λ² of Cov(a z), d for codes spread evenly over d directions of any
      axes, and fewer for uneven ones. Scale does not matter. From n rows of N(0, I_m) it is m / (1 + (m + 1) / n).

    Variance and spectrum are those of a z where a mask is given. A dimension in which z is constant is inactive by
    variance and adds nothing to the spectrum.

    Args:
        z: codes E[z | x] ``(n, m)``, before the mask; of a deterministic encoder, its codes.
        deviations: s(x) of the posterior ``(n, m)``, not negative.
        mask: a ``(m,)`` in [0, 1].

    Raises:
        ValueError: shapes that do not fit, a mask out of [0, 1], negative deviations, or codes that are all the same.

    >>> x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    >>> print(active_dimensions(torch.cat([x, 0.01 * x], 1), mask=[1, 1, 1, 0.2, 0, 0]))
    active of 6: 3 (mask >= 0.5), 4 (mask >= 0.1), 3 (Var E[z|x] > 0.01), 3.0 (participation ratio); N = 2,000
    """
    who = "active_dimensions"
    x = validate.table(z, who, "z", 2, dtype=torch.float64, device="cpu")
    n, m = x.shape
    half = tenth = certain = None
    if mask is not None:
        a = _vector(mask, who)
        if a.shape != (m,) or not bool(((a >= 0) & (a <= 1)).all()):
            raise ValueError(f"{who} expects a mask ({m},) in [0, 1], got {tuple(a.shape)} in [{_range(a)}].")
        half, tenth = int((a >= 0.5).sum()), int((a >= 0.1).sum())
        x = a * x
    variance = x.var(0)
    active = variance > 0.01
    varying = int(active.sum())
    if deviations is not None:
        s = validate.table(deviations, who, "deviations", 1, dtype=torch.float64, device="cpu")
        if s.shape != x.shape or bool((s < 0).any()):
            raise ValueError(
                f"{who} expects deviations {tuple(x.shape)}, none negative, got {tuple(s.shape)} in [{_range(s)}]: pass "
                "standard deviations, not their logarithms."
            )
        active = s.square().mean(0) < 0.5
        certain = int(active.sum())
    if mask is not None:
        active = a >= 0.5
    if not bool((x != x[0]).any()):
        raise ValueError(
            f"{who}: all {n} codes are the same, so no dimension carries anything and the spectrum is zero: the encoder "
            "has collapsed, or its mask is closed."
        )
    x = x - x.mean(0)
    spectrum = torch.linalg.eigvalsh(x.T @ x / (n - 1)).clamp_min(0).flip(0)
    participation = float(spectrum.sum().square() / spectrum.square().sum())
    return ActiveDimensions(half, tenth, varying, certain, participation, spectrum, active, m, n)


def _vector(mask: Any, who: str) -> Tensor:
    a = torch.as_tensor(mask).detach().to("cpu", torch.float64)
    return validate.finite(a, who, "mask")


def _range(x: Tensor) -> str:
    return f"{float(x.min()):.3g}, {float(x.max()):.3g}" if x.numel() else "nothing"
