"""Distances and geodesics along a density."""

from geoflow.distances.exponents import alpha_from_power, metric_from_power, power_from_alpha, power_from_metric
from geoflow.distances.fermat import FermatSpace
from geoflow.distances.latent import LatentSpace
from geoflow.distances.neighbors.nearest import nearest
from geoflow.distances.paths.geodesics import Solution
from geoflow.distances.progress import show_progress
from geoflow.distances.scores.network import ScoreNetwork

__all__ = [
    "FermatSpace",
    "LatentSpace",
    "ScoreNetwork",
    "Solution",
    "alpha_from_power",
    "metric_from_power",
    "nearest",
    "power_from_alpha",
    "power_from_metric",
    "show_progress",
]
