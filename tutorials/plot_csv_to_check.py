"""
From a CSV file to a density that was checked
=============================================

A file of numbers with a header, and one question: how likely is a row? A flow answers within seconds. The other half of
the work is to find out whether the answer deserves to be believed.
"""

# %%
# A file
# ------
# It might have come from anywhere. This one holds the measurements of cell nuclei that scikit-learn ships: ten means of
# 569 samples of tissue, in their own units, with an identity that says nothing.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer

from geoflow import Bounded, plots
from geoflow.diagnostics import check
from geoflow.distributions import StudentT
from geoflow.interop import FlowDensity

bunch = load_breast_cancer(as_frame=True)
path = Path(tempfile.mkdtemp()) / "nuclei.csv"
bunch.data.iloc[:, :7].rename_axis("sample").to_csv(path)
print(path.read_text()[:200])

# %%
# Look before you fit
# -------------------
# A density needs columns that vary continuously and say something new. An identity does neither. Radius, perimeter and area
# are nearly one number: the density would be a sheet, and its height say more about rounding than about tissue. Rows that
# hold a zero are samples in which nothing was found: a dozen of them in one place would be a spike.

table = pd.read_csv(path).drop(columns=["sample", "mean perimeter", "mean area"])
table = table[(table > 0).all(axis=1)].sample(frac=1, random_state=0)
held_out, train = table.iloc[:200], table.iloc[200:]
print(table.describe().loc[["count", "mean", "std", "min", "max"]].round(3))

# %%
# Fit, and ask
# ------------
# The estimator takes the frame as it is, standardises inside, and keeps some of the training rows apart to know when to
# stop; below 500 rows it chooses a small flow by itself. Then `check` asks what one should ask, on rows that the flow has
# not seen: is a mixture of Gaussians as good, does the density integrate to one, can samples be told from rows?

first = FlowDensity(patience=5, random_state=0).fit(train)
print(first.history_)
found = check(first.model_, held_out, train=train, permutations=0)
print(found)

# %%
# What it cannot find
# -------------------
# No line is bad. But `check` knows the rows, not what they mean: a nucleus has no negative concavity, and the flow does not
# know.


def impossible(model: FlowDensity) -> float:
    """Share of samples with a value below zero."""
    return float((model.sample(5000, random_state=0) < 0).any(axis=1).mean())


print(f"impossible samples: {impossible(first):.1%}")

# %%
# Say what you know
# -----------------
# Bounds take each column to a line without end and log p back to the units of the file, so that both densities compare. The
# tails of a flow are those of its base: Student's t instead of the normal one expects the odd far row, of which tables like
# this have a few.

n = table.shape[1]
options = {"bounds": Bounded([0.0] * n, [None] * n), "base": StudentT(n)}
second = FlowDensity(options=options, patience=5, random_state=0).fit(train)
again = check(second.model_, held_out, train=train, permutations=0)
print(again)

# %%
# Rows, by how likely they are
# ----------------------------
# The least likely rows of a table are those to look at again: mistakes, or patients.

log_p = pd.Series(second.score_samples(held_out), held_out.index, name="log p")
print(held_out.join(log_p).sort_values("log p").round(3).iloc[[0, 1, 2, -2, -1]])

fig = plt.figure(figsize=(12, 3.8), layout="constrained")
*panels, last = fig.subplots(1, 3)
across, up = "mean concavity", "mean compactness"
for ax, (title, model) in zip(panels, {"as the rows come": first, "with bounds": second}.items(), strict=True):
    drawn = pd.DataFrame(model.sample(1500, random_state=1), columns=table.columns)
    ax.plot(drawn[across], drawn[up], ".", color="0.8", markersize=4, label="samples")
    dots = ax.scatter(held_out[across], held_out[up], c=log_p, s=12, cmap="viridis", label="held-out rows", zorder=3)
    ax.axvline(0, color=plots.OTHER, linewidth=1)
    ax.set(title=title, xlabel=across, ylabel=up, xlim=(-0.1, 0.4), ylim=(-0.02, 0.35))
panels[0].legend(loc="upper left")
fig.colorbar(dots, ax=panels, label="log p of the rows (nats)")
curve = again["coverage, largest gap"].drawing
last.plot([0, 1], [0, 1], color="0.7", linewidth=1)
last.plot(curve["alpha"], curve["inside"], color=plots.GEODESIC)
last.set(
    title="coverage, with bounds", xlabel="mass of the highest-density set", ylabel="share of held-out rows inside"
)

# %%
# The numbers to check: no more impossible samples, a likelihood that is no lower, and a lead over the best simple model.

lead = again["held-out log p"].details
print(f"impossible samples: {impossible(first):.1%} -> {impossible(second):.1%}")
print(
    f"log p {found['held-out log p'].figure:.2f} -> {again['held-out log p'].figure:.2f} nats a row, "
    f"over the best simple model {lead['lead']:+.2f} ± {lead['lead error']:.2f}"
)
assert impossible(second) == 0
assert again.ok

plt.show()
