"""Networks whose layers stretch nothing by more than a factor of one."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from geoflow.registry import register

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@register
class Spectral(nn.Module):
    """A network with each weight W of its linear and convolutional layers replaced by W / |W|₂. [miyato2018]

    torch's parametrisation: the largest singular value comes from a step of power iteration each time the network is
    called in training, so that such a call is another function of its input than the one before. The network is changed
    in place. `save`, `load` and deepcopy take it; torch refuses to pickle parametrised modules.

    Args:
        net: a decoder, mostly: with 1-Lipschitz activations the whole is then 1-Lipschitz.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        layers = [layer for layer in net.modules() if isinstance(layer, LAYERS)]
        if not layers:
            raise ValueError(
                f"Spectral expects a network with linear or convolutional layers, got {type(net).__name__}."
            )
        for layer in layers:
            spectral_norm(layer)
        self.net = net

    def forward(self, *given: Tensor) -> Tensor:
        result: Tensor = self.net(*given)
        return result
