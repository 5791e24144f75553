"""
From a table to a geodesic
==========================

A CSV as it comes: a header, an id, a text column, blank cells, columns in different units. What is the density of its
rows, can it be trusted, and what lies between two of them?

Every step here is also a command, named in the text.
"""

# %%
# A raw table
# -----------
# Tumours measured under the microscope (scikit-learn's breast cancer data). We write five of the columns to a CSV, as
# somebody might send it.

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from geoflow import FermatSpace, GaussianMixture, check, datasets, fit, plots, tables
from geoflow.flows import realnvp
from manifolds import Euclidean

data = datasets.breast_cancer()
columns = ["mean radius", "mean texture", "mean smoothness", "mean concavity", "mean symmetry"]
x = data.x[:, [data.columns.index(name) for name in columns]].tolist()
path = Path(tempfile.mkdtemp()) / "tumours.csv"
with open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", *columns, "diagnosis"])
    for i, (row, label) in enumerate(zip(x, data.labels.tolist(), strict=True)):
        cells = [f"{v:.5g}" for v in row]
        if i % 50 == 3:
            cells[1] = ""  # somebody forgot to measure the texture
        writer.writerow([1000 + i, *cells, ("malignant", "benign")[label]])
print(path.read_text()[:250])

# %%
# Only numbers are data. What is in the way is said in one line, with the flag that helps:

raw = tables.read(path)
for options in ({}, {"drop": ["diagnosis"]}):
    try:
        tables.choose(raw, **options)
    except ValueError as error:
        print(str(error).replace(str(path), path.name))

table = tables.choose(raw, drop=["id", "diagnosis"], missing="drop")
print(f"{len(table.values)} rows, {table.dropped} left out for blank cells; columns {table.columns}")

# %%
# The command would be ``geoflow fit tumours.csv --drop id,diagnosis --missing drop``.
#
# A density
# ---------
# A fifth of the rows is held out, and never used until the end. RealNVP standardises inside; its base is a mixture of
# Gaussians, since a few hundred rows are too few for a flow to learn several clusters from one.

rows = torch.as_tensor(table.values, dtype=torch.float32)
malignant = torch.tensor([raw.cells[-1][i] == "malignant" for i in table.rows])
order = torch.as_tensor(np.random.default_rng(0).permutation(len(rows)))
held_out, train = order[: len(rows) // 5], order[len(rows) // 5 :]

torch.manual_seed(0)
flow = realnvp(5, activation="silu", depth=4, hidden=(32, 32), base=GaussianMixture(5, 3))
history = fit(flow, rows[train], lr=1e-3, seed=0, progress=False)
print(history)

# %%
# Is it any good? (``geoflow check``) Each line has a figure, a threshold and a sentence.

honest = check(flow, rows[held_out], train=rows[train], permutations=20)
print(honest)

# %%
# What lies between two tumours?
# ------------------------------
# Lengths of a table in mixed units mean little, so distances are measured with every column divided by its standard
# deviation; in that space a density makes ``ds = (p / p0)^(-1/5) |dx|``. Its geodesics keep to where tumours are.

flow = flow.double()
points = rows[train].double()
space = FermatSpace(flow, points, reference="mean", space=Euclidean(5, scale=points.std(0)))
concavity = points[:, 3]
a = points[torch.where(malignant[train], concavity, -torch.inf).argmax()]
b = points[torch.where(malignant[train], torch.inf, concavity).argmin()]
solution = space.solve(a, b, max_iter=300)
line = a + torch.linspace(0, 1, solution.path.shape[0], dtype=a.dtype)[:, None] * (b - a)

print(f"straight: {space.space.dist(a, b):.2f}")
print(f"Fermat:   {solution.length:.2f} along the geodesic (converged: {bool(solution.converged)})")
print(f"          {space.dist(a, b, method='line'):.2f} along the straight line")

# %%
# From the malignant tumour with the largest concavity to a benign one with the smallest: two of the five columns, and
# log p on the way (``geoflow dist ... --paths paths.csv`` writes the points).

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for which, color, name in ((malignant[train], plots.INK, "malignant"), (~malignant[train], plots.OTHER, "benign")):
    plots.plot_samples(points[which], left, columns=(0, 3), names=columns, color=color, label=name, s=10)
plots.plot_geodesics(solution, left, columns=(0, 3))
left.legend(frameon=False)
plots.plot_along(flow, {"geodesic": solution.path, "straight line": line}, right)

# %%
# The number to check: on the average of the way, what lies between is about two nats likelier along the geodesic, that
# is some seven times as likely; and the way is shorter where length counts by density.

on_path, on_line = flow.log_prob(solution.path).mean(), flow.log_prob(line).mean()
print(f"mean log p on the way: geodesic {on_path:.1f}, straight line {on_line:.1f} nats")
assert on_path > on_line + 1
assert solution.length <= space.dist(a, b, method="line") * (1 + 1e-6)

plt.show()
