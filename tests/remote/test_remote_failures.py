"""Simulators that raise, die, hang, talk nonsense or are not there; and what a run leaves behind, which is nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest
import remote_programs
import zmq
from programs import GUM_DATA, gum, gum_marsaglia
from remote_simulators import HERE, command, simulator

import ppl_jax as ppl
import ppx
from ppl_jax.running.services import Request

pytestmark = pytest.mark.usefixtures("nothing_left")

DATA = {"data": 1.0}


def values(posterior):
    """All values of all traces."""
    return [[site.value for site in trace.sites] for trace in posterior]


# -- the program's own errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proposal", [None, pytest.param(lambda site: None, marks=pytest.mark.slow)], ids=["by itself", "draw by draw"]
)
def test_an_exception_names_place_and_execution_and_keeps_what_was_finished(proposal):
    with simulator("raising") as model, pytest.raises(ppl.ModelError, match="beyond the tables") as caught:
        ppl.importance_sampling(model, {"y": 1.0}, 200, proposal=proposal, seed=1, progress=False)
    assert "simulator 'raising'" in str(caught.value)
    assert "seed 1" in str(caught.value)
    with pytest.raises(ppl.ModelError) as local:
        ppl.importance_sampling(remote_programs.raising, {"y": 1.0}, 200, seed=1, backend="host", progress=False)
    assert values(caught.value.finished) == values(local.value.finished)


def test_a_parameter_out_of_its_domain_is_an_error_of_the_parameter():
    with simulator("bad_parameter") as model:
        for proposal in (None, lambda site: None):
            with pytest.raises(ppl.ParameterError, match="bad_parameter"):
                ppl.importance_sampling(model, {"y": 0.1}, 200, proposal=proposal, seed=1, progress=False)
        posterior = ppl.prior(model, 2, seed=2, progress=False)  # the connection goes on
    assert len(posterior) == 2


def test_an_exception_in_a_step_of_a_chain():
    errors = []
    with simulator("raising") as model:
        for program in (model, remote_programs.raising):
            with pytest.raises(ppl.ModelError, match="beyond the tables") as caught:
                ppl.metropolis_hastings(program, {"y": 2.0}, 500, burn_in=0, seed=12, progress=False)
            errors.append(values(caught.value.finished))
    assert errors[0] == errors[1]


def test_nan_given_to_an_observe():
    """Python's front end finds it by itself; that of another language need not."""
    with simulator("not_a_number") as model, pytest.raises(ppl.ModelError, match="NaN") as caught:
        ppl.importance_sampling(model, num_traces=200, seed=1, progress=False)
    with pytest.raises(ppl.ObservationError) as local:
        ppl.importance_sampling(remote_programs.not_a_number, num_traces=200, seed=1, backend="host", progress=False)
    assert values(caught.value.finished) == values(local.value.finished)


def test_an_observe_without_a_value_is_found_though_the_simulator_draws_one():
    with simulator("forgotten") as model:
        with pytest.raises(ppl.ObservationError, match="'rare'") as caught:
            ppl.importance_sampling(model, {"y": 1.0}, 200, seed=1, progress=False)
        assert len(caught.value.finished) == next(index for index in range(200) if uniform(1, index) > 0.9)
        with pytest.raises(ppl.ObservationError, match="'rare'"):
            ppl.metropolis_hastings(model, {"y": 1.0}, 400, burn_in=0, seed=1, progress=False)
        posterior = ppl.importance_sampling(model, {"y": 1.0, "rare": 0.2}, 200, seed=1, progress=False)
    assert len(posterior) == 200


