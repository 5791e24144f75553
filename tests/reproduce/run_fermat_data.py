"""Neighbours and clusters of real data by Fermat distances, beside straight ones and those from the sample alone.

Reads the data from the folder that GEOFLOW_DATA names.
"""

import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from geoflow import Density, FermatSpace, datasets, plots
from geoflow.baselines import mixture_by_bic
from geoflow.density import log_prob_in_blocks
from geoflow.distances import nearest
from geoflow.distances.bulk.pairwise import Target, along_graph, nearest_along_graph
from geoflow.distances.graph import build as graphs
from geoflow.distances.graph.spokes import tie
from geoflow.distances.weight import Weight
from geoflow.distributions import Mixture, VonMises
from geoflow.interop.fermat_clustering import spectral
from manifolds import Euclidean, Manifold, Torus
from tests.reproduce.renewed import RESULTS, needs_data, renew

INTRO = """# Fermat distances on real data

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- fermat_data` on {date}, torch {version}, one thread. Row by row the same is
`GEOFLOW_DATA=<folder> python -m tests.reproduce.run_fermat_data <name> ...`, which renews those rows.

Three distances between the same rows: **straight**, of the space the rows lie in; **sample-only**, the literature's, which
is the shortest sum of |Δ|^α along a neighbour graph, α = 1 + β d; **ours**, along the same graph with edges of length
∫ p^(−β) ds for a density fitted to the training rows, β = 1/d in both (α = 2), 15 neighbours in both graphs. The density
is a Gaussian mixture with full covariances, on angles one of products of von Mises densities, with as many components as
BIC takes, at most {most}. **relaxed** is ours with each candidate's geodesic relaxed, on the first {few} test rows of the
first seed, with the others' accuracy on these rows behind it. Images and cells are their leading principal components,
scaled by one common number; principal directions are those of the training rows.

Accuracy is that of k nearest neighbours on test rows, with k of {ks} chosen for each distance by itself on validation rows,
which are then no part of the vote. Clusters are those of spectral clustering (scikit-learn's, with affinities from the
distances as in `FermatClustering`, the same for all three) of the first {cluster} training rows into as many groups as
there are labels; ARI is the adjusted Rand index against these. Nothing is chosen on test rows, nothing for the clusters.
Each is the mean over {seeds} random splits with its standard error over these, which share rows. Seconds are those of the
processor for one split: density, graph, validation and test rows, and the table of distances and its clusters.
"lead" is ours minus the better of the two others in the mean, split by split, with its standard error.

"""
SEEDS, FEW, CLUSTERED, MOST = (0, 1, 2, 3, 4), 200, 800, 16
KS = (1, 3, 5, 9, 15)
NEAR = 15


# -- data --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows and labels of one seed, float64, in a space."""

    space: Manifold
    train: tuple[Tensor, np.ndarray]
    validation: tuple[Tensor, np.ndarray]
    test: tuple[Tensor, np.ndarray]


def parts(x: Tensor, y: np.ndarray, sizes: tuple[int, int, int], seed: int, space: Manifold) -> Split:
    """Random rows to train on, to validate and to test."""
    order = np.random.default_rng(seed).permutation(len(x))
    cut = np.cumsum(sizes)
    rows = [order[a:b] for a, b in zip([0, *cut], cut, strict=False)]
    return Split(space, *((x[r], y[r]) for r in rows))


def principal(
    x: Tensor, y: np.ndarray, sizes: tuple[int, int, int], seed: int, dim: int
) -> tuple[Split, Tensor, Tensor]:
    """The same in leading principal components of the training rows, with their mean and directions ``(dim, columns)``."""
    s = parts(x, y, sizes, seed, Euclidean(dim))
    rows = s.train[0].double()
    mean = rows.mean(0)
    _, _, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    directions = directions[:dim]
    scale = ((rows - mean) @ directions.T).square().mean().sqrt()

    def carried(part: tuple[Tensor, np.ndarray]) -> tuple[Tensor, np.ndarray]:
        return (part[0].double() - mean) @ directions.T / scale, part[1]

    return Split(s.space, carried(s.train), carried(s.validation), carried(s.test)), mean, directions * scale


@functools.cache
def pictures(name: str) -> tuple[Tensor, np.ndarray]:
    data = getattr(datasets, name)(dequantise=False)
    return data.x, data.labels.numpy()


def images(name: str, sizes: tuple[int, int, int]) -> Callable[[int], tuple[Split, str]]:
    def of(seed: int) -> tuple[Split, str]:
        return principal(*pictures(name), sizes, seed, 10)[0], "10 principal components"

    return of


