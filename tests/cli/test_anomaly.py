"""`geoflow anomaly`: what it writes, from which rows its p-values come, and that no score is turned round."""

import json

import numpy as np
import torch

from geoflow import load
from geoflow.metrics import conformal_p_values, discoveries
from tests.cli.terminal import HEADER, read_back, refused, rows, run, write_csv


def new(folder, far=10):
    """Rows as those of the training, the first few far off."""
    body = [r for r in rows(60, seed=3) if r[2]]
    for r in body[:far]:
        r[1] = "400"
    return write_csv(folder / "new.csv", HEADER, body), body


def of(model, body):
    x = torch.tensor([[float(a), float(b)] for _, a, b, _ in body])
    return -load(model).log_prob(x).detach().double()


def test_a_density_is_scored_by_minus_log_p(capsys, fitted, tmp_path):
    _, model = fitted
    table, body = new(tmp_path)
    code, out, err = run(capsys, "anomaly", model, table)
    assert code == 0
    header, scored = read_back(out)
    assert header == [*HEADER, "nll"]
    assert [r[:4] for r in scored] == body
    assert np.allclose([float(r[4]) for r in scored], of(model, body), rtol=1e-4)
    assert "57 rows, counted from 0" in err
    path = tmp_path / "scored.npz"
    code, out, _ = run(capsys, "anomaly", model, table, "--out", path)
    assert (code, out) == (0, "")
    assert list(np.load(path)["columns"]) == ["nll"], "text cells of a table are no numbers"


def test_p_values_come_from_the_rows_held_out(capsys, fitted, tmp_path):
    """Of the training's own table those held out then; of another one all."""
    table, model = fitted
    data, body = new(tmp_path)
    scores = of(model, body)
    kept = [r for r in rows() if r[2]]
    held = np.zeros(190, dtype=bool)
    held[np.random.default_rng(0).permutation(190)[:38]] = True
    other = write_csv(tmp_path / "other.csv", HEADER, rows(400, seed=8))
    normal = {table: [r for r, h in zip(kept, held, strict=True) if h], other: [r for r in rows(400, seed=8) if r[2]]}
    for name, known in normal.items():
        command = ["anomaly", model, data, "--calibrate", name, "--missing", "drop", "--fdr", "0.2"]
        code, out, err = run(capsys, *command)
        assert code == 0
        assert f"calibrated with {len(known)} rows" in err
        header, scored = read_back(out)
        assert header[4:] == ["nll", "nll_p", "nll_found"]
        p = conformal_p_values(of(model, known), scores)
        assert np.allclose([float(r[5]) for r in scored], p, atol=1e-12)
        found = [r[6] == "1" for r in scored]
        assert found == discoveries(p, 0.2).tolist()
        assert all(found[:10])
        assert json.loads(run(capsys, *command, "--json", "--quiet")[1])["found"] == {"nll": sum(found)}
    few = run(capsys, "anomaly", model, data, "--calibrate", table, "--missing", "drop", "--fdr", "0.01")
    assert "147 or more are found at a false discovery rate of 0.01, or none" in few[2]
    assert not any(r[6] == "1" for r in read_back(few[1])[1])


def test_blank_rows_are_kept_where_asked(capsys, fitted):
    table, model = fitted
    code, out, err = run(capsys, "anomaly", model, table, "--missing", "keep", "--calibrate", table)
    assert code == 0
    assert "table of the training" in err
    scored = read_back(out)[1]
    assert [r[:4] for r in scored] == rows()
    assert [r[6] == "" for r in scored] == [r[2] == "" for r in rows()]


def test_what_anomaly_refuses(capsys, fitted, tmp_path):
    table, model = fitted
    assert "--fdr goes with --calibrate" in refused(capsys, "anomaly", model, table, "--fdr", "0.1")
    assert "this model has no score 'elbo'; it has nll" in refused(
        capsys, "anomaly", model, table, "--scores", "elbo", "--quiet"
    )
    whole = tmp_path / "whole.safetensors"
    flags = ["--drop", "id,kind", "--missing", "drop", "--model", "gaussian", "--test", "0", "--out", whole, "--quiet"]
    assert run(capsys, "fit", table, *flags)[0] == 0
    data, _ = new(tmp_path)
    line = refused(capsys, "anomaly", whole, data, "--missing", "drop", "--calibrate", table, "--quiet")
    assert "the model was trained on all of these rows" in line
    assert "discovery" in run(capsys, "anomaly", "--help")[1]
    bad = ["anomaly", model, data, "--missing", "drop", "--calibrate", table, "--fdr", "0", "--quiet"]
    assert "fdr is a share in (0, 1)" in refused(capsys, *bad)
