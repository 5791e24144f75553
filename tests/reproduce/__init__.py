"""Experiments behind ``nox -s reproduce``: each script writes a table under results/, with the command that made it."""
