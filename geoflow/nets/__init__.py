"""Default networks. Any nn.Module will do in their place."""

from geoflow.nets.conv import ConvDecoder, ConvEncoder
from geoflow.nets.egnn import EGNN
from geoflow.nets.masked import MaskedMLP
from geoflow.nets.mlp import MLP
from geoflow.nets.residual import ResidualNet

__all__ = ["EGNN", "MLP", "ConvDecoder", "ConvEncoder", "MaskedMLP", "ResidualNet"]