def test_data_of_the_wrong_shape_and_unknown_names():
    with simulator("gum") as model:
        with pytest.raises(ppl.ObservationError, match=r"shape \(2,\)"):
            ppl.importance_sampling(model, {"obs0": [1.0, 2.0], "obs1": 1.0}, 50, progress=False)
        with pytest.raises(ppl.ObservationError, match="obs1"):
            ppl.importance_sampling(model, {"obs0": 1.0}, 50, progress=False)
        with (
            pytest.warns(UserWarning, match="'obs2'"),
            pytest.raises(ppl.UnknownObservationError, match="did you mean 'obs"),
        ):
            ppl.importance_sampling(model, {**GUM_DATA, "obs2": 1.0}, 200, progress=False)


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_arguments_are_checked():
    for arguments, what in (
        ({}, "endpoint"),
        ({"endpoint": "sherpa.ipc"}, "ipc:///path"),
        ({"command": "./tau {endpoint}"}, "list"),
        ({"command": []}, "list"),
        ({"command": ["x", "{endpoint}"], "num_processes": 0}, "num_processes"),
        ({"command": ["x", "{endpoint}"], "timeout": -1.0}, "timeout"),
        ({"command": ["x", "{endpoint}"], "max_failures": 0}, "max_failures"),
        ({"endpoint": ["ipc://a", "ipc://b"], "num_processes": 3}, "one for each"),
        ({"endpoint": "inproc://a", "num_processes": 2}, "further endpoint"),
    ):
        with pytest.raises(ValueError, match=what):
            ppl.RemoteModel(**arguments)


def test_workers_and_tracing_are_refused():
    with ppl.RemoteModel(command=["nothing", "{endpoint}"]) as model:
        for engine in (ppl.prior, ppl.importance_sampling, ppl.metropolis_hastings):
            with pytest.raises(ValueError, match="num_processes"):
                engine(model, num_traces=10, num_workers=2, progress=False)
        with pytest.raises(ppl.UntraceableModelError, match="another process"):
            ppl.prior(model, 10, backend="jax", progress=False)
        with pytest.raises(ppl.UntraceableModelError, match=r"another process\. Use metropolis_hastings\."):
            ppl.nuts(model, {}, 10, progress=False)


def test_a_closed_model_says_so():
    model = ppl.RemoteModel(command=["nothing", "{endpoint}"])
    model.close()
    model.close()
    with pytest.raises(ppl.SimulatorError, match="closed"):
        model()


# -- simulators that are not there -------------------------------------------------------------------------------------


def test_a_missing_command():
    with (
        ppl.RemoteModel(command=["./no-such-simulator", "{endpoint}"]) as model,
        pytest.raises(ppl.SimulatorError, match="no-such-simulator"),
    ):
        ppl.prior(model, 10, progress=False)


def test_a_command_that_ends_at_once_shows_what_it_said():
    complain = [sys.executable, "-c", "import sys; sys.exit('no licence for this machine')", "{endpoint}"]
    with (
        ppl.RemoteModel(command=complain, max_failures=2) as model,
        pytest.raises(ppl.SimulatorError, match=r"2 times in a row.*status 1(.|\n)*no licence"),
    ):
        model()


def test_a_command_that_never_binds():
    with (
        ppl.RemoteModel(command=["sh", "-c", "sleep 1000", "{endpoint}"], start_timeout=0.3) as model,
        pytest.raises(ppl.SimulatorError, match="failed: it did not bind"),  # once: it never answered
    ):
        model()


def test_an_endpoint_where_nobody_is(tmp_path):
    with (
        ppl.RemoteModel(f"ipc://{tmp_path}/nobody.ipc", start_timeout=0.3) as model,
        pytest.raises(ppl.SimulatorError, match=r"no simulator answered.*nobody.ipc, so nothing(.|\n)*runs and binds"),
    ):
        model()


def test_a_forgotten_endpoint_is_found_before_anything_starts():
    with pytest.raises(ValueError, match=r'No part of `command` is "\{endpoint\}"'):
        ppl.RemoteModel(command=["./simulator"])
    with pytest.raises(ValueError, match="told where to bind"):
        ppl.RemoteModel("tcp://127.0.0.1:5999", command=["./simulator"], num_processes=2)


def test_an_endpoint_of_its_own_that_is_another_one(tmp_path):
    with (
        ppl.RemoteModel(f"ipc://{tmp_path}/a.ipc", command=["sleep", "1000"], start_timeout=0.3) as model,
        pytest.raises(ppl.SimulatorError, match=r'did not bind(.|\n)*No part of `command` is "\{endpoint\}"'),
    ):
        model()


