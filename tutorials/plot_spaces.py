"""
A tour of the spaces
====================

Directions, angles, rotations, trees: many data live on curved spaces. What is a mean there, what is straight, and what is a
density? And how does one add a space that is not in the list?
"""

# %%
# The mean of the world's cities
# ------------------------------
# geomstats ships the positions of fifty cities as unit vectors, with longitudes counted from the date line: we turn them
# by half a turn. The sphere's distance, times the radius of the Earth, is the length of the great circle.

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

os.environ.setdefault("GEOMSTATS_BACKEND", "numpy")
from geomstats.datasets.utils import load_cities

from geoflow import FermatSpace, plots
from geoflow.distributions import Mixture, VonMises, WrappedNormal
from manifolds import PoincareBall, Sphere, Torus, latlon_to_sphere, sphere_to_latlon, tangent_pca

EARTH = 6371.0  # km
positions, names = load_cities()
sphere = Sphere(2)
cities = sphere.project(torch.as_tensor(np.asarray(positions) * [-1, -1, 1], dtype=torch.float64))
tokyo, new_york, london, lagos = (cities[names.index(name)] for name in ("Tokyo", "New York", "London", "Lagos"))
flight = EARTH * sphere.dist(tokyo, new_york)
print(f"Tokyo to New York: {flight:.0f} km along the great circle")
assert 10_800 < flight < 10_900

# %%
# The Fréchet mean minimises the sum of squared distances. Cities are spread over more than half a sphere, so the space warns
# that there may be other means as good; those near New York have one, and say nothing.

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    middle = sphere.mean(cities)
print(str(told[0].message))
near = cities[sphere.dist(cities, new_york) < 0.5]
latitude, longitude = sphere_to_latlon(sphere.mean(near))
print(
    f"the {len(near)} cities within {0.5 * EARTH:.0f} km of New York: mean at {latitude:.1f} north, {-longitude:.1f} west"
)
pull = sphere.log(sphere.mean(near), near).mean(0)
assert pull.norm() < 1e-14  # at a mean, the pulls cancel

spread = tangent_pca(sphere, near)
print("widest directions:", [f"{EARTH * v:.0f} km" for v in spread.variances.sqrt().tolist()])

# %%
# A density, and what is straight
# -------------------------------
# On each space a density of its own, with three geodesics of the space. On the sphere, five von Mises-Fisher components
# fitted to the cities by EM; on the torus, angles in radians whose left edge is its right edge; in the Poincaré ball, where
# straight lines bend towards the centre, a normal density wrapped around a point.

on_sphere = Mixture.from_data(cities, components=5)
torus = Torus(2)
on_torus = VonMises(torch.tensor([2.5, -1.0], dtype=torch.float64), [2.0, 6.0])
ball = PoincareBall(2)
on_ball = WrappedNormal(ball, torch.tensor([0.3, 0.2], dtype=torch.float64), 0.5)

t = torch.linspace(0, 1, 60, dtype=torch.float64)
fig, (left, middle_ax, right) = plt.subplots(1, 3, figsize=(13, 4.8), layout="constrained")


def field(ax: plt.Axes, horizontal: np.ndarray, vertical: np.ndarray, log_p: np.ndarray) -> None:
    ax.contourf(horizontal, vertical, np.exp(log_p - np.nanmax(log_p)), 12, cmap="YlGnBu", alpha=0.7)


