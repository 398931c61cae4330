"""What is left of a dataset after a fault: every finished block; and what is said of it: file and block."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dataset_programs import ENVIRONMENT, everything, rows

import ppl_jax as ppl
from ppl_jax.data import ShardWriter, frames, new_dataset, open_dataset, verify_dataset
from ppl_jax.errors import StorageError

BLOCK = 8


@pytest.fixture(scope="module")
def prior():
    return ppl.prior(everything, 3 * BLOCK, seed=3, progress=False)


@pytest.fixture(scope="module")
def unfinished(prior, tmp_path_factory):
    """A folder as a writer that was killed after its third block leaves it."""
    path = tmp_path_factory.mktemp("faults") / "set"
    writer = ShardWriter(path, block_traces=BLOCK)
    writer.extend(prior.values, prior.log_weights)
    return path


@pytest.fixture(scope="module")
def finished(prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "set"
    with ShardWriter(path, block_traces=BLOCK) as writer:
        writer.extend(prior.values, prior.log_weights)
    return path


def shard_of(path):
    (shard,) = path.glob("*.shard")
    return shard


def copy(source, target):
    return Path(shutil.copytree(source, target))


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_byte_leaves_every_finished_block(unfinished, prior, step, tmp_path):
    path = copy(unfinished, tmp_path / "set")
    shard, expected = shard_of(path), rows(prior.values)
    data = shard.read_bytes()
    ends = [frames.SIZE] + [frame.end for frame in frames.scan(shard).frames]
    assert len(ends) == 4 and ends[-1] == len(data)
    near = [*range(frames.SIZE + 1), *range(ends[1] - 9, ends[1] + 99), *range(len(data) - 20, len(data) + 1)]
    for length in [*near, *range(ends[-2], len(data) + 1, step)]:
        with open(shard, "wb") as file:
            file.write(data[:length])
        dataset = open_dataset(path)
        whole = max((k for k, end in enumerate(ends) if end <= length), default=0)
        assert len(dataset) == BLOCK * whole
        if length in (ends[whole], ends[whole] + 1, ends[whole] + 70, len(data) - 1):
            assert rows(dataset[:]) == expected[: BLOCK * whole]
            assert verify_dataset(path) == []


def test_what_a_killed_writer_left_is_built_upon(unfinished, prior, tmp_path):
    path = copy(unfinished, tmp_path / "set")
    with open(shard_of(path), "r+b") as file:
        file.truncate(shard_of(path).stat().st_size - 5)
    dataset = open_dataset(path)
    dataset.append(prior)
    expected = rows(prior.values)
    assert rows(dataset[:]) == expected[: 2 * BLOCK] + expected
    assert verify_dataset(path) == []


def test_room_that_was_never_written_to_is_no_damage(unfinished, prior, tmp_path):
    """After a power failure a file may be as long as it should be, and zeros where nothing reached the disk."""
    path = copy(unfinished, tmp_path / "set")
    shard = shard_of(path)
    start = frames.scan(shard).frames[2].start
    data = shard.read_bytes()
    shard.write_bytes(data[:start] + bytes(len(data) - start))
    assert rows(open_dataset(path)[:]) == rows(prior.values)[: 2 * BLOCK]


def test_a_finished_shard_that_was_cut_off_is_named(finished, prior, tmp_path):
    path = copy(finished, tmp_path / "set")
    shard, expected = shard_of(path), rows(prior.values)
    found = frames.scan(shard).frames
    for length in sorted({found[2].end - 1, found[2].start + 70, found[2].start, found[1].start + 1, 64, 10, 0}):
        with open(shard, "r+b") as file:
            file.truncate(length)
        whole = sum(frame.end <= length for frame in found)
        with pytest.raises(
            StorageError, match=rf"{shard.name} is cut off at byte {length} of .* in block {whole}: {whole} of 3"
        ):
            open_dataset(path)
        recovered = open_dataset(path, recover=True)
        assert rows(recovered[:]) == expected[: BLOCK * whole]
        assert any(shard.name in problem for problem in recovered.problems)
        assert any("cut off" in problem for problem in verify_dataset(path))
        shutil.copy(shard_of(finished), shard)
    shard.unlink()
    with pytest.raises(StorageError, match=rf"{shard.name} cannot be read"):
        open_dataset(path)
    assert len(open_dataset(path, recover=True)) == 0 and len(verify_dataset(path)) == 1


def test_a_manifest_cut_off_anywhere_is_named_and_the_shards_are_read(finished, prior, tmp_path):
    path = copy(finished, tmp_path / "set")
    data = (path / "dataset.json").read_bytes()
    expected = rows(prior.values)
    for length in range(len(data)):
        (path / "dataset.json").write_bytes(data[:length])
        with pytest.raises(StorageError, match=r"dataset\.json is damaged"):
            open_dataset(path)
        if length % 10:
            continue
        assert len(verify_dataset(path)) == 1
        assert len(open_dataset(path, recover=True)) == 3 * BLOCK
    assert rows(open_dataset(path, recover=True)[:]) == expected
    (path / "dataset.json").unlink()
    with pytest.raises(StorageError, match="is no dataset"):
        open_dataset(path)
    assert rows(open_dataset(path, recover=True)[:]) == expected


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["finished", "unfinished"])
def test_every_changed_byte_is_found_and_named(name, step, request, tmp_path):
    path = copy(request.getfixturevalue(name), tmp_path / "set")
    assert verify_dataset(path) == []
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        for place in [*range(min(80, len(data))), *range(80, len(data), step)]:
            changed = bytearray(data)
            changed[place] ^= 1 << (place % 8)
            file.write_bytes(changed)
            problems = verify_dataset(path)
            assert problems and all(file.name in problem for problem in problems), (file.name, place)
        file.write_bytes(data)
    assert verify_dataset(path) == []


def test_a_changed_number_is_an_error_where_it_is_read_and_nowhere_else(finished, prior, tmp_path):
    path = copy(finished, tmp_path / "set")
    shard, expected = shard_of(path), rows(prior.values)
    block = frames.scan(shard).frames[1]
    data = bytearray(shard.read_bytes())
    data[block.end - 20] ^= 4
    shard.write_bytes(data)
    dataset = open_dataset(path)
    message = rf"{shard.name}, block 1 \(bytes {block.start} to {block.end}\): the checksum of the numbers"
    assert rows(dataset[:BLOCK]) == expected[:BLOCK]
    assert rows(dataset[2 * BLOCK :]) == expected[2 * BLOCK :]
    with pytest.raises(StorageError, match=message):
        dataset[BLOCK]
    with pytest.raises(StorageError, match=message):
        list(dataset.minibatches(4))
    assert len(open_dataset(path, check=False)[:]) == 3 * BLOCK
    (problem,) = verify_dataset(path)
    assert "block 1" in problem


def test_a_damaged_block_is_left_out_and_the_others_are_read(finished, prior, tmp_path):
    path = copy(finished, tmp_path / "set")
    shard, expected = shard_of(path), rows(prior.values)
    whole = shard.read_bytes()
    block = frames.scan(shard).frames[2]
    for place, part in ((block.start + 9, "header"), (block.directory_start + 3, "directory")):
        data = bytearray(whole)
        data[place] ^= 4
        shard.write_bytes(data)
        with pytest.raises(StorageError, match=rf"{shard.name}, block 2 \(at byte {block.start}\): the .*{part}"):
            open_dataset(path)
        recovered = open_dataset(path, recover=True)
        assert rows(recovered[:]) == expected[: 2 * BLOCK]
        assert f"block 2 (at byte {block.start})" in recovered.problems[0]
    # Later blocks need what an earlier one says of their sites: what they need of it is missed, not taken for another.
    first = frames.Frame(*frames.scan(shard_of(finished)).frames[0])
    data = bytearray(whole)
    data[first.directory_start + 3] ^= 4
    shard.write_bytes(data)
    recovered = open_dataset(path, recover=True)
    assert len(recovered) == 0 and "described in a block before it, which is damaged" in recovered.problems[1]


def test_blocks_after_a_damaged_one_that_do_not_need_it_are_read(tmp_path):
    prior = ppl.prior(lambda: ppl.sample(ppl.distributions.Normal(0.0, 1.0), name="x"), 30, seed=0, progress=False)
    with ShardWriter(tmp_path / "set", block_traces=10) as writer:
        writer.extend(prior.values, prior.log_weights)
    shard = shard_of(tmp_path / "set")
    block = frames.scan(shard).frames[1]
    for place in (block.start + 9, block.directory_start + 3):
        data = bytearray(shard.read_bytes())
        data[place] ^= 1
        shard.write_bytes(data)
        recovered = open_dataset(tmp_path / "set", recover=True)
        assert rows(recovered[:]) == rows(prior.values[:10]) + rows(prior.values[20:])
        data[place] ^= 1
        shard.write_bytes(data)


def test_the_next_header_is_found_wherever_it_stands(tmp_path, monkeypatch):
    """The search goes piece by piece; a header may lie across two of them."""
    prior = ppl.prior(lambda: ppl.sample(ppl.distributions.Normal(0.0, 1.0), name="x"), 30, seed=0, progress=False)
    with ShardWriter(tmp_path / "set", block_traces=10) as writer:
        writer.extend(prior.values, prior.log_weights)
    shard = shard_of(tmp_path / "set")
    data = bytearray(shard.read_bytes())
    data[frames.scan(shard).frames[0].start + 9] ^= 1
    shard.write_bytes(data)
    for searched in (8, 64, 72, 136, 1 << 20):
        monkeypatch.setattr(frames, "_SEARCHED", searched)
        found = frames.scan(shard)
        assert [frame.number for frame in found.frames] == [1, 2] and found.closed and len(found.problems) == 1


def test_a_shard_of_something_else(finished, tmp_path):
    path = copy(finished, tmp_path / "set")
    stranger = path / "000007.shard"
    stranger.write_bytes(b"GIF89a" + bytes(100))
    with pytest.raises(StorageError, match=r"000007\.shard is no shard of a dataset: it begins with b'GIF89a"):
        open_dataset(path)
    assert len(open_dataset(path, recover=True)) == 3 * BLOCK
    stranger.write_bytes(b"")  # a writer that was killed before its first byte
    assert len(open_dataset(path)) == 3 * BLOCK


def test_a_shard_of_another_dataset(finished, unfinished, tmp_path):
    path = copy(finished, tmp_path / "set")
    shutil.copy(shard_of(unfinished), path / "000007.shard")
    with pytest.raises(StorageError, match=r"000007\.shard is a shard of another dataset.*merge"):
        open_dataset(path)
    (path / "000007.shard").unlink()
    shutil.copy(shard_of(unfinished), shard_of(path))
    with pytest.raises(StorageError, match="is not the shard that the dataset was made of"):
        open_dataset(path)


def test_another_version(finished, tmp_path):
    path = copy(finished, tmp_path / "set")
    shard = shard_of(path)
    data = bytearray(shard.read_bytes())
    data[8] = 9
    data[60:64] = frames.crc32(data[:60]).to_bytes(4, "little")
    shard.write_bytes(data)
    with pytest.raises(StorageError, match=rf"{shard.name} is a shard of version 9, but version 1 was expected"):
        open_dataset(path)
    line = b'{"format":"ppl_jax dataset 9","id":"","shards":[]}'
    (path / "dataset.json").write_bytes(line + b"\n%08x\n" % frames.crc32(line))
    with pytest.raises(StorageError, match="has the format 'ppl_jax dataset 9', but 'ppl_jax dataset 1' was expected"):
        open_dataset(path)


WRITER = """
import numpy as np
from dataset_programs import everything
import ppl_jax as ppl
from ppl_jax.data import ShardWriter
prior = ppl.prior(everything, 200, seed=3, progress=False)
print("ready", flush=True)
while True:
    with ShardWriter({path!r}, block_traces=5) as writer:
        for low in range(0, 200, 5):
            writer.extend(prior.values[low : low + 5], np.zeros(5))
            print("block", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("repeat", range(8))
def test_a_writer_killed_at_random_leaves_every_block_it_finished(tmp_path, repeat):
    path = tmp_path / "set"
    new_dataset(path)
    script = WRITER.format(path=str(path))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(repeat).uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().count("block\n")
    expected = rows(ppl.prior(everything, 200, seed=3, progress=False).values)
    dataset = open_dataset(path)
    assert told * 5 <= len(dataset) <= (told + 1) * 5
    assert rows(dataset[:]) == [expected[k % 200] for k in range(len(dataset))]
    assert verify_dataset(path) == []


def test_a_disk_without_room_loses_only_the_block(tmp_path, prior, monkeypatch):
    path = tmp_path / "set"
    writer = ShardWriter(path, block_traces=BLOCK)
    writer.extend(prior.values[:BLOCK], np.zeros(BLOCK))
    write = os.pwrite

    def full(descriptor, data, position):
        write(descriptor, data[:100], position)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=r"000000\.shard, block 1 cannot be written: .*No space left"):
        writer.extend(prior.values[BLOCK : 2 * BLOCK], np.zeros(BLOCK))
    assert rows(open_dataset(path)[:]) == rows(prior.values[:BLOCK])
    monkeypatch.undo()
    writer.extend(prior.values[BLOCK : 2 * BLOCK], np.zeros(BLOCK))
    writer.close()
    assert rows(open_dataset(path)[:]) == rows(prior.values[: 2 * BLOCK])
    assert verify_dataset(path) == []


def test_an_interruption_while_a_block_is_written_repeats_the_write(tmp_path, prior, monkeypatch):
    path = tmp_path / "set"
    sync, calls = os.fdatasync, []

    def interrupted(descriptor):
        sync(descriptor)
        calls.append(descriptor)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdatasync", interrupted)

    def write():
        with ShardWriter(path, block_traces=BLOCK) as writer:
            for trace in prior:
                writer.append(trace, 0.0)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert rows(open_dataset(path)[:]) == rows(prior.values[: 2 * BLOCK])
    assert verify_dataset(path) == []
