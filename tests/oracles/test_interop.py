"""Blocks and models of other libraries under our laws: every block of FrEIA and normflows is lawful, or refused in words."""

import copy
import importlib
import inspect
import math
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from geoflow import Flow, StandardNormal, fit, load, save
from geoflow.interop import bijection_from_normflows, from_freia, from_normflows, from_torch, from_zuko, to_torch, zoo
from geoflow.interop.zoo import ZOO
from tests.laws.tools import close, untouched
from tests.oracles.foreign_blocks import (
    FREIA,
    NO_BLOCKS_OF_FREIA,
    NO_BLOCKS_OF_NORMFLOWS,
    NORMFLOWS,
    Block,
    calls,
    derivatives,
    every,
    measure,
    net,
    quiet,
)

CASES = {f"{library} {name} {block.remark}".strip(): block for library, name, block in every()}
TAKEN = {n: b for n, b in CASES.items() if not b.refused}
FIRST = {" ".join(n.split()[:2]): b for n, b in reversed(TAKEN.items())}
"""Of each class one: `run_zoo.py` holds the others to the same laws."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


# -- every block -------------------------------------------------------------------------------------------------------


def below(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from below(sub)


def test_every_block_of_freia_has_its_place() -> None:
    """A new one fails here until it has."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm

    offered = {
        n for m in (fm, ff) for n, c in vars(m).items() if inspect.isclass(c) and issubclass(c, fm.InvertibleModule)
    }
    assert offered >= set(fm.__all__)
    assert offered - NO_BLOCKS_OF_FREIA == set(FREIA)


def test_every_flow_of_normflows_has_its_place() -> None:
    import normflows as nf

    for info in pkgutil.walk_packages(nf.__path__, "normflows."):
        if not info.name.endswith("_test"):
            importlib.import_module(info.name)
    offered = {c.__name__ for c in below(nf.flows.base.Flow) if c.__module__.startswith("normflows")}
    public = {n for n in offered if not n.startswith("_")}
    assert public - NO_BLOCKS_OF_NORMFLOWS == set(NORMFLOWS)


def test_every_base_of_normflows_is_tried() -> None:
    """In `test_models_of_normflows` and after it."""
    import normflows as nf

    tried = {
        "DiagGaussian",
        "GaussianMixture",
        "Uniform",
        "UniformGaussian",
        "ConditionalDiagGaussian",
        "AffineGaussian",
    }
    tried |= {"ClassCondDiagGaussian", "GlowBase", "GaussianPCA"}
    assert {c.__name__ for c in below(nf.distributions.BaseDistribution)} == tried


@pytest.mark.parametrize("name", [n for n, b in CASES.items() if b.refused])
def test_refused_in_words(name: str) -> None:
    with pytest.raises(ValueError, match=CASES[name].refused):
        CASES[name].make()


@pytest.mark.parametrize("block", TAKEN.values(), ids=TAKEN.keys())
def test_round_trip_and_log_det(block: Block) -> None:
    """In both precisions; there and back cancel; both directions against slogdet of autograd's Jacobian."""
    found = measure(block, 3)
    assert max(found.round_trip, found.both_ways, found.jacobian) < block.bound
    assert found.round_trip32 < 1e-5


@pytest.mark.parametrize("block", FIRST.values(), ids=FIRST.keys())
def test_calls(block: Block) -> None:
    calls(block)


@pytest.mark.parametrize("block", FIRST.values(), ids=FIRST.keys())
def test_derivatives(block: Block) -> None:
    derivatives(block)


# -- what adapters owe -------------------------------------------------------------------------------------------------


def test_haar_leaves_its_input_alone() -> None:
    """FrEIA's own writes into what it is given, in the direction that goes up."""
    import FrEIA.modules as fm

    block = fm.HaarUpsampling([(4, 2, 2)])
    x = torch.randn(3, 4, 2, 2)
    before = x.clone()
    block([x])
    assert not torch.equal(x, before), "FrEIA has learned: the copy is no longer needed"
    ours = from_freia(block)
    rows = torch.randn(3, 16)
    for verb in (ours.encode, ours.decode):
        with untouched(rows):
            verb(rows)


