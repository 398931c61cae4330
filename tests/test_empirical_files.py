"""Posteriors saved and loaded."""

import json
import math
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
from ppl_jax.empirical import Empirical, load_posterior
from ppl_jax.errors import PPLError, StorageError
from ppl_jax.storage import TraceTable, TraceWriter

LIST = ["a", 1.5, None, (1, [2.0, {"b": True}]), 2**70]


@pytest.fixture(scope="module")
def posterior():
    return ppl.importance_sampling(gum, GUM_DATA, num_traces=200, seed=1, progress=False)


def assert_same(found, expected):
    assert found.num_chains == expected.num_chains and found.num_executions == expected.num_executions
    assert found.has_log_evidence == expected.has_log_evidence
    if expected.has_log_evidence:
        assert found.log_evidence == expected.log_evidence
    np.testing.assert_array_equal(found.log_weights, expected.log_weights)
    assert type(found.values) is type(expected.values) and len(found) == len(expected)


@pytest.mark.parametrize(
    "values",
    [np.arange(5.0), np.arange(20).reshape(5, 2, 2), np.array([True] * 5), LIST, np.zeros((5, 0))],
)
@pytest.mark.parametrize("log_evidence", [None, -3.5, -math.inf])
def test_values_survive(values, log_evidence, tmp_path):
    samples = Empirical(values, np.log([1.0, 2.0, 3.0, 4.0, 5.0]), log_evidence=log_evidence, num_chains=2)
    samples.save(tmp_path / "saved")
    found = Empirical.load(tmp_path / "saved")
    assert_same(found, samples)
    if isinstance(values, list):
        assert found.values == values
    else:
        np.testing.assert_array_equal(found.values, values)
        assert found.values.dtype == values.dtype


def test_traces_survive(posterior, tmp_path):
    kept = posterior.filter(lambda trace: trace["mu"] > 2)
    for name, samples in (("whole", posterior), ("part", posterior[::-3]), ("kept", kept)):
        samples.save(tmp_path / name)
        found = load_posterior(tmp_path / name)
        assert_same(found, samples)
        np.testing.assert_array_equal(found.map("mu").values, samples.map("mu").values)
        assert found[0].sites[0].distribution == samples[0].sites[0].distribution


def test_nothing_survives(tmp_path):
    for k, values in enumerate(([], np.zeros((0, 3)))):
        Empirical(values).save(tmp_path / str(k))
        assert len(load_posterior(tmp_path / str(k))) == 0


def test_traces_on_disk_are_not_written_again(posterior, tmp_path):
    writer = TraceWriter(tmp_path / "run")
    writer.extend(posterior.values, posterior.log_weights)
    table, log_weights = writer.finish()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    interrupted = load_posterior(tmp_path / "run")  # what is there before the engine says how it ended
    assert not interrupted.has_log_evidence and len(interrupted) == 200
    np.testing.assert_array_equal(interrupted.log_weights, log_weights)
    Empirical(table, log_weights, log_evidence=posterior.log_evidence).save(tmp_path / "run")
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    assert {name: after[name] for name in before} == before
    found = load_posterior(tmp_path / "run")
    assert_same(found, posterior)
    found.save(tmp_path / "run")  # once more, in its place
    found.save(tmp_path / "copy")
    shutil.rmtree(tmp_path / "run")
    assert_same(load_posterior(tmp_path / "copy"), posterior)
    with pytest.raises(StorageError, match="not empty"):
        found[:100].save(tmp_path / "copy")


def test_a_folder_in_use_is_not_written_to(tmp_path):
    (tmp_path / "thesis.tex").write_text("text")
    for values in (np.arange(2.0), ["a", "b"]):
        with pytest.raises(StorageError, match="not empty"):
            Empirical(values).save(tmp_path)
    with pytest.raises(StorageError, match=r"cannot be written|No traces can be written"):
        Empirical(np.arange(2.0)).save(tmp_path / "thesis.tex" / "saved")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_needs_pickle_is_refused_before_anything_is_written(tmp_path):
    for values in ([object()], [1.0, {1: 2}], np.array([object()])):
        with pytest.raises(StorageError, match="without pickle"):
            Empirical(values).save(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("values", [np.arange(50.0), LIST * 10])
@pytest.mark.parametrize(
    "name", ["posterior.json", "values.npy", "log_weights.npy", "format", "layouts.jsonl", "objects.jsonl", "index.bin"]
)
def test_files_cut_off(values, name, tmp_path):
    Empirical(values).save(tmp_path / "saved")
    file = tmp_path / "saved" / name
    if not file.exists():
        return
    length = file.stat().st_size
    for cut_at in sorted({*np.linspace(0, length - 1, 40).astype(int).tolist()}, reverse=True):
        with open(file, "r+b") as opened:
            opened.truncate(cut_at)
        with pytest.raises(StorageError):
            load_posterior(tmp_path / "saved")


def test_damaged_descriptions(tmp_path):
    Empirical(np.arange(3.0)).save(tmp_path)
    description = json.loads((tmp_path / "posterior.json").read_text())
    damages = [("format", 2), ("num_chains", 9), ("num_chains", "x"), ("values", "traces"), ("log_evidence", [])]
    for field, value in damages:
        (tmp_path / "posterior.json").write_text(json.dumps({**description, field: value}))
        with pytest.raises(StorageError):
            load_posterior(tmp_path)
    for text in ("[]", "nonsense", json.dumps({"format": description["format"]})):
        (tmp_path / "posterior.json").write_text(text)
        with pytest.raises(StorageError):
            load_posterior(tmp_path)


def test_pickled_arrays_are_not_opened(tmp_path):
    Empirical(np.arange(2.0)).save(tmp_path)
    np.save(tmp_path / "values.npy", np.array([object(), None]), allow_pickle=True)
    with pytest.raises(StorageError):
        load_posterior(tmp_path)


def test_no_posterior(tmp_path):
    with pytest.raises(StorageError, match="not a folder of stored traces"):
        load_posterior(tmp_path / "never")
    assert issubclass(StorageError, PPLError)


def test_large_arrays_are_mapped(tmp_path):
    Empirical(np.arange(10.0)).save(tmp_path)
    values = load_posterior(tmp_path).values
    assert isinstance(values, np.ndarray) and not values.flags.owndata and not values.flags.writeable


def test_iterating_traces_on_disk_takes_no_memory_of_its_own(posterior, tmp_path):
    """400,000 traces are 35 MB of rows; weights and their check take a few arrays of 8 bytes a trace.

    That is below 40 bytes a trace, 16 MB; the bound of 24 MB is below the rows. Mapped pages are the system's to drop
    and are not counted (RssAnon).
    """
    writer = TraceWriter(tmp_path / "run")
    for _ in range(2000):
        writer.extend(posterior.values, posterior.log_weights)
    writer.finish()
    assert (tmp_path / "run" / "rows.f64").stat().st_size == 400_000 * 88
    program = textwrap.dedent(
        """
        import sys
        from ppl_jax.empirical import load_posterior

        def anonymous():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

        posterior = load_posterior(sys.argv[1])
        [trace["mu"] for trace in posterior[:1000]]
        before = highest = anonymous()
        for k, trace in enumerate(posterior):
            trace["mu"]
            if k % 20000 == 0:
                highest = max(highest, anonymous())
        _ = posterior.effective_sample_size
        print(max(highest, anonymous()) - before)
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 24


def test_saved_traces_are_a_table(posterior, tmp_path):
    posterior.save(tmp_path / "saved")
    assert isinstance(load_posterior(tmp_path / "saved").values, TraceTable)
