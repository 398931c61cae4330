"""Processes that are copies of one start: the same results, copies and originals that die, and that nothing is left."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import remote_programs
import zmq
from programs import GUM_DATA, gum, gum_marsaglia
from remote_simulators import HERE, WAIT, command, simulator

import ppl_jax as ppl

sys.path.append(str(HERE.parent / "ppx"))
from c_core import program
from cpp_front_end import built, has_target

pytestmark = pytest.mark.usefixtures("nothing_left")

DATA = {"data": 1.0}
MODES = {"shared memory": {}, "sockets": {"shared_memory": False}, "1.0.0": {"extension": False}}


def dear(*how, **options):
    """A RemoteModel of tests/ppx/cpp/forks.cpp, in copies."""
    arguments = {"num_processes": 3, "fork": True, "timeout": WAIT, **options}
    return ppl.RemoteModel(command=[str(built("forks")), "{endpoint}", *how], **arguments)


def values(posterior):
    """All values of all traces."""
    return [[np.asarray(site.value).tolist() for site in trace.sites] for trace in posterior]


def sampled(model, number=60, proposal=None, data=DATA):
    """A posterior, for which the simulator draws, or with a proposal is asked draw by draw."""
    return ppl.importance_sampling(model, data, number, proposal=proposal, seed=1, backend="host", progress=False)


def connect_all(model):
    """Makes all simulators run; their process ids."""
    pool = model._pool
    peers = [pool.lend() for _ in pool.peers]
    for peer in peers:
        peer.connect()
    for peer in peers:
        pool.give_back(peer)
    return model.process_ids


def original_of(pids):
    """The process of which these are copies."""
    (parent,) = {psutil.Process(pid).ppid() for pid in pids}
    return psutil.Process(parent)


def wait_for(condition, seconds=30.0):
    """Whether it holds within a while."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def ended(pid):
    """Whether a process ends, and is collected, within a while."""
    return wait_for(lambda: not psutil.pid_exists(pid))


# -- the same as without ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_one_start_makes_all_processes_and_the_same_results(mode, tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    monkeypatch.setenv("PPX_TEST_STARTS", str(starts))

    def engines(model):
        return (
            sampled(model),
            sampled(model, proposal=lambda site: None),
            ppl.metropolis_hastings(model, DATA, 60, burn_in=10, seed=3, progress=False),
            ppl.smc(model, DATA, 20, seed=5, progress=False),
        )

    with dear(fork=False, num_processes=2, **MODES[mode]) as model:
        expected = engines(model)
        connect_all(model)
    assert starts.read_text() == ".."
    starts.unlink()
    for how in ((), ("open",)):
        with dear(*how, num_processes=5, **MODES[mode]) as model:
            for found, wanted in zip(engines(model), expected, strict=True):
                assert values(found) == values(wanted)
                assert np.array_equal(found.log_weights, wanted.log_weights)
            pids = connect_all(model)
            assert len(set(pids)) == 5
            original_of(pids)
    assert starts.read_text() == ".."


@pytest.mark.slow
def test_front_ends_of_all_kinds():
    commands = {
        "C++": [str(built("gum")), "{endpoint}"],
        "C": [str(program("models")), "{endpoint}", "gum"],
        "Python": command("gum"),
    }
    if has_target("gum_fortran"):
        commands["Fortran"] = [str(built("gum_fortran")), "{endpoint}"]
    if has_target("pyprob_cpp_program"):
        commands["pyprob_cpp"] = [str(built("pyprob_cpp_program")), "{endpoint}"]
    data = {"pyprob_cpp": None}
    for language, arguments in commands.items():
        runs = []
        for fork in (False, True):
            with ppl.RemoteModel(command=arguments, num_processes=2, fork=fork, timeout=WAIT) as model:
                if language == "pyprob_cpp":
                    runs.append(ppl.prior(model, 20, seed=1, progress=False))
                else:
                    runs.append(sampled(model, 20, lambda site: None, data.get(language, GUM_DATA)))
                assert len(connect_all(model)) == 2
                if fork:
                    original_of(model.process_ids)
        assert values(runs[0]) == values(runs[1]), language


def test_many_processes():
    with dear(num_processes=64) as model:
        pids = connect_all(model)
        assert len(set(pids)) == 64
        found = sampled(model, 200, proposal=lambda site: None)
    assert values(found) == values(sampled(remote_programs.healthy, 200, proposal=lambda site: None))


