"""Datasets made of the shards of others; and the command that does it, and looks into them."""

import importlib.metadata
import os
import shutil

import numpy as np
import pytest
from dataset_programs import everything, gum, rows

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import cli
from ppl_jax.data import ShardWriter, merge_datasets, open_dataset, verify_dataset
from ppl_jax.errors import StorageError


def save(path, count, **settings):
    return ppl.save_dataset(gum, path, count, backend="host", progress=False, **settings)


@pytest.fixture
def parts(tmp_path):
    return [save(tmp_path / "a", 50, seed=1), save(tmp_path / "b", 30, seed=2, num_workers=2)]


def test_nothing_is_copied(parts, tmp_path):
    merged = merge_datasets([part.path for part in parts], tmp_path / "all")
    assert rows(merged[:]) == [row for part in parts for row in rows(part[:])]
    assert not list((tmp_path / "all").glob("*.shard"))
    assert merged.info().shards == 3 and verify_dataset(tmp_path / "all") == []
    values = [value for m in merged.minibatches(16) for value in m.values(0).tolist()]
    assert sorted(values) == sorted(np.concatenate([part[:].column("mu") for part in parts]).tolist())


def test_the_folders_can_be_moved_together(parts, tmp_path):
    merge_datasets([part.path for part in parts], tmp_path / "all")
    target = tmp_path / "elsewhere"
    target.mkdir()
    for name in ("a", "b", "all"):
        shutil.move(tmp_path / name, target / name)
    assert len(open_dataset(target / "all")) == 80
    shutil.rmtree(target / "a")
    with pytest.raises(StorageError, match=r"a/000000\.shard cannot be read"):
        open_dataset(target / "all")
    assert len(open_dataset(target / "all", recover=True)) == 30


def test_parts_of_one_run_become_one_sequence(tmp_path):
    paths = [save(tmp_path / name, 40, start=start).path for name, start in (("late", 40), ("early", 0))]
    merged = merge_datasets(paths, tmp_path / "all")
    assert merged.ranges("host", 0) == [(0, 80)]
    assert rows(merged[:]) == rows(ppl.prior(gum, 80, seed=0, backend="host", progress=False).values)


def test_merging_again_and_adding(parts, tmp_path):
    merged = merge_datasets([part.path for part in parts], tmp_path / "all")
    assert len(merge_datasets([parts[0].path], tmp_path / "all")) == 80  # it is there already
    more = merge_datasets([save(tmp_path / "c", 20, seed=3).path], tmp_path / "all")
    assert len(more) == 100
    assert len(merge_datasets([tmp_path / "all", tmp_path / "a"], tmp_path / "again")) == 100
    assert rows(open_dataset(tmp_path / "again")[:80]) == rows(merged[:])
    more.append(ppl.prior(gum, 7, seed=9, progress=False))
    assert len(more) == 107 and verify_dataset(tmp_path / "all") == []
    assert rows(more[:100]) == rows(open_dataset(tmp_path / "again")[:])


def test_more_shards_than_files_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_jax.data.contents._MAPS_OPEN", 3)
    for start in range(0, 80, 10):
        save(tmp_path / "set", 10, start=start)
    before = len(os.listdir("/proc/self/fd"))
    dataset = open_dataset(tmp_path / "set")
    assert rows(dataset[:]) == rows(ppl.prior(gum, 80, seed=0, backend="host", progress=False).values)
    assert dataset.info().shards == 8 and len(os.listdir("/proc/self/fd")) <= before + 4
    (minibatch,) = dataset.minibatches(80)
    np.testing.assert_array_equal(minibatch.values(0), minibatch.table.column("mu"))


def test_an_unfinished_shard_can_be_merged(tmp_path):
    writer = ShardWriter(tmp_path / "a", block_traces=10)
    prior = ppl.prior(gum, 35, seed=1, progress=False)
    writer.extend(prior.values, prior.log_weights)
    merged = merge_datasets([tmp_path / "a"], tmp_path / "all")
    assert len(merged) == 30
    writer.close()
    assert len(open_dataset(tmp_path / "a")) == 35
    assert len(open_dataset(tmp_path / "all")) == 35


