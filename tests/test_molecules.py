"""Particles and molecules: nothing tested was trained on, the virial holds, and bonds are those of chemistry."""

import math
import os

import numpy as np
import pytest
import torch
from torch import Tensor

from geoflow import datasets
from geoflow.datasets import bond_orders, double_well_energy, lennard_jones_energy, stability
from manifolds import MeanFree


@pytest.fixture
def folder(tmp_path):
    """The layout that the loaders read, filled with small made arrays."""
    rng = np.random.default_rng(0)
    (tmp_path / "molecules").mkdir()
    (tmp_path / "qm9").mkdir()
    chain = rng.normal(size=(60, 8)).astype(np.float32)
    parts = {part: chain[rng.integers(0, 60, n)] for part, n in (("train", 200), ("val", 40), ("test", 40))}
    np.savez(tmp_path / "molecules/dw4.npz", **parts)
    seen, test = rng.normal(size=(2, 30, 39)).astype(np.float32)
    test[:3] = seen[:3]
    np.savez(tmp_path / "molecules/lj13.npz", val=seen, test=test)
    number = np.array([[1, 6, 8, 1], [6, 8, 1, 1], [1, 1, 1, 7]] * 20, dtype=np.uint8)
    np.savez(tmp_path / "qm9/qm9_19atoms.npz", positions_angstrom=rng.normal(size=(60, 4, 3)), atomic_number=number)
    return tmp_path


def needs(kind: str, name: str) -> None:
    if not os.environ.get("GEOFLOW_DATA") or name not in datasets.available()[kind]:
        pytest.skip(f"GEOFLOW_DATA has no {kind}/{name}")


def check_particles(data: datasets.Dataset, particles: int, each: int) -> None:
    """Centred rows in float32, and no configuration on both sides of the split."""
    assert data.space == MeanFree(particles, each)
    assert data.x.dtype == torch.float32
    assert data.x.shape[1] == particles * each == len(set(data.columns))
    assert data.space.contains(data.x).all()
    assert data.test.shape == (len(data),)
    seen, held = ({row.numpy().tobytes() for row in data.x[m].unique(dim=0)} for m in (~data.test, data.test))
    assert seen
    assert held
    assert not seen & held


def test_loaders_read_the_layout(folder, monkeypatch):
    monkeypatch.setenv("GEOFLOW_DATA", str(folder))
    data = datasets.dw4()
    check_particles(data, 4, 2)
    assert len(data) == 280
    assert 0.03 < float(data.test.double().mean()) < 0.2
    assert torch.equal(data.test, datasets.dw4().test)
    data = datasets.lj13()
    check_particles(data, 13, 3)
    assert data.test.nonzero().flatten().tolist() == [0, 1, 2, *range(30, 60)]
    assert data.columns[:4] == ("x1", "y1", "z1", "x2")


def test_molecules_of_one_formula_have_one_row_of_types(folder):
    """Positions go with their atoms, labels number the formulas by how frequent they are."""
    data = datasets.qm9(folder)
    check_particles(data, 4, 3)
    assert data.types[:3].tolist() == [[8, 6, 1, 1], [8, 6, 1, 1], [7, 1, 1, 1]]
    assert data.labels[:3].tolist() == [0, 0, 1]
    with np.load(folder / "qm9/qm9_19atoms.npz") as file:
        place = torch.as_tensor(file["positions_angstrom"][0])
    place = (place - place.mean(0)).float()
    torch.testing.assert_close(data.x[0].view(4, 3), place[[2, 1, 0, 3]])
    ammonia = datasets.qm9(folder, formula="H3N")
    assert len(ammonia) == 20
    assert ammonia.types.unique(dim=0).tolist() == [[7, 1, 1, 1]]
    assert torch.equal(ammonia.test, data.test[data.labels == 1])
    with pytest.raises(ValueError, match=r"formulas CH2O, H3N; got 'C60'"):
        datasets.qm9(folder, formula="C60")


@pytest.mark.parametrize(("load", "says"), [("dw4", "jarridrb/DEM"), ("lj13", "jarridrb/DEM"), ("qm9", "qm9pack")])
def test_loaders_say_what_is_missing(load, says, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"is missing.*{says}"):
        getattr(datasets, load)(tmp_path)


