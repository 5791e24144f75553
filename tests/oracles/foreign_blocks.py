"""Every block of FrEIA and normflows, as our adapters take it or refuse it, and what the laws of bijections say of each."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from geoflow import Bijection
from geoflow.interop import bijection_from_normflows, from_freia
from geoflow.nets import MLP
from tests.laws.tools import central, close, obeys_batches, untouched

Make = Callable[[], Any]


@dataclass(frozen=True)
class Block:
    """One way to use a block.

    Attributes:
        make: builds it, adapted; for what is refused, the call that must raise.
        refused: how the sentence of the refusal goes; nothing if it is taken.
        home: from normal numbers to points where the block is at home.
        settle: what its makers ask for after parameters change.
        bound: of round trip and log-det in float64.
        period: of what is periodic, so that points are compared modulo it.
        remark: for the table.
    """

    make: Make
    refused: str = ""
    home: Callable[[Tensor], Tensor] = torch.Tensor.clone
    settle: Callable[[Any], None] = id
    bound: float = 1e-9
    period: float = 0.0
    remark: str = ""


# -- FrEIA -------------------------------------------------------------------------------------------------------------


def net(inputs: int, outputs: int) -> nn.Module:
    return MLP(inputs, outputs, (16,), "silu")


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, outputs, 3, padding=1))


VECTOR, IMAGE = (4,), (4, 2, 2)


def alone(name: str, shape: tuple[int, ...] = VECTOR, exact: bool = False, **options: Any) -> Make:
    """A block of FrEIA by itself."""

    def make() -> Any:
        import FrEIA.modules as fm

        with quiet():
            return from_freia(getattr(fm, name)([shape], **options), exact=exact)

    return make


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and prints of libraries."""
    with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()):
        yield


def coupling(name: str, *more: dict[str, Any], **options: Any) -> list[Block]:
    """On vectors, with a condition, on images, and with further options."""
    conditional = {"dims_c": [(3,)], "subnet_constructor": net, **options}
    return [
        Block(alone(name, subnet_constructor=net, **options)),
        Block(alone(name, **conditional), remark="with a condition"),
        Block(alone(name, IMAGE, subnet_constructor=conv, **options), remark="image"),
        *(Block(alone(name, subnet_constructor=net, **m), remark=", ".join(m)) for m in more),
    ]


def prepared(make: Make) -> Make:
    """After its scale was taken from data."""

    def made() -> Any:
        bijection = make()
        bijection.prepare(3 + 2 * torch.randn(50, bijection.dim, generator=Generator().manual_seed(0)))
        return bijection

    return made


def contract(bijection: Any) -> None:
    """What FrEIA asks for after each step."""
    for module in bijection.modules():
        if hasattr(module, "lipschitz_correction"):
            module.lipschitz_correction()


def matrix(n: int) -> Tensor:
    return torch.eye(n) + 0.3 * torch.randn(n, n, generator=Generator().manual_seed(0))


def graph() -> Any:
    """Two inputs, a split, a condition, blocks on either branch, two outputs, a network within the network."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    options = {"subnet_constructor": net}
    inner = ff.SequenceINN(3, force_tuple_output=True)
    inner.append(fm.GLOWCouplingBlock, **options)
    inner.append(fm.LearnedElementwiseScaling)
    first, second, condition = ff.InputNode(4), ff.InputNode(3), ff.ConditionNode(2)
    whole = ff.Node([first.out0, second.out0], fm.Concat, {})
    turned = ff.Node(whole, fm.AllInOneBlock, options, conditions=condition)
    parts = ff.Node(turned, fm.Split, {"section_sizes": [3, 4]})
    left = ff.Node(parts.out0, lambda dims: inner, {})
    right = ff.Node(parts.out1, fm.RNVPCouplingBlock, options, conditions=condition)
    ends = [ff.OutputNode(left), ff.OutputNode(right)]
    return from_freia(ff.GraphINN([first, second, condition, whole, turned, parts, left, right, *ends]))


def sequence() -> Any:
    """An image downwards, flattened, and on, with two conditions."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    inn = ff.SequenceINN(1, 4, 4)
    inn.append(fm.InvertibleSigmoid)
    inn.append(fm.HaarDownsampling, rebalance=0.5)
    inn.append(fm.GLOWCouplingBlock, cond=1, cond_shape=(2, 2, 2), subnet_constructor=conv)
    inn.append(fm.Flatten)
    inn.append(fm.AllInOneBlock, cond=0, cond_shape=(3,), subnet_constructor=net, permute_soft=True)
    return from_freia(inn)


