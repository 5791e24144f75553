"""
Any network as a flow
=====================

Flows that are invertible by construction ask for special layers. Free-form flows take any two networks, one from data to
noise and one back, and train the second to undo the first. What does one get, and how does one see that it can be trusted?
"""

# %%
# Data whose answer is known
# --------------------------
# Four round bumps in the plane. Their density p is known, and so is the entropy −E log p: the mean negative log-likelihood
# (NLL, in nats a row) of the truth itself, which no density undercuts on average.

import warnings

import matplotlib.pyplot as plt
import torch
from torch import nn

from geoflow import Pair, StandardNormal, datasets, fit, plots
from geoflow.freeform import FreeFormFlow, fff

data = datasets.four_gaussians(4000)
held_out = datasets.four_gaussians(10_000, seed=1).x
entropy, error = datasets.entropy(data.density)
print(f"entropy {entropy:.3f} ± {error:.3f} nats")

# %%
# Two plain networks
# ------------------
# An encoder f from data x to codes z, and a decoder g from codes to data; nothing about them is invertible. The codes
# should be standard normal, so that the density is that of the codes, times how much f stretches space:
#
#     log p(x) = log N(f(x); 0, 1) + log \|det ∂f/∂x\|.
#
# A determinant at every step is dear in many dimensions. But where g undoes f, its derivatives are the inverse of
# f's, and these two give the determinant's gradient from a product with one random vector. So training minimises
#
#     β \|x − g(f(x))\|² − log p(x),
#
# the likelihood by that short cut, and the reconstruction that makes the short cut right. [draxler2024]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


def train(epochs: int, **options: object) -> FreeFormFlow:
    torch.manual_seed(0)
    nets = Pair(network(), network(), dim=2, latent_dim=2)
    flow = FreeFormFlow(nets, StandardNormal(2), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bad fit warns; here the verdict is printed instead
        fit(flow, data.x, epochs=epochs, lr=5e-3, seed=0, progress=False)
    return flow


flow = train(epochs=60, beta=10.0)

# %%
# Can it be trusted?
# ------------------
# There are two densities: the encoder's, which is what `log_prob` gives, and the decoder's, which is that of the samples.
# They agree where decoder and encoder undo one another. `evaluate` computes both exactly, with all derivatives, and the
# inverse defect: how far the product of the two derivatives is from the identity (its median over rows). `verdict`
# says whether to believe them.
#
# A small β leaves the networks free to disagree. The short cut then is wrong, and training climbs a "likelihood" that
# even undercuts the entropy: a density cannot, so it is none. The other surrogate, "conditional", chooses for each random
# vector one of two forms of the short cut, such that both networks are pulled back towards undoing one another. It
# bears a smaller β, not any.

cases = {
    "β = 10": flow,
    "β = 0.1": train(epochs=15, beta=0.1),
    "β = 1": train(epochs=15, beta=1.0),
    "β = 1, conditional": train(epochs=15, beta=1.0, surrogate="conditional"),
}
figures = {name: model.evaluate(held_out) for name, model in cases.items()}
print(f"{'':20}{'NLL encoder':>12}{'NLL decoder':>12}{'defect':>8}")
for name, model in cases.items():
    f = figures[name]
    verdict = (model.verdict(f) or "valid").split(":")[0]
    print(f"{name:20}{f['nll encoder']:12.3f}{f['nll decoder']:12.3f}{f['inverse defect']:8.2f}  {verdict}")
print(cases["β = 0.1"].verdict(figures["β = 0.1"]))

assert flow.verdict(figures["β = 10"]) is None
assert cases["β = 0.1"].verdict(figures["β = 0.1"]).startswith("invalid")
assert figures["β = 0.1"]["nll encoder"] < entropy - 0.2  # better than the truth: it cannot be
assert figures["β = 1, conditional"]["inverse defect"] < figures["β = 1"]["inverse defect"]

# %%
# The same in one line
# --------------------
# `fff` makes the networks for tables: residual ones, which start as the identity, on standardised columns.

torch.manual_seed(0)
recipe = fff(2, width=64, blocks=2, beta=10.0)
print(fit(recipe, data.x, epochs=20, lr=5e-3, seed=0, progress=False))

# %%
# The truth, the density by the encoder, samples by the decoder (one evaluation each):

fig, axes = plt.subplots(1, 3, figsize=(12.5, 4), layout="constrained", sharex=True, sharey=True)
sides = ((-3.0, 3.0), (-3.0, 3.0))
plots.plot_density(data.density, axes[0], limits=sides, colorbar=False)
plots.plot_density(flow, axes[1], limits=sides)
plots.plot_samples(held_out[:1500], axes[2], color=plots.STRAIGHT, label="data", s=8)
samples = flow.sample(1500, generator=torch.Generator().manual_seed(0)).detach()
plots.plot_samples(samples, axes[2], n=1500, color=plots.GEODESIC, label="samples", s=8)
axes[2].legend(frameon=False, loc="upper right", markerscale=2)
for ax, title in zip(axes, ("log p of the truth", "log p by the encoder", "samples by the decoder"), strict=True):
    ax.set(title=title, aspect="equal")

# %%
# The number to check: on fresh rows, how many nats both models lose to the truth on the same rows. That is at least zero
# for a density, up to the noise of ten thousand rows.

with torch.no_grad():
    truth = data.density.log_prob(held_out)
    for name, model in (("two plain networks", flow), ("the recipe", recipe)):
        lost = truth - model.log_prob(held_out)
        noise = lost.std() / len(lost) ** 0.5
        print(f"{name}: NLL − entropy = {lost.mean():.3f} ± {noise:.3f} nats")
        assert -3 * noise < lost.mean() < 0.15

plt.show()
