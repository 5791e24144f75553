"""What can be run: ``python -m nox -s demo``, or lint, types, tests, tutorials, docs, bench, reproduce.

All sessions share one environment, .nox/geoflow. It is made once, with the versions in constraints.txt, and renewed
when that file or pyproject.toml changes. What stands behind ``--`` goes to the tool, as in
``python -m nox -s tests -- -k sphere``.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"

ROOT = Path(__file__).parent
HOME = ROOT / ".nox" / "geoflow"
PYTHON = str(HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def run(session: nox.Session, *command: str, **environment: str) -> None:
    """A module of the shared environment, from the root of the repository, without writing outside it."""
    session.run(PYTHON, "-m", *command, external=True, env={"MPLBACKEND": "agg", **environment})


def prepare(session: nox.Session, extra: str = "dev") -> None:
    """Make or renew the shared environment, with one group of optional dependencies."""
    text = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    wanted = f"{hashlib.sha256(text).hexdigest()} {sys.version}"
    stamp, interpreter = HOME / f"installed-{extra}", HOME / "interpreter"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not interpreter.is_file() or interpreter.read_text() != sys.version:
        session.run(sys.executable, "-m", "venv", "--clear", str(HOME), external=True)
        interpreter.write_text(sys.version)
    if extra != "dev":
        prepare(session)
    install = (PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-c", "constraints.txt")
    session.run(*install, "torch", external=True)  # first, and alone: the one large wheel is in place before the rest
    session.run(*install, "-e", f".[{extra}]", external=True)
    stamp.write_text(wanted)


@nox.session
def demo(session: nox.Session) -> None:
    """The tour of the library in a minute or two: figures, a report, and a number for each claim."""
    prepare(session)
    run(session, "geoflow.cli", "demo", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who imports whom."""
    prepare(session)
    run(session, "ruff", "check", *session.posargs, ".")
    run(session, "ruff", "format", "--check", ".")
    session.run(str(Path(PYTHON).with_name("lint-imports")), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    prepare(session)
    run(session, "mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Laws, oracles and everything else, with shapes checked at run time."""
    prepare(session)
    run(session, "pytest", "-n", "2", "--dist", "worksteal", *session.posargs, OMP_NUM_THREADS="1")


def scripts(session: nox.Session, pattern: str) -> None:
    """Run every script of a pattern, or those whose name holds one of the words behind ``--``."""
    prepare(session)
    found = [p for p in sorted(ROOT.glob(pattern)) if not session.posargs or any(w in p.name for w in session.posargs)]
    if not found:
        session.warn(f"no script {pattern}" + f" with {session.posargs} in its name" * bool(session.posargs))
    for script in found:
        here = {"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # helpers; small networks
        session.run(PYTHON, str(script.relative_to(ROOT)), external=True, env=here)


@nox.session
def tutorials(session: nox.Session) -> None:
    """Each tutorial from top to bottom."""
    scripts(session, "tutorials/plot_*.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed against peers, as tables in tests/bench/results."""
    scripts(session, "tests/bench/bench_*.py")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Tables of papers, in tests/reproduce/results."""
    scripts(session, "tests/reproduce/run_*.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The gallery and the reference, as pages in tutorials/_build/html."""
    prepare(session, "docs")
    build = ROOT / "tutorials" / "_build"
    (build / "source").mkdir(parents=True, exist_ok=True)  # conf.py writes the pages there
    pages, site = str(build / "source"), str(build / "html")
    run(session, "sphinx", "-b", "html", "-c", "tutorials", *session.posargs, pages, site)
