"""Figures that compare samples with data, each by a stated convention."""

from geoflow.metrics.bits import bits_per_dim
from geoflow.metrics.c2st import C2ST, c2st
from geoflow.metrics.coverage import Coverage, coverage
from geoflow.metrics.features import ImageFeatures, feature_classifier
from geoflow.metrics.frechet import FrechetReport, frechet, frechet_report, gaussian_w2
from geoflow.metrics.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from geoflow.metrics.mean_correlation import mean_correlation
from geoflow.metrics.mmd import mmd
from geoflow.metrics.precision_recall import PrecisionRecall, precision_recall

__all__ = [
    "C2ST",
    "Coverage",
    "FrechetReport",
    "ImageFeatures",
    "IntrinsicDimension",
    "PrecisionRecall",
    "bits_per_dim",
    "c2st",
    "coverage",
    "feature_classifier",
    "frechet",
    "frechet_report",
    "gaussian_w2",
    "intrinsic_dimension",
    "mean_correlation",
    "mmd",
    "precision_recall",
]
