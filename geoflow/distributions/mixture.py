"""Gaussian mixtures with full or diagonal covariances, fitted by EM from a k-means start."""

import math
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, Player
from geoflow.distributions.normals import LOG_2PI
from geoflow.registry import register
from manifolds import Euclidean
from manifolds.shapes import Points, Values


@register
class GaussianMixture(Density):
    """Σ_k w_k N(mean_k, L_k L_kᵀ), for data by EM or as the learned base of a flow.

    On its own it is fitted by `from_data` (or `fit`, which does the same and takes no steps); inside a flow the
    weights, means and Cholesky factors L_k train with it, starting from EM on the flow's codes.

    Args:
        dim: number of columns.
        components: K, at least one.
        covariance: ``"full"`` or ``"diagonal"``.
        floor: smallest variance of EM, added to each diagonal.
        seed: of the k-means start.
    """

    def __init__(
        self,
        dim: int,
        components: int,
        covariance: Literal["full", "diagonal"] = "full",
        floor: float = 1e-6,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if covariance not in ("full", "diagonal"):
            raise ValueError(f"GaussianMixture expects covariance='full' or 'diagonal', got {covariance!r}.")
        self.space = Euclidean(validate.count(dim, "GaussianMixture", "dim", 1))
        self.components = validate.count(components, "GaussianMixture", "components", 1)
        self.covariance, self.floor, self.seed = covariance, floor, seed
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, dim, generator=torch.Generator().manual_seed(seed)))
        self.log_diagonal = nn.Parameter(torch.zeros(components, dim))
        if covariance == "full":
            self.below_diagonal = nn.Parameter(torch.zeros(components, dim, dim))

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> "GaussianMixture":
        """With given weights ``(K,)``, means ``(K, dim)``, covariances ``(K, dim, dim)`` or variances ``(K, dim)``."""
        mixture = cls(means.shape[-1], len(means), "full" if covariances.ndim == 3 else "diagonal").to(means)
        mixture._set(weights, means, covariances)
        return mixture

    @classmethod
    def from_data(
        cls,
        x: Any,
        context: Any = None,
        components: int = 1,
        covariance: Literal["full", "diagonal"] = "full",
        seed: int = 0,
        **options: Any,
    ) -> "GaussianMixture":
        """Fitted by EM to rows ``(n, dim)``. Cost: some tens of passes over the rows, K dim² numbers a row."""
        x = validate.table(x, "GaussianMixture.from_data", minimum=2)
        validate.training_rows(x, "GaussianMixture.from_data")
        mixture = cls(x.shape[1], components, covariance, seed=seed, **options).to(x)
        mixture.prepare(x)
        return mixture

    @torch.no_grad()
    def _set(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.logits.copy_(weights.log())
        self.means.copy_(means)
        if self.covariance == "full":
            factor = torch.linalg.cholesky(covariances)
            self.log_diagonal.copy_(torch.diagonal(factor, dim1=-2, dim2=-1).log())
            self.below_diagonal.copy_(factor.tril(-1))
        else:
            self.log_diagonal.copy_(covariances.log() / 2)

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """EM from a k-means start, in float64 by scikit-learn."""
        from sklearn.mixture import GaussianMixture as EM

        if len(x) < self.components:
            raise ValueError(f"GaussianMixture with {self.components} components expects as many rows, got {len(x)}.")
        kind = "full" if self.covariance == "full" else "diag"
        rows = x.detach().cpu().double()
        shift, scale = rows.mean(0), rows.std(0, correction=0).clamp_min(1e-30)
        em = EM(self.components, covariance_type=kind, reg_covar=self.floor, random_state=self.seed, max_iter=300)
        em.fit(((rows - shift) / scale).numpy())
        c = torch.as_tensor(em.covariances_)
        c = c * scale * scale[:, None] if kind == "full" else c * scale**2
        self._set(torch.as_tensor(em.weights_), torch.as_tensor(em.means_) * scale + shift, c)

    def players(self) -> list[Player]:
        """None: EM in `prepare` is the whole training. Inside a flow, the flow trains the parameters by steps."""
        return []

    def factor(self) -> Tensor:
        """Cholesky factors L_k ``(K, dim, dim)``."""
        diagonal = torch.diag_embed(self.log_diagonal.exp())
        return diagonal + self.below_diagonal.tril(-1) if self.covariance == "full" else diagonal

    def log_prob_components(self, x: Tensor) -> Tensor:
        """log w_k N(x; mean_k, C_k), ``(*batch, K)``: their logsumexp is log p, their softmax the responsibilities."""
        difference = x[..., None, :] - self.means
        if self.covariance == "full":
            eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
            whiten = torch.linalg.solve_triangular(self.factor(), eye, upper=False)
            z = torch.einsum("kij,...kj->...ki", whiten, difference)
        else:
            z = difference * torch.exp(-self.log_diagonal)
        log_normal = -0.5 * ((z * z).sum(-1) + self.dim * LOG_2PI) - self.log_diagonal.sum(-1)
        return log_normal + torch.log_softmax(self.logits, 0)

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return torch.logsumexp(self.log_prob_components(x), -1)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        n = math.prod(shape)
        k = (
            torch.multinomial(self.logits.softmax(0), n, True, generator=generator)
            if n
            else self.means.new_zeros(0).long()
        )
        z = torch.randn(n, self.dim, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return (self.means[k] + (self.factor()[k] @ z[..., None])[..., 0]).reshape(*shape, self.dim)
