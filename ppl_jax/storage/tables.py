"""Tables of stored traces: read one by one, by name as a column, or by a selection that shares the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ppl_jax.primitives import FACTOR, TAG, Site
from ppl_jax.storage.layouts import RowLayout
from ppl_jax.traces import Trace


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
    def result(self) -> Any:  # type: ignore[override]
        return self._layout.result_of(self._row, self._objects)

    @property
    def names(self) -> list[str]:
        return list(self._layout.named)

    def __getitem__(self, key: str | tuple[str, int]) -> Any:
        name, occurrence = (key, 0) if isinstance(key, str) else key
        places = self._layout.named.get(name, [])
        if not places or (occurrence and not 1 <= occurrence <= len(places)):
            raise KeyError(f"no site {key!r} in this trace; its names are {self.names}")
        return self._layout.value(places[occurrence - 1], self._row, self._objects)

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def __len__(self) -> int:
        return len(self._layout.sites)


class TraceTable(Sequence[Trace]):
    """An immutable sequence of traces.

    Args:
      layouts: the row layouts that occur.
      heap: all rows one after the other; float64, in memory or memory-mapped.
      starts: where in the heap each trace's row starts, int64, shape (n,). Traces may share a row.
      kinds: index into ``layouts`` of each trace, int32, shape (n,).
      objects: results and tags that only memory can hold.
    """

    def __init__(
        self, layouts: Sequence[RowLayout], heap: np.ndarray, starts: np.ndarray, kinds: np.ndarray, objects: list[Any]
    ):
        self.layouts = layouts
        self.heap = heap
        self.starts = starts
        self.kinds = kinds
        self.objects = objects

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            layout, start = self.layouts[self.kinds[index]], self.starts[index]
            return StoredTrace(layout, self.heap[start : start + layout.width], self.objects)
        return self.take(np.arange(len(self))[index])

    def __iter__(self) -> Iterator[Trace]:
        for kind, start in zip(self.kinds.tolist(), self.starts.tolist(), strict=True):
            layout = self.layouts[kind]
            yield StoredTrace(layout, self.heap[start : start + layout.width], self.objects)

    def take(self, indices: np.ndarray) -> TraceTable:
        """The traces at ``indices``, in that order; the rows are shared."""
        return TraceTable(self.layouts, self.heap, self.starts[indices], self.kinds[indices], self.objects)

    def column(self, name: str) -> np.ndarray | list[Any]:
        """The value of ``name`` in every trace: an array where all are numbers of one shape, else a list.

        Raises:
          KeyError: a trace has no site of that name.
        """
        missing = [kind for kind in np.unique(self.kinds) if name not in self.layouts[kind].named]
        if missing:
            known = sorted({other for layout in self.layouts for other in layout.named})
            count = int(np.isin(self.kinds, missing).sum())
            raise KeyError(f"{count} of {len(self)} traces have no site named {name!r}; the names that occur are {known}")
        scalar = all(_is_scalar(self.layouts[kind], name) for kind in np.unique(self.kinds))
        if not scalar:
            values = [trace[name] for trace in self]
            return np.array(values) if len({np.shape(value) for value in values}) == 1 else values
        column = np.empty(len(self))
        for kind in np.unique(self.kinds):
            layout = self.layouts[kind]
            rows = np.flatnonzero(self.kinds == kind)
            column[rows] = self.heap[self.starts[rows] + layout.slots[layout.named[name][-1]].start]
        return column


def _is_scalar(layout: RowLayout, name: str) -> bool:
    site = layout.sites[layout.named[name][-1]]
    if site.kind == FACTOR:
        return False
    return site.value in (("float",), ("int",), ("bool",)) if site.kind == TAG else site.value == ()
