"""Running models into datasets: the same traces whatever interrupts the run, none lost, none twice."""

import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import numpyro
import pytest
from dataset_programs import ENVIRONMENT, assert_nobody_is_left, everything, gum, image, rejection, rows

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import ShardWriter, open_dataset, saving, verify_dataset
from ppl_jax.data.blocks import Run
from ppl_jax.errors import InterruptedRunWarning, ModelError, StorageError, WorkerDied


def children():
    """Processes that this one has started and not waited for."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def save(model, path, count, **settings):
    return ppl.save_dataset(model, path, count, progress=False, **{"backend": "host", "seed": 5, **settings})


@pytest.fixture(scope="module")
def expected():
    return rows(ppl.prior(everything, 500, seed=5, backend="host", progress=False).values)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_traces_are_those_of_the_prior_in_order(tmp_path, expected, num_workers):
    dataset = save(everything, tmp_path / "set", 500, num_workers=num_workers, block_traces=64)
    assert rows(dataset[:]) == expected
    assert dataset.ranges("host", 5) == [(0, 500)]
    assert dataset.info().shards == num_workers
    assert verify_dataset(tmp_path / "set") == [] and not children()


def test_minibatches_do_not_depend_on_the_number_of_workers(tmp_path):
    sets = [
        save(rejection, tmp_path / str(workers), 300, num_workers=workers, block_traces=size)
        for workers, size in ((1, 1000), (3, 7))
    ]
    for one, other in zip(*(dataset.minibatches(32, seed=1) for dataset in sets), strict=True):
        np.testing.assert_array_equal(one.values(0), other.values(0))
    for one, other in zip(*(dataset.split(0.3)[1].mixed_minibatches(32, seed=1) for dataset in sets), strict=True):
        np.testing.assert_array_equal(one[0].values(0), other[0].values(0))


def test_more_of_the_same_sequence(tmp_path, expected):
    path = tmp_path / "set"
    for count, workers in ((100, 1), (60, 1), (101, 2), (500, 2)):
        dataset = save(everything, path, count, num_workers=workers)
    assert rows(dataset[:]) == expected
    before = dataset.info().shards
    assert save(everything, path, 500).info().shards == before


def test_parts_made_in_any_order_make_the_sequence(tmp_path, expected):
    path = tmp_path / "set"
    for start, count in ((300, 200), (0, 100), (50, 300)):
        dataset = save(everything, path, count, start=start)
    assert rows(dataset[:]) == expected


def test_other_seeds_stand_beside(tmp_path, expected):
    path = tmp_path / "set"
    save(everything, path, 100)
    dataset = save(everything, path, 50, seed=6)
    assert rows(dataset[:]) == expected[:100] + rows(ppl.prior(everything, 50, seed=6, progress=False).values)
    assert dataset.ranges("host", 5) == [(0, 100)] and dataset.ranges("host", 6) == [(0, 50)]
    assert len(save(everything, path, 10, seed=None)) == 160


def test_the_device_writes_datasets_too(tmp_path):
    path = tmp_path / "set"
    dataset = ppl.save_dataset(gum, path, 3000, seed=2, backend="jax", progress=False)
    dataset = ppl.save_dataset(gum, path, 5000, seed=2, progress=False)  # goes on with what was begun
    assert dataset.ranges("jax", 2) == [(0, 5000)]
    assert rows(dataset[:]) == rows(ppl.prior(gum, 5000, seed=2, backend="jax", progress=False).values)


def test_handlers_in_force_apply_and_weights_are_kept(tmp_path):
    with ppl.handlers.condition(data={"mu": 1.5}):
        dataset = save(gum, tmp_path / "set", 20)
    assert dataset[:].column("mu").tolist() == [1.5] * 20
    inflated = save(ppl.handlers.inflate(gum, 3.0), tmp_path / "inflated", 20)
    np.testing.assert_array_equal(inflated.log_weights(), [trace.log_importance_weight for trace in inflated])
    assert np.ptp(inflated.log_weights()) > 0


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_model_that_raises_loses_nothing(tmp_path, num_workers):
    calls = tmp_path / "repaired"

    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        if x > 2.5 and not calls.exists():
            raise RuntimeError(f"x is {x:.3f}")
        return x

    whole = ppl.prior(lambda: ppl.sample(dist.Normal(0.0, 1.0), name="x"), 2000, seed=5, progress=False)
    values = whole.values.column("x")
    # Each worker has a half; whichever comes to its first bad execution ends the run.
    bad = [low + int(np.flatnonzero(values[low:] > 2.5)[0]) for low in range(0, 2000, 2000 // num_workers)]
    messages = "|".join(rf"RuntimeError: x is {values[k]:.3f} .*execution {k} of seed 5" for k in bad)
    with pytest.raises(ModelError, match=messages) as caught:
        save(model, tmp_path / "set", 2000, num_workers=num_workers)
    assert isinstance(caught.value.__cause__, RuntimeError) and not children()
    finished = caught.value.finished.ranges("host", 5)
    assert {stop for _, stop in finished} & set(bad)
    assert all(stop <= bad[start * num_workers // 2000] for start, stop in finished)  # the one of its worker's half
    calls.touch()
    dataset = save(model, tmp_path / "set", 2000, num_workers=num_workers)
    np.testing.assert_array_equal(dataset[:].column("x"), values)


def test_a_worker_that_is_killed_is_named_and_its_blocks_are_kept(tmp_path):
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        if x > 2.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with pytest.raises(WorkerDied, match=r"Worker process \d+ ended by signal 9 .* call again to go on") as caught:
        save(model, tmp_path / "set", 2000, num_workers=2, block_traces=16)
    assert not children()
    assert 0 < len(caught.value.finished) < 2000
    assert all(value <= 2.5 for value in caught.value.finished[:].column("x"))


SCRIPT = """
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
import ppl_jax as ppl
import ppl_jax.distributions as dist
def model():
    time.sleep(0.001)
    return ppl.sample(dist.Normal(0.0, 1.0), name="x")
