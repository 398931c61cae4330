"""Simulators in C++ that fail, are stopped, or lose their peer: the error arrives, and the next execution is served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import zmq
from cpp_front_end import PATIENCE, built, connected, local_prior, simulator
from dialogues import dialogue, request

import ppx
from ppx import messages as m
from ppx.constants import ErrorCode

MODEL, PARAMETER = ErrorCode.MODEL, ErrorCode.PARAMETER
# What goes wrong, the code, a part of the text, and a part of the address.
FAULTS = {
    "standard": (MODEL, "std::out_of_range: no such layer: 17", "the last statement"),
    "text": (MODEL, "char const*: a text", "lambda"),
    "string": (MODEL, "a string", "lambda"),
    "number": (MODEL, "int", "lambda"),
    "unlike": (MODEL, "(anonymous namespace)::Unlike", "lambda"),
    "parameter": (PARAMETER, "Normal: stddev", "the bad draw"),
    "parameter of an array": (PARAMETER, "Normal: stddev", ""),
    "shapes": (PARAMETER, "Normal: the shapes", ""),
    "mixture": (PARAMETER, "Mixture", ""),
    "factor": (PARAMETER, "factor", ""),
    "name": (MODEL, "name is not UTF-8", "lambda"),
    "result": (MODEL, "std::bad_alloc", "lambda"),
    "destructor": (MODEL, "std::runtime_error: while a destructor tags", ""),
    "given up in a destructor": (PARAMETER, "Normal: stddev", ""),
    "array in a destructor": (PARAMETER, "Normal: stddev", ""),
    "scope": (MODEL, "std::runtime_error: inside a scope", ""),
    "swallowed": (PARAMETER, "Normal: stddev", ""),
    "swallowed and thrown": (PARAMETER, "Normal: stddev", ""),
}


def fails(first: float) -> bool:
    return first < 0.5


@pytest.mark.parametrize("kind", FAULTS)
def test_error_of_one_execution(kind, tmp_path):
    """Under draws: failed executions are entries of errors, the others arrive."""
    with connected("faults", tmp_path, kind) as connection:
        executions, errors = local_prior(connection, 40)
    code, text, address = FAULTS[kind]
    assert len(executions) + len(errors) == 40
    assert min(len(executions), len(errors)) > 5
    assert all(not fails(execution[0].value[0]) for execution in executions)
    for error in errors:
        assert error.code == code, error
        assert text in error.text
        assert address in error.address


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FAULTS, ""])
def test_no_fault_leaves_memory_in_disorder(kind, tmp_path):
    """Under AddressSanitizer and UBSan, which say nothing, and find nothing that was not freed."""
    program = ("faults", kind) if kind else ("statements",)
    with simulator(program[0], tmp_path, *program[1:], sanitized=True) as (endpoint, process):
        for capabilities in (31, 7, 0):
            with ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities)) as connection:
                connection.handshake(PATIENCE)
                if capabilities == 31:
                    local_prior(connection, 100)
                for _ in range(10):
                    dialogue(connection, m.Run())
        process.terminate()
        lines = process.communicate(timeout=PATIENCE)[1].splitlines()
        # A peer of PPX 1.0.0 cannot be told why an execution failed; the terminal is.
        unexpected = [line for line in lines if not (line.startswith("ppx: ") and "answered with Reset" in line)]
        assert (process.returncode, unexpected) == (0, [])


@pytest.mark.parametrize("kind", ["standard", "parameter", "destructor", "swallowed"])
@pytest.mark.parametrize("capabilities", [0, 3, 7, 31])
def test_error_of_an_execution_that_asks(kind, capabilities, tmp_path):
    values = iter([0.25, 0.75, 0.25, 0.75])

    def answer(question: m.Message) -> m.Message:
        if type(question) is m.Sample:
            return m.SampleResult((), (next(values),), question.position)
        return m.TagResult()

    with connected("faults", tmp_path, kind, capabilities=capabilities) as connection:
        for _ in range(2):
            failed = dialogue(connection, m.Run(), answer)[-1]
            if capabilities:
                code, text, address = FAULTS[kind]
                assert (type(failed), failed.code) == (m.Error, code)
                assert text in failed.text
                assert address in failed.address
            else:
                assert type(failed) is m.Reset
            assert type(dialogue(connection, m.Run(), answer)[-1]) is m.RunResult


def test_value_that_is_no_integer(tmp_path):
    """Data of a count are cut towards zero; what is beyond all integers fails the model that asks for one."""
    first = m.Observation("first", (), (0.25,))
    with connected("faults", tmp_path, "integer") as connection:
        for value, seen in ((7.0, 7.0), (4.37, 4.0)):
            policy = m.Policy(observations=(first, m.Observation("count", (), (value,))))
            executions, errors = local_prior(connection, 3, policy=policy)
            assert not errors
            assert [execution[-1].value for execution in executions] == [(seen,)] * 3
        policy = m.Policy(observations=(first, m.Observation("count", (), (1e300,))))
        executions, errors = local_prior(connection, 3, policy=policy)
        assert not executions
        assert all("the value of 'count' is 1" in error.text and "no integer" in error.text for error in errors)


def test_abort(tmp_path):
    """An Error in place of an answer unwinds the model; the next execution is served."""
    with connected("gum", tmp_path, capabilities=7) as connection:
        for _ in range(3):
            assert type(request(connection, m.Run())) is m.Sample
            answer = request(connection, m.Error(ErrorCode.UNKNOWN, "changed my mind"))
            assert (type(answer), answer.code) == (m.Error, ErrorCode.ABORTED)
        assert type(dialogue(connection, m.Run(), lambda question: m.SampleResult((), (1.0,), 0))[-1]) is m.RunResult


# -- stopping ---------------------------------------------------------------------------------------------------------


def socket_file(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("capabilities", [7, 31])
@pytest.mark.parametrize("running", [False, True])
def test_signals_stop_it(number, capabilities, running, tmp_path):
    """Idle or in the middle of an execution, on either transport: the process ends well and leaves no file behind."""
    with (
        simulator("gum", tmp_path) as (endpoint, process),
        ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities)) as connection,
    ):
        connection.handshake(PATIENCE)
        if running:
            assert type(connection.request(m.Run(), PATIENCE)) is m.Sample
        assert socket_file(endpoint).exists()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert not socket_file(endpoint).exists()


def test_it_stops_with_its_parent(tmp_path):
    """A simulator that was started by a process that is killed does not outlive it, if it was told so."""
    endpoint = f"ipc://{tmp_path}/orphan.ipc"
    script = f"""
        import subprocess, sys, time
        process = subprocess.Popen([{str(built("gum"))!r}, {endpoint!r}])
        print(process.pid, flush=True)
        time.sleep(600)
    """
    environment = {**os.environ, "PPX_STOP_WITH_PARENT": "1"}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    orphan = psutil.Process(int(parent.stdout.readline()))
    try:
        with ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
        parent.kill()
        parent.wait()
        psutil.wait_procs([orphan], timeout=PATIENCE)
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert not socket_file(endpoint).exists()
    finally:
        parent.kill()
        parent.communicate()
        if orphan.is_running():
            orphan.kill()


def test_it_goes_on_without_its_parent_if_it_was_not_told_so(tmp_path):
    endpoint = f"ipc://{tmp_path}/orphan.ipc"
    environment = {name: value for name, value in os.environ.items() if name != "PPX_STOP_WITH_PARENT"}
    started = subprocess.run(
        ["sh", "-c", f"'{built('gum')}' '{endpoint}' >/dev/null 2>&1 & echo $!"],
        capture_output=True, text=True, timeout=PATIENCE, env=environment, check=True,
    )  # fmt: skip
    orphan = psutil.Process(int(started.stdout))
    try:
        time.sleep(0.5)  # longer than it takes to notice
        with ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
            assert len(local_prior(connection, 10)[0]) == 10
    finally:
        orphan.terminate()
        orphan.wait(PATIENCE) if orphan.is_running() else None


# -- threads ----------------------------------------------------------------------------------------------------------


def test_two_models_in_one_process(tmp_path):
    """Each thread has a session of its own, and one that has none draws by itself."""
    endpoints = [f"ipc://{tmp_path}/first.ipc", f"ipc://{tmp_path}/second.ipc"]
    process = subprocess.Popen([str(built("threads")), *endpoints], stdout=subprocess.PIPE, text=True)
    try:
        assert "another front end of this process stops on signals" in process.stdout.readline()
        assert process.stdout.readline() == "serving\n"
        with ppx.Connection(endpoints[0]) as one, ppx.Connection(endpoints[1]) as two:
            for connection in (one, two):
                connection.handshake(PATIENCE)
            for connection in (one, two):
                connection.send(m.Run(m.Draws(3, 0, 2000, 0, m.Policy())))
            for connection in (two, one):
                answer = connection.receive(PATIENCE)
                assert len(answer.traces.types) == 2000
                names = [site.name for site in answer.traces.sites]
                assert names == (["first", "connected", ""] if connection is one else ["second", ""])
        process.terminate()
        assert process.communicate(timeout=PATIENCE)[0] == "0\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


# -- what the command line says ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nonsense://endpoint"], 1, "cannot serve at nonsense://endpoint: "),
        (["ipc:///no/such/folder/gum.ipc"], 1, "cannot serve at ipc:///no/such/folder/gum.ipc: "),
        (["--help"], 2, "usage: "),
        (["tcp://127.0.0.1:1", "more"], 2, "usage: "),
    ],
)
def test_what_cannot_be_served(arguments, code, text):
    done = subprocess.run([str(built("gum")), *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code
    assert text in done.stderr
    assert len(done.stderr.splitlines()[0]) > len(text)


def test_endpoint_that_another_has():
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        done = subprocess.run(
            [str(built("gum")), f"tcp://127.0.0.1:{port}"], capture_output=True, text=True, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert "in use" in done.stderr
