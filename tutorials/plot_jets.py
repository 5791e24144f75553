"""
Anomaly search with jets
========================

Among thousands of collisions a few are of another kind, and nobody knows which. What an auto-encoder cannot reconstruct is
called an anomaly, usually; but what if the anomaly is simpler than the rest? Topics of a Dirichlet latent find it either way.
"""

# %%
# Jets
# ----
# A jet is a spray of particles, each with a momentum p and a direction (η, φ). Here is a toy: a *plain* jet is one cone of
# particles, a *busy* one is two, as from something heavy that fell apart. `jet_images` centres, turns and flips them, so
# that images compare. (With data at hand, `datasets.jet_mixture` gives simulated jets of quarks, gluons and top quarks.)

import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from geoflow import datasets, fit, plots
from geoflow.autoencoders import Multinomial, anomaly_scores, decoded_topics, recipes
from geoflow.metrics import auc, conformal_p_values, discoveries

generator = torch.Generator().manual_seed(0)


def jets(n: int, busy: bool, particles: int = 40) -> Tensor:
    """Images of n jets: 40 particles, of steeply falling momenta, in one cone or shared by two."""
    p = torch.rand(n, particles, generator=generator) ** -0.8
    angle = 2 * math.pi * torch.rand(n, particles, generator=generator)
    radius = 0.02 / (0.06 + torch.rand(n, particles, generator=generator) ** 1.5)
    apart = (0.25 + 0.35 * torch.rand(n, 1, generator=generator)) * busy
    second = torch.rand(n, particles, generator=generator) < 0.2 + 0.3 * torch.rand(n, 1, generator=generator)
    eta, phi = radius * angle.cos() + apart * second, radius * angle.sin()
    return datasets.jet_images(torch.stack([p, eta, phi], -1), size=20)


def mixture(busy_jets: int, n: int = 4000) -> Tensor:
    x = torch.cat([jets(n - busy_jets, False), jets(busy_jets, True)])
    return x[torch.randperm(n, generator=generator)]


mixtures = {"busy among plain": mixture(800), "plain among busy": mixture(3200)}
test = {"plain": jets(3000, False), "busy": jets(3000, True)}

# %%
# One fifth of each mixture is the signal; labels are not used until the end.
#
# Two models
# ----------
# A variational auto-encoder with six codes, whose anomaly score is its reconstruction's cost; and one whose codes are shares of
# two topics, `recipes.dirichlet_vae`: each image is r₁ times the first and r₂ times the second, before a softmax. [dillon2021]

models = {
    "reconstruction": lambda: recipes.vae(400, 6, cost=Multinomial(), hidden=(100,)),
    "topic": lambda: recipes.dirichlet_vae(400, 2, total=10.0, hidden=(100,)),
}
trained = {}
for where, x in mixtures.items():
    for score, make in models.items():
        torch.manual_seed(0)
        trained[where, score] = make()
        fit(trained[where, score], x, epochs=20, batch_size=100, lr=2e-2, validation=0, seed=0, progress=False)

# %%
# Which topic is the anomaly?
# ---------------------------
# Labels may not decide it, and rarity is no safe guide: weights of topics are not shares of kinds. `decoded_topics` orders
# them by the entropy of what they decode to, how many pixels they light. A search for something busy takes the weight of the
# last, `complex`; a search for something plain that of the first, `simple`. That is fixed before anything is looked at.

topics = {where: decoded_topics(trained[where, "topic"]) for where in mixtures}
for where, found in topics.items():
    print(f"{where}: entropies of the topics {found.entropy[found.order].tolist()} nats")

# %%
# Both directions
# ---------------
# AUC: how often a jet of the signal has a higher score than one of the background.

scores, areas = {}, {}
for (where, name), model in trained.items():
    tail = "reconstruction" if name == "reconstruction" else "complex" if where == "busy among plain" else "simple"
    signal, background = ("busy", "plain") if where == "busy among plain" else ("plain", "busy")
    scores[where, name] = [anomaly_scores(model, test[kind], [tail])[tail] for kind in (background, signal)]
    areas[where, name] = auc(*scores[where, name]).value
    print(f"{where}, {name}: AUC {areas[where, name]:.3f}")

# %%
# Plain jets are easy to draw, even for a network that has seen few of them: reconstruction finds what is busy, and takes the
# busy for the anomaly where the plain is one. The topics find both.

assert areas["busy among plain", "reconstruction"] > 0.8
assert areas["plain among busy", "reconstruction"] < 0.5
assert min(areas[where, "topic"] for where in mixtures) > 0.8

fig, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for row, (where, found) in zip(axes, topics.items(), strict=True):
    for ax, title, image in zip(
        row,
        ("mean plain jet", "mean busy jet", "simple topic", "complex topic"),
        (test["plain"].mean(0), test["busy"].mean(0), *found.decoded[found.order]),
        strict=True,
    ):
        plots.plot_images(image.clamp_min(1e-6).log10()[None], ax, shape=(20, 20), limits=(-5, -0.5), cmap="magma")
        ax.set_title(title, fontsize=9)
    row[0].set_ylabel(f"{where}\nAUC {areas[where, 'topic']:.2f} (reconstruction {areas[where, 'reconstruction']:.2f})")

# %%
# How many did we find?
# ---------------------
# A score is no probability. Background that no model has seen gives p-values that are exact at any number of rows, whatever
# the score [bates2023], and `discoveries` keeps the expected share of false ones below what was asked. 1,500 jets of the
# background and 300 of the signal are judged, with 1,500 further jets of the background to compare with, and a tenth of false
# discoveries allowed.

for where in mixtures:
    background, signal = scores[where, "topic"]
    p = conformal_p_values(background[:1500], torch.cat([background[1500:], signal[:300]]))
    chosen = discoveries(p, fdr=0.1)
    false, found = int(chosen[:1500].sum()), int(chosen[1500:].sum())
    print(f"{where}: {false + found} discoveries, {false} of them false; {found / 300:.0%} of the signal found")
    if where == "busy among plain":
        assert found > 150
        assert false < 0.2 * found

# %%
# That is the number to check: two thirds of the busy jets are found, with fewer than a tenth of false discoveries. Plain jets
# among busy ones are not, at the same AUC: it speaks of the middle of the scores, and discoveries of their purest end, where
# some busy jets look perfectly plain. Ask for both.

plt.show()
