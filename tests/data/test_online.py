"""Traces made in the background: the same as those of a prior run, each once, in order; and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import numpyro
import pytest
from dataset_programs import ENVIRONMENT, assert_nobody_is_left, everything, gum, rows

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import OnlineTraces
from ppl_jax.errors import ModelError, StorageError


def children():
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_tables_come_in_order_whatever_the_number_of_workers(num_workers):
    expected = rows(ppl.prior(everything, 200, seed=8, progress=False).values)
    with OnlineTraces(everything, seed=8, num_workers=num_workers, block_size=40) as stream:
        tables = list(islice(stream, 5))
        assert stream.position == 5
    assert [len(table) for table in tables] == [40] * 5
    assert [row for table in tables for row in rows(table)] == expected
    assert not children()


def test_a_stream_goes_on_where_another_was_left():
    with OnlineTraces(gum, seed=8, block_size=10) as stream:
        first = [next(stream).column("mu") for _ in range(3)]
        position = stream.position
    with OnlineTraces(gum, seed=8, block_size=10, start=position) as stream:
        first.append(next(stream).column("mu"))
    np.testing.assert_array_equal(np.concatenate(first), ppl.prior(gum, 40, seed=8, progress=False).values.column("mu"))


def test_no_trace_comes_twice():
    with OnlineTraces(gum, num_workers=2, block_size=500) as stream:
        values = np.concatenate([table.column("mu") for table in islice(stream, 20)])
    assert len(np.unique(values)) == len(values) == 10_000


def test_the_queue_is_bounded(tmp_path):
    """A worker that is not asked makes one table, and at most begins to hand it over."""
    log = tmp_path / "log"
    log.touch()

    def model():
        with open(log, "a") as file:
            file.write(".")
        return ppl.sample(dist.Normal(np.zeros(1000), 1.0))  # a table of 10 fills more than a pipe

    with OnlineTraces(model, block_size=10) as stream:
        next(stream)
        for _ in range(100):
            time.sleep(0.02)
            if log.stat().st_size >= 20:
                break
        time.sleep(0.3)
        assert log.stat().st_size == 20


def test_an_error_of_the_model_comes_after_the_tables_before_it():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        if x > 2.5:
            raise RuntimeError(f"x is {x:.3f}")
        return x

    values = ppl.prior(lambda: ppl.sample(dist.Normal(0.0, 1.0), name="x"), 1000, seed=8, progress=False).values
    bad = int(np.flatnonzero(values.column("x") > 2.5)[0])
    stream = OnlineTraces(model, seed=8, num_workers=2, block_size=10)
    assert len(list(islice(stream, bad // 10))) == bad // 10
    message = rf"RuntimeError: x is {values.column('x')[bad]:.3f}.*execution {bad} of seed 8"
    with pytest.raises(ModelError, match=message) as caught:
        next(stream)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert stream.position == bad // 10
    assert list(stream) == [] and not children()


def test_handlers_in_force_apply():
    with ppl.handlers.condition(data={"mu": 1.5}):
        stream = OnlineTraces(gum, block_size=5)
    with stream:
        assert next(stream).column("mu").tolist() == [1.5] * 5


def test_strings_travel_and_other_objects_are_refused():
    with OnlineTraces(lambda: ppl.tag(f"{ppl.sample(dist.Poisson(3.0))} eggs", name="text"), block_size=8) as stream:
        assert all(text.endswith(" eggs") for text in next(stream).column("text"))
    with OnlineTraces(lambda: object(), block_size=8) as stream, pytest.raises(StorageError, match="cannot travel"):
        next(stream)
    assert not children()


def test_closing_before_and_after_anything_was_taken():
    stream = OnlineTraces(gum)
    stream.close()
    assert list(stream) == []
    stream = OnlineTraces(gum, num_workers=2, block_size=10)
    next(stream)
    stream.close()
    stream.close()
    assert not children()


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import OnlineTraces
model = lambda: ppl.sample(dist.Normal(0.0, 1.0), name="x")
with OnlineTraces(model, num_workers=2, block_size=100) as stream:
    for number, table in enumerate(stream):
        if number == 3:
            print("ready", flush=True)
"""


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_workers_end_with_their_parent(how):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        if how == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        process.wait(timeout=30)
        assert_nobody_is_left(process.pid)
    assert process.returncode in (-signal.SIGINT, -signal.SIGKILL)


def test_bad_arguments():
    with pytest.raises(TypeError, match="model must be callable"):
        OnlineTraces(3)
    for settings in ({"num_workers": 0}, {"block_size": 0}, {"start": -1}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            OnlineTraces(gum, **settings)


def test_models_of_numpyro_are_recognised():
    with OnlineTraces(numpyro_model, seed=8, block_size=10) as stream:
        assert rows(next(stream)) == rows(ppl.prior(numpyro_model, 10, seed=8, progress=False).values)
    # JAX has run in this process, so that a forked one could not compute with it.
    with pytest.raises(ValueError, match=r"num_workers=2 .* cannot be forked: .* computes with JAX"):
        OnlineTraces(numpyro_model, num_workers=2)


def numpyro_model():
    mu = numpyro.sample("mu", numpyro.distributions.Normal(0.0, 1.0))
    numpyro.sample("y", numpyro.distributions.Normal(mu, 1.0))