def test_the_same_executions_twice_are_refused(parts, tmp_path):
    save(tmp_path / "copy", 10, seed=1)
    with pytest.raises(StorageError, match="both hold executions 0 to 9 of seed 1: the same traces twice"):
        merge_datasets([parts[0].path, tmp_path / "copy"], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_other_models_are_refused(parts, tmp_path):
    other = ppl.save_dataset(everything, tmp_path / "other", 10, seed=7, progress=False)
    with pytest.raises(StorageError, match="different models: they have no address in common"):
        merge_datasets([parts[0].path, other.path], tmp_path / "all")

    def of_length(length):
        def model():
            x = ppl.sample(dist.Normal(0.0, 1.0), address="x")
            ppl.observe(dist.Normal(np.full(length, x), 1.0), name="y", address="y")

        return model

    for length in (3, 4):
        ppl.save_dataset(of_length(length), tmp_path / str(length), 10, seed=length, progress=False)
    with pytest.raises(StorageError, match=r"observation 'y' has shape \(3,\) in the one and \(4,\) in the other"):
        merge_datasets([tmp_path / "3", tmp_path / "4"], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_what_is_no_dataset_is_refused(parts, tmp_path):
    with pytest.raises(StorageError, match="is no dataset"):
        merge_datasets([parts[0].path, tmp_path / "missing"], tmp_path / "all")
    with pytest.raises(ValueError, match="at least one"):
        merge_datasets([], tmp_path / "all")
    with pytest.raises(StorageError, match="is no dataset"):
        verify_dataset(tmp_path / "missing")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"ppl-jax {importlib.metadata.version('ppl_jax')}\n"


def test_info(parts, tmp_path, capsys):
    assert cli.main(["dataset", "info", str(parts[0].path)]) == 0
    out = capsys.readouterr().out
    for line in (
        "traces         50\n", "latents        50 controlled\n", "observations   obs0 scalar, obs1 scalar\n",
        "names          mu, obs0, obs1\n", "type 0: 50 traces, 1 controlled latents\n", "dataset_programs:gum:1:9\n",
    ):  # fmt: skip
        assert line in out


def test_info_of_many_types_is_short_unless_all_are_asked_for(tmp_path, capsys):
    def model():
        for step in range(ppl.sample(dist.Poisson(30.0), address="length")):
            ppl.sample(dist.Normal(0.0, 1.0), address=f"step {step}")
        ppl.observe(dist.Normal(np.zeros((2, 3)), 1.0), name="y")

    ppl.save_dataset(model, tmp_path / "set", 200, progress=False)
    cli.main(["dataset", "info", str(tmp_path / "set")])
    short = capsys.readouterr().out
    cli.main(["dataset", "info", "--all", str(tmp_path / "set")])
    whole = capsys.readouterr().out
    assert "more (--all shows them)" in short and short.count("\n    type ") == 10
    assert "more (--all" not in whole and whole.count("\n    type ") == len(open_dataset(tmp_path / "set").types)
    assert "y 2 x 3" in short


def test_merge_and_verify(parts, tmp_path, capsys):
    new = str(tmp_path / "all")
    assert cli.main(["dataset", "merge", new, str(parts[0].path), str(parts[1].path)]) == 0
    assert "80 traces of 1 types in 3 shards" in capsys.readouterr().out
    assert cli.main(["dataset", "verify", new]) == 0
    assert "every byte agrees" in capsys.readouterr().out
    shard = parts[0].path / "000000.shard"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    assert cli.main(["dataset", "verify", new, str(parts[1].path)]) == 1
    out = capsys.readouterr().out
    assert "a/000000.shard, block 0" in out and f"{parts[1].path}: every byte agrees" in out
    data[65] ^= 1
    shard.write_bytes(data)
    assert cli.main(["dataset", "info", new]) == 2
    assert "ppl-jax: " in capsys.readouterr().err
    assert cli.main(["dataset", "info", "--recover", new]) == 0
    assert "problem        " in capsys.readouterr().out


def test_a_command_that_cannot_be_done(tmp_path, capsys):
    assert cli.main(["dataset", "info", str(tmp_path)]) == 2
    assert "is no dataset" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["dataset", "info"])
    assert "path" in capsys.readouterr().err
    for command in ([], ["dataset"]):  # who gives no command is told of them
        assert cli.main(command) == 0
        assert "usage: ppl-jax" in capsys.readouterr().out


def test_what_a_dataset_holds_reads_the_same_in_python(tmp_path, capsys):
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), name="x")

    dataset = ppl.save_dataset(model, tmp_path / "set", 5, seed=0, progress=False)
    assert cli.main(["dataset", "info", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out.strip() == str(dataset.info()) == repr(dataset.info())
    assert "traces         5" in dataset.info()._repr_html_() and dataset.info().traces == 5
