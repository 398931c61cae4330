"""Frames: how a shard's bytes are cut into blocks, each with checksums, so that whole can be told from damaged.

A shard is a file that is only ever appended to, by one process. It begins with a header of 64 bytes and goes on with
frames. A frame is a header of 64 bytes, a directory (what the block holds and where) and a payload (the numbers), each
with a CRC-32 of its own; every byte of the file is under one of them. A shard whose writer came to its end closes with
a frame that says how many blocks and traces there are. All integers are little-endian, all frames multiples of 8 bytes.

A frame is written by one call, after all frames before it: wherever a writer is killed, the file is a number of whole
frames and the beginning of one more.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

from ppl_jax.errors import StorageError

VERSION = 1
SIZE = 64  # bytes of a header
_SEARCHED = 1 << 20  # bytes that are searched together for the next whole header after a damaged one; a multiple of 8
_SHARD, _BLOCK, _END = b"PPLSHARD", b"PPLBLOCK", b"PPLCLOSE"
_OPENING = struct.Struct("<8sII16s16s12sI")  # magic, version, 0, ids of shard and dataset, zeros, checksum
# magic, bytes of the frame, bytes of the directory, traces, number of the block, 0,
# checksums of directory and payload, 0, checksum of the header
_HEADER = struct.Struct("<8sQQQQQIIII")


class Frame(NamedTuple):
    """A block as its header describes it; ``start`` is where the frame begins in the file, ``length`` its bytes."""

    start: int
    length: int
    directory_length: int
    traces: int
    number: int
    directory_checksum: int
    payload_checksum: int

    @property
    def directory_start(self) -> int:
        return self.start + SIZE

    @property
    def payload_start(self) -> int:
        return self.start + SIZE + self.directory_length

    @property
    def end(self) -> int:
        return self.start + self.length


class Scan(NamedTuple):
    """What is found in a shard: its id and that of the dataset it was written to (16 bytes each), and its whole frames.

    ``closed``: whether its writer came to the end; ``length``: bytes up to the end of the last frame; ``problems``: a
    sentence for each place that is damaged, beginning with the file and the block.
    """

    id: bytes
    dataset: bytes
    frames: list[Frame]
    closed: bool
    length: int
    problems: list[str]


def opening(identity: bytes, dataset: bytes) -> bytes:
    """The first bytes of a shard of the given id, in the dataset of the given id (16 bytes each)."""
    data = _OPENING.pack(_SHARD, VERSION, 0, identity, dataset, bytes(12), 0)[:-4]
    return data + struct.pack("<I", crc32(data))


def frame(identity: bytes, number: int, traces: int, directory: bytes, payload: bytes) -> bytes:
    """The bytes of a block; the length of directory and payload must be a multiple of 8."""
    length = SIZE + len(directory) + len(payload)
    return _header(identity, _BLOCK, length, len(directory), traces, number, directory, payload) + directory + payload


def closing(identity: bytes, blocks: int, traces: int) -> bytes:
    """The frame that closes a shard."""
    return _header(identity, _END, SIZE, 0, traces, blocks, b"", b"")


def _header(
    identity: bytes, magic: bytes, length: int, middle: int, traces: int, number: int, directory: bytes, payload: bytes
) -> bytes:
    data = _HEADER.pack(magic, length, middle, traces, number, 0, crc32(directory), crc32(payload), 0, 0)[:-4]
    return data + struct.pack("<I", crc32(data, crc32(identity)))


def scan(path: Path) -> Scan:
    """Walks over the frames of a shard and checks their headers, not what is in them.

    A frame that the file's end cuts off is left out without a word: its writer was killed, or is still writing.

    Raises:
      StorageError: this is no shard, or one of another version.
    """
    try:
        with open(path, "rb") as file:
            return _scan(path, file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}. Make it readable, or restore it from a copy.") from error


def _scan(path: Path, file: BinaryIO, size: int) -> Scan:
    ids = _read_opening(path, file.read(SIZE))
    if ids is None:
        return Scan(b"", b"", [], False, 0, [])
    identity, dataset = ids
    frames: list[Frame] = []
    problems: list[str] = []
    position, closed = SIZE, False
    while position + SIZE <= size:
        file.seek(position)
        data = file.read(SIZE)
        block = f"{path}, block {len(frames)} (at byte {position})"
        magic, length, middle, traces, number, zero, directory, payload, rest, checksum = _HEADER.unpack(data)
        sound = crc32(data[:-4], crc32(identity)) == checksum and magic in (_BLOCK, _END) and not zero and not rest
        if closed:
            problems.append(f"{block}: {size - position} bytes follow the end of the shard.")
            break
        if not sound:
            if not any(data) and not _any_after(file):
                break  # the machine stopped before the file system had written what it had made room for
            following = _next_frame(file, identity, position + 8)
            problems.append(f"{block}: the header is damaged.")
            if following is None:
                break
            position = following
        elif magic == _END:
            closed = True
            if (number, traces) != (len(frames), sum(found.traces for found in frames)) and not problems:
                problems.append(f"{block}: the end speaks of {number} blocks, {len(frames)} were found.")
            position += length
        elif position + length > size:
            break
        else:
            frames.append(Frame(position, length, middle, traces, number, directory, payload))
            position += length
    if closed and position < size and not problems:
        problems.append(f"{path}: {size - position} bytes follow the end of the shard.")
    return Scan(identity, dataset, frames, closed, position, problems)


def _read_opening(path: Path, data: bytes) -> tuple[bytes, bytes] | None:
    """The ids of shard and dataset; None where its writer was killed before the first 64 bytes were written."""
    whole = _SHARD + struct.pack("<II", VERSION, 0)
    if len(data) < SIZE and data[: len(whole)] == whole[: len(data)]:
        return None
    if not data.startswith(_SHARD):
        raise StorageError(
            f"{path} is no shard of a dataset: it begins with {data[:8]!r}, expected {_SHARD!r}. Move it out of the "
            "folder, or restore it from a copy."
        )
    _, version, zero, identity, dataset, _, checksum = _OPENING.unpack(data)
    if crc32(data[:-4]) != checksum or zero:
        raise StorageError(f"{path}: the header of the shard is damaged. Restore it from a copy, or make it again.")
    if version != VERSION:
        raise StorageError(
            f"{path} is a shard of version {version}, but version {VERSION} was expected. Read it with the version of "
            "ppl_jax that wrote it."
        )
    return identity, dataset


def _any_after(file: BinaryIO) -> bool:
    """Whether anything but zeros follows."""
    return any(any(part) for part in iter(lambda: file.read(1 << 20), b""))


def _next_frame(file: BinaryIO, identity: bytes, position: int) -> int | None:
    """Where, from ``position`` on, the next sound header stands."""
    for start, data in _headers(file, position):
        if crc32(data[:-4], crc32(identity)) == _HEADER.unpack(data)[-1]:
            return start
    return None


def _headers(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    """All places, multiples of 8, at which there are 64 bytes that begin like a header."""
    while True:
        file.seek(position)
        data = file.read(_SEARCHED + SIZE)
        found = data.find(_BLOCK[:3])
        while 0 <= found < _SEARCHED:
            if found % 8 == 0 and data[found : found + 8] in (_BLOCK, _END) and found + SIZE <= len(data):
                yield position + found, data[found : found + SIZE]
            found = data.find(_BLOCK[:3], found + 1)
        if len(data) < _SEARCHED + SIZE:
            return
        position += _SEARCHED
