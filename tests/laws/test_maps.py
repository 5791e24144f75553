"""Laws of maps: bijections undo themselves and know their volume; auto-encoders keep shapes, units and hooks."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from geoflow import (
    Autoencoder,
    Bijection,
    Chain,
    ChainBijection,
    DiagonalNormal,
    Flow,
    Standardize,
    StandardNormal,
    load,
    save,
)
from geoflow.freeform import FromOrigin
from tests.laws.registry import AUTOENCODERS, BIJECTIONS, HOMES, RECIPES, Case, coupling
from tests.laws.tools import (
    build,
    cases,
    close,
    context_for,
    copies,
    derivatives_are_finite,
    eps,
    is_smooth_along,
    obeys_batches,
    untouched,
)

EVERY = {**AUTOENCODERS, **BIJECTIONS}


def rows(part: Autoencoder, n: int, g: Generator, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor | None]:
    """Data of about one, where every map is at home, with contexts."""
    home = HOMES.get(type(part), lambda x: x)
    return home(torch.randn(n, part.dim, dtype=dtype, generator=g)), context_for(part, (n,), dtype, g)


def rounding(case: Case, dtype: torch.dtype, *values: Tensor) -> float:
    return 64 * case.slack * eps(dtype) * max([1.0, *(float(v.detach().abs().max()) for v in values)])


# -- bijections --------------------------------------------------------------------------------------------------------


@cases(BIJECTIONS)
@torch.no_grad()
def test_decode_undoes_encode(case: Case, generator: Generator) -> None:
    """To 1e-9, and the log-dets of there and back cancel; both ways round."""
    part = build(case)
    x, context = rows(part, 300, generator)
    for there, back in (
        (part.encode_and_log_det, part.decode_and_log_det),
        (part.decode_and_log_det, part.encode_and_log_det),
    ):
        z, log_det = there(x, context)
        again, undone = back(z, context)
        assert z.shape == x.shape
        assert log_det.shape == (300,)
        close(again, x, 1e-9 * case.slack)
        close(undone, -log_det, 1e-9 * case.slack)
    assert torch.equal(part.encode(x, context), part.encode_and_log_det(x, context)[0])
    assert torch.equal(part.decode(x, context), part.decode_and_log_det(x, context)[0])
    close(part.reconstruct(x, context), x, 1e-9 * case.slack)


@cases(BIJECTIONS)
@torch.no_grad()
def test_round_trip_in_float32(case: Case, generator: Generator) -> None:
    """Median error 2e-6 and worst 1e-4, of the size of the numbers; log-det as in float64."""
    part = build(case, torch.float32)
    x, context = rows(part, 500, generator, torch.float32)
    z, log_det = part.encode_and_log_det(x, context)
    assert z.dtype == log_det.dtype == torch.float32
    error = (part.decode(z, context) - x).abs() / x.abs().clamp_min(1)
    assert error.median() < 2e-6 * case.slack
    assert error.max() < 1e-4 * case.slack
    double = part.double().encode_and_log_det(x.double(), context.double() if part.context_dim else context)
    close(log_det.double(), double[1], rounding(case, torch.float32, log_det))


@cases(BIJECTIONS)
def test_log_det_is_that_of_the_jacobian(case: Case, generator: Generator) -> None:
    """Against slogdet of autograd's Jacobian, for encode and for decode, row by row under vmap."""
    part = build(case)
    x, context = rows(part, 20, generator)
    for method in (part.encode_and_log_det, part.decode_and_log_det):
        if context is None:
            jacobian = torch.vmap(torch.func.jacrev(lambda r, m=method: m(r)[0]))(x)
        else:
            jacobian = torch.vmap(torch.func.jacrev(lambda r, c, m=method: m(r, c)[0]))(x, context)
        close(method(x, context)[1], torch.linalg.slogdet(jacobian).logabsdet, 1e-9 * case.slack)


@cases(BIJECTIONS, smooth=True)
def test_maps_are_smooth(case: Case, generator: Generator) -> None:
    """Forward, reverse and second derivatives of codes and log-dets equal differences."""
    part = build(case)
    x, context = rows(part, 3, generator)
    v = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    is_smooth_along(lambda t: part.encode_and_log_det(x + t * v, context))
    is_smooth_along(lambda t: part.decode_and_log_det(x + t * v, context))