def single_cell(seed: int) -> tuple[Split, str]:
    with np.load(_file("single_cell", "pbmc68k_reduced.npz")) as file:
        x, y = torch.as_tensor(file["X"]), np.unique(file["bulk_labels"], return_inverse=True)[1]
    return principal(x, y, (400, 150, 150), seed, 10)[0], "765 genes, 10 principal components, labels by bulk profiles"


def angles() -> Tensor:
    with np.load(_file("molecules", "alanine_dipeptide.npz")) as file:
        return torch.as_tensor(np.stack([file["eacf_500K_phi"], file["eacf_500K_psi"]], 1)).double()


def conformers(x: Tensor) -> np.ndarray:
    """Three regions of the Ramachandran plane: left (φ > 0), right-handed helix (−120° < ψ < 60°), extended."""
    phi, psi = torch.rad2deg(x).T.numpy()
    return np.where(phi > 0, 0, np.where((psi > -120) & (psi < 60), 1, 2))


def alanine(seed: int) -> tuple[Split, str]:
    x = angles()
    said = "angles φ and ψ on the torus; labels are regions of their plane (φ > 0, −120° < ψ < 60°, the rest)"
    return parts(x, conformers(x), (1000, 500, 500), seed, Torus(2)), said


def arcs(seed: int) -> tuple[Split, str]:
    data = datasets.two_moons(1400, noise=0.1, seed=seed)
    assert data.labels is not None
    return parts(data.x.double(), data.labels.numpy(), (800, 300, 300), seed, Euclidean(2)), "radius 1, noise 0.1"


def _file(kind: str, name: str) -> Path:
    from geoflow.datasets import folder

    return folder._root(None) / kind / name


DATA: dict[str, Callable[[int], tuple[Split, str]]] = {
    "digits": images("digits", (1000, 397, 400)),
    "MNIST": images("mnist", (2000, 500, 500)),
    "Fashion-MNIST": images("fashion_mnist", (2000, 500, 500)),
    "single-cell": single_cell,
    "alanine dipeptide": alanine,
    "two arcs": arcs,
}


# -- distances ---------------------------------------------------------------------------------------------------------

Near = Callable[[Tensor, int], Tensor]
"""Numbers ``(rows, k)`` of the training rows nearest to each row."""


def fitted(x: Tensor, space: Manifold, seed: int) -> Density:
    """A mixture by BIC, Gaussian or of von Mises densities."""
    if isinstance(space, Euclidean):
        return mixture_by_bic(x, most=MOST, seed=seed, floor=1e-3).requires_grad_(False)
    best, lowest, worse = None, math.inf, 0
    for k in range(1, MOST + 1):
        mixture = Mixture.from_data(x, family=VonMises, components=k, seed=seed)
        bic = (5 * k - 1) * math.log(len(x)) - 2 * float(log_prob_in_blocks(mixture, x).sum())
        best, lowest, worse = (mixture, bic, 0) if bic < lowest else (best, lowest, worse + 1)
        if worse == 3:
            break
    assert best is not None
    return best.requires_grad_(False)


def straight(s: Split, seed: int) -> tuple[Near, Callable[[Tensor], np.ndarray]]:
    x = s.train[0]
    if isinstance(s.space, Euclidean):
        return lambda q, k: nearest(x, q, k)[1], lambda q: torch.cdist(q, q).numpy()
    return (
        lambda q, k: s.space.dist(q[:, None], x).topk(k, largest=False).indices,
        lambda q: s.space.dist(q[:, None], q).numpy(),
    )