def test_a_block_that_writes_into_its_input() -> None:
    """One of somebody's own: it gets a copy."""
    import FrEIA.modules as fm

    class Doubling(fm.InvertibleModule):
        def forward(self, xs: Any, c: Any = (), rev: bool = False, jac: bool = True) -> Any:
            return [xs[0].mul_(0.5 if rev else 2.0)], xs[0].shape[1] * math.log(0.5 if rev else 2.0)

        def output_dims(self, dims: Any) -> Any:
            return dims

    bijection = from_freia(Doubling([(3,)]))
    x = torch.randn(4, 3)
    with untouched(x):
        close(bijection.encode(x), 2 * x, 1e-6)


def test_parts_of_a_network_hear_of_no_rows_and_any_batch() -> None:
    import FrEIA.modules as fm

    bijection = from_freia(fm.AllInOneBlock([(4,)], subnet_constructor=net))
    for batch in ((0,), (2, 0), (), (2, 3, 1)):
        z, log_det = bijection.encode_and_log_det(torch.randn(*batch, 4))
        assert z.shape == (*batch, 4)
        assert log_det.shape == batch


def test_act_norm_takes_the_training_rows(generator: Generator) -> None:
    """In `prepare`, once, all at once; and nothing before, in either direction."""
    import FrEIA.framework as ff
    import FrEIA.modules as fm
    import normflows as nf

    x = 5 + 3 * torch.randn(500, 4, dtype=torch.float64, generator=generator)
    inn = ff.SequenceINN(4)
    inn.append(fm.ActNorm)
    inn.append(fm.ActNorm)
    theirs = nf.NormalizingFlow(nf.distributions.DiagGaussian(4), [nf.flows.ActNorm((4,)), nf.flows.ActNorm((4,))])
    for flow in (Flow(from_freia(inn), StandardNormal(4)).double(), from_normflows(theirs).double()):
        state = copy.deepcopy(flow.state_dict())
        flow.log_prob(x[:1])
        flow.sample(1)
        for key, value in flow.state_dict().items():
            assert torch.equal(value, state[key]), key
        flow.prepare(x)
        z = flow.bijection.encode(x)
        close(z.mean(0), torch.zeros(4, dtype=torch.float64), 1e-3)
        close(z.std(0), torch.ones(4, dtype=torch.float64), 1e-3)
        assert {t.dtype for t in flow.state_dict().values()} <= {torch.float64, torch.bool}
        flow.prepare(2 * x)
        assert torch.equal(flow.bijection.encode(x), z)


def test_float64_stays_float64_in_training(generator: Generator) -> None:
    """normflows' own sums are float32."""
    import normflows as nf

    flows = [nf.flows.Permute(4), nf.flows.AffineCouplingBlock(net(2, 4)), nf.flows.LULinearPermute(4)]
    theirs = nf.NormalizingFlow(nf.distributions.DiagGaussian(4), flows).double()
    ours = from_normflows(theirs)
    x = torch.randn(20, 4, dtype=torch.float64, generator=generator)
    loss = ours.loss(x)["loss"]
    assert loss.dtype == torch.float64
    close(loss, -theirs.log_prob(x).mean(), 1e-12)
    close(ours.log_prob(x), theirs.log_prob(x), 1e-12)
    assert ours.sample(3).dtype == torch.float64


def test_residual_without_contraction_is_told() -> None:
    import normflows as nf

    flow = nf.flows.Residual(nn.Linear(4, 4, bias=False), reverse=True).float()
    with torch.no_grad():
        flow.iresblock.nnet.weight.copy_(-torch.eye(4))  # x + g(x) = 0, whatever x
    bijection = bijection_from_normflows(flow, 4, exact=True)
    with pytest.raises((ValueError, RuntimeError), match="update_lipschitz|singular"):
        bijection.decode(torch.randn(3, 4))


# -- whole models ------------------------------------------------------------------------------------------------------


