"""
What lies between two digits
============================

Halfway between an image of a three and one of an eight lies, on a straight line, a double exposure. A flow knows which images
are likely; the way between the two can keep to these. Does it, and how much likelier is what lies in the middle?
"""

# %%
# Digits through a flow
# ---------------------
# scikit-learn's digits, 8 × 8 pixels, as their first 16 principal components; RealNVP with a base of ten Gaussians learns their
# density. 360 images are held out.

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from geoflow import FermatSpace, GaussianMixture, datasets, fit, plots
from geoflow.flows import realnvp
from manifolds import Euclidean

KEPT = 16
data = datasets.digits()
order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
held_out, train = order[:360], order[360:]
mean = data.x[train].mean(0)
directions = torch.linalg.svd(data.x[train] - mean, full_matrices=False)[2][:KEPT]
x = (data.x - mean) @ directions.T


def pixels(z: Tensor) -> Tensor:
    """Components back to grey levels in [0, 1]."""
    return (mean.to(z) + z @ directions.to(z)).clamp(0, 1)


torch.manual_seed(0)
flow = realnvp(KEPT, activation="silu", depth=6, hidden=(32, 32), base=GaussianMixture(KEPT, 10))
print(fit(flow, x[train], lr=1e-3, batch_size=64, epochs=30, seed=0, progress=False))
print(f"log p of held-out images: {flow.log_prob(x[held_out]).mean():.1f} nats")

# %%
# Ways between digits
# -------------------
# Fifty pairs of held-out images of different digits. All components have one unit, a grey level, and are divided by their
# common deviation, so that lengths are of the order of one. Geodesics are relaxed together, which is much quicker than one
# by one.

flow, x = flow.double(), x.double()
unit = float(x[train].std())
space = FermatSpace(flow, x[train], reference="mean", space=Euclidean(KEPT, scale=[unit] * KEPT), neighbors=10)
labels = data.labels[held_out]
first, second = torch.randperm(360, generator=torch.Generator().manual_seed(1))[:120].reshape(2, 60)
other = (labels[first] != labels[second]).nonzero()[:50, 0]
first, second = first[other], second[other]
a, b = x[held_out[first]], x[held_out[second]]
found = space.solve(a, b)
print(f"{int(found.converged.sum())} of {len(a)} geodesics converged")

# %%
# The price of the straight line, in the same units, is what the detour saves:

straight = space.space.dist(a, b)
cost = space.dist(a, b, method="line")
print(
    f"means: straight length {straight.mean():.1f}; Fermat length {found.length.mean():.1f} along the geodesic, ",
    end="",
)
print(f"{cost.mean():.1f} along the straight line")
assert bool((found.length <= cost * (1 + 1e-6)).all())

# %%
# Three of them
# -------------

t = torch.linspace(0, 1, found.path.shape[1], dtype=x.dtype)[:, None]
chords = a[:, None] + t * (b - a)[:, None]
shown = [0, 1, 2]
fig, grid = plt.subplots(3, 2, figsize=(10.4, 5.8), layout="constrained", width_ratios=[2.9, 1.0])
at = torch.linspace(0, len(t) - 1, 9).round().long()
for (strip, profile), i in zip(grid, shown, strict=True):
    sheet = torch.stack([pixels(found.path[i, at]), pixels(chords[i, at])])
    plots.plot_images(sheet, strip, shape=(8, 8), limits=(0, 1), gap=2)
    strip.set(yticks=[3.5, 13.5], yticklabels=["geodesic", "straight\nline"])
    strip.tick_params(length=0)
    plots.plot_along(flow, {"geodesic": found.path[i], "straight line": chords[i]}, profile)
    profile.get_legend().remove()
    profile.spines[["top", "right"]].set_visible(False)
    profile.set_xlabel("share of the way" if i == shown[-1] else "")
grid[0][1].legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=8, frameon=False)

# %%
# Halfway
# -------
# log p in the middle of each way, by plain length, against that in the middle of the chord. Above the diagonal the geodesic's
# middle is the likelier image.

halfway = found.path[:, found.path.shape[1] // 2]
with torch.no_grad():
    on_path, on_chord = flow.log_prob(halfway), flow.log_prob((a + b) / 2)
gain = on_path - on_chord
error = gain.std() / len(gain) ** 0.5
fig, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
ax.scatter(on_chord, on_path, s=18, color=plots.GEODESIC, linewidths=0)
low, high = float(on_chord.min()) - 2, float(on_path.max()) + 2
ax.plot([low, high], [low, high], color=plots.STRAIGHT, ls="--")
ax.set(xlabel="log p in the middle of the chord (nats)", ylabel="log p in the middle of the geodesic (nats)")

# %%
# The number to check: the geodesic's middle is the likelier one in nine of ten pairs. This says that the way does what it is
# for under *this* density; that images look better is for the eye, and with 1437 images to learn from not always true.

print(f"likelier in {int((gain > 0).sum())} of {len(gain)} pairs, by {gain.mean():.1f} ± {error:.1f} nats")
assert (gain > 0).double().mean() > 0.9

plt.show()
