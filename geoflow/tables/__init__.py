"""Tables in files: read them, choose columns, write back. What is wrong is said in one line that ends in what to do."""

from geoflow.tables.choose import Table, choose, counter_columns
from geoflow.tables.read import SUFFIXES, Raw, read
from geoflow.tables.write import writable, write

__all__ = ["SUFFIXES", "Raw", "Table", "choose", "counter_columns", "read", "writable", "write"]