_HALVES = [((4, 2, 2), (4, 2, 2))]
_EXACT = {"bound": 1e-8, "remark": "exact=True"}

FREIA: dict[str, list[Block]] = {
    "AllInOneBlock": [
        *coupling("AllInOneBlock", {"gin_block": True}, {"learned_householder_permutation": 3}),
        Block(alone("AllInOneBlock", subnet_constructor=net, permute_soft=True), remark="permute_soft"),
        Block(alone("AllInOneBlock", IMAGE, subnet_constructor=conv, permute_soft=True), remark="image, permute_soft"),
        Block(alone("AllInOneBlock", subnet_constructor=net, reverse_permutation=True), remark="reverse_permutation"),
        Block(alone("AllInOneBlock", subnet_constructor=net, global_affine_type="SIGMOID"), remark="SIGMOID"),
        Block(alone("AllInOneBlock", subnet_constructor=net, global_affine_type="EXP"), remark="EXP"),
    ],
    "NICECouplingBlock": coupling("NICECouplingBlock"),
    "RNVPCouplingBlock": coupling("RNVPCouplingBlock"),
    "GLOWCouplingBlock": coupling("GLOWCouplingBlock", {"clamp_activation": "TANH"}),
    "GINCouplingBlock": coupling("GINCouplingBlock"),
    "AffineCouplingOneSided": coupling("AffineCouplingOneSided"),
    "ConditionalAffineTransform": [
        Block(alone("ConditionalAffineTransform", dims_c=[(3,)], subnet_constructor=net), remark="with a condition")
    ],
    "ActNorm": [
        Block(prepared(alone("ActNorm")), remark="prepared on data"),
        Block(prepared(alone("ActNorm", IMAGE)), remark="prepared on data, image"),
    ],
    "HouseholderPerm": [
        Block(alone("HouseholderPerm", n_reflections=3)),
        Block(alone("HouseholderPerm", n_reflections=3, fixed=True), remark="fixed"),
        Block(
            alone("HouseholderPerm", n_reflections=2, dims_c=[(4, 2)]),
            refused="fails in FrEIA 0.2",
            remark="with a condition",
        ),
    ],
    "PermuteRandom": [Block(alone("PermuteRandom")), Block(alone("PermuteRandom", IMAGE), remark="image")],
    "FixedLinearTransform": [Block(alone("FixedLinearTransform", M=matrix(4), b=torch.ones(4)))],
    "Fixed1x1Conv": [Block(alone("Fixed1x1Conv", IMAGE, M=matrix(4)), remark="image")],
    "InvertibleSigmoid": [
        Block(alone("InvertibleSigmoid")),
        Block(alone("InvertibleSigmoid", IMAGE), remark="image"),
    ],
    "LearnedElementwiseScaling": [
        Block(alone("LearnedElementwiseScaling"), remark="sign of decode put right"),
        Block(alone("LearnedElementwiseScaling", IMAGE), remark="image, sign of decode put right"),
    ],
    "InvAutoAct": [Block(alone("InvAutoAct")), Block(alone("InvAutoAct", IMAGE), remark="image")],
    "InvAutoActFixed": [Block(alone("InvAutoActFixed"))],
    "InvAutoActTwoSided": [Block(alone("InvAutoActTwoSided"))],
    "InvAutoFC": [
        Block(alone("InvAutoFC"), refused="decodes by its transpose, .* pass exact=True"),
        Block(alone("InvAutoFC", exact=True), **_EXACT),
        Block(alone("InvAutoFC", exact=True, dims_out=3), refused="as many numbers out as in", remark="dims_out=3"),
    ],
    "InvAutoConv2D": [
        Block(
            alone("InvAutoConv2D", (1, 3, 3)), refused="decodes by its transpose, .* pass exact=True", remark="image"
        ),
        Block(alone("InvAutoConv2D", (1, 3, 3), exact=True), bound=1e-8, remark="image, exact=True"),
    ],
    "IResNetLayer": [
        Block(alone("IResNetLayer"), refused="estimates its log-det .* pass exact=True"),
        Block(alone("IResNetLayer", exact=True), settle=contract, **_EXACT),
        Block(alone("IResNetLayer", (1, 3, 3), exact=True), settle=contract, bound=1e-8, remark="image, exact=True"),
    ],
    "OrthogonalTransform": [
        Block(alone("OrthogonalTransform"), refused="orthogonal only after .* pass exact=True"),
        Block(alone("OrthogonalTransform", exact=True), **_EXACT),
    ],
    "GaussianMixtureModel": [
        Block(
            alone("GaussianMixtureModel", dims_c=[(2,), (2, 4), (2, 10)]),
            refused="no bijection without it: use geoflow.GaussianMixture",
        )
    ],
    "IRevNetDownsampling": [
        Block(alone("IRevNetDownsampling", IMAGE), remark="image"),
        Block(alone("IRevNetDownsampling", IMAGE, legacy_backend=True), remark="image, legacy_backend"),
    ],
    "IRevNetUpsampling": [Block(alone("IRevNetUpsampling", IMAGE), remark="image")],
    "HaarDownsampling": [
        Block(alone("HaarDownsampling", IMAGE), remark="image"),
        Block(alone("HaarDownsampling", IMAGE, order_by_wavelet=True, rebalance=0.5), remark="image, rebalance=0.5"),
    ],
    "HaarUpsampling": [
        Block(alone("HaarUpsampling", IMAGE), remark="image"),
        Block(alone("HaarUpsampling", IMAGE, order_by_wavelet=True), remark="image, order_by_wavelet"),
    ],
    "Flatten": [Block(alone("Flatten", IMAGE), remark="image")],
    "Reshape": [Block(alone("Reshape", IMAGE, output_dims=(16,)), remark="image")],
    "Split": [Block(alone("Split", section_sizes=[1, 3]), remark="two outputs, side by side")],
    "Concat": [Block(lambda: several("Concat"), remark="two inputs, side by side")],
    "SplitChannel": [Block(alone("SplitChannel"), remark="deprecated, now Split")],
    "ConcatChannel": [Block(lambda: several("ConcatChannel"), remark="deprecated, now Concat")],
    "Split1D": [Block(alone("Split1D"), remark="deprecated, now Split")],
    "Concat1d": [Block(lambda: several("Concat1d"), remark="deprecated, now Concat")],
    "GraphINN": [Block(graph, remark="two inputs and outputs, a condition, a network within")],
    "SequenceINN": [Block(sequence, remark="image, two conditions")],
    "ReversibleGraphNet": [Block(lambda: deprecated("ReversibleGraphNet"), remark="deprecated, now GraphINN")],
    "ReversibleSequential": [Block(lambda: deprecated("ReversibleSequential"), remark="deprecated, now SequenceINN")],
}
"""By class, of ``FrEIA.modules`` and ``FrEIA.framework``."""

