"""The bound of a variational auto-encoder taken apart: what reconstructions cost, and what codes cost, and why."""

from dataclasses import dataclass
from math import log

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.posteriors import Posterior
from geoflow.density import Density


@dataclass(frozen=True)
class ELBOTerms:
    """Means over rows in nats, each with its standard error as ``(value, error)``.

    Attributes:
        reconstruction: I, E log p(x | z).
        mutual_information: II, E log q(z | x) − log q_Z(z): what a code tells about which row it came from.
        marginal: III, E log q_Z(z) − log p(z) = KL(q_Z ‖ prior): how far the aggregated posterior is from the prior.
        gap: IV from below, an importance-weighted bound of log p(x) minus the ELBO: at most KL(q(z | x) ‖ p(z | x)).
        kl: mean KL(q(z | x) ‖ prior), which II + III estimate: in closed form where there is one.
        elbo: I − II − III.
    """

    reconstruction: tuple[float, float]
    mutual_information: tuple[float, float]
    marginal: tuple[float, float]
    gap: tuple[float, float]
    kl: tuple[float, float]
    elbo: tuple[float, float]

    def __str__(self) -> str:
        rows = {
            "I    reconstruction, E log p(x|z)": self.reconstruction,
            "II   mutual information of rows and codes": self.mutual_information,
            "III  KL of the aggregated posterior and the prior": self.marginal,
            "     II + III, the mean KL": self.kl,
            "ELBO I - II - III": self.elbo,
            "IV   gap to log p(x), at least": self.gap,
        }
        return "\n".join(f"{name:<52}{value:10.3f} ± {error:.3f}" for name, (value, error) in rows.items())


@torch.no_grad()
def elbo_terms(model: LatentModel, x: Tensor, draws: int = 50, generator: Generator | None = None) -> ELBOTerms:
    """log p(x) = I − II − III + IV in the mean over rows ``(n, dim)``: which part holds a model back.

    The aggregated posterior q_Z is that of these rows, 1/n Σ_j q(z | x_j): exact for them, and II at most log n. A large
    III says that another prior would do better (see `fit_prior`), a small II that codes have collapsed. Cost: n² values
    of a posterior, and `draws` of model and posterior a row. [hoffman2016]
    """
    x, _ = model._door(x, None, "elbo_terms")
    model.cost.check(x)
    posterior, prior = model.posterior, model.prior
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"elbo_terms expects two rows (n, dim) or more, got shape {tuple(x.shape)}.")
    if posterior is None or not isinstance(prior, Density) or not model.cost.likelihood:
        raise TypeError("elbo_terms expects a model with a posterior, a prior with log_prob, and a likelihood as cost.")
    draws = validate.count(draws, "elbo_terms", "draws", 1)
    batch, cost = model._batch(x, generator)
    assert batch.theta is not None
    assert batch.log_q is not None
    aggregated = torch.cat([_mixture(posterior, batch.theta, z) for z in batch.z.split(256)])
    log_p = prior._log_prob(batch.z)
    closed = posterior.kl(batch.theta, prior)
    log_likelihood = model.cost.log_units(model.autoencoder) - cost
    one = log_p + log_likelihood - batch.log_q
    return ELBOTerms(
        reconstruction=_mean(log_likelihood),
        mutual_information=_mean(batch.log_q - aggregated),
        marginal=_mean(aggregated - log_p),
        gap=_mean(model._bound(x, draws, generator) - one),
        kl=_mean(batch.log_q - log_p if closed is None else closed),
        elbo=_mean(one),
    )


def _mixture(posterior: Posterior, theta: Tensor, z: Tensor) -> Tensor:
    """log 1/n Σ_j q(z | x_j) ``(m,)`` at codes ``(m, latent_dim)``."""
    each = posterior.log_q(theta[None], z[:, None])
    return torch.logsumexp(each, 1) - log(len(theta))


def _mean(rows: Tensor) -> tuple[float, float]:
    rows = rows.double()
    return float(rows.mean()), float(rows.std()) / len(rows) ** 0.5