def test_fresh_double_wells():
    """Need no file, are new rows by their seed, and lie in the wells."""
    data = datasets.dw4(draws=200, seed=1)
    assert len(data) == 200
    check_particles(data, 4, 2)
    assert int(data.test.sum()) == 20
    assert float(double_well_energy(data.x).mean()) == pytest.approx(-22.52, abs=0.6)
    with pytest.raises(ValueError, match=r"draws must be at least 1, got 0"):
        datasets.dw4(draws=0)


# -- the files themselves ----------------------------------------------------------------------------------------------


def by_configuration(x: Tensor, f: Tensor) -> tuple[float, float]:
    """The mean of a number a row, and its standard error where copies of a configuration count as one draw of it."""
    _, which = torch.unique(x, dim=0, return_inverse=True)
    mean = f.mean()
    sums = torch.zeros(int(which.max()) + 1, dtype=f.dtype).index_add_(0, which, f - mean)
    return float(mean), float(sums.square().sum().sqrt()) / len(f)


def virial(energy, x: Tensor) -> Tensor:
    x = x.double().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).sum(), x)
    return (x * gradient).sum(-1).detach()


def test_virial_of_double_wells():
    """E[x · ∇U] is the dimension, 6. Weights of repeats widen the error to more than twice that of independent rows."""
    needs("molecules", "dw4")
    x = datasets.dw4().x
    rows = virial(double_well_energy, x)
    mean, error = by_configuration(x, rows)
    assert 2 * float(rows.std()) / math.sqrt(len(rows)) < error < 0.3
    assert abs(mean - 6) < 4 * error


def test_the_chain_of_double_wells_had_not_run_long_enough():
    """The share of rows with two close pairs, 0.519 by importance sampling, is another one in the file."""
    needs("molecules", "dw4")
    x = datasets.dw4().x
    cloud = x.unflatten(-1, (4, 2))
    i, j = torch.triu_indices(4, 4, 1)
    close = (cloud[:, i] - cloud[:, j]).norm(dim=-1).lt(4).sum(-1)
    mean, error = by_configuration(x, close.eq(2).double())
    assert mean == pytest.approx(0.447, abs=1e-3)
    assert error < 0.005


def test_virial_of_lennard_jones_tells_the_depth():
    """36 for ε = 2; with ε = 1 the rows are far off."""
    needs("molecules", "lj13")
    x = datasets.lj13().x
    mean, error = by_configuration(x, virial(lennard_jones_energy, x))
    assert abs(mean - 36) < 4 * error < 2
    mean, error = by_configuration(x, virial(lambda y: lennard_jones_energy(y, depth=1.0), x))
    assert mean < 36 - 20 * error


def test_the_split_of_double_wells_leaks_no_more():
    """Test rows are no copies, nor near ones, of rows for training; the file's own parts share thousands."""
    needs("molecules", "dw4")
    from scipy.spatial import cKDTree

    data = datasets.dw4()
    check_particles(data, 4, 2)
    assert len(data) == 120_000
    assert 0.07 < float(data.test.double().mean()) < 0.1
    seen, held = (data.x[m].unique(dim=0).numpy() for m in (~data.test, data.test))
    assert len(seen) + len(held) == 32_107
    assert cKDTree(seen).query(held)[0].min() > 0.05
    parts = [data.x[:100_000], data.x[110_000:]]
    first, last = ({row.numpy().tobytes() for row in p.unique(dim=0)} for p in parts)
    assert len(last) == 7_750
    assert len(first & last) == 6_702


def test_the_split_of_lennard_jones():
    needs("molecules", "lj13")
    data = datasets.lj13()
    check_particles(data, 13, 3)
    assert len(data) == 20_000
    assert int(data.test.sum()) == 10_022


def test_molecules_are_nearly_all_stable():
    """By the rule that generated ones are judged by; shaken by 0.3 Å they are not."""
    needs("qm9", "qm9_19atoms")
    data = datasets.qm9()
    check_particles(data, 19, 3)
    assert len(data) == 18_146
    assert len(datasets.qm9(formula="C7H10O2")) == 6_094
    real = stability(data.x, data.types)
    assert real["atoms"] == pytest.approx(0.998, abs=5e-4)
    assert real["molecules"] == pytest.approx(0.986, abs=5e-4)
    shaken = stability(data.x[:2000] + 0.3 * torch.randn(2000, 57), data.types[:2000])
    assert shaken["atoms"] < 0.5
    assert shaken["molecules"] == 0
    orders = bond_orders(data.x[:500], data.types[:500])
    assert all(orders[i].tolist() == by_hand(data.x[i], data.types[i]) for i in range(0, 500, 10))


