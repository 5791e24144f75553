"""The instances that the laws are tested on. A new space, density or map is one line here, and inherits every law.

`test_registers.py` fails while a public class is missing. What an instance has no closed form for stands in `lacks`:
those verbs must then raise `NotImplementedError` and say what to use.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geoflow import (
    Bounded,
    Chain,
    ChainBijection,
    ClassConditional,
    DiagonalNormal,
    Flow,
    FreeFormFlow,
    GaussianMixture,
    Inverse,
    Pair,
    Positive,
    Standardize,
    StandardNormal,
    register,
)
from geoflow.autoencoders import (
    KL,
    MMD,
    Bernoulli,
    Critic,
    DataCritic,
    DecoderL2,
    DirichletPosterior,
    EmbeddingNorm,
    FlowPosterior,
    Gaussian,
    GaussianPosterior,
    JacobianNorm,
    KumaraswamyPosterior,
    LearnedSimilarity,
    Linked,
    LogJacobian,
    Masked,
    MaskedPrior,
    MaskPolarisation,
    MinibatchTotalCorrelation,
    Multinomial,
    OfShares,
    PushForward,
    RatioPrior,
    ResampledPrior,
    Spectral,
    Square,
    StickBreaking,
    Topics,
    TotalCorrelation,
    VampPrior,
    recipes,
)
from geoflow.distances import FermatSpace, LatentSpace, ScoreNetwork
from geoflow.distributions import (
    Dirichlet,
    GridDensity,
    IsotropicGaussianSO3,
    LogNormal,
    MeanFreeNormal,
    MeshDensity,
    Mixture,
    PowerSpherical,
    ProductDensity,
    RiemannianNormal,
    StudentT,
    Uniform,
    VonMises,
    VonMisesFisher,
    WrappedDensity,
    WrappedNormal,
)
from geoflow.embedded import Embedded
from geoflow.flows import (
    GIN,
    AffineCoupling,
    AtEachPixel,
    Autoregressive,
    CircularSplineCoupling,
    ImageCoupling,
    LULinear,
    OnColumns,
    OrthogonalLinear,
    Permutation,
    Reflection,
    SplineCoupling,
    Squeeze,
    circular_nsf,
    gin,
    maf,
    nsf,
    realnvp,
)
from geoflow.freeform import FlowMatching, FromOrigin, OnCircles
from geoflow.interop.zoo import ZooBijection, zoo
from geoflow.levels import Dequantized, Logit
from geoflow.metrics import ImageFeatures
from geoflow.nets import EGNN, MLP, ConvDecoder, ConvEncoder, MaskedMLP, ResidualNet
from manifolds import (
    Euclidean,
    Hyperboloid,
    Manifold,
    MeanFree,
    PoincareBall,
    Product,
    Simplex,
    SpecialOrthogonal,
    Sphere,
    Torus,
)
from manifolds.torus import wrap
from tests.laws.cylinder import Cylinder
from tests.laws.examples import OwnPosterior, Stretch
from tests.laws.icosphere import icosphere


@dataclass(frozen=True)
class Case:
    """How to make an instance, and what is special about it.

    Attributes:
        make: builds a fresh one.
        lacks: verbs without a closed form here.
        smooth: whether second derivatives exist everywhere (not through relu).
        fit: options of `from_data` that find this member of the family again.
        points: from normal numbers to points of a space, where projecting them would crowd its edge.
        nearest: whether a space's `project` gives the nearest point of the embedding; say beside it what it gives instead.
        reach: how far `exp` may go from such a point before it meets an edge.
        width: the length over which a density changes, which differences take as their unit.
        estimated: whether the loss is an estimate by random draws, not −log p.
        implicit: whether derivatives of draws are right in the mean only, not for the same random numbers.
        slack: factor on the bounds of rounding errors, for formulas that cannot be as exact; say why beside it.
    """

    make: Callable[[], Any]
    lacks: tuple[str, ...] = ()
    smooth: bool = True
    fit: dict[str, Any] = field(default_factory=dict)
    points: Callable[[Tensor], Tensor] | None = None
    nearest: bool = True
    reach: float = float("inf")
    width: float = 1.0
    estimated: bool = False
    implicit: bool = False
    slack: float = 1.0


# -- where points live -------------------------------------------------------------------------------------------------


def inside_ball(raw: Tensor) -> Tensor:
    """Well inside the unit ball, where projecting would clip most points to its edge."""
    return 0.8 * raw / (1 + raw.norm(dim=-1, keepdim=True))


MANIFOLDS: dict[str, Case] = {
    "Euclidean(3)": Case(lambda: Euclidean(3), lacks=("sample_uniform",)),
    "Euclidean(1)": Case(lambda: Euclidean(1), lacks=("sample_uniform",)),
    "Euclidean(3, scale)": Case(lambda: Euclidean(3, scale=[0.5, 1.0, 20.0]), lacks=("sample_uniform",)),
    "Sphere(1)": Case(lambda: Sphere(1)),
    "Sphere(2)": Case(lambda: Sphere(2)),
    "Sphere(7)": Case(lambda: Sphere(7)),
    # Bounds count roundings of coordinates: lengths in the ball are several times those, ...
    "PoincareBall(2)": Case(lambda: PoincareBall(2), lacks=("sample_uniform",), points=inside_ball, slack=2),
    "PoincareBall(3, curvature)": Case(
        lambda: PoincareBall(3, curvature=0.5), lacks=("sample_uniform",), points=inside_ball, slack=2
    ),
    # ... and one rounding of a length r is r roundings of a point at eʳ. `project` keeps the coordinates in space and
    # lifts, which is not the nearest point.
    "Hyperboloid(2)": Case(lambda: Hyperboloid(2), lacks=("sample_uniform",), nearest=False, slack=4),
    "Hyperboloid(3, curvature)": Case(
        lambda: Hyperboloid(3, curvature=2.0),
        lacks=("sample_uniform",),
        points=lambda raw: 0.7 * raw,
        nearest=False,
        slack=4,
    ),
    "SpecialOrthogonal(2)": Case(lambda: SpecialOrthogonal(2)),
    "SpecialOrthogonal(4)": Case(
        lambda: SpecialOrthogonal(4), lacks=("log", "dist", "squared_dist", "geodesic", "transport")
    ),
    "SpecialOrthogonal(3)": Case(lambda: SpecialOrthogonal(3)),
    "Torus(2)": Case(lambda: Torus(2), nearest=False),  # it wraps angles, which moves the coordinates but not the point
    "Torus(1, embedded)": Case(lambda: Torus(1, embedded=True)),
    "Torus(3, embedded)": Case(lambda: Torus(3, embedded=True)),
    "Simplex(3)": Case(lambda: Simplex(3), points=lambda x: 0.05 * x + 1 / 3, reach=0.1),
    "MeanFree(4, 2)": Case(lambda: MeanFree(4, 2), lacks=("sample_uniform",)),
    "Product(Sphere, Torus)": Case(lambda: Product(Sphere(2), Torus(1))),
    "Product(Euclidean, Sphere)": Case(
        lambda: Product(Euclidean(2, scale=[0.5, 2.0]), Sphere(1)), lacks=("sample_uniform",)
    ),
    # points: within faces, on whose edges planes and derivatives change
    "Mesh, icosphere": Case(
        lambda: icosphere(1),
        lacks=("log", "transport", "geodesic"),
        points=lambda raw: 0.8 * raw / raw.norm(dim=-1, keepdim=True),
    ),
    # slack: one of the random pairs is nearly half a turn apart, where log has eps / (π − θ) to give
    "Cylinder(2)": Case(lambda: Cylinder(2.0), lacks=("sample_uniform",), slack=4),
}

FERMAT: dict[str, Case] = {
    "FermatSpace(mixture)": Case(
        lambda: FermatSpace(GaussianMixture(2, 2), points=torch.randn(60, 2), power=0.5, neighbors=8)
    ),
    "FermatSpace(on the sphere)": Case(
        lambda: FermatSpace(
            Mixture([0.6, 0.4], VonMisesFisher(torch.tensor([[0.0, 0.6, 0.8], [0.8, 0.0, 0.6]]), [4.0, 9.0])),
            points=Sphere(2).project(torch.randn(60, 3) + torch.tensor([1.0, 1.0, 2.0])),
            power=0.5,
            neighbors=8,
        )
    ),
    "FermatSpace(in the ball)": Case(
        lambda: FermatSpace(
            WrappedNormal(PoincareBall(2), torch.tensor([0.3, -0.1]), 0.8),
            points=inside_ball(torch.randn(60, 2)),
            power=0.5,
            neighbors=8,
        )
    ),
}
"""Spaces that a density makes."""


def narrow(dim: int, latent: int) -> Pair:
    """An auto-encoder with a bottleneck, untrained."""
    return Pair(MLP(dim, latent, (16,), "silu"), MLP(latent, dim, (16,), "silu"), dim=dim, latent_dim=latent)


LATENT: dict[str, Case] = {
    "LatentSpace(flat)": Case(lambda: LatentSpace(smooth_realnvp(2).bijection, Euclidean(2))),
    "LatentSpace(Fermat, bijection)": Case(
        lambda: LatentSpace(smooth_realnvp(2).bijection, FERMAT["FermatSpace(mixture)"].make())
    ),
    "LatentSpace(Fermat, bottleneck)": Case(lambda: LatentSpace(narrow(5, 2), FERMAT["FermatSpace(mixture)"].make())),
    "LatentSpace(sphere)": Case(lambda: LatentSpace(narrow(4, 3), Sphere(2))),
    "LatentSpace(Fermat on the sphere)": Case(
        lambda: LatentSpace(narrow(4, 3), FERMAT["FermatSpace(on the sphere)"].make())
    ),
}
"""Spaces that data inherit from their codes."""


# -- what lives there --------------------------------------------------------------------------------------------------


def scaled(dim: int) -> Standardize:
    """A `Standardize` that has seen data."""
    part = Standardize(dim)
    part.prepare(2.0 + torch.randn(50, dim) * torch.linspace(0.3, 3.0, dim))
    return part


def smooth_realnvp(dim: int, **options: Any) -> Flow:
    flow = realnvp(dim, depth=4, hidden=(16,), activation="silu", **options)
    flow.bijection.parts[0] = scaled(dim)
    return flow


def turned_gin(dim: int, classes: int) -> GIN:
    """With axes turned at both ends, as data would; not in training, where its loss first takes in the batch's statistics."""
    flow = gin(dim, classes, depth=4, hidden=(16,))
    for i in (1, -1):
        flow.bijection.parts[i].set_matrix(torch.eye(dim) + 0.2 * torch.randn(dim, dim))
    return flow.eval()


