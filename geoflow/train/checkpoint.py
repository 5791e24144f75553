"""What survives an interruption: checkpoint files, the state of every generator, and signals turned into a flag."""

import os
import pickle
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

KIND = "geoflow checkpoint"
FORMAT = 1


def write(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values, under a temporary name that is swapped in when it is whole."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "wb") as file:
        torch.save({"kind": KIND, "format": FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The dict that `write` wrote, on the CPU, or None if there is no such file. Nothing in it is executed.

    Raises:
        ValueError: the file is truncated, is no checkpoint, or has another format; or its folder does not exist.
    """
    path = Path(path)
    if not path.exists():
        if not path.absolute().parent.is_dir():
            raise ValueError(f"fit: checkpoint={str(path)!r} is in a folder that does not exist: create it first.")
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"fit: {path} is truncated or no checkpoint ({first}): delete it to start again.") from None
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise ValueError(f"fit: {path} is a torch file, but not a checkpoint of fit: choose another name.")
    if state.get("format") != FORMAT:
        raise ValueError(f"fit: {path} has checkpoint format {state.get('format')}, this geoflow reads {FORMAT}.")
    return state


def refuse_changes(path: str | os.PathLike[str], before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise a ValueError that lists every setting in which a run differs from the one it would continue."""
    changed = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    if changed:
        shown = "; ".join(f"{k}: {before.get(k)!r} in the file, {now.get(k)!r} now" for k in changed)
        raise ValueError(
            f"fit: {path} belongs to a run with another configuration ({shown}): use the same settings to continue it, "
            "or another checkpoint name to start again."
        )


def generators(device: torch.device) -> dict[str, Any]:
    """The state of torch's generators (of the CPU and the device), numpy's and Python's global ones."""
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 (the global one is meant)
    name, keys, position, has_gauss, cached = state
    return {
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(*_which(device)),
        "numpy": (str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)),
        "python": random.getstate(),
    }


def restore_generators(state: dict[str, Any], device: torch.device) -> None:
    """Put the generators back to what `generators` saw."""
    torch.set_rng_state(state["torch"])
    if device.type != "cpu" and state["device"] is not None:
        torch.get_device_module(device).set_rng_state(state["device"], *_which(device))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def seed_all(seed: int, device: torch.device) -> None:
    """Seed the same generators; those of other devices are left alone."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            torch.get_device_module(device).manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """How a device's generator is named: Apple's has no number."""
    return () if device.type == "mps" else (device,)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every global generator inside the block; afterwards they are as before."""
    before = generators(device)
    try:
        seed_all(seed, device)
        yield
    finally:
        restore_generators(before, device)


class Signals:
    """Ctrl-C and SIGTERM set `caught` instead of interrupting, so that a step is finished first.

    In the main thread only, where Python allows it; a second Ctrl-C interrupts at once. The old handlers come back at
    the end of the block.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
