"""A space carries densities; a density makes a space."""

from geoflow.autoencoders import LatentModel
from geoflow.columns import Bounded, Positive, Standardize
from geoflow.density import Density, Player, Sampler
from geoflow.diagnostics import HonestyTable, check
from geoflow.distances import FermatSpace, LatentSpace
from geoflow.distributions import ClassConditional, DiagonalNormal, GaussianMixture, StandardNormal
from geoflow.embedded import Embedded
from geoflow.flows import Flow
from geoflow.freeform import FreeFormFlow
from geoflow.levels import Dequantized, Logit
from geoflow.maps import Autoencoder, Bijection, Chain, ChainBijection, Inverse, Pair
from geoflow.registry import register
from geoflow.store import describe, load, save
from geoflow.train import History, fit

__all__ = [
    "Autoencoder",
    "Bijection",
    "Bounded",
    "Chain",
    "ChainBijection",
    "ClassConditional",
    "Density",
    "Dequantized",
    "DiagonalNormal",
    "Embedded",
    "FermatSpace",
    "Flow",
    "FreeFormFlow",
    "GaussianMixture",
    "History",
    "HonestyTable",
    "Inverse",
    "LatentModel",
    "LatentSpace",
    "Logit",
    "Pair",
    "Player",
    "Positive",
    "Sampler",
    "StandardNormal",
    "Standardize",
    "check",
    "describe",
    "fit",
    "load",
    "register",
    "save",
]
