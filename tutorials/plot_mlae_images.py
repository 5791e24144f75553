"""
Images through a bottleneck
===========================

An image of 64 pixels does not have 64 things to say. An auto-encoder squeezes it through eight numbers, its code; a *maximum
likelihood* auto-encoder makes the codes follow a known density too, so that new images can be drawn. How good are they, and
what is a density here?
"""

# %%
# Digits
# ------
# scikit-learn's handwritten digits, 8 × 8 pixels, grey levels in [0, 1). 360 images are held out.

import matplotlib.pyplot as plt
import torch

from geoflow import GaussianMixture, datasets, fit, plots
from geoflow.freeform import mlae
from geoflow.metrics import frechet

data = datasets.digits()
order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
held_out, train = data.x[order[:360]], data.x[order[360:]]

# %%
# Eight numbers
# -------------
# Two networks, an encoder f from images to codes z and a decoder g back. The images g(z) make a surface of eight dimensions
# among all images; training asks that g(f(x)) is near x, and that codes are standard normal where the surface is counted
# by its own volume:
#
#     β \|x − g(f(x))\|² − log N(f(x); 0, 1) + ½ log det JᵀJ,    J = ∂g/∂z.
#
# Of the last term only a gradient is needed, which random vectors estimate. [sorrenson2024] A little noise on the images
# in training keeps the surface from bending to reach every single one. `mlae` makes residual networks on standardised
# pixels; for larger images, ``image_shape=(1, height, width)`` makes convolutional ones.

torch.manual_seed(0)
model = mlae(64, 8, width=64, beta=10.0, noise=0.1)
history = fit(model, train, epochs=40, lr=3e-3, seed=0, progress=False)
print(history)
figures = model.evaluate(held_out)
print({name: round(value, 2) for name, value in figures.items()})
assert model.verdict(figures) is None

# %%
# Reconstruction, beside the best that a flat surface of as many dimensions can do (principal components, PCA), as the
# root mean square (RMS) over all pixels of the images held out.

with torch.no_grad():
    codes = model.autoencoder.encode(train)
    again = model.autoencoder.decode(model.autoencoder.encode(held_out))
mean = train.mean(0)
directions = torch.linalg.svd(train - mean, full_matrices=False)[2]
flat = mean + (held_out - mean) @ directions[:8].T @ directions[:8]
off, off_flat = ((y - held_out).square().mean().sqrt().item() for y in (again, flat))
print(f"RMS error of a pixel: {off:.3f} through eight numbers, {off_flat:.3f} by eight principal components")
assert off < off_flat

# %%
# What is a density here?
# -----------------------
# The surface has no volume among all images, so there is no density in 64 dimensions, and `log_prob` refuses:

try:
    model.log_prob(held_out)
except NotImplementedError as error:
    print(error)

# %%
# `log_prob_on_manifold` is the density on the surface, at g(f(x)). It says which images are usual and which are odd among
# those that the decoder can draw. It does not say how far an image is from the surface (that is the reconstruction's
# error), and two models' figures do not compare, for each has a surface of its own.

with torch.no_grad():
    log_p = model.log_prob_on_manifold(held_out)
ranks = log_p.argsort(descending=True)
print(f"log p on the surface: {log_p.min():.1f} to {log_p.max():.1f} nats, median {log_p.median():.1f}")

# %%
# New images
# ----------
# Codes of ten kinds of digit do not quite become one normal cloud. A mixture of ten Gaussians, fitted to the codes
# afterwards, takes no training and changes neither network: only where new codes are drawn. Both densities are normalised
# on the space of codes, so on codes of held-out images they do compare.

mixed = model.with_base(GaussianMixture.from_data(codes, components=10))
with torch.no_grad():
    held_codes = model.autoencoder.encode(held_out)
    log_normal, log_mixture = (m.base.log_prob(held_codes).mean().item() for m in (model, mixed))
    generator = torch.Generator().manual_seed(0)
    drawn = {
        "normal codes": model.sample(1000, generator=generator),
        "mixture": mixed.sample(1000, generator=generator),
    }
print(f"held-out codes, mean log p: standard normal {log_normal:.2f}, mixture {log_mixture:.2f} nats")
assert log_mixture > log_normal

strips = {
    "held out": held_out[:14],
    "reconstructed": again[:14],
    "most usual": held_out[ranks[:14]],
    "oddest": held_out[ranks[-14:]],
    "drawn, normal codes": drawn["normal codes"][:14],
    "drawn, mixture": drawn["mixture"][:14],
}
fig, ax = plt.subplots(figsize=(10, 4.8), layout="constrained")
plots.plot_images(torch.stack(list(strips.values())), ax, shape=(8, 8), limits=(0, 1), gap=2)
ax.set_yticks([3.5 + 10 * i for i in range(len(strips))], list(strips))
ax.tick_params(length=0)
ax.set_title(f"digits through eight numbers (RMS error of a pixel {off:.3f})")

# %%
# The number to check: the Fréchet distance of drawn images to the ones held out. It compares means and covariances, here
# of sixteen principal components, and is zero for equal ones. Finite sets differ a little even if they come from the
# same density: real training images give the floor.


def components(x: torch.Tensor) -> torch.Tensor:
    return (x - mean) @ directions[:16].T


far = {name: frechet(components(x), components(held_out)) for name, x in drawn.items()}
floor = frechet(components(train[:1000]), components(held_out))
print("Fréchet distance: " + ", ".join(f"{name} {d:.3f}" for name, d in far.items()) + f", real images {floor:.3f}")
assert floor < far["mixture"] < 0.6 * far["normal codes"]

plt.show()
