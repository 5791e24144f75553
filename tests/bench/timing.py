"""Interleaved timing: every contestant once a round, medians over rounds, ratios taken round by round."""

import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int = 15, warmup: int = 3, budget: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of each run in each round, after `warmup` rounds that are thrown away.

    Past `budget` seconds there are no more than one round to warm up, and three that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()

    def over(done: int, least: int) -> bool:
        return done >= least and time.perf_counter() - begin > budget

    for i in range(warmup):
        if over(i, 1):
            break
        for run in runs.values():
            run()
    for i in range(rounds):
        if over(i, 3):
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Median of a/b over rounds, with its quartiles."""
    pairs = sorted(x / y for x, y in zip(a, b, strict=True))
    return statistics.median(pairs), pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4]


def processor() -> str:
    """Its name, where the system tells: the share of matrix products in a flow, and so every ratio, differs between them."""
    known = Path("/proc/cpuinfo")
    names = [line for line in known.read_text().splitlines() if line.startswith("model name")] if known.exists() else []
    return names[0].split(":")[1].strip() if names else platform.machine()


def write(name: str, title: str, command: str, body: str) -> None:
    """A table of results with the command and the machine's words."""
    head = (
        f"# {title}\n\nMade by `{command}` on {time.strftime('%Y-%m-%d')}: Python {platform.python_version()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {processor()}. Times on a shared machine move "
        "together: read ratios. Brackets are quartiles over rounds.\n\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(head + body.rstrip() + "\n")
    sys.stdout.write(head + body.rstrip() + "\n")


def high_water() -> float:
    """The most memory this process has held, in mebibytes; unlike getrusage's, it forgets what came before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def alive(step: Callable[[], object]) -> float:
    """Mebibytes of tensors that a call adds at its peak, by the record of torch's profiler; exact, unlike a process's size."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(2):  # the first knows nothing of the tensors before it, and does not see them freed
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
    assert record.profiler is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(accumulate(changes)) / 2**20
