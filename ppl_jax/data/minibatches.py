"""Minibatches: traces of one type, read as columns; from a dataset on disk or a table in memory.

What a proposal network learns from is the values and distributions of the controlled latents and the values of the
observations. Those that are single numbers are fetched together, at the first access; arrays one by one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from ppl_jax.data.contents import Contents
from ppl_jax.data.encoding import columns_of, distribution_sizes
from ppl_jax.data.order import BatchOrder, derive
from ppl_jax.data.shardmap import pick, pick_runs, places_at
from ppl_jax.data.types import Fields, TypeLayout, TypeTable, field_columns, fields_of
from ppl_jax.distributions.layouts import is_discrete
from ppl_jax.storage import RowLayout, TraceTable
from ppl_jax.storage.columns import is_whole

TYPE_KEY, MIXED_KEY = 1, 2  # labels of the two sorts of epochs


class Rows(ABC):
    """Where the rows of a minibatch are."""

    @property
    @abstractmethod
    def fields(self) -> Fields:
        """The fields of their type."""

    @abstractmethod
    def scalars(self) -> np.ndarray:
        """The fields of one number, float64 (n, f)."""

    @abstractmethod
    def run(self, field: int) -> np.ndarray:
        """A field of several numbers, (n, size), of the format it is stored in."""

    @abstractmethod
    def table(self) -> tuple[TraceTable, np.ndarray]:
        """Whole traces, and their log weights, float64 (n,)."""


class Minibatch:
    """Traces of one type.

    Attributes:
      number: of the type, in ``types`` of the dataset (or in the TypeTable).
      weight: number of traces over the size of a full minibatch. The mean loss over each minibatch times its weight,
        summed over an epoch, is the sum over all traces divided by the batch size.
    """

    def __init__(self, number: int, types: Sequence[TypeLayout], count: int, weight: float, rows: Rows):
        self.number = number
        self._types = types
        self.weight = weight
        self._count = count
        self._rows = rows

    def __len__(self) -> int:
        return self._count

    @cached_property
    def type(self) -> TypeLayout:
        """The controlled latents and the observed sites."""
        return self._types[self.number]

    def __repr__(self) -> str:
        return f"Minibatch({self._count} traces of type {self.number}, {len(self.type.latents)} latents)"

    @cached_property
    def _scalars(self) -> np.ndarray:
        return self._rows.scalars()

    def _field(self, field: int) -> np.ndarray:
        """A field, (n, size)."""
        place = int(self._rows.fields.scalars[field])
        return self._scalars[:, place : place + 1] if place >= 0 else self._rows.run(field)

    def values(self, latent: int) -> np.ndarray:
        """Values of a controlled latent, (n, *shape): int64 where its family is discrete, else float64.

        Args:
          latent: its place among ``type.latents``.
        """
        site, field = self.type.latents[latent], self._rows.fields.values[latent]
        if field < 0:
            return np.empty((self._count, *(site.value or (0,))))
        found = self._field(field).reshape(self._count, *site.value)
        if not is_discrete(site.distribution):
            return found.astype(np.float64, copy=False)
        return found.astype(np.int64) if is_whole(found) else found

    def numbers(self, latent: int) -> np.ndarray:
        """All numbers of a controlled latent's distribution, in the order of its parameters; float64 (n, count)."""
        first, stop = self._rows.fields.numbers[latent]
        places = self._rows.fields.scalars[first:stop].tolist()
        if places and min(places) >= 0:
            return self._scalars[:, places[0] : places[-1] + 1]
        parts = [self._field(field).astype(np.float64, copy=False) for field in range(first, stop)]
        return np.concatenate(parts, axis=1) if parts else np.empty((self._count, 0))

    def parameters(self, latent: int) -> tuple[np.ndarray, ...]:
        """The parameters of a controlled latent's distribution, float64 (n, *shape) each, in the family's order.

        Raises:
          TypeError: it is a mixture, whose parameters are distributions: use ``numbers``.
        """
        family, *shapes = self.type.latents[latent].distribution
        if family == "Mixture":
            raise TypeError("A mixture's parameters are distributions, not arrays. Read them flat, with numbers(k).")
        numbers, ends = self.numbers(latent), np.cumsum(distribution_sizes((family, *shapes)))
        return tuple(
            numbers[:, end - math.prod(shape) : end].reshape(self._count, *shape)
            for end, shape in zip(ends.tolist(), shapes, strict=True)
        )

    def observation(self, key: str | tuple[str, int]) -> np.ndarray:
        """Values of an observed site, (n, *shape), of the format they are stored in where they are arrays.

        Args:
          key: its name, or (name, occurrence), counted from 1; of a name that occurs several times, the last. The name
            of any other site will do, but reading it costs more.

        Raises:
          KeyError: some of the traces have no such site.
        """
        name, occurrence = (key, 0) if isinstance(key, str) else key
        places = [place for place, site in enumerate(self.type.observations) if site.name == name]
        named_elsewhere = any(site.name == name for site in self.type.latents)
        if not places or named_elsewhere or not 0 <= occurrence <= len(places):
            return np.asarray(self.table.column(key))
        return self.observed(places[occurrence - 1])

    def observed(self, place: int) -> np.ndarray:
        """Values of the observed site at a place of ``type.observations``, (n, *shape)."""
        field, shape = self._rows.fields.observations[place], self.type.observations[place].value
        if field < 0:
            return np.empty((self._count, *(shape or (0,))))
        return self._field(field).reshape(self._count, *shape)

    @cached_property
    def _whole(self) -> tuple[TraceTable, np.ndarray]:
        return self._rows.table()

    @property
    def table(self) -> TraceTable:
        """The traces, whole."""
        return self._whole[0]

    @property
    def log_weights(self) -> np.ndarray:
        """Their log weights, float64 (n,)."""
        return self._whole[1]


