"""Flows made of other libraries' blocks, by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.columns import Bounded, Standardize
from geoflow.density import Context, Density
from geoflow.distributions import StandardNormal
from geoflow.flows import Flow
from geoflow.interop.freia import FreiaBijection
from geoflow.interop.lipschitz import LipschitzMLP
from geoflow.interop.normflows_maps import NormflowsBijection
from geoflow.interop.rows import Foreign, default_dtype, drawing
from geoflow.interop.zuko import ZukoBijection
from geoflow.maps import Bijection, ChainBijection, Data, Latent
from geoflow.nets import MLP
from geoflow.nets.mlp import activation_named
from geoflow.registry import register


def zoo(
    name: str,
    dim: int,
    *,
    context: int = 0,
    depth: int | None = None,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    base: Density | None = None,
    bounds: Bounded | None = None,
    generator: Generator | None = None,
    **options: Any,
) -> Flow:
    """A flow of blocks that other libraries wrote, behind a `Standardize`: for `fit`, `save`, `load` like our own.

    - ``freia/allinone``: affine coupling, scaling and a random rotation (from 65 columns on a permutation) in one;
      ``freia/householder``: the same with learned reflections; ``freia/glow``: affine couplings of both halves;
      ``freia/onesided``: of one; ``freia/nice``: shifts alone, with a scale at the end.
    - ``normflows/nsf``: spline couplings and LU mixing; ``normflows/ar-nsf``: autoregressive splines; ``normflows/maf``;
      ``normflows/planar``; ``normflows/residual``: contractions with their exact log-det, by `dim` backward passes a layer,
      so for few columns. [behrmann2019]
    - ``zuko/bpf``: Bernstein polynomials; ``zuko/sospf``: sums of squares; ``zuko/gf``: Gaussianization. zuko must be
      installed (``pip install zuko``), and inverts them by bisection, so that draws are exact to about 1e-6.

    Args:
        name: library and flow.
        dim: number of columns.
        context: width of a float condition, 0 for none.
        depth: number of layers; None is the entry's own.
        hidden, activation: of the layers' networks. normflows takes the first width, with as many residual blocks as widths.
        base: the latent density; None is the standard normal.
        bounds: of the columns that have some, as `Bounded(low, high)`: no mass is put outside.
        generator: of permutations and weights; None is torch's global one. numpy's is left alone.
        options: further arguments of the blocks, such as ``gin_block=True`` for ``freia/allinone``: numbers and strings.

    Raises:
        ValueError: an unknown name (all are listed); a context for a flow that takes none; one column for couplings.

    >>> flow = zoo("freia/allinone", 3, depth=2)
    >>> flow.log_prob(flow.sample(5)).shape
    torch.Size([5])
    """
    pairs = [[k, v] for k, v in options.items()]
    bijection = ZooBijection(name, dim, context, depth, hidden, activation, pairs, generator=generator)
    parts: list[Bijection] = [] if bounds is None else [bounds]
    return Flow(ChainBijection(*parts, Standardize(dim), bijection), StandardNormal(dim) if base is None else base)


@dataclass(frozen=True)
class Entry:
    """How to build a flow.

    Attributes:
        make: from what was asked for, with further arguments of the blocks.
        depth: number of layers by default.
        least: number of columns it needs.
        conditional: whether it takes a context.
    """

    make: Callable[..., Foreign]
    depth: int
    least: int = 1
    conditional: bool = True


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    dim: int
    context: int
    depth: int
    hidden: tuple[int, ...]
    activation: str

    def net(self, inputs: int, outputs: int) -> nn.Module:
        """A network that starts as zero, so that a coupling starts as the identity."""
        return MLP(inputs, outputs, self.hidden, self.activation, zero_last=True)

    def function(self) -> nn.Module:
        """The activation, for networks that use what they give it again."""
        found = activation_named(self.activation, "zoo")
        if hasattr(found, "inplace"):
            found.inplace = False  # type: ignore[assignment]
        return found


class Tenfold(nn.Module):
    """Ten times a network: FrEIA's AllInOneBlock divides by ten what it is given, and would learn ten times as slowly."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.net(x)


