"""The folder of a dataset: shards, and a manifest of those that are finished, here or in other folders.

``dataset.json`` lists the finished shards; it is replaced as a whole under a lock, so it is either the old one or the
new one. Its second line is the checksum of the first. Shards of this folder that it does not list are being written, or
their writers were killed; they are read as far as they go.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ppl_jax.data.frames import SIZE, Scan, scan
from ppl_jax.errors import StorageError

FORMAT = "ppl_jax dataset 1"
MANIFEST, LOCK, SUFFIX = "dataset.json", "dataset.lock", ".shard"


class Manifest(NamedTuple):
    """What ``dataset.json`` says: the id of the dataset (16 bytes in hexadecimal), and its finished shards."""

    id: str
    shards: list[Listed]


class Listed(NamedTuple):
    """A finished shard: its ``path`` relative to the folder, id in hexadecimal, traces, blocks, bytes."""

    path: str
    id: str
    traces: int
    blocks: int
    bytes: int


class Found(NamedTuple):
    """The shards of a dataset in order, what was found in each, and what is wrong with the folder."""

    paths: list[Path]
    scans: list[Scan]
    problems: list[str]


def create(path: Path) -> None:
    """Makes an empty dataset; nothing happens where there is one.

    Raises:
      StorageError: there is something else in the folder, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / MANIFEST).exists():
            read_manifest(path)
            return
        strangers = [found.name for found in path.iterdir() if found.name != LOCK and not found.name.startswith(".")]
        if strangers:
            raise StorageError(
                f"{path} is no dataset, and not empty (it holds {strangers[0]!r}). Give a new folder, or remove what "
                "is there."
            )
        with _locked(path):
            if not (path / MANIFEST).exists():
                _write_manifest(path, Manifest(secrets.token_hex(16), []))
    except OSError as error:
        raise StorageError(
            f"No dataset can be written to {path}: {error}. Give a folder that can be written to."
        ) from error


def read_manifest(path: Path) -> Manifest:
    """The manifest of a dataset.

    Raises:
      StorageError: there is no manifest, it is damaged, or of another version.
    """
    file = path / MANIFEST
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{path} is no dataset: {file} cannot be read ({error.strerror}). Give the folder that save_dataset wrote."
        ) from error
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2] or lines[1] != b"%08x" % crc32(lines[0]):
        raise StorageError(
            f"{file} is damaged: its checksum does not agree. Restore it from a copy; or read the shards of the folder "
            "with open_dataset(..., recover=True)."
        )
    try:
        content = json.loads(lines[0])
        if content["format"] != FORMAT:
            raise StorageError(
                f"{file} has the format {content['format']!r}, but '{FORMAT}' was expected. Read it with the version "
                "of ppl_jax that wrote it."
            )
        return Manifest(content["id"], [Listed(*entry) for entry in content["shards"]])
    except (ValueError, TypeError, LookupError) as error:
        raise StorageError(
            f"{file} is not the manifest of a dataset ({error}). Restore it from a copy; or read the shards of the "
            "folder with open_dataset(..., recover=True)."
        ) from error


def _write_manifest(path: Path, manifest: Manifest) -> None:
    line = json.dumps({"format": FORMAT, **manifest._asdict()}, separators=(",", ":")).encode()
    temporary = path / f".{MANIFEST}.{secrets.token_hex(8)}"
    try:
        with open(temporary, "wb") as file:
            file.write(line + b"\n%08x\n" % crc32(line))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    settle_folder(path)


def settle_folder(path: Path) -> None:
    """Waits until the names in a folder are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path / LOCK, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def add_to_manifest(path: Path, shards: list[Listed]) -> None:
    """Adds finished shards. Of one that is listed already, what is known of more blocks is kept."""
    with _locked(path):
        manifest = read_manifest(path)
        known = {entry.id: entry for entry in manifest.shards}
        for entry in shards:
            if entry.blocks >= known.get(entry.id, entry).blocks:
                known[entry.id] = entry
        _write_manifest(path, manifest._replace(shards=list(known.values())))


def new_shard(path: Path) -> tuple[Path, int]:
    """Makes an empty shard of a name of its own; gives its path and the descriptor to write to."""
    number = 1 + max((_number(found) for found in path.glob(f"*{SUFFIX}")), default=-1)
    while True:
        file = path / f"{number:06d}{SUFFIX}"
        try:
            return file, os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            number += 1


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdecimal() else -1


def find(path: Path, recover: bool = False) -> Found:
    """The shards of a dataset and what their headers say.

    Raises:
      StorageError: unless ``recover``: a shard that the manifest lists is missing, cut off or another one.
    """
    problems: list[str] = []
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(path)
    except StorageError as error:
        if not recover or not path.is_dir():
            raise
        problems.append(str(error))
    shards: list[tuple[Path, Scan]] = []
    seen = set()
    for entry in manifest.shards if manifest else ():
        file = (path / entry.path).resolve()
        problem = None
        found = None
        try:
            found = scan(file)
            problem = _difference(file, entry, found)
        except StorageError as error:
            problem = str(error)
        if problem is not None:
            if not recover:
                raise StorageError(problem)
            problems.append(problem)
        if found is not None:
            shards.append((file, found))
        seen.add(file)
    for file in sorted(found.resolve() for found in path.glob(f"*{SUFFIX}")):
        if file in seen:
            continue
        try:
            found = scan(file)
            if manifest and found.id and found.dataset.hex() != manifest.id:
                raise StorageError(
                    f"{file} is a shard of another dataset. Move it out of the folder; to combine datasets, give their "
                    "folders to merge_datasets or `ppl-jax dataset merge`."
                )
        except StorageError as error:
            if not recover:
                raise
            problems.append(str(error))
            continue
        if found.id:
            shards.append((file, found))
    # Those of this folder in the order in which they were begun, which is not that in which they were finished.
    own = iter(sorted((shard for shard in shards if shard[0].parent == path.resolve()), key=lambda shard: shard[0]))
    shards = [next(own) if shard[0].parent == path.resolve() else shard for shard in shards]
    return Found([file for file, _ in shards], [found for _, found in shards], problems)


def _difference(file: Path, entry: Listed, found: Scan) -> str | None:
    """What is wrong with a shard that the manifest lists."""
    remedy = "Restore it from a copy, or read what is whole with open_dataset(..., recover=True)."
    if found.id and found.id.hex() != entry.id:
        return f"{file} is not the shard that the dataset was made of (id {found.id.hex()}, not {entry.id}). {remedy}"
    size = file.stat().st_size
    if size < entry.bytes:
        return (
            f"{file} is cut off at byte {size} of {entry.bytes}, in block {len(found.frames)}: {len(found.frames)} of "
            f"{entry.blocks} blocks are whole. {remedy}"
        )
    if len(found.frames) < entry.blocks and not found.problems:
        return f"{file} holds {len(found.frames)} of {entry.blocks} blocks. {remedy}"
    return None


def entry_of(folder: Path, file: Path, found: Scan) -> Listed:
    """The line of the manifest for a shard."""
    relative = os.path.relpath(file, folder.resolve())
    traces = sum(frame.traces for frame in found.frames)
    length = found.frames[-1].end if found.frames else SIZE
    return Listed(relative, found.id.hex(), traces, len(found.frames), length)
