"""Model files: everything comes back as it went in, damage is found, and nothing in a file is executed."""

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geoflow import Chain, FermatSpace, Flow, Pair, Standardize, StandardNormal, describe, fit, load, save
from geoflow.autoencoders.recipes import dirichlet_vae
from geoflow.flows import realnvp
from geoflow.registry import CLASSES, arguments, register
from manifolds import Euclidean, Product, Sphere
from tests.laws import registry as laws
from tests.laws.cylinder import Cylinder
from tests.laws.tools import build

Damage = Callable[[bytes], bytes]


def instances() -> Iterator[tuple[str, laws.Case]]:
    for name in ("DENSITIES", "SAMPLERS", "BIJECTIONS", "AUTOENCODERS", "FERMAT", "LATENT", "TERMS", "NETS"):
        yield from getattr(laws, name).items()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(file: Path) -> Path:
    save(build(laws.DENSITIES["Flow: realnvp(2)"]), file, trained_on="moons")
    return file


def header(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + size])


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the description in a file, with the checksum that goes with it: what a forger would do."""
    from safetensors.torch import load_file, save_file

    from geoflow.store import _checksum

    tensors = load_file(path)
    head = json.loads(header(path)["__metadata__"]["geoflow"])
    change(head)
    head["checksum"] = _checksum(head, tensors)
    save_file(tensors, path, metadata={"geoflow": json.dumps(head)})


# -- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "case"), instances(), ids=[n for n, _ in instances()])
def test_round_trip(name: str, case: laws.Case, dtype: torch.dtype, file: Path) -> None:
    """Class, constructor arguments, tensors and their dtype are the same; saved again, so is the file."""
    model = build(case, dtype)
    save(model, file)
    again = load(file)
    assert type(again) is type(model)
    assert repr(again) == repr(model)
    before, after = model.state_dict(), again.state_dict()
    assert list(before) == list(after)
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype
        assert torch.equal(after[key], tensor)
    save(again, file.with_name("again"))
    assert file.read_bytes() == file.with_name("again").read_bytes()
    assert sorted(p.name for p in file.parent.iterdir()) == ["again", "model.safetensors"], "a temporary file is left"


def test_every_registered_class_has_a_round_trip() -> None:
    held = {type(m) for _, case in instances() for m in case.make().modules()}
    missing = [n for n, cls in CLASSES.items() if cls not in held and cls.__module__.startswith("geoflow")]
    assert not missing, "no instance of these in the registers of the laws"


def test_notes(saved: Path) -> None:
    assert describe(saved) == {"trained_on": "moons"}


def test_tensors_are_arguments_too(file: Path) -> None:
    """One that the model's state holds is stored once; one that it does not hold is stored beside."""
    keeper = Keeper(torch.arange(3.0), [torch.ones(2)], 2)
    save(keeper, file)
    stored = set(header(file)) - {"__metadata__"}
    assert stored == {"held", "argument:loose.0"}
    again = load(file)
    assert torch.equal(again.held, keeper.held)
    assert torch.equal(again.loose[0], keeper.loose[0])
    assert again.n == 2


@register
class Keeper(nn.Module):
    held: Tensor

    def __init__(self, held: Tensor, loose: list[Tensor], n: int) -> None:
        super().__init__()
        self.register_buffer("held", held)
        self.loose, self.n = loose, n


def test_compiled_model_is_saved_bare(file: Path) -> None:
    model = realnvp(2, depth=2, hidden=(8,))
    save(torch.compile(model), file)
    again = load(file)
    assert type(again) is Flow
    x = torch.randn(4, 2)
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_what_was_frozen_is_frozen_and_the_rest_is_not(file: Path) -> None:
    """Fitted on, a Dirichlet prior stays where it was; files that say nothing of it are read as before."""
    model = dirichlet_vae(6, 2, hidden=(8,))
    assert not model.prior.concentration.requires_grad
    save(model, file)
    again = load(file)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in again.named_parameters()} == flags
    fit(again, torch.full((40, 6), 1 / 6), epochs=1, seed=0, progress=False)
    assert torch.equal(again.prior.concentration, model.prior.concentration)
    forge(file, lambda head: head.pop("frozen"))
    old = load(file)
    assert all(p.requires_grad for p in old.parameters())
    assert torch.equal(old.prior.concentration, model.prior.concentration)


