"""How many traces are kept: rows of floats in memory or memory-mapped, described by a table of layouts. No pickle."""

from ppl_jax.storage.folder import open_table
from ppl_jax.storage.layouts import RowLayout
from ppl_jax.storage.tables import TraceTable
from ppl_jax.storage.writer import TraceWriter

__all__ = ["RowLayout", "TraceTable", "TraceWriter", "open_table"]
