"""Long stages of distances show bars on stderr; quick calls and those who do not want them see none."""

import functools

import pytest
import torch
import tqdm.auto

from geoflow import FermatSpace, StandardNormal
from geoflow.distances import nearest, progress, show_progress
from geoflow.distances.graph import build
from geoflow.distances.paths import geodesics


@pytest.fixture
def asked(monkeypatch):
    """Options of every bar that was made; bars are drawn whatever the environment says."""
    made, real = [], functools.partial(tqdm.auto.tqdm, disable=False)

    def make(**options):
        made.append(options)
        return real(**options)

    monkeypatch.setattr(tqdm.auto, "tqdm", make)
    monkeypatch.setattr(build, "EDGES", 20)
    monkeypatch.setattr(geodesics, "PATHS", 2)
    return made


def work():
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    space = FermatSpace(StandardNormal(2), points=x, neighbors=5, nodes=4, extrapolate=False, knn_engine="torch")
    return space.solve(x[:3], x[3:6]).length


def test_each_long_stage_has_a_bar_that_comes_late_and_goes(asked, capsys, monkeypatch):
    assert progress.PATIENCE >= 1
    monkeypatch.setattr(progress, "PATIENCE", 100.0)
    quick = work()
    assert {"edges", "shortest paths", "geodesics", "paths at rest"} == {o["desc"] for o in asked}
    assert all(o["delay"] == 100 and not o["leave"] for o in asked)
    assert {o["desc"]: o["total"] for o in asked}["geodesics"] == 3
    assert capsys.readouterr().err == "", "nothing flickers in quick calls"
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert torch.equal(work(), quick)
    out, err = capsys.readouterr()
    assert out == ""
    assert all(word in err for word in ("edges", "shortest paths", "geodesics", "paths at rest"))
    asked.clear()
    rows = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    nearest(rows, None, 2, "torch")
    assert asked[0]["desc"] == "neighbours"
    assert asked[0]["total"] == len(rows)


def test_who_wants_none_has_none(asked, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    show_progress(False)
    try:
        work()
    finally:
        show_progress(True)
    assert asked
    assert all(o["disable"] for o in asked)
    assert capsys.readouterr().err == ""
