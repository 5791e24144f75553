"""Straight lines, with a bound on how steep and how flat they get."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geoflow.flows.curves.curve import Curve
from geoflow.nets.mlp import tanh_backward

Tape = tuple[Tensor, Tensor, Tensor]
"""x, eˢ and tanh(r / c)."""


class Affine(Curve):
    """g(x) = x eˢ + t with s = c tanh(r / c) and θ = (r, t).

    Args:
        clamp: c, the bound of the log-scale s.
        who: whose clamp it is, for errors.
        centred: subtract from s its mean over the coordinates, so that no volume changes.
        apart: whether θ holds r of all coordinates, then t of all, instead of both of one coordinate together.
    """

    each = 2

    def __init__(self, clamp: float, who: str, centred: bool = False, apart: bool = False) -> None:
        if not clamp > 0:
            raise ValueError(f"{who} expects clamp > 0, got {clamp}.")
        self.clamp, self.centred, self.apart = float(clamp), centred, apart

    def _numbers(self, theta: Tensor) -> Sequence[Tensor]:
        """r and t."""
        return theta.chunk(2) if self.apart else theta.unflatten(0, (-1, 2)).unbind(1)

    def _log_scale_and_shift(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r, t = self._numbers(theta)
        s = torch.tanh(r * (1 / self.clamp)) * self.clamp
        return (s - s.mean(0) if self.centred else s), t

    def there(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._log_scale_and_shift(theta)
        return torch.addcmul(t, x, s.exp()), s

    def back(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._log_scale_and_shift(theta)
        return (y - t) * (-s).exp(), -s

    # -- the derivative in closed form --------------------------------------------------------------------------

    def _bends(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s, t and tanh(r / c)."""
        r, t = self._numbers(theta)
        bend = r.mul_(1 / self.clamp).tanh_()
        s = bend * self.clamp
        return (s.sub_(s.mean(0)) if self.centred else s), t, bend

    def taped(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tape]:
        s, t, bend = self._bends(theta)
        log_det = s.sum(0)
        e = s.exp_()
        return torch.addcmul(t, x, e), log_det, (x, e, bend)

    def back_taped(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tape]:
        s, t, bend = self._bends(theta)
        e = s.exp_()
        x = (y - t).div_(e)
        return x, (x, e, bend)

    def pull(self, tape: Tape, g: Tensor, g_log_det: Tensor) -> tuple[Tensor, Tensor]:
        """∂t = ∂g;  ∂s = ∂g x eˢ + ∂log det;  ∂x = ∂g eˢ;  ∂r = ∂s (1 − tanh²)."""
        x, e, bend = tape
        g_x = g * e
        g_s = torch.addcmul(g_log_det, g_x, x)
        if self.centred:
            g_s = g_s - g_s.mean(0)
        numbers = [tanh_backward(g_s, bend), g]
        return g_x, torch.cat(numbers) if self.apart else torch.stack(numbers, 1).flatten(0, 1)
