"""Masked autoregressive flow: each coordinate is carried by a curve that the coordinates before it choose."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geoflow.density import Context
from geoflow.flows.spline import bins_and_box, knots, spline, spline_inverse
from geoflow.maps import FeaturesFirst, Turned, Volume
from geoflow.nets import MaskedMLP
from geoflow.registry import register


@register
class Autoregressive(FeaturesFirst):
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
        if clamp <= 0:
            raise ValueError(f"Autoregressive expects clamp > 0, got {clamp}.")
        self.context_dim, self.univariate, self.clamp = context_dim, univariate, float(clamp)
        self.hidden, self.activation = tuple(hidden), activation
        self.bins, self.box = bins_and_box(bins, box, "Autoregressive")
        each = 2 if univariate == "affine" else 3 * bins - 1
        self.net = MaskedMLP(dim, each, hidden, activation, context_dim, zero_last=True)

    def _theta(self, x: Turned, context: Context) -> Tensor:
        """θ ``(dim, ·, n)``."""
        theta: Tensor = self.net.turned(x, context)
        return theta.unflatten(0, (self.dim, self.net.each))

    def _there(self, x: Turned, theta: Tensor) -> tuple[Tensor, Tensor]:
        """g(x) and log g′(x)."""
        if self.univariate == "spline":
            return spline(x, knots(theta, self.bins, self.box), self.box)
        s, t = self._scale(theta)
        return torch.addcmul(t, x, s.exp()), s

    def _back(self, z: Turned, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The x with g(x) = z, and −log g′(x)."""
        if self.univariate == "spline":
            return spline_inverse(z, knots(theta, self.bins, self.box), self.box)
        s, t = self._scale(theta)
        return (z - t) * (-s).exp(), -s

    def _scale(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        r, t = theta.unbind(1)
        return self.clamp * torch.tanh(r / self.clamp), t

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        z, log_slope = self._there(x, self._theta(x.contiguous(), context))
        return z.flip(0), log_slope.sum(0)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        known: list[Tensor] = []
        log_slopes: list[Tensor] = []
        rest = z.flip(0).split(1)
        for i, value in enumerate(rest):
            theta = self._theta(torch.cat([*known, *rest[i:]]), context)  # blind to what is not known yet
            x, log_slope = self._back(value, theta[i : i + 1])
            known.append(x)
            log_slopes.append(log_slope)
        return torch.cat(known), torch.cat(log_slopes).sum(0)