def grid_over(x: Tensor, n: int = 301) -> tuple[Tensor, float]:
    """Points of a grid over twice the range of draws, and the area of its cells."""
    low, high = x.amin(0), x.amax(0)
    sides = [
        torch.linspace(float(1.5 * a - 0.5 * b), float(1.5 * b - 0.5 * a), n, dtype=x.dtype)
        for a, b in zip(low, high, strict=True)
    ]
    return torch.cartesian_prod(*sides), math.prod(float(s[1] - s[0]) for s in sides)


@torch.no_grad()
def is_a_density(density: Any, context: Tensor | None = None, jumps: bool = False) -> None:
    """Mass one; draws have the means of the grid, within errors, and repeat under a seed."""
    x = density.sample(10_000, context, Generator().manual_seed(0))
    grid, cell = grid_over(x)
    p = density.log_prob(grid, context).exp()[:, None] * cell
    assert abs(float(p.sum()) - 1) < (0.03 if jumps else 2e-3)  # half a cell at each jump
    for f in (torch.Tensor.clone, torch.square, torch.tanh):
        error = f(x).std(0) / math.sqrt(len(x))
        assert ((f(x).mean(0) - (p * f(grid)).sum(0) / p.sum()).abs() < 4.5 * error).all()
    before = torch.get_rng_state()
    again = [density.sample(3, context, Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])
    assert torch.equal(torch.get_rng_state(), before)


def stirred(model: nn.Module, by: float = 0.2) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn_like(p))
    return model.double()


def test_models_of_normflows() -> None:
    """One each: log_prob as theirs, mass one, draws that follow it, under a context or a label too."""
    import normflows as nf

    def coupling(i: int, context: int | None = None) -> nn.Module:
        return nf.flows.CoupledRationalQuadraticSpline(2, 1, 8, context, reverse_mask=bool(i))

    encoder = nn.Linear(3, 4)
    affine = [nf.flows.AffineConstFlow((2,)), nf.flows.LULinearPermute(2)]
    models = {
        "plain": nf.NormalizingFlow(nf.distributions.DiagGaussian(2), [coupling(0), coupling(1)]),
        "mixture": nf.NormalizingFlow(nf.distributions.GaussianMixture(2, 2), [*affine]),
        "uniform": nf.NormalizingFlow(nf.distributions.base.Uniform(2), [nf.flows.AffineConstFlow((2,))]),
        "box": nf.NormalizingFlow(nf.distributions.UniformGaussian(2, [1]), [nf.flows.AffineConstFlow((2,))]),
        "context": nf.ConditionalNormalizingFlow(
            nf.distributions.base.ConditionalDiagGaussian(2, encoder), [coupling(0, 3), coupling(1, 3)]
        ),
        "glow": nf.NormalizingFlow(nf.distributions.GlowBase((2,)), [coupling(0)]),
        "labels": nf.ClassCondFlow(nf.distributions.ClassCondDiagGaussian(2, 3), [coupling(0)]),
        "labels, affine": nf.ClassCondFlow(nf.distributions.AffineGaussian(2, (2,), 3), [coupling(0)]),
    }
    x = 0.4 * torch.rand(5, 2, dtype=torch.float64) - 0.2  # inside every box
    for name, model in models.items():
        torch.manual_seed(0)
        theirs = stirred(model)
        ours = from_normflows(theirs, context=3 if name == "context" else 0)
        context = {"context": torch.randn(5, 3, dtype=torch.float64), "labels": torch.arange(5) % 3}.get(
            name.split(",")[0]
        )
        given = [] if context is None else [context]
        with torch.no_grad():
            close(ours.log_prob(x, context), theirs.log_prob(x, *given).double(), 1e-6 if name == "uniform" else 1e-12)
        one = None if context is None else context[1]
        is_a_density(ours, one, jumps=name in ("uniform", "box"))
        x_of = ours.sample((2, 3), one)
        close(
            ours.bijection.decode(
                ours.bijection.encode(x_of, one if ours.bijection.context_dim else None),
                one if ours.bijection.context_dim else None,
            ),
            x_of,
            1e-9,
        )


