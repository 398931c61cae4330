"""Tables on disk that were cut off, changed, or are something else."""

import json
import shutil

import numpy as np
import pytest
from stored_programs import assert_same_value, everything, gum, traces_of

from ppl_jax.errors import StorageError
from ppl_jax.storage import TraceWriter, open_table

FILES = ["layouts.jsonl", "objects.jsonl", "rows.f64", "index.bin"]
COUNT = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / "whole"
    writer = TraceWriter(path)
    for k, trace in enumerate(traces_of(everything, COUNT, {"y": 0.25})):
        writer.append(trace, float(k))
    writer.finish()
    return path


def read(path):
    """Every trace that can be read, by its log weight; what of it is lost is None."""
    found = {}
    for trace, log_weight in zip(*open_table(path), strict=True):
        try:
            found[int(log_weight)] = (trace["x"], trace.result)
        except StorageError:
            found[int(log_weight)] = (trace["x"], None)
    return found


def cut(source, target, name, length):
    shutil.copytree(source, target)
    with open(target / name, "r+b") as file:
        file.truncate(length)
    return target


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_loses_only_what_was_cut(whole, tmp_path, name):
    expected, length = read(whole), (whole / name).stat().st_size
    assert len(expected) == COUNT
    last = -1
    for k, cut_at in enumerate(sorted({*np.linspace(0, length, 60).astype(int).tolist(), length - 1})):
        found = read(cut(whole, tmp_path / str(k), name, cut_at))
        for number, (x, result) in found.items():
            assert x == expected[number][0]
            if result is not None:
                assert_same_value(result, expected[number][1])
        readable = sum(result is not None for _, result in found.values())
        assert readable >= last
        last = readable
    assert last == COUNT


def test_format_file_cut_off(whole, tmp_path):
    for length in range(len((whole / "format").read_bytes())):
        with pytest.raises(StorageError, match="holds the format"):
            open_table(cut(whole, tmp_path / str(length), "format", length))


@pytest.mark.parametrize("name", ["format", *FILES])
def test_a_missing_file(whole, tmp_path, name):
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(StorageError, match=f"not a folder of stored traces: .*{name}"):
        open_table(tmp_path / "copy")


def test_another_format(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / "format").write_bytes(b"\xff other")
    with pytest.raises(StorageError, match="but 'ppl_jax trace table 1' was expected"):
        open_table(tmp_path / "copy")


def test_no_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "never", tmp_path / "file", tmp_path):
        with pytest.raises(StorageError, match="not a folder of stored traces"):
            open_table(path)


UNHEARD = '[[["sample", "a", 1, "x", true, false, [], ["Unheard", []], null]], ["none"]]'


@pytest.mark.parametrize("line", ["not json", "[]", "[1, 2]", '[[["sample"]], ["float"]]', "null", '{"a": 1}', UNHEARD])
def test_damaged_layouts(whole, tmp_path, line):
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / "layouts.jsonl").write_text(line + "\n")
    with pytest.raises(StorageError, match=r"layouts\.jsonl"):
        open_table(tmp_path / "copy")


@pytest.mark.parametrize("damage", [{"start": -5}, {"start": 10**15}, {"kind": -1}, {"kind": 10**12}])
def test_damaged_entries_are_left_out(whole, tmp_path, damage):
    from ppl_jax.storage.folder import INDEX

    shutil.copytree(whole, tmp_path / "copy")
    index = np.fromfile(whole / "index.bin", INDEX)
    for field, value in damage.items():
        index[field][3] = value
    index.tofile(tmp_path / "copy" / "index.bin")
    assert sorted(read(tmp_path / "copy")) == [k for k in range(COUNT) if k != 3]


def test_a_folder_in_use_is_not_written_to(whole):
    before = (whole / "rows.f64").read_bytes()
    with pytest.raises(StorageError, match="is not empty"):
        TraceWriter(whole)
    assert (whole / "rows.f64").read_bytes() == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(StorageError, match="No traces can be written"):
        TraceWriter(tmp_path / "file" / "table")


def test_layouts_are_plain_json(whole):
    for line in (whole / "layouts.jsonl").read_text().splitlines():
        sites, _ = json.loads(line)
        assert sites[0][3] == "count"


def test_a_table_on_disk_is_mapped_not_loaded(tmp_path):
    writer = TraceWriter(tmp_path / "table")
    for trace in traces_of(gum, 5):
        writer.append(trace, 0.0)
    table, log_weights = writer.finish()
    for array in (table.heap, table.starts, table.kinds, log_weights):
        assert not array.flags.owndata and not array.flags.writeable
