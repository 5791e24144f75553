"""Free-form flows on curved targets whose entropy is known: how far above it the held-out scores of both maps are.

Reads the tables of angles and the meshes from the folder that GEOFLOW_DATA names.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geoflow import datasets, fit
from geoflow.datasets import Dataset
from geoflow.density import Density, log_prob_in_blocks
from geoflow.distributions import MeshDensity, Mixture, Uniform, VonMises, WrappedNormal
from geoflow.freeform import FreeFormFlow, mfff
from manifolds import Manifold, Mesh, PoincareBall, SpecialOrthogonal, Torus
from tests.reproduce.renewed import needs_data, renew

INTRO = """# Free-form flows on targets of known entropy

Made by `GEOFLOW_DATA=<folder> nox -s reproduce -- targets` on {date}, torch {version}, one thread, float32. Row by row the
same is `GEOFLOW_DATA=<folder> python -m tests.reproduce.run_targets <name> ...`, which renews the rows of those names.

Nats a row above the entropy: means over {test} fresh draws of log p_true - log p, for the exact density of the encoder
(with its standard error, the target's own noise being shared) and for that of the decoder, which is taken at the
reconstruction and may fall below zero by that alone. "base alone" is the same for the base that the flow starts from,
since both networks start as the identity; mixtures are fitted by EM to {fitted} of the {train} training rows and stay fixed,
so that what the flow learns is the difference of the two columns. "hats" is the density that is linear on the faces and
has the largest likelihood. RNA's density is unknown: its columns hold the negative log-likelihood of a tenth of its
rows. On the Poincaré ball the networks work in the tangent plane at the centre. Settings are those in the script.

What limits them. Meshes: `bunny_10` and `bunny_50` start from the uniform density and stay there. The closest point of a
mesh is not one to one: flows that leave the surface at an edge send areas onto it, so that rows have an encoder's density
of zero while the decoder's score may fall below the entropy; `fit` then keeps the weights of its best held-out figure, those
of the start. With a fitted base the flow is left with nothing to learn, and its figures are the base's. The checkerboard
and the swish have edges and ridges that a smooth map from a mixture only follows slowly. On rotations the flow leaves the
base as EM fits it.

"""
TRAIN, FITTED, TEST = 50_000, 10_000, 4_000


@dataclass(frozen=True)
class Target:
    """A row of the table.

    Attributes:
        draw: rows (n, seed) of the target.
        space: where they live; None is that of the target's density.
        family: of the base's mixture; None is the default base of `mfff`.
        components: how many.
        goal: nats above the entropy that the encoder's density may have, or None.
        apart: nats between both densities that are allowed, or None.
        steps, batch, lr, flow: of the training, and options of `mfff`.
    """

    draw: Callable[[int, int], Dataset]
    space: Manifold | None = None
    family: Any = None
    components: int = 0
    goal: float | None = None
    apart: float | None = None
    steps: int = 1200
    batch: int = 256
    lr: float = 2e-3
    flow: dict[str, Any] = field(default_factory=dict)


def torus(kind: Any, **options: Any) -> Target:
    flow = {"width": 64, "beta": 100.0, "surrogate": "conditional", "z_reconstruction": 10.0}
    return Target(lambda n, seed: datasets.ramachandran(kind, n, seed), flow=flow, **options)


def rotations(k: int, **options: Any) -> Target:
    flow = {"width": 64, "beta": 500.0, "surrogate": "conditional"}
    return Target(lambda n, seed: datasets.so3_mixture(k, n, seed), SpecialOrthogonal(3), flow=flow, **options)


def ball(name: str, components: int, **options: Any) -> Target:
    flow = {"width": 64, "beta": 10.0, "surrogate": "conditional"}
    return Target(
        lambda n, seed: datasets.hyperbolic(name, n, seed),
        PoincareBall(2),
        WrappedNormal,
        components,
        flow=flow,
        **options,
    )


def surface(k: int, **options: Any) -> Target:
    flow = {"width": 64, "beta": 1000.0, "surrogate": "conditional"}
    return Target(
        lambda n, seed: datasets.mesh_eigen("bunny_simp", k, n, seed),
        goal=0.1,
        apart=0.05,
        steps=300,
        flow=flow,
        **options,
    )


def rna(n: int, seed: int) -> Dataset:
    """The first nine tenths of the shuffled rows for seed 0, the rest for any other."""
    found = datasets.rna()
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    cut = round(0.9 * len(found))
    x = found.x[order[:cut] if seed == 0 else order[cut:]].to(torch.get_default_dtype())
    return Dataset("rna", x, found.columns, about=found.about)


TARGETS: dict[str, Target] = {
    "glycine": torus("glycine", goal=0.08, steps=2500),
    "glycine_base": torus("glycine", family=VonMises, components=10, goal=0.08),
    "general": torus("general", family=VonMises, components=10),
    "proline": torus("proline", family=VonMises, components=10),
    "so3_16": rotations(16, family=WrappedNormal, components=32, steps=400),
    "so3_32": rotations(32, family=WrappedNormal, components=64, steps=150),
    "so3_64": rotations(64, family=WrappedNormal, components=128, steps=150),
    "one_gaussian": ball("one_gaussian", 1),
    "five_gaussians": ball("five_gaussians", 10),
    "checkerboard": ball("checkerboard", 8),
    "swish": ball("swish", 20),
    "bunny_10": surface(10),
    "bunny_10_hats": surface(10, family="hats"),
    "bunny_50": surface(50),
    "bunny_50_hats": surface(50, family="hats"),
    "rna": Target(
        rna,
        Torus(7),
        VonMises,
        30,
        flow={"width": 128, "beta": 1000.0, "surrogate": "conditional", "z_reconstruction": 100.0},
    ),
}


def above(truth: Density | None, x: Tensor, log_p: Tensor) -> tuple[float, float]:
    """Mean and standard error of log p_true − log p over rows, or of −log p without a truth."""
    known = 0.0 if truth is None else log_prob_in_blocks(truth, x).double()
    gap = known - log_p.double()
    return float(gap.mean()), float(gap.std()) / math.sqrt(len(gap))


def scores(flow: FreeFormFlow, x: Tensor, truth: Density | None) -> tuple[tuple[float, float], tuple[float, float]]:
    """`above` of the encoder's density and of the decoder's."""
    with torch.no_grad():
        encoder = torch.cat([flow.log_prob(b) for b in x.split(500)])
        decoder = torch.cat([flow.log_prob_decoder(b) for b in x.split(500)])
    return above(truth, x, encoder), above(truth, x, decoder)


def base_of(target: Target, space: Manifold, x: Tensor) -> tuple[Density, str]:
    if target.family is None:
        return Uniform(space), "uniform"
    if isinstance(target.family, str):
        assert isinstance(space, Mesh)
        return hats(space, x), "hats"
    options: dict[str, Any] = {} if target.family is VonMises else {"space": space}
    if isinstance(space, PoincareBall):
        options["directions"] = True
    base = Mixture.from_data(x[:FITTED], components=target.components, family=target.family, **options)
    return base, f"{target.components} × {target.family.__name__}"


def hats(mesh: Mesh, x: Tensor, rounds: int = 100) -> MeshDensity:
    """The density linear on faces of largest likelihood: by EM the mixture of the vertices' hat functions.

    A row on a face belongs to its three corners by their heights times its barycentric coordinates; a vertex's height
    is its rows over its hat's volume, a third of the area around it. Every vertex gets a hundredth of a row beforehand.
    """
    face, weights = mesh.barycentric(x)
    corners, weights = mesh.faces[face], weights.double()
    count = len(mesh.vertices)
    volume = torch.zeros(count, dtype=torch.float64)
    volume.index_add_(0, mesh.faces.flatten(), (mesh.areas / 3).repeat_interleave(3))
    heights = torch.ones(count, dtype=torch.float64)
    for _ in range(rounds):
        share = heights[corners] * weights
        share = share / share.sum(-1, keepdim=True)
        rows = torch.full((count,), 0.01, dtype=torch.float64).index_add_(0, corners.flatten(), share.flatten())
        heights = rows / volume
    return MeshDensity(mesh, heights.to(x.dtype))


def row(name: str) -> str:
    target = TARGETS[name]
    train, test = target.draw(TRAIN, 0), target.draw(TEST, 101)
    truth: Density | None = train.density
    space = target.space if truth is None or target.space is not None else truth.space
    assert space is not None
    start = time.perf_counter()
    base, kind = base_of(target, space, train.x)
    alone, _ = above(truth, test.x, log_prob_in_blocks(base, test.x))
    torch.manual_seed(0)
    base.requires_grad_(False)  # else fit would fit it once more
    flow = mfff(space, base=base, **target.flow)
    history = fit(
        flow,
        train.x,
        epochs=max(1, round(target.steps * target.batch / (0.95 * len(train)))),
        batch_size=target.batch,
        lr=target.lr,
        validation=0.05,
        seed=0,
        progress=False,
        patience=None,
    )
    seconds = time.perf_counter() - start
    (encoder, error), (decoder, _) = scores(flow, test.x, truth)
    figures = flow.evaluate(test.x)
    verdict = flow.verdict(figures)
    entropy = "unknown" if truth is None else "{:.4f} ± {:.4f}".format(*datasets.entropy(truth))
    sys.stderr.write(f"{name}: {encoder:.4f} {decoder:.4f} base {alone:.4f} {seconds:.0f}s {history.stopped}\n")
    met = target.goal is None or encoder <= target.goal
    met = met and (target.apart is None or abs(encoder - decoder) <= target.apart)
    goal = (
        "–" if target.goal is None else f"{target.goal}" + ("" if target.apart is None else f", {target.apart} apart")
    )
    return (
        f"| {name} | {entropy} | {kind}: {alone:.3f} | **{encoder:.4f}** ± {error:.4f} | {decoder:.4f} "
        f"| {abs(encoder - decoder):.4f} | {figures['reconstruction'] ** 0.5:.1e} | {figures['inverse defect']:.1e} "
        f"| {verdict or 'none'} | {goal}{'' if target.goal is None else ': met' if met else ': missed'} "
        f"| {seconds:.0f} |"
    )


HEAD = [
    "| target | entropy | base alone | encoder − entropy | decoder − entropy | apart | rms reconstruction | inverse defect "
    "| verdict | goal | seconds |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def written(rows: dict[str, list[str]]) -> str:
    """The whole page."""
    text = INTRO.format(
        date=time.strftime("%Y-%m-%d"), version=torch.__version__, fitted=FITTED, train=TRAIN, test=TEST
    )
    return text + "\n".join([*HEAD, *(line for lines in rows.values() for line in lines)]) + "\n"


def main() -> None:
    needs_data()
    renew("targets.md", TARGETS, lambda name: [row(name)], written)


if __name__ == "__main__":
    main()