class StoredRows(Rows):
    """Rows of one type of a dataset: groups, whose blocks were checked, and rows in these."""

    def __init__(self, contents: Contents, number: int, groups: np.ndarray, rows: np.ndarray):
        self._contents, self._number, self._groups, self._local = contents, number, groups, rows

    @cached_property
    def fields(self) -> Fields:
        return self._contents.type_places(self._number).fields

    @cached_property
    def _own(self) -> np.ndarray:
        return self._contents.place_in_type(self._groups)

    def scalars(self) -> np.ndarray:
        found, own = self._contents.type_places(self._number), self._own
        base, code = places_at(found.places, own, self._local)
        single = found.fields.scalars >= 0
        if not single.all():
            base, code = base[:, single], code[:, single]
        return pick(self._contents.shards, found.shards[own], base, code)

    def run(self, field: int) -> np.ndarray:
        found, own = self._contents.type_places(self._number), self._own
        base = found.places.base[own, field] + self._local * found.places.step[own, field]
        size = int(found.fields.sizes[field])
        return pick_runs(self._contents.shards, found.shards[own], base, found.places.code[own, field], size)

    def table(self) -> tuple[TraceTable, np.ndarray]:
        return self._contents.table(self._groups, self._local)


class TableRows(Rows):
    """Rows of one type of a table in memory."""

    def __init__(self, table: TraceTable, fields: Fields, starts_of: dict[int, np.ndarray], rows: np.ndarray):
        self._table, self._fields, self._rows = table, fields, rows
        self._starts_of = starts_of  # layout's number -> where in its rows each field begins

    @property
    def fields(self) -> Fields:
        return self._fields

    @cached_property
    def _places(self) -> np.ndarray:
        """Where in the heap each field of each row begins, int64 (n, f)."""
        kinds, inverse = np.unique(np.asarray(self._table.kinds)[self._rows], return_inverse=True)
        starts = np.stack([self._starts_of[kind] for kind in kinds.tolist()])
        return np.asarray(self._table.starts)[self._rows, None] + starts[inverse]

    def scalars(self) -> np.ndarray:
        return np.asarray(self._table.heap[self._places[:, self._fields.scalars >= 0]])

    def run(self, field: int) -> np.ndarray:
        return np.asarray(self._table.heap[self._places[:, field, None] + np.arange(self._fields.sizes[field])])

    def table(self) -> tuple[TraceTable, np.ndarray]:
        starts = np.asarray(self._table.starts)[self._rows]
        return self._table.take(self._rows), np.asarray(self._table.heap[starts])


class Source(ABC):
    """Traces by type and row: what an epoch is drawn from."""

    @property
    @abstractmethod
    def type_counts(self) -> np.ndarray:
        """Traces of each type, int64 (t,)."""

    @abstractmethod
    def minibatch(self, number: int, rows: np.ndarray, weight: float) -> Minibatch:
        """Rows of a type, counted within the type."""

    def parts(self, types: np.ndarray, rows: np.ndarray, batch_size: int) -> list[Minibatch]:
        """Rows ``rows`` (n,) of types ``types`` (n,), sorted by type: a minibatch for each."""
        return [
            self.minibatch(int(types[low]), rows[low:high], (high - low) / batch_size) for low, high in _runs(types)
        ]


