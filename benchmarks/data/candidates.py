"""The formats that were compared for datasets: each writes and reads the same traces, as its own documentation advises.

A candidate has ``needs``, the module it cannot do without; ``writer(folder)``, with ``block(rows)`` for {type: float64
(n, width)} and ``close()``; ``read(folder)``, all whole rows by type; and ``minibatches(folder, size, count)``, random
rows of random types. What the library under test is asked for in addition to its defaults is a checksum, where it has
one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables

from ppl_jax.data import ShardWriter, open_dataset, verify_dataset
from ppl_jax.storage import TraceTable

Rows = dict[int, np.ndarray]


def rows_of(table: TraceTable, layouts: list) -> Rows:
    """The rows of a table by type, float64 (n, width) each."""
    numbers = {id(layout): number for number, layout in enumerate(layouts)}
    return {
        numbers[id(layout)]: table.heap[table.starts[rows][:, None] + np.arange(layout.width)]
        for layout, rows in table.groups()
    }


def random_rows(counts: dict[int, int], size: int, number: int) -> Iterator[tuple[int, np.ndarray]]:
    """``number`` times a type, in proportion to its rows, and ``size`` random rows of it."""
    rng = np.random.default_rng(1)
    types = np.array(list(counts))
    total = np.array([counts[kind] for kind in types.tolist()])
    for kind in rng.choice(types, number, p=total / total.sum()).tolist():
        yield kind, rng.integers(counts[kind], size=size)


class _Parts:
    """Rows of one type in many arrays, read at random: the arrays stay where they are."""

    def __init__(self, parts: list[np.ndarray]):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def take(self, rows: np.ndarray) -> np.ndarray:
        which = np.searchsorted(self.ends, rows, side="right")
        found = np.empty((len(rows), self.parts[0].shape[1]))
        for part in np.unique(which).tolist():
            chosen = which == part
            found[chosen] = self.parts[part][rows[chosen] - (self.ends[part] - len(self.parts[part]))]
        return found


def _take_all(parts: dict[int, _Parts], size: int, count: int) -> Iterator[np.ndarray]:
    for kind, rows in random_rows({kind: int(part.ends[-1]) for kind, part in parts.items()}, size, count):
        yield parts[kind].take(rows)


class Own:
    """This library's shards: raw columns in blocks with checksums."""

    needs = "numpy"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _OwnWriter(folder, layouts)

    def read(self, folder: Path) -> Rows:
        problems = verify_dataset(folder)
        if problems:
            raise ValueError(problems[0])
        dataset = open_dataset(folder, check=False)
        found: dict[int, list] = {}
        for table in dataset.tables(1 << 16):
            for layout, rows in table.groups():
                block = table.heap[table.starts[rows][:, None] + np.arange(layout.width)]
                found.setdefault(len(layout.sites), []).append(block)
        return {kind: np.concatenate(parts) for kind, parts in found.items()}

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        dataset = open_dataset(folder, check=False)
        for kind, rows in random_rows(dict(enumerate(dataset.type_counts.tolist())), size, count):
            yield dataset.minibatch(kind, rows).numbers(0)