def test_multiscale_images(generator: Generator) -> None:
    """A density without a bijection: log_prob as normflows', draws in the shape of data, labels, training."""
    import normflows as nf

    q0 = [nf.distributions.ClassCondDiagGaussian(s, 3) for s in ((8, 1, 1), (2, 2, 2))]
    flows = [[nf.flows.GlowBlock(8, 4), nf.flows.Squeeze()], [nf.flows.GlowBlock(4, 4), nf.flows.Squeeze()]]
    theirs = nf.MultiscaleFlow(q0, flows, [nf.flows.Merge()], nf.transforms.Shift())
    ours = from_normflows(theirs)
    assert ours.dim == 16
    assert not hasattr(ours, "bijection")
    x, y = torch.randn(40, 16, generator=generator), torch.arange(40) % 3
    ours.prepare(x, y)
    close(ours.log_prob(x, y), theirs.log_prob(x.reshape(40, 1, 4, 4).clone(), y), 1e-4)
    assert ours.sample((2, 3), y[:4], generator).shape == (2, 3, 4, 16)
    before = ours.evaluate(x, y)["loss"]
    fit(ours, x, y, epochs=5, seed=0, progress=False, validation=0.0)
    assert ours.evaluate(x, y)["loss"] < before
    images = nf.NormalizingFlow(nf.distributions.GlowBase((16, 1, 1)), [nf.flows.Squeeze(), nf.flows.Squeeze()])
    assert from_normflows(images).bijection.shape == [1, 4, 4]


def test_models_of_zuko(unchecked: None) -> None:
    import zuko

    torch.manual_seed(0)
    x = torch.randn(5, 2, dtype=torch.float64)
    for theirs, context in (
        (zuko.flows.NSF(2, transforms=2, hidden_features=(8,)), 0),
        (zuko.flows.MAF(2, 3, transforms=2, hidden_features=(8,)), 3),
        (zuko.flows.NICE(2, transforms=2, hidden_features=(8,)), 0),
        (zuko.mixtures.GMM(2, components=2), 0),
    ):
        stirred(theirs, 0.05)
        ours = from_zuko(theirs, context=context)
        c = torch.randn(3, dtype=torch.float64) if context else None
        with torch.no_grad():
            close(ours.log_prob(x, c), theirs(c).log_prob(x), 1e-12)
        is_a_density(ours, c)
        if isinstance(ours, Flow):
            close(ours.bijection.reconstruct(x, c), x, 1e-9)
            found = (
                ours.bijection.encode_and_log_det(x, c)[1]
                + ours.bijection.decode_and_log_det(ours.bijection.encode(x, c), c)[1]
            )
            close(found, 0 * found, 1e-4)
    with pytest.raises(ValueError, match="build it with exact=True"):
        from_zuko(zuko.flows.CNF(2, exact=False))
    with pytest.raises(TypeError, match="from_torch takes distributions"):
        from_zuko(zuko.flows.NSF(2)())


def test_distributions_of_torch(generator: Generator) -> None:
    import torch.distributions as td

    two = torch.tensor([1.0, 2.0], dtype=torch.float64)
    normal = td.Independent(td.Normal(two, two), 1)
    for theirs in (
        normal,
        td.MultivariateNormal(two, torch.diag(two)),
        td.MixtureSameFamily(td.Categorical(two), td.Independent(td.Normal(torch.eye(2).double(), 1.0), 1)),
        td.TransformedDistribution(normal, [td.AffineTransform(two, two)]),
        td.Independent(td.Gamma(3 * two, 2 * two), 1),
        td.Independent(td.Uniform(-two, two), 1),
    ):
        ours = from_torch(theirs)
        is_a_density(ours, jumps=isinstance(theirs, td.Independent) and not isinstance(theirs.base_dist, td.Normal))
        x = ours.sample(5, generator=generator)
        close(ours.log_prob(x), theirs.log_prob(x), 1e-12)
        close(torch.vmap(ours.log_prob)(x), theirs.log_prob(x), 1e-12)
        assert copy.deepcopy(ours).float().log_prob(x.float()).dtype == torch.float32
        assert theirs.sample().dtype == torch.float64
        again = to_torch(ours)
        close(again.log_prob(x), theirs.log_prob(x), 1e-12)
        assert again.sample((2, 3)).shape == (2, 3, 2)
    gamma = from_torch(td.Gamma(2.0, 1.0))
    assert gamma.dim == 1
    assert gamma.log_prob(torch.tensor([[-1.0], [1.0]])).isneginf().tolist() == [True, False]
    assert gamma.score(torch.tensor([[-1.0], [1.0]])).isfinite().all()
    flow = Flow(from_freia_scale(), from_torch(normal))
    assert fit(flow, torch.randn(100, 2, dtype=torch.float64), epochs=2, progress=False).rows


