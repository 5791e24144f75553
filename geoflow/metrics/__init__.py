"""Figures that compare samples with data, each by a stated convention."""

from geoflow.metrics.c2st import C2ST, c2st
from geoflow.metrics.coverage import Coverage, coverage
from geoflow.metrics.features import ImageFeatures, feature_classifier
from geoflow.metrics.frechet import FrechetReport, frechet, frechet_report, gaussian_w2
from geoflow.metrics.mmd import mmd
from geoflow.metrics.precision_recall import PrecisionRecall, precision_recall

__all__ = [
    "C2ST",
    "Coverage",
    "FrechetReport",
    "ImageFeatures",
    "PrecisionRecall",
    "c2st",
    "coverage",
    "feature_classifier",
    "frechet",
    "frechet_report",
    "gaussian_w2",
    "mmd",
    "precision_recall",
]