def test_the_model_is_left_alone_and_an_old_file_stands_until_the_new_one_is_whole(file: Path) -> None:
    model = realnvp(2, depth=2, hidden=(8,)).double()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    save(model, file)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    whole = file.read_bytes()
    with pytest.raises(TypeError):
        save(model, file, note=object())
    assert file.read_bytes() == whole
    with pytest.raises(TypeError, match="registered class, got Linear: decorate it with @register"):
        save(nn.Linear(2, 2), file)
    assert file.read_bytes() == whole


def test_arguments_are_read_under_their_own_names() -> None:
    part = build(laws.BIJECTIONS["AffineCoupling(3, context)"])
    given = arguments(part)
    assert given["context_dim"] == 2
    assert given["hidden"] == (16,)
    assert given["activation"] == "silu"


# -- modules of a user's own -------------------------------------------------------------------------------------------


def own() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def back() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))


def test_modules_of_ones_own_are_asked_for_and_taken(file: Path) -> None:
    """The error is the line to write: a dict with a place for each module."""
    model = Chain(Standardize(3), Pair(own(), back(), dim=3, latent_dim=2))
    save(model, file)
    with pytest.raises(TypeError) as caught:
        load(file)
    message = str(caught.value)
    assert "Sequential" in message
    call = message[message.index("load(path") :].rstrip(".")
    ready = call.replace("...", "own()", 1).replace("...", "back()", 1)
    assert ready == 'load(path, modules={"parts.1.encoder": own(), "parts.1.decoder": back()})'
    again = eval(ready, {"load": load, "path": file, "own": own, "back": back})
    x = torch.randn(5, 3)
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))
    with pytest.raises(TypeError, match=r'modules=\{"parts.1.decoder": \.\.\.\}'):
        load(file, modules={"parts.1.encoder": own()})
    with pytest.raises(ValueError, match="does not fit the model"):
        load(file, modules={"parts.1.encoder": nn.Linear(3, 2), "parts.1.decoder": back()})


def test_a_class_of_ones_own_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'Keeper' is registered already: rename yours"):
        register(type("Keeper", (nn.Module,), {}))
    assert CLASSES["Keeper"] is Keeper


@pytest.mark.parametrize("wrong", [len, {1: 2}, 1j, object()], ids=["function", "dict", "complex", "object"])
def test_what_cannot_be_written_is_said_before_writing(wrong: Any, file: Path) -> None:
    keeper = Keeper(torch.zeros(1), [], 1)
    keeper.n = wrong
    with pytest.raises(TypeError, match=f"save cannot write the argument 'n', a {type(wrong).__name__}: it takes"):
        save(keeper, file)
    assert not file.exists()


def test_a_space_of_ones_own_is_refused_before_writing(file: Path) -> None:
    class Mine(Euclidean):
        pass

    keeper = Keeper(torch.zeros(1), [], 1)
    keeper.n = Mine(2)
    with pytest.raises(TypeError, match=r"Mine\(dim=2\): files name the spaces of the package manifolds"):
        save(keeper, file)


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(position: int) -> Damage:
    def damage(raw: bytes) -> bytes:
        changed = bytearray(raw)
        changed[position] ^= 1
        return bytes(changed)

    return damage


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:200], lambda raw: raw[:-1], lambda raw: raw[:4], lambda raw: b"", lambda raw: raw + b"more"],
    ids=["in the header", "last byte", "four bytes", "empty", "longer"],
)
def test_truncated_file(saved: Path, damage: Damage) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ValueError, match="truncated or no safetensors file") as caught:
        load(saved)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("position", [-1, -1000], ids=["last weight", "a weight"])
def test_tampered_weights(saved: Path, position: int) -> None:
    saved.write_bytes(flip(position)(saved.read_bytes()))
    with pytest.raises(ValueError, match=r"damaged or was changed: its checksum does not match \(format 1\)"):
        load(saved)


def test_tampered_description(saved: Path) -> None:
    raw = saved.read_bytes()
    assert b"moons" in raw
    saved.write_bytes(raw.replace(b"moons", b"coins"))
    with pytest.raises(ValueError, match="checksum"):
        load(saved)
    with pytest.raises(ValueError, match="checksum"):
        describe(saved)


def test_reinterpreted_numbers(saved: Path) -> None:
    """The same bytes read as integers are not the same weights."""
    raw = saved.read_bytes()
    saved.write_bytes(raw.replace(b'"F64"', b'"I64"'))
    with pytest.raises(ValueError, match="checksum"):
        load(saved)


