"""Decoders of shares: what codes mean as shares, and a layer whose columns are topics."""

from collections.abc import Callable
from typing import Literal

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
    """

    def __init__(self, net: nn.Module, by: Literal["softmax", "sticks"] = "softmax") -> None:
        super().__init__()
        if by not in MAPS:
            raise ValueError(f"OfShares expects by='softmax' or 'sticks', got {by!r}.")
        self.net, self.by = net, by

    def shares(self, z: Tensor) -> Tensor:
        """r(z) ``(*batch, k)``."""
        return MAPS[self.by](z)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(self.shares(z))


@register
class Topics(nn.Module):
    """W r, linear and without offset: behind a softmax, each share speaks for one topic, softmax of its column of W.

    Args:
        count: number of shares.
        dim: number of words, or pixels.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.count, self.dim = validate.count(count, "Topics", "count", 1), validate.count(dim, "Topics", "dim", 1)
        self.weight = nn.Parameter(torch.randn(self.dim, self.count) / self.count**0.5)

    def forward(self, r: Tensor) -> Tensor:
        return r @ self.weight.mT

    def topics(self) -> Tensor:
        """Each topic's own shares of words ``(count, dim)``: what it decodes to alone."""
        return torch.softmax(self.weight.mT, -1)
