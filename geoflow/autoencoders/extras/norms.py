"""Extras that hold back sizes: of codes, and of the decoder's parameters."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geoflow.autoencoders.extras.weights import checked
from geoflow.autoencoders.terms import Batch, Term
from geoflow.maps import Autoencoder
from geoflow.registry import register

if TYPE_CHECKING:
    from geoflow.autoencoders.model import LatentModel


@register
class EmbeddingNorm(Term):
    """weight · ½ |z|², row by row: codes stay near zero, where no prior pulls them. [ghosh2020]

    Published weights stand beside a mean over coordinates of the data; beside our sums they are `dim` times larger.
    """

    name, by_rows = "embedding norm", True

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = checked(weight, "EmbeddingNorm")

    def forward(self, batch: Batch) -> Tensor:
        return 0.5 * self.weight * batch.z.square().sum(-1)


@register
class DecoderL2(Term):
    """weight · |θ_D|², over all parameters that are not the encoder's own (`Autoencoder.encoder_parameters`). [ghosh2020]"""

    name, by_rows = "decoder l2", True

    def __init__(self, weight: float = 1e-7) -> None:
        super().__init__()
        self.weight = checked(weight, "DecoderL2")

    def forward(self, batch: Batch) -> Tensor:
        held: Tensor = _Squares.apply(*decoder_parameters(batch.autoencoder))
        return self.weight * held

    def check(self, model: "LatentModel") -> None:
        if not decoder_parameters(model.autoencoder):
            raise ValueError(f"DecoderL2: the decoder of {type(model.autoencoder).__name__} has no parameters to hold.")


class _Squares(torch.autograd.Function):
    """Σ |w|² of several tensors, by one product forth and one back each, and nothing kept but the tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        return torch.stack([torch.dot(w.flatten(), w.flatten()) for w in tensors]).sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * gradients[0] * w for w in ctx.saved_tensors)


def decoder_parameters(autoencoder: Autoencoder) -> list[nn.Parameter]:
    """The parameters that decoding uses, shared ones among them."""
    encoding = {id(w) for w in autoencoder.encoder_parameters()}
    return [w for w in autoencoder.parameters() if id(w) not in encoding]
