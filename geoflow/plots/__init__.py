"""Draws anything that has our verbs on a matplotlib Axes and returns it; nothing is shown, no setting is changed.

Every function takes ``ax=None``: without one it makes a figure of its own, to be had as ``ax.figure``. What lies on a sphere
is drawn through a `Globe`.
"""

from geoflow.plots.balls import plot_fermat_ball
from geoflow.plots.densities import plot_density, plot_marginals, plot_samples
from geoflow.plots.figures import GEODESIC, INK, OTHER, STRAIGHT, figure
from geoflow.plots.globe import Globe
from geoflow.plots.paths import plot_along, plot_geodesics, plot_graph
from geoflow.plots.sheets import plot_history, plot_images, plot_spectrum

__all__ = [
    "GEODESIC",
    "INK",
    "OTHER",
    "STRAIGHT",
    "Globe",
    "figure",
    "plot_along",
    "plot_density",
    "plot_fermat_ball",
    "plot_geodesics",
    "plot_graph",
    "plot_history",
    "plot_images",
    "plot_marginals",
    "plot_samples",
    "plot_spectrum",
]
