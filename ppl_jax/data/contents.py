"""What the shards of a dataset hold: the catalogue of blocks, groups, layouts and types.

Opening reads the headers and directories of all blocks and checks their checksums, so that whatever is read later is
where the catalogue says. Payloads are only mapped. The catalogue is made of arrays: some fifty bytes for each group of
traces of one layout in one block, and four for each site of each layout.

Traces have two numbers: their place in the *sequence*, the order of execution, and type and *row*, counted within the
type in the order of the sequence. Neither depends on how the work was divided among processes, nor on where blocks end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from ppl_jax.data.blocks import Run, read_directory, unpack_objects
from ppl_jax.data.encoding import Columns, Places, columns_of, locate
from ppl_jax.data.frames import Frame, Scan
from ppl_jax.data.recent import Recent
from ppl_jax.data.shardmap import Mapping, ShardMap, pick, pick_runs
from ppl_jax.data.types import Fields, TypeLayout, arrange_fields
from ppl_jax.data.vocabulary import Vocabulary, ramps
from ppl_jax.errors import StorageError
from ppl_jax.storage import RowLayout, TraceTable

_LAYOUTS_KEPT = 1 << 19  # columns of row layouts, and sites of types, that are kept once they were built
_MAPS_OPEN = 256  # memory maps: each keeps a file open, of which a process may have some thousand
_PLACES_KEPT = 1 << 21  # places of columns that are kept once they were computed; 17 bytes each


class Block(NamedTuple):
    """A block of the sequence: the number of its shard, its frame and what remains of its directory."""

    shard: int
    frame: Frame
    run: Run | None
    objects: tuple[int, int]
    order: tuple[int, int]
    ranks: tuple[int, int]


class TypePlaces(NamedTuple):
    """What is needed to read the fields of a type: these, and where they are in each of its groups."""

    fields: Fields
    places: Places
    shards: np.ndarray


class Contents:
    """The catalogue of a dataset.

    Args:
      paths: the shards, in order.
      scans: what ``frames.scan`` found in each.
      recover: leaves out blocks that are damaged, and says so in ``problems``, in place of an error.
      check: whether a block's numbers are checked against their checksum when they are first read.

    Raises:
      StorageError: a block is damaged; names the file and the block.

    Attributes:
      blocks: in the order of the sequence.
      block_ends: where in the sequence each block ends, int64 (b,).
      type_counts: rows of each type, int64 (t,).
    """

    def __init__(self, paths: Sequence[Path], scans: Sequence[Scan], recover: bool = False, check: bool = True):
        self.problems: list[str] = []
        self._recover = recover
        self.vocabulary = Vocabulary()
        self.shards: list[ShardMap] = []
        mappings: Recent[Mapping] = Recent(_MAPS_OPEN)
        found: list[tuple[Block, dict[str, np.ndarray]]] = []
        for path, shard_scan in zip(paths, scans, strict=True):
            for problem in shard_scan.problems:
                self._complain(problem)
            if not shard_scan.frames:
                continue
            self.shards.append(ShardMap(path, shard_scan.length, len(self.shards), mappings, check))
            self.vocabulary.begin_shard()
            for frame in shard_scan.frames:
                try:
                    found.append(self._read(len(self.shards) - 1, frame))
                except StorageError as error:
                    self._complain(f"{path}, block {frame.number} (at byte {frame.start}): {error}")
        found = self._without_repetitions(_in_sequence(found))
        self.blocks = [block for block, _ in found]
        self.block_ends = np.cumsum([block.frame.traces for block in self.blocks], dtype=np.int64)
        self._catalogue([columns for _, columns in found])
        self._layouts: Recent[tuple[RowLayout, Columns]] = Recent(_LAYOUTS_KEPT)
        self._types: Recent[TypeLayout] = Recent(_LAYOUTS_KEPT)
        self._places: Recent[TypePlaces] = Recent(_PLACES_KEPT)
        self._unchecked = np.full(len(self.blocks), check)

    def _complain(self, problem: str) -> None:
        self.problems.append(problem)
        if not self._recover:
            raise StorageError(
                f"{problem} Restore the file from a copy, or read what is whole with open_dataset(..., recover=True); "
                "`ppl-jax dataset verify` lists all that is damaged."
            )

    def _read(self, shard: int, frame: Frame) -> tuple[Block, dict[str, np.ndarray]]:
        data = self.shards[shard].part(frame.directory_start, frame.directory_length)
        if crc32(data) != frame.directory_checksum:
            raise StorageError("the checksum of the directory is wrong.")
        directory = read_directory(data, frame.end - frame.payload_start)
        layouts = self.vocabulary.extend(directory)
        rows = directory.group_rows
        columns = np.array(self.vocabulary.layout_columns, dtype=np.int64)[layouts]
        if int(rows.sum()) != frame.traces or directory.codes_start + int(columns.sum()) > frame.directory_length:
            raise StorageError("the directory contradicts the header.")
        codes = frame.directory_start + directory.codes_start + np.cumsum(columns) - columns
        starts = frame.payload_start + directory.group_starts
        kept = Block(shard, frame, directory.run, directory.objects, directory.order, directory.ranks)
        return kept, {"layout": layouts, "rows": rows, "start": starts, "codes": codes}

    def _without_repetitions(self, found: list[tuple[Block, dict]]) -> list[tuple[Block, dict]]:
        """Without blocks whose executions another block already holds."""
        kept: list[tuple[Block, dict]] = []
        for block, columns in found:
            before = kept[-1][0] if kept else None
            if before is not None and before.run and block.run and before.run[:2] == block.run[:2]:
                end = before.run.start + before.frame.traces
                if block.run.start < end:
                    first, second = (self.shards[one.shard].path for one in (before, block))
                    self._complain(
                        f"{first} and {second} both hold executions {block.run.start} to "
                        f"{min(end, block.run.start + block.frame.traces) - 1} of seed {block.run.seed}: the same "
                        "traces twice. Give each process its own range with start=..., or its own seed."
                    )
                    continue
            kept.append((block, columns))
        return kept

    def _catalogue(self, parts: list[dict[str, np.ndarray]]) -> None:
        """Concatenates the groups of all blocks, numbers types by first appearance, and sorts groups by type."""
        empty = np.empty(0, np.int64)
        layouts, self._rows, self._starts, self._codes = (
            np.concatenate([part[name] for part in parts]) if parts else empty
            for name in ("layout", "rows", "start", "codes")
        )
        counts = [len(part["rows"]) for part in parts]
        self._block_of = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
        self._shard_of = np.array([block.shard for block in self.blocks], dtype=np.int32)[self._block_of]
        self._layout_of = layouts.astype(np.int32)
        self._ends = np.cumsum(self._rows)  # in the order of blocks and groups
        types = np.array(self.vocabulary.layout_types, dtype=np.int64)[layouts]
        present, first, inverse = np.unique(types, return_index=True, return_inverse=True)
        appearance = np.argsort(first)
        self._type_names = present[appearance]  # what the vocabulary calls the types
        rank = np.empty(len(present), np.int64)
        rank[appearance] = np.arange(len(present))
        self._type_of = rank[inverse].astype(np.int32)
        self._by_type = np.argsort(self._type_of, kind="stable")
        self._type_groups = np.searchsorted(self._type_of[self._by_type], np.arange(len(present) + 1))
        self._place_in_type = np.empty(len(self._by_type), np.int64)
        self._place_in_type[self._by_type] = (
            np.arange(len(self._by_type)) - self._type_groups[:-1][self._type_of[self._by_type]]
        )
        self.type_counts = np.bincount(self._type_of, self._rows, len(present)).astype(np.int64)
        self._type_base = np.cumsum(self.type_counts) - self.type_counts
        self._join_groups()

    def _join_groups(self) -> None:
        """Segments: the groups of one type in one block, which stand together; sorted by type."""
        changes = np.flatnonzero(np.diff(self._type_of, prepend=-1) | np.diff(self._block_of, prepend=-1))
        rows = np.add.reduceat(self._rows, changes) if len(changes) else np.empty(0, np.int64)
        by_type = np.argsort(self._type_of[changes], kind="stable")
        self._segment_ends = np.cumsum(rows[by_type])
        slots = (self._ends - self._rows)[changes][by_type]  # where in all rows of all blocks they begin
        self._segment_shifts = slots - (self._segment_ends - rows[by_type])
        self._segment_blocks = self._block_of[changes][by_type]
        self._has_ranks = np.array([block.ranks[1] > 0 for block in self.blocks], dtype=bool)

    # -- what there is ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.block_ends[-1]) if len(self.block_ends) else 0

    def layout(self, number: int) -> tuple[RowLayout, Columns]:
        """A row layout and how its rows are cut into columns."""
        return self._layouts.get(number, self._build_layout)

    def _build_layout(self, number: int) -> tuple[tuple[RowLayout, Columns], int]:
        layout = self.vocabulary.row_layout(number)
        columns = columns_of(layout)
        return (layout, columns), len(columns.sizes)

    def type_layout(self, number: int) -> TypeLayout:
        """The layout of a type."""
        return self._types.get(number, self._build_type)

    def _build_type(self, number: int) -> tuple[TypeLayout, int]:
        layout = self.vocabulary.type_layout(int(self._type_names[number]))
        return layout, len(layout.latents) + len(layout.observations)

    @property
    def layout_numbers(self) -> np.ndarray:
        """The row layouts that occur, in order of first appearance, int64."""
        present, first = np.unique(self._layout_of, return_index=True)
        return present[np.argsort(first)].astype(np.int64)

    # -- where traces are ------------------------------------------------------------------------------------------

    def rows_before(self, place: int) -> np.ndarray:
        """How many rows of each type stand before a place of the sequence, int64 (t,)."""
        block = int(np.searchsorted(self.block_ends, place, side="right"))
        first = int(np.searchsorted(self._block_of, block))
        counts = np.bincount(self._type_of[:first], self._rows[:first], len(self.type_counts)).astype(np.int64)
        rest = place - (int(self.block_ends[block - 1]) if block else 0)
        if rest:
            groups, _ = self.find(np.arange(place - rest, place))
            counts += np.bincount(self._type_of[groups], minlength=len(counts))
        return counts

    def find(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The group, and the row in it, of traces at places of the sequence, int64 (n,)."""
        blocks = np.searchsorted(self.block_ends, places, side="right")
        slots = places.astype(np.int64)
        for number in np.unique(blocks).tolist():
            self._permute(slots, blocks, number, self.blocks[number].order)
        return self._in_groups(slots)

    def find_rows(self, types: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The group, and the row in it, of rows of types, int64 (n,)."""
        position = self._type_base[types] + rows
        segments = np.searchsorted(self._segment_ends, position, side="right")
        slots = position + self._segment_shifts[segments]
        blocks = self._segment_blocks[segments]
        if self._has_ranks[blocks].any():
            for number in np.unique(blocks).tolist():
                self._permute(slots, blocks, number, self.blocks[number].ranks)
        return self._in_groups(slots)

    def place_in_type(self, groups: np.ndarray) -> np.ndarray:
        """The places of groups among all groups of their type."""
        return self._place_in_type[groups]

    def _permute(self, slots: np.ndarray, blocks: np.ndarray, number: int, permutation: tuple[int, int]) -> None:
        """Applies a permutation that a block holds to those of ``slots`` that lie in it."""
        start, length = permutation
        if length:
            block, chosen = self.blocks[number], np.flatnonzero(blocks == number)
            first = int(self.block_ends[number]) - block.frame.traces
            shard = self.shards[block.shard]
            shard.check_payload(block.frame)
            view = shard.data[block.frame.payload_start + start :][:length].view(f"<u{length // block.frame.traces}")
            slots[chosen] = view[slots[chosen] - first].astype(np.int64) + first

    def _in_groups(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        groups = np.searchsorted(self._ends, slots, side="right")
        return groups, slots - (self._ends[groups] - self._rows[groups])

    # -- reading ---------------------------------------------------------------------------------------------------

    def type_places(self, number: int) -> TypePlaces:
        """Where the fields of a type are, for each of its groups."""
        return self._places.get(number, self._find_places)

    def _find_places(self, number: int) -> tuple[TypePlaces, int]:
        groups = self._by_type[self._type_groups[number] : self._type_groups[number + 1]]
        layouts = self._layout_of[groups]
        first = int(layouts[0])
        sizes, chosen = self.vocabulary.columns(first)
        fields = arrange_fields(sizes[chosen], *self.vocabulary.field_counts(first))
        if (layouts == first).all():
            places = Places(*(array[:, chosen] for array in self.group_places(groups, sizes)))
        else:
            shape = len(groups), len(chosen)
            places = Places(np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.uint8))
            for kind in np.unique(layouts).tolist():
                own = np.flatnonzero(layouts == kind)
                sizes, chosen = self.vocabulary.columns(kind)
                for whole, part in zip(places, self.group_places(groups[own], sizes), strict=True):
                    whole[own] = part[:, chosen]
        return TypePlaces(fields, places, self._shard_of[groups]), places.base.size

    def group_places(self, groups: np.ndarray, sizes: np.ndarray) -> Places:
        """Where the columns of groups of one layout are, of sizes int64 (c,); arrays (g, c)."""
        counts = np.full(len(groups), len(sizes))
        found = self._places_of(groups, counts, np.tile(sizes, len(groups)))
        return Places(*(array.reshape(len(groups), len(sizes)) for array in found))

    def _places_of(self, groups: np.ndarray, counts: np.ndarray, sizes: np.ndarray) -> Places:
        """Where the columns of groups are, so many of each, of sizes int64 (c,); arrays (c,)."""
        group, within = ramps(counts)
        wanted, shards = self._codes[groups][group] + within, self._shard_of[groups]
        if (shards == shards[0]).all():
            codes = self.shards[shards[0]].data[wanted]
        else:
            codes = np.empty(len(wanted), np.uint8)
            for shard in np.unique(shards).tolist():
                own = np.flatnonzero(shards[group] == shard)
                codes[own] = self.shards[shard].data[wanted[own]]
        return locate(self._starts[groups], self._rows[groups], counts, codes, sizes)

    def check_groups(self, groups: np.ndarray) -> None:
        """Checks the blocks of groups that were not read before.

        Raises:
          StorageError: one is damaged.
        """
        blocks = self._block_of[groups]
        if self._unchecked[blocks].any():
            for number in np.unique(blocks).tolist():
                block = self.blocks[number]
                self.shards[block.shard].check_payload(block.frame)
                self._unchecked[number] = False

    def table(self, groups: np.ndarray, rows: np.ndarray) -> tuple[TraceTable, np.ndarray]:
        """Whole traces, copied: rows ``rows`` (n,) of groups ``groups`` (n,); and their log weights, float64 (n,)."""
        self.check_groups(groups)
        present, kinds = np.unique(self._layout_of[groups], return_inverse=True)
        layouts = [self.layout(number)[0] for number in present.tolist()]
        widths = np.array([layout.width + 1 for layout in layouts], dtype=np.int64)[kinds]
        ends = np.cumsum(widths)
        starts = ends - widths
        heap = np.empty(int(widths.sum()))
        objects: list = []
        if len(groups):
            self._fill(heap, starts, groups, rows)
        for kind, layout in enumerate(layouts):
            if layout.object_places.size:
                own = np.flatnonzero(kinds == kind)
                self._take_objects(heap, starts[own, None] + layout.object_places, groups[own], objects)
        return TraceTable(layouts, heap, starts, kinds.astype(np.int32), objects), heap[ends - 1]

    def _fill(self, heap: np.ndarray, starts: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> None:
        """Whole rows, each followed by its log weight, from ``starts`` on in ``heap``."""
        present, inverse = np.unique(groups, return_inverse=True)
        columns = [self.layout(number)[1] for number in self._layout_of[present].tolist()]
        counts = np.array([len(found.sizes) for found in columns], dtype=np.int64)
        sizes = np.concatenate([found.sizes for found in columns])
        within_row = np.concatenate([found.starts for found in columns])
        places = self._places_of(present, counts, sizes)
        row, column = ramps(counts[inverse])
        column += (np.cumsum(counts) - counts)[inverse][row]
        base, code = places.base[column] + rows[row] * places.step[column], places.code[column]
        target, shards, sizes = starts[row] + within_row[column], self._shard_of[groups][row], sizes[column]
        for size in np.unique(sizes).tolist():
            own = np.flatnonzero(sizes == size)
            if size == 1:
                heap[target[own]] = pick(self.shards, shards[own], base[own, None], code[own, None])[:, 0]
            else:
                runs = pick_runs(self.shards, shards[own], base[own], code[own], size)
                heap[target[own][:, None] + np.arange(size)] = runs

    def _take_objects(self, heap: np.ndarray, places: np.ndarray, groups: np.ndarray, objects: list) -> None:
        """Puts numbers of ``objects`` in place of those of the blocks: at ``places`` (n, k), of groups (n,)."""
        blocks = self._block_of[groups]
        for number in np.unique(blocks).tolist():
            block = self.blocks[number]
            start, length = block.objects
            own = places[blocks == number]
            found = unpack_objects(self.shards[block.shard].part(block.frame.payload_start + start, length))
            used, inverse = np.unique(heap[own], return_inverse=True)
            heap[own] = len(objects) + inverse.reshape(own.shape)
            objects += [found[int(one)] for one in used.tolist()]


def _in_sequence(found: list[tuple[Block, dict]]) -> list[tuple[Block, dict]]:
    """Blocks of one run in order of execution, runs in order of appearance, what is of no run where it appears."""
    rank: dict[object, int] = {}

    def key(item: tuple[Block, dict]) -> tuple[int, int]:
        block = item[0]
        identity = ("shard", block.shard) if block.run is None else block.run[:2]
        return rank.setdefault(identity, len(rank)), block.frame.number if block.run is None else block.run.start

    return sorted(found, key=key)
