"""Writing traces into a table, in memory or on disk.

``append`` runs once per execution of a model, so it is written for speed: what a trace's sites look like is gathered
into one flat key of cheap tokens, and the layout is worked out only for a key that was not seen before.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Distribution, Elementwise
from ppl_jax.distributions.factor import Factor
from ppl_jax.errors import StorageError, describe_site
from ppl_jax.language.site import TAG, Site
from ppl_jax.language.trace import Trace
from ppl_jax.storage.folder import INDEX, TableFolder, open_table
from ppl_jax.storage.layouts import RowLayout, SiteLayout
from ppl_jax.storage.tables import TraceTable
from ppl_jax.storage.templates import FLOAT, flatten

_FLUSH_AT = 1 << 17  # numbers held back before they are written: 1 MiB
_FLUSH_AFTER = 10.0  # seconds that a finished trace of a slow simulator may be held back
_BLOCK = 1 << 16  # rows copied together from another table

_structure = attrgetter("kind", "address", "instance", "name", "control", "observed")
_KNOWN_TOKENS = 1 << 12  # structures of traces that are recognised at once; each takes 72 bytes a site
_TOKENS = 9  # per site: the six of _structure, then one each for value, distribution, proposal


class _Readers(dict[type, "Callable[[Any], tuple] | None"]):
    """Family -> a function giving a scalar distribution's parameters as a tuple; None for families with vectors."""

    def __missing__(self, family: type) -> Callable[[Any], tuple] | None:
        reader = None
        if issubclass(family, (Elementwise, Factor)):
            read = attrgetter(*family.parameters)
            reader = (lambda distribution: (read(distribution),)) if len(family.parameters) == 1 else read
        self[family] = reader
        return reader