def test_the_waits_for_what_is_started_and_for_what_should_be_there():
    with ppl.RemoteModel("ipc:///nowhere") as there, ppl.RemoteModel(command=["x", "{endpoint}"]) as started:
        assert [model._pool.peers[0]._options.start_timeout for model in (there, started)] == [10.0, 60.0]


def test_an_endpoint_that_is_none():
    with (
        ppl.RemoteModel("nonsense://here", start_timeout=0.3) as model,
        pytest.raises(ppl.SimulatorError, match="nonsense://here"),
    ):
        model()


# -- simulators that fail in the middle --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "program"),
    [
        ("by itself", "suicidal"),
        ("draw by draw", "suicidal"),
        ("chain", "suicidal"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("by itself", "hanging"),
                ("draw by draw", "hanging"),
                ("chain", "hanging"),
                ("smc", "suicidal"),
                ("smc", "hanging"),
            )
        ),
    ],
)
def test_a_simulator_that_fails_once_is_replaced_and_nothing_changes(program, engine, monkeypatch, tmp_path):
    marker = tmp_path / "failed"
    monkeypatch.setenv("PPX_TEST_MARKER", str(marker))

    def run(model):
        if engine == "chain":
            return ppl.metropolis_hastings(model, DATA, 60, burn_in=10, seed=3, progress=False)
        if engine == "smc":
            return ppl.smc(model, DATA, 20, seed=1, progress=False)
        proposal = None if engine == "by itself" else (lambda site: None)
        return ppl.importance_sampling(model, DATA, 60, proposal=proposal, seed=1, progress=False, backend="host")

    with simulator(program, timeout=3.0) as model:
        found = run(model)
    assert marker.exists()
    expected = run(remote_programs.healthy)
    assert values(found) == values(expected)
    assert np.allclose(found.log_weights, expected.log_weights, atol=1e-12)


@pytest.mark.parametrize(
    "proposal", [pytest.param(None, marks=pytest.mark.slow), lambda site: None], ids=["by itself", "draw by draw"]
)
def test_a_simulator_that_dies_again_and_again_ends_the_run_with_its_last_words(proposal):
    with (
        simulator("doomed", max_failures=2) as model,
        pytest.raises(ppl.SimulatorError, match=r"2 times in a row(.|\n)*the detector melted at 0\.9") as caught,
    ):
        ppl.importance_sampling(model, {"y": 1.0}, 20, proposal=proposal, seed=3, progress=False)
    assert uniform(3, 0) <= 0.9 < uniform(3, 1)  # it dies in its second execution
    assert len(caught.value.finished) == 1


def uniform(seed, index):
    """The first uniform of a stream."""
    return ppl.streams.Stream(seed, index).random()


def test_a_simulator_that_hangs_for_ever_ends_the_run():
    with (
        simulator("sleeping", timeout=0.5, start_timeout=120.0, max_failures=1) as model,
        pytest.raises(ppl.SimulatorError, match=r"did not answer in 0\.5 s"),
    ):
        ppl.prior(model, 5, progress=False)


def test_a_simulator_that_is_not_the_same_when_run_again():
    with simulator("forgetful") as model, pytest.raises(ppl.ModelError, match="other things"):
        ppl.smc(model, num_traces=5, seed=1, progress=False)


class Babbler(threading.Thread):
    """A front end that shakes hands and then answers everything with the given bytes."""

    def __init__(self, endpoint, babble, good_after=10**9):
        super().__init__(daemon=True)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REP)
        self.socket.bind(endpoint)
        self.babble = babble
        self.stopped = False

    def run(self):
        hello = ppx.encode(ppx.messages.HandshakeResult("babel", "babbler", 2, 15))
        while not self.stopped:
            if self.socket.poll(50):
                message = ppx.decode(self.socket.recv())
                self.socket.send(hello if isinstance(message, ppx.messages.Handshake) else self.babble)
        self.socket.close(linger=0)
        self.context.term()