# -- bonds -------------------------------------------------------------------------------------------------------------

SINGLE = {
    **{frozenset("H"): 74, frozenset("HC"): 109, frozenset("HN"): 101, frozenset("HO"): 96, frozenset("HF"): 92},
    **{frozenset("C"): 154, frozenset("CN"): 147, frozenset("CO"): 143, frozenset("CF"): 135, frozenset("N"): 145},
    **{frozenset("NO"): 140, frozenset("NF"): 136, frozenset("O"): 148, frozenset("OF"): 142, frozenset("F"): 142},
}
DOUBLE = {
    **{frozenset("C"): 134, frozenset("CN"): 129, frozenset("CO"): 120},
    **{frozenset("N"): 125, frozenset("NO"): 121, frozenset("O"): 121},
}
TRIPLE = {frozenset("C"): 120, frozenset("CN"): 116, frozenset("CO"): 113, frozenset("N"): 110}
NAMES = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}


def by_hand(x: Tensor, types: Tensor) -> list[list[int]]:
    """One pair after the other, as a chemist reads the table: first whether bonded at all, then how."""
    atoms = x.view(-1, 3).tolist()
    table = [[0] * len(atoms) for _ in atoms]
    for i, a in enumerate(atoms):
        for j, b in enumerate(atoms):
            pair, pm = frozenset(NAMES[int(types[i])] + NAMES[int(types[j])]), 100 * math.dist(a, b)
            if i == j or pm >= SINGLE[pair] + 10:
                continue
            table[i][j] = 1
            if pair in DOUBLE and pm < DOUBLE[pair] + 5:
                table[i][j] = 3 if pair in TRIPLE and pm < TRIPLE[pair] + 3 else 2
    return table


SMALL = {
    "hydrogen cyanide": ([[0, 0, 0], [1.064, 0, 0], [2.22, 0, 0]], [1, 6, 7], [1, 4, 3], 1.0),
    "acetylene": ([[0, 0, 0], [1.06, 0, 0], [2.263, 0, 0], [3.323, 0, 0]], [1, 6, 6, 1], [1, 4, 4, 1], 1.0),
    "water": ([[0, 0, 0], [0.957, 0, 0], [-0.24, 0.927, 0]], [8, 1, 1], [2, 1, 1], 1.0),
    "hydroxyl": ([[0, 0, 0], [0.97, 0, 0]], [8, 1], [1, 1], 0.5),
    "hydrogen fluoride, stretched": ([[0, 0, 0], [1.03, 0, 0]], [9, 1], [0, 0], 0.0),
    "carbon dioxide": ([[-1.162, 0, 0], [0, 0, 0], [1.162, 0, 0]], [8, 6, 8], [2, 4, 2], 1.0),
}


@pytest.mark.parametrize(("place", "types", "bonds", "share"), SMALL.values(), ids=SMALL)
def test_bonds_of_small_molecules(place, types, bonds, share, dtype):
    x, types = torch.tensor(place, dtype=dtype).flatten(), torch.tensor(types)
    orders = bond_orders(x, types)
    assert torch.equal(orders, orders.T)
    assert orders.sum(-1).tolist() == bonds
    found = stability(x, types)
    assert found == {"atoms": share, "molecules": float(share == 1)}
    twice = bond_orders(torch.stack([x, x + 5]), types)
    assert torch.equal(twice, orders.expand_as(twice))


def test_bonds_are_those_of_a_loop(generator):
    """At distances on both sides of every limit."""
    types = torch.tensor([1, 6, 7, 8, 9])[torch.randint(5, (40, 9), generator=generator)]
    x = 1.1 * torch.randn(40, 27, dtype=torch.float64, generator=generator)
    orders = bond_orders(x, types)
    assert set(orders.flatten().tolist()) == {0, 1, 2, 3}
    assert [o.tolist() for o in orders] == [by_hand(a, t) for a, t in zip(x, types, strict=True)]


@pytest.mark.parametrize("types", [torch.tensor([6.0, 8.0]), torch.tensor([6, 17]), torch.tensor(6)])
def test_bonds_refuse(types):
    with pytest.raises(ValueError, match=r"atomic numbers \(\*batch, atoms\) among 1 \(H\), 6 \(C\)"):
        bond_orders(torch.zeros(6), types)
