"""What the laws of all nouns are made of: fresh instances, difference quotients, and checks of any batched function."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.laws.registry import Case

Function = Callable[..., Any]


def cases(register: dict[str, Case], without: str = "", smooth: bool = False) -> Any:
    """Parametrise a law over a register; `without` leaves out the cases that lack a verb, `smooth` those with kinks."""
    chosen = {n: case for n, case in register.items() if without not in case.lacks and (case.smooth or not smooth)}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


def build(case: Case, dtype: torch.dtype = torch.float64, stir: float = 0.1) -> Any:
    """A fresh instance in `dtype`; a module's parameters get noise, so that no law holds only because they are zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = case.make()
        if isinstance(made, nn.Module):
            made = made.to(dtype)
            with torch.no_grad():
                for p in made.parameters():
                    p.add_(stir * torch.randn_like(p))
    return made


def context_for(model: Any, batch: Sequence[int], dtype: torch.dtype, generator: Generator) -> Tensor | None:
    """A context of the kind that the model declares, for a batch."""
    if model.classes:
        return torch.randint(model.classes, tuple(batch), generator=generator)
    if model.context_dim:
        return torch.randn(*batch, model.context_dim, dtype=dtype, generator=generator)
    return None


def flat(result: Any) -> list[Tensor]:
    """The tensors of a result that is one, or a tuple of some."""
    return [result] if isinstance(result, Tensor) else [t for r in result for t in flat(r)]


def eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def close(a: Tensor, b: Tensor, atol: float, rtol: float = 0.0) -> None:
    """|a − b| ≤ atol + rtol |b|, in shape and dtype too."""
    torch.testing.assert_close(a, b, atol=atol, rtol=rtol)


def central(f: Function, h: float = 3e-4) -> list[Tensor]:
    """Derivative at 0 of a function of one number, by the central difference that is right to fourth order."""
    near, far = ([a - b for a, b in zip(flat(f(t)), flat(f(-t)), strict=True)] for t in (h, 2 * h))
    return [(8 * n - w) / (12 * h) for n, w in zip(near, far, strict=True)]


@contextmanager
def untouched(*tensors: Tensor | None) -> Iterator[None]:
    """The caller's tensors keep their values, their versions and their requires_grad, and get no gradient."""
    kept = [t for t in tensors if t is not None]
    before = [(t.detach().clone(), t._version, t.requires_grad) for t in kept]
    yield
    for t, (value, version, flag) in zip(kept, before, strict=True):
        assert t._version == version, "an input was written to"
        assert torch.equal(t.detach(), value)
        assert t.requires_grad is flag
        assert t.grad is None


def obeys_batches(f: Function, *rows: Tensor | None, tol: float) -> None:
    """Six rows: the same as a (2, 3) batch, as single points and under vmap; none of them: an empty result."""
    given = [i for i, r in enumerate(rows) if r is not None]

    def call(change: Function) -> list[Tensor]:
        return flat(f(*(None if r is None else change(r) for r in rows)))

    expected = call(lambda r: r)
    for e in expected:
        assert len(e) == 6
    for e, g in zip(expected, call(lambda r: r.unflatten(0, (2, 3))), strict=True):
        close(g.flatten(0, 1), e, tol, tol)
    for i in range(6):
        for e, g in zip(expected, call(lambda r: r[i]), strict=True):  # noqa: B023 (called at once)
            close(g, e[i], tol, tol)
    for e, g in zip(expected, call(lambda r: r[:0]), strict=True):
        assert g.shape == (0, *e.shape[1:])
        assert g.dtype == e.dtype

    def mapped(*some: Tensor) -> Any:
        full: list[Tensor | None] = [None] * len(rows)
        for i, r in zip(given, some, strict=True):
            full[i] = r
        return f(*full)

    for e, g in zip(expected, flat(torch.vmap(mapped)(*(rows[i] for i in given))), strict=True):
        close(g, e, tol, tol)


def is_smooth_along(f: Function, tol: float = 1e-9) -> None:
    """For f of one number: forward and reverse derivatives at 0 equal the difference, and so do second derivatives."""
    zero = torch.zeros((), dtype=torch.float64)

    def first(t: Any) -> list[Tensor]:
        t = torch.as_tensor(t, dtype=torch.float64)
        return flat(torch.func.jvp(lambda s: tuple(flat(f(s))), (t,), (torch.ones_like(t),))[1])

    difference = central(lambda t: f(torch.tensor(t, dtype=torch.float64)))
    backward = flat(torch.func.jacrev(lambda s: tuple(flat(f(s))))(zero))
    for forward, back, d in zip(first(0.0), backward, difference, strict=True):
        scale = 1 + float(d.detach().abs().max())
        close(forward, d, tol * scale)
        close(back, d, tol * scale)
    twice = flat(torch.func.jacfwd(torch.func.jacrev(lambda s: tuple(flat(f(s)))))(zero))
    for g, d in zip(twice, central(first), strict=True):
        close(g, d, tol * (1 + float(d.detach().abs().max())))


def derivatives_are_finite(f: Function, *inputs: Tensor) -> None:
    """Value, gradient and second derivative in all inputs, by autograd as a user would take them."""
    inputs = tuple(t.detach().clone().requires_grad_() for t in inputs)
    for value in flat(f(*inputs)):
        assert value.isfinite().all()
        if not value.requires_grad:
            continue
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view(value.shape)
        first = torch.autograd.grad((weights * value).sum(), inputs, create_graph=True, allow_unused=True)
        moved = [g for g in first if g is not None]
        for g in moved:
            assert g.isfinite().all(), "gradient"
        along = sum((g * torch.linspace(0.3, 1.1, g.numel(), dtype=g.dtype).view(g.shape)).sum() for g in moved)
        if not isinstance(along, Tensor) or not along.requires_grad:
            continue
        for g in torch.autograd.grad(along, inputs, allow_unused=True):
            assert g is None or g.isfinite().all(), "second derivative"


def copies(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The model as deepcopy and pickle give it back."""
    import pickle

    yield "deepcopy", copy.deepcopy(model)
    yield "pickle", pickle.loads(pickle.dumps(model))
