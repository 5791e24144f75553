"""Whole free-form flows in one line: for tables, for curved spaces, and with a bottleneck."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from geoflow.columns import Standardize
from geoflow.density import Density
from geoflow.distributions import StandardNormal
from geoflow.freeform.bases import default_base
from geoflow.freeform.charts import FromOrigin, OnCircles
from geoflow.freeform.model import FreeFormFlow
from geoflow.maps import Autoencoder, Chain, Pair
from geoflow.nets import ConvDecoder, ConvEncoder, ResidualNet
from manifolds import Hyperboloid, Manifold, PoincareBall, Torus

Beta = float | Literal["auto"] | Sequence[float]
"""Of `FreeFormFlow`: a weight of reconstruction, or two bounds of it."""


def fff(
    dim: int,
    *,
    context: int = 0,
    width: int = 128,
    blocks: int = 4,
    base: Density | None = None,
    beta: Beta = 10.0,
    **options: Any,
) -> FreeFormFlow:
    """A free-form flow for tables: residual networks both ways on standardised data. [draxler2024]

    Untrained, after `prepare`, it is the diagonal Gaussian of the data, for both networks start as the identity.

    Args:
        dim: number of columns.
        context: width of a float condition, 0 for none; used as given: scale it to about one.
        width, blocks: of the networks (see `ResidualNet`).
        base: the latent density; None is the standard normal.
        beta: weight of the reconstruction in standardised units.
        options: of `FreeFormFlow`.

    >>> import torch
    >>> fff(3, width=16).log_prob(torch.zeros(3)).detach()
    tensor(-2.7568)
    """
    nets = _residual(dim, dim, width, blocks, context, beta)
    base = StandardNormal(dim) if base is None else base
    return FreeFormFlow(Chain(Standardize(dim), nets), base, beta=beta, **options)


def mfff(
    space: Manifold,
    *,
    context: int = 0,
    width: int = 128,
    blocks: int = 4,
    base: Density | None = None,
    beta: Beta = 100.0,
    **options: Any,
) -> FreeFormFlow:
    """A free-form flow on a curved space: residual networks in its coordinates, projected. [sorrenson2024m]

    Both networks start as the identity: untrained the density is the base's, and a base that is fitted to data by
    `prepare`, as a `Mixture`, is the start of the training. Angles enter and leave as points of circles, points of
    hyperbolic spaces as tangent vectors at the origin (see `OnCircles` and `FromOrigin`).

    Args:
        space: where data and base live.
        context: width of a float condition, 0 for none.
        width, blocks: of the networks (see `ResidualNet`).
        base: a density on the space; None is uniform where the volume is finite, else normal around the origin.
        beta: weight of the reconstruction: 100 to 10,000, the more the finer the data's structure.
        options: of `FreeFormFlow`.

    >>> import torch
    >>> from manifolds import Sphere
    >>> mfff(Sphere(2), width=16).log_prob(torch.tensor([0.0, 0.0, 1.0])).detach()
    tensor(-2.5310)
    """

    def residual(n: int) -> Pair:
        return _residual(n, n, width, blocks, context, beta)

    nets: Autoencoder
    if isinstance(space, Torus) and not space.embedded:
        nets = OnCircles(residual(2 * space.ambient_dim))
    elif isinstance(space, PoincareBall | Hyperboloid):
        nets = FromOrigin(residual(space.dim), space)
    else:
        nets = residual(space.ambient_dim)
    return FreeFormFlow(nets, default_base(space, "mfff") if base is None else base, beta=beta, **options)


def mlae(
    dim: int,
    latent: int,
    *,
    image_shape: Sequence[int] | None = None,
    width: int = 128,
    blocks: int = 2,
    channels: Sequence[int] = (16, 32, 64),
    base: Density | None = None,
    beta: Beta = 10.0,
    noise: float = 0.01,
    **options: Any,
) -> FreeFormFlow:
    """A maximum likelihood auto-encoder: fewer latent than data coordinates. [sorrenson2024]

    Args:
        dim: number of columns or pixels.
        latent: number of latent coordinates.
        image_shape: (C, H, W) for convolutional networks on flat images, standardised by one factor; None for residual
            networks on columns standardised each by itself.
        width, blocks: of residual networks.
        channels: of convolutional ones.
        base: the latent density; None is the standard normal.
        beta: weight of the reconstruction in standardised units.
        noise: of the data in training, in standardised units.
        options: of `FreeFormFlow`.

    >>> mlae(5, 2).sample(3).shape
    torch.Size([3, 5])
    """
    if image_shape is None:
        nets = _residual(dim, latent, width, blocks, 0, beta)
    else:
        encoder = ConvEncoder(image_shape, latent, channels)
        nets = Pair(encoder, ConvDecoder(latent, image_shape, channels), dim=dim, latent_dim=latent)
    scale = Standardize(dim, "column" if image_shape is None else "all")
    base = StandardNormal(latent) if base is None else base
    return FreeFormFlow(Chain(scale, nets), base, beta=beta, noise=noise, **options)


def _residual(dim: int, latent: int, width: int, blocks: int, context: int, beta: Beta) -> Pair:
    context += not isinstance(beta, str | float | int)  # networks are told a weight that is drawn
    there, back = (
        ResidualNet(a, b, width, blocks, activation="silu", context=context) for a, b in ((dim, latent), (latent, dim))
    )
    both: tuple[nn.Module, nn.Module] = (there, back)
    return Pair(*both, dim=dim, latent_dim=latent, context_dim=context)
