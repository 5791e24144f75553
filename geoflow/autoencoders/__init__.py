"""Auto-encoders with a prior of their codes: one objective, and recipes for the models people know by name."""

from geoflow.autoencoders import recipes
from geoflow.autoencoders.anomaly import DecodedTopics, anomaly_scores, topic_weights, topics
from geoflow.autoencoders.attributes import attribute_direction, manipulated
from geoflow.autoencoders.costs import Bernoulli, Cost, Gaussian, Multinomial, Square
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.dirichlet import DirichletPosterior, softmax_normal
from geoflow.autoencoders.divergences import KL, MMD
from geoflow.autoencoders.elbo import ELBOTerms, elbo_terms
from geoflow.autoencoders.kumaraswamy import KumaraswamyPosterior
from geoflow.autoencoders.linked import Linked
from geoflow.autoencoders.model import LatentModel
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
    "DecodedTopics",
    "DirichletPosterior",
    "ELBOTerms",
    "FlowPosterior",
    "Gaussian",
    "GaussianPosterior",
    "KumaraswamyPosterior",
    "LatentModel",
    "Linked",
    "Multinomial",
    "OfShares",
    "Posterior",
    "PushForward",
    "RatioPrior",
    "ResampledPrior",
    "Square",
    "StickBreaking",
    "Term",
    "anomaly_scores",
    "attribute_direction",
    "Topics",
    "VampPrior",
    "elbo_terms",
    "fit_prior",
    "manipulated",
    "recipes",
    "topic_weights",
    "topics",
    "responsibilities",
    "shares",
    "softmax_normal",
]
