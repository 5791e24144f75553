"""Particles and molecules as centred rows: the double wells DW4, the Lennard-Jones cluster LJ13, QM9's 19-atom molecules.

A row belongs to the test rows with all its copies, so that none of what is tested was seen in training.
"""

import os
from collections import Counter

import numpy as np
import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets.bonds import SYMBOLS
from geoflow.datasets.dataset import Dataset
from geoflow.datasets.energies import double_well_energy, sample_boltzmann
from manifolds import MeanFree


def dw4(folder: str | os.PathLike[str] | None = None, *, draws: int | None = None, seed: int = 0) -> Dataset:
    """Four particles in the plane under `double_well_energy`: 120,000 rows of the file, or as many new draws as you ask.

    The file holds a Metropolis chain with repeats, which are its weights, cut into parts that share most of their rows:
    6,702 of the 7,750 distinct test rows occur in training too, so published likelihoods on them reward memory. Here the
    32,107 distinct configurations are split, a twelfth of them with all their copies to the test rows. The repeats leave
    the worth of 13,000 independent rows. Nor had the chain run long enough: two of the six pairs are close in 44.7 % of
    the rows, and in 51.9 ± 0.7 % under exp(−U), by importance sampling. A model of the file is no model of exp(−U).
    [kohler2020]

    New draws come from `sample_boltzmann`, are independent, and need no file; the last tenth are the test rows.

    Args:
        folder: where ``molecules/dw4.npz`` is; by default GEOFLOW_DATA names it.
        draws: None reads the file; a number draws that many rows, 10,000 in about half a minute.
        seed: of the draws.
    """
    if draws is not None:
        n = validate.count(draws, "dw4", "draws", 1)
        generator = Generator().manual_seed(seed)
        start = 1.5 * torch.randn(n, 8, generator=generator)
        x = sample_boltzmann(double_well_energy, start, 150, generator, temperatures=(1.0, 1.6, 2.5))
        test = torch.arange(n) >= n - n // 10
        return _particles("dw4", x, 2, test, about=f"DW4, {n} independent draws by tempered HMC (seed {seed}).")
    with shelf._open("molecules", "dw4.npz", folder) as file:
        x = torch.as_tensor(np.concatenate(shelf._arrays(file, "train", "val", "test")))
    return _particles("dw4", x, 2, _held_out(x, 1 / 12), about="DW4, one Metropolis chain, split by configuration.")


def lj13(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Thirteen particles in space under `lennard_jones_energy`: 20,000 rows, of which 10,022 are test rows.

    They are the file's test part, and the 22 rows of its validation part that occur there too. The 100,000 training rows
    of the papers are not in the file. [kohler2020]

    Args:
        folder: where ``molecules/lj13.npz`` is; by default GEOFLOW_DATA names it.
    """
    with shelf._open("molecules", "lj13.npz", folder) as file:
        seen, test = (torch.as_tensor(a) for a in shelf._arrays(file, "val", "test"))
    x = torch.cat([seen, test])
    _, which = torch.unique(x, dim=0, return_inverse=True)
    held = torch.isin(which, which[len(seen) :])
    return _particles("lj13", x, 3, held, about="LJ13, the validation and test parts of a Monte Carlo run.")


def qm9(folder: str | os.PathLike[str] | None = None, formula: str | None = None) -> Dataset:
    """The 18,146 molecules of QM9 with 19 atoms: positions in Å ``(n, 57)``, atomic numbers as `types` ``(n, 19)``.

    Atoms stand by falling atomic number, so that molecules of one formula have one row of types, and `labels` number the
    formulas, the most frequent first. Three ways to use the types in an equivariant flow:

    - ``qm9(formula="C7H10O2")``, 6,094 molecules: types are the net's, ``EGNN(19, 3, types=data.types[0].tolist())``;
    - all molecules, one-hot types as context: ``EGNN(19, 3, context=5)`` with
      ``(data.types[..., None] == torch.tensor([1, 6, 7, 8, 9])).flatten(1).float()``;
    - positions alone, as in the benchmark "QM9 positional": ``EGNN(19, 3)``.

    A tenth of the rows, drawn once and for all, are the test rows: which ones papers held out is not published with the
    data. `stability` judges generated positions. [ramakrishnan2014, hoogeboom2022]

    Args:
        folder: where ``qm9/qm9_19atoms.npz`` is; by default GEOFLOW_DATA names it.
        formula: keep one formula's molecules, whose labels are then all 0; None keeps all.
    """
    with shelf._open("qm9", "qm9_19atoms.npz", folder) as file:
        place, number = shelf._arrays(file, "positions_angstrom", "atomic_number")
    order = np.argsort(-number.astype(np.int64), axis=1, kind="stable")
    types = torch.as_tensor(np.take_along_axis(number, order, 1).astype(np.int64))
    x = torch.as_tensor(np.take_along_axis(place, order[..., None], 1)).flatten(1)
    kinds, which, count = torch.unique(types, dim=0, return_inverse=True, return_counts=True)
    frequent = count.argsort(descending=True, stable=True)
    names = [_formula(kinds[k]) for k in frequent]
    labels, held = frequent.argsort()[which], _held_out(x, 0.1)
    if formula is not None:
        if formula not in names:
            raise ValueError(f"qm9 has molecules of 19 atoms with formulas {', '.join(names)}; got {formula!r}.")
        keep = labels == names.index(formula)
        x, types, held, labels = x[keep], types[keep], held[keep], torch.zeros_like(labels[keep])
    about = f"QM9, {formula or 'all'} molecules with 19 atoms, Å, heavy atoms first."
    return _particles("qm9", x, 3, held, about, labels, types)


def _particles(
    name: str,
    x: Tensor,
    each: int,
    test: Tensor,
    about: str,
    labels: Tensor | None = None,
    types: Tensor | None = None,
) -> Dataset:
    """The configurations in float32, their centres at zero."""
    space = MeanFree(x.shape[1] // each, each)
    columns = tuple(f"{axis}{i + 1}" for i in range(x.shape[1] // each) for axis in "xyz"[:each])
    x = space.project(x.double()).float()
    return Dataset(name, x, columns, labels, test=test, space=space, types=types, about=about)


def _held_out(x: Tensor, share: float) -> Tensor:
    """A mask with that share of the distinct rows, drawn once and for all, and all their copies."""
    distinct, which = torch.unique(x, dim=0, return_inverse=True)
    chosen = np.random.default_rng(0).permutation(len(distinct))[: round(share * len(distinct))]
    return torch.isin(which, torch.as_tensor(chosen))


def _formula(types: Tensor) -> str:
    """Carbon, hydrogen, then the others by their letters: C7H10O2."""
    count = Counter(SYMBOLS[int(t)] for t in types)
    return "".join(f"{s}{count[s] if count[s] > 1 else ''}" for s in ("C", "H", "F", "N", "O") if count[s])