def _runs(types: np.ndarray) -> list[tuple[int, int]]:
    """Where each run of equal types begins and ends."""
    bounds = [*np.flatnonzero(np.diff(types, prepend=-1)).tolist(), len(types)]
    return list(pairwise(bounds))


class TableSource(Source):
    """The traces of a table in memory; ``numbers`` are those of the types in ``types``."""

    def __init__(self, table: TraceTable, types: TypeTable):
        self._table = table
        present, kinds = np.unique(np.asarray(table.kinds), return_inverse=True)
        layouts = {kind: table.layouts[kind] for kind in present.tolist()}
        numbers = np.array([types.number(layout) for layout in layouts.values()], dtype=np.int64)
        self.numbers, inverse = np.unique(numbers, return_inverse=True)
        of_trace = inverse[kinds]
        self._rows = np.split(np.argsort(of_trace, kind="stable"), np.cumsum(np.bincount(of_trace))[:-1])
        self._types = types
        self._fields = [fields_of(types[number]) for number in self.numbers.tolist()]
        self._starts_of = {kind: _field_starts(layout) for kind, layout in layouts.items()}

    @property
    def type_counts(self) -> np.ndarray:
        return np.array([len(rows) for rows in self._rows], dtype=np.int64)

    def minibatch(self, number: int, rows: np.ndarray, weight: float) -> Minibatch:
        own = TableRows(self._table, self._fields[number], self._starts_of, self._rows[number][rows])
        return Minibatch(int(self.numbers[number]), self._types, len(rows), weight, own)


def _field_starts(layout: RowLayout) -> np.ndarray:
    columns = columns_of(layout)
    return columns.starts[field_columns(layout.sites, columns)]


def minibatches_of(
    table: TraceTable, batch_size: int, types: TypeTable, *, seed: int = 0, epoch: int = 0
) -> Iterator[Minibatch]:
    """The traces of a table in memory as minibatches of one type each, in random order; see ``Dataset.minibatches``.

    Args:
      table: the traces.
      batch_size: traces of a full minibatch.
      types: numbers the types; those met for the first time are added.
      seed, epoch: choose the order; of a stream of tables, give the number of the table as epoch.
    """
    return by_type(TableSource(table, types), batch_size, seed, epoch, 0)


def stored_parts(
    contents: Contents, layouts: Sequence[TypeLayout], types: np.ndarray, rows: np.ndarray, batch_size: float
) -> list[Minibatch]:
    """Rows of types of a dataset, sorted by type: a minibatch for each type."""
    groups, local = contents.find_rows(types, rows)
    contents.check_groups(groups)
    found = []
    for low, high in _runs(types):
        number = int(types[low])
        own = StoredRows(contents, number, groups[low:high], local[low:high])
        found.append(Minibatch(number, layouts, high - low, (high - low) / batch_size, own))
    return found


def by_type(source: Source, batch_size: int, seed: int, epoch: int, start: int) -> Iterator[Minibatch]:
    """An epoch of minibatches of one type each, from the ``start``-th on."""
    counts = source.type_counts
    groups = [np.array([number]) for number in range(len(counts))]
    order = BatchOrder(groups, counts, batch_size, derive(seed, TYPE_KEY, epoch))
    for position in range(start, order.total):
        types, rows = order(position)
        yield source.minibatch(int(types[0]), rows, len(rows) / batch_size)


def mixed(
    source: Source, batch_size: int, seed: int, epoch: int, start: int, groups: list[np.ndarray]
) -> Iterator[list[Minibatch]]:
    """An epoch of minibatches of many types, those of one group of types together, from the ``start``-th on."""
    order = BatchOrder(groups, source.type_counts, batch_size, derive(seed, MIXED_KEY, epoch))
    for position in range(start, order.total):
        types, rows = order(position)
        by_number = np.argsort(types, kind="stable")
        yield source.parts(types[by_number], rows[by_number], batch_size)


def grouped(types: Sequence[TypeLayout], key: Callable[[TypeLayout], Hashable] | None) -> list[np.ndarray]:
    """The numbers of the types of each key, in order of first appearance."""
    if key is None:
        return [np.arange(len(types))]
    found: dict[Hashable, list[int]] = {}
    for number in range(len(types)):
        found.setdefault(key(types[number]), []).append(number)
    return [np.array(numbers) for numbers in found.values()]