NO_BLOCKS_OF_FREIA = {"InvertibleModule"}
"""Classes that others inherit from."""


def several(name: str) -> Any:
    """A block of two inputs."""
    import FrEIA.modules as fm

    with quiet():
        return from_freia(getattr(fm, name)([(1,), (3,)]))


def deprecated(name: str) -> Any:
    """A network under an older name."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    with quiet():
        if name == "ReversibleSequential":
            inn = ff.ReversibleSequential(4)
            inn.append(fm.GLOWCouplingBlock, subnet_constructor=net)
            return from_freia(inn)
        start = ff.InputNode(4)
        block = ff.Node(start, fm.GLOWCouplingBlock, {"subnet_constructor": net})
        return from_freia(ff.ReversibleGraphNet([start, block, ff.OutputNode(block)], verbose=False))


# -- normflows ---------------------------------------------------------------------------------------------------------


def theirs(build: Callable[[Any], Any], shape: Any = 4, **options: Any) -> Make:
    """A flow of normflows, built from its namespace `flows`."""

    def make() -> Any:
        import normflows as nf

        return bijection_from_normflows(build(nf), shape, **options)

    return make


def lipschitz(nf: Any) -> nn.Module:
    return nf.nets.LipschitzMLP([4, 16, 4], init_zeros=False)


def update(bijection: Any) -> None:
    """What normflows asks for after each step."""
    import normflows as nf

    nf.utils.update_lipschitz(bijection, 100)


def masks(nf: Any, inside: str) -> Any:
    """The pieces that normflows' spline flows wrap."""
    import importlib

    def create(a: int, b: int) -> Any:
        return nf.nets.ResidualNet(a, b, hidden_features=16, activation=nn.SiLU())

    part = importlib.import_module("normflows.flows.neural_spline." + inside)
    if inside == "autoregressive":
        return part.MaskedPiecewiseRationalQuadraticAutoregressive(4, 16, tails="linear", tail_bound=3.0)
    return part.PiecewiseRationalQuadraticCoupling(torch.tensor([0, 1] * 2), create, tails="linear", tail_bound=3.0)


