"""Is a model any good? `check` answers with a table of figures, each beside its threshold and a sentence."""

from geoflow.diagnostics.checking import check
from geoflow.diagnostics.table import HonestyTable, Line

__all__ = ["HonestyTable", "Line", "check"]
