"""Two sources that classes differ in, hidden in ten columns: does a method find their axes?"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.nets import MLP

SOURCES, NOISE, DIM, CLASSES = 2, 1e-2, 10, 5
CROSSING = ((0.5, 3.0), (3.0, 0.5), (1.0, 1.0), (0.5, 2.0), (2.0, 0.5))
"""Deviations of both sources in each class whose ratios cross one: what tells the axes apart."""


@dataclass(frozen=True)
class MixedSources:
    """Rows made of known sources.

    Attributes:
        name: short name.
        x: rows ``(n, 10)``.
        labels: their classes ``(n,)``, 0 to 4.
        sources: the two that classes differ in ``(n, 2)``.
        mean, std: of the sources in each class ``(5, 2)``.
        about: how it was made, in a sentence.
    """

    name: str
    x: Tensor
    labels: Tensor
    sources: Tensor
    mean: Tensor
    std: Tensor
    about: str

    def __len__(self) -> int:
        return len(self.x)


def glow_sources(n: int = 10_000, seed: int = 0) -> MixedSources:
    """GIN's artificial data: deviations from U(.5, 3), mixed by an untrained Glow. [sorrenson2020]

    Its MCC says little by itself: eight couplings with networks as torch starts them are close to a permutation of the
    columns, and the two of largest deviation may already match the sources. Compare with them.

    Args:
        n: rows.
        seed: of classes, mixing and rows; rows of a larger n begin with those of a smaller one only by chance.
    """

    def std(g: Generator) -> Tensor:
        return 0.5 + 2.5 * torch.rand(CLASSES, SOURCES, generator=g)

    return _mixed("glow_sources", n, seed, std, _glow, "deviations from U(.5, 3), mixed by an untrained Glow")


def sheared_sources(n: int = 10_000, seed: int = 0) -> MixedSources:
    """The harder "shear-2": crossing deviations, sources turned by 45 degrees, four strong shears.

    The ratios of deviations cross between classes, so that the axes can be known, and the mixing is far from linear, so
    that no linear method finds them: x = (z R₄₅, noise) O₀, then four times, with x = (u, v) cut in halves,

        u ← u + 4 tanh(v P / 2 + b) Q,   x ← (u, v) O,

    with random orthogonal P, Q, O and b ~ N(0, 1). The volume is kept exactly, and singular values of the whole lie
    within [1/34, 34].

    Args:
        n: rows.
        seed: of classes, mixing and rows.
    """

    def std(g: Generator) -> Tensor:
        return torch.tensor(CROSSING)

    return _mixed(
        "sheared_sources", n, seed, std, _shears, "deviations whose ratios cross, turned and sheared four times"
    )


def _mixed(
    name: str,
    n: int,
    seed: int,
    deviations: Callable[[Generator], Tensor],
    mix: Callable[[Tensor, Generator], Tensor],
    about: str,
) -> MixedSources:
    n = validate.count(n, name, "n", 1)
    g = Generator().manual_seed(seed)
    mean = 10 * torch.rand(CLASSES, SOURCES, generator=g) - 5
    std = deviations(g)
    mixing = Generator().manual_seed(int(torch.randint(2**31, (), generator=g)))
    labels = torch.randint(CLASSES, (n,), generator=g)
    sources = mean[labels] + std[labels] * torch.randn(n, SOURCES, generator=g)
    z = torch.cat([sources, NOISE * torch.randn(n, DIM - SOURCES, generator=g)], -1)
    about = f"{about}; {n} rows of two sources and eight columns of noise {NOISE} (seed {seed})."
    return MixedSources(name, mix(z, mixing), labels, sources, mean, std, about)


def _orthogonal(n: int, g: Generator) -> Tensor:
    """Uniform over the orthogonal group."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def _shears(z: Tensor, g: Generator, gain: float = 2.0, width: float = 2.0) -> Tensor:
    c = math.sqrt(0.5)
    x = torch.cat([z[:, :2] @ torch.tensor([[c, c], [-c, c]]), z[:, 2:]], -1) @ _orthogonal(DIM, g)
    half = DIM // 2
    for _ in range(4):
        u, v = x[:, :half], x[:, half:]
        bias = torch.randn(half, generator=g)
        bent = torch.tanh(v @ _orthogonal(half, g) / width + bias)
        x = torch.cat([u + gain * width * bent @ _orthogonal(half, g), v], -1) @ _orthogonal(DIM, g)
    return x


@torch.no_grad()
def _glow(z: Tensor, g: Generator) -> Tensor:
    """Eight two-sided affine couplings with networks of ten hidden units, and permutations between them."""
    half = DIM // 2
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(g.initial_seed())
        nets = nn.ModuleList([MLP(half, DIM, (10, 10)) for _ in range(16)])
    x = z
    for i in range(8):
        a, b = x[:, torch.randperm(DIM, generator=g)].chunk(2, -1)
        for net in nets[2 * i : 2 * i + 2]:
            r, t = net(a).chunk(2, -1)
            a, b = b * torch.exp(2 * torch.tanh(r / 2)) + t, a
        x = torch.cat([a, b], -1)
    return x
