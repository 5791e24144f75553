"""
A density of covariance matrices
================================

Covariances are symmetric and positive definite: in nine numbers six that are free, and an edge that must not be crossed.
Their geometry is known and written down, in geomstats. How does one put a flow on a space that comes from elsewhere?
"""

# %%
# Six wines at a time
# -------------------
# Alcohol, colour and proline of 178 wines, in units of their deviations. The covariance of six wines drawn at random varies
# a lot, and is a point of the space: its distribution is what somebody needs to know who wants to say whether six
# bottles are as mixed as they should be. Held-out rows are new draws.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_wine
from torch import Tensor

from geoflow import FreeFormFlow, Pair, fit, plots
from geoflow.distributions import WrappedNormal
from geoflow.freeform import FromOrigin
from geoflow.nets import ResidualNet
from manifolds import from_geomstats

wines = torch.as_tensor(load_wine().data[:, [0, 9, 12]]).float()
wines = (wines - wines.mean(0)) / wines.std(0)


def covariances(n: int, seed: int) -> Tensor:
    chosen = torch.randint(len(wines), (n, 6), generator=torch.Generator().manual_seed(seed))
    groups = wines[chosen] - wines[chosen].mean(1, keepdim=True)
    return (groups.mT @ groups / 5).flatten(1)


# %%
# A space from elsewhere
# ----------------------
# The adapter takes what makes the geomstats manifold, and gives a space with all of this library's verbs. In the affine
# invariant metric the matrices that are not positive definite are infinitely far away. Points are flat: nine numbers.


def make() -> object:
    from geomstats.geometry.spd_matrices import SPDMatrices

    return SPDMatrices(3)


space = from_geomstats(make)
train, held_out = space.project(covariances(1500, seed=0)), space.project(covariances(500, seed=1))
print(space, "of dimension", space.dim)

# %%
# A base, and a flow from it
# --------------------------
# The base is a normal density in the tangent space at the Fréchet mean. The networks work in that tangent space too:
# `FromOrigin` leads there by `log` and back by `exp`, so that no code and no sample ever leaves the space. Eigenvalues of
# geomstats lack forward derivatives that are finite; the flow finds out, says so, and takes backward ones.

base = WrappedNormal.from_data(train, space=space, directions=True).requires_grad_(False)
torch.manual_seed(0)
n = space.dim
nets = Pair(ResidualNet(n, n, 64, 2), ResidualNet(n, n, 64, 2), dim=n, latent_dim=n)
flow = FreeFormFlow(FromOrigin(nets, space, base.mean), base, beta=10.0, surrogate="conditional")
print(fit(flow, train, epochs=16, lr=5e-3, batch_size=64, seed=0, progress=False))

# %%
# Axes of an ellipsoid
# --------------------
# The eigenvalues of a matrix are the squared axes of its ellipsoid. Six wines spread out about equally far in their longest
# direction, and at times hardly at all in their shortest. The base has neither: in its tangent space all is symmetric.

with torch.no_grad():
    clouds = {
        "six wines": held_out,
        "samples of the base": base.sample(500, generator=torch.Generator().manual_seed(2)),
        "samples of the flow": flow.sample(500, generator=torch.Generator().manual_seed(2)),
    }
fig, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharex=True, sharey=True)
for ax, (name, cloud), color in zip(axes, clouds.items(), (plots.OTHER, plots.STRAIGHT, plots.GEODESIC), strict=True):
    axis = torch.linalg.eigvalsh(cloud.unflatten(-1, (3, 3))).sqrt()
    ax.loglog(axis[:, 0], axis[:, 2], ".", color=color, alpha=0.6)
    ax.set(title=name, xlabel="shortest axis (deviations)", xlim=(0.01, 2), ylim=(0.2, 10))
axes[0].set_ylabel("longest axis (deviations)")

# %%
# The number to check: negative log-likelihoods of held-out matrices, in nats with respect to the Riemannian volume.

figures = flow.evaluate(held_out)
with torch.no_grad():
    gain = flow.log_prob(held_out) - base.log_prob(held_out)
error = float(gain.std()) / len(gain) ** 0.5
print(
    f"base {-base.log_prob(held_out).mean():.3f}, flow {figures['nll encoder']:.3f} (decoder {figures['nll decoder']:.3f})"
)
print(
    f"gain {gain.mean():.3f} ± {error:.3f} nats; all samples are positive definite: {bool(space.contains(flow.sample(99)).all())}"
)
assert flow.verdict(figures) is None
assert gain.mean() > 3 * error

plt.show()
