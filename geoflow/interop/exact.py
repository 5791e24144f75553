"""Log-dets and inverses of blocks whose own are estimates or approximations, from the whole Jacobian of their forward."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.interop.outside import outside, transformed
from manifolds.checks import tracing

Map = Callable[[Any, Tensor], Tensor]


def exactly(block: nn.Module, ahead: Map, guess: Map, rows: Tensor, back: bool, hint: str) -> tuple[Tensor, Tensor]:
    """``ahead(block, rows)`` ``(n, dim)`` with the log-det of its Jacobian, or `back` the inverse with its own.

    Args:
        ahead, guess: the map, and an approximate inverse where Newton's method starts.
        hint: what to do where it does not arrive, which raises a ValueError.
    """
    part = _Exactly(block, ahead, guess, hint)
    verb = "back" if back else "there"
    z, log_det = outside(part, verb, rows) if transformed() else getattr(part, verb)(rows)
    return z, log_det


class _Exactly(nn.Module):
    def __init__(self, block: nn.Module, ahead: Map, guess: Map, hint: str) -> None:
        super().__init__()
        self.block, self.ahead, self.guess, self.hint = block, ahead, guess, hint

    def there(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, jacobian = self._with_jacobian(x)
        return z, torch.linalg.slogdet(jacobian).logabsdet

    def back(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The last two steps of Newton's method are differentiable.

        Each doubles the number of derivatives that are right, so that those of x in z and in the parameters are, up to the
        third.
        """
        with torch.no_grad():
            x = self.guess(self.block, z.detach())
            for _ in range(4):
                x = self._step(x, z.detach())
        for _ in range(2):
            x = self._step(x, z)
        again, log_det = self.there(x)
        if not tracing(again):
            off = float((again - z).detach().abs().max())
            if not off < 1e4 * torch.finfo(z.dtype).eps * (1 + float(z.detach().abs().max())):
                raise ValueError(
                    f"decode found no point that encode brings here: the nearest is off by {off:.1e}. {self.hint}"
                )
        return x, -log_det

    def _step(self, x: Tensor, z: Tensor) -> Tensor:
        found, jacobian = self._with_jacobian(x)
        return x - torch.linalg.solve(jacobian, (found - z)[..., None])[..., 0]

    def _with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(n, dim)`` and derivatives ``(n, dim, dim)``, by `dim` backward passes."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            y = self.ahead(self.block, x)
            each = [torch.autograd.grad(c.sum(), x, create_graph=graph, retain_graph=True)[0] for c in y.unbind(-1)]
        jacobian = torch.stack(each, -2)
        return (y, jacobian) if graph else (y.detach(), jacobian.detach())
