"""All parameters of a model in one vector while it trains: one operation steps them, measures and scales their gradient."""

from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Any, Optional

import torch
from torch import Tensor, nn

_ACTIVE: ContextVar[Optional["Flat"]] = ContextVar("flat", default=None)


class Flat:
    """One parameter vector, of which the given parameters are views.

    Within ``with flat:`` a loss may take many parameters from the vector at once instead of one by one (see `active`
    and `span`), which leaves autograd one gradient to pass on.

    Args:
        parameters: of one dtype and device.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
        for p, piece in zip(parameters, self.pieces(self.vector.detach()), strict=True):
            p.data = piece
        self._spans: dict[Any, tuple[Sequence[Any], tuple[int, int] | None]] = {}
        self._token: Token[Flat | None] | None = None

    @staticmethod
    def pays(parameters: list[nn.Parameter], model: nn.Module) -> bool:
        """Whether one vector can hold them, and parts that take all of theirs from it at once have half of them.

        Others give their gradients one by one, and to put these together costs more than one operation saves.
        """
        if len({(p.dtype, p.device) for p in parameters}) > 1:
            return False
        parts: list[Any] = [m for m in model.modules() if hasattr(type(m), "_weights")]
        taken = {id(w) for part in parts for w in part._weights()}
        return 2 * sum(p.numel() for p in parameters if id(p) in taken) >= sum(p.numel() for p in parameters)

    @staticmethod
    def active() -> Optional["Flat"]:
        """The one whose `with` this is, or None."""
        return _ACTIVE.get()

    def __enter__(self) -> "Flat":
        self._token = _ACTIVE.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._token is not None
        _ACTIVE.reset(self._token)

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Of a vector as long as this one's, the views in the parameters' places and shapes."""
        found = vector.split([p.numel() for p in self.parameters])
        return [piece.view(p.shape) for piece, p in zip(found, self.parameters, strict=True)]

    def span(self, parts: Sequence[Any]) -> tuple[int, int] | None:
        """Where the `_weights` of modules begin and end in the vector, if they lie there one after the other.

        None if they do not, or are less than half of it: then the gradient would be mostly zeros.
        """
        key = tuple(map(id, parts))
        if key not in self._spans:
            wanted = [id(w) for part in parts for w in part._weights()]
            own, sizes = [id(p) for p in self.parameters], [p.numel() for p in self.parameters]
            first = own.index(wanted[0]) if wanted and wanted[0] in own else 0
            last = first + len(wanted)
            begin, end = sum(sizes[:first]), sum(sizes[:last])
            useful = own[first:last] == wanted and 2 * (end - begin) >= len(self.vector)
            self._spans[key] = (parts, (begin, end) if useful else None)  # and keep them, or another may get their id
        return self._spans[key][1]

    def clear(self) -> None:
        """Forget the vector's gradient."""
        self.vector.grad = None

    def collect(self) -> None:
        """Add the gradients that single parameters got to that of the vector; zero where neither had a part."""
        gradients = [p.grad for p in self.parameters]
        if self.vector.grad is None:
            found = [
                p.new_zeros(p.numel()) if g is None else g.reshape(-1)
                for p, g in zip(self.parameters, gradients, strict=True)
            ]
            self.vector.grad = torch.cat(found)
        elif any(g is not None for g in gradients):
            for piece, g in zip(self.pieces(self.vector.grad), gradients, strict=True):
                if g is not None:
                    piece.add_(g)

    def spread(self) -> None:
        """Give each parameter its piece of the vector's gradient."""
        assert self.vector.grad is not None
        for p, piece in zip(self.parameters, self.pieces(self.vector.grad), strict=True):
            p.grad = piece

    def release(self) -> None:
        """Give each parameter its own memory again."""
        for p in self.parameters:
            p.data = p.data.clone()
