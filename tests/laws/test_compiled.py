"""The law of torch.compile: one graph without breaks, with the values and gradients of the plain call.

Run in a process of its own, without the shape checker, which no compiler can look through. ``aot_eager`` traces forward
and backward as the default compiler does and needs no C++ compiler behind it; ``eager``, a third of the time, traces forward
alone, which is enough for spaces and maps: the densities that are made of them are traced both ways.
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

Law = tuple[str, Callable[..., Any], list[Tensor]]


def one_of_each(register: dict[str, Any]) -> dict[str, Any]:
    """The last case of each class and kind of context: compiling takes seconds, and says the same of the others."""
    kinds = {}
    for name, case in register.items():
        made = case.make()
        kinds[type(made), bool(getattr(made, "context_dim", 0)), bool(getattr(made, "classes", 0))] = name
    return {name: register[name] for name in kinds.values()}


def manifolds() -> Iterator[Law]:
    from tests.laws.registry import MANIFOLDS
    from tests.laws.test_manifolds import VERBS, points, tangent
    from tests.laws.tools import build

    for name, case in one_of_each(MANIFOLDS).items():
        space, g = build(case), Generator().manual_seed(0)
        x, y = points(space, torch.float64, g, 5), points(space, torch.float64, g, 5)
        verbs = [v for n, v in VERBS.items() if n not in case.lacks]
        arguments = [x, y, tangent(space, x, g)]
        yield name, lambda x, y, v, s=space, verbs=verbs: tuple(verb(s, x, y, v) for verb in verbs), arguments


def densities() -> Iterator[Law]:
    from tests.laws.registry import DENSITIES
    from tests.laws.test_densities import draw
    from tests.laws.tools import build

    for name, case in one_of_each(DENSITIES).items():
        model, g = build(case), Generator().manual_seed(0)
        x, context = draw(model, 5, g)

        def verbs(x: Tensor, m: Any = model, c: Any = context, loss: bool = not case.estimated) -> Any:
            # estimates draw their own random numbers, and scores of forward derivatives do not always compile yet
            return (m.score(x, c), m(x, c)["loss"]) if loss else (m.log_prob(x, c),)

        yield name, verbs, [x]


def maps() -> Iterator[Law]:
    from tests.laws.registry import AUTOENCODERS, BIJECTIONS
    from tests.laws.test_maps import rows
    from tests.laws.tools import build

    for name, case in one_of_each({**BIJECTIONS, **AUTOENCODERS}).items():
        part, g = build(case), Generator().manual_seed(0)
        x, context = rows(part, 5, g)

        def verbs(x: Tensor, part: Any = part, c: Any = context) -> Any:
            results = (part.encode(x, c), part.reconstruct(x, c))
            return (*results, *part.encode_and_log_det(x, c)) if hasattr(part, "encode_and_log_det") else results

        yield name, verbs, [x]


BACKENDS = {"manifolds": "eager", "densities": "aot_eager", "maps": "eager"}
FORWARD = ("FlowMatching(PoincareBall(2))",)
"""Traced forward alone: backward this one takes as long as all spaces together, and the flat one is traced both ways."""


def obeys(f: Callable[..., Any], inputs: list[Tensor], backend: str) -> None:
    def run(call: Callable[..., Any]) -> list[Tensor]:
        leaves = [t.detach().clone().requires_grad_() for t in inputs]
        values = call(*leaves)
        total = sum((v * torch.linspace(0.5, 1.5, v.numel(), dtype=v.dtype).view(v.shape)).sum() for v in values)
        return [*(v.detach() for v in values), *torch.autograd.grad(total, leaves, allow_unused=True)]

    compiled = torch.compile(f, fullgraph=True, backend=backend)
    for a, b in zip(run(compiled), run(f), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("noun", BACKENDS)
def test_compiles_to_one_graph(noun: str) -> None:
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "tests.laws.test_compiled", noun],
        cwd=root,
        env=os.environ | {"GEOFLOW_SHAPES": "unchecked"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert run.stdout.count("obeys") >= 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    broken = 0
    for label, function, given in {"manifolds": manifolds, "densities": densities, "maps": maps}[sys.argv[1]]():
        try:
            obeys(function, given, "eager" if label in FORWARD else BACKENDS[sys.argv[1]])
            print(f"{label}: obeys", flush=True)
        except Exception:
            broken += 1
            print(f"{label}: broken\n{traceback.format_exc(limit=-3)[:1500]}", flush=True)
        torch._dynamo.reset()
    sys.exit(broken > 0)