def test_endpoints_of_the_users_own(tmp_path):
    context = zmq.Context()
    with context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1", 30_000, 40_000)
    context.term()
    for endpoint in (f"ipc://{tmp_path}/mine.ipc", f"tcp://127.0.0.1:{port}"):
        with dear(endpoint=endpoint, num_processes=2) as model:
            assert values(sampled(model)) == values(sampled(remote_programs.healthy))
            assert endpoint in repr(model)
    assert os.listdir(tmp_path) == []


def test_a_wrapper_around_the_command(tmp_path):
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\n{built('gum')} $1\n")
    script.chmod(0o755)
    with ppl.RemoteModel(command=[str(script), "{endpoint}"], num_processes=2, fork=True, timeout=WAIT) as model:
        found = sampled(model, data=GUM_DATA)
        pids = connect_all(model)
        original = original_of(pids)
    assert values(found) == values(sampled(gum, data=GUM_DATA))
    assert ended(original.pid)
    assert all(map(ended, pids))


def test_what_was_printed_before_is_printed_once(tmp_path):
    with dear() as model:
        connect_all(model)
        folder = Path(model._pool._guard.folder)
        assert (folder / "original.output").read_text() == "the tables are read"
        assert [(folder / f"{number}.output").read_text() for number in range(3)] == ["", "", ""]


# -- arguments, and simulators of which there can be no copy -----------------------------------------------------------


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="fork=True makes copies of what `command` starts"):
        ppl.RemoteModel("ipc:///tmp/x.ipc", fork=True)
    with pytest.raises(ValueError, match="fork must be True or False, got 1"):
        ppl.RemoteModel(command=["x", "{endpoint}"], fork=1)


def test_a_front_end_that_does_not_know_of_copies():
    old = ["env", "-u", "PPX_FORK_SERVER", str(built("gum")), "{endpoint}"]
    with (
        ppl.RemoteModel(command=old, num_processes=2, fork=True) as model,
        pytest.raises(ppl.SimulatorError, match=r"older than `fork`.*leave `fork` out"),
    ):
        sampled(model, data=GUM_DATA)


def test_a_missing_command():
    with (
        ppl.RemoteModel(command=["./no-such-simulator", "{endpoint}"], fork=True) as model,
        pytest.raises(ppl.SimulatorError, match="no-such-simulator"),
    ):
        model()


def test_a_start_that_fails_shows_what_was_said():
    complain = [sys.executable, "-c", "import sys; sys.exit('no licence for this machine')"]
    with (
        ppl.RemoteModel(command=complain, max_failures=2, num_processes=3, fork=True) as model,
        pytest.raises(ppl.SimulatorError, match=r"2 times in a row.*status 1 before it could be copied(.|\n)*licence"),
    ):
        model()


def test_a_start_that_never_ends():
    with (
        ppl.RemoteModel(command=["sleep", "1000"], start_timeout=0.3, max_failures=2, fork=True) as model,
        pytest.raises(ppl.SimulatorError, match=r"not ready to be copied in 0\.3 s"),
    ):
        model()


def test_an_endpoint_that_copies_cannot_bind(tmp_path):
    with (
        dear(endpoint=f"ipc://{tmp_path}/no-such-folder/x.ipc", num_processes=1, max_failures=2) as model,
        pytest.raises(ppl.SimulatorError, match=r"ended with status 1(.|\n)*cannot bind"),
    ):
        model()


def test_threads_are_warned_of():
    with dear("threads", num_processes=1) as model, pytest.warns(UserWarning, match="has 2 threads when it is copied"):
        sampled(model)
    with dear(num_processes=1) as model, warnings.catch_warnings():
        warnings.simplefilter("error")
        sampled(model)


# -- copies that die ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proposal", [None, lambda site: None], ids=["by itself", "draw by draw"])
def test_a_copy_that_crashes_is_replaced_and_nothing_changes(proposal, tmp_path, monkeypatch):
    marker, starts = tmp_path / "crashed", tmp_path / "starts"
    monkeypatch.setenv("PPX_TEST_MARKER", str(marker))
    monkeypatch.setenv("PPX_TEST_STARTS", str(starts))
    with dear(num_processes=2) as model:
        found = sampled(model, proposal=proposal)
    assert marker.exists()
    assert starts.read_text() == "."
    assert values(found) == values(sampled(remote_programs.healthy, proposal=proposal))


