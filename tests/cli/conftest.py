"""What tests of the command line start from: a table, a model fitted to it, and a `check` that is quick."""

import pytest

from geoflow.cli import main
from tests.cli.terminal import HEADER, rows, write_csv


@pytest.fixture
def table(tmp_path):
    return write_csv(tmp_path / "table.csv", HEADER, rows())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with the table and a Gaussian fitted to it, and what `fit` printed."""
    folder = tmp_path_factory.mktemp("fitted")
    path = write_csv(folder / "table.csv", HEADER, rows())
    model = str(folder / "model.safetensors")
    command = ["fit", path, "--drop", "id,kind", "--missing", "drop", "--model", "gaussian", "--out", model, "--quiet"]
    assert main(command) == 0
    return path, model


@pytest.fixture
def asked(monkeypatch):
    """What `check` was called with; its slowest line, the classifier's p-value, is left out."""
    import geoflow.diagnostics

    seen = {}
    real = geoflow.diagnostics.check

    def quick(density, x, train=None, **kwargs):
        seen.update(x=x, train=train)
        return real(density, x, train=train, permutations=0, samples=300)

    monkeypatch.setattr(geoflow.diagnostics, "check", quick)
    return seen
