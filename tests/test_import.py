"""`import geoflow` stays light: torch, numpy and jaxtyping, nothing else of what it can use."""

import functools
import os
import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

HEAVY = {
    *("scipy", "sklearn", "matplotlib", "pandas", "networkx", "joblib", "tqdm", "safetensors"),
    *("FrEIA", "normflows", "geomstats", "pykeops", "lightning_fabric", "torchdiffeq"),
}

EVERYTHING = """
import importlib, pkgutil, geoflow, manifolds
for package in (geoflow, manifolds):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        name = module.name  # estimators are classes of scikit-learn's
        if not name.endswith(("__main__", "interop.sklearn")) and "interop.fermat_" not in name:
            importlib.import_module(module.name)
"""


@functools.cache
def loaded(statements: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after these statements."""
    code = statements + "\nimport sys; print(*sys.modules)"
    environment = os.environ | {"GEOFLOW_SHAPES": "unchecked"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("statements", ["import geoflow, manifolds", EVERYTHING], ids=["packages", "every module"])
def test_import_is_light(statements: str) -> None:
    modules = loaded(statements)
    assert {"geoflow", "manifolds", "torch", "numpy", "jaxtyping"} <= modules
    assert not sorted((modules - loaded("import torch, numpy, jaxtyping")) & HEAVY)


def test_manifolds_know_nothing_of_geoflow() -> None:
    assert not {m for m in loaded("import manifolds") if m.split(".")[0] == "geoflow"}


def test_public_names_are_there() -> None:
    """Each package's `__all__` is sorted and true, and holds what others build on."""
    import geoflow
    import manifolds

    for package in (geoflow, manifolds):
        assert all(hasattr(package, name) for name in package.__all__)
        assert len(set(package.__all__)) == len(package.__all__)
    assert {"Flow", "GaussianMixture", "StandardNormal", "load", "save"} <= set(geoflow.__all__)


def test_shapes_are_checked_here(generator: torch.Generator) -> None:
    """What the run-time checker is for: a twin called with shapes that do not fit says so; users run without it."""
    from geoflow import StandardNormal
    from manifolds import Sphere

    whole = torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(TypeCheckError, match="ambient"):
        StandardNormal(2)._log_prob(whole)
    x = Sphere(2).sample_uniform(3, generator=generator)
    with pytest.raises(TypeCheckError):
        Sphere(2)._exp(x, x[:2])
    code = (
        "import torch, geoflow; print(geoflow.StandardNormal(2)._log_prob(torch.zeros(3, 2, dtype=torch.long)).shape)"
    )
    environment = os.environ | {"GEOFLOW_SHAPES": "unchecked"}
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert free.stdout.strip() == "torch.Size([3])"
