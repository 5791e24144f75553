"""The entries of a BibTeX file, as plain text."""

import re

ENTRY = re.compile(r"^@\w+\{(\w+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*?)\},?$", re.MULTILINE | re.DOTALL)


def entries(text: str) -> dict[str, dict[str, str]]:
    """Fields of each entry by its key, without braces; a field ends with a brace at the end of a line."""
    return {key: {k: plain(v) for k, v in FIELD.findall(body)} for key, body in ENTRY.findall(text)}


def plain(value: str) -> str:
    """On one line, umlauts as they are written, no braces."""
    spaced = " ".join(value.split())
    return re.sub(r'\{\\"(\w)\}', "\\1\u0308", spaced).replace("{", "").replace("}", "")