def cdf(nf: Any) -> Any:
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCDF

    return PiecewiseRationalQuadraticCDF((4,), tails="linear", tail_bound=3.0)


_SPLINE = {"bound": 1e-7}
_CIRCULAR = {"bound": 1e-7, "remark": "tails put right"}
_PERIODIC = {"home": lambda x: 0.9 * torch.tanh(x), "period": 2.0, "remark": "inside its box, modulo its period"}

NORMFLOWS: dict[str, list[Block]] = {
    "AffineConstFlow": [
        Block(theirs(lambda nf: nf.flows.AffineConstFlow((4,)))),
        Block(theirs(lambda nf: nf.flows.AffineConstFlow((4, 1, 1)), IMAGE), remark="image"),
    ],
    "CCAffineConst": [Block(theirs(lambda nf: nf.flows.CCAffineConst(4, 3), classes=3), remark="with labels")],
    "ActNorm": [
        Block(prepared(theirs(lambda nf: nf.flows.ActNorm((4,)))), remark="prepared on data"),
        Block(prepared(theirs(lambda nf: nf.flows.ActNorm((4, 1, 1)), IMAGE)), remark="prepared on data, image"),
    ],
    "AffineCoupling": [
        Block(theirs(lambda nf: nf.flows.AffineCoupling(net(2, 4))), refused="between one tensor and two")
    ],
    "AffineCouplingBlock": [
        Block(
            theirs(lambda nf, m=m, s=s: nf.flows.AffineCouplingBlock(net(2, 4), scale_map=m, split_mode=s)),
            remark=f"{m}, {s}",
        )
        for m, s in (("exp", "channel"), ("sigmoid", "channel_inv"), ("sigmoid_inv", "channel"))
    ]
    + [
        Block(
            theirs(lambda nf: nf.flows.AffineCouplingBlock(conv(4, 8), split_mode="checkerboard"), IMAGE),
            remark="image, checkerboard",
        )
    ],
    "MaskedAffineFlow": [
        Block(theirs(lambda nf: nf.flows.MaskedAffineFlow(torch.tensor([0.0, 1.0] * 2), net(4, 4), net(4, 4)))),
        Block(
            theirs(lambda nf: nf.flows.MaskedAffineFlow(torch.tensor([0.0, 1.0] * 2), net(4, 4))), remark="shift alone"
        ),
    ],
    "GlowBlock": [
        Block(prepared(theirs(lambda nf, m=m: nf.flows.GlowBlock(4, 8, split_mode=m), IMAGE)), remark=f"image, {m}")
        for m in ("channel", "checkerboard")
    ],
    "MaskedAffineAutoregressive": [
        Block(theirs(lambda nf: nf.flows.MaskedAffineAutoregressive(4, 16))),
        Block(
            theirs(lambda nf: nf.flows.MaskedAffineAutoregressive(4, 16, context_features=3), context=3),
            remark="with a condition",
        ),
    ],
    "CoupledRationalQuadraticSpline": [
        Block(theirs(lambda nf: nf.flows.CoupledRationalQuadraticSpline(4, 1, 16)), **_SPLINE),
        Block(
            theirs(lambda nf: nf.flows.CoupledRationalQuadraticSpline(4, 1, 16, num_context_channels=3), context=3),
            bound=1e-7,
            remark="with a condition",
        ),
    ],
    "AutoregressiveRationalQuadraticSpline": [
        Block(theirs(lambda nf: nf.flows.AutoregressiveRationalQuadraticSpline(4, 1, 16)), **_SPLINE),
    ],
    "CircularCoupledRationalQuadraticSpline": [
        Block(theirs(lambda nf: nf.flows.CircularCoupledRationalQuadraticSpline(4, 1, 16, [1, 2])), **_CIRCULAR),
    ],
    "CircularAutoregressiveRationalQuadraticSpline": [
        Block(theirs(lambda nf: nf.flows.CircularAutoregressiveRationalQuadraticSpline(4, 1, 16, [1, 2])), **_CIRCULAR),
    ],
    "PiecewiseRationalQuadraticCoupling": [Block(theirs(lambda nf: masks(nf, "coupling")), **_SPLINE)],
    "MaskedPiecewiseRationalQuadraticAutoregressive": [
        Block(theirs(lambda nf: masks(nf, "autoregressive")), **_SPLINE)
    ],
    "PiecewiseRationalQuadraticCDF": [Block(theirs(cdf), **_SPLINE)],
    "LULinearPermute": [Block(theirs(lambda nf: nf.flows.LULinearPermute(4)))],
    "InvertibleAffine": [
        Block(theirs(lambda nf: nf.flows.InvertibleAffine(4))),
        Block(theirs(lambda nf: nf.flows.InvertibleAffine(4, use_lu=False)), remark="use_lu=False"),
    ],
    "Invertible1x1Conv": [
        Block(theirs(lambda nf, lu=lu: nf.flows.Invertible1x1Conv(4, use_lu=lu), IMAGE), remark=f"image, use_lu={lu}")
        for lu in (True, False)
    ],
    "Permute": [
        Block(theirs(lambda nf: nf.flows.Permute(4))),
        Block(theirs(lambda nf: nf.flows.Permute(5, "swap"), 5), remark="swap, of an odd number"),
    ],
    "Planar": [
        Block(theirs(lambda nf: nf.flows.Planar((4,), act="leaky_relu")), remark="leaky_relu"),
        Block(theirs(lambda nf: nf.flows.Planar((4,))), refused="no inverse with act='tanh'", remark="tanh"),
    ],
    "Radial": [Block(theirs(lambda nf: nf.flows.Radial((4,))), refused="has no inverse")],
    "BatchNorm": [Block(theirs(lambda nf: nf.flows.BatchNorm()), refused="each row depend on its batch")],
    "Residual": [
        Block(
            theirs(lambda nf: nf.flows.Residual(lipschitz(nf)).float()),
            refused="estimates its log-det .* pass exact=True",
        ),
        Block(theirs(lambda nf: nf.flows.Residual(lipschitz(nf)).float(), exact=True), settle=update, **_EXACT),
        Block(
            theirs(lambda nf: nf.flows.Residual(lipschitz(nf), reverse=False).float(), exact=True),
            settle=update,
            bound=1e-8,
            remark="reverse=False, exact=True",
        ),
    ],
    "PeriodicWrap": [Block(theirs(lambda nf: nf.flows.PeriodicWrap([0, 2])), **_PERIODIC)],
    "PeriodicShift": [Block(theirs(lambda nf: nf.flows.PeriodicShift([0, 2], shift=0.7)), **_PERIODIC)],
    "Squeeze": [Block(theirs(lambda nf: nf.flows.Squeeze(), IMAGE), remark="image")],
    "Split": [Block(theirs(lambda nf: nf.flows.Split()), refused="between one tensor and two")],
    "Merge": [Block(theirs(lambda nf: nf.flows.Merge()), refused="put a Merge behind")],
    "Reverse": [Block(theirs(lambda nf: nf.flows.Reverse(nf.flows.LULinearPermute(4))))],
    "Composite": [
        Block(
            theirs(
                lambda nf: nf.flows.Composite(
                    [nf.flows.Permute(4), nf.flows.Split(), nf.flows.AffineCoupling(net(2, 4)), nf.flows.Merge()]
                )
            ),
            remark="Permute, Split, AffineCoupling, Merge",
        )
    ],
    "MetropolisHastings": [
        Block(
            theirs(lambda nf: nf.flows.MetropolisHastings(None, nf.distributions.DiagGaussianProposal((4,), 1.0), 1)),
            refused="moves points at random",
        )
    ],
    "HamiltonianMonteCarlo": [
        Block(
            theirs(lambda nf: nf.flows.HamiltonianMonteCarlo(None, 1, torch.zeros(4), torch.zeros(4))),
            refused="moves points at random",
        )
    ],
    "Logit": [Block(theirs(lambda nf: nf.transforms.Logit()), home=torch.sigmoid)],
    "Shift": [Block(theirs(lambda nf: nf.transforms.Shift()))],
}
"""By class, of ``normflows.flows`` and ``normflows.transforms``."""

