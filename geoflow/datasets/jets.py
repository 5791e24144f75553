"""Simulated jets of quarks and gluons and of top quarks, and unlabelled mixtures of them to search for anomalies."""

import os

import numpy as np
import torch
from torch import Generator

from geoflow import validate
from geoflow.datasets import folder as shelf
from geoflow.datasets.dataset import Dataset

KINDS = ("qcd", "top")


def jets(kind: str, folder: str | os.PathLike[str] | None = None, *, constituents: int = 100) -> Dataset:
    """Simulated jets of 550 to 650 GeV: 23,800 of light quarks and gluons (QCD) or 10,477 of top quarks.

    A row holds (p, η, φ) of the jet's hardest constituents, in GeV and radians, filled up with zeros: `jet_images` takes
    ``data.x.unflatten(1, (-1, 3))``. Made with Pythia at 14 TeV, anti-k_T with R = 0.8, under the cuts of the top-tagging
    reference set but without its detector and with far fewer jets: scores compare with nothing published.
    [kasieczka2019]

    By mass alone the two kinds are told apart with an AUC of 0.936, by multiplicity with 0.712.

    Args:
        kind: ``"qcd"``, labelled 0, or ``"top"``, labelled 1.
        folder: where ``lhc_jets/<kind>.npz`` is; by default GEOFLOW_DATA names it.
        constituents: how many to keep; the files hold up to 100, which have 99.9 % of the momentum.

    Returns:
        Rows ``(n, 3 · constituents)``; observables mass, pt, eta, phi and multiplicity, of the jet as it was simulated:
        `jet_mass` of the rows, whose constituents are massless, is 2 % lower for QCD and 0.4 % for top (medians).
    """
    if kind not in KINDS:
        raise ValueError(f"jets has kinds {', '.join(KINDS)}; got {kind!r}.")
    k = validate.count(constituents, "jets", "constituents", 1)
    names = ("pt_gev", "deta", "dphi", "n_constituents", "jet_pt_eta_phi_mass", "n_constituents_before_cut")
    with shelf._open("lhc_jets", f"{kind}.npz", folder) as file:
        p, eta, phi, count, jet, multiplicity = shelf._arrays(file, *names)
    owner = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(p)) - np.repeat(np.cumsum(count, dtype=np.int64) - count, count)
    around = phi + jet[owner, 2]
    values = np.stack([p, eta + jet[owner, 1], np.arctan2(np.sin(around), np.cos(around))], -1)
    values[p == 0] = 0  # too soft for the file's half precision
    x = np.zeros((len(count), k, 3), np.float32)
    x[owner[place < k], place[place < k]] = values[place < k]
    columns = tuple(f"{name}{i + 1}" for i in range(k) for name in ("pt", "eta", "phi"))
    observables = dict(zip(("pt", "eta", "phi", "mass"), torch.as_tensor(jet).unbind(1), strict=True))
    observables["multiplicity"] = torch.as_tensor(multiplicity.astype(np.float32))
    labels = torch.full((len(x),), KINDS.index(kind))
    about = f"Simulated {kind} jets, the {k} hardest constituents, GeV and radians."
    return Dataset(kind, torch.as_tensor(x).flatten(1), columns, labels, observables=observables, about=about)


def jet_mixture(
    n: int = 5000,
    signal: str = "top",
    share: float = 0.2,
    *,
    test: int = 0,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    constituents: int = 100,
) -> Dataset:
    """A mixture of both kinds of `jets` in random order, as an anomaly search meets it: labels are for its evaluation.

    Args:
        n: jets of the mixture; the nearest whole number to share · n of them are signal, labelled 1.
        signal: the kind to be found; the other is the background, labelled 0.
        share: of the signal, in [0, 1].
        test: further jets, none of them in the mixture, half of them signal; `test` marks them. They are the same for all
            n, shares and directions.
        seed: of which jets, and of their order.
        folder, constituents: as for `jets`.
    """
    if signal not in KINDS:
        raise ValueError(f"jet_mixture has signals {', '.join(KINDS)}; got {signal!r}.")
    if not 0 <= share <= 1:
        raise ValueError(f"jet_mixture expects a share of signal in [0, 1], got {share}.")
    n, test = validate.count(n, "jet_mixture", "n", 1), validate.count(test, "jet_mixture", "test")
    wanted = round(share * n)
    generator = Generator().manual_seed(seed)
    parts, held = [], []
    for i, kind in enumerate(KINDS):
        data = jets(kind, folder, constituents=constituents)
        mine, aside = (wanted if kind == signal else n - wanted), (test + i) // 2
        if mine + aside > len(data):
            raise ValueError(f"jet_mixture: {mine + aside} {kind} jets asked for, and there are {len(data)}.")
        rows = torch.randperm(len(data), generator=generator)[: aside + mine]
        parts.append((data, rows))
        held.append(torch.arange(len(rows)) < aside)
    order = torch.randperm(n + test, generator=generator)
    x, labels = (torch.cat([getattr(data, name)[rows] for data, rows in parts])[order] for name in ("x", "labels"))
    first = parts[0][0]
    seen = {k: torch.cat([data.observables[k][rows] for data, rows in parts])[order] for k in first.observables}
    return Dataset(
        "jet_mixture",
        x,
        first.columns,
        (labels == KINDS.index(signal)).long(),
        test=torch.cat(held)[order] if test else None,
        observables=seen,
        about=f"{n} simulated jets, {wanted} of them {signal}, and {test} for tests (seed {seed}).",
    )
