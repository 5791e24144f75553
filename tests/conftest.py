"""What every test runs under: shapes checked by jaxtyping and beartype, one thread, a seed, a watch on global state."""

import os
import sys
from collections.abc import Iterator

import pytest

if os.environ.get("GEOFLOW_SHAPES", "checked") == "checked":
    # Before the first import of geoflow: what is imported earlier goes unchecked, without a word.
    assert not {"geoflow", "manifolds"} & set(sys.modules)
    from jaxtyping import install_import_hook

    import tests.checker  # noqa: F401 (found by its name)

    install_import_hook(["geoflow", "manifolds"], "tests.checker.check")

import hypothesis
import jaxtyping
import torch
from torch import Generator

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

hypothesis.settings.register_profile("geoflow", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("geoflow")

collect_ignore_glob = ["bench/bench_*.py", "reproduce/run_*.py"]


@pytest.fixture(autouse=True)
def _world() -> Iterator[None]:
    """Seeds before each test, and finds global settings as it left them."""
    torch.manual_seed(0)
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    yield
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    torch.set_default_dtype(before[0])
    assert after == before, "a test or what it called changed torch's default dtype, gradient mode or threads"


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each law holds in both."""
    return request.param


@pytest.fixture
def generator() -> Generator:
    return Generator().manual_seed(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switches the shape checker off, so that a wrong type reaches the library's own message as it does for users."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
