"""The default feature map for images: what a small classifier sees just before it decides."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.nets import ConvEncoder
from geoflow.registry import register


@register
class ImageFeatures(nn.Module):
    """Flat images ``(*batch, C·H·W)`` → features ``(*batch, outputs)``, none negative: a `ConvEncoder` and a ReLU.

    `feature_classifier` trains it, below a linear layer that decides; untrained it is a random convolutional map.

    Args:
        image_shape: (C, H, W), channels first.
        outputs: number of features.
        channels: of the convolutions.
        name: what distances under this map are called after: FD[name].
        accuracy: of the classifier it was trained in, on rows held out; None if it was not.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        outputs: int = 64,
        channels: Sequence[int] = (16, 32),
        name: str = "random conv",
        accuracy: float | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.channels = tuple(image_shape), tuple(channels)
        self.inputs, self.outputs = math.prod(image_shape), outputs
        self.name, self.accuracy = name, accuracy
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.encoder = ConvEncoder(image_shape, outputs, channels, "relu")

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.inputs:
            raise ValueError(
                f"ImageFeatures expects flat images of {self.inputs} numbers, {self.image_shape}, got shape {tuple(x.shape)}."
            )
        return self.encoder((x - self.center) / self.scale).relu()

    def extra_repr(self) -> str:
        return f"name={self.name!r}, accuracy={self.accuracy}"


def feature_classifier(
    x: Any,
    labels: Any,
    *,
    image_shape: Sequence[int] | None = None,
    outputs: int = 64,
    steps: int = 2000,
    batch_size: int = 100,
    lr: float = 4e-3,
    seed: int = 0,
    name: str | None = None,
    progress: bool = True,
) -> ImageFeatures:
    """Trains a small classifier on labelled real images; its penultimate layer is the feature map that it returns.

    Give training images only: rows it has seen are no fair floor. A tenth of the rows, at most 5,000, is held out, and
    the accuracy on them kept as `.accuracy`: near chance, distances under the map mean nothing. The same seed gives the
    same map on the same machine and number of threads. On MNIST the relative figures of `frechet_report` under three
    seeds were within a seventh of their mean, but nearly twice those of a map trained for 400 steps on 10,000 rows:
    figures to be compared need one map, which `geoflow.save` keeps. Trained in float32 on the device of `x`, with one
    mean and scale for all pixels.

    Cost: 3 · steps · batch_size passes; for images of 28 × 28 under a minute on one core.

    Args:
        x: flat images ``(n, C·H·W)``, channels first, in any units.
        labels: a whole number, or a word, for each ``(n,)``.
        image_shape: (C, H, W); None takes square images of one channel, or else of three.
        outputs: number of features.
        steps, batch_size, lr: of Adam, whose rate rises and falls once (`lr` at the top).
        seed: of weights, held-out rows and batches; the global generator stays as it was.
        name: of the map, "conv64" by default.

    Raises:
        ValueError: labels that do not fit the rows, fewer than two classes, a width that is no square image.
    """
    from tqdm.auto import tqdm

    who = "feature_classifier"
    x = validate.table(x, who, minimum=20, dtype=torch.float32)
    targets, classes = _targets(labels, x, who)
    shape = _square(x.shape[1]) if image_shape is None else tuple(image_shape)
    if math.prod(shape) != x.shape[1]:
        raise ValueError(
            f"{who}: images of shape {shape} are not {x.shape[1]} numbers long: pass image_shape=(C, H, W)."
        )
    steps, batch_size = (validate.count(v, who, n, 1) for v, n in ((steps, "steps"), (batch_size, "batch_size")))
    if not lr > 0:
        raise ValueError(f"{who} expects lr > 0, got {lr}.")
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    held, train = order.split([k := min(5000, len(x) // 10), len(x) - k])
    batches = torch.randint(len(train), (steps, batch_size), generator=generator).to(x.device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        features = ImageFeatures(shape, outputs, name=name or f"conv{outputs}")
        model = nn.Sequential(features, nn.Linear(outputs, classes)).to(x)
    features.center.copy_(x[train].mean())
    features.scale.copy_(x[train].std().clamp_min(torch.finfo(x.dtype).tiny))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    hidden = {} if progress else {"disable": True}  # else TQDM_DISABLE decides
    with torch.enable_grad(), tqdm(batches, desc="train feature classifier", **hidden) as bar:
        for batch in bar:
            rows = train[batch]
            loss = nn.functional.cross_entropy(model(x[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        right = [model(x[rows]).argmax(1) == targets[rows] for rows in held.split(1000)]
    features.accuracy = float(torch.cat(right).double().mean())
    return features


def _targets(labels: Any, x: Tensor, who: str) -> tuple[Tensor, int]:
    """Labels as 0 ... classes − 1, and their number."""
    if not isinstance(labels, Tensor) and np.asarray(labels).dtype.kind in "US":
        labels = np.unique(np.asarray(labels), return_inverse=True)[1]
    found = torch.as_tensor(labels, device=x.device)
    if found.is_floating_point() or found.is_complex() or found.shape != x.shape[:1]:
        raise ValueError(
            f"{who} expects one whole number a row as labels, ({len(x)},), got {found.dtype} {tuple(found.shape)}."
        )
    values, targets = found.unique(return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"{who} expects labels of at least two classes, got {values.tolist()}.")
    return targets, len(values)


def _square(inputs: int) -> tuple[int, int, int]:
    """Shape of a square image, grey or in three colours."""
    for colours in (1, 3):
        side = math.isqrt(inputs // colours)
        if colours * side * side == inputs:
            return colours, side, side
    raise ValueError(
        f"feature_classifier: {inputs} numbers are no square image of 1 or 3 channels: pass image_shape=(C, H, W)."
    )
