"""Images in colour and of faces: CIFAR-10, Frey's face, Olivetti's, and CelebA from a folder of yours.

Rows are flat and channels first, as the networks of `geoflow.nets` take them: (C, H, W), or (H, W) in grey.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset

CROP = (19, 39, 159, 179)
"""Left, upper, right and lower border of the central 140 × 140 of CelebA's 178 × 218 pixels."""


def cifar10(dequantise: bool = True, seed: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Colour photographs of ten kinds of things, 3 × 32 × 32, flat: the first 20,000 training and 1,000 test images.

    A subset: figures on it are not those of the 50,000 and 10,000 images that papers use. [krizhevsky2009]

    Args:
        dequantise: x = (level + uniform noise) / 256, in [0, 1); without, level / 255.
        seed: of the noise.
        folder: where ``cifar10/labels.npz`` and the sheets of 40 × 25 images ``cifar10/train_00.webp``, ..., ``test_00.webp``
            are; by default GEOFLOW_DATA names it.
    """
    from PIL import Image

    with shelf._open("cifar10", "labels.npz", folder) as file:
        labels = shelf._arrays(file, "train", "test")
    levels = []
    for part, y in zip(("train", "test"), labels, strict=True):
        for i in range(-(-len(y) // 1000)):
            with Image.open(shelf._existing("cifar10", f"{part}_{i:02d}.webp", folder)) as sheet:
                pixels = np.asarray(sheet.convert("RGB"))
            if pixels.shape != (1280, 800, 3):
                raise ValueError(
                    f"cifar10 expects sheets 800 pixels wide and 1280 high, got {pixels.shape[1]} × {pixels.shape[0]} in "
                    f"{part}_{i:02d}.webp."
                )
            tiles = pixels.reshape(40, 32, 25, 32, 3).transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)
            levels.append(tiles[: len(y) - 1000 * i])
    about = "CIFAR-10, the first 20,000 training and 1,000 test images, 3 × 32 × 32."
    return shelf._images(
        "cifar10", np.concatenate(levels), np.concatenate(labels), dequantise, seed, about, len(labels[1])
    )


def frey_faces(dequantise: bool = True, seed: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """1,965 frames of a film of one face, 28 × 20, flat, in their order, and so that neighbours are nearly alike.

    Papers shuffle them before they hold rows out, which puts near copies of test rows into training; holding out a stretch
    of the film does not.

    Args:
        dequantise, seed: as for `cifar10`.
        folder: where ``faces/freyfaces.npz`` is; by default GEOFLOW_DATA names it.
    """
    with shelf._open("faces", "freyfaces.npz", folder) as file:
        (levels,) = shelf._arrays(file, "images")
    return shelf._images("frey_faces", levels, None, dequantise, seed, "Frey's face, frames of a film, 28 × 20.")


def olivetti(dequantise: bool = True, seed: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """400 photographs of faces, 64 × 64, flat, ten of each of 40 people, labels 0 to 39. [samaria1994]

    Args:
        dequantise, seed: as for `cifar10`.
        folder: where ``faces/olivetti.npz`` is; by default GEOFLOW_DATA names it.
    """
    with shelf._open("faces", "olivetti.npz", folder) as file:
        levels, people = shelf._arrays(file, "images", "target")
    return shelf._images("olivetti", levels, people, dequantise, seed, "Olivetti faces, 40 people, 64 × 64.")


def celeba(
    size: int = 64,
    rows: int | range = 20_000,
    dequantise: bool = True,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Faces of celebrities, 3 × size × size, flat, from the aligned images in a folder of yours.

    The central 140 × 140 pixels are cut out and resized, as for the figures of Wasserstein auto-encoders. If the lists of
    attributes and of parts lie beside the images, each attribute is an observable, 1 where it holds and 0 elsewhere, and
    `test` marks the test part. [liu2015]

    Args:
        size: pixels along each side.
        rows: at most so many images, the first ones; or the range of their places in the order of file names, from 0. All
            202,599 take 10 GB at 64 × 64.
        dequantise, seed: as for `cifar10`.
        folder: where ``celeba/img_align_celeba/*.jpg``, and perhaps ``celeba/list_attr_celeba.txt`` and
            ``celeba/list_eval_partition.txt`` are; by default GEOFLOW_DATA names it.
    """
    from PIL import Image

    size = validate.count(size, "celeba", "size", 1)
    shelf_of_images = shelf._existing("celeba", "img_align_celeba", folder)
    paths = sorted(shelf_of_images.glob("*.jpg"))
    wanted = rows if isinstance(rows, range) else range(min(validate.count(rows, "celeba", "rows", 1), len(paths)))
    if not wanted or not 0 <= min(wanted) <= max(wanted) < len(paths):
        raise ValueError(f"celeba: {shelf_of_images} holds {len(paths)} .jpg images, and rows {wanted} were asked for.")
    chosen = [paths[i] for i in wanted]
    levels = np.empty((len(chosen), 3, size, size), np.uint8)
    for i, path in enumerate(chosen):
        with Image.open(path) as image:
            if image.size != (178, 218):
                raise ValueError(f"celeba expects aligned images of 178 × 218 pixels; {path} has {image.size}.")
            face = image.convert("RGB").crop(CROP).resize((size, size), Image.Resampling.LANCZOS)
        levels[i] = np.asarray(face).transpose(2, 0, 1)
    about = f"CelebA, aligned, the central 140 × 140 pixels as 3 × {size} × {size}."
    data = shelf._images("celeba", levels, None, dequantise, seed, about)
    attributes = _column_by_name(shelf_of_images.parent / "list_attr_celeba.txt", chosen, header=2)
    (part,) = _column_by_name(shelf_of_images.parent / "list_eval_partition.txt", chosen).values() or (None,)
    return replace(
        data,
        observables={name: (column > 0).float() for name, column in attributes.items()},
        test=None if part is None else part == 2,
    )


def _column_by_name(path: Path, chosen: list[Path], header: int = 0) -> Mapping[str, torch.Tensor]:
    """The columns of a list of images, whose names stand in the last line of the header; none if there is no such file."""
    if not path.exists():
        return {}
    lines = [line.split() for line in path.read_text().splitlines()]
    names = lines[header - 1] if header else ["part"]
    entries = {line[0]: line[1:] for line in lines[header:] if line}
    lacking = [p.name for p in chosen if len(entries.get(p.name, ())) != len(names)]
    if lacking:
        raise ValueError(
            f"{path} has no line of a name and {len(names)} numbers for {lacking[0]}, and {len(lacking) - 1} others."
        )
    values = torch.as_tensor([[int(v) for v in entries[p.name]] for p in chosen])
    return dict(zip(names, values.unbind(1), strict=True))
