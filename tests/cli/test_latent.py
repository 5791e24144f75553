"""Latent models on the command line: fitted, drawn from, asked for what they have, and told apart from densities."""

import os
import signal

import numpy as np
import pytest
import torch

from geoflow import GaussianMixture, LatentModel, describe, load
from geoflow.autoencoders import Gaussian, Multinomial
from tests.cli.terminal import read_back, refused, run, write_csv

QUICK = ["--hidden", "16", "--epochs", "3", "--quiet"]


def surface(n, seed=0):
    """Four columns in units of their own, near a plane."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.5, -1.0, 0.3], [0.0, 1.0, 0.7, -1.0]])
    return (x + 0.1 * rng.normal(size=(n, 4))) * [1.0, 20.0, 0.1, 5.0] + [0.0, 100.0, 0.0, -7.0]


def counts(n, seed=0):
    rng = np.random.default_rng(seed)
    topics = np.array([[0.6, 0.3, 0.05, 0.04, 0.01], [0.01, 0.04, 0.05, 0.3, 0.6]])
    return np.stack([rng.multinomial(60, p) for p in rng.dirichlet([0.5, 0.5], n) @ topics])


def fit(folder, kind, body, *flags):
    """The table and the model file."""
    table = write_csv(folder / "table.csv", [f"c{j}" for j in range(body.shape[1])], body.tolist())
    model = str(folder / "model.safetensors")
    return table, model, ["fit", table, "--model", kind, "--out", model, *QUICK, *flags]


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    from geoflow.cli import main

    table, model, command = fit(tmp_path_factory.mktemp("vae"), "vae", surface(300))
    assert main(command) == 0
    return table, model


# -- models --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vae", "vampprior", "wae-mmd", "rae"])
def test_models_of_columns(capsys, tmp_path, kind):
    """Fitted, saved, loaded, drawn from; what has a bound says so, per unit of the table, and what has none says that."""
    table, model, command = fit(tmp_path, kind, surface(300), "--components", "2")
    code, out, err = run(capsys, *command)
    assert code == 0, err
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["codes"].startswith("2; reconstructions leave")
    loaded = load(model)
    assert isinstance(loaded, LatentModel)
    assert describe(model)["config"]["latent"] is None
    assert isinstance(loaded.cost, Gaussian) == (kind in ("vae", "vampprior"))
    header, body = read_back(run(capsys, "sample", model, "-n", 400)[1])
    assert header == ["c0", "c1", "c2", "c3"]
    assert np.abs(np.array(body, dtype=float).mean(0) - surface(300).mean(0)).max() < 12
    if loaded.bounded:
        assert "mean lower bound of log p" in lines["held"]
        assert "a Gaussian fitted to the same rows" in lines["held"]
        assert len(describe(model)["quantiles"]) == 1001
    else:
        assert f"{kind} has no log p, nor a bound of it" in out
        line = refused(capsys, "logprob", model, table)
        assert "`geoflow anomaly` has scores" in line
    if kind == "rae":
        assert isinstance(loaded.prior, GaussianMixture)
        x = torch.as_tensor(surface(300), dtype=torch.float32)
        codes = loaded.codes(x)
        assert float((codes.mean(0) - loaded.prior.sample(2000).mean(0)).abs().max() / codes.std()) < 0.3


def test_logprob_of_a_latent_model_is_called_a_bound(capsys, vae):
    table, model = vae
    code, out, err = run(capsys, "logprob", model, table)
    assert code == 0
    assert "mean lower bound of log p" in err
    header, body = read_back(out)
    assert header[-2:] == ["log_prob_bound", "percentile"]
    x = torch.as_tensor(surface(300), dtype=torch.float32)
    wanted = load(model).log_prob_bound(x, 16, torch.Generator().manual_seed(0))
    found = np.array(body, dtype=float)
    assert np.allclose(found[:, -2], wanted, atol=1e-3)
    assert 40 < np.median(found[:, -1]) < 60


def test_a_unit_of_the_table_does_not_matter(capsys, tmp_path):
    """A power of two: the same model to the bit, and bounds that differ by the logarithm of the unit."""
    found = []
    for unit in (1.0, 1024.0):
        folder = tmp_path / f"{unit:.0f}"
        folder.mkdir()
        *_, command = fit(folder, "vae", surface(200) * [unit, 1.0, 1.0, 1.0])
        assert run(capsys, *command)[0] == 0
        found.append(describe(folder / "model.safetensors")["training"])
    assert found[1]["test_log_prob_bound"] == pytest.approx(found[0]["test_log_prob_bound"] - np.log(1024), abs=1e-3)
    assert found[1]["codes"]["unexplained"] == pytest.approx(found[0]["codes"]["unexplained"], rel=1e-4)


def test_rows_of_counts_are_taken_as_shares(capsys, tmp_path):
    table, model, command = fit(tmp_path, "dirichlet-vae", counts(200), "--latent", "2")
    code, out, err = run(capsys, *command)
    assert code == 0, err
    assert "Gaussian" not in out, "a density of shares does not compare with probabilities of counts"
    loaded = load(model)
    assert isinstance(loaded.cost, Multinomial)
    assert not any(p.requires_grad for p in loaded.prior.parameters())
    drawn = np.array(read_back(run(capsys, "sample", model, "-n", 9)[1])[1], dtype=float)
    assert np.allclose(drawn.sum(1), 1, atol=1e-5)
    body = counts(200)
    twice = write_csv(tmp_path / "twice.csv", [f"c{j}" for j in range(5)], (2 * body).tolist())
    scored = [read_back(run(capsys, "anomaly", model, t)[1]) for t in (table, twice)]
    assert scored[0][0][5:] == ["reconstruction", "elbo", "kl", "prior", "complex", "simple"]
    assert [r[5:] for r in scored[0][1]] == [r[5:] for r in scored[1][1]]

    body[4, 2] = -3
    *_, command = fit(tmp_path, "dirichlet-vae", body)
    line = refused(capsys, *command)
    assert "column 'c2' goes down to -3, where a dirichlet-vae takes counts or shares" in line
    assert "--model vae" in line
    body[4] = 0
    *_, command = fit(tmp_path, "dirichlet-vae", body)
    assert "1 rows are zero throughout" in refused(capsys, *command)


def test_an_interrupted_fit_continues(capsys, tmp_path, monkeypatch):
    """Ctrl-C leaves a model and a checkpoint; the same command then ends where an undisturbed one does."""
    whole = tmp_path / "whole"
    whole.mkdir()
    *_, command = fit(whole, "gmvae", surface(200), "--components", "2")
    assert run(capsys, *command)[0] == 0
    _, model, command = fit(tmp_path, "gmvae", surface(200), "--components", "2", "--checkpoint", str(tmp_path / "c"))
    real = LatentModel.schedule

    def interrupting(self, step, steps):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, step, steps)

    monkeypatch.setattr(LatentModel, "schedule", interrupting)
    code, out, err = run(capsys, *command)
    assert code == 0, err
    assert "interrupted by Ctrl-C after step 8 of 24" in out
    assert isinstance(load(model), LatentModel)
    monkeypatch.setattr(LatentModel, "schedule", real)
    assert run(capsys, *command)[0] == 0
    a, b = load(model), load(whole / "model.safetensors")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_what_latent_models_are_refused(capsys, vae, tmp_path, table):
    _, model = vae
    data = vae[0]
    assert "dist needs a density" in refused(capsys, "dist", model, data)
    assert "--latent is of models with codes: use --model vae" in refused(capsys, "fit", data, "--latent", "2")
    *_, command = fit(tmp_path, "vae", surface(50)[:, :1])
    assert "use --model mixture for one" in refused(capsys, *command)
    *_, command = fit(tmp_path, "wae-mmd", np.abs(surface(60)), "--weights", "c0")
    assert "mmd is a figure of whole batches" in refused(capsys, *command)
    *_, command = fit(tmp_path, "vae", np.abs(surface(60)), "--weights", "c0")
    assert "weights from 'c0'" in run(capsys, *command)[1]
    *_, command = fit(tmp_path, "vae", surface(60), "--bounds", "c1=0:")
    assert "--bounds needs a flow" in refused(capsys, *command)
    flat = surface(60)
    flat[:, 1] = 3.0
    *_, command = fit(tmp_path, "vae", flat)
    assert "column 'c1' is constant" in refused(capsys, *command)


def test_pages_and_checks_of_latent_models(capsys, vae, asked, tmp_path):
    """What needs a density is told as missing."""
    table, model = vae
    code, out, _ = run(capsys, "check", model, table, "--quiet")
    assert code == 0
    assert "LatentModel has no log_prob, only a bound." in out
    assert len(asked["x"]) == 60
    path = tmp_path / "report.html"
    assert run(capsys, "report", model, table, "--out", path, "--quiet")[0] == 0
    page = path.read_text()
    assert "held-out lower bound of log p" in page
    assert "The least likely rows" in page
