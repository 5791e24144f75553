"""Extras of the decoder's Jacobian J: its size |J|², and a bound of the volume ½ log det JᵀJ that decoding spans."""

import torch
from torch import Tensor

from geoflow import validate
from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.terms import Batch, Term
from geoflow.registry import register

EXACT = 16
"""Up to this many latent dimensions `LogJacobian` takes all directions unless asked otherwise."""


@register
class JacobianNorm(Term):
    """weight · |J|², J = ∂decode/∂z at the codes, Σ of all squared entries, row by row. [ghosh2020]

    Hutchinson's estimate |J v|², v of entries ±1: unbiased, one forward derivative of the decoder a probe, and from
    latent_dim probes on exact. The units are those of `Autoencoder.residual`, as in costs. Public implementations of the
    gradient penalty differentiate the *sum* of the decoded coordinates, or their sum of squares: other figures, so their
    weights do not carry over.

    Args:
        weight: of the penalty.
        probes: directions a row.
    """

    name, by_rows = "jacobian norm", True

    def __init__(self, weight: float = 1.0, probes: int = 1) -> None:
        super().__init__()
        self.weight = checked(weight, "JacobianNorm")
        self.probes = validate.count(probes, "JacobianNorm", "probes", 1)

    def forward(self, batch: Batch) -> Tensor:
        return self.weight * squared_jacobian(batch, self.probes)


@register
class LogJacobian(Term):
    """weight · (m/2) ln(tr JᵀJ / m) ≥ weight · ½ ln det JᵀJ, row by row: the relaxed volume of injective flows. [kumar2020]

    With `EmbeddingNorm(1)` it bounds −log p of the change of variables at decode(z) but for a constant. The means of
    eigenvalues of JᵀJ meet where all are equal: on a scaled isometry the bound is the volume. Probes are averaged *before*
    the logarithm, which still makes the figure too low in the mean, by about m/4 times the relative variance of their
    mean; all m directions give it without error.

    Args:
        weight: of the bound.
        probes: directions a row; None takes all up to sixteen latent dimensions, and sixteen beyond.
    """

    name, by_rows = "log jacobian", True

    def __init__(self, weight: float = 1.0, probes: int | None = None) -> None:
        super().__init__()
        self.weight = checked(weight, "LogJacobian")
        self.probes = None if probes is None else validate.count(probes, "LogJacobian", "probes", 1)

    def forward(self, batch: Batch) -> Tensor:
        m = batch.z.shape[1]
        trace = squared_jacobian(batch, EXACT if self.probes is None else self.probes)
        return 0.5 * self.weight * m * (trace / m).clamp_min(torch.finfo(trace.dtype).tiny).log()


def squared_jacobian(batch: Batch, probes: int) -> Tensor:
    """tr JᵀJ ``(n,)`` at the codes of a batch, in one forward derivative of `probes` · n rows; exact from m probes on."""
    n, m = batch.z.shape
    if probes >= m:
        v = torch.eye(m, dtype=batch.z.dtype, device=batch.z.device).repeat_interleave(n, 0)
    else:
        v = torch.randint(2, (probes * n, m), device=batch.z.device).to(batch.z) * 2 - 1
    times = len(v) // n
    x, autoencoder = batch.x.repeat(times, 1), batch.autoencoder

    def decoded(z: Tensor) -> Tensor:
        return autoencoder.residual(x, autoencoder._decode(z))

    moved: Tensor = torch.func.jvp(decoded, (batch.z.repeat(times, 1),), (v,))[1]
    squared = moved.square().sum(-1).reshape(times, n)
    return squared.sum(0) if probes >= m else squared.mean(0)