def from_freia_scale() -> Any:
    import FrEIA.modules as fm

    return from_freia(fm.LearnedElementwiseScaling([(2,)])).double()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda td: from_torch(td.Normal(torch.zeros(3), 1.0)),
            ValueError,
            r"batch \(3,\).*Independent\(distribution, 1\)",
        ),
        (lambda td: from_torch(td.Poisson(1.0)), TypeError, "whole numbers"),
        (lambda td: from_torch(td.Dirichlet(torch.ones(3))), ValueError, "use geoflow.distributions.Dirichlet"),
        (lambda td: from_torch(td.Wishart(torch.tensor(3.0), torch.eye(2))), ValueError, r"events of shape \(2, 2\)"),
        (lambda td: from_torch(nn.Linear(2, 2)), TypeError, "expects a distribution of torch, got Linear"),
        (lambda td: to_torch(td.Normal(0.0, 1.0)), TypeError, "expects a Density, got Normal"),
        (lambda td: from_freia(nn.Linear(2, 2)), TypeError, "a block of FrEIA, got Linear"),
        (lambda td: from_normflows(nn.Linear(2, 2)), TypeError, "MultiscaleFlow, got Linear"),
        (lambda td: bijection_from_normflows(nn.Linear(2, 2), 2), TypeError, "from_normflows takes whole models"),
    ],
)
def test_what_is_asked_for_is_said(make: Any, error: type[Exception], words: str, unchecked: None) -> None:
    with pytest.raises(error, match=words):
        make(torch.distributions)


def test_models_of_normflows_that_cannot_work(unchecked: None) -> None:
    import normflows as nf

    flow = [nf.flows.LULinearPermute(2)]
    for model, context, words in (
        (
            nf.NormalizingFlow(nf.distributions.GaussianMixture(2, 2), flow),
            0,
            r"float32 and torch.float64 .* model.float\(\)",
        ),
        (nf.NormalizingFlow(nf.distributions.GaussianPCA(2, 1), flow), 0, "take geoflow.GaussianMixture"),
        (nf.NormalizingFlow(nf.distributions.DiagGaussian(2), [nf.flows.Radial((2,))]), 0, "Radial has no inverse"),
        (nf.NormalizingFlow(nf.distributions.DiagGaussian(2), flow), 3, "width of the condition"),
        (nf.ConditionalNormalizingFlow(nf.distributions.DiagGaussian(2), flow), 0, "width of the condition"),
    ):
        with pytest.raises(ValueError, match=words):
            from_normflows(model, context=context)


def test_saved_and_loaded_with_the_network(tmp_path: Any, generator: Generator) -> None:
    """The parts of a user's own are asked for by name, and their weights come from the file."""
    import FrEIA.modules as fm
    import normflows as nf

    def theirs() -> Any:
        return nf.NormalizingFlow(
            nf.distributions.DiagGaussian(4), [nf.flows.LULinearPermute(4), nf.flows.ActNorm((4,))]
        )

    def block() -> Any:
        return from_freia(fm.AllInOneBlock([(4,)], subnet_constructor=net))

    x = torch.randn(20, 4, generator=generator)
    path = tmp_path / "flow.safetensors"
    again = from_normflows(theirs())
    for flow, modules in (
        (Flow(block(), StandardNormal(4)), {"bijection": block()}),
        (from_normflows(stirred(theirs()).float()), {"bijection": again.bijection, "base": again.base}),
    ):
        flow.prepare(x)
        save(flow, path)
        with pytest.raises(TypeError, match="modules={" + ".*".join(f'"{k}": ...' for k in modules)):
            load(path)
        loaded = load(path, modules=modules)
        assert torch.equal(loaded.log_prob(x), flow.log_prob(x))
        loaded.prepare(2 * x)
        assert torch.equal(loaded.log_prob(x), flow.log_prob(x)), "an ActNorm was initialised anew"