def lifted(net: MLP, height: float) -> MLP:
    """With outputs about that high."""
    nn.init.constant_(net.layers[-1].bias, height)
    return net


_MIXTURE = ("rsample", "entropy", "tempered")
_FLOW = ("entropy", "tempered", "from_data")

_WRAPPED = ("entropy", "tempered")


def rotation() -> Tensor:
    """A turn by about two thirds of a right angle."""
    return SpecialOrthogonal(3).project(torch.tensor([0.8, -0.3, 0.5, 0.5, 0.8, -0.3, -0.3, 0.5, 0.8]))


def matched(space: Manifold, **options: Any) -> FlowMatching:
    """With few, equal steps, which transforms of torch can follow."""
    return FlowMatching(space, hidden=(8,), activation="tanh", method="rk4", steps=2, **options)


DENSITIES: dict[str, Case] = {
    "StandardNormal(1)": Case(lambda: StandardNormal(1), lacks=("from_data",)),
    "StandardNormal(3)": Case(lambda: StandardNormal(3), lacks=("from_data",)),
    "DiagonalNormal(2)": Case(lambda: DiagonalNormal.of(torch.tensor([1.0, -2.0]), torch.tensor([0.3, 2.0]))),
    "GaussianMixture(2, full)": Case(lambda: GaussianMixture(2, 3), lacks=_MIXTURE, fit={"components": 3}),
    "GaussianMixture(3, diagonal)": Case(
        lambda: GaussianMixture(3, 2, "diagonal"), lacks=_MIXTURE, fit={"components": 2, "covariance": "diagonal"}
    ),
    "ClassConditional(2)": Case(lambda: ClassConditional(2, 3), lacks=("tempered",)),
    "Flow: zoo, freia/nice": Case(lambda: zoo("freia/nice", 2, depth=2, hidden=(8,), activation="silu"), lacks=_FLOW),
    "Flow: realnvp(2)": Case(lambda: smooth_realnvp(2), lacks=_FLOW),
    "Flow: realnvp(3)": Case(lambda: smooth_realnvp(3), lacks=_FLOW),
    "Flow: relu": Case(lambda: realnvp(2, depth=2, hidden=(16,)), lacks=_FLOW, smooth=False),
    "Flow: context": Case(lambda: smooth_realnvp(2, context=2), lacks=_FLOW),
    "Flow: on the torus and a line": Case(
        lambda: circular_nsf(3, [0, 2], depth=2, hidden=(16,), activation="silu"), lacks=_FLOW, smooth=False
    ),
    "Embedded: realnvp(2)": Case(
        lambda: Embedded(smooth_realnvp(2, context=2), MLP(5, 2, (8,), "silu"), 5), lacks=_FLOW
    ),
    # narrow, so that even these tails are low where the laws look far away
    "StudentT(2)": Case(
        lambda: StudentT.of(torch.tensor([1.0, -2.0]), torch.full((2,), 1e-3), [60.0, 40.0]), width=1e-3
    ),
    "StudentT(1), fixed": Case(lambda: StudentT(1, 400.0, learned=False), fit={"dof": 400.0, "learned": False}),
    "Flow: Student-t base": Case(lambda: smooth_realnvp(3, base=StudentT(3, 100.0)), lacks=_FLOW),
    "Flow: labels": Case(lambda: smooth_realnvp(2, base=ClassConditional(2, 3)), lacks=_FLOW),
    "GIN(4)": Case(lambda: turned_gin(4, 3), lacks=_FLOW),
    # encode and decode undo each other here: else the encoder's density has no mass of one, nor that of the draws
    "FreeFormFlow: a bijection": Case(
        lambda: FreeFormFlow(smooth_realnvp(2).bijection, StandardNormal(2), surrogate="conditional"),
        lacks=_FLOW,
        estimated=True,
    ),
    "FreeFormFlow: context, drawn beta": Case(
        lambda: FreeFormFlow(
            smooth_realnvp(2, context=3).bijection, StandardNormal(2), beta=(1.0, 100.0), probes=1, noise=0.1
        ),
        lacks=_FLOW,
        estimated=True,
    ),
    "FreeFormFlow(Sphere(2))": Case(
        lambda: FreeFormFlow(Stretch(torch.diag(torch.tensor([1.0, 1.5, 0.8]))), VonMisesFisher(torch.ones(3), 2.0)),
        lacks=_FLOW,
        estimated=True,
    ),
    "FlowMatching(Sphere(2))": Case(lambda: matched(Sphere(2)), lacks=_FLOW, estimated=True),
    "FlowMatching(Torus(2))": Case(lambda: matched(Torus(2)), lacks=_FLOW, estimated=True),
    "FlowMatching(PoincareBall(2))": Case(lambda: matched(PoincareBall(2)), lacks=_FLOW, estimated=True),
    "FlowMatching(Euclidean(1)), context": Case(lambda: matched(Euclidean(1), context=2), lacks=_FLOW, estimated=True),
    "GaussianPosterior": Case(
        lambda: GaussianPosterior(MLP(3, 4, (16,), "silu"), 3, 2), lacks=("entropy", "tempered", "from_data")
    ),
    "FlowPosterior": Case(
        lambda: FlowPosterior(coupling(2), GaussianPosterior(MLP(3, 4, (16,), "silu"), 3, 2)),
        lacks=("entropy", "tempered", "from_data"),
    ),
    "KumaraswamyPosterior": Case(
        lambda: KumaraswamyPosterior(MLP(3, 4, (16,), "silu"), 3, 2), lacks=("entropy", "tempered", "from_data")
    ),
    "DirichletPosterior": Case(
        lambda: DirichletPosterior(lifted(MLP(2, 3, (16,), "silu"), 3.4), 2, 3),
        lacks=("entropy", "tempered", "from_data"),
        points=lambda raw: torch.softmax(raw / 10, -1),
        width=0.1,
        implicit=True,
    ),
    "StickBreaking(3)": Case(lambda: StickBreaking(3, 2.0), lacks=("tempered", "from_data")),
    "a user's own": Case(lambda: OwnPosterior(2, 3), lacks=("entropy", "tempered", "from_data")),
    "Flow: mixture base": Case(lambda: smooth_realnvp(2, base=GaussianMixture(2, 2)), lacks=(*_FLOW, "rsample")),
    "WrappedNormal(Sphere(2))": Case(
        lambda: WrappedNormal(Sphere(2), torch.tensor([0.6, 0.0, 0.8]), 0.6), lacks=_WRAPPED, fit={"space": Sphere(2)}
    ),
    "WrappedNormal(Sphere(3), directions)": Case(
        lambda: WrappedNormal(Sphere(3), torch.tensor([0.1, -0.7, 0.5, 0.5]), [0.2, 0.4, 0.7]),
        lacks=_WRAPPED,
        fit={"space": Sphere(3), "directions": True},
    ),
    "WrappedNormal(SpecialOrthogonal(3))": Case(
        lambda: WrappedNormal(SpecialOrthogonal(3), rotation(), 0.6),
        lacks=_WRAPPED,
        fit={"space": SpecialOrthogonal(3)},
    ),
    "WrappedNormal(Torus(2), wide)": Case(
        lambda: WrappedNormal(Torus(2), torch.tensor([2.0, -1.0]), [0.7, 1.2]),
        lacks=_WRAPPED,
        fit={"space": Torus(2), "directions": True},
    ),
    "WrappedNormal(PoincareBall(2))": Case(
        lambda: WrappedNormal(PoincareBall(2, 0.5), torch.tensor([0.3, -0.1]), 0.8),
        lacks=("tempered",),
        fit={"space": PoincareBall(2, 0.5)},
    ),
    "WrappedNormal(Hyperboloid(2), directions)": Case(
        lambda: WrappedNormal(Hyperboloid(2), torch.tensor([1.118034, 0.5, 0.0]), [0.4, 0.9]),
        lacks=_WRAPPED,
        fit={"space": Hyperboloid(2), "directions": True},
    ),
    "WrappedNormal(Product)": Case(
        lambda: WrappedNormal(Product(Sphere(2), Euclidean(1, [2.0])), torch.tensor([0.6, 0.0, 0.8, 3.0]), 0.5),
        lacks=_WRAPPED,
        fit={"space": Product(Sphere(2), Euclidean(1, [2.0]))},
    ),
    "WrappedNormal(Euclidean, scale)": Case(
        lambda: WrappedNormal(Euclidean(2, [0.5, 3.0]), torch.tensor([1.0, 2.0]), [0.4, 1.5]),
        lacks=("tempered",),
        fit={"space": Euclidean(2, [0.5, 3.0]), "directions": True},
    ),
    "RiemannianNormal(Sphere(2))": Case(
        lambda: RiemannianNormal(Sphere(2), torch.tensor([0.6, 0.0, 0.8]), 0.8), fit={"space": Sphere(2)}
    ),
    "RiemannianNormal(Hyperboloid(3))": Case(
        lambda: RiemannianNormal(Hyperboloid(3, 2.0), torch.tensor([0.8660254, 0.5, 0.0, 0.0]), 0.6),
        fit={"space": Hyperboloid(3, 2.0)},
    ),
    "RiemannianNormal(SpecialOrthogonal(3))": Case(
        lambda: RiemannianNormal(SpecialOrthogonal(3), rotation(), 0.5), fit={"space": SpecialOrthogonal(3)}
    ),
    "IsotropicGaussianSO3, narrow": Case(lambda: IsotropicGaussianSO3(rotation(), 0.5), lacks=("tempered",)),
    "IsotropicGaussianSO3, wide": Case(lambda: IsotropicGaussianSO3(rotation(), 1.3), lacks=("tempered",)),
    "ProductDensity": Case(
        lambda: ProductDensity(VonMises(torch.tensor([1.0]), 3.0), ClassConditional(2, 3), StandardNormal(1)),
        lacks=("tempered", "from_data"),
    ),
    "MeanFreeNormal(4, 2)": Case(lambda: MeanFreeNormal(4, 2, 0.7), fit={"each": 2}),
    # it has kinks on the edges of faces
    "MeshDensity": Case(
        lambda: MeshDensity(icosphere(1), 0.2 + torch.arange(42) % 5),
        lacks=("rsample", "tempered", "from_data"),
        smooth=False,
    ),
    # it has jumps between cells
    "GridDensity(Torus(2))": Case(
        lambda: GridDensity(1.0 + torch.arange(30).reshape(6, 5) % 7), lacks=("rsample", "from_data"), smooth=False
    ),
    # narrow, so that the proposals of these laws stay among positive numbers
    "LogNormal(2)": Case(lambda: LogNormal([0.5, -0.3], [0.02, 0.03])),
    "WrappedDensity(PoincareBall(2))": Case(
        lambda: WrappedDensity(GaussianMixture(2, 2), PoincareBall(2)), lacks=(*_MIXTURE, "from_data")
    ),
    "WrappedDensity(Hyperboloid(2)), labels": Case(
        lambda: WrappedDensity(ClassConditional(2, 3), Hyperboloid(2, 0.5), torch.tensor([1.5, 0.3, 0.4])),
        lacks=(*_WRAPPED, "from_data"),
    ),
    "Dirichlet(3)": Case(
        lambda: Dirichlet([25.0, 36.0, 30.0]), points=lambda raw: torch.softmax(raw / 10, -1), width=0.1
    ),
    "VonMises(2)": Case(lambda: VonMises(torch.tensor([1.0, -3.0]), [2.0, 30.0])),
    **{
        f"{family.__name__}({n})": Case(lambda family=family, n=n: family(torch.linspace(1, -2, n + 1), 3.0))
        for family in (VonMisesFisher, PowerSpherical)
        for n in (1, 2, 5)
    },
    **{f"Uniform(Sphere({n}))": Case(lambda n=n: Uniform(Sphere(n)), lacks=("from_data",)) for n in (1, 2, 5)},
    **{
        f"Mixture({n})": Case(
            lambda n=n: Mixture(
                [1.0, 2.0, 1.0], VonMisesFisher(torch.eye(n + 1, 3).T - 0.4, torch.tensor([4.0, 8, 6]))
            ),
            lacks=_MIXTURE,
            fit={"components": 3},
        )
        for n in (1, 2, 5)
    },
    "Mixture(VonMises(2))": Case(
        lambda: Mixture(
            [1.0, 2.0], VonMises(torch.tensor([[1.0, -3.0], [-1.0, 0.5]]), torch.tensor([[5.0, 9.0], [4, 3]]))
        ),
        lacks=_MIXTURE,
        fit={"components": 2, "family": VonMises},
    ),
    "Mixture(WrappedNormal(PoincareBall(2)))": Case(
        lambda: Mixture(
            [1.0, 2.0],
            WrappedNormal(PoincareBall(2), torch.tensor([[0.3, -0.4], [-0.2, 0.3]]), torch.tensor([0.3, 0.4])),
        ),
        lacks=_MIXTURE,
        fit={"components": 2, "family": WrappedNormal, "space": PoincareBall(2)},
    ),
    "Mixture(WrappedNormal(Torus(1) x Sphere(1)), directions)": Case(
        lambda: Mixture(
            [1.0, 1.0],
            WrappedNormal(
                Product(Torus(1), Sphere(1)),
                torch.tensor([[2.0, 1.0, 0.0], [-1.0, -0.6, 0.8]]),
                torch.tensor([[0.4, 0.7], [0.6, 0.3]]),
            ),
        ),
        lacks=_MIXTURE,
        fit={"components": 2, "family": WrappedNormal, "space": Product(Torus(1), Sphere(1)), "directions": True},
    ),
    "Mixture(RiemannianNormal(Hyperboloid(2)))": Case(
        lambda: Mixture(
            [3.0, 2.0],
            RiemannianNormal(
                Hyperboloid(2), Hyperboloid(2).project(torch.tensor([[1.0, 0.9, 0.0], [1.0, -0.5, 0.6]])), [0.4, 0.3]
            ),
        ),
        lacks=_MIXTURE,
        fit={"components": 2, "family": RiemannianNormal, "space": Hyperboloid(2)},
    ),
    "Mixture(IsotropicGaussianSO3)": Case(
        lambda: Mixture(
            [1.0, 2.0], IsotropicGaussianSO3(torch.stack([rotation(), torch.eye(3).flatten()]), [0.3, 0.5])
        ),
        lacks=_MIXTURE,
        fit={"components": 2, "family": IsotropicGaussianSO3},
    ),
    "Mixture(Dirichlet(3))": Case(
        lambda: Mixture([1.0, 2.0], Dirichlet(torch.tensor([[25.0, 36.0, 80.0], [50.0, 36.0, 30.0]]))),
        lacks=_MIXTURE,
        points=lambda raw: torch.softmax(raw / 10, -1),
        width=0.1,
        fit={"components": 2, "family": Dirichlet},
    ),
    "Mixture, of two kinds": Case(
        lambda: Mixture([0.8, 0.2], [VonMisesFisher(torch.tensor([0.0, 0.6, 0.8]), 9.0), Uniform(Sphere(2))]),
        lacks=_MIXTURE,
        fit={"components": 2},  # a part with κ near 0 is uniform
    ),
}


