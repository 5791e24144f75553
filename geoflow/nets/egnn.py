"""A graph network of particles that turns, reflects and renumbers with them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.nets.mlp import MLP
from geoflow.registry import register


@register
class EGNN(nn.Module):
    """Moves particles along the lines between them: flat ``(*batch, particles · each)`` → the same, E(n)-equivariant.

    In each layer all pairs exchange a message of their features h and of their soft distance s_ij = √(1 + |x_i − x_j|²),
    now and at the start,

        m_ij = φ(h_i, h_j, s_ij, s⁰_ij),   x_i ← x_i + reach / (P − 1) · Σ_j tanh(a·m_ij) (x_i − x_j) / s_ij,
        h_i ← h_i + ψ(h_i, Σ_j σ(b·m_ij) m_ij / (P − 1)),

    and the common drift is taken out at the end: centred configurations stay centred, others keep their centre. After
    [satorras2021], with two changes for free-form flows: soft distances have all derivatives where particles meet, and a
    layer moves no particle further than `reach`. The net starts as the identity. Time and memory are those of
    P² · features numbers a layer and row; no loop runs over pairs.

    Args:
        particles: P, at least two.
        each: coordinates of one particle.
        features: length of h.
        layers: how often messages are exchanged.
        types: one whole number a particle, as atomic numbers; particles of one type are exchangeable. None: all alike.
        context: features of every particle that vary by row, as one-hot types, in ``net(x, context)`` with context
            ``(*batch, particles · context)``, particle by particle; 0 for none.
        reach: the furthest one layer moves a particle, before the drift is taken out. The net is made for distances
            between neighbours of about one: scale all coordinates by one number before.

    >>> import torch
    >>> EGNN(2, 1)(torch.tensor([-1.0, 1.0])).detach()
    tensor([-1.,  1.])
    """

    _kind: Tensor

    def __init__(
        self,
        particles: int,
        each: int,
        features: int = 64,
        layers: int = 4,
        types: Sequence[int] | None = None,
        context: int = 0,
        reach: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value, least in (("particles", particles, 2), ("each", each, 1), ("features", features, 1)):
            validate.count(value, "EGNN", name, least)
        for name, value, least in (("layers", layers, 1), ("context", context, 0)):
            validate.count(value, "EGNN", name, least)
        if types is not None and len(types) != particles:
            raise ValueError(f"EGNN expects one type a particle, {particles} of them; got {len(types)}.")
        if not reach > 0:
            raise ValueError(f"EGNN expects a positive reach, got {reach}.")
        self.particles, self.each, self.features, self.layers = particles, each, features, layers
        self.types = None if types is None else tuple(int(t) for t in types)
        self.context, self.reach = context, float(reach)
        self.inputs = self.outputs = particles * each
        kinds = sorted(set(self.types or (0,)))
        kind = torch.tensor([kinds.index(t) for t in self.types or (0,) * particles])
        self.register_buffer("_kind", kind, persistent=False)
        self.embedding = nn.Embedding(len(kinds), features)
        self.condition = nn.Linear(context, features, bias=False) if context else None
        self.exchanges = nn.ModuleList(_Exchange(features, last=k == layers - 1) for k in range(layers))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.embedding(self._kind)
        if (context is None) != (self.condition is None):
            raise TypeError(
                f"EGNN was built with context={self.context} and is called {'without' if context is None else 'with'} a "
                "context: build with the number of floats a particle that you pass."
            )
        if self.condition is not None and context is not None:
            h = h + self.condition(context.unflatten(-1, (self.particles, self.context)))
        cloud = start = x.unflatten(-1, (self.particles, self.each))
        per_pair = self.reach / (self.particles - 1)
        first: Tensor | None = None
        for exchange in self.exchanges:
            apart = cloud[..., :, None, :] - cloud[..., None, :, :]
            # √(1 + d²), of functions of one tensor: in forward mode a sum with a constant costs more than the rest.
            soft = (0.5 * (apart * apart).sum(-1).log1p()).exp()
            first = soft if first is None else first
            push, h = exchange(h, torch.stack([soft, first], -1))
            cloud = cloud + per_pair * torch.einsum("...ij,...ije->...ie", push / soft, apart)
        moved = cloud - start
        return (start + (moved - moved.mean(-2, keepdim=True))).flatten(-2)


class _Exchange(nn.Module):
    """One exchange of messages: features ``(*batch, P, F)`` and lengths ``(*batch, P, P, 2)`` → pushes in (−1, 1), features.

    The first layer on (h_i, h_j, lengths) is a sum of three linear maps, two of which cost P and not P². A particle's
    message to itself is a function of its own features alone, so nothing masks the diagonal.
    """

    def __init__(self, features: int, last: bool) -> None:
        super().__init__()
        self.receiver, self.sender = nn.Linear(features, features), nn.Linear(features, features, bias=False)
        self.lengths = nn.Linear(2, features, bias=False)
        self.message = nn.Linear(features, features)
        self.push = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.push.weight)
        # The last layer's features go nowhere, and parameters that nothing trains are in the way of optimisers.
        self.gate = None if last else nn.Linear(features, 1, bias=False)
        self.update = None if last else MLP(2 * features, features, (features,), "silu")

    def forward(self, h: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        pairs = self.receiver(h)[..., :, None, :] + self.sender(h)[..., None, :, :] + self.lengths(lengths)
        m = nn.functional.silu(self.message(nn.functional.silu(pairs)))
        push = self.push(m).squeeze(-1).tanh()
        if self.gate is None or self.update is None:
            return push, h
        gate = self.gate(m).squeeze(-1).sigmoid() / (h.shape[-2] - 1)
        gathered = torch.einsum("...ij,...ijf->...if", gate, m)
        return push, h + self.update(torch.cat([h.expand(gathered.shape), gathered], -1))
