"""Dataset: traces on disk, opened to be read one by one, by type, or at random; and appended to.

Nothing is loaded when a dataset is opened but the catalogue of what there is (see ``contents``): traces are read
through memory maps, and what a training run reads it does not keep.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.data.agreement import Outline, addresses_of, check_agreement, check_shapes, observations_of
from ppl_jax.data.blocks import Run
from ppl_jax.data.contents import Contents
from ppl_jax.data.description import as_html, described
from ppl_jax.data.folder import create, find
from ppl_jax.data.minibatches import Minibatch, Source, by_type, grouped, mixed, stored_parts
from ppl_jax.data.types import TypeLayout
from ppl_jax.data.writer import ShardWriter
from ppl_jax.empirical import Empirical
from ppl_jax.errors import StorageError
from ppl_jax.language.site import FACTOR, TAG
from ppl_jax.language.trace import Trace
from ppl_jax.storage import TraceTable

_TOGETHER = 4096  # traces that are read together when all are gone through


class TypeInfo(NamedTuple):
    """A trace type in short: its number, traces, controlled latents, and their addresses, each once, in order."""

    number: int
    traces: int
    latents: int
    addresses: tuple[str, ...]


class DatasetInfo(NamedTuple):
    """What a dataset holds.

    Attributes:
      path: its folder.
      traces, latents: how many there are; latents are the controlled ones.
      bytes: size of the shards.
      shards, blocks, layouts: how many there are.
      types: all trace types, the most frequent first.
      addresses, names: of all sites that are drawn or observed, in order of first appearance.
      observations: name of each observed site -> its shape; None where that varies.
      problems: what was left out, when the dataset was opened with ``recover=True``.
    """

    path: Path
    traces: int
    latents: int
    bytes: int
    shards: int
    blocks: int
    layouts: int
    types: tuple[TypeInfo, ...]
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    observations: dict[str, tuple[int, ...] | None]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return described(self, whole=False)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self)


class _Types(Sequence[TypeLayout]):
    """The types of a dataset, built when they are asked for."""

    def __init__(self, contents: Contents):
        self._contents = contents

    def __len__(self) -> int:
        return len(self._contents.type_counts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self._contents.type_layout(number)


class Dataset(Source, Sequence[Trace]):
    """Traces on disk, in order of execution.

    ``dataset[i]`` is a Trace; a slice, boolean mask or array of integers gives a TraceTable, read into memory.
    ``open_dataset`` and ``save_dataset`` make one.
    """

    def __init__(self, path: Path, contents: Contents, start: int = 0, stop: int | None = None):
        self.path = path
        self._contents = contents
        self._start, self._stop = start, len(contents) if stop is None else stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}: {len(self)} traces of {len(self.types)} types)"

    def _repr_html_(self) -> str:
        return self.info()._repr_html_()

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def types(self) -> Sequence[TypeLayout]:
        """The trace types, numbered in order of first appearance in the whole dataset."""
        return _Types(self._contents)

    @cached_property
    def _first_rows(self) -> np.ndarray:
        return self._contents.rows_before(self._start)

    @cached_property
    def type_counts(self) -> np.ndarray:
        """Traces of each type, int64 (t,); of a part that ``split`` gave, zero where a type has none."""
        return self._contents.rows_before(self._stop) - self._first_rows

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of all sites that are drawn or observed, in order of first appearance."""
        return addresses_of(self._sites)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all sites that are drawn or observed, in order of first appearance."""
        drawn = (site for site in self._sites if site.kind not in (TAG, FACTOR))
        return tuple(dict.fromkeys(site.name for site in drawn if site.name is not None))

    @cached_property
    def _sites(self) -> list:
        """All sites that occur, in order of first appearance."""
        vocabulary = self._contents.vocabulary
        seen = np.zeros(len(vocabulary.sites), bool)
        order: list[int] = []
        for layout in self._contents.layout_numbers.tolist():
            sites = vocabulary.layouts[layout][1]
            new = sites[~seen[sites]]
            if len(new):
                _, first = np.unique(new, return_index=True)
                order += new[np.sort(first)].tolist()
                seen[new] = True
        return [vocabulary.sites[number] for number in order]

    @cached_property
    def observations(self) -> dict[str, tuple[int, ...] | None]:
        """Name of each observed site -> its shape; None where that varies."""
        return observations_of(self._sites)

    @property
    def outline(self) -> Outline:
        """The dataset in outline, to compare with other traces."""
        return Outline(str(self.path), self.observations, self.addresses)

    def check_observations(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Checks that the dataset has observations of these names and shapes.

        Raises:
          StorageError: one is missing, or has another shape.
        """
        check_shapes(self.outline, shapes)

    def info(self) -> DatasetInfo:
        """What the dataset holds."""
        counts = self.type_counts
        types = []
        for number in np.argsort(-counts, kind="stable").tolist():
            latents = self.types[number].latents
            addresses = tuple(dict.fromkeys(site.address for site in latents))
            types.append(TypeInfo(number, int(counts[number]), len(latents), addresses))
        contents = self._contents
        return DatasetInfo(
            self.path,
            len(self),
            sum(found.traces * found.latents for found in types),
            sum(shard.length for shard in contents.shards),
            len(contents.shards),
            len(contents.blocks),
            len(contents.layout_numbers),
            tuple(types),
            self.addresses,
            self.names,
            self.observations,
            tuple(contents.problems),
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out, when the dataset was opened with ``recover=True``."""
        return tuple(self._contents.problems)

    # -- traces ----------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            place = range(len(self))[int(index)]
            return self._table(np.array([place]))[0][0]
        return self.take(index)

    def take(self, index: Any) -> TraceTable:
        """The traces at ``index`` (a slice, a boolean mask (n,), or integers), in that order, read into memory."""
        return self._table(self._places(index))[0]

    def log_weights(self, index: Any = slice(None)) -> np.ndarray:
        """The log weights of the traces at ``index``, float64 (n,)."""
        places = self._places(index)
        parts = [self._table(places[low : low + _TOGETHER])[1] for low in range(0, len(places), _TOGETHER)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _places(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            return np.arange(*index.indices(len(self)))
        chosen = np.asarray(index)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise IndexError(f"A mask must have the shape of the traces, ({len(self)},), got {chosen.shape}.")
            return np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64) if chosen.size == 0 else chosen
        if chosen.dtype.kind not in "iu" or np.any((chosen < -len(self)) | (chosen >= len(self))):
            raise IndexError(
                f"The number of a trace must be in 0 to {len(self) - 1}, or from the end in -1 to {-len(self)}, got "
                f"{reprlib.repr(index)}."
            )
        return np.where(chosen < 0, chosen + len(self), chosen)

    def _table(self, places: np.ndarray) -> tuple[TraceTable, np.ndarray]:
        return self._contents.table(*self._contents.find(places + self._start))

    def __iter__(self) -> Iterator[Trace]:
        for table in self.tables():
            yield from table

    def tables(self, size: int = _TOGETHER) -> Iterator[TraceTable]:
        """All traces in order, ``size`` at a time."""
        for low in range(0, len(self), size):
            yield self.take(slice(low, low + size))

    # -- minibatches -----------------------------------------------------------------------------------------------

    def num_minibatches(self, batch_size: int) -> int:
        """Minibatches of an epoch of ``minibatches``."""
        return int(np.sum(-(-self.type_counts // _positive("batch_size", batch_size))))

    def minibatches(self, batch_size: int, *, seed: int = 0, epoch: int = 0, start: int = 0) -> Iterator[Minibatch]:
        """An epoch: every trace once, in minibatches of one type each.

        Types follow each other at random, in proportion to their minibatches; rows are in random order within a type
        (those of a type with more than 65,536 traces within windows of that many, made of chunks from anywhere). One
        minibatch of each type is smaller. For a gradient without bias, multiply the mean over a minibatch by its
        ``weight``.

        Args:
          batch_size: traces of a full minibatch.
          seed, epoch: choose the order, together with the minibatch's number and nothing else.
          start: number of the first minibatch to give; continues an epoch that was interrupted.
        """
        return by_type(self, _positive("batch_size", batch_size), seed, epoch, start)

    def mixed_minibatches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        key: Callable[[TypeLayout], Hashable] | None = None,
    ) -> Iterator[list[Minibatch]]:
        """An epoch: every trace once, ``batch_size`` traces at a time whatever their types, as one Minibatch per type.

        Args:
          batch_size, seed, epoch, start: see :meth:`minibatches`.
          key: of a type; only types of one key come together, for example those that are padded to one length.
        """
        groups = grouped(self.types, key)
        return mixed(self, _positive("batch_size", batch_size), seed, epoch, start, groups)

    def minibatch(self, number: int, rows: np.ndarray, weight: float = 1.0) -> Minibatch:
        """Rows of a type (one or more), counted within the type in order of execution."""
        (found,) = self.parts(np.full(len(rows), number, dtype=np.int64), np.asarray(rows), len(rows))
        found.weight = weight
        return found

    def parts(self, types: np.ndarray, rows: np.ndarray, batch_size: int) -> list[Minibatch]:
        """Rows ``rows`` (n,) of types ``types`` (n,), sorted by type: a minibatch for each."""
        return stored_parts(self._contents, self.types, types, rows + self._first_rows[types], batch_size)

    def split(self, fraction: float) -> tuple[Dataset, Dataset]:
        """All but the last ``fraction`` of the traces, and these: for training and validation. Nothing is copied."""
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction!r}.")
        middle = self._stop - round(fraction * len(self))
        return (
            Dataset(self.path, self._contents, self._start, middle),
            Dataset(self.path, self._contents, middle, self._stop),
        )

    # -- runs ------------------------------------------------------------------------------------------------------

    def ranges(self, source: str, seed: int) -> list[tuple[int, int]]:
        """Which executions of a run the dataset holds: (first, last + 1) of each gapless part, in order.

        Args:
          source: what ran the model, "host" or "jax".
          seed: of the run.
        """
        found: list[tuple[int, int]] = []
        for block in self._contents.blocks:
            if block.run is not None and block.run[:2] == (source, seed):
                end = block.run.start + block.frame.traces
                if found and found[-1][1] == block.run.start:
                    found[-1] = found[-1][0], end
                else:
                    found.append((block.run.start, end))
        return found

    def run_starts(self) -> Iterator[tuple[int, Run]]:
        """The first trace of each block of which it is known: its place, and which execution of which run it is."""
        for block, end in zip(self._contents.blocks, self._contents.block_ends.tolist(), strict=True):
            if block.run is not None:
                yield end - block.frame.traces, block.run

    # -- appending -------------------------------------------------------------------------------------------------

    def append(self, traces: Empirical | TraceTable, log_weights: np.ndarray | None = None) -> None:
        """Appends traces on disk, in a shard of their own; this dataset then has them too.

        Args:
          traces: an Empirical of traces, whose log weights are kept, or a TraceTable.
          log_weights: of a table, float64 (n,). Default: zeros.

        Raises:
          StorageError: the values are no traces, they are of another model, or hold what cannot be stored without
            pickle.
        """
        if (self._start, self._stop) != (0, len(self._contents)):
            raise StorageError("This is a part of a dataset. Open the whole to append to it.")
        table, weights = _traces_of(traces, log_weights)
        sites = [site for layout, _ in table.groups() for site in layout.sites]
        check_agreement(self.outline, Outline("what is appended", observations_of(sites), addresses_of(sites)))
        with ShardWriter(self.path) as writer:
            writer.extend(table, weights)
        self.refresh()

    def refresh(self) -> None:
        """Takes notice of what was written since the dataset was opened."""
        fresh = open_dataset(self.path)
        self.__dict__.clear()
        self.__dict__.update(fresh.__dict__)


def _traces_of(traces: Any, log_weights: np.ndarray | None) -> tuple[TraceTable, np.ndarray]:
    if isinstance(traces, Empirical):
        if not isinstance(traces.values, TraceTable):
            raise StorageError(
                "A dataset holds traces, but the values of this Empirical are something else. Append the Empirical "
                "that the engine returned."
            )
        return traces.values, traces.log_weights
    if not isinstance(traces, TraceTable):
        raise StorageError(
            f"What is appended must be an Empirical of traces or a TraceTable, got {type(traces).__name__}."
        )
    return traces, np.zeros(len(traces)) if log_weights is None else np.asarray(log_weights, dtype=np.float64)


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def open_dataset(path: str | Path, *, recover: bool = False, check: bool = True) -> Dataset:
    """Opens a dataset by memory map.

    A shard whose writer was killed, or is still writing, is read up to its last whole block.

    Args:
      path: its folder.
      recover: leaves out what is damaged or missing, in place of an error; ``problems`` of the dataset then names it.
      check: checks the numbers of each block against their checksum when they are read for the first time.

    Raises:
      StorageError: there is no dataset, it is of another version, or damaged; names the file and the block.
    """
    path = Path(path)
    found = find(path, recover)
    contents = Contents(found.paths, found.scans, recover, check)
    contents.problems[:0] = found.problems
    return Dataset(path, contents)


def new_dataset(path: str | Path) -> Dataset:
    """Makes an empty dataset to append to, or opens the one that is there.

    Raises:
      StorageError: there is something else in the folder.
    """
    create(Path(path))
    return open_dataset(path)
