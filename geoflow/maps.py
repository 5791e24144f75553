"""Maps that carry points, and with them densities, between a data space and a latent one: `Autoencoder`, `Bijection`.

`encode` goes x → z and `decode` z → x. A log_det is the log absolute determinant of the map in the method's name.
To write a map give `_encode` and `_decode`; for a bijection `_encode_and_log_det` and `_decode_and_log_det`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.density import Context, Density, given, reference
from geoflow.registry import register
from manifolds.shapes import Values

Data = Float[Tensor, "*#batch data"]
Latent = Float[Tensor, "*#batch latent"]
Turned = Float[Tensor, "_ n"]
"""Points with their coordinates in front."""
Volume = Tensor | None
"""A log-det ``(n,)``, or 0-d if it is the same for all points; None where volumes do not change."""


class Autoencoder(nn.Module, ABC):
    """Carries points between data ``(*batch, dim)`` and latent ``(*batch, latent_dim)``; decode need not undo encode.

    Attributes:
        dim, latent_dim: numbers of coordinates on either side.
        posterior: a conditional density of z given context = x, of which `encode` is the location; or None.
        context_dim, classes: the condition it takes, 0 for none.
    """

    dim: int
    latent_dim: int
    posterior: Density | None
    context_dim: int = 0
    classes: int = 0

    @abstractmethod
    def _encode(self, x: Data, context: Context = None) -> Latent: ...

    @abstractmethod
    def _decode(self, z: Latent, context: Context = None) -> Data: ...

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Data ``(*batch, dim)`` → latent ``(*batch, latent_dim)``."""
        return self._encode(*self._door(x, self.dim, context, "encode"))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Latent ``(*batch, latent_dim)`` → data ``(*batch, dim)``."""
        return self._decode(*self._door(z, self.latent_dim, context, "decode", "z"))

    def reconstruct(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """decode(encode(x))."""
        x, context = self._door(x, self.dim, context, "reconstruct")
        return self._decode(self._encode(x, context), context)

    def residual(self, x: Data, xh: Data) -> Data:
        """How far a reconstruction is off, in the units that reconstruction costs are meant in: xh − x."""
        return xh - x

    def residual_log_det(self) -> Tensor:
        """log|det| of ∂ residual / ∂x̂ ``()``: from densities of residuals to densities of data."""
        return torch.zeros(())

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that only encoding uses, for objectives that train the two sides apart."""
        return iter(())

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what comes from the data before training."""

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set what comes from the data after training."""

    def _door(self, x: Any, size: int, context: Any, verb: str, name: str = "x") -> tuple[Tensor, Tensor | None]:
        who, like = f"{type(self).__name__}.{verb}", reference(self)
        x = validate.points(x, size, who, name, like)
        context = validate.context(context, x.shape[:-1], self.context_dim, self.classes, who, like)
        if context is not None:
            lead = context.shape[:-1] if self.context_dim else context.shape
            batch = torch.broadcast_shapes(x.shape[:-1], lead)
            x, context = x.expand(*batch, size), context.expand((*batch, *context.shape[len(lead) :]))
        return x, context


class Bijection(Autoencoder):
    """An auto-encoder whose decode undoes encode exactly, and which knows its change of volume."""

    posterior: Density | None

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.latent_dim = validate.count(dim, type(self).__name__, "dim", 1)
        self.posterior = None

    @abstractmethod
    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]: ...

    def encode_and_log_det(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z = encode(x) and log|det ∂z/∂x| ``(*batch)``."""
        return self._encode_and_log_det(*self._door(x, self.dim, context, "encode_and_log_det"))

    def decode_and_log_det(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x = decode(z) and log|det ∂x/∂z| ``(*batch)``."""
        return self._decode_and_log_det(*self._door(z, self.dim, context, "decode_and_log_det", "z"))

    def _encode(self, x: Data, context: Context = None) -> Latent:
        return self._encode_and_log_det(x, context)[0]

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return self._decode_and_log_det(z, context)[0]

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        """`_encode_and_log_det` of points with their coordinates in front (see `FeaturesFirst`)."""
        z, log_det = self._encode_and_log_det(x.mT, turned(context))
        return z.mT, log_det

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        x, log_det = self._decode_and_log_det(z.mT, turned(context))
        return x.mT, log_det


class FeaturesFirst(Bijection):
    """A bijection that is written for points with their coordinates in front, x ``(dim, n)``.

    One coordinate of all points then lies together in memory: halves are pieces of it, and what a small network does
    is few and long operations. On tables that is about half of the time of a flow. Write `_encode_turned` and
    `_decode_turned`, with a log-det ``(n,)``, 0-d if it is the same for all points, or None for no change of volume;
    a chain turns its points once.
    """

    @abstractmethod
    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]: ...

    @abstractmethod
    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]: ...

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        return _by_turning(self._encode_turned, x, context)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        return _by_turning(self._decode_turned, z, context)


