"""
One question, many answers: a conditional flow
==============================================

A robot's arm has to reach a point. Which angles bring it there? There are many, in two kinds, elbow up or elbow down, and a
regression that answers with their mean reaches none of them. A conditional density gives all of them, each with its
likelihood.
"""

# %%
# The forward question is easy
# ----------------------------
# The base slides up and down a rail, three joints turn: four numbers, of which small ones are likelier. Where the hand is
# follows in a line, and is measured with an error of 0.1. Ardizzone et al. (2019) ask it of such an arm.

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from geoflow import DiagonalNormal, fit
from geoflow.flows import nsf

LENGTHS, SPREAD, ERROR = torch.tensor([0.5, 0.5, 1.0]), torch.tensor([0.25, 0.8, 0.8, 0.8]), 0.1


def joints(x: Tensor) -> Tensor:
    """The four joints of arms ``(n, 4)``, the last the hand: ``(n, 4, 2)``."""
    turns = x[:, 1:].cumsum(1)
    steps = torch.stack([LENGTHS * turns.cos(), LENGTHS * turns.sin()], -1)
    start = torch.stack([torch.zeros(len(x)), x[:, 0]], -1)[:, None]
    return torch.cat([start, start + steps.cumsum(1)], 1)


def simulate(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = SPREAD * torch.randn(n, 4, generator=generator)
    return x, joints(x)[:, -1] + ERROR * torch.randn(n, 2, generator=generator)


x, seen = simulate(12_000, seed=0)

# %%
# The way back
# ------------
# Each layer of the flow is told where the hand was seen. (A condition of hundreds of numbers would go through a network
# first that all layers share: `geoflow.embedded.Embedded`.)

torch.manual_seed(0)
flow = nsf(4, context=2, depth=4, hidden=(96, 96))
history = fit(flow, x, seen, epochs=24, batch_size=256, lr=5e-3, seed=0)
print(history)

# %%
# Is it any good?
# ---------------
# If draws come from the true posterior, then among them the angles that really were have any rank equally often, whatever
# was seen: nine in ten lie between the draws' 5 % and 95 % quantiles. (`check(flow, x_test, seen_test)` asks this and more.)

x_test, seen_test = simulate(2000, seed=1)
draws = flow.sample(100, context=seen_test, generator=torch.Generator().manual_seed(2))  # (100, 2000, 4)
below = (draws < x_test).float().mean(0)
inside = ((below > 0.05) & (below < 0.95)).float().mean(0)
print("inside the 90 % interval, column by column:", [f"{share:.3f}" for share in inside.tolist()])
gain = (flow.log_prob(x_test, seen_test) - DiagonalNormal.from_data(x).log_prob(x_test)).mean()
print(f"seeing the hand is worth {gain:.2f} nats about the arm")

# %%
# All arms that reach a place
# ---------------------------
# One call draws as many answers as are asked for; simulated again, they should end where the hand was seen. The arm whose
# angles are the mean of the answers does not.

places = torch.tensor([[1.4, 0.0], [1.2, 1.0]])
answers = flow.sample(400, context=places, generator=torch.Generator().manual_seed(2))  # (400, 2, 4)
figure, axes = plt.subplots(1, 2, figsize=(9, 5), sharey=True, layout="constrained")
off = []
for ax, place, arms in zip(axes, places, answers.unbind(1), strict=True):
    drawn, mean = joints(arms), joints(arms.mean(0, keepdim=True))[0]
    off.append((drawn[:, -1] - place).norm(dim=1))
    for arm in drawn[:60]:
        ax.plot(*arm.T, color="tab:blue", alpha=0.15, linewidth=1)
    ax.plot(*mean.T, color="tab:red", linewidth=2, label=f"mean of the answers: {(mean[-1] - place).norm():.2f} off")
    ax.plot(*place, "k+", markersize=14, label=f"hand seen here; draws {off[-1].median():.3f} off")
    ax.set(aspect="equal", xlim=(-0.1, 2.1), ylim=(-1.1, 1.5))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=8)
figure.suptitle("Draws of the arm, given where its hand was seen")
plt.show()
off = float(torch.cat(off).median())
print(f"median distance of the hand from where it was seen: {off:.3f}; that of the measurement is {1.18 * ERROR:.3f}")