side = np.linspace(-1, 1, 201)
u, v = np.meshgrid(side, side)
above = latlon_to_sphere(torch.tensor([25.0, 75.0], dtype=torch.float64))  # seen from above India
north = sphere.to_tangent(above, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
view = torch.stack([torch.linalg.cross(north, above), north]) / north.norm()
height = np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
seen = torch.as_tensor(np.stack([u, v], -1)).flatten(0, 1) @ view + torch.as_tensor(height).reshape(-1, 1) * above
inside = (u**2 + v**2 < 1).ravel()
log_p = np.full(u.size, np.nan)
log_p[inside] = on_sphere.log_prob(sphere.project(seen[inside])).detach().numpy()
field(left, u, v, log_p.reshape(u.shape))
left.scatter(*(cities[cities @ above > 0] @ view.T).T, s=12, color=plots.INK)
for begin, end in ((london, tokyo), (lagos, tokyo), (london, cities[names.index("Jakarta")])):
    left.plot(*(sphere.geodesic(begin, end, t) @ view.T).T, color=plots.GEODESIC)
left.add_patch(plt.Circle((0, 0), 1, fill=False, color=plots.INK, lw=0.8))
left.set(title="Sphere(2): von Mises-Fisher, five of them", aspect="equal", xticks=[], yticks=[])

angle = np.linspace(-math.pi, math.pi, 161)
a, b = np.meshgrid(angle, angle)
grid = torch.as_tensor(np.stack([a, b], -1))
field(middle_ax, a, b, on_torus.log_prob(grid).detach().numpy())
start = torch.tensor([2.5, -1.0], dtype=torch.float64)
for end in ([-2.4, -2.0], [-1.5, 2.2], [1.0, 1.0]):
    path = torus.geodesic(start, torch.tensor(end, dtype=torch.float64), t).numpy()
    path[1:][np.abs(np.diff(path, axis=0)).max(1) > 3] = np.nan  # over the seam
    middle_ax.plot(path[:, 0], path[:, 1], color=plots.GEODESIC)
ticks = [-math.pi, 0, math.pi]
middle_ax.set(title="Torus(2): von Mises", aspect="equal", xticks=ticks, yticks=ticks)
middle_ax.set_xticklabels(["−π", "0", "π"])
middle_ax.set_yticklabels(["−π", "0", "π"])

disc = 0.999 * torch.as_tensor(np.stack([u, v], -1)).flatten(0, 1)
log_p = np.full(u.size, np.nan)
log_p[inside] = on_ball.log_prob(disc[inside]).detach().numpy()
field(right, u, v, log_p.reshape(u.shape))
for ends in (([-0.9, -0.1], [0.5, 0.8]), ([0.9, -0.2], [-0.1, -0.93]), ([-0.7, 0.6], [0.85, 0.3])):
    path = ball.geodesic(*torch.tensor(ends, dtype=torch.float64), t)
    right.plot(path[:, 0], path[:, 1], color=plots.GEODESIC)
right.add_patch(plt.Circle((0, 0), 1, fill=False, color=plots.INK, lw=0.8))
right.set(title="PoincareBall(2): a wrapped normal", aspect="equal", xticks=[], yticks=[])

# %%
# Every density integrates to one over the volume of its space: the mean of p over uniform points, times the volume.

uniform = sphere.sample_uniform(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
p = on_sphere.log_prob(uniform).exp().detach() * math.exp(sphere.log_volume_total)
print(f"mass of the mixture on the sphere: {p.mean():.3f} ± {p.std() / math.sqrt(len(p)):.3f}")
assert abs(p.mean() - 1) < 5 * p.std() / math.sqrt(len(p))

# %%
# A density makes a space, on a sphere too
# ----------------------------------------
# Along the density of cities the way from Lagos to Tokyo is another one (dashed in the picture): it keeps to where cities
# are.

by_cities = FermatSpace(on_sphere, reference=on_sphere.log_prob(cities).mean().item())
solution = by_cities.solve(lagos, tokyo)
line = sphere.geodesic(lagos, tokyo, torch.linspace(0, 1, solution.path.shape[0], dtype=torch.float64))
on_path, on_line = (by_cities.density.log_prob(x).mean().detach() for x in (solution.path, line))
print(f"mean log p: {on_path:.2f} along the Fermat geodesic, {on_line:.2f} along the great circle")
left.plot(*(solution.path @ view.T).T, color=plots.GEODESIC, ls="--")
assert bool(solution.converged)
assert on_path > on_line

# %%
# A space of one's own
# --------------------
# The cylinder is not in the list. It takes a file of eighty lines (a dimension, `project`, `to_tangent`, and where closed
# forms exist `exp`, `log`, `dist`) and one line in the register of the tests; then it must pass the laws that every space
# passes: round trips, distances near and far, two derivatives, batches, dtypes, transport, files.

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "tests" / "laws" / "cylinder.py").exists())
source = (root / "tests" / "laws" / "cylinder.py").read_text()
print(source[source.index("    def _exp") : source.index("    def _squared_dist")])
laws = subprocess.run(
    [sys.executable, "-m", "pytest", "tests/laws/test_manifolds.py", "-k", "Cylinder", "-p", "no:cacheprovider"],
    cwd=root,
    capture_output=True,
    text=True,
    env={**os.environ, "OMP_NUM_THREADS": "1"},
    check=False,
)
print(laws.stdout.splitlines()[-1])
assert laws.returncode == 0, laws.stdout
assert len(source.splitlines()) < 100

plt.show()