SAMPLERS: dict[str, Case] = {
    "Dequantized": Case(lambda: Dequantized(smooth_realnvp(2), 32)),
    "Dequantized, labels": Case(lambda: Dequantized(ClassConditional(3, 2), 256)),
    "LatentModel: vae": Case(lambda: recipes.vae(4, 2, hidden=(8,))),
    "LatentModel: wae, standardised": Case(
        lambda: recipes.wae_mmd(4, 2, hidden=(8,), prior=GaussianMixture(2, 3), standardize=True)
    ),
    "LatentModel: critic": Case(lambda: recipes.wae_gan(4, 2, hidden=(8,), critic=(8,))),
    "LatentModel: two stages": Case(
        lambda: recipes.vae(4, 3, hidden=(8,), cost="gaussian", prior=recipes.vae(3, 2, hidden=(8,), cost="gaussian"))
    ),
    # densities once an encoder is theirs, or with a mass that is estimated: see tests/oracles/test_priors.py
    "VampPrior, without an encoder": Case(lambda: VampPrior(4, 2, 3), lacks=("sample", "rsample")),
    "LatentModel: VampPrior": Case(lambda: recipes.vampprior(4, 2, components=3, hidden=(8,))),
    "ResampledPrior": Case(lambda: ResampledPrior(StandardNormal(2), MLP(2, 1, (8,)), 5), lacks=("rsample",)),
    "RatioPrior": Case(lambda: RatioPrior(DiagonalNormal(2), MLP(2, 1, (8,)), 10), lacks=("rsample",)),
    "RatioPrior, codes held": Case(
        lambda: RatioPrior(StandardNormal(2), MLP(2, 1, (8,)), 10, hold=True), lacks=("rsample",)
    ),
    "PushForward": Case(lambda: PushForward(MLP(3, 2, (8,)), 3, 2)),
    "LatentModel: masked": Case(lambda: recipes.maskaae(4, 3, hidden=(8,), critic=(8,))),
    "MaskedPrior": Case(lambda: MaskedPrior(DiagonalNormal(2)), lacks=("sample",)),
    "ScoreNetwork": Case(lambda: ScoreNetwork(3, hidden=(8,)), lacks=("sample",)),
    "ScoreNetwork, levels": Case(lambda: ScoreNetwork(2, hidden=(8,), noise=(0.1, 0.3)), lacks=("sample",)),
}
"""What trains but has no `log_prob`."""

