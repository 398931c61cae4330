"""Simulators in other processes fill datasets like any other model."""

import sys

import dataset_programs
import numpy as np
import pytest
from dataset_programs import rows

import ppl_jax as ppl
from ppl_jax.data import OnlineTraces
from ppl_jax.errors import StorageError


@pytest.fixture(scope="module")
def simulator():
    command = [sys.executable, dataset_programs.__file__, "gum", "{endpoint}"]
    with ppl.RemoteModel(command=command, timeout=120.0, start_timeout=120.0) as model:
        yield model


def save(model, path, count, **settings):
    return ppl.save_dataset(model, path, count, **{"seed": 4, "progress": False, **settings})


def test_a_dataset_goes_on_and_is_that_of_the_prior(simulator, tmp_path):
    save(simulator, tmp_path / "set", 150)
    dataset = save(simulator, tmp_path / "set", 400)
    assert dataset.ranges("host", 4) == [(0, 400)]
    assert rows(dataset[:]) == rows(ppl.prior(simulator, 400, seed=4, progress=False).values)
    with pytest.raises(StorageError, match="another model"):
        save(dataset_programs.everything, tmp_path / "set", 500)


def test_it_cannot_be_divided_among_forked_processes(simulator, tmp_path):
    with pytest.raises(ValueError, match="num_processes"):
        save(simulator, tmp_path / "set", 10, num_workers=2)
    with pytest.raises(ValueError, match="num_processes"):
        OnlineTraces(simulator, num_workers=2)


def test_traces_come_online(simulator):
    with OnlineTraces(simulator, seed=4, block_size=30) as stream:
        values = np.concatenate([next(stream).column("mu") for _ in range(3)])
    np.testing.assert_array_equal(values, ppl.prior(simulator, 90, seed=4, progress=False).values.column("mu"))
