"""One self-contained HTML page from headings, sentences, tables, commands and figures; it loads nothing.

page("Moons", heading("Fit"), text("Held-out rows: ..."), picture(fig, "The density."), command("geoflow demo"))
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { --ink: #22333b; --soft: #5b6770; --line: #dfe4e6; --tint: #f5f8f8; --mark: #2a7f9e; }
body { margin: 0; background: white; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; margin: 0 0 .25rem; } h2 { font-size: 1.35rem; margin: 2.75rem 0 .5rem; }
p { max-width: 44rem; margin: .5rem 0 1rem; }
figure { margin: 1.5rem 0; } figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .92rem; max-width: 46rem; margin-top: .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
tr.best td { font-weight: 600; color: var(--mark); }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem; }
pre { overflow-x: auto; }
pre, code { font: 14px/1.5 ui-monospace, Consolas, monospace; }
footer { color: var(--soft); font-size: .9rem; margin-top: 3rem; }
"""


def page(title: str, *parts: str, footer: str = "") -> str:
    """The whole page; `parts` are what the functions below give."""
    end = f"<footer>{escape(footer)}</footer>" if footer else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + f"\n{end}\n</main>\n</body>\n</html>\n"
    )


def heading(words: str) -> str:
    """A section begins."""
    return f"<h2>{escape(words)}</h2>"


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], best: int | None = None) -> str:
    """Rows under a header, the first column to the left; row `best` is set off."""
    head = "".join(f"<th>{escape(str(h))}</th>" for h in header)
    lines = ["".join(f"<td>{escape(str(c))}</td>" for c in row) for row in rows]
    marks = [' class="best"' if i == best else "" for i in range(len(rows))]
    body = "\n".join(f"<tr{mark}>{line}</tr>" for mark, line in zip(marks, lines, strict=True))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def wide(html: str) -> str:
    """HTML of ours that scrolls sideways where the window is narrow, such as a table's ``_repr_html_``."""
    return f'<div class="scroll">{html}</div>'


def command(*lines: str) -> str:
    """Commands to copy."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def picture(figure: "Figure", caption: str, *, path: Path | None = None, dpi: int = 150) -> str:
    """A figure, embedded as PNG with its caption; written to `path` as well if given."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    data = buffer.getvalue()
    if path is not None:
        path.write_bytes(data)
    code = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{code}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same table for a terminal: first column to the left, the others to the right."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if j == 0 else c.rjust(w) for j, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join(f"  {line.rstrip()}" for line in lines)
