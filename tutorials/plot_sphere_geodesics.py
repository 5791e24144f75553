"""
The long way round
==================

From Chile to New Zealand the shortest way leads over the empty South Pacific. Volcanoes take the other one: they line the ocean
all the way round. What is a geodesic on the sphere where a density says what is near?
"""

# %%
# The ring of fire
# ----------------
# Latitude and longitude of some volcanoes around the Pacific, in degrees, from the south of Chile over Alaska and Japan to
# New Zealand.

import matplotlib.pyplot as plt
import numpy as np
import torch

from geoflow import FermatSpace, plots
from geoflow.distributions import Mixture, VonMisesFisher
from manifolds import Sphere, latlon_to_sphere

VOLCANOES = """
-39.4 -71.9  -41.1 -72.5  -38.7 -71.7  -33.4 -69.8  -23.4 -67.7  -27.1 -68.5  -16.4 -70.9  -15.8 -71.9   -0.7 -78.4
 -2.0 -78.3    1.2 -77.4    4.9 -75.3   10.5 -84.7   12.0 -86.2   13.4 -88.3   14.5 -90.9   17.4 -93.2   19.0 -98.6
 19.5 -103.6  27.5 -112.6  40.5 -121.5  41.4 -122.2  45.4 -121.7  46.2 -122.2  46.9 -121.8  49.9 -123.0  57.1 -135.8
 62.0 -144.0  60.5 -152.7  58.3 -155.0  54.8 -164.0  52.8 -169.9  51.9 -177.2  51.9 179.6   52.1 177.6   56.7 161.4
 56.1 160.6   54.1 159.5   50.9 155.6   48.1 153.2   44.4 146.3   42.7 141.4   39.9 141.0   37.6 140.1   36.4 138.5
 35.4 138.7   34.1 139.5   32.9 131.1   31.6 130.7   29.6 129.7   13.3 123.7   14.0 121.0   15.1 120.4   10.4 123.1
  2.3 125.4    0.8 127.3    1.7 127.9   -4.1 145.0   -5.1 151.3   -4.3 152.2   -6.1 155.2  -10.4 165.8  -16.3 168.1
-19.5 169.4  -19.8 -175.1  -25.9 -177.2  -29.3 -177.9  -37.5 177.2  -39.3 175.6   18.1 145.8   24.8 141.3
"""
EARTH = 6371.0  # km
places = latlon_to_sphere(torch.tensor([float(v) for v in VOLCANOES.split()], dtype=torch.float64).reshape(-1, 2))
sphere = Sphere(2)
chile, new_zealand = places[0], places[68]
flight = EARTH * sphere.dist(chile, new_zealand)
print(f"{len(places)} volcanoes; Chile to New Zealand: {flight:.0f} km along the great circle")
assert 8800 < flight < 9000

# %%
# A density on the sphere
# -----------------------
# A round bump, a von Mises-Fisher density, on each volcano. How wide? As wide as makes each volcano likeliest under the bumps
# of all others.


def left_out(concentration: float) -> float:
    """Mean log p of each place under the bumps of the others."""
    apart = VonMisesFisher(places, concentration).log_prob(places[:, None]).detach()
    apart = apart.masked_fill(torch.eye(len(places), dtype=torch.bool), -torch.inf)
    return float((apart.logsumexp(1) - np.log(len(places) - 1)).mean())


tried = {k: left_out(k) for k in (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)}
best = max(tried, key=tried.get)
print({k: round(v, 2) for k, v in tried.items()}, f"nats: concentration {best:.0f}, {EARTH / best**0.5:.0f} km wide")
density = Mixture(torch.ones(len(places)), VonMisesFisher(places, best)).double()
drawn = density.sample(1000, generator=torch.Generator().manual_seed(0)).detach()

# %%
# Ways
# ----
# The density makes a space on the sphere: ds = (p / e^c)^−β \|dx\|, where \|dx\| is the sphere's own. With β = 0 it is the sphere
# itself. The more density counts the longer the detours it is worth, until the way goes round the ocean. A thousand draws of the
# density are the points of the graph: of the volcanoes alone, its edges would be longer than the bumps are wide, and their
# costs, taken at three places of each, too low or too high. For the same reason ways have 96 segments, not 32.

ways, spaces = {}, {}
for power in (0.0, 0.03, 0.1, 0.5):
    space = FermatSpace(density, drawn, power=power, reference="mean", neighbors=10, nodes=96)
    solution = space.solve(chile, new_zealand)
    graph = float(space.dist(chile, new_zealand, method="graph"))
    km = EARTH * sphere.dist(solution.path[1:], solution.path[:-1]).sum()
    off = EARTH * sphere.dist(solution.path[:, None], places).amin(1).mean()
    ways[power], spaces[power] = solution, space
    print(f"power {power:.2f}: {km:6.0f} km, on average {off:5.0f} km from the next volcano; ", end="")
    print(f"Fermat {solution.length:.3f}, by the graph {graph:.3f}, converged: {bool(solution.converged)}")
    assert solution.length <= graph * (1 + 1e-9)

# %%
# Seen from above the middle of the Pacific; behind the ways, the graph from which they started. On the right, balls around
# Fuji: as far in all directions, which is far along the coasts, and nearly nowhere out to sea.

globe = plots.Globe(latlon_to_sphere(torch.tensor([5.0, -155.0], dtype=torch.float64)))
fig, (left, right) = plt.subplots(1, 2, figsize=(11.5, 5.4), layout="constrained")
for ax in (left, right):
    plots.plot_density(density, ax, globe=globe, depth=12.0, colorbar=ax is right)
    plots.plot_samples(globe(places), ax, s=9, alpha=0.9)
    ax.set(xlabel="", ylabel="")
plots.plot_graph(spaces[0.5], left, globe=globe)
for (power, way), color in zip(ways.items(), (plots.STRAIGHT, plots.OTHER, plots.INK, plots.GEODESIC), strict=True):
    label = f"power {power}" if power else "great circle"
    plots.plot_geodesics(globe(way.path), left, straight=False, color=color, label=label)
left.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4)
fuji = places[45]
plots.plot_fermat_ball(spaces[0.5], fuji, right, globe=globe, radii=[0.5, 1.0, 2.0, 3.0])
left.set_title("from Chile to New Zealand")
right.set_title("balls around Fuji, power 0.5")

# %%
# The volcano that is nearest to all others, the medoid, is in the middle of the ring along the ring. The mean of the sphere is
# in the middle of the ocean.

medoid = places[int(spaces[0.5].medoid(places))]
middle = sphere.project(places.mean(0))
print(f"from the next volcano: the average {EARTH * sphere.dist(places, middle).min():.0f} km, the medoid 0 km")
print(f"medoid at {torch.rad2deg(torch.asin(medoid[2])):.0f} degrees north")

# %%
# The number to check: the way along the density is three times as long as the great circle, and on average a fifth as far from
# the next volcano, at most.

longer, nearer = (
    measure(ways[0.5].path) / measure(ways[0.0].path)
    for measure in (
        lambda path: sphere.dist(path[1:], path[:-1]).sum(),
        lambda path: sphere.dist(path[:, None], places).amin(1).mean(),
    )
)
print(f"{longer:.1f} times as long, {nearer:.2f} times as far from volcanoes")
assert longer > 3
assert nearer < 0.2

plt.show()
