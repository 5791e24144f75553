"""A table as people have them, and a way to run commands and read what they say."""

import csv
import io

import numpy as np

from geoflow.cli import main

HEADER = ["id", "length (mm)", "mass [kg]", "kind"]
TINY = ["--depth", "2", "--hidden", "8", "--components", "1", "--epochs", "1", "--quiet"]


def rows(n=200, seed=0):
    """Made measurements with an id, a text column and every 20th mass blank."""
    rng = np.random.default_rng(seed)
    length = rng.normal(100, 20, n)
    mass = 0.01 * length + rng.normal(0, 0.1, n)
    cells = zip(length, mass, np.arange(n) % 20 == 7, strict=True)
    return [[str(i + 1), f"{a:.4f}", "" if blank else f"{m:.5f}", "ab"[i % 2]] for i, (a, m, blank) in enumerate(cells)]


def write_csv(path, header, body, delimiter=","):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *body] if header else body)
    return str(path)


def run(capsys, *argv):
    """Exit code, stdout and stderr of a command."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line that a command is refused with."""
    code, out, err = run(capsys, *argv)
    assert code == 2, (out, err)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err
    return err


def read_back(text):
    body = list(csv.reader(io.StringIO(text)))
    return body[0], body[1:]
