"""The estimated gradient of the change of volume against the exact one, from 40,000 probes on each of nine spaces."""

import math
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Generator, Tensor

from geoflow.distributions import WrappedNormal
from geoflow.freeform import exact
from geoflow.freeform.probes import Probes
from manifolds import (
    Hyperboloid,
    Manifold,
    Mesh,
    PoincareBall,
    SpecialOrthogonal,
    Sphere,
    Torus,
    from_geomstats,
)
from tests.laws.icosphere import icosphere
from tests.laws.test_freeform import Tilt, estimated

RESULTS = Path(__file__).parent / "results"
POINTS, PARTS, PROBES = 40, 20, 40_000


def spd() -> Manifold:
    """Symmetric positive definite matrices with the affine invariant metric, through the adapter."""

    def make() -> object:
        from geomstats.geometry.spd_matrices import SPDMatrices

        return SPDMatrices(3)

    return from_geomstats(make)


def points(space: Manifold, g: Generator) -> Tensor:
    if space.ambient_dim == 9 and space.dim == 6:
        return WrappedNormal(space, torch.eye(3, dtype=torch.float64).flatten(), 0.4).sample(POINTS, generator=g)
    raw = torch.randn(POINTS, space.ambient_dim, dtype=torch.float64, generator=g)
    if isinstance(space, Mesh):
        raw = 0.8 * raw / raw.norm(dim=-1, keepdim=True)  # its nearest points are within faces
    return space.project(0.3 * raw if isinstance(space, PoincareBall) else raw)


def ratio(space: Manifold, scale: float, seed: int) -> tuple[float, float, float]:
    """The mean estimate along the exact gradient over its length; its standard error; and what is left across."""
    g = Generator().manual_seed(seed)
    tilt, x = Tilt(space), points(space, g)
    # geomstats' eigenvalues have no finite forward derivatives
    log_det = exact.log_det(tilt.encode, x, space, space, forward=space.dim != 6)[1]
    truth = tilt.gradient(log_det.mean())
    many, probes = x.repeat(PROBES // POINTS // PARTS, 1), Scaled(space.dim, scale)
    found = torch.stack([tilt.gradient(estimated(tilt, many, probes, "encoder", g).mean()) for _ in range(PARTS)])
    ratios, off = found @ truth / (truth @ truth), found.mean(0)
    across = off - truth * (off @ truth) / (truth @ truth)
    return float(ratios.mean()), float(ratios.std()) / math.sqrt(PARTS), float(across.norm() / truth.norm())


class Scaled(Probes):
    """One direction a row, `scale` times as long as the manifold's dimension asks."""

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__(dim, 1)
        self.scale = scale

    def pairs(self, space: Manifold, x: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        v, c = super().pairs(space, x, generator)
        return self.scale * v, self.scale * c


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    spaces: dict[str, Manifold] = {
        "S¹": Sphere(1),
        "S²": Sphere(2),
        "S⁵": Sphere(5),
        "T² (pairs)": Torus(2, embedded=True),
        "SO(3)": SpecialOrthogonal(3),
        "Poincaré ball": PoincareBall(2),
        "hyperboloid": Hyperboloid(2),
        "mesh": icosphere(1),
        "SPD(3), geomstats": spd(),
    }
    text = f"""# Unbiasedness of the estimated change of volume

Made by `nox -s reproduce -- unbiased` on {time.strftime("%Y-%m-%d")}, torch {torch.__version__}, one thread, float64.

{PROBES:,} estimates by one direction each, over {POINTS} points, for a network near the identity whose inverse is exact to
first order. "along" is the mean estimate projected on the exact gradient, over that gradient's length (asked: 0.98 to 1.02),
with its standard error over {PARTS} parts; "across" what the mean has beside it, over the same length, which is noise of
the other directions. "ambient" is the same with directions as long as the embedding's dimension asks, |v|² = D instead of
the manifold's n: D/n times too large where the metric is the embedding's, and in the part that is not the metric's else.

| space | n | D | along | across | ambient | D/n |
|---|---|---|---|---|---|---|
"""
    for name, space in spaces.items():
        n, d = space.dim, space.ambient_dim
        along, error, across = ratio(space, 1.0, 0)
        wrong, _, _ = ratio(space, math.sqrt(d / n), 0)
        text += f"| {name} | {n} | {d} | {along:.4f} ± {error:.4f} | {across:.3f} | {wrong:.3f} | {d / n:.3f} |\n"
        sys.stderr.write(text.splitlines()[-1] + "\n")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "unbiased.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
