"""Models in one safetensors file: tensors, and JSON that says how to rebuild the object from registered classes.

Nothing in a file is executed or imported on load: a class it names must stand in our register, or be passed in.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoflow import registry
from manifolds import Manifold
from manifolds.manifold import named

FORMAT = 1
_ARGUMENT = "argument:"
"""Prefix of tensors that a constructor takes and the model's state does not hold."""
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float64, torch.float32, torch.bfloat16, torch.float16)}


def save(model: nn.Module, path: str | os.PathLike[str], **notes: Any) -> None:
    """Write `model` to one file, by a temporary name swapped in at the end.

    Args:
        model: an object of registered classes; your own modules inside are saved as tensors; `load` asks for them.
        path: where to; ``.safetensors`` is customary.
        notes: JSON values kept with it, given back by `describe`.
    """
    from safetensors.torch import save_file

    model = getattr(model, "_orig_mod", model)  # a compiled model is saved bare
    tensors = {k: v.detach().contiguous().cpu().clone() for k, v in model.state_dict().items()}
    tree = _describe(model, "", tensors)
    if "unknown" in tree:
        raise TypeError(
            f"save expects an object of a registered class, got {type(model).__name__}: decorate it with @register."
        )
    floating = [t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    dtype = str(floating[0]).removeprefix("torch.") if floating else None
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    head = {"format": FORMAT, "geoflow": _version(), "model": tree, "dtype": dtype, "frozen": frozen, "notes": notes}
    head["checksum"] = _checksum(head, tensors)
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    save_file(tensors, temporary, metadata={"geoflow": json.dumps(head)})
    os.replace(temporary, path)


def load(path: str | os.PathLike[str], modules: dict[str, nn.Module] | None = None) -> Any:
    """The model in a file that `save` wrote, on the CPU and in eval mode; parameters that were frozen are so again.

    Args:
        path: the file.
        modules: modules of your own by their place in the model, as ``{"autoencoder.encoder": mine}``; the error for a
            missing one prints the dict ready to fill. Their weights are loaded from the file.

    Raises:
        ValueError: the file is truncated, foreign, damaged, or of a newer format.
        TypeError: the file is a pickle, or names classes that are not registered.
    """
    head, tensors = _read(path)
    given = dict(modules or {})
    missing = [(p, name) for p, name in _unknown(head["model"], "") if p not in given]
    if missing:
        filled = ", ".join(f'"{p}": ...' for p, _ in missing)
        names = ", ".join(sorted({name for _, name in missing}))
        raise TypeError(f"{path} holds modules that are not geoflow's ({names}): load(path, modules={{{filled}}}).")
    dtype = _DTYPES.get(head["dtype"])
    try:
        model = _build(head["model"], "", given, tensors, dtype)
        if not isinstance(model, nn.Module):
            raise TypeError(f"{head['model']!r} is no model")
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} describes a model that this geoflow cannot build: {error}") from error
    try:
        model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(_ARGUMENT)})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model it describes: {error}") from None
    for name, parameter in model.named_parameters() if "frozen" in head else ():  # older files do not say
        parameter.requires_grad_(name not in head["frozen"])
    return model.eval()


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that were saved with a model."""
    return dict(_read(path)[0]["notes"])


def _version() -> str:
    """The version written into files."""
    from importlib.metadata import version

    return version("geoflow")


def _checksum(head: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Of everything that the file says but this."""
    digest = hashlib.sha256(json.dumps({k: v for k, v in head.items() if k != "checksum"}).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        start = file.read(9)
    # a safetensors file begins with eight bytes of any length, which may look like a pickle's, and JSON
    if start[8:] != b"{" and start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise TypeError(
            f"{path} is a pickle or a torch.save archive, which may execute code: load reads safetensors files."
        )
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from None
    if "geoflow" not in meta:
        raise ValueError(f"{path} is a safetensors file, but not one that geoflow.save wrote.")
    try:
        head = json.loads(meta["geoflow"])
    except json.JSONDecodeError:
        raise ValueError(f"{path} is damaged: its description is not JSON.") from None
    if head.get("format") != FORMAT:
        raise ValueError(f"{path} has format {head.get('format')}, this geoflow reads {FORMAT}: update geoflow.")
    if head.get("checksum") != _checksum(head, tensors):
        raise ValueError(f"{path} is damaged or was changed: its checksum does not match (format {FORMAT}).")
    return head, tensors


def _describe(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """A JSON tree for a constructor argument; tensors stand in the file under their place in the model."""
    if isinstance(value, Manifold):
        name, config = type(value).__name__, value.config()
        try:
            again: object = named(name, config)
        except ValueError:
            again = None
        if again != value:
            raise TypeError(
                f"save cannot write {value!r}: files name the spaces of the package manifolds, and no others."
            )
        return {"space": name, "given": config}
    if isinstance(value, nn.Module) and not isinstance(value, nn.ModuleList):
        if registry.CLASSES.get(type(value).__name__) is not type(value):
            return {"unknown": type(value).__name__}
        arguments = registry.arguments(value).items()
        given = {name: _describe(v, f"{place}.{name}".lstrip("."), tensors) for name, v in arguments}
        return {"class": type(value).__name__, "given": given}
    if isinstance(value, (list, tuple, nn.ModuleList)):
        return [_describe(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, Tensor):
        name = place if place in tensors else _ARGUMENT + place
        tensors.setdefault(name, value.detach().contiguous().cpu().clone())
        return {"tensor": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"save cannot write the argument {place!r}, a {type(value).__name__}: it takes numbers, strings, tensors, "
        "spaces, modules, and lists of these."
    )


def _unknown(tree: Any, place: str) -> list[tuple[str, str]]:
    """(place, class name) of each module in the tree that the register does not hold."""
    if isinstance(tree, list):
        return [u for i, t in enumerate(tree) for u in _unknown(t, f"{place}.{i}")]
    if not isinstance(tree, dict):
        return []
    if "unknown" in tree:
        return [(place.lstrip("."), str(tree["unknown"]))]
    if "class" in tree and tree["class"] not in registry.CLASSES:
        return [(place.lstrip("."), str(tree["class"]))]
    return [u for name, t in tree.get("given", {}).items() if "class" in tree for u in _unknown(t, f"{place}.{name}")]


def _build(
    tree: Any, place: str, modules: dict[str, nn.Module], tensors: dict[str, Tensor], dtype: torch.dtype | None
) -> Any:
    """The value that a tree describes; each module in the dtype of the file before it meets a tensor of the file."""

    def inside(name: str | int, t: Any) -> Any:
        return _build(t, f"{place}.{name}".lstrip("."), modules, tensors, dtype)

    if place in modules:
        return modules[place].to(dtype)
    if isinstance(tree, list):
        return [inside(i, t) for i, t in enumerate(tree)]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]].clone()
    if "space" in tree:
        return named(tree["space"], tree["given"])
    built = registry.rebuild(
        registry.CLASSES[tree["class"]], {name: inside(name, t) for name, t in tree["given"].items()}
    )
    return built.to(dtype) if isinstance(built, nn.Module) else built
