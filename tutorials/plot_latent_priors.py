"""
One auto-encoder, three priors
==============================

A variational auto-encoder draws poor digits. Is it the decoder that cannot draw, or the prior that asks it for codes no digit
has? The bound of its likelihood, taken apart, knows; and a prior can be changed after training.
"""

# %%
# A VAE of digits
# ---------------
# Handwritten digits of 8 × 8 grey levels, through eight numbers. `recipes.vae` is a Gaussian encoder, a normal likelihood whose
# deviation is learned, and the KL divergence to N(0, I). [kingma2014, dai2019]

import matplotlib.pyplot as plt
import torch

from geoflow import GaussianMixture, datasets, fit, plots
from geoflow.autoencoders import elbo_terms, fit_prior, recipes
from geoflow.flows import realnvp
from geoflow.metrics import frechet

data = datasets.digits(dequantise=False)
order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
train, held_out = data.x[order[:1400]], data.x[order[1400:]]

torch.manual_seed(0)
vae = recipes.vae(64, 8, cost="gaussian", hidden=(128, 128))
print(fit(vae, train, epochs=120, batch_size=100, lr=2e-3, seed=0, progress=False))

# %%
# Which part holds it back
# ------------------------
# log p(x) is at least I − II − III: what reconstructions cost, what a code tells about its row, and how far codes of all rows
# together, the aggregated posterior, are from the prior. [hoffman2016] The third is some nats: draws of the prior are not
# where digits have their codes, and it is what another prior can save.

terms = elbo_terms(vae, held_out, generator=torch.Generator().manual_seed(0))
print(terms)

# %%
# Other priors, the same networks
# -------------------------------
# `fit_prior` fits a density to codes of training rows and leaves the auto-encoder as it is. [ghosh2020] Ten Gaussians take a
# moment, a flow some seconds.

torch.manual_seed(1)
models = {
    "N(0, I)": vae,
    "ten Gaussians": fit_prior(vae, train, GaussianMixture(8, 10)),
    "a flow": fit_prior(vae, train, realnvp(8), progress=False),
}

# %%
# Draws
# -----
# The Fréchet distance between the pixels of draws and of held-out digits, beside that of digits after a way through the
# auto-encoder, which no prior can beat by much, and of training digits, which is what so few rows show by chance.

generator = torch.Generator().manual_seed(2)
draws = {name: model.sample(2000, generator=generator) for name, model in models.items()}
found = {name: frechet(x, held_out) for name, x in draws.items()}
with torch.no_grad():
    found["reconstructions"] = frechet(vae.autoencoder.reconstruct(held_out), held_out)
found["training digits"] = frechet(train, held_out)
for name, distance in found.items():
    print(f"{name:>16}: {distance:.3f}")

fig, axes = plt.subplots(4, 1, figsize=(8, 4.6), layout="constrained")
for ax, (name, x) in zip(axes, {"held out": held_out, **draws}.items(), strict=True):
    plots.plot_images(x[:40].reshape(2, 20, 64), ax, shape=(8, 8), limits=(0.0, 1.0))
    ax.set_title(name if name == "held out" else f"{name}: {found[name]:.2f}", loc="left", fontsize=9)

most = found["N(0, I)"] - found["reconstructions"]
share = (found["N(0, I)"] - found["ten Gaussians"]) / most
print(f"Of what draws lack beside reconstructions, a mixture fitted to the codes mends {share:.0%}.")
