"""Bars on stderr for the stages that take long: neighbours, edges, shortest paths, geodesics. Quick calls show none."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

PATIENCE = 2.0
"""Seconds that a stage may take before its bar appears."""

T = TypeVar("T")
_hidden: dict[str, Any] = {}


def show_progress(show: bool) -> None:
    """Whether distances show bars on stderr, for stages of more than two seconds; they go away when done.

    The environment variable ``TQDM_DISABLE=1``, set before Python starts, turns them off too.
    """
    _hidden.clear()
    if not show:
        _hidden["disable"] = True


def bar(total: int, about: str) -> Any:
    """A bar of `total` steps, to be moved by ``update(steps)`` within ``with``."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=about, delay=PATIENCE, leave=False, **_hidden)


def watched(blocks: Sequence[T], about: str, steps: Callable[[T], int] = lambda block: 1) -> Iterator[T]:
    """The blocks one by one, each worth some steps of a bar; a single one comes without."""
    if len(blocks) < 2:
        yield from blocks
        return
    with bar(sum(map(steps, blocks)), about) as shown:
        for block in blocks:
            yield block
            shown.update(steps(block))
