"""Other libraries' flows and distributions as ours, and ours as torch's: FrEIA, normflows, zuko, `torch.distributions`."""

from typing import TYPE_CHECKING, Any

from geoflow.interop.freia import from_freia
from geoflow.interop.normflows import bijection_from_normflows, from_normflows
from geoflow.interop.torch_distributions import from_torch, to_torch
from geoflow.interop.zoo import zoo
from geoflow.interop.zuko import from_zuko

if TYPE_CHECKING:
    from geoflow.interop.sklearn import FlowDensity

__all__ = [
    "FlowDensity",
    "bijection_from_normflows",
    "from_freia",
    "from_normflows",
    "from_torch",
    "from_zuko",
    "to_torch",
    "zoo",
]


def __getattr__(name: str) -> Any:
    """`FlowDensity` brings scikit-learn along, so it comes when it is asked for."""
    if name == "FlowDensity":
        from geoflow.interop.sklearn import FlowDensity

        return FlowDensity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
