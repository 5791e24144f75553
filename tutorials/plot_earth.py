"""
A density on the Earth
======================

Where do floods happen? Places on the Earth are points of a sphere: a map tears it along the date line and stretches the
poles, and a density fitted to longitude and latitude knows neither. What is a density on the sphere itself?
"""

# %%
# Places
# ------
# The Dartmouth flood archive, if the environment variable GEOFLOW_DATA names the folder that holds it. Otherwise places
# are drawn around fifty cities, within about 500 km of each: von Mises-Fisher densities, the round bumps of the sphere.

import logging
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

from geoflow import datasets, fit, plots
from geoflow.distributions import Mixture, VonMisesFisher
from geoflow.freeform import mfff
from manifolds import Sphere, latlon_to_sphere, sphere_to_latlon

sphere = Sphere(2)
if "GEOFLOW_DATA" in os.environ:
    places, what = datasets.earth("flood").x.float(), "floods"
else:
    os.environ.setdefault("GEOMSTATS_BACKEND", "numpy")
    from geomstats.datasets.utils import load_cities

    logging.getLogger("geoflow").setLevel(logging.WARNING)  # importing geomstats turns everybody's messages on
    cities = sphere.project(torch.as_tensor(np.asarray(load_cities()[0]) * [-1, -1, 1], dtype=torch.float32))
    around = Mixture(torch.ones(len(cities)), VonMisesFisher(cities, 300.0))
    places, what = around.sample(4000, generator=torch.Generator().manual_seed(0)).detach(), "places near cities"
order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))
held_out, train = places[order[: len(places) // 5]], places[order[len(places) // 5 :]]
print(f"{len(train)} {what} to learn from, {len(held_out)} held out")

# %%
# A first density, and one that is carried from it
# ------------------------------------------------
# Round bumps, fitted by expectation maximisation (EM), are a first density. The more bumps, the better, while there are
# rows enough for them; with five we leave something to do.

bumps = {k: Mixture.from_data(train, components=k, bounds=(1e-3, 500.0)) for k in (5, 40)}
with torch.no_grad():
    before = {k: mixture.log_prob(held_out) for k, mixture in bumps.items()}

# %%
# A free-form flow takes the five as its base: an encoder f moves places on the sphere, a decoder g moves them back, both
# projected onto the sphere, and
#
#     log p(x) = log p_base(f(x)) + log \|det ∂f/∂x\|,
#
# the determinant that of areas on the sphere. Nothing is cut open: there is no date line and no pole. Both networks start
# as the identity, so that training starts from the base, which is frozen here: what is gained, the flow gains. The weight
# β of reconstruction, \|x − g(f(x))\|², makes g undo f. [sorrenson2024m]

torch.manual_seed(0)
base = bumps[5].requires_grad_(False)
flow = mfff(sphere, base=base, width=64, blocks=2, beta=300.0)
history = fit(flow, train, epochs=24, lr=5e-3, seed=0, progress=False)
print(history)

# %%
# Is it a density? The figures are exact here: the encoder's and the decoder's agree, and it integrates to one over the
# sphere (the mean of p over uniform points, times the area 4π).

figures = flow.evaluate(held_out)
print({name: round(value, 3) for name, value in figures.items()})
assert flow.verdict(figures) is None

uniform = sphere.sample_uniform(20_000, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    p = (flow.log_prob(uniform) + sphere.log_volume_total).exp()
mass, noise = p.mean(), p.std() / len(p) ** 0.5
print(f"mass {mass:.3f} ± {noise:.3f}")
assert abs(mass - 1) < 4 * noise

# %%
# The picture: the density on a map that keeps areas (Mollweide's), and samples, each made in one evaluation of the
# decoder, beside places that were held out.

latitude, longitude = np.linspace(-89.5, 89.5, 120), np.linspace(-180, 180, 241)
grid = torch.as_tensor(np.stack(np.meshgrid(latitude, longitude, indexing="ij"), -1), dtype=torch.float32)
with torch.no_grad():
    log_p = flow.log_prob(latlon_to_sphere(grid)).numpy()
    samples = flow.sample(len(held_out), generator=torch.Generator().manual_seed(1))

fig, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.3), subplot_kw={"projection": "mollweide"})
fig.subplots_adjust(left=0.03, right=0.99, top=0.92, bottom=0.2, wspace=0.06)
levels = np.arange(np.ceil(log_p.max()) - 6, np.ceil(log_p.max()) + 0.25, 0.5)
field = left.contourf(np.radians(longitude), np.radians(latitude), log_p, levels, cmap="YlGnBu", extend="min")
bar = left.inset_axes((0.2, -0.13, 0.6, 0.04))
fig.colorbar(field, cax=bar, orientation="horizontal", label="log p (nats, per steradian)", ticks=levels[::2])
left.set_title(f"density of {what}")
for rows, color, name in ((held_out, plots.STRAIGHT, "held out"), (samples, plots.GEODESIC, "samples of the flow")):
    where = sphere_to_latlon(rows).deg2rad()
    right.scatter(where[:, 1], where[:, 0], s=6, color=color, alpha=0.7, linewidths=0, label=f"{name} ({len(rows)})")
right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, markerscale=2.5)
right.set_title("places and samples")
for ax in (left, right):
    ax.set_xticks(np.radians([-120, -60, 0, 60, 120]), [""] * 5)
    ax.set_yticks(np.radians([-60, -30, 0, 30, 60]))
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)

# %%
# The number to check: the mean negative log-likelihood (NLL) of places that were held out. Uniform on the sphere has
# log 4π = 2.531 nats. On each row the flow is compared with its base, so the gain has an error bar of its own. Forty bumps by
# EM alone are ahead of both, in a few seconds: where data come in many clumps try a mixture first, and see what a flow
# adds to it.

with torch.no_grad():
    after = flow.log_prob(held_out)
gain = after - before[5]
noise = gain.std() / len(gain) ** 0.5
print(f"NLL held out, in nats: uniform {sphere.log_volume_total:.3f}, 5 bumps {-before[5].mean():.3f}, ", end="")
print(f"flow from these {-after.mean():.3f}, 40 bumps {-before[40].mean():.3f}")
print(f"the flow gains {gain.mean():.3f} ± {noise:.3f} nats on its base")
assert -before[5].mean() < sphere.log_volume_total - 0.2
assert gain.mean() > 3 * noise

plt.show()