def test_foreign_file(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"safetensors file, but not one that geoflow\.save wrote"):
        load(file)
    file.write_bytes(b"a,b\n1,2\n" * 100)
    with pytest.raises(ValueError, match="no safetensors file"):
        load(file)


def test_newer_file(saved: Path) -> None:
    forge(saved, lambda head: head.update(format=7))
    with pytest.raises(ValueError, match=r"has format 7, this geoflow reads 1: update geoflow"):
        load(saved)


def test_missing_file(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(file)


# -- nothing is executed -----------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_headers_of_every_length_are_read(tmp_path: Path) -> None:
    """Also of those whose first bytes are a pickle's: lengths of 640, 896 ... bytes begin with its mark."""
    lengths = set()
    for extra in range(0, 1200, 8):
        path = tmp_path / "model.safetensors"
        save(Standardize(2), path, note="x" * extra)
        lengths.add(path.read_bytes()[:2])
        assert isinstance(load(path), Standardize)
    assert b"\x80\x03" in lengths


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_refused_unread(file: Path, protocol: int) -> None:
    """The first two protocols have no mark to know them by, and are refused as no safetensors file."""
    file.write_bytes(pickle.dumps(Bomb(file.with_name("boom")), protocol))
    expected = (
        (ValueError, "no safetensors file") if protocol < 2 else (TypeError, "may execute code: load reads safetensors")
    )
    with pytest.raises(expected[0], match=expected[1]):
        load(file)
    assert not file.with_name("boom").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_archive_is_refused_unread(file: Path, zipped: bool) -> None:
    torch.save(Bomb(file.with_name("boom")), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(TypeError, match=r"torch\.save"):
        load(file)
    assert not file.with_name("boom").exists()


@pytest.mark.parametrize("name", ["os.system", "system", "posix.system", "builtins.eval", "Sequential", "__import__"])
def test_a_class_that_is_not_registered_is_named_and_not_looked_for(saved: Path, name: str) -> None:
    target = saved.with_name("boom")

    def change(head: dict[str, Any]) -> None:
        head["model"] = {"class": name, "given": {"command": f"touch {target}"}}

    forge(saved, change)
    with pytest.raises(TypeError, match=name):
        load(saved)
    assert not target.exists()


@pytest.mark.parametrize(
    "tree",
    [
        {"class": "StandardNormal", "given": {"dim": {"class": "os.system", "given": {"command": "touch boom"}}}},
        {"class": "ChainBijection", "given": {"parts": [{"unknown": "os.system"}]}},
    ],
    ids=["argument", "list"],
)
def test_nested_names_are_found_before_anything_is_built(saved: Path, tree: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(saved.parent)
    built: list[str] = []
    monkeypatch.setattr("geoflow.registry.rebuild", lambda cls, given: built.append(cls.__name__))
    forge(saved, lambda head: head.update(model=tree))
    with pytest.raises(TypeError, match=r"os\.system"):
        load(saved)
    assert not built
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model.safetensors"]


@pytest.mark.parametrize(
    "tree",
    [
        {"class": "StandardNormal", "given": {}},
        {"class": "StandardNormal", "given": {"dim": 2, "more": 3}},
        {"class": "StandardNormal", "given": {"dim": {"space": "os.system", "given": {}}}},
        {"class": "StandardNormal", "given": {"dim": {"space": "Manifold", "given": {}}}},
        {"class": "StandardNormal", "given": {"dim": {"space": "annotations", "given": {}}}},
        {"class": "StandardNormal", "given": {"dim": {"tensor": "nowhere"}}},
        {"class": "StandardNormal"},
        {"class": "StandardNormal", "given": {"dim": -1}},
        7,
        {},
    ],
)
def test_a_description_that_makes_no_model(saved: Path, tree: Any) -> None:
    forge(saved, lambda head: head.update(model=tree))
    with pytest.raises(ValueError, match="cannot build|does not fit"):
        load(saved)


def test_spaces_of_ones_own_are_refused_also_inside_a_product(tmp_path: Path) -> None:
    own = Cylinder(2.0)
    for space in (own, Product(Sphere(2), own)):
        model = FermatSpace(StandardNormal(space.ambient_dim), space=space)
        with pytest.raises(TypeError, match="spaces of the package manifolds, and no others"):
            save(model, tmp_path / "own.safetensors")
    fine = FermatSpace(StandardNormal(6), space=Product(Sphere(2), Sphere(2)))
    save(fine, tmp_path / "fine.safetensors")
    assert load(tmp_path / "fine.safetensors").space == fine.space