RECIPES: dict[str, Case] = {
    "realnvp(2)": Case(lambda: realnvp(2)),
    "realnvp(5)": Case(lambda: realnvp(5)),
    "realnvp(4, context)": Case(lambda: realnvp(4, context=2)),
    "nsf(2)": Case(lambda: nsf(2)),
    "maf(3)": Case(lambda: maf(3)),
    "maf(3, spline, context)": Case(lambda: maf(3, univariate="spline", context=2)),
    "nsf(5, permute, context)": Case(lambda: nsf(5, mix="permute", context=2)),
    "nsf(3, orthogonal)": Case(lambda: nsf(3, mix="orthogonal", depth=3)),
}
"""Flows that, untrained, are the diagonal Gaussian of the data they were prepared on."""


# -- what carries them -------------------------------------------------------------------------------------------------


def coupling(dim: int, **options: Any) -> AffineCoupling:
    return AffineCoupling(dim, hidden=(16,), activation="silu", **options)


BIJECTIONS: dict[str, Case] = {
    "AffineCoupling(2)": Case(lambda: coupling(2)),
    "AffineCoupling(5)": Case(lambda: coupling(5)),
    "AffineCoupling(5, volume preserving)": Case(lambda: coupling(5, volume_preserving=True)),
    "AffineCoupling(3, context)": Case(lambda: coupling(3, context_dim=2)),
    # smooth: a spline has one derivative at its knots, and no second
    "SplineCoupling(2)": Case(lambda: SplineCoupling(2, hidden=(16,), activation="silu"), smooth=False),
    "SplineCoupling(5, three bins)": Case(lambda: SplineCoupling(5, 0, (16,), "silu", 3, 1.0), smooth=False),
    "SplineCoupling(3, context)": Case(lambda: SplineCoupling(3, 2, (16,), "silu"), smooth=False),
    "Autoregressive(1)": Case(lambda: Autoregressive(1, hidden=(16,), activation="silu")),
    "Autoregressive(4, context)": Case(lambda: Autoregressive(4, 2, (16,), "silu")),
    "Autoregressive(3, spline)": Case(lambda: Autoregressive(3, 0, (16,), "silu", "spline"), smooth=False),
    "ZooBijection: normflows/nsf": Case(lambda: ZooBijection("normflows/nsf", 2, 0, 1, (8,), "silu"), smooth=False),
    "ZooBijection: normflows/planar": Case(lambda: ZooBijection("normflows/planar", 3, 0, 3), smooth=False),
    "ZooBijection: freia/glow, context": Case(lambda: ZooBijection("freia/glow", 2, 2, 2, (8,), "silu")),
    "ZooBijection: freia/nice": Case(lambda: ZooBijection("freia/nice", 2, 0, 2, (8,), "silu")),
    "LULinear(5)": Case(lambda: LULinear(5, order=[2, 0, 1, 4, 3])),
    "OrthogonalLinear(5)": Case(lambda: OrthogonalLinear(5)),
    "OrthogonalLinear(4, two reflections)": Case(lambda: OrthogonalLinear(4, 2)),
    "Permutation(5)": Case(lambda: Permutation(5, order=[2, 0, 1, 4, 3])),
    "Unimodular(5)": Case(lambda: turned_gin(5, 1).bijection.parts[-1]),
    "Reflection(5)": Case(lambda: Reflection(5)),
    "Standardize(3)": Case(lambda: scaled(3)),
    "Bounded, every kind": Case(lambda: Bounded([-30.0, -30.0, None, None], [30.0, None, 30.0, None])),
    "Positive(2)": Case(lambda: Positive(2)),
    "Logit(3)": Case(lambda: Logit(3, 0.45)),
    "Inverse(Standardize)": Case(lambda: Inverse(scaled(3))),
    "Inverse(AffineCoupling, context)": Case(lambda: Inverse(coupling(3, context_dim=2))),
    # smooth: as SplineCoupling
    "CircularSplineCoupling(2)": Case(
        lambda: CircularSplineCoupling(2, [0, 1], [1], 0, (16,), "silu", 5), smooth=False
    ),
    "CircularSplineCoupling(5, mixed, context)": Case(
        lambda: CircularSplineCoupling(5, [1, 4], [0, 1, 3], 2, (16,), "silu"), smooth=False
    ),
    "OnColumns(AffineCoupling, context)": Case(lambda: OnColumns(coupling(3, context_dim=2), 5, [4, 0, 2])),
    "OnColumns(Standardize)": Case(lambda: OnColumns(scaled(2), 3, [0, 1])),
    "Squeeze": Case(lambda: Squeeze((3, 4, 2))),
    "Squeeze, haar": Case(lambda: Squeeze((2, 2, 4), haar=True)),
    "AtEachPixel(LULinear)": Case(lambda: AtEachPixel(LULinear(3, order=[2, 0, 1]), (3, 2, 2))),
    "AtEachPixel(AffineCoupling, context)": Case(lambda: AtEachPixel(coupling(3, context_dim=2), (3, 2, 1))),
    "ImageCoupling": Case(lambda: ImageCoupling((3, 4, 2), channels=8, activation="silu")),
    "ImageCoupling, context": Case(lambda: ImageCoupling((2, 2, 3), 2, 8, "silu")),
    "ChainBijection": Case(lambda: ChainBijection(scaled(4), coupling(4), Permutation(4, [1, 0, 3, 2]), coupling(4))),
    "ChainBijection, part with context": Case(
        lambda: ChainBijection(scaled(3), coupling(3, context_dim=2), Inverse(coupling(3)))
    ),
}


