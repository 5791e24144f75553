"""What classes say about the axes of a latent space: spectrum, informative dimensions, the axes themselves, the gap.

All of it takes deviations or covariances within classes, of a flow's codes or of any other columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ClassMoments(NamedTuple):
    """Moments of labelled rows by class, in float64.

    Attributes:
        share: of each class among the rows ``(classes,)``.
        mean, covariance: ``(classes, dim)`` and ``(classes, dim, dim)``.
    """

    share: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def std(self) -> Tensor:
        """Deviations ``(classes, dim)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()


def class_moments(z: Tensor, labels: Tensor) -> ClassMoments:
    """Of rows ``(n, dim)`` with labels ``(n,)`` from 0, each with at least two rows.

    Raises:
        ValueError: a class has fewer.
    """
    counts = torch.bincount(labels)
    if bool((counts < 2).any()):
        few = (counts < 2).nonzero().flatten().tolist()[:5]
        raise ValueError(f"class_moments expects at least two rows of each class; class {few} has fewer.")
    rows = [z[labels == u].double() for u in range(len(counts))]
    return ClassMoments(
        counts / counts.sum().double(),
        torch.stack([r.mean(0) for r in rows]),
        torch.stack([torch.cov(r.T, correction=0).reshape(z.shape[-1], z.shape[-1]) for r in rows]),
    )


def spectrum(std: Tensor) -> Tensor:
    """Root mean square over classes ``(dim,)`` of deviations ``(classes, dim)``."""
    return std.square().mean(0).sqrt()


def informative(spectrum: Tensor, floor: float | None = None) -> int:
    """How many dimensions carry more than noise.

    Two rules that need not agree: where the logarithm of the spectrum, sorted, falls farthest; or how many values lie
    above a floor, such as the known deviation of noise that was added to the data.

    Args:
        spectrum: one deviation a dimension ``(dim,)``, in any order.
        floor: None is the first rule.

    >>> informative(torch.tensor([0.9, 0.01, 2.0, 0.02])), informative(torch.tensor([0.9, 0.01, 2.0, 0.02]), 0.015)
    (2, 3)
    """
    if floor is not None:
        return int((spectrum > floor).sum())
    if len(spectrum) < 2:
        return len(spectrum)
    falling = spectrum.sort(descending=True).values.clamp_min(torch.finfo(spectrum.dtype).tiny).log()
    return int((falling[:-1] - falling[1:]).argmax()) + 1


def unexplained(covariance: Tensor, share: Tensor, matrix: Tensor) -> Tensor:
    """½ Σ_u share_u Σ_i log (W C_u Wᵀ)_ii − log|det W|: what a class-conditional diagonal normal costs behind W, in nats.

    Up to a constant; for matrices W ``(*batch, dim, dim)``.
    """
    turned = matrix[..., None, :, :] @ covariance @ matrix[..., None, :, :].mT
    logs = turned.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * logs @ share - torch.linalg.slogdet(matrix).logabsdet


def joint_diagonalizer(covariance: Tensor, share: Tensor | None = None, steps: int = 200) -> Tensor:
    """The W ``(dim, dim)`` of determinant one behind which covariances of classes are most nearly diagonal.

    Minimises `unexplained`, the loss of a class-conditional diagonal normal, by relative Newton steps on pairs of axes,
    each halved until the loss falls: with D_u = W C_u Wᵀ, W ← (1 + E) W,

        E_ij = (g_ji − h_ji g_ij) / (h_ij h_ji − 1),   g_ij = Σ share_u D_u,ij / D_u,ii,   h_ij = Σ share_u D_u,jj / D_u,ii.

    It starts from the given axes, and from those that diagonalise one class and the mean of all exactly, and keeps the
    best. Rows of W have one length and the order that leaves it nearest to the given axes. [pham2001, ablin2019]

    Args:
        covariance: ``(classes, dim, dim)``, positive definite.
        share: of each class ``(classes,)``; None is equal ones.
        steps: at most so many from each start.
    """
    covariance = covariance.double()
    dim = covariance.shape[-1]
    share = covariance.new_ones(len(covariance)) if share is None else share.to(covariance)
    share = share / share.sum()
    mean = torch.einsum("u,uij->ij", share, covariance)
    whiten = torch.linalg.inv(torch.linalg.cholesky(mean))
    starts = [torch.eye(dim).to(mean)]
    starts += [torch.linalg.eigh(whiten @ c @ whiten.mT).eigenvectors.mT @ whiten for c in covariance]
    ends = [_descend(w, covariance, share, steps) for w in starts]
    best = min(ends, key=lambda w: float(unexplained(covariance, share, w)))
    return _as_given(best / best.norm(dim=-1, keepdim=True))


def _descend(w: Tensor, covariance: Tensor, share: Tensor, steps: int) -> Tensor:
    """From W to a minimum; the loss never rises."""
    one = torch.eye(len(w)).to(w)
    value = unexplained(covariance, share, w)
    for _ in range(steps):
        turned = w @ covariance @ w.mT
        variance = turned.diagonal(dim1=-2, dim2=-1)
        g = torch.einsum("u,uij,ui->ij", share, turned, 1 / variance) - one
        h = torch.einsum("u,uj,ui->ij", share, variance, 1 / variance)
        move = (g.mT - h.mT * g) / (h * h.mT - 1).clamp_min(1e-6) * (1 - one)
        if float(move.abs().max()) < 1e-12:
            break
        for halving in range(30):
            there = (one + move * 0.5**halving) @ w
            after = unexplained(covariance, share, there)
            if after < value:
                break
        else:
            break
        w, value = there, after
    return w


def _as_given(w: Tensor) -> Tensor:
    """Rows in the order and with the signs nearest to the given axes, of determinant one."""
    from scipy.optimize import linear_sum_assignment

    columns = linear_sum_assignment(-w.abs().cpu().numpy())[1]
    w = w[torch.as_tensor(columns, device=w.device).argsort()]
    w = w * torch.where(w.diagonal() < 0, -1.0, 1.0)[:, None]
    return w * (-torch.linalg.slogdet(w).logabsdet / len(w)).exp()


def identifiability_gap(std: Tensor, share: Tensor | None = None) -> Tensor:
    """Nats that classes charge for confusing two axes, for each pair ``(dim, dim)``.

    Two axes are told apart only by classes in which the ratio of their deviations differs. Scaled so that the mean
    log-ratio is zero and turned by 45 degrees, the pair costs

        gap_ij = Σ_u share_u log cosh(ρ_u − Σ_v share_v ρ_v),   ρ_u = log(std_ui / std_uj).

    It is zero if the ratio is the same in every class: no amount of data then finds the axes. [sorrenson2020]

    Args:
        std: deviations within classes ``(classes, dim)``.
        share: of each class ``(classes,)``; None is equal ones.
    """
    logs = std.log()
    ratio = logs[:, :, None] - logs[:, None, :]
    share = torch.full_like(std[:, 0], 1 / len(std)) if share is None else (share / share.sum()).to(std)
    off = ratio - torch.einsum("u,uij->ij", share, ratio)
    return torch.einsum("u,uij->ij", share, torch.logaddexp(off, -off) - torch.log(off.new_tensor(2.0)))
