"""`LatentSpace`: distances between codes, and paths that run in the latent and are decoded."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.distances.fermat import FermatSpace
from geoflow.distances.paths.geodesics import Solution
from geoflow.maps import Autoencoder
from geoflow.registry import register
from manifolds import Manifold


@register
class LatentSpace(nn.Module):
    """The space that data inherit from their codes: d(x, y) = d_latent(encode(x), encode(y)).

    ``LatentSpace(flow.bijection, Euclidean(dim))`` is the flat pullback, whose geodesics are decoded straight lines;
    ``LatentSpace(autoencoder, FermatSpace(prior))`` keeps to where codes are likely, and serves models that have a density
    in the latent alone. Where decode does not undo encode, points with one code are at distance zero, and geodesics join
    the reconstructions of their ends.

    Args:
        autoencoder: data ↔ latent, without context.
        space: of the codes, a manifold or a `FermatSpace`. Codes are projected to it.

    Cost: that of `space`, and one pass of the encoder; of paths also one of the decoder for each node.

    >>> from geoflow.flows import realnvp
    >>> from manifolds import Euclidean
    >>> flow = realnvp(3)
    >>> LatentSpace(flow.bijection, Euclidean(3)).dist(torch.zeros(3), torch.ones(3)).shape
    torch.Size([])
    """

    autoencoder: Autoencoder
    space: Any

    def __init__(self, autoencoder: Any, space: Any) -> None:
        super().__init__()
        if not isinstance(autoencoder, Autoencoder):
            raise TypeError(
                f"LatentSpace expects an Autoencoder, got {type(autoencoder).__name__}: of a model pass its .autoencoder."
            )
        if autoencoder.context_dim or autoencoder.classes:
            raise ValueError(
                "LatentSpace: codes under a condition make a space per condition: pass maps without context."
            )
        if not isinstance(space, Manifold | FermatSpace):
            raise TypeError(f"LatentSpace expects a manifold or a FermatSpace, got {type(space).__name__}.")
        self.autoencoder, self.space = autoencoder, space
        if self._codes().ambient_dim != autoencoder.latent_dim:
            raise ValueError(
                f"LatentSpace: the auto-encoder has {autoencoder.latent_dim} latent coordinates, the space "
                f"{self._codes().ambient_dim}."
            )

    def encode(self, x: Tensor) -> Tensor:
        """Data ``(*batch, dim)`` → codes on the latent's space ``(*batch, latent_dim)``."""
        return self._codes().project(self.autoencoder.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """Codes ``(*batch, latent_dim)`` → data ``(*batch, dim)``."""
        return self.autoencoder.decode(z)

    def dist(self, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        """Distances ``(*batch)`` of the codes, differentiable in x and y; options as of the latent's `dist`."""
        return self.space.dist(*self._ends(x, y, "dist"), **options)

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor | float) -> Tensor:
        """The decoded point at fraction `t` of the way between the codes; `t` broadcasts with the batch."""
        a, b = self._ends(x, y, "geodesic")
        return self.decode(self.space.geodesic(a, b, torch.as_tensor(t, dtype=a.dtype, device=a.device)))

    @torch.no_grad()
    def solve(self, x: Tensor, y: Tensor, **options: Any) -> Solution:
        """`FermatSpace.solve` between the codes, with the path decoded, ``(*batch, M+1, dim)``."""
        found = self._fermat("solve").solve(*self._ends(x, y, "solve"), **options)
        return replace(found, path=self.decode(found.path))

    @torch.no_grad()
    def pairwise(self, x: Tensor, y: Tensor | None = None, **options: Any) -> Tensor:
        """`FermatSpace.pairwise` of the codes of rows ``(n, dim)`` and ``(m, dim)``."""
        return self._fermat("pairwise").pairwise(self.encode(x), None if y is None else self.encode(y), **options)

    @torch.no_grad()
    def knn(self, q: Tensor, k: int, **options: Any) -> tuple[Tensor, Tensor]:
        """`FermatSpace.knn` of the codes of queries ``(m, dim)``, among the points that the latent's space holds."""
        return self._fermat("knn").knn(self.encode(q), k, **options)

    def _ends(self, x: Tensor, y: Tensor, verb: str) -> tuple[Tensor, Tensor]:
        """The codes of two ends that broadcast."""
        a, b = self.encode(x), self.encode(y)
        try:
            torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"LatentSpace.{verb}: x {tuple(x.shape)} and y {tuple(y.shape)} do not broadcast."
            ) from None
        return a, b

    def _codes(self) -> Manifold:
        """Where codes lie."""
        return self.space if isinstance(self.space, Manifold) else self.space.space  # type: ignore[no-any-return]

    def _fermat(self, verb: str) -> FermatSpace:
        if isinstance(self.space, Manifold):
            raise NotImplementedError(
                f"LatentSpace.{verb}: {self.space!r} has closed forms: use dist(x[:, None], y) and geodesic(x, y, t)."
            )
        return self.space  # type: ignore[no-any-return]
