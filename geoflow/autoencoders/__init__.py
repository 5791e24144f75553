"""Auto-encoders with a prior of their codes: one objective, and recipes for the models people know by name."""

from geoflow.autoencoders import recipes
from geoflow.autoencoders.anomaly import anomaly_scores
from geoflow.autoencoders.attributes import attribute_direction, manipulated
from geoflow.autoencoders.costs import Bernoulli, Cost, Gaussian, Multinomial, Square
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.dirichlet import DirichletPosterior, softmax_normal
from geoflow.autoencoders.divergences import KL, MMD
from geoflow.autoencoders.elbo import ELBOTerms, elbo_terms
from geoflow.autoencoders.extras import (
    DataCritic,
    DecoderL2,
    EmbeddingNorm,
    JacobianNorm,
    LearnedSimilarity,
    LogJacobian,
    Masked,
    MaskedPrior,
    MaskPolarisation,
    MinibatchTotalCorrelation,
    Spectral,
    TotalCorrelation,
    mask_counts,
)
from geoflow.autoencoders.kumaraswamy import KumaraswamyPosterior
from geoflow.autoencoders.linked import Linked
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.ordered import DecodedTopics, decoded_topics, topic_weights
from geoflow.autoencoders.posteriors import FlowPosterior, GaussianPosterior, Posterior
from geoflow.autoencoders.posthoc import fit_prior
from geoflow.autoencoders.priors import PushForward, RatioPrior, ResampledPrior, StickBreaking, VampPrior
from geoflow.autoencoders.priors.sticks import shares
from geoflow.autoencoders.responsibilities import responsibilities
from geoflow.autoencoders.terms import Batch, Term
from geoflow.autoencoders.topics import OfShares, Topics

__all__ = [
    "KL",
    "MMD",
    "Batch",
    "Bernoulli",
    "Cost",
    "Critic",
    "DataCritic",
    "DecodedTopics",
    "DecoderL2",
    "DirichletPosterior",
    "ELBOTerms",
    "EmbeddingNorm",
    "FlowPosterior",
    "Gaussian",
    "GaussianPosterior",
    "JacobianNorm",
    "KumaraswamyPosterior",
    "LatentModel",
    "LearnedSimilarity",
    "Linked",
    "LogJacobian",
    "MaskPolarisation",
    "Masked",
    "MaskedPrior",
    "MinibatchTotalCorrelation",
    "Multinomial",
    "OfShares",
    "Posterior",
    "PushForward",
    "RatioPrior",
    "ResampledPrior",
    "Spectral",
    "Square",
    "StickBreaking",
    "Term",
    "Topics",
    "TotalCorrelation",
    "VampPrior",
    "anomaly_scores",
    "attribute_direction",
    "decoded_topics",
    "elbo_terms",
    "fit_prior",
    "manipulated",
    "mask_counts",
    "recipes",
    "responsibilities",
    "shares",
    "softmax_normal",
    "topic_weights",
]