BABBLE = {
    "noise": b"\x07" * 40,
    "nothing": b"",
    "reset": ppx.encode(ppx.messages.Reset()),
    "handshake": ppx.encode(ppx.messages.Handshake("who", 2, 0)),
    "unknown site": ppx.encode(ppx.messages.Sample(site=7, numbers=(0.0, 1.0))),
    "no executions": ppx.encode(ppx.messages.RunResult(traces=ppx.messages.Traces())),
    "malformed": ppx.encode(ppx.messages.Error(ppx.ErrorCode.MALFORMED, "I cannot read this")),
}


def test_nan_from_a_simulator_that_does_not_look(tmp_path):
    m = ppx.messages
    sites = (m.Site(ppx.SiteKind.OBSERVE, "f:1", "y", ("Normal", (), ()), ()), m.Site(ppx.SiteKind.RESULT))
    rows = (0.5, 0.0, 1.0, np.nan, 0.0, 1.0)
    babbler = Babbler(
        f"ipc://{tmp_path}/babel.ipc", ppx.encode(m.RunResult(traces=m.Traces(sites, ((1, 2),), (0, 0), rows)))
    )
    babbler.start()
    try:
        with (
            ppl.RemoteModel(f"ipc://{tmp_path}/babel.ipc", timeout=20.0) as model,
            pytest.raises(ppl.ObservationError, match=r"'y' at f:1.*NaN") as caught,
        ):
            ppl.prior(model, 2, progress=False)
        assert [trace["y"] for trace in caught.value.finished] == [0.5]
    finally:
        babbler.stopped = True
        babbler.join()


@pytest.mark.parametrize("what", BABBLE)
def test_a_simulator_that_talks_nonsense(what, tmp_path):
    babbler = Babbler(f"ipc://{tmp_path}/babel.ipc", BABBLE[what])
    babbler.start()
    try:
        with ppl.RemoteModel(f"ipc://{tmp_path}/babel.ipc", timeout=20.0, max_failures=2) as model:
            for run in (
                lambda: ppl.prior(model, 5, progress=False),
                lambda: ppl.importance_sampling(model, num_traces=5, proposal=lambda site: None, progress=False),
            ):
                with pytest.raises(ppl.SimulatorError, match="2 times in a row"):
                    run()
    finally:
        babbler.stopped = True
        babbler.join()


# -- simulators that run already ---------------------------------------------------------------------------------------


def started(program, endpoint, *how):
    """A simulator that nobody manages."""
    arguments = [part.replace("{endpoint}", endpoint) for part in command(program, *how)]
    return subprocess.Popen(arguments, start_new_session=True)


def test_simulators_that_run_already_are_used_and_left_alone(tmp_path):
    endpoints = [f"ipc://{tmp_path}/{number}.ipc" for number in range(2)]
    processes = [started("gum", endpoint) for endpoint in endpoints]
    try:
        with ppl.RemoteModel(endpoints) as model:
            posterior = ppl.importance_sampling(model, GUM_DATA, 1000, seed=1, progress=False)
            assert model.process_ids == []
        assert values(posterior) == values(
            ppl.importance_sampling(gum, GUM_DATA, 1000, seed=1, backend="host", progress=False)
        )
        assert all(process.poll() is None for process in processes)
        with ppl.RemoteModel(endpoints[0], extension=False) as model:  # they serve the next one
            assert len(ppl.prior(model, 5, progress=False)) == 5
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def test_encryption(tmp_path):
    public, secret = zmq.curve_keypair()
    code = textwrap.dedent(f"""
        import sys; sys.path.append({str(HERE.parent)!r})
        import ppx, programs
        ppx.serve(programs.gum, sys.argv[1], curve=({public!r}, {secret!r}))
    """)
    with ppl.RemoteModel(command=[sys.executable, "-c", code, "{endpoint}"], server_key=public.decode()) as model:
        assert len(ppl.prior(model, 5, progress=False)) == 5


# -- what is left: nothing (see the fixture) ---------------------------------------------------------------------------


def test_nothing_is_left_after_an_exception():
    def work():
        with simulator("gum", num_processes=2) as model:
            ppl.prior(model, 100, progress=False)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_nothing_is_left_when_a_model_is_forgotten():
    model = simulator("gum")
    model()
    del model