if __name__ == "__main__":
    print("ready", flush=True)
    settings = dict(seed=5, num_workers={workers}, progress=False, backend="host")
    dataset = ppl.save_dataset(model, {path!r}, 1_000_000, **settings)
    print(len(dataset), flush=True)
"""


@pytest.mark.parametrize("num_workers", [1, 2])
def test_ctrl_c_returns_what_is_finished_and_leaves_no_process(tmp_path, num_workers):
    path = tmp_path / "set"
    script = SCRIPT.format(path=str(path), workers=num_workers)
    (tmp_path / "script.py").write_text(script)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "InterruptedRunWarning" in err and "Call save_dataset again to go on" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    dataset = open_dataset(path)
    assert len(dataset) == int(out) > 0
    expected = ppl.prior(lambda: ppl.sample(dist.Normal(0.0, 1.0), name="x"), len(dataset), seed=5, progress=False)
    held = [k for low, stop in dataset.ranges("host", 5) for k in range(low, stop)]
    assert len(held) == len(dataset) and len(dataset.ranges("host", 5)) == num_workers
    if num_workers == 1:
        np.testing.assert_array_equal(dataset[:].column("x"), expected.values.column("x"))


def test_workers_end_when_their_parent_is_killed(tmp_path):
    path = tmp_path / "set"
    (tmp_path / "script.py").write_text(SCRIPT.format(path=str(path), workers=2))
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        stdout=subprocess.PIPE, text=True, start_new_session=True, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.5)
        process.kill()
        process.wait()
        assert_nobody_is_left(process.pid)
    assert len(open_dataset(path)) > 0 and verify_dataset(path) == []


def test_an_interruption_in_this_process(tmp_path, monkeypatch):
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        if x > 2.5:
            raise KeyboardInterrupt
        return x

    with pytest.warns(InterruptedRunWarning, match="traces that were finished"):
        dataset = save(model, tmp_path / "set", 2000)
    assert 0 < len(dataset) < 2000

    def at_once():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(at_once, tmp_path / "none", 10)


def test_another_model_is_refused(tmp_path):
    path = tmp_path / "set"
    save(gum, path, 20)
    with pytest.raises(
        StorageError, match="was made with another model, or another version of it: execution 0 of seed 5"
    ):
        save(everything, path, 40)

    def wider():
        mu = ppl.sample(dist.Normal(1.0, 6**0.5), name="mu", address="mu")
        return mu

    def narrower():
        mu = ppl.sample(dist.Normal(1.0, 5**0.5), name="mu", address="mu")
        return mu

    save(wider, tmp_path / "wide", 20)
    with pytest.raises(StorageError, match="another model"):
        save(narrower, tmp_path / "wide", 20, seed=9)
    assert len(open_dataset(path)) == 20 and len(open_dataset(tmp_path / "wide")) == 20


def test_a_model_with_randomness_of_its_own_is_refused_when_it_goes_on(tmp_path):
    rng = np.random.default_rng(0)

    def model():
        return ppl.sample(dist.Normal(rng.normal(), 1.0), name="x")

    save(model, tmp_path / "set", 5)
    with pytest.raises(StorageError, match="random numbers that ppl_jax knows nothing of"):
        save(model, tmp_path / "set", 10)


def test_rounded_numbers_are_no_other_model(tmp_path):
    formats = {"image": "float16", "grid": "float16"}
    save(image, tmp_path / "set", 5, dtypes=formats)
    assert len(save(image, tmp_path / "set", 10, dtypes=formats)) == 10


def test_numbers_too_small_for_their_format_are_no_other_model(tmp_path):
    def shower():
        energy = ppl.sample(dist.Uniform(1.0, 2.0), name="energy")
        ppl.observe(dist.Normal(energy * np.array([1e-9, 4e-8, 1.0]), 1e-8), name="image")

    save(shower, tmp_path / "set", 5, dtypes={"image": "float16"})
    assert len(save(shower, tmp_path / "set", 10, dtypes={"image": "float16"})) == 10


def test_executions_that_another_process_writes_are_refused(tmp_path):
    path = tmp_path / "set"
    save(gum, path, 10)
    script = (
        "import fcntl, os, sys, time\n"
        f"file = open({str(path / '.seed-5.lock')!r}, 'ab')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 100, 50, os.SEEK_SET)\n"
        "print('locked', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StorageError, match="Another process is writing executions of seed 5 between 0 and 59"):
            save(gum, path, 60)
        assert len(save(gum, path, 50)) == 50  # the ranges do not meet
        assert len(save(gum, path, 10, seed=6)) == 60
        other.stdin.close()
    assert len(save(gum, path, 60)) == 70


def test_executions_that_are_there_twice_are_an_error(tmp_path):
    path = tmp_path / "set"
    save(gum, path, 10)
    table = ppl.prior(gum, 10, seed=5, backend="host", progress=False).values
    with ShardWriter(path) as writer:
        writer.extend(table, np.zeros(10), Run("host", 5, 5))
    with pytest.raises(StorageError, match="both hold executions 5 to 9 of seed 5: the same traces twice"):
        open_dataset(path)
    assert len(open_dataset(path, recover=True)) == 10


def test_finished_traces_of_a_slow_simulator_are_not_held_back(tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_jax.data.writer.WRITE_AFTER", 0.0)
    seen = []

    def model():
        seen.append(len(open_dataset(tmp_path / "set")))
        return ppl.sample(dist.Normal(0.0, 1.0))

    save(model, tmp_path / "set", 5)
    assert seen == [0, 1, 2, 3, 4]


def test_blocks_end_at_multiples_of_their_size(tmp_path):
    dataset = save(gum, tmp_path / "set", 50, start=7, block_traces=20)
    assert [run.start for _, run in dataset.run_starts()] == [7, 20, 40]


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match="model must be callable"):
        save(3, tmp_path / "set", 10)
    for settings in ({"num_workers": 0}, {"start": -1}, {"seed": -1}, {"backend": "gpu"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            save(gum, tmp_path / "set", 10, **settings)
    with pytest.raises(ValueError, match="num_traces"):
        save(gum, tmp_path / "set", 0)


def test_work_is_divided_evenly_and_completely():
    for ranges in ([(0, 10)], [(3, 5), (8, 9), (20, 40)], [(0, 1)]):
        for parts in (1, 2, 3, 7):
            divided = saving._divide(ranges, parts)
            numbers = [k for part in divided for low, stop in part for k in range(low, stop)]
            assert numbers == [k for low, stop in ranges for k in range(low, stop)]
            sizes = [sum(stop - low for low, stop in part) for part in divided]
            assert min(sizes) > 0 and max(sizes) - min(sizes) <= 1


def test_no_warning_without_a_reason(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(gum, tmp_path / "set", 100, num_workers=2)


def test_a_format_for_a_name_that_does_not_occur_is_told(tmp_path):
    with pytest.warns(UserWarning, match="dtypes has 'muu', but no site is named so: the names are .*'mu'") as warned:
        ppl.save_dataset(gum, tmp_path / "traces", 10, dtypes={"muu": "float32"}, progress=False)
    assert warned[0].filename == __file__


def test_models_of_numpyro_are_recognised(tmp_path):
    dataset = ppl.save_dataset(numpyro_model, tmp_path / "traces", 10, seed=8, progress=False)
    assert rows(dataset[:]) == rows(ppl.prior(numpyro_model, 10, seed=8, progress=False).values)


def numpyro_model():
    mu = numpyro.sample("mu", numpyro.distributions.Normal(0.0, 1.0))
    numpyro.sample("y", numpyro.distributions.Normal(mu, 1.0))
