"""What the command line reads, and what it refuses: one line on stderr, exit code 2, and what to do."""

import sys

import numpy as np
import pytest
import torch

from geoflow import describe, load
from tests.cli.terminal import TINY, read_back, refused, run, write_csv

# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tsv", ".txt"])
def test_other_tables_give_the_same_fit(capsys, tmp_path, suffix):
    x = np.random.default_rng(0).normal(size=(60, 2))
    path = tmp_path / f"t{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, x=x, columns=np.array(["a", "b"]))
    else:
        np.savetxt(path, x, delimiter="\t" if suffix == ".tsv" else " ", header="a b" if suffix == ".txt" else "")
    model = tmp_path / "m.safetensors"
    assert run(capsys, "fit", path, "--model", "gaussian", "--test", "0", "--out", model, "--quiet")[0] == 0
    notes = describe(model)
    assert notes["columns"] == (["x0", "x1"] if suffix in (".npy", ".tsv") else ["a", "b"])
    assert np.allclose(load(model).means.detach()[0], x.mean(0), atol=1e-5)
    assert notes["split"]["rows"] == 60


def test_columns_that_lose_their_digits_are_named(capsys, tmp_path):
    """Seconds since 1970 in float32; far enough from zero nothing is left. In float64, and of few digits, all is well."""
    x = np.random.default_rng(0).normal(size=(60, 2)).round(4)
    command = ["--model", "gaussian", "--test", "0", "--out", tmp_path / "m.safetensors"]
    header = ["time", "size"]
    stamps = write_csv(tmp_path / "stamps.csv", header, (x * [2000.0, 1.0] + [1.7e9, 0.0]).tolist())
    code, _, err = run(capsys, "fit", stamps, *command)
    assert code == 0
    assert "column 'time' is rounded by up to 64 in float32, beside a deviation of 1.9e+03: use --dtype float64" in err
    assert "'size'" not in err
    assert "rounded" not in run(capsys, "fit", stamps, *command, "--dtype", "float64")[2]
    whole = write_csv(tmp_path / "whole.csv", header, (x * [1000.0, 1.0] + [1e6, 0.0]).round().tolist())
    assert "rounded" not in run(capsys, "fit", whole, *command)[2]
    far = write_csv(tmp_path / "far.csv", header, (x + np.array([1e10, 0.0])).tolist())
    tenth = write_csv(tmp_path / "tenth.csv", header, (x * [0.0, 1.0] + [0.1, 0.0]).tolist())
    assert "column 'time' is constant" in refused(capsys, "fit", tenth, *command)
    assert "which makes it constant: use --dtype float64" in refused(capsys, "fit", far, *command)


def test_semicolons_commas_quotes_and_byte_order_marks(capsys, tmp_path):
    body = [[f"{i / 7:.3f}".replace(".", ","), f'"{i * i % 11},5"'] for i in range(30)]
    text = '\ufeffa;"b, wide"\n' + "\n".join(";".join(r) for r in body) + "\n\n"
    path = tmp_path / "euro.csv"
    path.write_text(text, encoding="utf-8")
    model = tmp_path / "m.safetensors"
    code = run(capsys, "fit", path, "--model", "gaussian", "--test", "0", "--out", model)[0]
    assert code == 0
    assert describe(model)["columns"] == ["a", "b, wide"]
    assert float(load(model).means.detach()[0, 0]) == pytest.approx(np.mean([i / 7 for i in range(30)]), abs=1e-3)
    _, out, _ = run(capsys, "logprob", model, path, "--quiet")
    _, scored = read_back(out)
    assert float(scored[3][0]) == pytest.approx(3 / 7, abs=1e-3), "written with points, since commas separate"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "is empty"),
        ("b.csv", "a,b\n", "no rows below its header"),
        ("c.csv", "a,b\n1,2\n3\n", "line 3 has 1 cells, the first has 2"),
        ("d.csv", "a,a\n1,2\n3,4\n", "names column 'a' more than once"),
        ("e.csv", "a,b\n1,2\n3,inf\n4,5\n6,7\n", "column 'b' holds infinity (line 3)"),
        ("f.csv", "a,b\n1,\n3,\n4,\n", "column 'b' is empty"),
        ("g.csv", "a,b\n1,2\n3,4*\n4,5\n6,7\n", "column 'b' holds text in 1 of 4 rows (line 3: '4*')"),
        ("h.xlsx", "x", "unknown suffix '.xlsx'"),
        ("i.npy", "no array", "no plain array file"),
        ("j.csv", "a,b\n1,2\n", "1 rows to use"),
    ],
)
def test_bad_tables_are_one_line(capsys, tmp_path, name, content, says):
    path = tmp_path / name
    path.write_text(content)
    assert says in refused(capsys, "fit", path, "--out", tmp_path / "m.safetensors", "--quiet")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 4, 5)), "shape (3, 4, 5); a table has two axes"),
        (np.zeros((3, 2), complex), "not real numbers"),
        (np.array([["a", "b"]]), "not real numbers"),
        (np.zeros(4), "shape (4,)"),
    ],
)
def test_bad_arrays_are_one_line(capsys, tmp_path, array, says):
    np.save(tmp_path / "t.npy", array)
    assert says in refused(capsys, "fit", tmp_path / "t.npy", "--out", tmp_path / "m.safetensors")


