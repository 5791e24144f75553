"""What the pages say is true: commands exist, examples run, citations have an entry, nobody's machine is named."""

import re
from pathlib import Path
from typing import Any

import pytest

from tutorials.bibliography import entries

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
KEY = r"[a-z]+\d{4}[a-z]?"


def sources(*patterns: str) -> list[Path]:
    return [p for pattern in patterns for p in ROOT.glob(pattern)]


@pytest.mark.parametrize("code", EXAMPLES[:1], ids=["a density"])
def test_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    """As they stand, but with two passes over the rows instead of a full training."""
    monkeypatch.chdir(tmp_path)
    assert len(code.splitlines()) <= 15
    exec(compile(code.replace("seed=0)", "seed=0, epochs=2, progress=False)"), "README.md", "exec"), {})


def test_the_distance_goes_round() -> None:
    """What the second example says in its comments."""
    names: dict[str, Any] = {}
    exec(EXAMPLES[1], names)
    assert float(names["space"].dist(names["a"], names["b"])) == pytest.approx(4.8, abs=0.1)
    assert names["path"].norm(dim=-1).min() > 1.75
    assert names["solution"].converged.all()


def test_flows_of_others(unchecked: None) -> None:
    """The example of adapters and estimators, as it stands."""
    names: dict[str, Any] = {}
    exec(next(code for code in EXAMPLES if "from_freia" in code), names)
    assert names["model"].score_samples(names["x"].numpy()).shape == (500,)


def test_commands_exist() -> None:
    """Every nox session and verb that a page names."""
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert len(sessions) >= 8
    for page in ("README.md", "CONTRIBUTING.md", "STYLE.md"):
        named = set(re.findall(r"nox -s (\w+)", (ROOT / page).read_text()))
        assert named <= sessions
    from geoflow.cli.parser import build

    shown = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    for verb in set(re.findall(r"^geoflow (\w+)", shown, re.MULTILINE)):
        with pytest.raises(SystemExit) as ended:
            build().parse_args([verb, "--help"])
        assert ended.value.code == 0


def test_citations_and_entries_agree() -> None:
    """A key in brackets has an entry in references.bib, and an entry is cited somewhere."""
    cited = set()
    for path in sources("geoflow/**/*.py", "manifolds/**/*.py", "tutorials/*.py"):
        for group in re.findall(rf"\[({KEY}(?:, {KEY})*)\]", path.read_text()):
            cited |= set(group.split(", "))
    text = (ROOT / "tutorials" / "references.bib").read_text()
    keys = re.findall(rf"^@\w+{{({KEY}),$", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) == text.count("@")
    assert cited == set(keys)
    read = entries(text)
    assert set(read) == set(keys)
    for fields in read.values():
        assert fields["year"].isdigit()
        assert all(len(fields[k]) > 5 and fields[k].isprintable() for k in ("author", "title"))


def test_versions_agree() -> None:
    from importlib.metadata import version

    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {version('geoflow')}\n" in citation


def test_constraints_are_plain_pins() -> None:
    """Exact versions, by name alone: no paths, hosts or local suffixes; and every dependency has one."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    pinned = {re.sub(r"[-_.]+", "-", p.split("==")[0]).lower() for p in pins}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^  "([A-Za-z0-9_-]+)[><=~]', project, re.MULTILINE)
    assert {w.lower().replace("_", "-") for w in wanted} - {"geoflow"} <= pinned
    assert "geoflow" not in pinned


def test_pages_and_settings_name_no_host_or_disk() -> None:
    """The installation takes what the reader's own settings say: no address, no path of someone's machine."""
    welcome = {"keepachangelog.com", "semver.org"}
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "pyproject.toml",
        "constraints.txt",
        "noxfile.py",
        ".ci/run",
    ):
        text = (ROOT / name).read_text()
        assert set(re.findall(r"://([^/\s)]+)", text)) <= welcome, name
        assert not re.findall(r"(?<![\w.])/(?:home|root|Users|opt|tmp)/", text), name
