"""The two maps of a free-form flow, projected onto its spaces, and which derivatives they have."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from geoflow.carried import Coded
from geoflow.density import Context, Density, given
from geoflow.freeform.drawn import DrawnBeta
from geoflow.freeform.surrogate import Kind, forward_failure
from geoflow.maps import Autoencoder
from manifolds import Euclidean, checks

Map = Callable[[Tensor], Tensor]


class Projected(Coded):
    """Any auto-encoder between the spaces of data and base: what it gives is projected onto them.

    Attributes:
        autoencoder: between coordinates of points.
        drawn: the β that the networks are told, or None.
        surrogate: which needs derivatives of derivatives.
    """

    autoencoder: Autoencoder
    drawn: DrawnBeta | None
    surrogate: Kind

    def __init__(self) -> None:
        super().__init__()
        self._forward: tuple[bool, bool] | None = None
        self._plain_attention = False

    @property
    def bottleneck(self) -> bool:
        """Whether there are fewer latent than data coordinates."""
        return self.autoencoder.latent_dim < self.autoencoder.dim

    def _to_latent(self, context: Context) -> Map:
        """Data → codes on the base's space; blind to what is normal to the data's."""
        if self.bottleneck or isinstance(self.space, Euclidean):
            return self._onto(self.base, lambda x: self.autoencoder._encode(x, self._own(x, context)))
        space = self.space
        return self._onto(self.base, lambda x: self.autoencoder._encode(space._project(x), self._own(x, context)))

    def _to_data(self, context: Context) -> Map:
        """Codes → data on the space."""
        return self._onto(self, lambda z: self.autoencoder._decode(z, self._own(z, context)))

    def _own(self, x: Tensor, context: Context) -> Tensor | None:
        if self.drawn is None:
            return given(self.autoencoder, context)
        return self.drawn.beside(context if self.autoencoder.context_dim > 1 else None, x)

    def _onto(self, home: Density, f: Map) -> Map:
        flat, plain = isinstance(home.space, Euclidean), self._plain_attention

        def projected(x: Tensor) -> Tensor:
            with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
                return f(x) if flat else home.space._project(f(x))

        return projected

    @staticmethod
    def _of_width(found: Tensor, n: int, width: int, verb: str) -> Tensor:
        """What a network gave, if it is as wide as it was said to be."""
        if found.shape != (n, width):
            raise ValueError(
                f"FreeFormFlow: {verb} gave shape {tuple(found.shape)} for {n} rows, expected ({n}, {width}): flatten what "
                "the network returns, or correct the auto-encoder's dim and latent_dim."
            )
        return found

    def _carry(self, z: Tensor, context: Context) -> Tensor:
        return self._to_data(context)(z)

    def _maps(self) -> Autoencoder:
        return self.autoencoder

    def _code(self, x: Tensor, context: Context) -> Tensor:
        return self._to_latent(context)(x)

    def _has_forward(self, x: Tensor, context: Context) -> tuple[bool, bool]:
        """Whether the networks have the forward derivatives that training, and that exact densities and scores take.

        Found out at the first rows, with a warning if not. Fused attention has none: networks without them are then run
        with the plain kernel, which has more.
        """
        if self._forward is not None or checks.tracing(x) or not x.numel():
            return self._forward or (True, True)
        rows = x.detach().reshape(-1, self.dim)[:2]
        own = None if context is None else context.reshape(-1, *context.shape[x.ndim - 1 :])[:2]
        first: str | None = None
        for self._plain_attention in (False, True):
            f, g = self._to_latent(own), self._to_data(own)
            with torch.no_grad():
                codes = self._of_width(f(rows), len(rows), self.base.dim, "encode")
                self._of_width(g(codes), len(rows), self.dim, "decode")
            trained = forward_failure(g, codes, self.surrogate != "encoder")
            known = forward_failure(f, rows, True) or forward_failure(g, codes, True)
            why = trained or known
            first = first or why
            if why is None:
                break
        if first is not None:
            cure = "the plain kernel of attention takes its place"
            if why is not None:
                cure = "backward passes take their place, which cost more"
            warnings.warn(
                f"FreeFormFlow: an operation of the networks lacks forward derivatives ({first}): {cure}.", stacklevel=4
            )
        self._forward = trained is None, known is None
        return self._forward
