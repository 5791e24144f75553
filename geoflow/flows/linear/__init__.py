"""Linear maps between the layers that bend: they mix the columns, and their volume is known without a determinant."""

from geoflow.flows.linear.lu import LULinear
from geoflow.flows.linear.orthogonal import OrthogonalLinear
from geoflow.flows.linear.permutation import Permutation
from geoflow.flows.linear.reflection import Reflection
from geoflow.flows.linear.unimodular import Unimodular

__all__ = ["LULinear", "OrthogonalLinear", "Permutation", "Reflection", "Unimodular"]
