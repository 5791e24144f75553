"""The command line: ``geoflow demo | fit | check | logprob | anomaly | sample | dist | report``.

Results on stdout, progress on stderr; what a user did wrong is one line on stderr and exit code 2.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong input, 130 interrupted."""
    from geoflow.cli.parser import build

    args = build().parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("once", UserWarning)
        warnings.showwarning = _silence if args.quiet else _remark  # type: ignore[assignment]
        try:
            return _run(args)
        except (ValueError, TypeError, OSError, NotImplementedError, MemoryError) as error:
            if isinstance(error, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone, as `head` does
                return 0
            if args.traceback:
                raise
            sys.stderr.write(f"geoflow {args.verb}: {one_line(error)}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"geoflow {args.verb}: interrupted\n")
            return 130
        finally:
            torch.set_num_threads(threads)


def _run(args: Any) -> int:
    if args.verb == "demo":
        from geoflow.demo import run as demo

        code: int = demo(args.out, seed=args.seed, quick=args.quick, quiet=args.quiet, as_json=args.json)
        return code
    if args.verb == "fit":
        from geoflow.cli.fit import run as fit

        return fit(args)
    if args.verb == "report":
        from geoflow.cli.page import run as report

        return report(args)
    if args.verb == "dist":
        from geoflow.cli.dist import run as dist

        return dist(args)
    if args.verb == "anomaly":
        from geoflow.cli.anomaly import run as anomaly

        return anomaly(args)
    from geoflow.cli import use

    verbs = {"check": use.check, "logprob": use.logprob, "sample": use.sample}
    verb: Callable[[Any], int] = verbs[args.verb]
    return verb(args)


def one_line(error: BaseException) -> str:
    """The message of an error on one line; of the system's errors, which file and why."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}."
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _remark(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    if issubclass(category, UserWarning):
        sys.stderr.write(f"remark: {' '.join(str(message).split())}\n")


def _silence(*_: Any) -> None:
    return None