def _freia(
    block: str, w: Wanted, tenfold: bool = False, scaled: bool = False, turned: bool = False, **options: Any
) -> Foreign:
    """Blocks in sequence, with permutations between them, or the order of columns turned about, and a scale at the end."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    if block == "AllInOneBlock":  # random permutations of few columns leave many where they are
        options = {"permute_soft": w.dim <= 64, **options}
    inn = ff.SequenceINN(w.dim)
    condition = {"cond": 0, "cond_shape": (w.context,)} if w.context else {}
    for layer in range(w.depth):
        if layer and turned:
            inn.append(fm.FixedLinearTransform, M=torch.eye(w.dim).flip(0))
        elif layer and w.dim > 2 and block != "AllInOneBlock":
            inn.append(fm.PermuteRandom)
        net = (lambda a, b: Tenfold(w.net(a, b))) if tenfold else w.net
        inn.append(getattr(fm, block), subnet_constructor=net, **condition, **options)
    if scaled:
        inn.append(fm.LearnedElementwiseScaling)
    return FreiaBijection(inn)


def _normflows(flows: list[Any], w: Wanted, exact: bool = False) -> Foreign:
    from normflows.flows import Composite

    return NormflowsBijection(Composite(flows), w.dim, w.context, exact=exact)


def _splines(kind: str, w: Wanted, **options: Any) -> Foreign:
    import normflows as nf

    given = {"num_context_channels": w.context or None, "activation": w.function, "tail_bound": 5.0, **options}
    flows: list[Any] = []
    for layer in range(w.depth):
        if layer:
            flows.append(nf.flows.LULinearPermute(w.dim))
        flows.append(getattr(nf.flows, kind)(w.dim, len(w.hidden), w.hidden[0], **given))
    return _normflows(flows, w)


def _maf(w: Wanted, **options: Any) -> Foreign:
    import normflows as nf

    flows: list[Any] = []
    for layer in range(w.depth):
        if layer:
            flows.append(nf.flows.Permute(w.dim, mode="swap" if w.dim % 2 == 0 else "shuffle"))
        given = {
            "context_features": w.context or None,
            "num_blocks": len(w.hidden),
            "activation": w.function(),
            **options,
        }
        flows.append(nf.flows.MaskedAffineAutoregressive(w.dim, w.hidden[0], **given))
    return _normflows(flows, w)


def _planar(w: Wanted, **options: Any) -> Foreign:
    import normflows as nf

    return _normflows([nf.flows.Planar((w.dim,), **{"act": "leaky_relu", **options}) for _ in range(w.depth)], w)


def _residual(w: Wanted, bound: float = 0.9) -> Foreign:
    import normflows as nf

    flows = [nf.flows.Residual(LipschitzMLP(w.dim, w.hidden, w.activation, bound)).float() for _ in range(w.depth)]
    for flow in flows:  # of its random estimate, which is not used
        flow.iresblock.geom_p.requires_grad_(False)
        flow.iresblock.lamb.requires_grad_(False)
    return _normflows(flows, w, exact=True)


def _zuko(kind: str, w: Wanted, **options: Any) -> Foreign:
    try:
        import zuko  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"zoo: {kind} is zuko's, which is not installed: pip install zuko.") from error
    given = {"hidden_features": w.hidden, "activation": w.function, **options}
    flow = getattr(zuko.flows, kind)(w.dim, w.context, transforms=w.depth, **given)
    return ZukoBijection(flow.transform, w.dim, w.context)


ZOO: dict[str, Entry] = {
    "freia/allinone": Entry(partial(_freia, "AllInOneBlock", tenfold=True), 8, least=2),
    "freia/householder": Entry(
        partial(_freia, "AllInOneBlock", tenfold=True, learned_householder_permutation=2), 8, least=2
    ),
    "freia/nice": Entry(partial(_freia, "NICECouplingBlock", scaled=True), 8, least=2),
    "freia/glow": Entry(partial(_freia, "GLOWCouplingBlock"), 4, least=2),
    "freia/onesided": Entry(partial(_freia, "AffineCouplingOneSided", turned=True), 8, least=2),
    "normflows/nsf": Entry(partial(_splines, "CoupledRationalQuadraticSpline"), 6, least=2),
    "normflows/ar-nsf": Entry(partial(_splines, "AutoregressiveRationalQuadraticSpline"), 4),
    "normflows/maf": Entry(_maf, 5),
    "normflows/planar": Entry(_planar, 16, conditional=False),
    "normflows/residual": Entry(_residual, 4, conditional=False),
    "zuko/bpf": Entry(partial(_zuko, "BPF"), 3),
    "zuko/sospf": Entry(partial(_zuko, "SOSPF"), 2),
    "zuko/gf": Entry(partial(_zuko, "GF"), 4),
}
"""Flows by name."""


@register
class ZooBijection(Bijection):
    """The blocks of a `zoo` flow, rebuilt from what they were asked for: by files, by copies, and by pickle.

    Args:
        name, dim, context_dim, depth, hidden, activation, generator: as for `zoo`.
        options: pairs of a name and a value.
    """

    inside: Foreign

    def __init__(
        self,
        name: str,
        dim: int,
        context_dim: int = 0,
        depth: int | None = None,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        options: Sequence[Sequence[Any]] = (),
        generator: Generator | None = None,
    ) -> None:
        super().__init__(dim)
        if name not in ZOO:
            raise ValueError(f"zoo knows no {name!r}: it has {', '.join(ZOO)}.")
        entry = ZOO[name]
        if dim < entry.least:
            raise ValueError(f"{name} needs {entry.least} columns or more, got {dim}: normflows/ar-nsf takes one.")
        if context_dim and not entry.conditional:
            raise ValueError(f"{name} takes no context: freia/allinone, normflows/nsf and others do.")
        self.name, self.context_dim = name, validate.count(context_dim, name, "context")
        self.depth = validate.count(entry.depth if depth is None else depth, name, "depth", 1)
        self.hidden, self.activation = tuple(validate.count(h, name, "hidden", 1) for h in hidden), activation
        self.options = [list(pair) for pair in options]
        self.inside = self._made(generator)

    def _made(self, generator: Generator | None) -> Foreign:
        wanted = Wanted(self.dim, self.context_dim, self.depth, self.hidden, self.activation)
        with drawing(generator), default_dtype(torch.float32):
            try:
                return ZOO[self.name].make(wanted, **dict(self.options))
            except TypeError as error:
                raise TypeError(f"{self.name} takes no such options: {error}.") from error

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        self.inside.prepare(x, context)

    def _encode_and_log_det(self, x: Data, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inside._encode_and_log_det(x, context)

    def _decode_and_log_det(self, z: Latent, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inside._decode_and_log_det(z, context)

    def __getstate__(self) -> dict[str, Any]:
        """Blocks hold functions that cannot be pickled, or hold on to a graph: what they have learned stands for them."""
        learned = self.inside.state_dict()
        trained = [p.requires_grad for p in self.inside.parameters()]
        return {**self.__dict__, "_modules": {}, "_learned": learned, "_trained": trained}

    def __setstate__(self, state: dict[str, Any]) -> None:
        learned, trained = state.pop("_learned"), state.pop("_trained")
        super().__setstate__(state)
        with torch.random.fork_rng():
            self.inside = self._made(None)
        like = next(t for t in learned.values() if t.is_floating_point())
        self.inside.to(like).load_state_dict(learned)
        self.inside.train(self.training)
        for p, flag in zip(self.inside.parameters(), trained, strict=True):
            p.requires_grad_(flag)
