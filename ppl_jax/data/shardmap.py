"""A shard under a memory map, and numbers picked from many places of it at once."""

from __future__ import annotations

import mmap
from pathlib import Path
from zlib import crc32

import numpy as np

from ppl_jax.data.encoding import FORMATS, Places
from ppl_jax.data.frames import Frame
from ppl_jax.data.recent import Recent
from ppl_jax.errors import StorageError

_PAGE = 4096
RELEASE_AFTER = 1 << 28  # bytes that may have been read through a map before its pages are given back


class Mapping:
    """The memory map of a file: its data as bytes, and views of them in every number format."""

    def __init__(self, path: Path, length: int):
        try:
            with open(path, "rb") as file:
                self.map = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path} cannot be read: {error}. Make it readable, or restore it from a copy."
            ) from error
        self.data = np.frombuffer(self.map, np.uint8)
        self.views = [np.frombuffer(self.map, dtype, length // dtype.itemsize) for dtype in FORMATS]


class ShardMap:
    """The whole frames of a shard.

    Args:
      path: the file.
      length: bytes to map.
      number: of the shard.
      mappings: the maps in use, by number: as many as may be open at once.
      check: whether the checksum of a block is checked when the block is read for the first time.
    """

    def __init__(self, path: Path, length: int, number: int, mappings: Recent[Mapping], check: bool = True):
        self.path = path
        self.length = length
        self._number = number
        self._mappings = mappings
        self._checked: set[int] = set()
        self._check = check
        self._read = 0

    @property
    def _mapping(self) -> Mapping:
        return self._mappings.get(self._number, lambda _: (Mapping(self.path, self.length), 1))

    @property
    def data(self) -> np.ndarray:
        """All bytes, uint8."""
        return self._mapping.data

    def part(self, start: int, length: int) -> bytes:
        """Bytes of the file."""
        return self.data[start : start + length].tobytes()

    def check_payload(self, frame: Frame) -> None:
        """Checks, the first time, that the payload of a block is what was written.

        Raises:
          StorageError: it is not.
        """
        if not self._check or frame.number in self._checked:
            return
        self._count(frame.length)
        if crc32(memoryview(self._mapping.map)[frame.payload_start : frame.end]) != frame.payload_checksum:
            raise StorageError(
                f"{self.path}, block {frame.number} (bytes {frame.start} to {frame.end}): the checksum of the numbers "
                "is not the one they were written with: the file was changed or the disk is failing. Restore the shard "
                "from a copy, or make its traces again; `ppl-jax dataset verify` lists all that is damaged."
            )
        self._checked.add(frame.number)

    def gather(self, base: np.ndarray, code: np.ndarray) -> np.ndarray:
        """The numbers at bytes ``base`` of formats ``code``, both (n, k); float64 (n, k)."""
        self._count(min(base.size * _PAGE, self.length))
        if int(code.max(initial=0)) <= 1:  # float64, the usual case
            return self._mapping.views[0][base >> 3]
        numbers = np.empty(base.shape)
        for found in np.unique(code).tolist():
            chosen = code == found
            numbers[chosen] = self._mapping.views[found][base[chosen] // FORMATS[found].itemsize]
        return numbers

    def gather_runs(self, base: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
        """Runs of ``size`` numbers that begin at bytes ``base`` of formats ``code``, both (n,).

        Returns:
          Array (n, size), of the format they have, float64 where that differs between them.
        """
        found = np.unique(code).tolist()
        if len(found) == 1:
            return self._runs(base, found[0], size)
        numbers = np.empty((len(base), size))
        for one in found:
            numbers[code == one] = self._runs(base[code == one], one, size)
        return numbers

    def _runs(self, base: np.ndarray, code: int, size: int) -> np.ndarray:
        self._count(min(len(base) * (size * FORMATS[code].itemsize + _PAGE), self.length))
        view, first = self._mapping.views[code], base // FORMATS[code].itemsize
        runs = np.empty((len(base), size), FORMATS[code])
        for row, start in enumerate(first.tolist()):
            runs[row] = view[start : start + size]
        return runs

    def _count(self, length: int) -> None:
        self._read += length
        if self._read > RELEASE_AFTER and self.length > RELEASE_AFTER // 4:
            self.release()

    def release(self) -> None:
        """Gives the pages that were read back to the system, which keeps them cached as long as it has room."""
        self._mapping.map.madvise(mmap.MADV_DONTNEED)
        self._read = 0


def pick(shards: list[ShardMap], which: np.ndarray, base: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Numbers from several shards: ``which`` (n,) tells the shard of each row of ``base`` and ``code`` (n, k)."""
    if len(which) and (which == which[0]).all():
        return shards[which[0]].gather(base, code)
    present = np.unique(which).tolist()
    numbers = np.empty(base.shape)
    for shard in present:
        rows = np.flatnonzero(which == shard)
        numbers[rows] = shards[shard].gather(base[rows], code[rows])
    return numbers


def pick_runs(shards: list[ShardMap], which: np.ndarray, base: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
    """Runs of ``size`` numbers from several shards: ``which``, ``base`` and ``code`` are (n,)."""
    present = np.unique(which).tolist()
    parts = [shards[shard].gather_runs(base[which == shard], code[which == shard], size) for shard in present]
    if len(parts) == 1:
        return parts[0]
    runs = np.empty((len(which), size), np.result_type(*parts))
    for shard, part in zip(present, parts, strict=True):
        runs[which == shard] = part
    return runs


def places_at(places: Places, entries: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Byte and format of every column in row ``rows`` (n,) of group ``entries`` (n,): both (n, c)."""
    return places.base[entries] + rows[:, None] * places.step[entries], places.code[entries]