class _OwnWriter:
    def __init__(self, folder: Path, layouts: list):
        self._layouts, self._writer = layouts, ShardWriter(folder)

    def block(self, rows: Rows) -> None:
        heap = np.concatenate([part.ravel() for part in rows.values()])
        widths = np.repeat([part.shape[1] for part in rows.values()], [len(part) for part in rows.values()])
        kinds = np.repeat(list(rows), [len(part) for part in rows.values()])
        table = TraceTable(self._layouts, heap, np.cumsum(widths) - widths, kinds, [])
        self._writer.extend(table, np.zeros(len(table)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Npy:
    """One .npy file for each type and block, under numpy's memory map."""

    needs = "numpy"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _FilesWriter(folder, lambda path, rows: np.save(path.with_suffix(".npy"), rows))

    def _parts(self, folder: Path) -> dict[int, _Parts]:
        found: dict[int, list] = {}
        for file in sorted(folder.glob("*.npy")):
            try:
                array = np.load(file, mmap_mode="r")
            except (ValueError, EOFError) as error:
                if "greater than file size" in str(error) or "No data left" in str(error) or "EOF" in str(error):
                    continue  # cut off
                raise
            found.setdefault(int(file.name.split("-")[0]), []).append(array)
        return {kind: _Parts(parts) for kind, parts in found.items()}

    def read(self, folder: Path) -> Rows:
        return {kind: np.concatenate(part.parts) for kind, part in self._parts(folder).items()}

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        return _take_all(self._parts(folder), size, count)


class _FilesWriter:
    def __init__(self, folder: Path, save: Any):
        self._folder, self._save, self._number = folder, save, 0
        folder.mkdir(parents=True, exist_ok=True)

    def block(self, rows: Rows) -> None:
        for kind, part in rows.items():
            self._save(self._folder / f"{kind:05d}-{self._number:06d}", part)
        self._number += 1

    def close(self) -> None:
        pass


class Arrow:
    """One file of Arrow IPC streams, one after the other, one for each type and block; a column for each number."""

    needs = "pyarrow"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _ArrowWriter(folder)

    def _parts(self, folder: Path) -> dict[int, list]:
        import pyarrow as pa

        found: dict[int, list] = {}
        source = pa.memory_map(str(folder / "traces.arrows"))
        while source.tell() < source.size():
            try:
                batches = list(pa.ipc.open_stream(source))
            except (pa.ArrowInvalid, OSError) as error:
                if "Expected to read" in str(error) or "Expected to be able to read" in str(error):
                    break  # cut off
                raise
            for batch in batches:
                columns = [column.to_numpy() for column in batch.columns]
                found.setdefault(int(batch.schema.metadata[b"type"]), []).append(columns)
        return found

    def read(self, folder: Path) -> Rows:
        return {
            kind: np.concatenate([np.stack(columns, axis=1) for columns in parts])
            for kind, parts in self._parts(folder).items()
        }

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        found = self._parts(folder)
        ends = {kind: np.cumsum([len(columns[0]) for columns in parts]) for kind, parts in found.items()}
        for kind, rows in random_rows({kind: int(end[-1]) for kind, end in ends.items()}, size, count):
            which = np.searchsorted(ends[kind], rows, side="right")
            batch = np.empty((len(rows), len(found[kind][0])))
            for part in np.unique(which).tolist():
                columns = found[kind][part]
                chosen = np.flatnonzero(which == part)
                local = rows[chosen] - (ends[kind][part] - len(columns[0]))
                for place, column in enumerate(columns):
                    batch[chosen, place] = column[local]
            yield batch


class _ArrowWriter:
    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "traces.arrows", "ab")  # noqa: SIM115

    def block(self, rows: Rows) -> None:
        import pyarrow as pa

        for kind, part in rows.items():
            names = [str(place) for place in range(part.shape[1])]
            batch = pa.record_batch([np.ascontiguousarray(column) for column in part.T], names)
            batch = batch.replace_schema_metadata({"type": str(kind)})
            with pa.ipc.new_stream(self._file, batch.schema) as stream:
                stream.write_batch(batch)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class HDF5:
    """One HDF5 file, a chunked dataset for each type, with shuffle, lzf and fletcher32."""

    needs = "h5py"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _HDF5Writer(folder)

    def read(self, folder: Path) -> Rows:
        import h5py

        with h5py.File(folder / "traces.h5", "r") as file:
            return {int(name): file[name][:] for name in file}

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        import h5py

        with h5py.File(folder / "traces.h5", "r") as file:
            stored = {int(name): file[name] for name in file}
            for kind, rows in random_rows({kind: len(part) for kind, part in stored.items()}, size, count):
                present, inverse = np.unique(rows, return_inverse=True)
                yield stored[kind][present][inverse]


class _HDF5Writer:
    def __init__(self, folder: Path):
        import h5py

        folder.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(folder / "traces.h5", "w")

    def block(self, rows: Rows) -> None:
        for kind, part in rows.items():
            name, width = str(kind), part.shape[1]
            if name not in self._file:
                self._file.create_dataset(
                    name, (0, width), maxshape=(None, width), chunks=(1024, width), dtype="f8", shuffle=True,
                    compression="lzf", fletcher32=True,
                )  # fmt: skip
            stored = self._file[name]
            stored.resize(len(stored) + len(part), axis=0)
            stored[len(stored) - len(part) :] = part
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Zarr:
    """A Zarr group, an array for each type, with crc32c after the default compression."""

    needs = "zarr"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _ZarrWriter(folder)

    def _arrays(self, folder: Path) -> dict[int, Any]:
        import zarr

        return {int(name): array for name, array in zarr.open_group(folder, mode="r").arrays()}

    def read(self, folder: Path) -> Rows:
        return {kind: np.asarray(array[:]) for kind, array in self._arrays(folder).items()}

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        arrays = self._arrays(folder)
        for kind, rows in random_rows({kind: array.shape[0] for kind, array in arrays.items()}, size, count):
            yield arrays[kind].oindex[rows]


class _ZarrWriter:
    def __init__(self, folder: Path):
        import zarr

        self._group = zarr.open_group(folder, mode="w")

    def block(self, rows: Rows) -> None:
        from zarr.codecs import Crc32cCodec, ZstdCodec

        for kind, part in rows.items():
            if str(kind) not in self._group:
                self._group.create_array(
                    str(kind), shape=(0, part.shape[1]), chunks=(4096, part.shape[1]), dtype="f8",
                    compressors=[ZstdCodec(level=1), Crc32cCodec()],
                )  # fmt: skip
            self._group[str(kind)].append(part)

    def close(self) -> None:
        pass


class ArrayRecord:
    """One ArrayRecord file, a record for each trace; beside it a list of the types of the records."""

    needs = "array_record"

    def writer(self, folder: Path, layouts: list) -> Any:
        return _RecordWriter(folder)

    def _open(self, folder: Path) -> tuple[Any, np.ndarray]:
        from array_record.python.array_record_module import ArrayRecordReader

        kinds = np.fromfile(folder / "types.i4", np.int32)
        return ArrayRecordReader(str(folder / "traces.arrayrecord")), kinds

    def read(self, folder: Path) -> Rows:
        reader, kinds = self._open(folder)
        records = [np.frombuffer(record) for record in reader.read_all()]
        kinds = kinds[: len(records)]
        of_type = {kind: np.flatnonzero(kinds == kind).tolist() for kind in np.unique(kinds).tolist()}
        return {kind: np.stack([records[k] for k in places]) for kind, places in of_type.items()}

    def minibatches(self, folder: Path, size: int, count: int) -> Iterator[np.ndarray]:
        reader, kinds = self._open(folder)
        of_type = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds).tolist()}
        for kind, rows in random_rows({kind: len(found) for kind, found in of_type.items()}, size, count):
            yield np.stack([np.frombuffer(record) for record in reader.read(of_type[kind][rows].tolist())])


