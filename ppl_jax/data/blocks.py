"""Blocks: some ten thousand traces as the directory and payload of one frame, and the directory read again.

What traces share is written once in a shard and referred to by number from then on: strings (addresses and names),
sites (a SiteLayout whose strings are numbers), templates of results, layouts (lists of sites). A directory holds those
that are new in its block, and the groups of traces, one for each layout that occurs.

    directory   eight uint64: bytes of the text; number of new layouts, of their sites, of groups, of codes; bytes of
                the objects, of the order, of the ranks
                text: JSON {"run", "known": how many of each the blocks before have, "strings", "sites", "results"}
                uint32: sites of each new layout, its result template, the numbers of its sites
                uint32: layout of each group, its rows; uint64: where it begins in the payload; uint8: codes
    payload     order: where each trace, in order of execution, stands among the rows of all groups
                ranks: where each trace, sorted by type and then in order of execution, stands among them
                (uint16, or uint32 in a block of more than 65,536 traces; absent where it is 0, 1, 2, ...)
                objects: JSON, the strings and long integers that rows refer to by number
                the groups, see ``encoding``

Groups of one type stand together. Each part is filled up with zeros to a multiple of 8 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.data.encoding import Columns, columns_of, encode, requested_formats
from ppl_jax.data.types import TypeTable
from ppl_jax.errors import StorageError
from ppl_jax.storage import RowLayout, TraceTable

_COUNTS = 8


class Run(NamedTuple):
    """Of which run the traces of a block are executions ``start``, ``start + 1``, ...; ``source``: "host" or "jax"."""

    source: str
    seed: int
    start: int


class Directory(NamedTuple):
    """What a block says of itself.

    Positions count from the start of the payload, ``codes_start`` from that of the directory.
    """

    run: Run | None
    known: list[int]
    strings: list[str]
    sites: list[list]
    results: list
    layouts: list[np.ndarray]
    layout_results: np.ndarray
    group_layouts: np.ndarray
    group_rows: np.ndarray
    group_starts: np.ndarray
    codes_start: int
    objects: tuple[int, int]
    order: tuple[int, int]
    ranks: tuple[int, int]


class Known(NamedTuple):
    """A layout while a shard is written: its number, that of its type, its columns, and the formats asked for."""

    number: int
    type: int
    columns: Columns
    formats: dict[int, int]


class Vocabulary:
    """The strings, sites, results and layouts of one shard, numbered, while it is written.

    Attributes:
      written: how many of each the blocks on disk hold; the writer moves it on.
    """

    def __init__(self, dtypes: Mapping[str, str]):
        self._dtypes = dtypes
        self._strings: dict[str, int] = {}
        self._sites: dict[tuple, int] = {}
        self._results: dict[tuple, int] = {}
        self._layouts: dict[tuple, int] = {}
        self._types = TypeTable()
        self._by_identity: dict[int, tuple[RowLayout, Known]] = {}
        self._entries: tuple[list, list, list, list] = ([], [], [], [])  # as they are written
        self.written = (0, 0, 0, 0)

    def layout(self, layout: RowLayout) -> Known:
        """What is needed to write traces of a layout."""
        known = self._by_identity.get(id(layout))
        if known is None or known[0] is not layout:
            if len(self._by_identity) >= 1 << 14:  # bounded: traces in memory bring new layout objects with every table
                self._by_identity.clear()
            columns = columns_of(layout)
            formats = requested_formats(layout, columns, self._dtypes)
            found = Known(self._number(layout), self._types.number(layout), columns, formats)
            known = self._by_identity[id(layout)] = layout, found
        return known[1]

    def _number(self, layout: RowLayout) -> int:
        _, sites, results, layouts = self._entries
        numbers = []
        for site in layout.sites:
            number = self._sites.setdefault(site, len(sites))
            if number == len(sites):
                address, name = (self._string(text) for text in (site.address, site.name))
                sites.append([site.kind, address, site.instance, name, site.control, site.observed, *site[6:]])
            numbers.append(number)
        result = self._results.setdefault(layout.result, len(results))
        if result == len(results):
            results.append(layout.result)
        key = (result, np.array(numbers, "<u4").tobytes())
        number = self._layouts.setdefault(key, len(layouts))
        if number == len(layouts):
            layouts.append(key)
        return number

    def _string(self, text: str | None) -> int | None:
        if text is None:
            return None
        number = self._strings.setdefault(text, len(self._entries[0]))
        if number == len(self._entries[0]):
            self._entries[0].append(text)
        return number

    @property
    def size(self) -> tuple[int, int, int, int]:
        """How many strings, sites, results and layouts are known."""
        return tuple(map(len, self._entries))  # type: ignore[return-value]

    def news(self) -> tuple[list, list, list, list]:
        """Strings, sites, results and layouts that no block holds yet."""
        return tuple(entries[done:] for entries, done in zip(self._entries, self.written, strict=True))  # type: ignore[return-value]


def pack(
    table: TraceTable, log_weights: np.ndarray, vocabulary: Vocabulary, run: Run | None, place: str
) -> tuple[bytes, bytes]:
    """Directory and payload of a block.

    Raises:
      StorageError: a trace holds what cannot be stored without pickle, or a number is too large for its format.
    """
    table.check_storable()
    objects: dict[Any, int] = {}
    groups = _in_order(table, vocabulary)
    codes_of, data_of = [], []
    for layout, known, rows in groups:
        numbers = np.empty((len(rows), layout.width + 1))
        numbers[:, :-1] = table.heap[np.asarray(table.starts)[rows, None] + np.arange(layout.width)]
        numbers[:, -1] = log_weights[rows]
        if layout.object_places.size:
            _renumber(numbers, layout.object_places, table.objects, objects)
        codes, data = encode(numbers, known.columns, known.formats, place)
        codes_of.append(codes)
        data_of.append(data)
    place_of = np.concatenate([rows for _, _, rows in groups])
    types = np.repeat([known.type for _, known, _ in groups], [len(rows) for _, _, rows in groups])
    order = _as_bytes(np.argsort(place_of))
    ranks = _as_bytes(np.lexsort((place_of, np.cumsum(np.diff(types, prepend=types[:1]) != 0))))
    texts = _json(list(objects)) if objects else b""
    head = _padded(order) + _padded(ranks) + _padded(texts)
    lengths = np.array([len(data) for data in data_of], np.int64)
    starts = len(head) + np.cumsum(lengths) - lengths
    strings, sites, results, layouts = vocabulary.news()
    text = _json({"run": run, "known": vocabulary.written, "strings": strings, "sites": sites, "results": results})
    sites_of = [np.frombuffer(key, "<u4") for _, key in layouts]
    codes = np.concatenate(codes_of)
    of_layouts = len(layouts), sum(map(len, sites_of))
    counts = (len(text), *of_layouts, len(groups), len(codes), len(texts), len(order), len(ranks))
    directory = [
        np.array(counts, "<u8").tobytes(),
        text,
        np.array([len(numbers) for numbers in sites_of], "<u4").tobytes(),
        np.array([result for result, _ in layouts], "<u4").tobytes(),
        b"".join(key for _, key in layouts),
        np.array([known.number for _, known, _ in groups], "<u4").tobytes(),
        np.array([len(rows) for _, _, rows in groups], "<u4").tobytes(),
        starts.astype("<u8").tobytes(),
        codes.tobytes(),
    ]
    return b"".join(map(_padded, directory)), head + b"".join(data_of)


def _in_order(table: TraceTable, vocabulary: Vocabulary) -> list[tuple[RowLayout, Known, np.ndarray]]:
    """The groups with their traces: types by first appearance, and so the layouts of each."""
    every = np.arange(len(table))
    groups = [(layout, every[rows]) for layout, rows in table.groups()]
    groups.sort(key=lambda group: int(group[1][0]))
    found = [(layout, vocabulary.layout(layout), rows) for layout, rows in groups]
    first: dict[int, int] = {}
    for _, known, _ in found:
        first.setdefault(known.type, len(first))
    return sorted(found, key=lambda group: first[group[1].type])


def _as_bytes(permutation: np.ndarray) -> bytes:
    """A permutation as small integers; nothing for the identity."""
    if np.array_equal(permutation, np.arange(len(permutation))):
        return b""
    return permutation.astype("<u4" if len(permutation) > 1 << 16 else "<u2").tobytes()


def _renumber(numbers: np.ndarray, places: np.ndarray, objects: list[Any], kept: dict[Any, int]) -> None:
    """Puts the block's numbers of objects in place of the table's."""
    old, inverse = np.unique(numbers[:, places], return_inverse=True)
    new = [float(kept.setdefault(objects[int(number)], len(kept))) for number in old.tolist()]
    numbers[:, places] = np.array(new)[inverse].reshape(len(numbers), len(places))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def unpack_objects(data: bytes) -> list[Any]:
    """The objects of a block."""
    return list(json.loads(data))


def read_directory(data: bytes, payload_length: int) -> Directory:
    """The directory of a block, its checksum known to be right.

    Raises:
      StorageError: it contradicts itself or the payload: it was written by something else.
    """
    try:
        return _read_directory(data, payload_length)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise StorageError(f"the directory is not one of this version ({error}).") from error


def _read_directory(data: bytes, payload_length: int) -> Directory:
    counts = np.frombuffer(data, "<u8", _COUNTS).astype(int).tolist()
    text, layouts, sites, groups, codes, objects, order, ranks = counts
    position = 8 * _COUNTS

    def part(count: int, dtype: str) -> np.ndarray:
        nonlocal position
        found = np.frombuffer(data, dtype, count, position)
        position += found.nbytes + -found.nbytes % 8
        return found

    new = json.loads(part(text, "u1").tobytes())
    lengths, results = part(layouts, "<u4"), part(layouts, "<u4")
    bounds = np.cumsum(lengths, dtype=np.int64)
    if int(lengths.sum()) != sites:
        raise ValueError("the layouts have other lengths than their sites")
    site_numbers = np.split(part(sites, "<u4"), bounds[:-1]) if layouts else []
    group_layouts, group_rows = part(groups, "<u4").astype(np.int64), part(groups, "<u4").astype(np.int64)
    starts, codes_start = part(groups, "<u8").astype(np.int64), position
    part(codes, "u1")
    ranks_start = order + -order % 8
    objects_start = ranks_start + ranks + -ranks % 8
    if len(starts) == 0 or starts[0] != objects_start + objects + -objects % 8 or starts[-1] > payload_length:
        raise ValueError("the groups are not where they belong")
    return Directory(
        None if new["run"] is None else Run(*new["run"]),
        new["known"],
        new["strings"],
        new["sites"],
        new["results"],
        site_numbers,
        results,
        group_layouts,
        group_rows,
        starts,
        codes_start,
        (objects_start, objects),
        (0, order),
        (ranks_start, ranks),
    )