NO_BLOCKS_OF_NORMFLOWS = {"Autoregressive", "Coupling", "PiecewiseCoupling"}
"""Classes that others inherit from; so are those with a leading underscore, or parts of LULinearPermute."""


def every() -> list[tuple[str, str, Block]]:
    """(library, class, block) of each."""
    return [
        (library, name, block)
        for library, blocks in (("FrEIA", FREIA), ("normflows", NORMFLOWS))
        for name, some in blocks.items()
        for block in some
    ]


# -- what the laws say -------------------------------------------------------------------------------------------------


def built(block: Block, dtype: torch.dtype = torch.float64) -> Bijection:
    """A fresh one, its parameters stirred so that no law holds only because they are zero."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (FrEIA's)
    bijection = block.make()
    with torch.no_grad():
        for p in bijection.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    block.settle(bijection)
    return bijection.to(dtype)


def rows(block: Block, bijection: Bijection, n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Any]:
    """Points where the block is at home, and contexts of the kind it takes."""
    g = Generator().manual_seed(1)
    x = block.home(torch.randn(n, bijection.dim, generator=g, dtype=torch.float64)).to(dtype)
    if bijection.classes:
        return x, torch.randint(bijection.classes, (n,), generator=g)
    return x, torch.randn(n, bijection.context_dim, generator=g, dtype=dtype) if bijection.context_dim else None


def apart(a: Tensor, b: Tensor, period: float = 0.0) -> float:
    """Largest difference."""
    gap = (a - b).detach()
    if period:
        gap = torch.remainder(gap + period / 2, period) - period / 2
    return float(gap.abs().max())


@dataclass(frozen=True)
class Figures:
    """Largest errors: of the round trip in both precisions, of log-dets there and back, and against the Jacobian's."""

    round_trip: float
    round_trip32: float
    both_ways: float
    jacobian: float


