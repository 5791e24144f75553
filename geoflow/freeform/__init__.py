"""Any network as a flow: free-form flows (FFF), on manifolds (M-FFF), with a bottleneck (MLAE)."""

from geoflow.freeform.charts import FromOrigin, OnCircles
from geoflow.freeform.flow_matching import FlowMatching
from geoflow.freeform.model import FreeFormFlow
from geoflow.freeform.recipes import fff, mfff, mlae

__all__ = ["FlowMatching", "FreeFormFlow", "FromOrigin", "OnCircles", "fff", "mfff", "mlae"]
