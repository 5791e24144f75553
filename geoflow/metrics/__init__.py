"""Figures that compare samples with data, each by a stated convention."""

from geoflow.metrics.c2st import C2ST, c2st
from geoflow.metrics.coverage import Coverage, coverage
from geoflow.metrics.mmd import mmd

__all__ = ["C2ST", "Coverage", "c2st", "coverage", "mmd"]
