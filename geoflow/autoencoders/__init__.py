"""Auto-encoders with a prior of their codes: one objective, and recipes for the models people know by name."""

from geoflow.autoencoders import recipes
from geoflow.autoencoders.anomaly import DecodedTopics, anomaly_scores, topic_weights, topics
from geoflow.autoencoders.attributes import attribute_direction, manipulated
from geoflow.autoencoders.costs import Bernoulli, Cost, Gaussian, Multinomial, Square
from geoflow.autoencoders.critic import Critic
from geoflow.autoencoders.divergences import KL, MMD
from geoflow.autoencoders.elbo import ELBOTerms, elbo_terms
from geoflow.autoencoders.linked import Linked
from geoflow.autoencoders.model import LatentModel
from geoflow.autoencoders.posteriors import FlowPosterior, GaussianPosterior, Posterior
from geoflow.autoencoders.posthoc import fit_prior
from geoflow.autoencoders.terms import Batch, Term

__all__ = [
    "KL",
    "MMD",
    "Batch",
    "Bernoulli",
    "Cost",
    "Critic",
    "DecodedTopics",
    "ELBOTerms",
    "FlowPosterior",
    "Gaussian",
    "GaussianPosterior",
    "LatentModel",
    "Linked",
    "Multinomial",
    "Posterior",
    "Square",
    "Term",
    "anomaly_scores",
    "attribute_direction",
    "elbo_terms",
    "fit_prior",
    "manipulated",
    "recipes",
    "topic_weights",
    "topics",
]
