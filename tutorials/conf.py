"""Settings of the documentation site: the tutorials as a gallery, a reference from the docstrings, the papers.

Everything that is generated, pages included, lies in tutorials/_build; ``python -m nox -s docs`` makes it.
"""

import importlib
import pkgutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

import geoflow
from tutorials.bibliography import entries

HERE = Path(__file__).parent
SOURCE = HERE / "_build" / "source"

project = "geoflow"
author = "The geoflow developers"
version = release = version_of("geoflow")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["gallery/*.py", "gallery/*.ipynb", "gallery/*.zip", "gallery/*.json"]
default_role = "code"
html_theme = "alabaster"
html_theme_options = {"description": "A space carries densities; a density makes a space.", "page_width": "1100px"}

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": str(HERE),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"conf\.py|bibliography\.py",
    "download_all_examples": False,
    "abort_on_example_error": True,
}

WRITTEN = ("which_prior", "coming_from_geomstats")
"""Pages that stand beside this file as they are."""
HIDDEN = {"cli", "demo"}
"""Packages whose face is the command line."""


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def reference() -> str:
    """The public names of each package, once each."""
    names = sorted(m.name for m in pkgutil.iter_modules(geoflow.__path__) if m.ispkg and m.name not in HIDDEN)
    page, told = heading("Reference", "="), set[str]()
    for package in ("manifolds", *(f"geoflow.{name}" for name in names), "geoflow"):
        public = set(getattr(importlib.import_module(package), "__all__", ()))
        if public - told:
            page += heading(package, "-") + f".. automodule:: {package}\n   :imported-members:\n"
            page += f"   :exclude-members: {', '.join(sorted(public & told))}\n\n"
        told |= public
    return page


def papers() -> str:
    """references.bib as a list, by key."""
    page = heading("References", "=")
    for key, fields in entries((HERE / "references.bib").read_text()).items():
        where = fields.get("journal", fields.get("booktitle", ""))
        authors = fields["author"].replace(" and ", "; ")
        page += f"{key}\n    {authors}. *{fields['title']}*. {where}, {fields['year']}.\n\n"
    return page


def table(rows: list[list[str]]) -> str:
    """Rows of cells, the first of them the heads."""
    cells = ["   * - " + "\n     - ".join(cell or " " for cell in row) for row in rows]
    return ".. list-table::\n   :header-rows: 1\n\n" + "\n".join(cells) + "\n\n"


def spaces() -> str:
    """What each space lacks, from the register of the laws; and the survey of geomstats' manifolds."""
    sys.path.insert(0, str(HERE.parent))
    from tests.laws.registry import MANIFOLDS

    page = heading("Spaces", "=")
    page += "Every verb that a space does not list as lacking passes the laws of ``tests/laws/test_manifolds.py``; one that it\n"
    page += "lacks raises an error that says what to use.\n\n"
    made = {name: case.make() for name, case in MANIFOLDS.items()}
    page += table(
        [["space", "dimension", "coordinates", "log of the volume", "lacks"]]
        + [
            [name, str(m.dim), str(m.ambient_dim), f"{m.log_volume_total:.6g}", ", ".join(MANIFOLDS[name].lacks)]
            for name, m in made.items()
        ]
    )
    lines = (HERE.parent / "tests" / "reproduce" / "results" / "geomstats.md").read_text().splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    page += heading("Through from_geomstats", "-") + "Made by ``nox -s reproduce -- geomstats``.\n\n"
    return page + table([row for row in rows if set("".join(row)) - set("-: ")])


def index() -> str:
    contents = "\n   ".join(["gallery/index", "spaces", *WRITTEN, "reference", "references"])
    text = (geoflow.__doc__ or "").strip()
    return heading("geoflow", "=") + f"{text}\n\n.. toctree::\n   :maxdepth: 2\n\n   {contents}\n"


SOURCE.mkdir(parents=True, exist_ok=True)
written = {name: (HERE / f"{name}.rst").read_text(encoding="utf-8") for name in WRITTEN}
pages = {"index": index(), "spaces": spaces(), **written, "reference": reference()}
for page, text in {**pages, "references": papers()}.items():
    (SOURCE / f"{page}.rst").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Bars in docstrings are absolute values, not substitutions."""

    def escape(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
        lines[:] = [line.replace("|", r"\|") for line in lines]

    app.connect("autodoc-process-docstring", escape)