@cases(BIJECTIONS)
def test_log_det_follows_the_context(case: Case, generator: Generator) -> None:
    """A part that declares a context uses it; the outermost check asks for it."""
    part = build(case)
    x, context = rows(part, 10, generator)
    if context is None:
        with pytest.raises(TypeError, match="takes no context"):
            part.encode(x, torch.zeros(10, 1, dtype=x.dtype))
        return
    other = context.roll(1, 0)
    assert not torch.allclose(part.encode(x, context), part.encode(x, other))
    with pytest.raises(TypeError, match="conditional and needs context="):
        part.encode(x)
    with pytest.raises(ValueError, match="one context per row"):
        part.decode(x, context[:3])
    close(part.encode(x[:, None], context[:4])[:, 2], part.encode(x, context[2].expand(10, -1)), 1e-12)


# -- auto-encoders, bijections among them ------------------------------------------------------------------------------


@cases(EVERY)
def test_batches(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    part = build(case, dtype)
    x, context = rows(part, 6, generator, dtype)
    z = part.encode(x, context)
    assert z.shape == (6, part.latent_dim)
    assert part.decode(z, context).shape == (6, part.dim)
    assert z.dtype == part.decode(z, context).dtype == dtype
    obeys_batches(part.encode, x, context, tol=rounding(case, dtype, z))
    obeys_batches(part.decode, z.detach(), context, tol=rounding(case, dtype, x))
    if isinstance(part, Bijection):
        obeys_batches(part.encode_and_log_det, x, context, tol=rounding(case, dtype, z))
        obeys_batches(part.decode_and_log_det, z.detach(), context, tol=rounding(case, dtype, x))


@cases(EVERY)
def test_derivatives_are_finite(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    part = build(case, dtype)
    x, context = rows(part, 4, generator, dtype)
    derivatives_are_finite(lambda a: part.encode(a, context), x)
    derivatives_are_finite(lambda a: part.reconstruct(a, context), x)


@cases(EVERY)
def test_inputs_are_left_alone(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    part = build(case, dtype)
    x, context = rows(part, 30, generator, dtype)
    z = part.encode(x, context).detach()
    for flag in (False, True):
        x.requires_grad_(flag)
        with untouched(x, z, context):
            part.encode(x, context)
            part.decode(z, context)
            part.reconstruct(x, context)
            part.residual(x, x + 1)
            part.prepare(x.detach(), context)
            part.finish(x.detach(), context)


@cases(EVERY)
@torch.no_grad()
def test_copies_are_equal_to_the_bit(case: Case, dtype: torch.dtype, generator: Generator, tmp_path: Any) -> None:
    part = build(case, dtype)
    x, context = rows(part, 20, generator, dtype)
    save(part, tmp_path / "part.safetensors")
    for how, other in [*copies(part), ("file", load(tmp_path / "part.safetensors"))]:
        assert torch.equal(other.encode(x, context), part.encode(x, context)), how
        assert torch.equal(other.reconstruct(x, context), part.reconstruct(x, context)), how


@cases(EVERY)
def test_encoder_parameters_are_the_ones_encoding_uses(case: Case, generator: Generator) -> None:
    """Whatever encode uses is named, and nothing that decode uses, in a map with two sides."""
    part = build(case)
    named = list(part.encoder_parameters())
    assert {id(p) for p in named} <= {id(p) for p in part.parameters()}
    assert len({id(p) for p in named}) == len(named)
    if isinstance(part, Bijection):
        return  # one set of parameters serves both ways
    x, context = rows(part, 5, generator)
    parameters = list(part.parameters())
    grads = torch.autograd.grad(part.encode(x, context).square().sum(), parameters, allow_unused=True)
    one_sided = {id(p) for b in part.modules() if isinstance(b, Bijection) for p in b.parameters()}
    used = {id(p) for p, g in zip(parameters, grads, strict=True) if g is not None}
    assert used
    assert used - one_sided <= {id(p) for p in named}
    z = torch.randn(5, part.latent_dim, dtype=x.dtype, generator=generator)
    grads = torch.autograd.grad(part.decode(z, context).square().sum(), named, allow_unused=True)
    assert all(g is None for g in grads)


@cases(EVERY)
@torch.no_grad()
def test_residual_is_in_the_units_of_the_first_part(case: Case, generator: Generator) -> None:
    """xh − x; behind a `Standardize` of the standardised data, from an origin of the tangent vectors there."""
    part = build(case)
    x, _ = rows(part, 10, generator)
    home = HOMES.get(type(part), lambda x: x)
    xh = home(x + torch.randn(x.shape, dtype=x.dtype, generator=generator))
    first = part
    while hasattr(first, "parts"):
        first = first.parts[0]
    if isinstance(first, Standardize):
        close(part.residual(x, xh), first.encode(xh) - first.encode(x), 1e-12)
    elif isinstance(first, FromOrigin):
        along = [first.space.coords(first.origin, first.space.log(first.origin, y)) for y in (x, xh)]
        close(part.residual(x, xh), along[1] - along[0], 1e-12)
    else:
        close(part.residual(x, xh), xh - x, 0)
    if isinstance(first, FromOrigin):
        with pytest.raises(NotImplementedError, match="no volume"):
            part.residual_log_det()
    else:
        jacobian = torch.func.jacrev(lambda y: part.residual(x[0], y))(xh[0])
        close(part.residual_log_det().to(x), torch.linalg.slogdet(jacobian).logabsdet, 1e-9)


# -- preparation -------------------------------------------------------------------------------------------------------


class Witness(Autoencoder):
    """Writes down what it is prepared and finished on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = self.latent_dim = dim
        self.posterior = None
        self.seen: dict[str, Tensor] = {}

    def _encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return 2 * x + 1

    def _decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return (z - 1) / 2

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        self.seen["prepare"] = x

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        self.seen["finish"] = x


@pytest.mark.parametrize("hook", ["prepare", "finish"])
@pytest.mark.parametrize(
    ("first", "n"), [(f, 2049) for f in EVERY] + [("AffineCoupling(3, context)", n) for n in (100, 2048, 5000)]
)
def test_a_chain_feeds_each_part_the_output_of_the_one_before(
    first: str, hook: str, n: int, generator: Generator
) -> None:
    part = build(EVERY[first])
    witness, after = Witness(part.latent_dim), Witness(part.latent_dim)
    x, context = rows(part, n, generator)
    chain = Chain(part, witness, after)
    getattr(chain, hook)(5 * x + 3, context)
    codes = part.encode(5 * x + 3, context)  # after the hook, which may have set scales
    close(witness.seen[hook], codes.detach(), 1e-10, 1e-10)
    close(after.seen[hook], 2 * codes.detach() + 1, 1e-10, 1e-10)


@cases(RECIPES)
@torch.no_grad()
def test_untrained_flow_is_the_diagonal_gaussian(case: Case, dtype: torch.dtype, generator: Generator) -> None:
    """After `prepare`, in the units of the data, to 1e-4 nats."""
    flow = build(case, dtype, stir=0.0)
    scale = 10.0 ** torch.linspace(-3, 3, flow.dim, dtype=dtype)
    mixing = torch.randn(flow.dim, flow.dim, dtype=dtype, generator=generator)
    x = (torch.randn(2000, flow.dim, dtype=dtype, generator=generator) @ mixing + 1) * scale
    context = context_for(flow, (2000,), dtype, generator)
    flow.prepare(x, context)
    gaussian = DiagonalNormal.from_data(x)
    close(flow.log_prob(x, context), gaussian.log_prob(x), 1e-4 if dtype == torch.float32 else 1e-9)
    drawn = flow.sample(4000, None if context is None else context[0], generator)
    z = (drawn.mean(0) - x.mean(0)) / (x.std(0) / math.sqrt(4000))
    assert z.abs().max() < 4


@pytest.mark.parametrize("per", ["column", "all"])
def test_standardize_takes_moments(per: Any, dtype: torch.dtype, generator: Generator) -> None:
    """Codes of the training rows have mean zero and variance one: each column, or all together."""
    part = Standardize(3, per).to(dtype)
    x = torch.randn(500, 3, dtype=dtype, generator=generator) * torch.tensor([1e-3, 1.0, 50.0], dtype=dtype) + 4
    part.prepare(x)
    z = part.encode(x)
    tol = 1e-2 if dtype == torch.float32 else 1e-9  # a mean of 4 against a deviation of 1e-3
    close(z.mean(0), torch.zeros(3, dtype=dtype), tol)
    spread = z.std(0, correction=0)
    if per == "column":
        close(spread, torch.ones(3, dtype=dtype), tol)
    else:
        close(spread.square().mean(), torch.ones((), dtype=dtype), tol)
        assert part.std.unique().numel() == 1


def test_standardize_by_scale_alone(dtype: torch.dtype, generator: Generator) -> None:
    """One factor, the root mean square about zero."""
    part = Standardize(3, "scale").to(dtype)
    x = torch.randn(500, 3, dtype=dtype, generator=generator) * torch.tensor([1e-3, 1.0, 50.0], dtype=dtype) + 4
    part.prepare(x)
    z = part.encode(x)
    close(z * x[:1], z[:1] * x, 1e3 * eps(dtype) * float(x.abs().max()))
    close(z.square().mean(), torch.ones((), dtype=dtype), 16 * eps(dtype))
    assert not part.mean.any()


# -- posteriors --------------------------------------------------------------------------------------------------------


def test_posterior_of_a_chain_is_conditional_on_its_data(dtype: torch.dtype, generator: Generator) -> None:
    """q(z | x) of the last part at the codes of the parts before it: density, draws, differentiable draws, gradient."""
    chain = build(AUTOENCODERS["Chain, posterior at its end"], dtype)
    before, last = Chain(*chain.parts[:-1]), chain.parts[-1]
    x = torch.randn(6, chain.dim, dtype=dtype, generator=generator)
    z = torch.randn(6, chain.latent_dim, dtype=dtype, generator=generator)
    q = chain.posterior
    assert (q.context_dim, q.dim) == (chain.dim, chain.latent_dim)
    codes = before.encode(x)
    close(q.log_prob(z, x), last.posterior.log_prob(z, codes), rounding(Case(dict), dtype))
    close(q.score(z, x), last.posterior.score(z, codes), rounding(Case(dict), dtype))
    for verb in ("sample", "rsample"):
        ours, theirs = ((d, c, Generator().manual_seed(2)) for d, c in ((q, x), (last.posterior, codes)))
        drawn = getattr(ours[0], verb)(3, *ours[1:])
        assert drawn.shape == (3, 6, chain.latent_dim)
        close(drawn, getattr(theirs[0], verb)(3, *theirs[1:]), rounding(Case(dict), dtype, drawn))
    q.log_prob(z, x).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in before.encoder_parameters())
    close(chain.encode(x), last.posterior.location(codes), 0)


def test_posterior_of_one_part_is_that_parts(generator: Generator) -> None:
    part = build(AUTOENCODERS["Pair, posterior encodes"])
    assert Chain(part).posterior is part.posterior
    assert Chain(part, build(AUTOENCODERS["Chain, bijection behind"]).parts[1]).posterior is None
    with pytest.raises(ValueError, match=r"expects an encoder, or a posterior with a method `location\(x\)`"):
        type(part)(None, part.decoder, dim=4, latent_dim=2)


# -- what does not fit together ----------------------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="encodes to 3 coordinates, but .* takes 4"):
        Chain(Standardize(3), Standardize(4))
    with pytest.raises(ValueError, match="at least one part"):
        Chain()
    with pytest.raises(TypeError, match="ChainBijection expects bijections, got Pair: Chain takes any"):
        ChainBijection(Standardize(4), build(AUTOENCODERS["Pair"]))
    with pytest.raises(ValueError, match=r"declare different contexts.*float\[2\].*float\[3\]"):
        ChainBijection(coupling(3, context_dim=2), coupling(3, context_dim=3))
    with pytest.raises(ValueError, match="latent|base"):
        Flow(Standardize(3), StandardNormal(2))
    with pytest.raises(TypeError, match="FreeFormFlow takes any"):
        Flow(build(AUTOENCODERS["Pair"]), StandardNormal(2))
