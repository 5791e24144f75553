"""Training: `fit` and what it is made of (rows, order, engine, checkpoints, history)."""

from geoflow.train.fitting import fit
from geoflow.train.history import History

__all__ = ["History", "fit"]