def _by_turning(
    verb: Callable[[Turned, Context], tuple[Turned, Volume]], x: Tensor, context: Context
) -> tuple[Tensor, Tensor]:
    """The verb at points ``(*batch, dim)``: turned, and back."""
    lead = x.shape[:-1]
    if context is not None:
        context = turned(context.reshape(-1, *context.shape[len(lead) :]))
    y, log_det = verb(x.reshape(-1, x.shape[-1]).mT, context)
    volume = x.new_zeros(lead) if log_det is None else log_det.expand(y.shape[-1]).reshape(lead)
    return y.mT.reshape(*lead, len(y)), volume


def turned(context: Tensor | None) -> Tensor | None:
    """Float conditions with their numbers in front, or the other way; labels as they are."""
    return context if context is None or context.dim() < 2 else context.mT


@register
class Pair(Autoencoder):
    """Two modules as one auto-encoder: ``encoder(x[, context])`` and ``decoder(z[, context])``.

    Args:
        encoder: x → z, or None to encode by the posterior's location.
        decoder: z → x.
        posterior: a density of z conditional on context = x, with a method ``location(x)`` if `encoder` is None.
        dim, latent_dim: numbers of coordinates on either side.
        context_dim, classes: the condition both modules take as a second argument, 0 for none.
    """

    encoder: nn.Module | None
    posterior: Density | None

    def __init__(
        self,
        encoder: nn.Module | None,
        decoder: nn.Module,
        posterior: Density | None = None,
        *,
        dim: int,
        latent_dim: int,
        context_dim: int = 0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if encoder is None and not hasattr(posterior, "location"):
            raise ValueError("Pair expects an encoder, or a posterior with a method `location(x)` to encode by.")
        if posterior is not None and (posterior.context_dim, posterior.dim) != (dim, latent_dim):
            raise ValueError(
                f"Pair expects a posterior of {latent_dim} coordinates given {dim} as context, got one of {posterior.dim} "
                f"given {posterior.context_dim}."
            )
        self.dim, self.latent_dim = dim, latent_dim
        self.context_dim, self.classes = context_dim, classes
        self.encoder, self.decoder, self.posterior = encoder, decoder, posterior

    def _encode(self, x: Data, context: Context = None) -> Latent:
        if self.encoder is None:
            return self.posterior.location(x)  # type: ignore[union-attr, operator]
        z = self.encoder(x) if context is None else self.encoder(x, context)
        return _wide(z, x, self.latent_dim, "encode")

    def _decode(self, z: Latent, context: Context = None) -> Data:
        return _wide(self.decoder(z) if context is None else self.decoder(z, context), z, self.dim, "decode")

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        if self.encoder is not None:
            yield from self.encoder.parameters()
        if self.posterior is not None:
            yield from self.posterior.parameters()


def _wide(found: Tensor, of: Tensor, wanted: int, verb: str) -> Tensor:
    """What a network of a `Pair` gave, if it is as wide as was said: narrower rows would broadcast in costs."""
    if found.shape[-1] != wanted:
        raise ValueError(
            f"Pair: {verb} gave shape {tuple(found.shape)}, expected {(*of.shape[:-1], wanted)}: flatten what the network "
            "returns, or correct dim and latent_dim."
        )
    return found


class _PosteriorAfter(Density):
    """The posterior of a chain's last part, given the chain's data: its context goes through the earlier parts."""

    def __init__(self, before: "Chain", posterior: Density) -> None:
        super().__init__()
        self.before, self.inside = before, posterior
        self.space, self.context_dim = posterior.space, before.dim

    def _through(self, context: Context) -> Tensor:
        assert context is not None, "the door asks for it: context_dim is the chain's dim"
        return self.before._encode(context)

    def _log_prob(self, x: Latent, context: Context = None) -> Values:
        return self.inside._log_prob(x, self._through(context))

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.inside._sample(shape, self._through(context), generator)

    def _rsample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        return self.inside._rsample(shape, self._through(context), generator)


class _Parts(Autoencoder):
    """What chains share: parts applied one after the other, each given the context if it declares one."""

    def __init__(self, *parts: Autoencoder) -> None:
        nn.Module.__init__(self)
        name = type(self).__name__
        if not parts:
            raise ValueError(f"{name} expects at least one part.")
        for first, second in pairwise(parts):
            if first.latent_dim != second.dim:
                raise ValueError(
                    f"{name}: {type(first).__name__} encodes to {first.latent_dim} coordinates, but "
                    f"{type(second).__name__} after it takes {second.dim}."
                )
        self.parts = nn.ModuleList(parts)
        self.dim, self.latent_dim = parts[0].dim, parts[-1].latent_dim
        self.context_dim, self.classes = validate.common_context(parts, name)

    def residual(self, x: Data, xh: Data) -> Data:
        """In the units of the first part: standardised ones behind a `Standardize`."""
        return self.parts[0].residual(x, xh)  # type: ignore[operator]

    def residual_log_det(self) -> Tensor:
        """The first part's."""
        return self.parts[0].residual_log_det()  # type: ignore[operator, no-any-return]

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        for part in self.parts:
            yield from part.encoder_parameters()  # type: ignore[operator]

    @torch.no_grad()
    def _walk(self, hook: Literal["prepare", "finish"], x: Tensor, context: Tensor | None) -> None:
        """Call the hook of each part on the output of the one before, as far as there are parts that have one."""
        last = max((i for i, part in enumerate(self.parts) if _acts(part, hook)), default=-1)
        for i, part in enumerate(self.parts):
            if i > last:
                break
            own = given(part, context)
            getattr(part, hook)(x, own)
            if i < last:
                rows = zip(x.split(2048), own.split(2048) if own is not None else repeat(None), strict=False)
                x = torch.cat([part._encode(b, c) for b, c in rows])  # type: ignore[operator]

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare each part on the output of the one before."""
        self._walk("prepare", x, context)

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Finish each part on the output of the one before."""
        self._walk("finish", x, context)


def _acts(part: Any, hook: str) -> bool:
    """Whether a part does anything there."""
    if isinstance(part, _Parts):
        return any(_acts(p, hook) for p in part.parts)
    return getattr(type(part), hook) is not getattr(Autoencoder, hook)


@register
class Chain(_Parts):
    """Auto-encoders one after the other: encode goes through the parts in order, decode back."""

    def _encode(self, x: Data, context: Context = None) -> Latent:
        for part in self.parts:
            x = part._encode(x, given(part, context))  # type: ignore[operator]
        return x

    def _decode(self, z: Latent, context: Context = None) -> Data:
        for part in reversed(self.parts):
            z = part._decode(z, given(part, context))  # type: ignore[operator]
        return z

    @property
    def posterior(self) -> Density | None:  # type: ignore[override]
        """The last part's posterior, conditional on the chain's data; None if it has none."""
        inside = self.parts[-1].posterior
        if inside is None or len(self.parts) == 1:
            return inside  # type: ignore[return-value]
        return _PosteriorAfter(Chain(*self.parts[:-1]), inside)  # type: ignore[arg-type]


@register
class ChainBijection(_Parts, FeaturesFirst):
    """Bijections one after the other; log-dets add up."""

    def __init__(self, *parts: Bijection) -> None:
        _Parts.__init__(self, *parts)
        wrong = [type(p).__name__ for p in parts if not isinstance(p, Bijection)]
        if wrong:
            raise TypeError(f"ChainBijection expects bijections, got {', '.join(wrong)}: Chain takes any auto-encoder.")
        self.posterior = None

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        total: Volume = None
        for part in self.parts:
            x, log_det = part._encode_turned(x, given(part, context))  # type: ignore[operator]
            total = added(total, log_det)
        return x, total

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        total: Volume = None
        for part in reversed(self.parts):
            z, log_det = part._decode_turned(z, given(part, context))  # type: ignore[operator]
            total = added(total, log_det)
        return z, total


def added(a: Volume, b: Volume) -> Volume:
    """The sum of two changes of volume."""
    return b if a is None else a if b is None else a + b


@register
class Inverse(FeaturesFirst):
    """A bijection with encode and decode exchanged."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__(bijection.dim)
        self.bijection = bijection
        self.context_dim, self.classes = bijection.context_dim, bijection.classes

    def _encode_turned(self, x: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.bijection._decode_turned(x, context)

    def _decode_turned(self, z: Turned, context: Context = None) -> tuple[Turned, Volume]:
        return self.bijection._encode_turned(z, context)
