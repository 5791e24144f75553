"""
A FrEIA network as a density
============================

Somebody has built an invertible network with FrEIA, and now wants what comes after: a likelihood to trust, training that
stops by itself, samples, a file. Can the network stay as it is?
"""

# %%
# The network
# -----------
# Four couplings of both halves, with a learned scale at the end, and a condition: on which of the two moons a row is. It is
# plain FrEIA, and knows nothing of this library.

import FrEIA.framework as ff
import FrEIA.modules as fm
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from geoflow import ChainBijection, Flow, Standardize, StandardNormal, datasets, fit, plots
from geoflow.flows import realnvp
from geoflow.interop import from_freia, zoo
from geoflow.nets import MLP


def subnet(inputs: int, outputs: int) -> nn.Module:
    return MLP(inputs, outputs, (64, 64), "silu", zero_last=True)


torch.manual_seed(0)
inn = ff.SequenceINN(2)
for _ in range(4):
    inn.append(fm.GLOWCouplingBlock, cond=0, cond_shape=(1,), subnet_constructor=subnet)
inn.append(fm.LearnedElementwiseScaling)

# %%
# One line around it
# ------------------
# FrEIA's forward is our encode: from data to codes. The base is for us to choose. A `Standardize` in front takes mean and
# deviation from the training rows, so that log p is in the units of the data and no `ActNorm` is needed.

flow = Flow(ChainBijection(Standardize(2), from_freia(inn)), StandardNormal(2))
print(f"a condition of width {flow.context_dim}")

data, fresh = datasets.two_moons(3000), datasets.two_moons(10_000, seed=1)


def side(labels: Tensor) -> Tensor:
    """The label as a float row, which is what FrEIA conditions on."""
    return 2.0 * labels[:, None].float() - 1


print(fit(flow, data.x, side(data.labels), epochs=30, lr=1e-2, seed=0, progress=False))

# %%
# What the adapter puts right
# ---------------------------
# There and back, the log-dets must cancel. FrEIA's own do not: its `LearnedElementwiseScaling` gives the log-det of the
# way there on the way back too. Collected block by block, they do.

x, c = fresh.x[:500], side(fresh.labels[:500])
with torch.no_grad():
    z, there = inn(x, c=[c])
    _, back = inn(z, c=[c], rev=True)
    print(f"FrEIA: log-dets there and back add up to {(there + back).abs().max():.1e}")
    bijection = flow.bijection.parts[1]
    z, there = bijection.encode_and_log_det(x, c)
    again, back = bijection.decode_and_log_det(z, c)
    print(f"here:  log-dets there and back add up to {(there + back).abs().max():.1e}")
    print(f"       decode undoes encode up to {(again - x).abs().max():.1e}")
assert (there + back).abs().max() < 1e-4
assert (again - x).abs().max() < 1e-4

# %%
# Beside others
# -------------
# `zoo` makes networks of FrEIA's and normflows' blocks by name, standardised and ready to train, and from files; on the
# command line they are ``geoflow fit --model freia/allinone``. Our own couplings are trained likewise. All have eight
# couplings of the same width (a block of both halves has two), the same rows, and as many passes over them.

rivals = {
    "freia/allinone": zoo("freia/allinone", 2, context=1, depth=8, activation="silu"),
    "our realnvp": realnvp(2, context=1, depth=8, activation="silu"),
}
for rival in rivals.values():
    fit(rival, data.x, side(data.labels), epochs=30, lr=1e-2, seed=0, progress=False)

# %%
# The density of either moon under the truth, under the wrapped network, and samples of it:

fig, axes = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained", sharex=True, sharey=True)
for label, color in ((0, plots.GEODESIC), (1, plots.STRAIGHT)):
    rows = fresh.x[fresh.labels == label]
    drawn = flow.sample(800, side(torch.tensor([label]))[0], torch.Generator().manual_seed(label))
    plots.plot_samples(rows[:800], axes[0], color=color, s=6, label=f"moon {label}")
    plots.plot_samples(drawn, axes[2], color=color, s=6)
steps = torch.linspace(-2, 3, 200), torch.linspace(-1.5, 2, 150)
grid = torch.cartesian_prod(*steps)
with torch.no_grad():
    both = torch.stack([flow.log_prob(grid, side(torch.tensor([k]))) for k in (0, 1)])
    log_p = both.logsumexp(0) - torch.log(torch.tensor(2.0))
axes[1].contourf(*steps, log_p.view(200, 150).T.clamp_min(-8), 24, cmap="Greys")
for ax, title in zip(axes, ("fresh rows", "log p, both moons together", "samples"), strict=True):
    ax.set(title=title, aspect="equal", xlim=(-1.6, 2.6), ylim=(-1.1, 1.6))
axes[0].legend(frameon=False, markerscale=3)

# %%
# The number to check: on fresh rows, how many nats each loses to the truth on the same rows. The truth of a row whose moon
# is known is that of both moons together plus log 2, up to the few rows that could be of either.

truth = data.density.log_prob(fresh.x) + torch.log(torch.tensor(2.0))
with torch.no_grad():
    for name, model in {"FrEIA network": flow, **rivals}.items():
        lost = truth - model.log_prob(fresh.x, side(fresh.labels))
        noise = lost.std() / len(lost) ** 0.5
        print(f"{name}: {lost.mean():.3f} ± {noise:.3f} nats short of the truth")
        assert -3 * noise < lost.mean() < 0.1

plt.show()