def test_a_broken_run_leaves_a_usable_model():
    """The consumer of blocks goes away while simulators still work."""
    with simulator("slow", num_processes=2) as model:
        blocks = model.executions(Request(1, {}, False), 0, 1000)
        next(blocks)
        blocks.close()
        assert len(ppl.prior(model, 3, seed=1, progress=False)) == 3


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
sys.path[:0] = [{here!r}]
from remote_simulators import simulator
import ppl_jax as ppl
model = simulator("slow", num_processes=2)
ppl.prior(model, 130, progress=False)  # two batches, so that both are there
print(*model.process_ids, flush=True)
{rest}
"""


def run_script(rest, tmp_path):
    """A Python process that uses simulators, and their process ids."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(here=str(HERE), rest=rest)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


def gone(pids, seconds=30.0):
    """Whether the processes end within a while."""
    deadline = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_nothing_is_left_when_the_interpreter_ends(tmp_path):
    process, pids = run_script("", tmp_path)
    assert process.wait(60) == 0
    assert len(pids) == 2
    assert gone(pids)
    process.communicate()
    assert [name for name in os.listdir(tmp_path) if name.startswith("ppx-")] == []


def test_interruption_keeps_what_was_finished_and_leaves_nothing(tmp_path):
    rest = "posterior = ppl.prior(model, 100_000, seed=1, progress=False); print(len(posterior), flush=True)"
    process, pids = run_script(rest, tmp_path)
    assert process.stdout is not None
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    finished = int(out or 0)
    assert process.returncode == 0, complaints
    assert 0 < finished < 100_000
    assert gone(pids)
    assert [name for name in os.listdir(tmp_path) if name.startswith("ppx-")] == []


# -- killed at random --------------------------------------------------------------------------------------------------


class Killer(threading.Thread):
    """Kills one simulator after the other, at random moments."""

    def __init__(self, model, kills, seed):
        super().__init__(daemon=True)
        self.model, self.kills, self.done = model, kills, 0
        self.random = np.random.default_rng(seed)
        self.stopped = threading.Event()

    def run(self):
        while self.done < self.kills and not self.stopped.wait(self.random.uniform(0.0, 0.1)):
            pids = self.model.process_ids
            if pids:
                try:
                    os.kill(int(self.random.choice(pids)), signal.SIGKILL)
                    self.done += 1
                except ProcessLookupError:
                    pass


def killed_at_random(number, kills, model, processes, proposal):
    """Makes the same ``number`` of traces, which must be the right ones, until there were so many kills."""
    expected = ppl.importance_sampling(gum_marsaglia, GUM_DATA, number, seed=5, backend="host", progress=False)
    done, runs = 0, 0
    with ppl.RemoteModel(command=model, num_processes=processes, max_failures=1000, timeout=60.0) as remote:
        while done < kills:
            killer = Killer(remote, kills - done, seed=runs)
            killer.start()
            posterior = ppl.importance_sampling(remote, GUM_DATA, number, proposal=proposal, seed=5, progress=False)
            killer.stopped.set()
            killer.join()
            done, runs = done + killer.done, runs + 1
            assert len(posterior) == number
            assert values(posterior) == values(expected)
            assert np.allclose(posterior.log_weights, expected.log_weights, atol=1e-12)


CPP = HERE.parents[1] / "build" / "examples" / "gum_marsaglia"
needs_cpp = pytest.mark.skipif(not CPP.exists(), reason="make build has not made the examples in C++")


def test_killed_now_and_then():
    killed_at_random(4000, 2, command("gum_marsaglia"), 2, None)


@needs_cpp
@pytest.mark.parametrize("proposal", [None, lambda site: None], ids=["by itself", "draw by draw"])
def test_killed_now_and_then_in_cpp(proposal):
    killed_at_random(2000, 5, [str(CPP), "{endpoint}"], 2, proposal)


@pytest.mark.slow
@needs_cpp
@pytest.mark.parametrize("proposal", [None, lambda site: None], ids=["by itself", "draw by draw"])
def test_killed_a_hundred_times(proposal):
    killed_at_random(10_000, 100, [str(CPP), "{endpoint}"], 2, proposal)
