"""Directions of codes along which an attribute of the data grows, and data moved along them."""

from typing import Any

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.autoencoders.posteriors import posterior_of
from geoflow.density import reference
from geoflow.maps import Autoencoder


def attribute_direction(
    autoencoder: Autoencoder,
    x: Tensor,
    attribute: Any,
    *,
    ridge: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The direction ``(latent_dim,)`` of codes along which an attribute grows by one.

    Of an attribute that rows have or have not, the difference of mean codes, E encode(x | a = 1) − E encode(x | a = 0).
    With `ridge`, and of any number, the gradient of a linear fit a ≈ w · z + b, divided by its square:
    w / |w|², w = (C + ridge · tr C / m)⁻¹ cov(z, a), C = cov(z). The first moves along with what else differs between the
    two, the second, like a partial derivative, as little of it as the codes allow.

    Args:
        autoencoder: its `encode` is taken, without draws; with `ridge` codes of a stochastic encoder are drawn. Where a
            dimension has collapsed its mean still tells a little, in tiny moves that decode ignores: a fit to means
            would go that way.
        x: rows ``(n, dim)``.
        attribute: ``(n,)``, booleans or zeros and ones; numbers with `ridge`.
        ridge: share of the codes' mean variance added to each.
        generator: of these draws.
    """
    _checked(autoencoder, "attribute_direction")
    x = validate.points(x, autoencoder.dim, "attribute_direction", like=reference(autoencoder))
    a = validate.finite(torch.as_tensor(attribute).to(x), "attribute_direction", "attribute")
    if x.ndim != 2 or a.shape != x.shape[:1]:
        raise ValueError(f"attribute_direction expects rows (n, dim) and an attribute of each, got {tuple(a.shape)}.")
    if bool((a == a[:1]).all()):
        raise ValueError(
            f"attribute_direction: all {len(a)} rows have the same attribute: there is no direction to it."
        )
    posterior = None if ridge is None else posterior_of(autoencoder)
    with torch.no_grad():
        z = autoencoder.encode(x) if posterior is None else posterior.draw(posterior.numbers(x), generator)[0]
    if ridge is None:
        if not bool(((a == 0) | (a == 1)).all()):
            raise ValueError("attribute_direction expects an attribute of zeros and ones; give ridge= for numbers.")
        return z[a == 1].mean(0) - z[a == 0].mean(0)
    if not ridge >= 0:
        raise ValueError(f"attribute_direction expects ridge >= 0, got {ridge}.")
    off = (z - z.mean(0)).double()
    spread = off.mT @ off / len(z)
    spread.diagonal().add_(ridge * spread.trace() / len(spread))
    w = torch.linalg.lstsq(spread, (off.mT @ (a - a.mean()).double() / len(z))[:, None]).solution[:, 0]
    if not bool((w != 0).any()):
        raise ValueError("attribute_direction: the codes do not vary with the attribute: there is no direction to it.")
    return (w / w.square().sum()).to(z)


def manipulated(autoencoder: Autoencoder, x: Tensor, direction: Any, steps: Any) -> Tensor:
    """decode(encode(x) + t · direction) ``(steps, *batch, dim)`` for each t in `steps`, a tensor, array or list."""
    _checked(autoencoder, "manipulated")
    direction, steps = torch.as_tensor(direction), torch.as_tensor(steps)
    if direction.shape != (autoencoder.latent_dim,):
        raise ValueError(
            f"manipulated expects a direction of {autoencoder.latent_dim} numbers, got shape {tuple(direction.shape)}."
        )
    with torch.no_grad():
        z = autoencoder.encode(x)
        along = steps.to(z).reshape(-1, *(1 for _ in z.shape))
        return autoencoder.decode(z + along * direction.to(z))


def _checked(autoencoder: Any, who: str) -> None:
    if not isinstance(autoencoder, Autoencoder):
        raise TypeError(
            f"{who} expects an Autoencoder, got {type(autoencoder).__name__}: that of a model is model.autoencoder."
        )