class TraceWriter:
    """Appends traces; ``finish()`` gives the table and the log weights.

    Args:
      path: folder to make (it must not hold anything yet); None keeps everything in memory.
    """

    def __init__(self, path: str | Path | None = None):
        self._by_tokens: dict[tuple, int] = {}
        self._by_layout: dict[tuple, int] = {}
        self._sites: dict[SiteLayout, SiteLayout] = {}
        self._readers = _Readers()
        self._layouts: list[RowLayout] = []
        self._objects: list[Any] = []
        self._interned: dict[str | int, int] = {}
        self._heap, self._starts, self._kinds, self._weights = array("d"), array("q"), array("i"), array("d")
        self._numbers_written, self._entries_written = 0, 0
        self._path = None if path is None else Path(path)
        self._folder = None if self._path is None else TableFolder(self._path)
        self._flushed_at = time.monotonic()

    def __len__(self) -> int:
        return self._entries_written + len(self._weights)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that are in memory."""
        return 8 * len(self._heap)

    def append(self, trace: Trace, log_weight: float) -> None:
        """Stores ``trace`` with the given log weight.

        Raises:
          StorageError: on disk, a tag or the result holds something that cannot be stored without pickle.
        """
        start = self._numbers_written + len(self._heap)
        row: list[float] = [trace.log_importance_weight]  # what is not in the heap yet; arrays go there as bytes
        tokens: list[Any] = []
        readers = self._readers
        for site in trace.sites:
            tokens += _structure(site)
            distribution, proposal, value = site.distribution, site.proposal, site.value
            kind = type(value)
            if distribution is None or site.kind == TAG:
                tokens += (flatten(value, row, self._keep), None, None)
                continue
            if kind is float or kind is int:
                row.append(value)
                tokens.append(())
            else:
                tokens.append(self._flatten_draw(site, row))
            reader = readers[type(distribution)]
            if reader is not None and not distribution.shape:
                row += reader(distribution)
                tokens.append(type(distribution))
            else:
                self._flatten_distribution(distribution, row)
                tokens.append(distribution.layout())
            if proposal is None:
                tokens.append(None)
            else:
                self._flatten_distribution(proposal, row)
                tokens.append(proposal.layout())
        result = trace.result
        if type(result) is float:
            row.append(result)
            tokens.append(FLOAT)
        else:
            tokens.append(flatten(result, row, self._keep))
        key = tuple(tokens)
        layout = self._by_tokens.get(key)
        if layout is None:
            if len(self._by_tokens) >= _KNOWN_TOKENS:
                self._by_tokens.clear()
            layout = self._by_tokens[key] = self._number(RowLayout(*self._layout_of(key)))
        self._heap.fromlist(row)
        self._add_entry(start, layout, log_weight)
        if self._folder is not None:
            self._flush_if_due()

    def repeat(self, log_weight: float) -> None:
        """Stores the last trace once more (a rejected MCMC step); its row is shared."""
        self._add_entry(*self._last, log_weight)
        if self._folder is not None:
            self._flush_if_due()

    def extend(self, table: TraceTable, log_weights: np.ndarray) -> None:
        """Appends all traces of another table; a row that several of them share is copied once.

        Args:
          table: the other table.
          log_weights: their log weights, float64 (n,).

        Raises:
          StorageError: this table is on disk and the other refers to objects that only memory can hold.
        """
        if len(table) != len(log_weights):
            raise StorageError(
                f"{len(table)} traces must be appended with as many log weights, got {len(log_weights)}."
            )
        for low in range(0, len(table), _BLOCK):
            self._extend_block(table[low : low + _BLOCK], log_weights[low : low + _BLOCK])

    def finish(self) -> tuple[TraceTable, np.ndarray]:
        """The table and the log weights, float64 (n,). Nothing can be appended afterwards."""
        if self._folder is not None and self._path is not None:
            self._flush()
            self._folder.settle()
            return open_table(self._path)
        starts, kinds, log_weights = self._entries()
        heap = np.frombuffer(self._heap, np.float64) if self._heap else np.empty(0)
        return TraceTable(self._layouts, heap, starts, kinds, self._objects), log_weights

    # -- numbers ---------------------------------------------------------------------------------------------------

    def _flatten_draw(self, site: Site, row: list[float]) -> tuple[int, ...] | None:
        """Adds the numbers of a draw that is no plain float or integer; returns its shape, None without a value."""
        if site.value is None:
            return None
        value = np.asarray(site.value)
        if value.dtype.kind not in "fiub":
            raise StorageError(
                f"{describe_site(site)}: the value {site.value!r} is not a real number or an array of them, so it "
                "cannot be stored. Draw real numbers, and tag what is not."
            )
        self._flatten_array(value, row)
        return value.shape

    def _flatten_distribution(self, distribution: Distribution, row: list[float]) -> None:
        """Adds the parameters of a distribution."""
        if not isinstance(distribution, Elementwise) or not distribution.shape:
            row += distribution.numbers()
            return
        for value in distribution._values():
            if type(value) is float:
                row.append(value)
            else:
                self._flatten_array(value, row)

    def _flatten_array(self, values: np.ndarray, row: list[float]) -> None:
        """Adds an array to the heap, after what was gathered in ``row`` before it."""
        self._heap.fromlist(row)
        row.clear()
        self._heap.frombytes(values.astype(np.float64, copy=False).ravel().view(np.uint8))  # type: ignore[arg-type]

    # -- entries ---------------------------------------------------------------------------------------------------

    def _add_entry(self, start: int, kind: int, log_weight: float) -> None:
        count = len(self._weights)
        if len(self._starts) != count:  # Ctrl-C left an entry unfinished: what follows must not be shifted by it
            del self._starts[count:], self._kinds[count:]
        self._last = (start, kind)
        self._starts.append(start)
        self._kinds.append(kind)
        self._weights.append(log_weight)

    def _entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start, layout and log weight of the entries in memory; one that Ctrl-C left unfinished is left out."""
        count = len(self._weights)
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0)
        starts, kinds = np.frombuffer(self._starts, np.int64), np.frombuffer(self._kinds, np.int32)
        return starts[:count], kinds[:count], np.frombuffer(self._weights, np.float64)

    def _layout_of(self, tokens: tuple) -> tuple[tuple[SiteLayout, ...], tuple]:
        """The sites and the result template that the tokens of a trace stand for; equal sites are one object."""
        sites = []
        for low in range(0, len(tokens) - 1, _TOKENS):
            site = SiteLayout(*tokens[low : low + _TOKENS])
            site = site._replace(distribution=_distribution_layout(site.distribution))
            sites.append(self._sites.setdefault(site, site))
        return tuple(sites), tokens[-1]

    def _number(self, layout: RowLayout) -> int:
        """The number of a layout in this table, a new one if it was not met before."""
        number = self._by_layout.setdefault(layout.key, len(self._layouts))
        if number == len(self._layouts):
            self._layouts.append(layout)
        return number

    def _keep(self, value: Any) -> int:
        """The number of an object that rows refer to; strings and integers are kept once."""
        if type(value) is str or type(value) is int:
            number = self._interned.setdefault(value, len(self._objects))
            if number == len(self._objects):
                self._objects.append(value)
            return number
        if self._folder is not None:
            raise StorageError(
                f"A value of type {type(value).__name__} cannot be stored on disk without pickle. Return and tag "
                "numbers, arrays, strings, and tuples, lists or dicts of these; or keep the traces in memory."
            )
        self._objects.append(value)
        return len(self._objects) - 1

    # -- copying from another table --------------------------------------------------------------------------------

    def _extend_block(self, table: TraceTable, log_weights: np.ndarray) -> None:
        starts, first, inverse = np.unique(table.starts, return_index=True, return_inverse=True)
        old_kinds = np.asarray(table.kinds)[first]
        present = np.unique(old_kinds)
        kinds, widths = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
        for kind in present.tolist():
            kinds[old_kinds == kind] = self._number(table.layouts[kind])
            widths[old_kinds == kind] = table.layouts[kind].width
        ends = np.cumsum(widths)
        new_starts = ends - widths
        numbers = _gather_rows(table.heap, starts, widths)
        for kind in present.tolist():
            places = table.layouts[kind].object_places
            if places.size:
                where = (new_starts[old_kinds == kind][:, None] + places).ravel()
                kept = {old: self._keep(table.objects[int(old)]) for old in np.unique(numbers[where]).tolist()}
                numbers[where] = [kept[old] for old in numbers[where].tolist()]
        for column in (self._starts, self._kinds):  # without an entry that Ctrl-C left unfinished
            del column[len(self._weights) :]
        base = self._numbers_written + len(self._heap)
        self._heap.frombytes(numbers.view(np.uint8))  # type: ignore[arg-type]
        self._starts.frombytes((base + new_starts[inverse]).astype(np.int64).tobytes())
        self._kinds.frombytes(kinds[inverse].astype(np.int32).tobytes())
        self._weights.frombytes(np.asarray(log_weights, dtype=np.float64).tobytes())
        self._last = (self._starts[-1], self._kinds[-1])
        if self._folder is not None:
            self._flush_if_due()

    # -- on disk ---------------------------------------------------------------------------------------------------

    def _flush_if_due(self) -> None:
        if len(self._heap) >= _FLUSH_AT or time.monotonic() - self._flushed_at > _FLUSH_AFTER:
            self._flush()

    def _flush(self) -> None:
        assert self._folder is not None
        starts, kinds, log_weights = self._entries()
        entries = np.empty(len(starts), INDEX)
        entries["start"], entries["kind"], entries["log_weight"] = starts, kinds, log_weights
        self._folder.write(
            self._layouts, self._objects, self._heap, self._numbers_written, entries, self._entries_written
        )
        numbers, count = self._numbers_written + len(self._heap), self._entries_written + len(entries)
        heap, new_starts, new_kinds, weights, now = array("d"), array("q"), array("i"), array("d"), time.monotonic()
        # Ctrl-C before this line repeats the write at the same place; the assignments have no call between them.
        self._numbers_written, self._entries_written, self._flushed_at = numbers, count, now
        self._heap, self._starts, self._kinds, self._weights = heap, new_starts, new_kinds, weights


def _distribution_layout(token: Any) -> tuple | None:
    """A family alone stands for its scalar distributions, as Elementwise.layout gives it."""
    if isinstance(token, type) and issubclass(token, Distribution):
        return (token.__name__, *((),) * len(token.parameters))
    return token


def _gather_rows(heap: np.ndarray, starts: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """A copy of the rows at ``starts`` (ascending) of ``widths`` numbers, one after the other."""
    if np.array_equal(starts[1:], starts[:-1] + widths[:-1]):
        return np.array(heap[starts[0] : starts[-1] + widths[-1]], dtype=np.float64)
    shift = starts - (np.cumsum(widths) - widths)
    return np.asarray(heap[np.repeat(shift, widths) + np.arange(widths.sum())], dtype=np.float64)