@pytest.mark.parametrize("proposal", [None, lambda site: None], ids=["by itself", "draw by draw"])
def test_a_crash_is_named_with_the_last_words_of_this_copy(proposal, tmp_path, monkeypatch):
    monkeypatch.setenv("PPX_TEST_MARKER", str(tmp_path / "crashed"))
    with (
        dear(num_processes=2, max_failures=1) as model,
        pytest.raises(ppl.SimulatorError, match=r"killed by SIGSEGV(.|\n)*the calorimeter is on fire"),
    ):
        sampled(model, proposal=proposal)


def test_a_python_copy_that_ends_is_named():
    with (
        simulator("doomed", max_failures=2, fork=True) as model,
        pytest.raises(ppl.SimulatorError, match=r"ended with status 3(.|\n)*the detector melted at 0\.9"),
    ):
        ppl.importance_sampling(model, {"y": 1.0}, 20, seed=3, progress=False)


@pytest.mark.slow
def test_a_copy_that_hangs_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("PPX_TEST_MARKER", str(tmp_path / "hung"))
    with simulator("hanging", timeout=2.0, fork=True) as model:
        found = sampled(model)
    assert values(found) == values(sampled(remote_programs.healthy))


def test_a_copy_that_is_killed_does_not_remain():
    with dear() as model:
        pids = connect_all(model)
        os.kill(pids[1], signal.SIGKILL)
        assert ended(pids[1])  # also from the table of processes
        assert values(sampled(model)) == values(sampled(remote_programs.healthy))
        again = connect_all(model)
        assert (again[0], again[2]) == (pids[0], pids[2])
        assert again[1] != pids[1]


