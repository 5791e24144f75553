"""Masked autoregressive flow: each coordinate is carried by a curve that the coordinates before it choose."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.flows.by_hand import ByHand, Kept
from geoflow.flows.curves import Affine, Curve, RationalQuadratic
from geoflow.maps import Turned, Volume
from geoflow.nets import MaskedMLP
from geoflow.nets.mlp import BY_HAND, taped
from geoflow.registry import register


@register
class Autoregressive(ByHand):
    """z_i = g(x_i; θ_i), θ_i a masked network of x_0 … x_{i−1} and the context; then the order of coordinates turns round.

    g is affine, x eˢ + t with s = c tanh(r / c), or a rational-quadratic spline (see `SplineCoupling`). Encoding is one
    pass of the network; **decoding is `dim` passes**, one coordinate after the other. `Inverse(Autoregressive(...))`
    has it the other way round: fast draws, slow densities (IAF). [papamakarios2017, kingma2016]

    Args:
        dim: number of coordinates.
        context_dim: width of a float condition.
        hidden, activation: of the network (see `MaskedMLP`).
        univariate: "affine" or "spline".
        clamp: c, the bound of the log-scale of an affine g.
        bins, box: of a spline.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int = 0,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        univariate: Literal["affine", "spline"] = "affine",
        clamp: float = 2.0,
        bins: int = 8,
        box: float = 5.0,
    ) -> None:
        super().__init__(dim)
        if univariate not in ("affine", "spline"):
            raise ValueError(f"Autoregressive expects univariate='affine' or 'spline', got {univariate!r}.")
        spline = RationalQuadratic(bins, box, "Autoregressive")
        line = Affine(clamp, "Autoregressive")
        self.curve: Curve = spline if univariate == "spline" else line
        self.context_dim, self.univariate, self.clamp = context_dim, univariate, line.clamp
        self.hidden, self.activation = tuple(hidden), activation
        self.bins, self.box = spline.bins, spline.box
        self.net = MaskedMLP(dim, self.curve.each, hidden, activation, context_dim, zero_last=True)

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        x = x.contiguous()
        z, log_slope = self.curve.there(x, self.net.turned(x, context))
        return z.flip(0), log_slope.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        known: list[Tensor] = []
        log_slopes: list[Tensor] = []
        rest = z.flip(0).split(1)
        for i, value in enumerate(rest):
            theta = self.net.turned(torch.cat([*known, *rest[i:]]), context)
            own = theta.unflatten(0, (self.dim, self.curve.each))[i]  # blind to what is not known yet
            x, log_slope = self.curve.back(value, own)
            known.append(x)
            log_slopes.append(log_slope)
        return torch.cat(known), torch.cat(log_slopes).sum(0)

    # -- the derivative in closed form --------------------------------------------------------------------------

    def _by_hand(self) -> bool:
        return self.activation in BY_HAND

    def _weights(self) -> list[Tensor]:
        return self.net.weights()

    def _encode_taped(self, x: Turned, context: Context) -> tuple[Turned, Volume, Kept]:
        x = x.contiguous()
        theta, tape = self.net.taped(x, context)
        z, log_det, kept = self.curve.taped(x, theta)
        return z.flip(0), log_det, (tape, kept)

    def _decode_taped(self, z: Turned, context: Context) -> tuple[Turned, Kept]:
        x = self._undo(z, context)
        return x, self._encode_taped(x, context)[2]

    def _undo(self, z: Turned, context: Context) -> Turned:
        """As `_decode_turned`, with the masks laid on once and one coordinate's numbers a pass."""
        *before, (weight, bias) = self.net.masked()
        seen = z.flip(0) if context is None else torch.cat([z.flip(0), context])
        for i in range(self.dim):
            own = slice(i * self.curve.each, (i + 1) * self.curve.each)
            theta, _ = taped([*before, (weight[own], bias[own])], self.activation, seen)
            seen[i : i + 1] = self.curve.back_taped(seen[i : i + 1], theta)[0]
        return seen[: self.dim]

    def _pull(self, kept: Kept, g: Turned, g_log_det: Tensor) -> tuple[Turned, Tensor | None, list[Tensor]]:
        tape, curve = kept
        g_x, g_theta = self.curve.pull(curve, g.flip(0), g_log_det)
        g_in, found = self.net.pull(tape, g_theta)
        return g_x + g_in[: self.dim], g_in[self.dim :] if self.context_dim else None, found
