"""Datasets made of the shards of others, and the search for damage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ppl_jax.data.agreement import check_agreement
from ppl_jax.data.contents import Contents
from ppl_jax.data.dataset import Dataset, open_dataset
from ppl_jax.data.folder import add_to_manifest, create, entry_of, find
from ppl_jax.errors import StorageError


def merge_datasets(sources: Sequence[str | Path], path: str | Path) -> Dataset:
    """A dataset that consists of the shards of others, where these are: nothing is copied.

    Shards that are begun in the others later are not part of it.

    Args:
      sources: folders of datasets of one model.
      path: folder of the new dataset; if there is a dataset already, the shards are added to it.

    Returns:
      The dataset. It refers to the shards by relative paths: move them together, or copy the shards next to it.

    Raises:
      StorageError: one is no dataset or damaged, they are of different models, or hold the same executions.
    """
    path = Path(path)
    if not sources:
        raise ValueError("merge_datasets needs at least one dataset to merge.")
    folders = [Path(source) for source in sources]
    opened = [open_dataset(folder) for folder in folders]
    if (path / "dataset.json").exists():
        opened.insert(0, open_dataset(path))
        folders.insert(0, path)
    for first, second in pairwise(opened):
        check_agreement(first.outline, second.outline)
    found = {file: scan for folder in folders for file, scan in _shards(folder) if scan.frames}
    unique = list({scan.id: (file, scan) for file, scan in found.items()}.values())
    Contents([file for file, _ in unique], [scan for _, scan in unique])  # raises if executions occur twice
    create(path)
    add_to_manifest(path, [entry_of(path, file, scan) for file, scan in unique])
    return open_dataset(path)


def _shards(folder: Path) -> list:
    found = find(folder)
    return list(zip(found.paths, found.scans, strict=True))


def verify_dataset(path: str | Path) -> list[str]:
    """Reads every byte of a dataset and compares it with the checksums.

    Args:
      path: its folder.

    Returns:
      A sentence for each thing that is wrong, naming file and block; empty if all is well. What a writer that was
      killed left unfinished is not wrong.

    Raises:
      StorageError: there is no dataset.
    """
    path = Path(path)
    if not (path / "dataset.json").exists() and not any(path.glob("*.shard")):
        raise StorageError(
            f"{path} is no dataset: it has neither dataset.json nor shards. Give the folder that save_dataset wrote."
        )
    found = find(path, recover=True)
    problems = list(found.problems)
    contents = Contents(found.paths, found.scans, recover=True)
    problems += contents.problems
    for block in contents.blocks:
        shard = contents.shards[block.shard]
        try:
            shard.check_payload(block.frame)
        except StorageError as error:
            problems.append(str(error))
        shard.release()
    return list(dict.fromkeys(problems))