class _One:
    """The density that is one everywhere."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-1])


def sample_only(s: Split, seed: int) -> tuple[Near, Callable[[Tensor], np.ndarray]]:
    """Edges are |Δ|², the ways of test rows to the graph too."""
    plain = Weight(_One(), s.space, 0.0, 0.0, None)
    own = graphs.build(plain, s.train[0], NEAR)
    squared = dataclasses.replace(own, matrix=own.matrix.power(2), shift=2 * own.shift)

    def ties(q: Tensor) -> graphs.NeighborGraph:
        found = tie(own, plain, q, NEAR, "auto")
        return dataclasses.replace(found, cost=found.cost**2)

    def table(q: Tensor) -> np.ndarray:
        rows = ties(q)
        return along_graph(squared, rows, rows, Target((len(q), len(q)), q, None, False), None).numpy()

    return lambda q, k: torch.as_tensor(nearest_along_graph(squared, ties(q), k, None)[1]), table


def ours(s: Split, seed: int) -> tuple[Near, Callable[[Tensor], np.ndarray]]:
    space = FermatSpace(fitted(s.train[0], s.space, seed), s.train[0], reference="mean", space=s.space, neighbors=NEAR)
    return lambda q, k: space.knn(q, k, "graph")[1], lambda q: space.pairwise(q).numpy()


WAYS = {"straight": straight, "sample-only": sample_only, "ours": ours}


def vote(index: Tensor, y: np.ndarray) -> np.ndarray:
    """The most frequent label of each row, of equals the one of the nearest."""
    votes = y[index.numpy()]
    count = (votes[:, :, None] == votes[:, None, :]).sum(2)
    return votes[np.arange(len(votes)), count.argmax(1)]


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Found:
    accuracy: float
    rand: float
    seconds: float
    k: int
    right: np.ndarray


def measure(s: Split, way: Callable[..., tuple[Near, Callable[[Tensor], np.ndarray]]], seed: int) -> Found:
    begun = time.process_time()
    near, table = way(s, seed)
    y = s.train[1]
    index = near(s.validation[0], max(KS))
    k = max(KS, key=lambda k: (vote(index[:, :k], y) == s.validation[1]).mean())
    right = vote(near(s.test[0], k), y) == s.test[1]
    some = s.train[0][:CLUSTERED]
    distance = table(some)
    truth = y[:CLUSTERED]
    groups = spectral((distance + distance.T) / 2, len(np.unique(truth)), seed)
    rand = adjusted_rand_score(truth, groups)
    return Found(float(right.mean()), float(rand), time.process_time() - begun, k, right)


def relaxed(s: Split, k: int) -> tuple[float, float]:
    """Accuracy on the first test rows by relaxed distances, and seconds."""
    begun = time.process_time()
    x, y = s.train
    space = FermatSpace(
        fitted(x, s.space, 0), x, reference="mean", space=s.space, neighbors=NEAR, extrapolate=False, nodes=16
    )
    index = space.knn(s.test[0][:FEW], k, "relax")[1]
    return float((vote(index, y) == s.test[1][:FEW]).mean()), time.process_time() - begun


def mean(values: Iterable[float]) -> tuple[float, float]:
    v = np.array(list(values))
    return float(v.mean()), float(v.std(ddof=1) / math.sqrt(len(v)))


def row(name: str) -> str:
    found: dict[str, list[Found]] = {way: [] for way in WAYS}
    for seed in SEEDS:
        s, said = DATA[name](seed)
        for way, make in WAYS.items():
            found[way].append(measure(s, make, seed))
    s, said = DATA[name](SEEDS[0])
    exact, took = relaxed(s, found["ours"][0].k)

    def cells(of: Callable[[Found], float]) -> list[str]:
        return ["{:.3f} ± {:.3f}".format(*mean(of(f) for f in found[way])) for way in WAYS]

    def lead(of: Callable[[Found], float]) -> str:
        """Ours minus the better of the two others in the mean."""
        best = max(("straight", "sample-only"), key=lambda w: mean(of(f) for f in found[w])[0])
        return "{:+.3f} ± {:.3f}".format(*mean(of(o) - of(f) for o, f in zip(found["ours"], found[best], strict=True)))

    first = " / ".join(f"{found[w][0].right[:FEW].mean():.3f}" for w in WAYS)
    ks = " / ".join(",".join(str(f.k) for f in found[w]) for w in WAYS)
    seconds = " / ".join(f"{mean(f.seconds for f in found[w])[0]:.1f}" for w in WAYS)
    size = " / ".join(f"{len(p[0]):,}" for p in (s.train, s.validation, s.test))
    accuracy = [*cells(lambda f: f.accuracy), lead(lambda f: f.accuracy), f"{exact:.3f} ({first})"]
    rand = [*cells(lambda f: f.rand), lead(lambda f: f.rand)]
    return f"| {' | '.join([name, f'{said}; {size} rows', *accuracy, *rand, ks, f'{seconds} / {took:.0f}'])} |"


# -- paths -------------------------------------------------------------------------------------------------------------


def along(space: FermatSpace, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p at equal steps along the geodesics and along the chords ``(pairs, nodes)``, and the geodesics."""
    path = space.solve(x, y).path
    t = torch.linspace(0, 1, path.shape[1], dtype=x.dtype)
    chord = space.space.geodesic(x[:, None], y[:, None], t)
    return space.density.log_prob(path), space.density.log_prob(chord), path