def test_the_death_of_the_original_ends_its_copies_and_starts_anew(tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    monkeypatch.setenv("PPX_TEST_STARTS", str(starts))
    with dear() as model:
        pids = connect_all(model)
        original = original_of(pids)
        original.kill()
        assert all(map(ended, pids))
        assert values(sampled(model)) == values(sampled(remote_programs.healthy))
        assert starts.read_text() == ".."
        assert model.process_ids[0] not in pids
        original_of([model.process_ids[0]]).kill()
        model._pool.peers[0]._options = model._pool.peers[0]._options._replace(max_failures=1)
        with pytest.raises(ppl.SimulatorError, match="ended with the process that it is a copy of, which was killed"):
            model()


@pytest.mark.slow
def test_an_original_that_was_asked_to_end_takes_its_copies_along():
    for arguments in ([str(built("gum")), "{endpoint}"], command("gum")):
        with ppl.RemoteModel(command=arguments, num_processes=2, fork=True, timeout=WAIT) as model:
            pids = connect_all(model)
            original_of(pids).terminate()
            assert all(map(ended, pids))
            assert values(sampled(model, data=GUM_DATA)) == values(sampled(gum, data=GUM_DATA))


def test_what_a_copy_started_ends_with_it():
    with dear("child", num_processes=1) as model:
        sampled(model, 3)
        (pid,) = connect_all(model)
        children = psutil.Process(pid).children()
        assert wait_for(lambda: [child.name() for child in children] == ["sleep"] * 3)  # after a moment as forks
        os.kill(pid, signal.SIGKILL)
        assert all(ended(child.pid) for child in children)
        sampled(model, 3)
        children = psutil.Process(*connect_all(model)).children()
    assert all(ended(child.pid) for child in children)


class Killer(threading.Thread):
    """Kills copies, and sometimes the original, at random moments."""

    def __init__(self, model, kills):
        super().__init__(daemon=True)
        self.model, self.kills, self.done = model, kills, 0
        self.random = np.random.default_rng(1)
        self.stopped = threading.Event()

    def run(self):
        while self.done < self.kills and not self.stopped.wait(self.random.uniform(0.0, 0.02)):
            pids = self.model.process_ids
            try:
                victim = psutil.Process(int(self.random.choice(pids)))
                parent = victim.parent()
                if self.random.random() < 0.2 and parent.pid != os.getpid():
                    victim = parent
                victim.kill()
                self.done += 1
            except (ValueError, AttributeError, psutil.NoSuchProcess):  # there is none at the moment
                pass


@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("proposal", [None, lambda site: None], ids=["by itself", "draw by draw"])
def test_killed_at_random(kills, proposal):
    number = 2000
    expected = ppl.importance_sampling(gum_marsaglia, GUM_DATA, number, seed=1, backend="host", progress=False)
    done = 0
    options = {"num_processes": 3, "fork": True, "max_failures": 1000, "timeout": 60.0}
    with ppl.RemoteModel(command=[str(built("gum_marsaglia")), "{endpoint}"], **options) as model:
        connect_all(model)
        while done < kills:
            killer = Killer(model, kills - done)
            killer.start()
            found = sampled(model, number, proposal, GUM_DATA)
            killer.stopped.set()
            killer.join()
            done += killer.done
            assert values(found) == values(expected)


# -- nothing is left ---------------------------------------------------------------------------------------------------

SCRIPT = """
    import os, sys, time, warnings
    sys.path[:0] = [{here!r}, {tests!r}]
    import ppl_jax as ppl
    from test_remote_forks import connect_all, original_of
    if __name__ == "__main__":
        model = ppl.RemoteModel(command={command!r}, num_processes=3, fork=True)
        pids = connect_all(model)
        print(*pids, original_of(pids).pid, flush=True)
        {rest}
"""


def run_script(arguments, rest, folder):
    """A Python process that uses copies, and their process ids with the original's."""
    script = textwrap.dedent(SCRIPT).format(here=str(HERE), tests=str(HERE.parent), command=arguments, rest=rest)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 4
    return process, pids


KINDS = {"C++": lambda: [str(built("gum")), "{endpoint}"], "Python": lambda: command("gum")}
LONG = "ppl.importance_sampling(model, {'obs0': 1.0, 'obs1': 1.0}, 10**6, proposal=lambda site: None, progress=False)"
ENDS = {
    "it ends": ("pass", None, 0),
    "an exception": ("raise ValueError('no more')", None, 1),
    "os._exit": ("os._exit(5)", None, 5),
    "SIGKILL": (LONG, signal.SIGKILL, -signal.SIGKILL),
    "SIGTERM": (LONG, signal.SIGTERM, -signal.SIGTERM),
    "Ctrl-C": (LONG, signal.SIGINT, None),
    "SIGKILL with a forked worker": ("os.fork(); time.sleep(1000)", signal.SIGKILL, -signal.SIGKILL),
}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("C++", "SIGKILL"),
        ("C++", "Ctrl-C"),
        *(pytest.param("C++", how, marks=pytest.mark.slow) for how in ENDS if how not in ("SIGKILL", "Ctrl-C")),
        *(pytest.param("Python", how, marks=pytest.mark.slow) for how in ENDS),
    ],
)
def test_nothing_is_left_however_the_inference_side_ends(kind, how, tmp_path):
    rest, number, status = ENDS[how]
    process, pids = run_script(KINDS[kind](), rest, tmp_path)
    workers = []
    if number is not None:
        time.sleep(0.5)
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if child.pid not in pids and "ppx-guard" not in child.cmdline()]
        process.send_signal(number)
    try:
        process.wait(60)
        assert all(map(ended, pids))
        assert len(workers) == ("worker" in how)
        assert all(worker.is_running() for worker in workers)  # they hold the same files, and live on
    finally:
        for worker in workers:
            worker.kill()
    process.communicate(timeout=60)
    assert status is None or process.returncode == status


@pytest.mark.filterwarnings("ignore:Interrupted")
def test_ctrl_c_and_then_work_goes_on():
    over = threading.Event()

    def press() -> None:
        """Again after a while: Python loses one that comes while it runs the callback of a weak reference."""
        over.wait(0.5)
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(10.0)

    with dear() as model:
        pids = connect_all(model)
        thread = threading.Thread(target=press)
        thread.start()
        try:
            found = sampled(model, 10**6, proposal=lambda site: None)  # what was finished is kept
        except KeyboardInterrupt:
            found = None
        finally:
            over.set()
            thread.join()
        assert found is None or len(found) < 10**6
        assert values(sampled(model)) == values(sampled(remote_programs.healthy))
        assert set(pids) & set(connect_all(model))


@pytest.mark.slow
def test_a_simulator_that_ignores_the_order_to_end():
    stubborn = textwrap.dedent(f"""
        import signal, sys
        from contextlib import nullcontext
        sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
        import ppx
        import remote_programs
        from ppl_jax.serving.frontend import FrontEnd
        FrontEnd.stopped_by_signals = lambda self: nullcontext()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ppx.serve(remote_programs.healthy, sys.argv[1])
    """)
    with ppl.RemoteModel(command=[sys.executable, "-c", stubborn, "{endpoint}"], num_processes=2, fork=True) as model:
        assert values(sampled(model)) == values(sampled(remote_programs.healthy))
        pids = connect_all(model)
    assert all(map(ended, pids))
