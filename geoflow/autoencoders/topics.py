"""Decoders of shares: what codes mean as shares, and a layer whose columns are topics."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.autoencoders.priors.sticks import shares
from geoflow.registry import register

MAPS: dict[str, Callable[[Tensor], Tensor]] = {"softmax": lambda z: torch.softmax(z, -1), "sticks": shares}


@register
class OfShares(nn.Module):
    """net(r(z)): a decoder that is shown shares.

    Args:
        net: shares ``(*batch, k)`` → data.
        by: r is the "softmax" of k numbers, or "sticks" broken at k − 1 logits (`StickBreaking`).
        centered: whether the net is shown k r − 1 in the place of r, as perceptrons should be: shares are of order 1/k, and
            inputs as small as that tell a fresh network next to nothing, so that posteriors collapse before it learns.
    """

    def __init__(self, net: nn.Module, by: Literal["softmax", "sticks"] = "softmax", centered: bool = False) -> None:
        super().__init__()
        if by not in MAPS:
            raise ValueError(f"OfShares expects by='softmax' or 'sticks', got {by!r}.")
        self.net, self.by, self.centered = net, by, centered

    def shares(self, z: Tensor) -> Tensor:
        """r(z) ``(*batch, k)``."""
        return MAPS[self.by](z)

    def start_at(self, x: Tensor) -> None:
        """Show the net rows of data, if it asks for them as `Topics` do."""
        start_at: Any = getattr(self.net, "start_at", None)
        if start_at is not None:
            start_at(x)

    def forward(self, z: Tensor) -> Tensor:
        return self.of(self.shares(z))

    def of(self, r: Tensor) -> Tensor:
        """What shares ``(*batch, k)`` decode to."""
        return self.net(r.shape[-1] * r - 1 if self.centered else r)


@register
class Topics(nn.Module):
    """b + W r, linear: behind a softmax, each share speaks for one topic, softmax of b and its column of W.

    b is no parameter: `fit` takes the logarithm of the mean row, and what is learned is how topics differ from it. With b
    left at zero the same topics are within reach, but thousands of steps away: until then rare words are not yet rare, and
    the topics too much alike to be told apart.

    Args:
        count: number of shares.
        dim: number of words, or pixels.
    """

    common: Tensor

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.count, self.dim = validate.count(count, "Topics", "count", 1), validate.count(dim, "Topics", "dim", 1)
        self.weight = nn.Parameter(torch.randn(self.dim, self.count) / self.count**0.5)
        self.register_buffer("common", torch.zeros(self.dim))

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Take b from rows of shares ``(n, dim)``, a uniform one added to them: no word is impossible."""
        mean = (x.double().clamp_min(0).sum(0) + 1 / self.dim) / (len(x) + 1)
        self.common.copy_(mean.log())

    def forward(self, r: Tensor) -> Tensor:
        return nn.functional.linear(r, self.weight, self.common)

    def topics(self) -> Tensor:
        """Each topic's own shares of words ``(count, dim)``: what it decodes to alone."""
        return torch.softmax(self.weight.mT + self.common, -1)
