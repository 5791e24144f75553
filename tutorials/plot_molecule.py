"""
Particles without names
=======================

Turn a molecule, or exchange two of its like atoms, and nothing has changed. A density of configurations should not change
either, whatever it has learned. How does one get a flow with which that holds exactly?
"""

# %%
# Four particles
# --------------
# In the plane, each pair of them with the same energy as a function of its distance, low at two distances: a double well.
# Configurations are drawn from the density proportional to exp(−U), U the total energy in units of kT (temperature), by
# many independent Monte Carlo chains. A row is four pairs of coordinates, centred.

import math

import matplotlib.pyplot as plt
import torch

from geoflow import Chain, Pair, Standardize, datasets, fit, plots
from geoflow.distributions import MeanFreeNormal
from geoflow.freeform import FreeFormFlow
from geoflow.nets import EGNN

data = datasets.dw4(draws=1200)
train, held_out = data.x[~data.test], data.x[data.test]
print(f"{len(train)} configurations to learn from, {len(held_out)} held out")

# %%
# A flow that knows of no names and no directions
# -----------------------------------------------
# The graph network EGNN moves each particle along the lines to the others, by functions of distances alone: turn,
# reflect or renumber what goes in, and what comes out does the same. The base, a round normal density of centred
# configurations, does not change under any of these. Then neither does
#
#     log p(x) = log p_base(f(x)) + log \|det ∂f/∂x\|,
#
# for any weights of the network f. Such a network is not invertible by construction; a free-form flow does not ask for
# that, and trains a second one, g, to undo the first. [draxler2024, satorras2021] Before it stands one factor for all
# coordinates, since the network expects distances of about one; means and factors of each column would tell particles
# apart. Centred configurations fill 6 of the 8 dimensions, and volumes are counted there.

torch.manual_seed(0)
nets = Pair(EGNN(4, 2, features=32, layers=3), EGNN(4, 2, features=32, layers=3), dim=8, latent_dim=8)
flow = FreeFormFlow(Chain(Standardize(8, "scale"), nets), MeanFreeNormal(4, 2), beta=1000.0, surrogate="conditional")
flow.prepare(train)
untrained = flow.evaluate(held_out)["nll encoder"]  # of the base, for the networks start as the identity
noise = flow.sample(2000, generator=torch.Generator().manual_seed(0))
history = fit(flow, train, epochs=32, batch_size=64, lr=5e-3, ema=0.99, seed=0, progress=False)
print(history)

# %%
# Is it symmetric?
# ----------------
# Turn by an angle, reflect, renumber: log p stays, to rounding.

flow = flow.double()
x = flow.space.project(held_out.double())  # centred to the last digit
angle = 1.0
turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=x.dtype)
cloud = x.unflatten(-1, (4, 2))
same = {
    "turned by one radian": cloud @ turn.T,
    "reflected": cloud * torch.tensor([1.0, -1.0], dtype=x.dtype),
    "renumbered": cloud[:, [2, 0, 3, 1]],
}
with torch.no_grad():
    log_p = flow.log_prob(x)
    for name, other in same.items():
        change = (flow.log_prob(other.flatten(-2)) - log_p).abs().max()
        print(f"{name}: log p changes by {change:.0e} nats at most")
        assert change < 1e-8
    squeezed = (flow.log_prob((cloud * torch.tensor([1.0, 0.5], dtype=x.dtype)).flatten(-2)) - log_p).abs().mean()
print(f"squeezed to half its height, which is no symmetry: {squeezed:.1f} nats")
assert squeezed > 0.1

# %%
# Samples
# -------
# The energy says at once how good they are, for the flow has never seen it: it knows configurations only. It is a hard
# judge: a particle a little too close or too far costs much. After these few hundred steps the flow is two thirds of
# the way from its base to the truth, and not there.

with torch.no_grad():
    samples = flow.sample(2000, generator=torch.Generator().manual_seed(0))
    energies = {
        "truth": datasets.double_well_energy(data.x),
        "samples of the flow": datasets.double_well_energy(samples),
        "samples of the base": datasets.double_well_energy(noise),
    }

fig = plt.figure(figsize=(11.5, 4.4), layout="constrained")
grid = fig.add_gridspec(2, 6, width_ratios=[1, 1, 1, 1, 2, 2])
ax = fig.add_subplot(grid[:, 4:])
colors = (plots.OTHER, plots.GEODESIC, plots.STRAIGHT)
for (name, energy), color in zip(energies.items(), colors, strict=True):
    style = {"alpha": 0.4} if name == "truth" else {"histtype": "step", "linewidth": 1.8}
    inside = ((energy > -30) & (energy < 60)).double().mean()
    ax.hist(energy, 45, range=(-30, 60), density=True, color=color, label=f"{name} ({inside:.0%} shown)", **style)
ax.set(xlabel="energy U (kT)", ylabel="share per kT", title="energies")
ax.legend(frameon=False)
for row, (name, points, color) in enumerate((("truth", held_out, plots.OTHER), ("flow", samples, plots.GEODESIC))):
    for column in range(4):
        ax = fig.add_subplot(grid[row, column])
        dots = points[column].reshape(4, 2)
        for i in range(4):
            for j in range(i):
                ax.plot(*dots[[i, j]].T, color=plots.STRAIGHT, lw=0.6, alpha=0.5)
        ax.scatter(*dots.T, s=40, color=color, zorder=3)
        ax.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", xticks=[], yticks=[])
        if column == 0:
            ax.set_ylabel(name)
fig.suptitle("four particles (boxes are 10 lengths wide)", x=0.02, ha="left", fontsize=11)

# %%
# The number to check: negative log-likelihoods (NLL) of configurations held out, by the encoder and by the decoder, in
# nats; they agree, so the figure can be believed, and are well below the base's. And the energy gap that is left, between
# the medians.

figures = flow.evaluate(x)
print(f"NLL: base {untrained:.2f}, encoder {figures['nll encoder']:.2f}, decoder {figures['nll decoder']:.2f} nats")
truth, flowed, base = (energy.median().item() for energy in energies.values())
print(f"median energy: truth {truth:.1f}, flow {flowed:.1f}, base {base:.1f} kT")
assert flow.verdict(figures) is None
assert figures["nll encoder"] < untrained - 2.5
assert abs(flowed - truth) < 0.5 * abs(base - truth)

plt.show()