def measure(block: Block, n: int = 6) -> Figures:
    """Both directions, row by row against slogdet of autograd's Jacobian."""
    bijection = built(block)
    x, context = rows(block, bijection, n)
    z, log_det = bijection.encode_and_log_det(x, context)
    again, back = bijection.decode_and_log_det(z, context)
    off = 0.0
    for verb, at, found in (("encode", x, log_det), ("decode", z.detach(), back)):
        for i in range(n):
            given = None if context is None else context[i : i + 1]
            f = getattr(bijection, verb)
            jacobian = torch.autograd.functional.jacobian(lambda r, f=f, c=given: f(r[None], c)[0], at[i])
            off = max(off, apart(found[i], torch.linalg.slogdet(jacobian).logabsdet))
    single = built(block, torch.float32)
    x32, context32 = rows(block, single, 100, torch.float32)
    with torch.no_grad():
        z32, _ = single.encode_and_log_det(x32, context32)
        again32 = single.decode(z32, context32)
    scale = float(x32.abs().max())
    return Figures(
        apart(again, x, block.period), apart(again32, x32, block.period) / scale, apart(log_det + back, 0 * back), off
    )


def calls(block: Block) -> None:
    """Any batch, none, vmap, dtypes, inputs left alone: plain ones, and leaves that require a gradient."""
    bijection = built(block)
    x, context = rows(block, bijection, 6)
    z = bijection.encode(x, context).detach()
    for verb, points in ((bijection.encode_and_log_det, x), (bijection.decode_and_log_det, z)):
        with torch.no_grad():
            obeys_batches(verb, points, context, tol=10 * block.bound)
        for given in (points.clone(), points.clone().requires_grad_()):
            with untouched(given, context):
                found = verb(given, context)
            assert {t.dtype for t in found} == {torch.float64}
    single = built(block, torch.float32)
    x, context = rows(block, single, 2, torch.float32)
    assert {t.dtype for t in single.encode_and_log_det(x, context)} == {torch.float32}


