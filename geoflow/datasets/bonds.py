"""Which atoms of a molecule are bonded, read off distances, and whether every atom has the bonds that its valence asks for."""

import torch
from torch import Tensor

from geoflow import validate

SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}
VALENCES = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
LENGTHS: tuple[dict[str, int], ...] = (
    {
        **{"HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92},
        **{"CC": 154, "CN": 147, "CO": 143, "CF": 135},
        **{"NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142},
    },
    {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121},
    {"CC": 120, "CN": 116, "CO": 113, "NN": 110},
)
"""Typical lengths of single, double and triple bonds in pm."""
MARGINS = (10, 5, 3)
"""How much longer a bond may be and still counts, in pm."""


def _longest() -> Tensor:
    """The distance in Å below which a pair has at least 1, 2, 3 bonds ``(5, 5, 3)``, elements in the order of `SYMBOLS`."""
    names = [*SYMBOLS.values()]
    table = torch.zeros(len(names), len(names), 3, dtype=torch.float64)
    for order, (lengths, margin) in enumerate(zip(LENGTHS, MARGINS, strict=True)):
        for (a, b), length in ((tuple(pair), length) for pair, length in lengths.items()):
            i, j = names.index(a), names.index(b)
            table[i, j, order] = table[j, i, order] = (length + margin) / 100
    return table


def bond_orders(x: Tensor, types: Tensor) -> Tensor:
    """Bonds between atoms, 0 to 3, ``(*batch, atoms, atoms)``: by distance alone, below typical lengths plus 10, 5, 3 pm.

    The rule and the margins are those that generated molecules are judged by. Aromatic bonds come out as single or double.
    [hoogeboom2022]

    Args:
        x: positions in Å ``(*batch, atoms · 3)``.
        types: atomic numbers among 1, 6, 7, 8, 9, ``(*batch, atoms)``, or ``(atoms,)`` for all.

    >>> bond_orders(torch.tensor([0.0, 0.0, 0.0, 1.2, 0.0, 0.0]), torch.tensor([6, 8]))  # C=O
    tensor([[0, 2],
            [2, 0]])
    """
    if types.is_floating_point() or types.ndim == 0 or not bool(torch.isin(types, torch.tensor([*SYMBOLS])).all()):
        known = ", ".join(f"{number} ({symbol})" for number, symbol in SYMBOLS.items())
        raise ValueError(f"bond_orders expects types as atomic numbers (*batch, atoms) among {known}.")
    atoms = types.shape[-1]
    cloud = validate.points(x, 3 * atoms, "bond_orders").unflatten(-1, (atoms, 3))
    kind = torch.searchsorted(torch.tensor([*SYMBOLS]), types.contiguous())
    limit = _longest().to(x)[kind[..., :, None], kind[..., None, :]]
    apart = (cloud[..., :, None, :] - cloud[..., None, :, :]).square().sum(-1).sqrt()
    orders = (apart[..., None] < limit).sum(-1)
    return orders * (1 - torch.eye(atoms, dtype=orders.dtype))


def stability(x: Tensor, types: Tensor) -> dict[str, float]:
    """Shares of atoms whose bonds add up to their valence (H 1, C 4, N 3, O 2, F 1), and of molecules all of whose do.

    Among QM9's own molecules these are 99.0 and 95.2 %, of those with 19 atoms 99.8 and 98.6 %: the most that a model can
    be asked for. Where the rule is wrong there are charged atoms and conjugated bonds. [hoogeboom2022]

    Args:
        x: positions in Å ``(*batch, atoms · 3)``.
        types: atomic numbers ``(*batch, atoms)``, or ``(atoms,)`` for all.
    """
    bonds = bond_orders(x, types).sum(-1)
    wanted = torch.zeros(10, dtype=bonds.dtype)
    wanted[[*VALENCES]] = torch.tensor([*VALENCES.values()])
    stable = bonds == wanted[types]
    return {"atoms": float(stable.double().mean()), "molecules": float(stable.all(-1).double().mean())}
