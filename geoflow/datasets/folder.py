"""Loaders for benchmark tables that you keep in a folder of your own; nothing is downloaded.

The folder is given as ``folder=`` or named by the environment variable GEOFLOW_DATA, and laid out as

    adbench/<name>.npz                                 X, y
    uci_regression/<name>.npz                          data, test_mask, n_rows
    power_subset/household_power_first_month.npz       X, columns
    bsds300/bsds300_color_jpg.tar                      200 photographs in train/, 100 in test/, for `bsds300`
    mnist/mnist.npz                                    x_train, y_train, x_test, y_test
    fashion_mnist/<train|t10k>-<images|labels>-idx?-ubyte.gz   idx files as they are published
    cifar10/<train|test>_<nn>.webp, labels.npz         sheets of 40 × 25 images; train, test, for `cifar10`
    faces/freyfaces.npz                                images (n, 28, 20), for `frey_faces`
    faces/olivetti.npz                                 images (n, 64, 64), target, for `olivetti`
    celeba/img_align_celeba/*.jpg                      as published, with its lists beside the folder, for `celeba`
    lhc_jets/<qcd|top>.npz                             pt_gev, deta, dphi, jet_pt_eta_phi_mass and counts, for `jets`
    sbibm/<task>.npz                                   posterior_KK, observation_KK, true_parameters_KK, for `task`
    molecules/dw4.npz                                  train, val, test, eight columns, for `dw4`
    molecules/lj13.npz                                 val, test, 39 columns, for `lj13`
    qm9/qm9_19atoms.npz                                positions_angstrom, atomic_number, for `qm9`
    manifolds/earth/rfm/<name>.csv                     latitude, longitude, for `earth`
    manifolds/mesh/<name>.obj, .off or .ply            triangles, for `mesh` and `mesh_eigen`
    manifolds/torus/ramachandran_<kind>.data.gz        densities on a grid of 180 × 180, for `ramachandran`
    manifolds/torus/rna.tsv                            seven torsion angles a row, in degrees, for `rna`

Each loader says what is missing and which public repository has it.
"""

import gzip
import math
import os
from pathlib import Path

import numpy as np
import torch

from geoflow import validate
from geoflow.datasets.dataset import Dataset

SOURCES = {
    "adbench": "the GitHub repository Minqi824/ADBench, adbench/datasets/Classical (drop the number in the name)",
    "uci_regression": "the GitHub repository treforevans/uci_datasets, packed with arrays data, test_mask and n_rows",
    "power_subset": (
        "the UCI set 'Individual household electric power consumption', first month; a cut is in the GitHub repository "
        "cynthia-2802/ai-exam, packed with arrays X and columns"
    ),
    "bsds300": "the GitHub repository BIDS/BSDS500, data/images: its train and val folders as train/ and test/ in a tar file",
    "mnist": "the GitHub repository rasbt/mnist-pngs, packed with arrays x_train, y_train, x_test, y_test",
    "fashion_mnist": "the GitHub repository zalandoresearch/fashion-mnist, data/fashion",
    "cifar10": (
        "the GitHub repository taneishi/convnetjs, demo/cifar10, which has the images without loss: tile 1,000 to a sheet of "
        "40 rows and 25 columns, lossless WebP, train_00.webp to train_19.webp and test_00.webp, and pack the labels as "
        "labels.npz with arrays train, test"
    ),
    "faces": (
        "the GitHub repositories jmtomczak/vae_vampprior, datasets/Freyfaces (freyfaces.npz: images), and sjgershm/DBM, "
        "olivettifaces.mat (olivetti.npz: images, target)"
    ),
    "celeba": (
        "the CelebA page of the Multimedia Laboratory, CUHK: unpack img_align_celeba.zip, and put list_attr_celeba.txt and "
        "list_eval_partition.txt beside the folder"
    ),
    "lhc_jets": (
        "no repository: simulate with Pythia 8 and cluster with anti-kT, R = 0.8, packed with arrays pt_gev, deta, dphi "
        "(all jets' constituents in a row, hardest first, relative to the jet), n_constituents, n_constituents_before_cut "
        "and jet_pt_eta_phi_mass (n, 4)"
    ),
    "sbibm": (
        "the GitHub repository sbi-benchmark/sbibm, sbibm/tasks/<task>/files, packed with arrays posterior_KK, "
        "observation_KK and true_parameters_KK, KK from 01 to 10"
    ),
    "molecules": (
        "the GitHub repository jarridrb/DEM, data/<part>_split_DW4.npy and data/<part>_split_LJ13-1000.npy, packed with "
        "the parts as arrays train, val, test"
    ),
    "qm9": (
        "the package qm9pack, which ships QM9 as tables: keep molecules of 19 atoms, packed with arrays "
        "positions_angstrom (n, 19, 3) and atomic_number (n, 19)"
    ),
    "manifolds/earth": "the GitHub repository haolsun/Riemannian_MeanFlow, rmf/data/earth_data",
    "manifolds/mesh": "the GitHub repository haolsun/Riemannian_MeanFlow or any collection of triangle meshes",
    "manifolds/torus": (
        "the package pyrama, which ships the Top500 densities (*.data), and the GitHub repository vislearn/FFF, "
        "fff/data/raw_data/torus (rna.tsv)"
    ),
}