HOMES: dict[type, Callable[[Tensor], Tensor]] = {
    Positive: nn.functional.softplus,
    Logit: lambda raw: 0.4 * raw.sigmoid(),
    CircularSplineCoupling: wrap,
    FromOrigin: Hyperboloid(2).project,
}
"""From numbers of about one to data, for maps that are not at home everywhere."""


def pair(dim: int, latent: int) -> Pair:
    return Pair(MLP(dim, latent, (16,), "silu"), MLP(latent, dim, (16,), "silu"), dim=dim, latent_dim=latent)


@register
class WithContext(nn.Module):
    """A network of a point and its context."""

    def __init__(self, inputs: int, outputs: int, context: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.context = inputs, outputs, context
        self.net = MLP(inputs + context, outputs, (16,), "silu")

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.net(torch.cat([x, context], -1))


AUTOENCODERS: dict[str, Case] = {
    "Pair": Case(lambda: pair(4, 2)),
    "Pair, posterior encodes": Case(
        lambda: Pair(None, MLP(2, 4, (16,), "silu"), OwnPosterior(2, 4), dim=4, latent_dim=2)
    ),
    "Pair, context": Case(
        lambda: Pair(WithContext(4, 2, 3), WithContext(2, 4, 3), OwnPosterior(2, 4), dim=4, latent_dim=2, context_dim=3)
    ),
    "Chain, posterior at its end": Case(
        lambda: Chain(scaled(5), pair(5, 4), Pair(None, MLP(2, 4), OwnPosterior(2, 4), dim=4, latent_dim=2))
    ),
    "Chain": Case(lambda: Chain(scaled(4), pair(4, 3), pair(3, 2))),
    "Linked": Case(lambda: Linked(pair(4, 2))),
    "Linked, a Gaussian posterior": Case(
        lambda: Linked(
            Pair(None, MLP(2, 4, (8,)), GaussianPosterior(MLP(4, 4, (8,)), 4, 2), dim=4, latent_dim=2), "softmax"
        )
    ),
    "Pair, shares of a stick": Case(
        lambda: Pair(
            None,
            OfShares(MLP(3, 4, (8,), "silu"), "sticks"),
            KumaraswamyPosterior(MLP(4, 4, (8,), "silu"), 4, 2),
            dim=4,
            latent_dim=2,
        )
    ),
    "Masked": Case(lambda: Masked(pair(4, 2))),
    "OnCircles": Case(lambda: OnCircles(pair(4, 4))),
    "FromOrigin(Hyperboloid(2))": Case(lambda: FromOrigin(pair(2, 2), Hyperboloid(2))),
    "Chain, bijection behind": Case(lambda: Chain(pair(4, 2), coupling(2))),
}
"""Those that are no bijections; the laws of auto-encoders run on `BIJECTIONS` too."""

TERMS: dict[str, Case] = {
    "Square": Case(Square),
    "Gaussian": Case(Gaussian),
    "Gaussian, fixed": Case(lambda: Gaussian(0.3)),
    "Bernoulli": Case(Bernoulli),
    "Multinomial": Case(lambda: Multinomial(20.0)),
    "KL": Case(lambda: KL(0.5)),
    "MMD": Case(lambda: MMD((1.0, 2.0))),
    "Critic": Case(lambda: Critic(MLP(2, 1, (8,)))),
    "Critic, apart": Case(lambda: Critic(MLP(2, 1, (8,)), "wgan-gp", apart=0.05)),
    "OfShares": Case(lambda: OfShares(Topics(3, 4), "sticks")),
    "OfShares, centered": Case(lambda: OfShares(MLP(3, 4, (8,)), "sticks", centered=True)),
    "Topics": Case(lambda: Topics(3, 4)),
    "TotalCorrelation": Case(lambda: TotalCorrelation(MLP(2, 1, (8,)))),
    "MinibatchTotalCorrelation": Case(lambda: MinibatchTotalCorrelation(100)),
    "DataCritic": Case(lambda: DataCritic(MLP(4, 3, (8,)), MLP(3, 1, (8,)))),
    "LearnedSimilarity": Case(LearnedSimilarity),
    "EmbeddingNorm": Case(EmbeddingNorm),
    "DecoderL2": Case(DecoderL2),
    "JacobianNorm": Case(lambda: JacobianNorm(0.5, 2)),
    "LogJacobian": Case(LogJacobian),
    "MaskPolarisation": Case(lambda: MaskPolarisation(50)),
    # not among the networks: each of its passes in training is another function than the one before
    "Spectral": Case(lambda: Spectral(MLP(3, 2, (8,)))),
}
"""Costs, divergences and extras of a `LatentModel`, and what its decoders are made of."""

NETS: dict[str, Case] = {
    "MLP": Case(lambda: MLP(3, 2, (8,), "silu")),
    "MaskedMLP": Case(lambda: MaskedMLP(4, 2, (8, 9), "silu")),
    "MaskedMLP, context, no hidden layer": Case(lambda: MaskedMLP(3, 1, (), context=2)),
    "ResidualNet": Case(lambda: ResidualNet(3, 3, 8, 2, 1)),
    "ResidualNet, narrower, sin": Case(lambda: ResidualNet(4, 2, 8, 2, 1, "sin")),
    "ResidualNet, context": Case(lambda: ResidualNet(3, 3, 8, 2, 1, context=2)),
    "ConvEncoder": Case(lambda: ConvEncoder((1, 8, 6), 3, (4, 8))),
    "ConvEncoder, odd sides": Case(lambda: ConvEncoder((2, 7, 5), 3, (4, 8))),
    "ConvDecoder": Case(lambda: ConvDecoder(3, (1, 8, 6), (4, 8))),
    "ConvDecoder, odd sides": Case(lambda: ConvDecoder(3, (2, 7, 5), (4, 8))),
    "ImageFeatures": Case(lambda: ImageFeatures((1, 8, 6), 8, (4, 8)), smooth=False),
    "EGNN(4, 2)": Case(lambda: EGNN(4, 2, 8, 2)),
    "EGNN(5, 3), types": Case(lambda: EGNN(5, 3, 8, 2, types=(6, 1, 1, 8, 1))),
    "EGNN(3, 3), context": Case(lambda: EGNN(3, 3, 8, 2, context=2)),
}