def derivatives(block: Block) -> None:
    """Forward, backward, and backward twice, of codes and log-dets, against differences."""
    bijection = built(block)
    x, context = rows(block, bijection, 2)
    z = bijection.encode(x, context).detach()
    weights = torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view(x.shape)
    zero = torch.zeros((), dtype=x.dtype)
    for verb, points in ((bijection.encode_and_log_det, x), (bijection.decode_and_log_det, z)):

        def along(t: Any, verb: Any = verb, points: Tensor = points) -> tuple[Tensor, ...]:
            return tuple(verb(points + 0.1 * t * (weights - 1), context))

        def slope(t: Any, along: Any = along) -> tuple[Tensor, Tensor]:
            """The derivative of one number, by autograd, which autograd can differentiate again."""
            t = torch.as_tensor(t, dtype=x.dtype).detach().requires_grad_()
            z, log_det = along(t)
            (first,) = torch.autograd.grad((weights * z**2).sum() + log_det.sum(), t, create_graph=True)
            return first, t

        forward, backward = torch.func.jvp(along, (zero,), (zero + 1,))[1], torch.func.jacrev(along)(zero)
        for f, b, d in zip(forward, backward, central(along), strict=True):
            close(f, d.detach(), 1e-6)
            close(b, d.detach(), 1e-6)
        first, t = slope(0.0)
        (second,) = torch.autograd.grad(first, t) if first.requires_grad else (zero,)
        (difference,) = central(lambda t, slope=slope: slope(t)[0].detach())
        close(second, difference, 1e-5)
