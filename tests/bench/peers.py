"""Flows of the same depth, widths and task in geoflow and in other libraries, behind the same three verbs."""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from geoflow.density import Context, Density
from geoflow.flows import Flow, maf, nsf, realnvp
from manifolds import Euclidean
from manifolds.shapes import Points, Values

HIDDEN = (64, 64)
BINS, BOX = 8, 5.0


@dataclass
class Contestant:
    """A flow with its verbs; `loss` is what its library minimises on a batch."""

    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]
    loss: Callable[[Tensor], Tensor]

    @property
    def size(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)


class AsDensity(Density):
    """A contestant for `geoflow.fit`, by its log_prob."""

    def __init__(self, dim: int, one: Contestant) -> None:
        super().__init__()
        self.inside, self.space = one.module, Euclidean(dim)
        self._law = one.log_prob

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        return self._law(x)

    def _sample(self, shape: tuple[int, ...], context: Context, generator: Generator | None) -> Tensor:
        raise NotImplementedError("for log_prob alone: sample from the library's own flow.")


def ours(flow: Flow) -> Contestant:
    return Contestant(flow, flow.log_prob, flow.sample, lambda x: flow(x)["loss"])


def theirs(module: nn.Module, log_prob: Callable[[Tensor], Tensor], sample: Callable[[int], Tensor]) -> Contestant:
    return Contestant(module, log_prob, sample, lambda x: -log_prob(x).mean())


def through_nflows(dim: int, layers: Sequence[nn.Module]) -> Contestant:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow as Theirs
    from nflows.transforms import CompositeTransform

    flow = Theirs(CompositeTransform(list(layers)), StandardNormal([dim]))
    return theirs(flow, flow.log_prob, flow.sample)


def through_normflows(dim: int, layers: Sequence[nn.Module]) -> Contestant:
    import normflows as nf

    flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(dim, trainable=False), list(layers))
    return theirs(flow, flow.log_prob, lambda n: flow.sample(n)[0])


def through_zuko(flow: nn.Module) -> Contestant:
    return theirs(flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,)))


# -- affine couplings --------------------------------------------------------------------------------------------------

COUPLINGS = 8


def affine_geoflow(dim: int) -> Contestant:
    return ours(realnvp(dim, depth=COUPLINGS, hidden=HIDDEN))


def affine_zuko(dim: int) -> Contestant:
    from zuko.flows import RealNVP

    return through_zuko(RealNVP(dim, transforms=COUPLINGS, hidden_features=HIDDEN))


def affine_normflows(dim: int) -> Contestant:
    import normflows as nf

    layers: list[nn.Module] = []
    for _ in range(COUPLINGS):
        net = nf.nets.MLP([(dim + 1) // 2, *HIDDEN, 2 * (dim // 2)], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
    return through_normflows(dim, layers)


def affine_freia(dim: int) -> Contestant:
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    flow = ff.SequenceINN(dim)
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(COUPLINGS):
            flow.append(fm.AllInOneBlock, subnet_constructor=perceptron)

    def log_prob(x: Tensor) -> Tensor:
        z, log_det = flow(x)
        return -0.5 * (z * z).sum(-1) - 0.9189385332046727 * dim + log_det

    return theirs(flow, log_prob, lambda n: flow(torch.randn(n, dim), rev=True)[0])


def affine_nflows(dim: int) -> Contestant:
    from nflows.transforms import AffineCouplingTransform, ReversePermutation
    from nflows.utils import create_mid_split_binary_mask

    layers: list[nn.Module] = []
    for _ in range(COUPLINGS):
        layers += [AffineCouplingTransform(create_mid_split_binary_mask(dim), WithoutContext), ReversePermutation(dim)]
    return through_nflows(dim, layers)


# -- rational-quadratic splines ----------------------------------------------------------------------------------------

SPLINES = 6


def spline_geoflow(dim: int) -> Contestant:
    return ours(nsf(dim, depth=SPLINES, hidden=HIDDEN, bins=BINS, box=BOX))


def spline_zuko(dim: int) -> Contestant:
    """Autoregressive, so that half as many layers change as many coordinates."""
    from zuko.flows import NSF

    return through_zuko(NSF(dim, bins=BINS, transforms=SPLINES // 2, hidden_features=HIDDEN))


def spline_normflows(dim: int) -> Contestant:
    import normflows as nf
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling
    from normflows.utils.masks import create_alternating_binary_mask

    layers: list[nn.Module] = []
    for layer in range(SPLINES):
        mask = create_alternating_binary_mask(dim, even=bool(layer % 2))
        layers.append(
            PiecewiseRationalQuadraticCoupling(mask, WithoutContext, num_bins=BINS, tails="linear", tail_bound=BOX)
        )
        layers.append(nf.flows.LULinearPermute(dim))
    return through_normflows(dim, layers[:-1])


def spline_nflows(dim: int) -> Contestant:
    from nflows.transforms import LULinear, PiecewiseRationalQuadraticCouplingTransform
    from nflows.utils import create_alternating_binary_mask

    layers: list[nn.Module] = []
    for layer in range(SPLINES):
        mask = create_alternating_binary_mask(dim, even=bool(layer % 2))
        layers.append(
            PiecewiseRationalQuadraticCouplingTransform(
                mask, WithoutContext, num_bins=BINS, tails="linear", tail_bound=BOX
            )
        )
        layers.append(LULinear(dim))
    return through_nflows(dim, layers[:-1])


# -- masked autoregressive ---------------------------------------------------------------------------------------------

LAYERS = 5


def masked_geoflow(dim: int) -> Contestant:
    return ours(maf(dim, depth=LAYERS, hidden=HIDDEN))


def masked_zuko(dim: int) -> Contestant:
    from zuko.flows import MAF

    return through_zuko(MAF(dim, transforms=LAYERS, hidden_features=HIDDEN))


def masked_nflows(dim: int) -> Contestant:
    from nflows.transforms import MaskedAffineAutoregressiveTransform, ReversePermutation

    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers.append(MaskedAffineAutoregressiveTransform(dim, HIDDEN[0], num_blocks=1, use_residual_blocks=False))
        layers.append(ReversePermutation(dim))
    return through_nflows(dim, layers)


# -- their networks ----------------------------------------------------------------------------------------------------


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    widths = (inputs, *HIDDEN)
    layers: list[nn.Module] = []
    for a, b in zip(widths, HIDDEN, strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class WithoutContext(nn.Module):
    """The perceptron, called with a context that is None."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.net = perceptron(inputs, outputs)

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        return self.net(x)


FAMILIES: dict[str, dict[str, Callable[[int], Contestant]]] = {
    "affine couplings": {
        "geoflow": affine_geoflow,
        "zuko": affine_zuko,
        "normflows": affine_normflows,
        "FrEIA": affine_freia,
        "nflows": affine_nflows,
    },
    "spline couplings": {
        "geoflow": spline_geoflow,
        "zuko": spline_zuko,
        "normflows": spline_normflows,
        "nflows": spline_nflows,
    },
    "masked autoregressive": {"geoflow": masked_geoflow, "zuko": masked_zuko, "nflows": masked_nflows},
}
"""normflows' masked autoregressive layers go the other way (quick draws, slow densities), and have no line."""
