"""Patches of natural images: the density benchmark BSDS300, rebuilt from the photographs."""

import io
import os
import tarfile

import numpy as np
import torch

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset

SIDE = 8


def bsds300(
    n: int = 100_000, test: int = 20_000, seed: int = 0, folder: str | os.PathLike[str] | None = None
) -> Dataset:
    """Grey 8 × 8 patches of the Berkeley photographs, 63 columns, made as for the benchmark of density estimators.

    Random patches of grey levels get uniform noise in [0, 1) and are divided by 256; the mean of each patch is taken away,
    and the last pixel with it, since it follows from the others. `n` patches are of the 200 training images, `test` of the
    100 test images, equally many of each up to one. Patches of one image are alike: hold out images, by their labels, and
    take standard errors over images. Published tables use 1,000,000, 50,000 and 250,000 patches of their own drawing, on
    which a Gaussian scores within a few tenths of a nat of what it scores here. [martin2001, papamakarios2017]

    Args:
        n, test: numbers of patches, at least 300 together.
        seed: of places and noise.
        folder: where ``bsds300/bsds300_color_jpg.tar`` is.

    Returns:
        Rows in random order, labels 0 to 199 the training image and 200 to 299 the test image they are of.
    """
    from PIL import Image

    counts = [validate.count(n, "bsds300", "n", 200), validate.count(test, "bsds300", "test", 100)]
    rng = np.random.default_rng(seed)
    patches, labels = [], []
    with tarfile.open(shelf._existing("bsds300", "bsds300_color_jpg.tar", folder)) as tar:
        members = sorted((m for m in tar.getmembers() if m.name.endswith(".jpg")), key=lambda m: m.name)
        groups = [[m for m in members if f"{part}/" in m.name] for part in ("train", "test")]
        if [len(g) for g in groups] != [200, 100]:
            raise ValueError(f"bsds300 expects 200 train/ and 100 test/ images, got {[len(g) for g in groups]}.")
        for i, member in enumerate(groups[0] + groups[1]):
            file = tar.extractfile(member)
            assert file is not None
            grey = np.asarray(Image.open(io.BytesIO(file.read())).convert("L"))
            images, wanted = (200, counts[0]) if i < 200 else (100, counts[1])
            mine = wanted // images + (i % 200 < wanted % images)
            windows = np.lib.stride_tricks.sliding_window_view(grey, (SIDE, SIDE))
            rows, columns = (rng.integers(windows.shape[k], size=mine) for k in (0, 1))
            patches.append(windows[rows, columns].reshape(mine, -1))
            labels.append(np.full(mine, i))
    level = np.concatenate(patches).astype(np.float64)
    x = (level + rng.random(level.shape)) / 256
    order = rng.permutation(len(x))
    x = (x - x.mean(1, keepdims=True))[order, :-1]
    image = torch.as_tensor(np.concatenate(labels)[order])
    names = tuple(f"pixel_{i // SIDE}_{i % SIDE}" for i in range(SIDE * SIDE - 1))
    about = f"BSDS300, {n} patches of 200 training images and {test} of 100 test images (seed {seed})."
    return Dataset("bsds300", torch.as_tensor(x, dtype=torch.float32), names, image, test=image >= 200, about=about)
