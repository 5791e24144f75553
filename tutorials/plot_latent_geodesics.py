"""
Ways through a latent
=====================

An auto-encoder turns images into a few numbers. Between two of these one can draw a straight line and decode it, but who says
that images lie on the way? A density of the codes does; and so the way can go where they are.
"""

# %%
# Hands of a clock
# ----------------
# Images of 12 × 12 pixels with two things to say: where the hand points, and how long it is. None of it is between noon and
# six o'clock without passing three or nine: the images lie on a ring.

import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from geoflow import FermatSpace, GaussianMixture, LatentSpace, fit, plots
from geoflow.freeform import mlae
from manifolds import Euclidean

SIDE = 12


def hands(angle: Tensor, length: Tensor) -> Tensor:
    """Images ``(n, 144)`` of hands at angles in radians from twelve o'clock, clockwise."""
    x = torch.linspace(-1, 1, SIDE)
    up, right = torch.meshgrid(-x, x, indexing="ij")
    angle, length = angle[:, None, None], length[:, None, None]
    along = (right * angle.sin() + up * angle.cos()).clamp(min=0.0).minimum(length)
    off = (right - along * angle.sin()) ** 2 + (up - along * angle.cos()) ** 2
    return torch.exp(-off / (2 * 0.13**2)).flatten(1)


generator = torch.Generator().manual_seed(0)
angle = 2 * math.pi * torch.rand(2400, generator=generator)
length = 0.5 + 0.4 * torch.rand(2400, generator=generator)
x = hands(angle, length) + 0.02 * torch.randn(2400, SIDE**2, generator=generator)
train, held_out = x[:2000], x[2000:]

# %%
# Two numbers
# -----------
# A maximum likelihood auto-encoder with two codes. [sorrenson2024] It finds the ring: angle goes around, length outward, and
# the hole in the middle stays empty.

torch.manual_seed(0)
model = mlae(SIDE**2, 2, width=64, beta=50.0)
print(fit(model, train, epochs=24, lr=3e-3, seed=0, progress=False))
with torch.no_grad():
    codes = model.autoencoder.encode(train)
    again = model.autoencoder.decode(model.autoencoder.encode(held_out))
off = (again - held_out).square().mean().sqrt()
print(f"RMS error of a pixel: {off:.3f}, of which 0.02 is noise in the images")

# %%
# Two spaces of codes
# -------------------
# A mixture of Gaussians, fitted to the codes, is their density. `LatentSpace` measures between images by their codes and
# decodes the ways: along straight lines if the codes live in flat space (the *flat pullback*), along the data if they live in
# the space that the density makes.

density = GaussianMixture.from_data(codes, components=16)
flat = LatentSpace(model.autoencoder, Euclidean(2))
along = LatentSpace(model.autoencoder, FermatSpace(density, codes, reference="mean"))

noon, six = hands(torch.tensor([0.0, math.pi]), torch.tensor([0.7, 0.7]))
t = torch.linspace(0, 1, 10)
with torch.no_grad():
    strips = {"flat": flat.geodesic(noon, six, t), "Fermat": along.geodesic(noon, six, t)}
    ends = along.encode(torch.stack([noon, six]))
found = along.space.solve(*ends)
detour = (found.path[1:] - found.path[:-1]).norm(dim=-1).sum()
print(
    f"codes of noon and six are {flat.dist(noon, six):.2f} apart in a straight line, {detour:.2f} on the way along the data"
)
assert bool(found.converged)

fig, (left, right) = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained", width_ratios=[1, 2.3])
plots.plot_density(density, left, names=("code 1", "code 2"), colorbar=False)
left.scatter(*codes.T, c=angle[:2000], cmap="twilight", s=4)
plots.plot_geodesics(found, left)
left.legend(frameon=False, loc="upper left", fontsize=9)
left.set(aspect="equal", title="codes, coloured by angle")
plots.plot_images(torch.stack(list(strips.values())), right, shape=(SIDE, SIDE), limits=(0, 1), gap=2)
right.set_yticks([SIDE / 2 - 0.5, 1.5 * SIDE + 1.5], list(strips))
right.tick_params(length=0)
right.set_title("decoded on the way from noon to six")

# %%
# Are these images hands?
# -----------------------
# On the straight line the hand fades and another one appears; on the other way it turns. Forty pairs of images that were held
# out, each other's opposites within half an hour: for every decoded image on the way between them, how far is the nearest
# hand there is, of any angle and length?

with torch.no_grad():
    every = torch.cartesian_prod(torch.linspace(0, 2 * math.pi, 181)[:-1], torch.linspace(0.5, 0.9, 9))
    real = hands(*every.T)
    turn = (angle[2000:, None] - angle[None, 2000:]) % (2 * math.pi)
    first, second = ((turn - math.pi).abs() < math.pi / 12).triu().nonzero()[::40][:40].T
    pairs = held_out[first], held_out[second]
    between = t[1:-1, None]
    distance = {"reconstructed": torch.cdist(again, real).amin(1)[None] / SIDE}
    for name, space in {"flat": flat, "Fermat": along}.items():
        images = space.geodesic(*pairs, between).flatten(0, 1)
        nearest = torch.cdist(images, real).amin(1) / SIDE
        distance[name] = nearest.reshape(8, -1)
for name, d in distance.items():
    print(f"{name}: RMS of a pixel to the nearest hand, mean {d.mean():.3f}, worst on a way {d.amax(0).mean():.3f}")
print(f"paths nearer to hands along the data: {(distance['Fermat'].mean(0) < distance['flat'].mean(0)).sum()} of 40")

# %%
# The number to check: along the data nearly every way is nearer to hands than the straight one, and no further from them than
# reconstructions of real images are. The price is a density of the codes; where these have no hole, both ways are much the
# same.

assert (distance["Fermat"].mean(0) < distance["flat"].mean(0)).double().mean() > 0.9
assert distance["Fermat"].mean() < 1.1 * distance["reconstructed"].mean()
assert distance["flat"].mean() > 1.3 * distance["reconstructed"].mean()

plt.show()
