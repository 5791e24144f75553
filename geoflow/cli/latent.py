"""Latent models by the words for them: how they are built for a table, which rows they take, and what is said of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from geoflow.autoencoders import LatentModel, Multinomial, recipes
from geoflow.density import Sampler

CODES = 16
"""Most codes that are taken where nobody says how many."""
CONTINUOUS: dict[str, Any] = {"cost": "gaussian", "standardize": True}

RECIPES: dict[str, Callable[..., LatentModel]] = {
    "vae": partial(recipes.vae, **CONTINUOUS),
    "gmvae": partial(recipes.gmvae, **CONTINUOUS),
    "vampprior": partial(recipes.vampprior, **CONTINUOUS),
    "dirichlet-vae": recipes.dirichlet_vae,
    "wae-mmd": partial(recipes.wae_mmd, standardize=True),
    "rae": partial(recipes.rae, standardize=True),
}
"""Columns are numbers on the line, each standardised; only shares are taken as they are."""
MIXED = {"gmvae": 10, "vampprior": 100}
"""Parts of their priors where nobody says how many."""
MMD_WEIGHT = 4.0
"""Of `wae_mmd`, a column: the recipe's 200 is about four times the variance of handwritten digits, summed over pixels."""


def build(settings: dict[str, Any], train: Tensor) -> LatentModel:
    """The model that the settings ask for; by default half as many codes as columns."""
    kind, dim = settings["model"], train.shape[1]
    if dim < 2:
        raise ValueError(f"{kind} needs two columns or more: use --model mixture for one.")
    least = 2 if kind == "dirichlet-vae" else 1
    latent = settings["latent"] or max(least, min(CODES, -(-dim // 2)))
    if latent < least:
        raise ValueError(f"{kind} needs --latent {least} or more: its codes are shares of topics.")
    options: dict[str, Any] = {"activation": settings["activation"]}
    if settings["hidden"] is not None:
        options["hidden"] = settings["hidden"]
    if kind in MIXED:
        options["components"] = min(settings["components"] or MIXED[kind], len(train))
    if kind == "wae-mmd":
        options["weight"] = MMD_WEIGHT * dim
    return RECIPES[kind](dim, latent, **options)


def of_shares(model: Sampler) -> bool:
    """Whether rows are shares that sum to one."""
    return isinstance(model, LatentModel) and isinstance(model.cost, Multinomial)


def shares(rows: Tensor, columns: list[str], who: str) -> Tensor:
    """Rows over their sums; refused in words where they are none."""
    low = rows.amin(0)
    if bool((low < 0).any()):
        j = int(low.argmin())
        raise ValueError(
            f"{who}: column {columns[j]!r} goes down to {float(low[j]):g}, where a dirichlet-vae takes counts or shares, "
            "none below zero, and divides each row by its sum: leave that column out with --drop, or use --model vae."
        )
    total = rows.sum(1, keepdim=True)
    if bool((total == 0).any()):
        raise ValueError(
            f"{who}: {int((total == 0).sum())} rows are zero throughout, and so have no shares: leave them out."
        )
    return rows / total


@torch.no_grad()
def about_codes(model: LatentModel, train: Tensor, rows: Tensor) -> dict[str, Any]:
    """How much of the variance of rows reconstructions leave, and how far their codes are from the prior."""
    own = model.autoencoder
    left = own.residual(rows, own.reconstruct(rows)).square().sum()
    whole = own.residual(rows, train.mean(0).expand_as(rows)).square().sum()
    figures = model.evaluate(rows)
    found: dict[str, Any] = {"number": own.latent_dim, "unexplained": float(left / whole)}
    return found | {name: figures[name] for name in ("mmd of codes", "its null") if name in figures}


def in_words(found: dict[str, Any]) -> str:
    """The same as a line."""
    text = f"{found['number']}; reconstructions leave {found['unexplained']:.1%} of the variance of rows"
    if "its null" in found:
        text += f"; mmd to the prior {found['mmd of codes']:.4f}, within {2 * found['its null']:.4f} by chance"
    return text
