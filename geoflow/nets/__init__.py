"""Default networks. Any nn.Module will do in their place."""

from geoflow.nets.mlp import MLP

__all__ = ["MLP"]
