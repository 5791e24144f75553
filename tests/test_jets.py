"""Jets: an image is the same however the jet lies, and what the formulas say; loaders and mixtures keep their labels."""

import math
import os

import numpy as np
import pytest
import torch
from torch import Tensor

from geoflow import datasets
from geoflow.datasets import jet_images, jet_mass
from tests.test_datasets import check_shape


def made(n: int = 200, k: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Jets of 2 to k constituents in the plane: momenta with zeros after the last, and two coordinates."""
    g = torch.Generator().manual_seed(5)
    p = torch.rand(n, k, generator=g, dtype=torch.float64) ** -0.7
    p = torch.where(torch.arange(k) < torch.randint(2, k + 1, (n, 1), generator=g), p, 0.0)
    a, b = (s * torch.randn(n, k, generator=g, dtype=torch.float64) for s in (0.3, 0.15))
    return p, a, b


def placed(p: Tensor, a: Tensor, b: Tensor, eta: float = 0.0, phi: float = 0.0) -> Tensor:
    """The jets around a direction, φ in [−π, π), padding all zero."""
    around = torch.remainder(b + phi + math.pi, 2 * math.pi) - math.pi
    return torch.stack([p, a + eta, around], -1) * (p > 0)[..., None]


def momenta(x: Tensor) -> Tensor:
    p, eta, phi = x.unbind(-1)
    return torch.stack([p * eta.cosh(), p * phi.cos(), p * phi.sin(), p * eta.sinh()], -1)


def turned(angle: float):
    c, s = math.cos(angle), math.sin(angle)
    return lambda p, a, b: placed(p, c * a - s * b, s * a + c * b, 0.3, -0.2)


SAME = {
    "shifted in eta": lambda p, a, b: placed(p, a, b, eta=1.3),
    "shifted across the end of phi": lambda p, a, b: placed(p, a, b, phi=3.1),
    "phi counted from zero": lambda p, a, b: placed(p, a, b, phi=1.0) + torch.tensor([0.0, 0.0, 4 * math.pi]),
    "turned a little": turned(0.4),
    "turned far": turned(-2.5),
    "reflected in eta": lambda p, a, b: placed(p, -a, b),
    "reflected in phi": lambda p, a, b: placed(p, a, -b),
    "reflected on a diagonal": lambda p, a, b: placed(p, b, a),
    "other order": lambda p, a, b: placed(p, a, b)[:, torch.randperm(p.shape[1])],
    "other units": lambda p, a, b: placed(1e-3 * p, a, b),
    "more padding": lambda p, a, b: torch.cat([placed(p, a, b), torch.zeros(len(p), 9, 3, dtype=p.dtype)], 1),
    "four-momenta": lambda p, a, b: momenta(placed(p, a, b)),
    "turned about the beam": lambda p, a, b: momenta(placed(p, a, b, phi=-2.9)),
    "split into halves": lambda p, a, b: placed(p / 2, a, b).repeat(1, 2, 1),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_images_do_not_depend_on_how_a_jet_lies(change):
    jets = made()
    torch.testing.assert_close(jet_images(change(*jets)), jet_images(placed(*jets)), atol=1e-12, rtol=0)


def test_images_are_the_steps_one_by_one():
    """Beside eigenvectors and histograms of NumPy, jet by jet; images of half the size are pooled ones."""
    x = placed(*made())
    images = jet_images(x)
    for (p, eta, phi), image in zip(x[:40].numpy().transpose(0, 2, 1), images, strict=False):
        points = np.stack([eta, phi], 1)[p > 0]
        p = p[p > 0] / p.sum()
        points = points - p @ points
        points = points @ np.linalg.eigh((points * p[:, None]).T @ points)[1][:, ::-1]
        edges = np.linspace(-0.8, 0.8, 41)
        by_sign = [(p[(i * points[:, 0] > 0) & (j * points[:, 1] > 0)].sum(), i, j) for i in (1, -1) for j in (1, -1)]
        first = points * np.array(max(by_sign)[1:])
        wanted = np.histogram2d(first[:, 0], first[:, 1], bins=(edges, edges), weights=p)[0]
        np.testing.assert_allclose(image.numpy(), wanted.ravel() / wanted.sum(), atol=1e-12)
    torch.testing.assert_close(images.sum(1), torch.ones(len(x), dtype=x.dtype))
    pooled = images.reshape(-1, 20, 2, 20, 2).sum((2, 4)).flatten(1)
    torch.testing.assert_close(jet_images(x, size=20), pooled)
    torch.testing.assert_close(jet_images(x.float()).sum(1), torch.ones(len(x)))


def test_jets_of_one_and_two_constituents():
    """On a border of pixels, all of them: rounding does not scatter them."""
    angles = torch.linspace(0, 6, 50, dtype=torch.float64)
    pairs = torch.stack([torch.tensor([3.0, 1.0]).expand(50, 2), *(torch.outer(f(angles), torch.tensor([0.1, -0.3]).double())
                         for f in (torch.cos, torch.sin))], -1)  # fmt: skip
    for x, pixels in ((pairs, {22 * 40 + 20: 0.75, 12 * 40 + 20: 0.25}), (pairs[:, :1], {20 * 40 + 20: 1.0})):
        images = jet_images(x + torch.tensor([0.0, 0.7, 0.2]))
        for at, value in pixels.items():
            torch.testing.assert_close(images[:, at], torch.full((50,), value, dtype=images.dtype))


def test_weights_multiply_momenta():
    p, a, b = made()
    w = torch.rand(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype) * (
        torch.arange(p.shape[1]) % 3 != 1
    )
    x, weighted = placed(p, a, b), placed(p * w, a, b)
    torch.testing.assert_close(jet_images(x, w), jet_images(weighted))
    torch.testing.assert_close(jet_images(momenta(x), w), jet_images(weighted))
    torch.testing.assert_close(jet_mass(x, w), jet_mass(weighted))
    torch.testing.assert_close(jet_mass(momenta(x), w), jet_mass(weighted))


def test_masses():
    """Two massless constituents have m² = 2 p₁ p₂ (cosh Δη − cos Δφ); any frame along the beam sees the same mass."""
    two = torch.tensor([[[300.0, 0.4, 3.0], [200.0, -0.1, -3.1]]], dtype=torch.float64)
    wanted = 2 * 300 * 200 * (math.cosh(0.5) - math.cos(2 * math.pi - 6.1))
    assert float(jet_mass(two)) == pytest.approx(math.sqrt(wanted), rel=1e-12)
    jets = made()
    x, moved = placed(*jets), placed(*jets, eta=2.0, phi=2.0)
    for y in (momenta(x), moved, momenta(moved)):
        torch.testing.assert_close(jet_mass(y), jet_mass(x), rtol=1e-10, atol=1e-8)
    assert float(jet_mass(torch.tensor([[[8.0, 2.0, 3.0, 6.0]]]))) == pytest.approx(15**0.5)
    torch.testing.assert_close(jet_mass(placed(*jets, eta=15.0)), jet_mass(x), rtol=1e-8, atol=1e-8)
    filled = torch.where(x[..., :1] > 0, x, torch.tensor([0.0, -999.0, -999.0], dtype=x.dtype))
    assert torch.equal(jet_mass(filled), jet_mass(x))
    assert torch.equal(jet_images(filled), jet_images(x))


@pytest.mark.parametrize(
    ("bad", "keywords", "message"),
    [
        (torch.zeros(3, 4, 3), {}, r"3 of 3 jets \(row 0, 1, 2\) have no transverse momentum: drop"),
        (torch.tensor([[[5.0, 0.0, 0.0, 5.0]]]), {}, "no transverse momentum"),
        (torch.zeros(3, 4, 2), {}, r"\(n, constituents, 3\).*pad jets"),
        (torch.ones(3, 4, 3, dtype=torch.int64), {}, "expects floats"),
        (torch.full((1, 2, 3), math.nan), {}, "NaN"),
        (-torch.ones(1, 2, 3), {}, "negative.*p first"),
        (torch.ones(1, 2, 3), {"weights": torch.ones(1, 3)}, r"one weight a constituent, shape \(1, 2\)"),
        (torch.ones(1, 2, 3), {"weights": torch.zeros(1, 2)}, "no transverse momentum"),
        (torch.ones(1, 2, 3), {"reach": 0.0}, "reach > 0"),
        (torch.ones(1, 2, 3), {"size": 0}, "size must be at least 1"),
        (torch.tensor([[[1.0, 2.0, 0.0], [1.0, -2.0, 0.0]]]), {}, r"row 0\) lies within reach=0.8.*raise reach"),
    ],
)
def test_images_refuse(bad, keywords, message):
    with pytest.raises(ValueError, match=message):
        jet_images(bad, **keywords)


@pytest.fixture
def folder(tmp_path):
    """Two small files in the layout of the simulated jets: 20 and 12 jets of one to five constituents."""
    (tmp_path / "lhc_jets").mkdir()
    rng = np.random.default_rng(0)
    for kind, n in (("qcd", 20), ("top", 12)):
        count = rng.integers(1, 6, n).astype(np.uint8)
        p = np.concatenate([np.sort(rng.uniform(1, 9, c))[::-1] for c in count])
        p[count[0] - 1] = 0 if count[0] > 1 else p[0]
        d = rng.normal(0, 0.1, (2, len(p)))
        jet = np.stack(
            [rng.uniform(500, 600, n), rng.normal(size=n), rng.uniform(-3.1, 3.1, n), 10.0 + np.arange(n)], 1
        )
        arrays = {"pt_gev": p, "deta": d[0], "dphi": d[1]}
        np.savez(
            tmp_path / f"lhc_jets/{kind}.npz",
            **{name: a.astype(np.float16) for name, a in arrays.items()},
            n_constituents=count,
            n_constituents_before_cut=count.astype(np.int16) + 100,
            jet_pt_eta_phi_mass=jet.astype(np.float32),
        )
    return tmp_path


def test_ragged_jets_are_padded(folder):
    data = datasets.jets("qcd", folder, constituents=6)
    check_shape(data)
    assert data.columns[:4] == ("pt1", "eta1", "phi1", "pt2")
    with np.load(folder / "lhc_jets/qcd.npz") as file:
        start = 0
        for i, count in enumerate(file["n_constituents"]):
            row, jet = data.x[i].reshape(6, 3), file["jet_pt_eta_phi_mass"][i]
            here = slice(start, start := start + int(count))
            assert row[:count, 0].tolist() == file["pt_gev"][here].tolist()
            heavy = row[:, 0] > 0
            assert not row[~heavy].any()
            offsets = torch.stack(
                [row[:count, 1] - jet[1], torch.remainder(row[:count, 2] - jet[2] + 3, 2 * math.pi) - 3], 1
            )
            wanted = torch.tensor(np.stack([file["deta"][here], file["dphi"][here]], 1).astype(np.float32))
            torch.testing.assert_close(offsets[heavy[:count]], wanted[heavy[:count]], atol=1e-6, rtol=0)
    assert data.observables["mass"].tolist() == [10.0 + i for i in range(20)]
    assert torch.equal(
        data.observables["multiplicity"] - 100,
        torch.as_tensor(np.load(folder / "lhc_jets/qcd.npz")["n_constituents"]).float(),
    )
    two = datasets.jets("qcd", folder, constituents=2)
    assert torch.equal(two.x, data.x[:, :6])
    assert datasets.jets("top", folder).labels.unique().tolist() == [1]
    with pytest.raises(ValueError, match="kinds qcd, top; got 'w'"):
        datasets.jets("w", folder)
    with pytest.raises(FileNotFoundError, match=r"lhc_jets.*Pythia"):
        datasets.jets("top", folder / "lhc_jets")


def test_mixtures(folder):
    """The wanted shares, no jet twice, test rows of the seed alone; either kind is the signal."""
    known = {kind: datasets.jets(kind, folder).x for kind in ("qcd", "top")}
    held = []
    for signal, n, share, wanted in (("top", 10, 0.3, 3), ("qcd", 8, 0.2, 2), ("top", 1, 0.0, 0)):
        data = datasets.jet_mixture(n, signal, share, test=5, seed=3, folder=folder)
        check_shape(data)
        assert len(data) == n + 5
        assert int(data.labels[~data.test].sum()) == wanted
        assert int(data.test.sum()) == 5
        assert len(data.x.unique(dim=0)) == len(data)
        for i, row in enumerate(data.x):
            kind = signal if data.labels[i] else {"top": "qcd", "qcd": "top"}[signal]
            (where,) = (known[kind] == row).all(1).nonzero().tolist()
            assert float(data.observables["mass"][i]) == 10.0 + where[0]
        held.append({tuple(row) for row in data.x[data.test].tolist()})
    assert held[0] == held[1] == held[2]
    assert datasets.jet_mixture(4, folder=folder).test is None
    first, again, other = (datasets.jet_mixture(9, seed=s, folder=folder).x for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="13 top jets asked for, and there are 12"):
        datasets.jet_mixture(13, share=1.0, folder=folder)
    with pytest.raises(ValueError, match=r"share of signal in \[0, 1\], got 20"):
        datasets.jet_mixture(share=20, folder=folder)
    with pytest.raises(ValueError, match="signals qcd, top; got 'w'"):
        datasets.jet_mixture(signal="w", folder=folder)


def test_simulated_jets_have_the_figures_that_the_page_names():
    if not os.environ.get("GEOFLOW_DATA") or not {"qcd", "top"} <= set(datasets.available()["lhc_jets"]):
        pytest.skip("GEOFLOW_DATA has no lhc_jets")
    from sklearn.metrics import roc_auc_score

    qcd, top = datasets.jets("qcd"), datasets.jets("top")
    assert (len(qcd), len(top)) == (23_800, 10_477)
    labels = torch.cat([qcd.labels, top.labels])
    for name, wanted in (("mass", 0.936), ("multiplicity", 0.712)):
        values = torch.cat([qcd.observables[name], top.observables[name]])
        assert roc_auc_score(labels, values) == pytest.approx(wanted, abs=5e-4)
    for data in (qcd, top):  # taken for massless
        ratio = jet_mass(data.x[:2000].unflatten(1, (-1, 3))) / data.observables["mass"][:2000]
        assert 0.97 < float(ratio.median()) < 1.0
