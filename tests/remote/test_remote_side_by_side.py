"""A network guides executions in several processes: these compute at the same time, and nothing else changes."""

import os
import signal
import sys
import threading
from functools import cache

import numpy as np
import programs
import pytest
import remote_programs
from infer.test_compiled import untrained
from nn.small_network import SMALL
from programs import GUM_DATA
from remote_simulators import HERE, WAIT, command
from test_remote_forks import Killer, connect_all, values

import ppl_jax as ppl

sys.path.append(str(HERE.parent / "ppx"))
from cpp_front_end import built

pytestmark = pytest.mark.usefixtures("nothing_left")

DATA = {"data": 1.0}


@cache
def networks():
    """Of gum_marsaglia in C++, of the same in Python, whose addresses differ, and of meeting."""
    with ppl.RemoteModel(command=cpp()) as model:
        in_cpp = untrained(model, SMALL["core"])
    return in_cpp, *(untrained(program, SMALL["core"]) for program in (programs.gum_marsaglia, remote_programs.meeting))


@pytest.fixture(scope="module", autouse=True)
def trained():
    """Before descriptors and threads are counted."""
    return networks()


def cpp():
    """The command of gum_marsaglia in C++."""
    return [str(built("gum_marsaglia")), "{endpoint}"]


def guided(model, network, number=200, data=GUM_DATA, seed=3, **options):
    """A posterior under a network."""
    return ppl.importance_sampling(model, data, number, proposal=network, seed=seed, progress=False, **options)


def test_simulators_compute_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setenv("PPX_TEST_MEETING", str(tmp_path))
    with ppl.RemoteModel(command=command("meeting"), num_processes=3, fork=True, timeout=WAIT) as model:
        found = guided(model, networks()[2], 9, DATA)
        assert len(os.listdir(tmp_path)) == 3
    monkeypatch.delenv("PPX_TEST_MEETING")
    assert values(found) == values(guided(remote_programs.meeting, networks()[2], 9, DATA))


@pytest.mark.parametrize(
    "options",
    [{}, *(pytest.param(o, marks=pytest.mark.slow) for o in ({"shared_memory": False}, {"extension": False}))],
    ids=str,
)
def test_the_same_whatever_the_number_of_processes(options):
    runs = []
    for number, fork in ((1, False), (3, False), (8, True), (64, True)):
        with ppl.RemoteModel(command=cpp(), num_processes=number, fork=fork, timeout=WAIT, **options) as model:
            runs.append(guided(model, networks()[0]))
            assert len(connect_all(model)) == number
    for run in runs[1:]:
        assert values(run) == values(runs[0])
        assert np.array_equal(run.log_weights, runs[0].log_weights)


@pytest.mark.slow
def test_the_same_as_of_the_program_itself():
    expected = guided(programs.gum_marsaglia, networks()[1])
    with ppl.RemoteModel(command=command("gum_marsaglia"), num_processes=3, fork=True, timeout=WAIT) as model:
        assert values(guided(model, networks()[1])) == values(expected)


@pytest.mark.parametrize("processes", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_a_function_that_calls_a_simulator(processes):
    """More executions side by side than processes: the simulator of one that waits is given to another."""
    expected = guided(programs.gum_marsaglia, networks()[1], 60)
    with ppl.RemoteModel(command=command("gum_marsaglia"), num_processes=processes, fork=True, timeout=WAIT) as model:
        pids = connect_all(model)
        assert values(guided(lambda: model(), networks()[1], 60, lockstep=3)) == values(expected)
        assert model.process_ids == pids  # none had to be stopped for it


@pytest.mark.slow
def test_simulators_that_die_while_others_go_on():
    network = networks()[2]
    expected = guided(remote_programs.meeting, network, 100, DATA)
    with ppl.RemoteModel(command=command("meeting"), num_processes=3, fork=True, max_failures=99) as model:
        connect_all(model)
        killer = Killer(model, 5)
        killer.start()
        for _ in range(30):
            assert values(guided(model, network, 100, DATA)) == values(expected)
            if killer.done == 5:
                break
        killer.stopped.set()
        killer.join()
        assert killer.done == 5


def test_ctrl_c_leaves_the_simulators_as_they_are():
    with ppl.RemoteModel(command=cpp(), num_processes=8, fork=True, timeout=WAIT) as model:
        pids = connect_all(model)
        expected = guided(model, networks()[0])
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.warns(UserWarning, match="Interrupted"):
            found = guided(model, networks()[0], 10**6)
        timer.join()
        assert 0 < len(found) < 10**6
        assert len(set(connect_all(model)) & set(pids)) >= 7  # the one that was being spoken to may be replaced
        assert values(guided(model, networks()[0])) == values(expected)


def test_an_error_of_the_model_is_named_and_leaves_the_simulators_as_they_are(monkeypatch):
    program, network = remote_programs.meeting, networks()[2]
    # A run whose first executions do not fail, so that some are finished.
    seed = next(s for s in range(50) if max(trace["x"] for trace in guided(program, network, 5, DATA, s)) <= 1.0)
    monkeypatch.setenv("PPX_TEST_TOUCHY", "1")
    with ppl.RemoteModel(command=command("meeting"), num_processes=4, fork=True, timeout=WAIT) as model:
        pids = connect_all(model)
        with pytest.raises(ppl.ModelError, match="beyond the tables") as caught:
            guided(model, network, 200, DATA, seed)
        assert len(caught.value.finished) > 0
        assert all(trace["x"] <= 1.0 for trace in caught.value.finished)
        assert model.process_ids == pids
