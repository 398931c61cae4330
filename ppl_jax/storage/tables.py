"""Tables of stored traces: read one by one, by name as a column, or by a selection that shares the rows.

A table is never changed, so threads may read one together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ppl_jax.errors import StorageError
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Trace, is_key
from ppl_jax.storage.columns import Numbers, as_column, gather
from ppl_jax.storage.layouts import RowLayout

_BLOCK = 1 << 16  # traces whose places are turned to Python integers together


class StoredTrace(Trace):
    """A Trace over one row of a table: sites are built when they are asked for."""

    __slots__ = ("_layout", "_objects", "_row", "_sites")

    def __init__(self, layout: RowLayout, row: np.ndarray, objects: list[Any]):
        self._layout = layout
        self._row = row
        self._objects = objects
        self._sites: tuple[Site, ...] | None = None
        self._log_importance_weight = float(row[0])

    @property
    def sites(self) -> Sequence[Site]:  # type: ignore[override]
        if self._sites is None:
            places = range(len(self._layout.sites))
            self._sites = tuple(self._layout.site(place, self._row, self._objects) for place in places)
        return self._sites

    @property
    def result(self) -> Any:
        return self._layout.result_of(self._row, self._objects)

    @property
    def names(self) -> list[str]:
        return list(self._layout.named)

    def __getitem__(self, key: str | tuple[str, int]) -> Any:
        place = self._layout.position(key)
        if place is None:
            raise KeyError(f"This trace has no site {key!r}. Choose among its names: {self.names}")
        return self._layout.value(place, self._row, self._objects)

    def __contains__(self, key: object) -> bool:
        return is_key(key) and self._layout.position(key) is not None  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._layout.sites)


class TraceTable(Sequence[Trace]):
    """An immutable sequence of traces.

    ``table[i]`` is a Trace; a slice, a boolean mask or an array of integers gives a table that shares the rows.

    Args:
      layouts: the row layouts that occur.
      heap: all rows one after the other; float64, in memory or memory-mapped.
      starts: where in the heap each trace's row starts, int64, shape (n,). Traces may share a row.
      kinds: index into ``layouts`` of each trace, integers, shape (n,).
      objects: what rows refer to by number: strings, long integers, and what only memory can hold.
      path: the folder of which this is the whole table; None for a table in memory and for a selection.
    """

    def __init__(
        self,
        layouts: Sequence[RowLayout],
        heap: np.ndarray,
        starts: np.ndarray,
        kinds: np.ndarray,
        objects: list[Any],
        path: Path | None = None,
    ):
        self.layouts = layouts
        self.heap = heap
        self.starts = starts
        self.kinds = kinds
        self.objects = objects
        self.path = path

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self._trace(int(self.kinds[index]), int(self.starts[index]))
        return self.take(index)

    def __iter__(self) -> Iterator[Trace]:
        for low in range(0, len(self), _BLOCK):
            block = slice(low, low + _BLOCK)
            yield from map(self._trace, self.kinds[block].tolist(), self.starts[block].tolist())

    def _trace(self, kind: int, start: int) -> StoredTrace:
        layout = self.layouts[kind]
        return StoredTrace(layout, self.heap[start : start + layout.width], self.objects)

    def take(self, index: Any) -> TraceTable:
        """The traces at ``index`` (a slice, a boolean mask (n,), or integers), in that order; the rows are shared."""
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.int64) if index.size == 0 and index.dtype != bool else index
        return TraceTable(self.layouts, self.heap, self.starts[index], self.kinds[index], self.objects)

    def groups(self) -> list[tuple[RowLayout, np.ndarray | slice]]:
        """The layouts that occur, each with the traces that have it: positions (m,), or a slice where all do."""
        present = np.unique(self.kinds).tolist()
        if len(present) == 1:
            return [(self.layouts[present[0]], slice(None))]
        order = np.argsort(self.kinds, kind="stable")
        bounds = np.searchsorted(self.kinds[order], [*present, present[-1] + 1] if present else [])
        parts = [order[low:high] for low, high in pairwise(bounds)]
        return [(self.layouts[kind], part) for kind, part in zip(present, parts, strict=True)]

    def check_storable(self) -> None:
        """Raises StorageError if a trace refers to an object that only memory can hold."""
        foreign = [type(kept).__name__ for kept in self.objects if type(kept) not in (str, int)]
        if foreign and any(layout.object_places.size for layout, _ in self.groups()):
            raise StorageError(
                f"Values of type {foreign[0]} cannot be stored on disk without pickle. Return and tag numbers, arrays, "
                "strings, and tuples, lists or dicts of these."
            )

    def having(self, key: str | tuple[str, int]) -> np.ndarray:
        """Which traces have a site of that name (or name and occurrence), bool (n,)."""
        present = np.zeros(len(self), bool)
        for layout, rows in self.groups():
            present[rows] = layout.position(key) is not None
        return present

    def column(self, key: str | tuple[str, int]) -> np.ndarray | list[Any]:
        """The value of a name in every trace: an array (n, *shape) where all are numbers of one shape, else a list.

        Args:
          key: the name, or (name, occurrence); of a name that was met several times, the last value.

        Raises:
          KeyError: a trace has no such site.
        """
        groups = self.groups()
        missing = [rows for layout, rows in groups if layout.position(key) is None]
        if missing:
            known = sorted({other for layout, _ in groups for other in layout.named})
            count = sum(len(self.starts[rows]) for rows in missing)
            raise KeyError(
                f"{count} of {len(self)} traces have no site named {key!r}. Choose among the names that occur: {known}"
            )
        numbers = [layout.numbers(layout.position(key)) for layout, _ in groups]  # type: ignore[arg-type]
        column = self.gather(numbers, groups)
        return as_column([trace[key] for trace in self]) if column is None else column

    def results(self) -> np.ndarray | list[Any]:
        """What the model returned in every trace: an array (n, *shape) where all are numbers of one shape."""
        groups = self.groups()
        column = self.gather([layout.result_numbers for layout, _ in groups], groups)
        return as_column([trace.result for trace in self]) if column is None else column

    def gather(self, numbers: list[Numbers | None], groups: list) -> np.ndarray | None:
        """The column of which each layout holds the numbers so; None where it is not an array of numbers."""
        if len({found and found.shape for found in numbers}) != 1 or numbers[0] is None:
            return None
        parts = [gather(self.heap, self.starts[rows], found) for found, (_, rows) in zip(numbers, groups, strict=True)]  # type: ignore[arg-type]
        if len(parts) == 1:
            return parts[0]
        column = np.empty((len(self), *numbers[0].shape), np.result_type(*parts))
        for part, (_, rows) in zip(parts, groups, strict=True):
            column[rows] = part
        return column
