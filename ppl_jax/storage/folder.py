"""A table on disk: its folder, while it is written and when it is opened.

The folder holds ``format``; ``layouts.jsonl``, one RowLayout a line; ``objects.jsonl``, the strings and long integers
that rows refer to by number; ``rows.f64``, the heap, little-endian float64; ``index.bin``, the start, layout and log
weight of each trace. All but the first are only ever appended to, and in that order, so that a table cut off anywhere
is readable up to the last whole entry.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppl_jax.errors import StorageError
from ppl_jax.storage.layouts import RowLayout
from ppl_jax.storage.tables import TraceTable

FORMAT = "ppl_jax trace table 1"
INDEX = np.dtype([("start", "<i8"), ("kind", "<i8"), ("log_weight", "<f8")])
_NUMBER = np.dtype("<f8")


class _GrowingFile:
    """A file written at positions that the caller counts: a write that was interrupted can be done again.

    It is open only while it is written to, which is seldom, so that a run that breaks off leaves nothing open.
    """

    def __init__(self, path: Path):
        self._path = path
        path.touch()

    def write(self, position: int, data: bytes) -> None:
        if data:
            with open(self._path, "r+b") as file:
                file.seek(position)
                file.write(data)

    def settle(self) -> None:
        """Waits until the operating system has the file on disk."""
        with open(self._path, "r+b") as file:
            os.fsync(file.fileno())


class TableFolder:
    """The files of a table that is being written.

    Args:
      path: folder to make; it may exist if it is empty.

    Raises:
      StorageError: there is something in the folder, or it cannot be made.
    """

    def __init__(self, path: Path):
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise StorageError(f"{path} is not empty. Give a new folder, or remove what is there.")
            (path / "format").write_text(FORMAT, encoding="utf-8")
            names = ("layouts.jsonl", "objects.jsonl", "rows.f64", "index.bin")
            self._layouts, self._objects, self._rows, self._index = (_GrowingFile(path / name) for name in names)
        except OSError as error:
            raise StorageError(
                f"No traces can be written to {path}: {error}. Give a folder that can be written to."
            ) from error
        self._layouts_written = (0, 0)  # lines, bytes
        self._objects_written = (0, 0)

    def write(
        self,
        layouts: Sequence[RowLayout],
        objects: Sequence[Any],
        heap: array,
        first_number: int,
        entries: np.ndarray,
        first_entry: int,
    ) -> None:
        """Writes the layouts and objects that are new, numbers and entries, each from its place on."""
        done, position = self._layouts_written
        data = _lines([layout.to_json() for layout in layouts[done:]])
        self._layouts.write(position, data)
        self._layouts_written = (len(layouts), position + len(data))
        done, position = self._objects_written
        data = _lines(objects[done:])
        self._objects.write(position, data)
        self._objects_written = (len(objects), position + len(data))
        numbers = np.frombuffer(heap, np.float64) if heap else np.empty(0)
        self._rows.write(first_number * _NUMBER.itemsize, numbers.astype(_NUMBER, copy=False).tobytes())
        self._index.write(first_entry * INDEX.itemsize, entries.tobytes())

    def settle(self) -> None:
        """Waits until the operating system has all on disk."""
        for file in (self._layouts, self._objects, self._rows, self._index):
            file.settle()


def _lines(items: Sequence[Any]) -> bytes:
    return "".join([json.dumps(item, separators=(",", ":")) + "\n" for item in items]).encode("ascii")


def open_table(path: str | Path) -> tuple[TraceTable, np.ndarray]:
    """Opens a table on disk by memory map.

    Args:
      path: the folder.

    Returns:
      The table, and the log weights, float64 (n,). Entries whose row or layout was cut off are left out.

    Raises:
      StorageError: there is no table at ``path``, it is of another format, or damaged.
    """
    path = Path(path)
    try:
        found = (path / "format").read_bytes()
        if found != FORMAT.encode():
            raise StorageError(
                f"{path} holds the format {found[:60]!r}, but '{FORMAT}' was expected. Read it with the version of "
                "ppl_jax that wrote it."
            )
        layouts = [_read_layout(path, line) for line in _whole_lines(path / "layouts.jsonl")]
        objects = [_read_json(path / "objects.jsonl", line) for line in _whole_lines(path / "objects.jsonl")]
        heap, index = _map(path / "rows.f64", _NUMBER), _map(path / "index.bin", INDEX)
    except OSError as error:
        raise StorageError(
            f"{path} is not a folder of stored traces: {error}. Give the path=... of the run."
        ) from error
    starts, kinds, log_weights = index["start"], index["kind"], index["log_weight"]
    whole = _whole_entries(layouts, starts, kinds, len(heap))
    if not whole.all():
        starts, kinds, log_weights = starts[whole], kinds[whole], log_weights[whole]
    return TraceTable(layouts, heap, starts, kinds, objects, path), log_weights


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def _read_json(path: Path, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}. Restore it from a copy, or make the traces again.") from error


def _read_layout(path: Path, line: bytes) -> RowLayout:
    data = _read_json(path / "layouts.jsonl", line)
    try:
        layout = RowLayout.from_json(data)
        if layout.width >= 1:
            return layout
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise StorageError(
            f"{path / 'layouts.jsonl'} is damaged, or of another version: {error}. Restore it from a copy, or make the "
            "traces again."
        ) from error
    raise StorageError(
        f"{path / 'layouts.jsonl'} is damaged: a row of {layout.width} numbers. Restore it from a copy, or make the "
        "traces again."
    )


def _whole_entries(layouts: list[RowLayout], starts: np.ndarray, kinds: np.ndarray, available: int) -> np.ndarray:
    """Which entries have a known layout and all numbers of their row, bool (n,)."""
    widths = np.array([*(layout.width for layout in layouts), 0], dtype=np.int64)
    known = (kinds >= 0) & (kinds < len(layouts))
    return known & (starts >= 0) & (starts + widths[np.where(known, kinds, len(layouts))] <= available)


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    """Memory map of all whole entries of a file."""
    count = path.stat().st_size // dtype.itemsize
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,))) if count else np.empty(0, dtype)
