"""
From one digit to another, by way of a VAE
==========================================

A variational auto-encoder has a code for every digit, and between two codes there is a straight line. It passes through
places where no digit has its code; what does the decoder make of these? A density of the codes makes a space whose
geodesics go around. Somebody who has only ever seen digits shall judge the two ways.
"""

# %%
# A VAE, and a density of its codes
# ---------------------------------
# Digits of 8 × 8 grey levels through eight numbers: `recipes.vae`, [kingma2014, dai2019] and ten Gaussians that `fit_prior` fits
# to the codes of training rows, drawn from their posteriors. [ghosh2020] The judge, a logistic regression on pixels, has seen
# the same training rows.

import matplotlib.pyplot as plt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from geoflow import FermatSpace, GaussianMixture, LatentSpace, datasets, fit, plots
from geoflow.autoencoders import fit_prior, recipes

LATENT = 8
data = datasets.digits(dequantise=False)
order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
train, held_out = data.x[order[:1400]], data.x[order[1400:]]
labels, held_labels = data.labels[order[:1400]], data.labels[order[1400:]]

torch.manual_seed(0)
vae = recipes.vae(64, LATENT, cost="gaussian", hidden=(128, 128))
print(fit(vae, train, epochs=120, batch_size=100, lr=2e-3, seed=0, progress=False))
model = fit_prior(vae, train, GaussianMixture(LATENT, 10))
judge = LogisticRegression(max_iter=2000).fit(train.numpy(), labels.numpy())
print(f"The judge names {judge.score(held_out.numpy(), held_labels.numpy()):.1%} of the held-out digits.")


@torch.no_grad()
def certainty(codes: Tensor) -> Tensor:
    """The judge's largest probability ``(*batch)`` for what codes ``(*batch, 8)`` decode to."""
    images = vae.autoencoder.decode(codes).flatten(0, -2)
    return torch.as_tensor(judge.predict_proba(images.numpy())).amax(-1).reshape(codes.shape[:-1])


# %%
# Fifty pairs of held-out digits
# ------------------------------
# Of different digits, drawn at random. Lengths are weighed with p to the power −β: the default, one over the dimension,
# bends ways a little; four times as much bends them more.

first, second = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(1))[:180].reshape(2, 90)
different = (held_labels[first] != held_labels[second]).nonzero()[:50, 0]
x, y = held_out[first[different]], held_out[second[different]]
codes = model.codes(train, torch.Generator().manual_seed(2))

ways, spaces = {}, {}
for times in (1, 4):
    fermat = FermatSpace(model.prior, codes, reference="mean", power=times / LATENT)
    spaces[times] = LatentSpace(vae.autoencoder, fermat)
    with torch.no_grad():
        a, b = spaces[times].encode(x), spaces[times].encode(y)
    found = fermat.solve(a, b)
    assert int(found.converged.sum()) >= 48
    ways[f"geodesic, β = {times}/8"] = found.path
t = torch.linspace(0, 1, found.path.shape[1])
ways["straight line"] = a[:, None] + t[:, None] * (b - a)[:, None]

# %%
# What lies on the way
# --------------------
# `LatentSpace` decodes points of a geodesic, at equal shares of its length. Three pairs, each with the straight line above.

steps = torch.linspace(0, 1, 9)
fig, axes = plt.subplots(3, 1, figsize=(7.4, 5.4), layout="constrained")
for k, ax in enumerate(axes):
    with torch.no_grad():
        line = vae.autoencoder.decode(a[k] + steps[:, None] * (b[k] - a[k]))
        along = [space.geodesic(x[k], y[k], steps) for space in spaces.values()]
    plots.plot_images(torch.stack([line, *along]), ax, shape=(8, 8), limits=(0, 1))
    ax.set_yticks([3.5, 12.5, 21.5], ["straight line", *(f"β = {times}/8" for times in spaces)], fontsize=8)
    ax.tick_params(length=0)

# %%
# Is the judge surer?
# -------------------
# At 65 equal steps along each way: how sure the judge is, and how likely the codes are.

with torch.no_grad():
    sure = {name: certainty(way) for name, way in ways.items()}
    log_p = {name: model.prior.log_prob(way) for name, way in ways.items()}
colors = dict(zip(ways, [plots.OTHER, plots.GEODESIC, plots.STRAIGHT], strict=True))
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name in ways:
    style = {"color": colors[name], "linestyle": "--" if name == "straight line" else "-", "label": name}
    left.plot(t, log_p[name].mean(0), **style)
    right.plot(t, sure[name].mean(0), **style)
left.set(xlabel="share of the way", ylabel="log p of codes (nats), mean")
right.set(xlabel="share of the way", ylabel="the judge's certainty, mean")
left.legend(frameon=False, fontsize=8)

# %%
# The numbers to check. Half-way the geodesic's code is the likelier one in every pair, by half a nat in the median with
# the default β and by more than one with four times as much; on the whole way the judge is a little surer, beyond twice the
# standard error. A little, for both ways have to cross from one digit to another somewhere.

half, straight = len(t) // 2, "straight line"
for name in ways:
    if name == straight:
        continue
    gain = log_p[name][:, half] - log_p[straight][:, half]
    surer = sure[name].mean(1) - sure[straight].mean(1)
    error = surer.std() / len(surer) ** 0.5
    print(
        f"{name}: likelier half-way in {int((gain > 0).sum())} of {len(gain)} pairs, median {gain.median():+.2f} nats; ",
        end="",
    )
    print(f"certainty {sure[name].mean():.3f}, {surer.mean():+.3f} ± {error:.3f} beside the straight line's")
    assert (gain > 0).double().mean() > 0.9
    assert surer.mean() > 2 * error

plt.show()
