"""All parameters of a model in one vector while it trains: one operation steps them, measures and scales their gradient."""

import torch
from torch import Tensor, nn


class Flat:
    """One parameter vector, of which the given parameters are views.

    Args:
        parameters: of one dtype and device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
        for p, piece in zip(parameters, self.pieces(self.vector.detach()), strict=True):
            p.data = piece

    @staticmethod
    def possible(parameters: list[nn.Parameter]) -> bool:
        """Whether one vector can hold them."""
        return len({(p.dtype, p.device) for p in parameters}) == 1

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Of a vector as long as this one's, the views in the parameters' places and shapes."""
        found = vector.split([p.numel() for p in self.parameters])
        return [piece.view(p.shape) for piece, p in zip(found, self.parameters, strict=True)]

    def collect(self) -> None:
        """The gradients of all as that of the vector; zero where a parameter had no part."""
        gradients: list[Tensor] = [
            p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self.parameters
        ]
        self.vector.grad = torch.cat(gradients)

    def release(self) -> None:
        """Give each parameter its own memory again."""
        for p in self.parameters:
            p.data = p.data.clone()
