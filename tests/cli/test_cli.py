"""The command line as people use it: a CSV with an id, blank cells and a header goes through every verb."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from geoflow import GaussianMixture, StandardNormal, describe, load, save
from tests.cli.terminal import HEADER, TINY, read_back, refused, rows, run, write_csv

# -- the way of a user with a CSV ------------------------------------------------------------------------------------


def test_errors_lead_from_the_table_to_the_fit(capsys, table, tmp_path):
    """Each refusal names the flag that the next command needs."""
    model = tmp_path / "m.safetensors"
    first = refused(capsys, "fit", table, "--out", model)
    assert "column 'kind' holds text (line 2: 'a')" in first
    assert "--drop kind" in first
    second = refused(capsys, "fit", table, "--out", model, "--drop", "kind")
    assert "10 of 200 rows have blank cells ('mass [kg]' 10; at line 9, 29, 49, ...)" in second
    assert "--missing drop" in second
    assert not model.exists()
    flags = ["--drop", "kind", "--missing", "drop", "--model", "gaussian", "--out", model]
    code, out, err = run(capsys, "fit", table, *flags)
    assert code == 0
    assert "'id' looks like a row number" in err
    assert "--drop id" in err
    assert "10 rows with blank cells left out" in out


def test_fit_says_what_it_did_and_writes_notes(capsys, table, tmp_path):
    model = tmp_path / "m.safetensors"
    code, out, err = run(capsys, "fit", table, "--drop", "id,kind", "--missing", "drop", "--out", model, *TINY)
    assert code == 0
    assert err == ""
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert list(lines) == ["table", "rows", "model", "held", "file", "config", "next"]
    assert "190 rows × 2 columns" in lines["table"]
    assert "152 to train" in lines["rows"]
    assert "38 held out" in lines["rows"]
    assert "nats per row" in lines["held"]
    notes = describe(model)
    assert notes["columns"] == ["length (mm)", "mass [kg]"]
    assert notes["units"] == {"length (mm)": "mm", "mass [kg]": "kg"}
    assert notes["split"]["fraction"] == 0.2
    assert notes["config"] == json.loads(lines["config"])
    assert notes["training"]["epochs"] == 1
    assert load(model).dim == 2


def test_one_seed_one_model(capsys, table, tmp_path):
    a, b, c = (tmp_path / f"{n}.safetensors" for n in "abc")
    for path, seed in ((a, 1), (b, 1), (c, 2)):
        flags = ["--drop", "id,kind", "--missing", "drop", "--seed", seed, "--out", path]
        assert run(capsys, "fit", table, *flags, *TINY)[0] == 0
    weights = [torch.cat([p.flatten() for p in load(path).parameters()]) for path in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_logprob_appends_two_columns_and_keeps_the_rest(capsys, fitted, tmp_path):
    table, model = fitted
    code, out, err = run(capsys, "logprob", model, table)
    assert code == 0
    header, body = read_back(out)
    assert header == [*HEADER, "log_prob", "percentile"]
    assert len(body) == 190
    assert "10 of 200 rows" in err
    assert "--missing keep" in err
    kept = [r for r in rows() if r[2]]
    assert [r[:4] for r in body] == kept
    x = torch.tensor([[float(a), float(b)] for _, a, b, _ in kept])
    assert np.allclose([float(r[4]) for r in body], load(model).log_prob(x).detach(), atol=1e-4)
    share = np.array([float(r[5]) for r in body])
    order = np.argsort([float(r[4]) for r in body])
    assert (np.diff(share[order]) >= 0).all()
    assert 40 < np.median(share) < 60

    scored = tmp_path / "scored.csv"
    assert run(capsys, "logprob", model, table, "--missing", "keep", "--out", scored)[0] == 0
    _, body = read_back(scored.read_text())
    assert [r[:4] for r in body] == rows()
    assert [r[4] == "" for r in body] == [r[2] == "" for r in rows()]


def test_percentiles_count_the_training_rows(capsys, fitted, tmp_path):
    """A row in the middle of all is likelier than nearly every training row, a row far off than none."""
    _, model = fitted
    new = write_csv(tmp_path / "new.csv", ["mass [kg]", "length (mm)"], [["1.0", "100"], ["9", "-400"]])
    _, out, _ = run(capsys, "logprob", model, new)
    header, body = read_back(out)
    assert header[:2] == ["mass [kg]", "length (mm)"], "columns are found by name, in any order"
    assert float(body[0][-1]) > 90
    assert float(body[1][-1]) == 0


def test_sample_writes_the_header_and_repeats_by_seed(capsys, fitted, tmp_path):
    _, model = fitted
    one, two, three = (run(capsys, "sample", model, "-n", 300, "--seed", s)[1] for s in (1, 1, 2))
    assert one == two != three
    header, body = read_back(one)
    assert header == ["length (mm)", "mass [kg]"]
    drawn = np.array(body, dtype=float)
    assert drawn.shape == (300, 2)
    assert abs(drawn[:, 0].mean() - 100) < 6
    assert abs(np.corrcoef(drawn.T)[0, 1] - 0.9) < 0.07
    path = tmp_path / "new.npz"
    code, out, err = run(capsys, "sample", model, "-n", 5, "--out", path)
    assert (code, out) == (0, "")
    assert "5 rows" in err
    file = np.load(path)
    assert file["x"].shape == (5, 2)
    assert list(file["columns"]) == header


def test_check_finds_the_rows_that_fit_held_out(capsys, fitted, asked):
    """The same split: the rows it is given have the mean log p that `fit` quoted."""
    table, model = fitted
    code, out, _ = run(capsys, "check", model, table, "--quiet")
    assert code == 0
    assert "38 rows of" in out
    assert "held out in training, against the 152 training rows" in out
    assert "held-out log p" in out
    assert len(asked["x"]) == 38
    assert len(asked["train"]) == 152
    quoted = describe(model)["training"]
    density = load(model).requires_grad_(False)
    assert float(density.log_prob(asked["x"]).mean()) == pytest.approx(quoted["test_log_prob"], abs=1e-4)
    assert float(density.log_prob(asked["train"]).mean()) == pytest.approx(quoted["train_log_prob"], abs=1e-4)


def test_check_on_other_rows_takes_all_of_them(capsys, fitted, tmp_path):
    _, model = fitted
    other = write_csv(tmp_path / "other.csv", HEADER, rows(60, seed=5))
    picture = tmp_path / "check.png"
    code, out, _ = run(capsys, "check", model, other, "--json", "--plot", picture, "--quiet")
    found = json.loads(out)
    assert code == 0
    assert found["rows"] == 57
    assert found["train_rows"] == 0
    assert {line["name"] for line in found["lines"]} >= {"held-out log p", "mass"}
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_strict_check_of_a_bad_model_exits_with_one(capsys, tmp_path, asked):
    save(StandardNormal(2), tmp_path / "bad.safetensors")
    far = np.random.default_rng(0).normal(5, 3, (80, 2))
    np.save(tmp_path / "far.npy", far)
    assert run(capsys, "check", tmp_path / "bad.safetensors", tmp_path / "far.npy", "--strict", "--quiet")[0] == 1


def test_report_is_one_page(capsys, fitted, asked, tmp_path):
    table, model = fitted
    path = tmp_path / "report.html"
    code, out, _ = run(capsys, "report", model, table, "--out", path, "--quiet")
    assert code == 0
    assert str(path) in out
    page = path.read_text()
    assert len(asked["x"]) == 38
    for word in ("length (mm), mass [kg]", "38 rows of", "coverage", "The least likely rows"):
        assert word in page
    assert page.count("data:image/png;base64,") == 3, "the table's drawing, the columns, the plane"
    assert "http" not in page
    x = torch.tensor([[float(a), float(b)] for _, a, b, _ in rows() if b])
    kept = [i for i, r in enumerate(rows()) if r[2]]
    least = kept[int(load(model).log_prob(x).argmin())]
    assert (
        f"<tr><td>{least}</td>" in page.split("The least likely rows")[1].split("</tbody>")[0].split("<tbody>")[1][:40]
    )
    assert "unknown suffix '.pdf'" in refused(capsys, "report", model, table, "--out", tmp_path / "r.pdf")


# -- distances -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    """A known mixture whose file has no notes, and a table without a header: the arms of a cross."""
    folder = tmp_path_factory.mktemp("moons")
    spread = torch.stack([torch.diag(torch.tensor([9.0, 0.09])), torch.diag(torch.tensor([0.09, 9.0]))])
    cross = GaussianMixture.of(torch.tensor([0.5, 0.5]), torch.zeros(2, 2), spread)
    save(cross, folder / "cross.safetensors")
    x = cross.sample(200, generator=torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    x[0], x[1], x[2] = (4.0, 0.0), (0.0, 4.0), (-4.0, 0.0)
    np.save(folder / "cross.npy", x)
    return str(folder / "cross.npy"), str(folder / "cross.safetensors")


def test_dist_measures_both_in_standardised_coordinates(capsys, moons, tmp_path):
    table, model = moons
    paths, out_file = tmp_path / "paths.csv", tmp_path / "d.csv"
    command = ["dist", model, table, "--pairs", "0:1,0:2", "--paths", paths, "--out", out_file]
    code, out, _ = run(capsys, *command, "--quiet")
    assert code == 0
    assert "standardised coordinates" in out
    assert "2 of 2 paths converged" in out
    found = json.loads(run(capsys, *command, "--quiet", "--json")[1])
    x = np.load(table)
    std = x.std(0)
    assert found["scale"] == pytest.approx(std.tolist(), rel=1e-5)
    straight = [np.linalg.norm((x[a] - x[b]) / std) for a, b in ((0, 1), (0, 2))]
    assert found["pairs"]["euclidean"] == pytest.approx(straight, rel=1e-6)
    across, along = found["pairs"]["ratio"]
    assert across > 1.15 * along, "from arm to arm the way leads through the middle"
    header, body = read_back(paths.read_text())
    assert header == ["row_a", "row_b", "share", "x0", "x1"]
    way = np.array([r for r in body if r[1] == "1"], dtype=float)
    assert np.allclose(way[[0, -1], 3:], x[[0, 1]], atol=1e-5)
    assert np.linalg.norm(way[:, 3:], axis=1).min() < 1.5
    assert read_back(out_file.read_text())[0][:4] == ["row_a", "row_b", "euclidean", "fermat"]


def test_dist_does_not_know_the_columns_units(capsys, moons, tmp_path):
    """A power of two, so that standardised rows agree to the bit; distances to 1e-5, as is asked for."""
    x = np.load(moons[0])
    found = []
    for unit in (1.0, 1024.0):
        table, model = tmp_path / f"{unit:.0f}.npy", tmp_path / f"{unit:.0f}.safetensors"
        np.save(table, x * [1.0, unit])
        assert run(capsys, "fit", table, "--seed", "0", "--out", model, *TINY)[0] == 0
        _, out, _ = run(capsys, "dist", model, table, "--pairs", "5:9", "--max-iter", "30", "--json", "--quiet")
        found.append(json.loads(out)["pairs"])
    assert found[1]["fermat"] == pytest.approx(found[0]["fermat"], rel=1e-5)
    assert found[1]["euclidean"] == pytest.approx(found[0]["euclidean"], rel=1e-5)


def test_dist_names_neighbours_under_both(capsys, moons):
    table, model = moons
    _, out, _ = run(capsys, "dist", model, table, "--neighbors", 3, "--rows", "0,1", "--json", "--quiet")
    found = json.loads(out)["neighbors"]
    assert [f["row"] for f in found] == [0, 1]
    x = np.load(table)
    scaled = x / x.std(0)
    for f in found:
        gap = np.linalg.norm(scaled - scaled[f["row"]], axis=1)
        gap[f["row"]] = np.inf
        assert [r for r, _ in f["euclidean"]] == np.argsort(gap)[:3].tolist()
        assert f["row"] not in [r for r, _ in f["fermat"]]
        lengths = [d for _, d in f["fermat"]]
        assert lengths == sorted(lengths)
        assert len(lengths) == 3


def test_dist_thins_out_a_large_table_but_keeps_the_rows_asked_for(capsys, moons):
    table, model = moons
    command = ["dist", model, table, "--pairs", "0:199", "--points", "50", "--json"]
    _, out, err = run(capsys, *command)
    assert "50 of 200 rows carry the graph" in err
    assert json.loads(out)["pairs"]["row_b"] == [199]


def test_dist_refuses(capsys, moons, fitted):
    table, model = moons
    assert "no row 200: its rows count from 0 to 199" in refused(capsys, "dist", model, table, "--pairs", "0:200")
    assert "such as 0:5,3:9" in refused(capsys, "dist", model, table, "--pairs", "0-5")
    assert "--rows goes with --neighbors" in refused(capsys, "dist", model, table, "--rows", "1")
    assert "only 199 others" in refused(capsys, "dist", model, table, "--neighbors", "200", "--rows", "1")
    table, model = fitted
    assert "row 7 (line 9) has a blank cell" in refused(capsys, "dist", model, table, "--pairs", "7:8", "--quiet")


# -- settings --------------------------------------------------------------------------------------------------------


def test_the_configuration_comes_back(capsys, table, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    flags = ["--drop", "id,kind", "--missing", "drop", "--seed", "3", "--lr", "0.01", "--out", first, "--json"]
    _, out, _ = run(capsys, "fit", table, *flags, *TINY)
    printed = tmp_path / "run.json"
    printed.write_text(out)
    assert run(capsys, "fit", "--config", printed, "--out", second, "--quiet")[0] == 0
    a, b = load(first), load(second)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    code, out, _ = run(capsys, "fit", "--config", first, "--out", second, "--seed", 4, "--json", "--quiet")
    assert code == 0
    again = json.loads(out)["config"]
    assert again["seed"] == 4, "a flag wins over the file"
    assert again["lr"] == 0.01, "the file wins over the default"

    for text, message in (("{", "no JSON"), ("[1]", "no configuration"), ('{"epoch": 3}', "did you mean 'epochs'")):
        printed.write_text(text)
        assert message in refused(capsys, "fit", table, "--config", printed)
    assert "no such file" in refused(capsys, "fit", table, "--config", tmp_path / "no.json")
    assert "needs a TABLE" in refused(capsys, "fit", "--quiet")


def test_weights_column_counts_rows(capsys, tmp_path):
    """A Gaussian base is shifted to where the weights are; the weights are no data column."""
    rng = np.random.default_rng(0)
    body = [[f"{v:.4f}", f"{rng.normal():.4f}", "1" if i % 2 else "0"] for i, v in enumerate(rng.normal(0, 1, 200))]
    for i in range(0, 200, 2):
        body[i][0] = f"{float(body[i][0]) + 50:.4f}"
    path = write_csv(tmp_path / "w.csv", ["a", "b", "w"], body)
    model = tmp_path / "w.safetensors"
    flags = ["--weights", "w", "--depth", "2", "--hidden", "8", "--components", "1", "--quiet", "--out", model]
    code, out, _ = run(capsys, "fit", path, *flags, "--epochs", "40", "--lr", "0.02")
    assert code == 0
    assert "weights from 'w'" in out
    assert describe(model)["columns"] == ["a", "b"]
    density = load(model).requires_grad_(False)
    weighted, unweighted = (density.log_prob(torch.tensor([[a, 0.0]])) for a in (0.0, 50.0))
    assert float(weighted - unweighted) > 5
    bad = write_csv(tmp_path / "neg.csv", ["a", "b", "w"], [["1", "2", "-1"], ["2", "3", "0"], ["3", "5", "0"]])
    assert "none of the weights in 'w' is above 0" in refused(capsys, "fit", bad, "--weights", "w", "--out", model)


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_models_without_steps(capsys, table, tmp_path, kind):
    model = tmp_path / "m.safetensors"
    flags = ["--drop", "id,kind", "--missing", "drop", "--model", kind, "--components", "2", "--out", model, "--quiet"]
    assert run(capsys, "fit", table, *flags)[0] == 0
    assert isinstance(load(model), GaussianMixture)
    assert load(model).components == (1 if kind == "gaussian" else 2)


def test_constant_columns(capsys, tmp_path):
    body = [[r[1], r[1][::-1].replace(".", ""), "3"] for r in rows(50)]
    path = write_csv(tmp_path / "c.csv", ["a", "b", "c"], body)
    model = tmp_path / "m.safetensors"
    flags = ["--model", "gaussian", "--out", model]
    line = refused(capsys, "fit", path, *flags, "--quiet")
    assert "column 'c' is constant" in line
    assert "--drop-constant" in line
    code, out, _ = run(capsys, "fit", path, *flags, "--drop-constant", "--quiet")
    assert code == 0
    assert "constant column 'c' left out" in out
    assert describe(model)["columns"] == ["a", "b"]


def test_remarks_on_rows_name_the_column(capsys, tmp_path):
    body = [[str(i % 7), f"{np.sin(i):.5f}"] for i in range(60)]
    path = write_csv(tmp_path / "whole.csv", ["age", "x"], body)
    _, _, err = run(capsys, "fit", path, "--model", "gaussian", "--out", tmp_path / "m.safetensors")
    remarks = [line for line in err.splitlines() if line.startswith("remark")]
    assert len([r for r in remarks if "whole numbers" in r]) == 1
    assert "'age'" in err


def test_threads_and_global_state_are_put_back(capsys, fitted):
    before = torch.get_num_threads()
    assert run(capsys, "sample", fitted[1], "-n", 3, "--threads", 2)[0] == 0
    assert torch.get_num_threads() == before


# -- as a process ----------------------------------------------------------------------------------------------------


def geoflow(*argv, folder=None, text=None):
    command = [sys.executable, "-m", "geoflow.cli", *map(str, argv)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, input=text, check=False)


def test_streams_of_a_process(fitted, tmp_path):
    """Progress on stderr, results on stdout, the model where no name was given."""
    table, _ = fitted
    flags = ["--drop", "id,kind", "--missing", "drop", "--epochs", "2", "--components", "1"]
    done = geoflow("fit", table, *flags, folder=tmp_path)
    assert done.returncode == 0
    assert "it/s" in done.stderr or "fit" in done.stderr
    assert "it/s" not in done.stdout
    assert (tmp_path / "table.safetensors").exists()
    failed = geoflow("fit", table, folder=tmp_path)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1


def test_demo_runs_through(tmp_path):
    """In a moment, with numbers that mean nothing: the page is whole and loads nothing."""
    done = geoflow("demo", "--quick", "--quiet", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "index.html").read_text()
    pictures = sorted(p.name for p in (tmp_path / "demo").glob("*.png"))
    assert pictures == ["digits_few_labels.png", "digits_morph.png", "digits_neighbours.png", "moons.png"]
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page
    assert 'src="data:' in page
    for word in ("held-out log p", "mixture of", "geoflow fit table.csv"):
        assert word in page
        assert word in done.stdout
    for p in pictures:
        assert str(tmp_path / "demo" / p) in done.stdout


def test_bounds_keep_the_density_inside(capsys, tmp_path):
    """Nothing is drawn or likely outside; rows on a bound are refused with their line; the configuration holds them."""
    g = np.random.default_rng(0)
    body = np.stack([g.exponential(2.0, 200), g.beta(2, 3, 200), g.normal(size=200)], 1)
    path = write_csv(tmp_path / "t.csv", ["T", "share", "u"], body.tolist())
    model = tmp_path / "m.safetensors"
    flags = ["--bounds", "T=0:,share=0:1", *TINY, "--quiet", "--out", model]
    code, out, _ = run(capsys, "fit", path, *flags)
    assert code == 0
    assert "'T' bounded by 0:" in out
    assert describe(model)["config"]["bounds"] == {"T": [0.0, None], "share": [0.0, 1.0]}
    drawn = np.array(read_back(run(capsys, "sample", model, "-n", 500)[1])[1], dtype=float)
    assert drawn[:, 0].min() > 0
    assert 0 < drawn[:, 1].min() < drawn[:, 1].max() < 1
    new = write_csv(tmp_path / "new.csv", ["T", "share", "u"], [[1, 0.5, 0], [-1, 0.5, 0], [1, 2, 0]])
    scored = read_back(run(capsys, "logprob", model, new)[1])[1]
    assert [float(r[-2]) > -np.inf for r in scored] == [True, False, False]

    on = write_csv(tmp_path / "on.csv", ["T", "share"], [[0, 0.5], *body[:, :2].tolist()])
    line = refused(capsys, "fit", on, "--bounds", "T=0:", "--out", model)
    assert "1 of 201 rows are not inside --bounds T=0: (line 2: 0; 1 lie on a bound" in line
    assert "no column 'Z'" in refused(capsys, "fit", on, "--bounds", "Z=0:", "--out", model)
    assert "such as T=0:" in refused(capsys, "fit", on, "--bounds", "T:0", "--out", model)
    assert "use --model realnvp or nsf or maf" in refused(
        capsys, "fit", on, "--bounds", "T=-1:", "--model", "mixture", "--out", model
    )


@pytest.mark.parametrize("name", ["nsf", "maf"])
def test_other_flows_by_name(capsys, tmp_path, name):
    rows = np.random.default_rng(0).normal(size=(200, 2)).tolist()
    path, model = write_csv(tmp_path / "t.csv", ["a", "b"], rows), tmp_path / "m.safetensors"
    assert run(capsys, "fit", path, "--model", name, *TINY, "--out", model)[0] == 0
    assert describe(model)["config"]["model"] == name
    assert len(read_back(run(capsys, "sample", model, "-n", 7)[1])[1]) == 7