# -- the zoo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_every_flow_of_the_zoo(name: str, generator: Generator) -> None:
    """Training, round trip, log-dets, a context where it takes one, copies, both precisions."""
    context = 2 if ZOO[name].conditional else 0
    flow = zoo(name, 3, context=context, depth=2, hidden=(8,), activation="silu", generator=generator).double()
    x = 3 + 2 * torch.randn(60, 3, dtype=torch.float64, generator=generator)
    c = torch.randn(60, 2, dtype=torch.float64, generator=generator) if context else None
    before = flow.evaluate(x, c)["loss"]
    fit(flow, x, c, epochs=3, seed=0, progress=False)
    assert flow.evaluate(x, c)["loss"] < before
    bound = 1e-5 if name.startswith("zuko") else 1e-8  # zuko bisects
    with torch.no_grad():
        z, log_det = flow.bijection.encode_and_log_det(x, c)
        again, back = flow.bijection.decode_and_log_det(z, c)
    close(again, x, bound)
    close(back, -log_det, 100 * bound)
    for i in range(2):
        given = None if c is None else c[i]
        jacobian = torch.autograd.functional.jacobian(lambda r, g=given: flow.bijection.encode(r, g), x[i])
        close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet, 1e-8)
    for other in (pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)):
        assert torch.equal(other.log_prob(x, c), flow.log_prob(x, c))
    single = flow.float().log_prob(x.float(), None if c is None else c.float())
    assert single.dtype == torch.float32
    close(single, (flow.base.log_prob(z) + log_det).float(), 1e-3)


def test_the_zoo_says_what_it_has(unchecked: None) -> None:
    with pytest.raises(ValueError, match="zoo knows no 'freia/none': it has freia/allinone, .*normflows/residual"):
        zoo("freia/none", 2)
    with pytest.raises(ValueError, match="needs 2 columns or more, got 1"):
        zoo("freia/glow", 1)
    with pytest.raises(ValueError, match="takes no context"):
        zoo("normflows/planar", 2, context=1)
    with pytest.raises(TypeError, match="takes no such options.*colour"):
        zoo("freia/glow", 2, colour=1)


def test_the_zoo_draws_from_its_generator() -> None:
    """And leaves numpy's, which FrEIA draws from, as it was."""
    import numpy as np

    before = np.random.get_state()[1].copy()  # noqa: NPY002
    flows = [zoo("freia/allinone", 6, generator=Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    x = torch.randn(3, 6)
    assert torch.equal(flows[0].log_prob(x), flows[1].log_prob(x))
    assert not torch.equal(flows[0].bijection.encode(x), flows[2].bijection.encode(x))


def test_from_the_command_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from geoflow.cli import main

    monkeypatch.chdir(tmp_path)
    rows = torch.randn(200, 2, generator=Generator().manual_seed(0)).tolist()
    (tmp_path / "table.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows))
    assert main(["fit", "table.csv", "--model", "freia/glow", "--depth", "1", "--epochs", "2", "--quiet"]) == 0
    assert "freia/glow" in capsys.readouterr().out
    assert load(tmp_path / "table.safetensors").bijection.parts[-1].name == "freia/glow"


def test_the_network_of_residual_flows_contracts(generator: Generator) -> None:
    """Whatever its weights: no derivative is longer than the bound, and some come near."""
    from geoflow.interop.lipschitz import SLOPES, LipschitzMLP

    for activation in SLOPES:
        net = LipschitzMLP(3, (16, 16), activation, 0.9).double()
        with torch.no_grad():
            for p in net.parameters():
                p.add_(3 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
        x = 3 * torch.randn(200, 3, dtype=torch.float64, generator=generator)
        longest = torch.linalg.matrix_norm(torch.vmap(torch.func.jacrev(net))(x), 2).max()
        assert 0.05 < longest <= 0.9, activation
