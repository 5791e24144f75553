"""Figures that compare samples with data, each by a stated convention."""

from geoflow.metrics.active_dimensions import ActiveDimensions, active_dimensions
from geoflow.metrics.auc import AUC, auc
from geoflow.metrics.bits import bits_per_dim
from geoflow.metrics.c2st import C2ST, c2st
from geoflow.metrics.conformal import conformal_p_values, discoveries
from geoflow.metrics.copying import Copying, copying
from geoflow.metrics.coverage import Coverage, coverage
from geoflow.metrics.density_coverage import DensityCoverage, density_coverage
from geoflow.metrics.features import ImageFeatures, feature_classifier
from geoflow.metrics.frechet import FrechetReport, frechet, frechet_report, gaussian_w2
from geoflow.metrics.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from geoflow.metrics.marginals import Marginals, marginals
from geoflow.metrics.mass_sculpting import MassSculpting, mass_sculpting
from geoflow.metrics.mean_correlation import mean_correlation
from geoflow.metrics.mmd import mmd
from geoflow.metrics.nac import NAC, nac
from geoflow.metrics.prd import PRD, prd
from geoflow.metrics.precision_recall import PrecisionRecall, precision_recall
from geoflow.metrics.two_sample import MMDTest, mmd_test

__all__ = [
    "AUC",
    "C2ST",
    "NAC",
    "PRD",
    "ActiveDimensions",
    "Copying",
    "Coverage",
    "DensityCoverage",
    "FrechetReport",
    "ImageFeatures",
    "IntrinsicDimension",
    "MMDTest",
    "Marginals",
    "MassSculpting",
    "PrecisionRecall",
    "active_dimensions",
    "auc",
    "bits_per_dim",
    "c2st",
    "conformal_p_values",
    "copying",
    "coverage",
    "density_coverage",
    "discoveries",
    "feature_classifier",
    "frechet",
    "frechet_report",
    "gaussian_w2",
    "intrinsic_dimension",
    "marginals",
    "mass_sculpting",
    "mean_correlation",
    "mmd",
    "mmd_test",
    "nac",
    "prd",
    "precision_recall",
]
