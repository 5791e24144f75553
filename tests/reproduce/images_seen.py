"""Images that latent models are trained on and judged by: who sees which rows, and the figures of what is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from geoflow import datasets
from geoflow.autoencoders import LatentModel
from geoflow.datasets import Dataset
from geoflow.metrics import FrechetReport, ImageFeatures, feature_classifier, frechet_report, prd, precision_recall
from geoflow.metrics.frechet import in_blocks

DRAWS, INSIDE = 5000, 3000
"""Draws of each model, and how many of them precision and recall look at."""


@dataclass(frozen=True)
class Images:
    """A set of images, and who sees which of its rows.

    Attributes:
        load: the rows.
        shape: of an image.
        rows: training images of the models.
        apart: whether the feature map learns from other images than the models do; else from the same.
        latent, hidden, epochs: of the models.
    """

    load: Callable[..., Dataset]
    shape: tuple[int, ...]
    rows: int = 10_000
    apart: bool = True
    latent: int = 16
    hidden: tuple[int, ...] = (256, 256)
    epochs: int = 15


IMAGES = {
    "mnist": Images(datasets.mnist, (28, 28)),
    "fashion_mnist": Images(datasets.fashion_mnist, (28, 28)),
    "cifar10": Images(datasets.cifar10, (3, 32, 32), apart=False, latent=64, hidden=(512, 512)),
}


@dataclass(frozen=True)
class Seen:
    """Training rows of models, real rows that neither models nor features have seen, twice, and the features.

    Attributes:
        train: of the models.
        others: as many as there are draws: their distance to `test` is the floor.
        test: what draws are compared with.
        features: trained on rows of neither.
    """

    train: Tensor
    others: Tensor
    test: Tensor
    features: ImageFeatures

    def report(self, made: Tensor) -> FrechetReport:
        return frechet_report(self.features, self.others, self.test, made[:DRAWS])

    def shares(self, made: Tensor) -> tuple[str, str]:
        """F₈ and F₁⸝₈ of `prd`, and improved precision and recall."""
        real, fake = (in_blocks(self.features, x, 1000) for x in (self.test[:DRAWS], made[:DRAWS]))
        curve, balls = prd(real, fake), precision_recall(real[:INSIDE], fake[:INSIDE])
        return f"{curve.f8:.2f} / {curve.f18:.2f}", f"{balls.precision:.2f} / {balls.recall:.2f}"


def seen(name: str) -> Seen:
    """The rows of a set, shuffled once and for all, and its feature map."""
    settings = IMAGES[name]
    data = settings.load(dequantise=False)
    assert data.test is not None
    assert data.labels is not None
    kept = (~data.test).nonzero()[:, 0]
    kept = kept[torch.randperm(len(kept), generator=Generator().manual_seed(0))]
    train, others, rest = kept.split([settings.rows, DRAWS, len(kept) - settings.rows - DRAWS])
    test = data.test.nonzero()[:, 0]  # shuffled too: the first half of MNIST's is neater than the second
    test = test[torch.randperm(len(test), generator=Generator().manual_seed(0))]
    if not settings.apart:  # so small a set that test rows are taken from what is left
        test, rest = torch.cat([test, rest[: DRAWS - len(test)]]), torch.cat([train, rest[DRAWS - len(test) :]])
    features = feature_classifier(data.x[rest], data.labels[rest], progress=False)
    return Seen(data.x[train], data.x[others], data.x[test], features)


@torch.no_grad()
def reconstructed(model: LatentModel, x: Tensor) -> Tensor:
    return torch.cat([model.autoencoder.reconstruct(part) for part in x.split(2000)])


def draws(model: LatentModel, n: int = DRAWS) -> Tensor:
    return model.sample(n, generator=Generator().manual_seed(0))