def test_archives_with_several_tables_ask_which(capsys, tmp_path):
    np.savez(tmp_path / "t.npz", train=np.random.default_rng(0).normal(size=(40, 2)), test=np.zeros((3, 2)))
    model = tmp_path / "m.safetensors"
    line = refused(capsys, "fit", tmp_path / "t.npz", "--out", model)
    assert "train, test" in line
    assert "--key" in line
    flags = ["--key", "train", "--model", "gaussian", "--out", model, "--quiet"]
    assert run(capsys, "fit", tmp_path / "t.npz", *flags)[0] == 0
    assert "no array 'tran'" in refused(capsys, "fit", tmp_path / "t.npz", "--key", "tran", "--out", model)


@pytest.mark.parametrize(("suffix", "module"), [(".parquet", "pyarrow"), (".h5", "h5py")])
def test_files_of_the_extra_are_read_or_named(capsys, tmp_path, monkeypatch, suffix, module):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    line = refused(capsys, "fit", path, "--out", tmp_path / "m.safetensors")
    assert "geoflow[files]" in line
    assert module in line


def test_parquet_and_h5_round_trip(capsys, fitted, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("h5py")
    for suffix in (".parquet", ".h5"):
        path = tmp_path / f"new{suffix}"
        assert run(capsys, "sample", fitted[1], "-n", 20, "--out", path)[0] == 0
        assert run(capsys, "logprob", fitted[1], path)[0] == 0


# -- what else goes wrong --------------------------------------------------------------------------------------------


def test_names_that_are_nearly_right(capsys, table, fitted, tmp_path):
    out = ["--out", tmp_path / "m.safetensors"]
    assert "did you mean 'mass [kg]'" in refused(capsys, "fit", table, "--columns", "mass (kg)", *out)
    assert "no column 'ID'" in refused(capsys, "fit", table, "--drop", "ID", *out)
    assert "no column 'w'" in refused(capsys, "fit", table, "--weights", "w", *out)
    _, model = fitted
    other = write_csv(tmp_path / "o.csv", ["length", "mass [kg]"], [["1", "2"], ["3", "4"], ["5", "6"]])
    line = refused(capsys, "logprob", model, other)
    assert "lacks column 'length (mm)'" in line
    assert "is it 'length' there?" in line
    assert run(capsys, "logprob", model, other, "--columns", "length,mass [kg]", "--quiet")[0] == 0


def test_another_number_of_columns(capsys, fitted, tmp_path):
    np.save(tmp_path / "three.npy", np.zeros((4, 3)))
    line = refused(capsys, "logprob", fitted[1], tmp_path / "three.npy")
    assert "3 columns are chosen" in line
    assert "fitted on 2 (length (mm), mass [kg])" in line


def test_files_that_cannot_be(capsys, table, fitted, tmp_path):
    _, model = fitted
    assert "no such file" in refused(capsys, "fit", tmp_path / "no.csv", "--out", tmp_path / "m.safetensors")
    assert "no such file" in refused(capsys, "sample", tmp_path / "no.safetensors")
    assert "there is no folder" in refused(capsys, "fit", table, "--out", tmp_path / "no" / "m.safetensors")
    assert "is a folder" in refused(capsys, "sample", model, "--out", tmp_path)
    assert "unknown suffix '.pt'" in refused(capsys, "fit", table, "--out", tmp_path / "m.pt")
    assert "unknown suffix '.doc'" in refused(capsys, "sample", model, "--out", tmp_path / "x.doc")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "is a folder" in refused(capsys, "fit", folder, "--out", tmp_path / "m.safetensors")


def test_model_files_that_are_none(capsys, table, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model at all")
    assert "truncated or no safetensors file" in refused(capsys, "logprob", broken, table)
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.safetensors")
    assert "pickle" in refused(capsys, "sample", tmp_path / "pickle.safetensors")


def test_settings_that_cannot_be(capsys, table, tmp_path):
    common = ["fit", table, "--drop", "id,kind", "--missing", "drop", "--out", tmp_path / "m.safetensors", "--quiet"]
    assert "unknown device" in refused(capsys, *common, "--device", "gpu7")
    if not torch.cuda.is_available():
        assert "sees no GPU" in refused(capsys, *common, "--device", "cuda")
    assert "at least 1" in refused(capsys, *common, "--epochs", "0")
    assert "fraction" in refused(capsys, *common, "--test", "1.5")
    assert "unknown activation" in refused(capsys, *common, "--activation", "soft")
    assert "mixture for one" in refused(capsys, *common, "--columns", "length (mm)")
    assert "lr must be positive" in refused(capsys, *common, "--lr", "-1", *TINY)
    assert "invalid choice" in refused(capsys, "score", table)
    assert "required" in refused(capsys)


def test_nothing_held_out_is_said(capsys, table, tmp_path, asked):
    model = tmp_path / "m.safetensors"
    flags = ["--drop", "id,kind", "--missing", "drop", "--model", "gaussian", "--test", "0", "--out", model, "--quiet"]
    assert "nobody knows how good" in run(capsys, "fit", table, *flags)[1]
    assert "no fair test" in run(capsys, "check", model, table, "--quiet")[1]


@pytest.mark.parametrize("verb", ["demo", "fit", "check", "logprob", "anomaly", "sample", "dist", "report"])
def test_help_teaches(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"  geoflow {verb} " in out.split("example:")[1]
