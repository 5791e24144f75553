"""Every public class of a noun stands in a register of the laws, and every class that files may name can be written."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
from torch import nn

import geoflow
import manifolds
from geoflow import Autoencoder, Sampler
from geoflow.registry import CLASSES
from manifolds import Manifold
from tests.laws import registry

NOUNS: dict[str, tuple[type, ...]] = {
    "MANIFOLDS": (Manifold,),
    "DENSITIES, SAMPLERS": (Sampler,),
    "AUTOENCODERS, BIJECTIONS": (Autoencoder,),
    "FERMAT, LATENT, TERMS, NETS": (nn.Module,),
}


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def public() -> dict[str, type]:
    """Finished classes that a package offers in its `__all__`."""
    found = {}
    for package in (geoflow, manifolds):
        for module in modules(package):
            for name in getattr(module, "__all__", ()):
                thing = getattr(module, name)
                if inspect.isclass(thing) and not inspect.isabstract(thing):
                    found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return found


def registered(names: str) -> set[type]:
    made = set()
    for name in names.split(", "):
        for entry in getattr(registry, name).values():
            made.add(type(entry.make()))
    return made


def test_every_public_class_is_in_a_register() -> None:
    missing = []
    for path, cls in public().items():
        noun = next((n for n, bases in NOUNS.items() if issubclass(cls, bases)), None)
        if noun is not None and cls not in registered(noun):
            missing.append(f"{path}: a line in {noun} of tests/laws/registry.py")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("names", [*NOUNS])
def test_registers_hold_what_they_say(names: str) -> None:
    for cls in registered(names):
        assert issubclass(cls, NOUNS[names])


def test_the_walk_sees_the_classes() -> None:
    """So that the first test cannot pass by looking at nothing."""
    seen = {cls.__name__ for cls in public().values()}
    assert {"Sphere", "StandardNormal", "Flow", "Standardize", "MLP"} <= seen
    assert not {"Manifold", "Density", "Bijection"} & seen


def test_every_model_can_be_written_to_a_file() -> None:
    """Public samplers, maps and nets are in the register that `save` and `load` use, under their own names."""
    nouns = (Sampler, Autoencoder, nn.Module)
    absent = [p for p, cls in public().items() if issubclass(cls, nouns) and CLASSES.get(cls.__name__) is not cls]
    assert not absent, f"decorate with @register: {absent}"