def adbench(name: str, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """An anomaly detection table of ADBench; label 1 is an anomaly. Whole numbers come as they are: dequantise them."""
    with _open("adbench", f"{name}.npz", folder) as file:
        x, y = _arrays(file, "X", "y")
    columns = tuple(f"x{j}" for j in range(x.shape[1]))
    return Dataset(name, _rows(x), columns, torch.as_tensor(y.astype(np.int64)), about=f"ADBench {name}.")


def uci_regression(name: str, fold: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """A UCI regression table, the target as last column ``y``, with the test rows of one of its ten folds."""
    fold = validate.count(fold, "uci_regression", "fold")
    with _open("uci_regression", f"{name}.npz", folder) as file:
        x, packed, n = _arrays(file, "data", "test_mask", "n_rows")
    if fold >= packed.shape[1]:
        raise ValueError(f"uci_regression: {name} has folds 0 to {packed.shape[1] - 1}, got {fold}.")
    mask = np.unpackbits(packed, axis=0)[: int(n), fold].astype(bool)
    columns = (*(f"x{j}" for j in range(x.shape[1] - 1)), "y")
    return Dataset(name, _rows(x), columns, test=torch.as_tensor(mask), about=f"UCI {name}, fold {fold} of 10.")


def power_subset(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """One month of household power use by the minute, seven columns.

    A cut of the UCI set, not the four years of the density benchmark "POWER": scores on it compare with nothing
    published. Neighbouring minutes are alike, so hold out days, not rows.
    """
    with _open("power_subset", "household_power_first_month.npz", folder) as file:
        x, columns = _arrays(file, "X", "columns")
    return Dataset("power_subset", _rows(x), tuple(map(str, columns)), about="UCI household power, first month only.")


def mnist(dequantise: bool = True, seed: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """70,000 handwritten digits of 28 × 28 pixels, flat, labels 0 to 9; the last 10,000 are the test rows.

    Args:
        dequantise: x = (level + uniform noise) / 256, in [0, 1); without, level / 255.
        seed: of the noise.
        folder: where ``mnist/mnist.npz`` is.
    """
    with _open("mnist", "mnist.npz", folder) as file:
        train, test, y_train, y_test = _arrays(file, "x_train", "x_test", "y_train", "y_test")
    labels = np.concatenate([y_train, y_test])
    return _images("mnist", np.concatenate([train, test]), labels, dequantise, seed, "MNIST, 28 × 28.", len(test))


def fashion_mnist(dequantise: bool = True, seed: int = 0, folder: str | os.PathLike[str] | None = None) -> Dataset:
    """70,000 pieces of clothing of 28 × 28 pixels, flat, labels 0 to 9; the last 10,000 are the test rows.

    Args:
        dequantise: x = (level + uniform noise) / 256, in [0, 1); without, level / 255.
        seed: of the noise.
        folder: where ``fashion_mnist/train-images-idx3-ubyte.gz`` and its three companions are.
    """
    train, test, y_train, y_test = (
        _idx(_existing("fashion_mnist", f"{part}-ubyte.gz", folder))
        for part in ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1")
    )
    levels, labels = np.concatenate([train, test]), np.concatenate([y_train, y_test])
    return _images("fashion_mnist", levels, labels, dequantise, seed, "Fashion-MNIST, 28 × 28.", len(test))


def available(folder: str | os.PathLike[str] | None = None) -> dict[str, list[str]]:
    """Which of the loaders' files are in the folder: ``{"adbench": ["annthyroid", ...], ...}``."""
    root = _root(folder)
    endings = {".npz", ".gz", ".tsv", ".obj", ".off", ".ply", ".tar", ".webp"}
    return {kind: sorted(p.stem for p in (root / kind).glob("*") if p.suffix in endings) for kind in SOURCES}


def _root(folder: str | os.PathLike[str] | None) -> Path:
    chosen = folder if folder is not None else os.environ.get("GEOFLOW_DATA")
    if not chosen:
        raise ValueError("this loader reads from a folder of yours: pass folder=..., or set GEOFLOW_DATA to it.")
    root = Path(chosen)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: pass folder=..., or set GEOFLOW_DATA to the one with your data.")
    return root


def _existing(kind: str, file: str, folder: str | os.PathLike[str] | None) -> Path:
    path = _root(folder) / kind / file
    if not path.exists():
        has = available(folder)[kind]
        there = f" (there: {', '.join(has)})" if has else ""
        raise FileNotFoundError(f"{path} is missing{there}. It comes from {SOURCES[kind]}.")
    return path


def _open(kind: str, file: str, folder: str | os.PathLike[str] | None) -> np.lib.npyio.NpzFile:
    opened: np.lib.npyio.NpzFile = np.load(_existing(kind, file, folder), allow_pickle=False)
    return opened


def _idx(path: Path) -> np.ndarray:
    """The bytes of a compressed idx file: two zeros, a type (8 for bytes), the number of axes, each length, the data."""
    with gzip.open(path) as file:
        raw = file.read()
    axes = raw[3] if len(raw) > 3 else 0
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(f"{path} is cut off or no idx file of bytes.")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _images(
    name: str, levels: np.ndarray, labels: np.ndarray | None, dequantise: bool, seed: int, about: str, held: int = 0
) -> Dataset:
    """Images of bytes ``(n, *shape)`` as flat rows, the last `held` of them test rows."""
    x = torch.as_tensor(levels.reshape(len(levels), -1)).float()
    if dequantise:
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))
        x = x.add_(noise.clamp_(max=1 - 2**-16)).div_(256)  # a sum of more may be rounded up to the next level
    else:
        x = x.div_(255)
    columns = tuple("_".join(["pixel", *map(str, place)]) for place in np.ndindex(levels.shape[1:]))
    test = torch.arange(len(x)) >= len(x) - held if held else None
    y = None if labels is None else torch.as_tensor(labels.astype(np.int64))
    return Dataset(name, x, columns, y, test=test, about=about)


def _arrays(file: np.lib.npyio.NpzFile, *names: str) -> list[np.ndarray]:
    lacking = [n for n in names if n not in file.files]
    if lacking:
        raise ValueError(
            f"{file.fid and file.fid.name}: expected arrays {', '.join(names)}; it has {', '.join(file.files)}."
        )
    return [file[n] for n in names]


def _rows(x: np.ndarray) -> torch.Tensor:
    """Floats as they are, whole numbers as float32, which holds them exactly up to 2²⁴."""
    return torch.as_tensor(x if x.dtype.kind == "f" else x.astype(np.float32))