def path_row(name: str) -> str:
    """50 pairs of test rows with different labels, and a picture of one."""
    pairs, rng = 50, np.random.default_rng(0)
    if name == "two digits":
        s, mean_image, directions = principal(*pictures("digits"), (1397, 0, 400), 0, 10)
    else:
        s, _ = alanine(0)
    x, y = s.test
    space = FermatSpace(fitted(s.train[0], s.space, 0), s.train[0], reference="mean", space=s.space, neighbors=NEAR)
    i, j = rng.choice(len(x), (2, 5000))
    apart = np.flatnonzero(y[i] != y[j])[:pairs]
    on, off, path = along(space, x[i[apart]], x[j[apart]])
    half = path.shape[1] // 2
    middle = space.density.log_prob(space.geodesic(x[i[apart]], x[j[apart]], 0.5))
    gain, least, by_length = on[:, half] - off[:, half], on.amin(1) - off.amin(1), middle - off[:, half]
    shown = int(gain.argsort()[len(gain) // 2])  # the median pair
    fig = plots.figure(8.0, 2.2) if name == "two digits" else plots.figure(5.0, 4.2)
    ax = fig.subplots()
    if name == "two digits":
        line = path[shown, :: max(1, (len(path[shown]) - 1) // 8)]
        t = torch.linspace(0, 1, len(line), dtype=line.dtype)[:, None]
        chord = line[0] + t * (line[-1] - line[0])
        sheet = torch.stack([mean_image + line @ directions, mean_image + chord @ directions])
        plots.plot_images(sheet, ax, shape=(8, 8), limits=(0.0, 1.0))
        ax.set_title("geodesic (above) and chord", fontsize=9)
    else:
        limits = ((-math.pi, math.pi),) * 2
        plots.plot_density(space.density, ax, limits=limits, points=s.train[0], names=("φ", "ψ"), resolution=120)
        inside = (path.diff(dim=1).abs().amax((1, 2)) < 1) & ((path[:, -1] - path[:, 0]).abs().amax(1) < math.pi)
        chosen = inside.nonzero()[:5, 0]  # five that do not cross the picture's edge
        plots.plot_geodesics(path[chosen], ax)
        ax.set_title("five of the 50 pairs: geodesics, and chords dashed", fontsize=9)
    file = RESULTS / f"fermat_data_{name.split()[-1]}.png"
    fig.savefig(file, dpi=110)
    cells = [name, str(pairs)]
    for g in (gain, by_length, least):
        cells += [f"{100 * float((g > 0).double().mean()):.0f} %", "{:+.2f} ± {:.2f}".format(*mean(g.tolist()))]
    return f"| {' | '.join([*cells, f'[{file.name}]({file.name})'])} |"


PATHS = ("two conformers", "two digits")
HEAD = [
    "| data | rows | accuracy: straight | sample-only | ours | lead | relaxed (straight / sample-only / ours) "
    "| ARI: straight | sample-only | ours | lead | k: straight / sample-only / ours | seconds: the three / relaxed |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
]
PATHS_HEAD = """
## Paths between different rows

log p half-way along the relaxed geodesic, in the underlying space, against that half-way along the chord, for pairs of test
rows with different labels, drawn at random: how often it is higher, and by how many nats in the mean, with its standard
error. Half-way by Fermat length is another point, drawn towards where the density is low, since most of the length is there.
The same for the least log p on the way. The density is fitted to the training rows, as above. Pictures: {pictures}.

| between | pairs | half-way: higher | gain | half-way by Fermat length: higher | gain | least: higher | gain | picture |
|---|---|---|---|---|---|---|---|---|
"""


READING = """
## What it says

Nearest neighbours gain nothing: on most tables no distance leads beyond twice its error, and on MNIST ours is clearly
behind, along the graph and relaxed; the mixture's density knows nothing of classes. Clusters do follow the data: on digits,
both MNISTs, angles and arcs the Fermat distances are ahead of the straight one. Ours is ahead of the sample-only one on arcs
and digits, level with it on the MNISTs and angles, and a little behind on cells.
"""


def written(rows: dict[str, list[str]]) -> str:
    """The whole page."""
    facts = {"most": MOST, "few": FEW, "ks": ", ".join(map(str, KS)), "cluster": CLUSTERED, "seeds": len(SEEDS)}
    text = INTRO.format(date=time.strftime("%Y-%m-%d"), version=torch.__version__, **facts)
    text += "\n".join([*HEAD, *(line for n in DATA for line in rows.get(n, []))]) + "\n"
    told = "the median pair of digits, and five pairs of conformers on the density"
    return (
        text
        + PATHS_HEAD.format(pictures=told)
        + "\n".join(line for n in PATHS for line in rows.get(n, []))
        + "\n"
        + READING
    )


def make(name: str) -> list[str]:
    warnings.simplefilter("ignore")
    return [path_row(name) if name in PATHS else row(name)]


if __name__ == "__main__":
    needs_data()
    renew("fermat_data.md", [*DATA, *PATHS], make, written)
