"""What an objective may hold beside cost and divergence: penalties, and masks over latent dimensions."""

from geoflow.autoencoders.extras.jacobian import JacobianNorm, LogJacobian
from geoflow.autoencoders.extras.masks import Masked, MaskedPrior, mask_counts
from geoflow.autoencoders.extras.minibatch import MinibatchTotalCorrelation
from geoflow.autoencoders.extras.norms import DecoderL2, EmbeddingNorm
from geoflow.autoencoders.extras.polarisation import MaskPolarisation
from geoflow.autoencoders.extras.similarity import DataCritic, LearnedSimilarity
from geoflow.autoencoders.extras.spectral import Spectral
from geoflow.autoencoders.extras.total_correlation import TotalCorrelation

__all__ = [
    "DataCritic",
    "DecoderL2",
    "EmbeddingNorm",
    "JacobianNorm",
    "LearnedSimilarity",
    "LogJacobian",
    "MaskPolarisation",
    "Masked",
    "MaskedPrior",
    "MinibatchTotalCorrelation",
    "Spectral",
    "TotalCorrelation",
    "mask_counts",
]
