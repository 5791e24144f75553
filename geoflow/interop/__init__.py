"""Other libraries' flows and distributions as ours, and ours as torch's: FrEIA, normflows, zuko, `torch.distributions`."""

import importlib
from typing import TYPE_CHECKING, Any

from geoflow.interop.freia import from_freia
from geoflow.interop.normflows import bijection_from_normflows, from_normflows
from geoflow.interop.torch_distributions import from_torch, to_torch
from geoflow.interop.zoo import zoo
from geoflow.interop.zuko import from_zuko

if TYPE_CHECKING:
    from geoflow.interop.fermat_clustering import FermatClustering
    from geoflow.interop.fermat_embedding import FermatEmbedding
    from geoflow.interop.fermat_neighbors import FermatNeighborsClassifier, FermatNeighborsRegressor
    from geoflow.interop.sklearn import FlowDensity

__all__ = [
    "FermatClustering",
    "FermatEmbedding",
    "FermatNeighborsClassifier",
    "FermatNeighborsRegressor",
    "FlowDensity",
    "bijection_from_normflows",
    "from_freia",
    "from_normflows",
    "from_torch",
    "from_zuko",
    "to_torch",
    "zoo",
]


ESTIMATORS = {
    "FermatClustering": "fermat_clustering",
    "FermatEmbedding": "fermat_embedding",
    "FermatNeighborsClassifier": "fermat_neighbors",
    "FermatNeighborsRegressor": "fermat_neighbors",
    "FlowDensity": "sklearn",
}
"""Classes of scikit-learn's kind, and the modules that have them."""


def __getattr__(name: str) -> Any:
    """Estimators bring scikit-learn along, so they come when they are asked for."""
    if name in ESTIMATORS:
        return getattr(importlib.import_module(f"{__name__}.{ESTIMATORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