class _RecordWriter:
    def __init__(self, folder: Path):
        from array_record.python.array_record_module import ArrayRecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = ArrayRecordWriter(str(folder / "traces.arrayrecord"), "group_size:1")
        self._kinds = open(folder / "types.i4", "ab")  # noqa: SIM115

    def block(self, rows: Rows) -> None:
        for kind, part in rows.items():
            for row in part:
                self._writer.write(row.tobytes())
            self._kinds.write(np.full(len(part), kind, np.int32).tobytes())
        self._kinds.flush()

    def close(self) -> None:
        self._writer.close()
        self._kinds.close()


CANDIDATES = {
    "ours": Own(), "npy": Npy(), "arrow": Arrow(), "hdf5": HDF5(), "zarr": Zarr(), "arrayrecord": ArrayRecord(),
}  # fmt: skip


def layouts_of(kind: str) -> list:
    """Row layouts of the traces that are written: "gum_m" or "many_types"."""
    return tables.gum_marsaglia_layouts() if kind == "gum_m" else tables.many_types_layouts(10_000)


def blocks(kind: str, count: int, size: int, layouts: list) -> Iterator[Rows]:
    """The traces that are written, block by block."""
    rng = np.random.default_rng(0)
    make = tables.gum_marsaglia_table if kind == "gum_m" else tables.many_types_table
    for low in range(0, count, size):
        yield rows_of(make(min(size, count - low), rng, layouts), layouts)


def main() -> None:
    """``candidates.py NAME FOLDER SIZE``: writes blocks until it is killed, and says after each how many there are."""
    name, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    layouts = layouts_of("gum_m")
    writer = CANDIDATES[name].writer(folder, layouts)
    for number, rows in enumerate(blocks("gum_m", sys.maxsize, size, layouts)):
        writer.block(rows)
        print(json.dumps({"blocks": number + 1}), flush=True)


if __name__ == "__main__":
    main()
