"""The C core when a side dies or leaves, and how a front end begins and ends."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq
from c_core import PATIENCE, connected, library, program, simulator
from dialogues import dialogue, request

import ppx
from ppx import messages as m

# -- sides that die ---------------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
import ppx
from ppx import messages as m
connection = ppx.Connection(sys.argv[1], capabilities=ppx.Capability(int(sys.argv[2])))
connection.handshake(30.0)
if sys.argv[3] == "running":
    assert type(connection.request(m.Run(), 30.0)) is m.Sample
print(int(connection.active), flush=True)
if sys.argv[4] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
connection.close()
"""


# The others differ little from these.
QUICK_ENDS = [(0, "running", "kill"), (31, "running", "kill"), (31, "idle", "leave")]
ALL_ENDS = [(bits, state, how) for bits in (0, 15, 31) for state in ("idle", "running") for how in ("kill", "leave")]


@pytest.mark.parametrize(
    ("capabilities", "state", "how"),
    [*QUICK_ENDS, *(pytest.param(*end, marks=pytest.mark.slow) for end in ALL_ENDS if end not in QUICK_ENDS)],
)
def test_an_inference_side_that_dies_leaves_a_front_end_that_serves_the_next(capabilities, state, how, tmp_path):
    with simulator("gum", tmp_path) as (endpoint, process):
        for _ in range(3):
            command = [sys.executable, "-c", DYING, endpoint, str(capabilities), state, how]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.stdout.strip() == str(capabilities), done.stderr
            assert done.returncode == (-signal.SIGKILL if how == "kill" else 0)
        with ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
            assert connection.active == ppx.ALL_CAPABILITIES
            assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
        assert process.poll() is None


def test_a_front_end_that_shares_cores_answers_as_ever(tmp_path):
    with connected("gum", tmp_path) as connection:
        expected = dialogue(connection, m.Run())
        for crowded in (True, False, True):
            connection.share_cores(crowded)
            assert [type(message) for message in dialogue(connection, m.Run())] == [type(one) for one in expected]
        connection.handshake(PATIENCE)
        assert not connection._channel._mailbox.is_crowded  # it holds until then


@pytest.mark.parametrize("capabilities", [15, 31])
def test_connections_leave_nothing_behind(capabilities, tmp_path):
    """Neither descriptors nor mappings; a new connection takes the place of the one before."""

    def holds(pid: int) -> tuple[int, int]:
        mappings = Path(f"/proc/{pid}/maps").read_text()
        return len(os.listdir(f"/proc/{pid}/fd")), mappings.count("memfd")

    with simulator("gum", tmp_path) as (endpoint, process):
        held = []
        for _ in range(30):
            with ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities)) as connection:
                connection.handshake(PATIENCE)
                dialogue(connection, m.Run())
                held.append(holds(process.pid))
        assert held[5] == held[-1]
        assert held[-1][1] == (capabilities == 31)


def test_processes_are_seen_to_live_and_die():
    """By their descriptors, and by their starting times where the kernel has none."""
    done = subprocess.run([str(program("process"))], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_mailbox_that_is_none_is_refused_and_the_socket_serves(tmp_path):
    """Wrong numbers, a file that is no memfd, one that is not sealed, a wrong nonce, a process that is not there."""
    ordinary = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(ordinary, 4096 + 2 * 65_536)
    unsealed = os.memfd_create("ppx")
    os.ftruncate(unsealed, 4096 + 2 * 65_536)
    os.write(unsealed, b"PPXMAIL1" + (1).to_bytes(8, "little") + (65_536).to_bytes(8, "little"))
    mailbox, shared = ppx.mailbox.create(65_536)
    size = 4096 + 2 * 65_536
    try:
        with connected("gum", tmp_path, capabilities=0) as connection:
            for offer in (
                None,
                m.SharedMemory(0, 0, 0, 0),
                m.SharedMemory(os.getpid(), 10**6, size, 1),
                m.SharedMemory(2**32 - 1, 3, size, 1),
                m.SharedMemory(os.getpid(), ordinary, size, 1),
                m.SharedMemory(os.getpid(), unsealed, size, 1),
                shared._replace(nonce=shared.nonce ^ 1),
                shared._replace(size=size + 8192),
                shared._replace(size=2**64 - 1),
                shared._replace(size=4095),
                shared._replace(size=4096),
            ):
                answer = request(connection, m.Handshake("x", 2, 31, offer))
                assert answer.capabilities == 15
            assert request(connection, m.Handshake("x", 2, 31, shared)).capabilities == 31
    finally:
        mailbox.close()
        os.close(ordinary)
        os.close(unsealed)


@pytest.mark.slow
def test_a_message_beyond_the_limit_ends_its_connection_and_no_other(tmp_path):
    with simulator("gum", tmp_path) as (endpoint, _), zmq.Context() as context, context.socket(zmq.REQ) as raw:
        raw.linger = 0
        raw.connect(endpoint)
        raw.send(bytes((64 << 20) + 1))
        with ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
            assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
        assert not raw.poll(100)


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("state", ["waiting", "idle", "running", "mailbox"])
def test_signals_end_the_front_end_and_remove_its_file(number, state, tmp_path):
    with simulator("gum", tmp_path) as (endpoint, process):
        capabilities = 31 if state == "mailbox" else 15
        with ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities)) as connection:
            connection.handshake(PATIENCE)
            if state in ("running", "mailbox"):
                assert type(request(connection, m.Run())) is m.Sample
            if state != "waiting":
                process.send_signal(number)
                assert process.wait(PATIENCE) == 0
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert list(tmp_path.glob("*.ipc")) == []


def test_executions_that_are_done_are_sent_before_the_end(tmp_path):
    with simulator("stopping", tmp_path) as (endpoint, process), ppx.Connection(endpoint) as connection:
        connection.handshake(PATIENCE)
        answer = request(connection, m.Run(m.Draws(1, 0, 1000)))
        assert (len(answer.traces.types), len(answer.traces.errors)) == (5, 0)
        assert process.wait(PATIENCE) == 0


def test_a_second_front_end_keeps_its_file(tmp_path):
    """Who binds the name of another takes it over; the first one's end does not take it away."""
    with simulator("gum", tmp_path) as (endpoint, first), ppx.Connection(endpoint) as one:
        one.handshake(PATIENCE)
        with simulator("branching", tmp_path, endpoint=endpoint), ppx.Connection(endpoint) as two:
            deadline = time.monotonic() + PATIENCE
            while two.handshake(PATIENCE).model_name != "branching":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            first.send_signal(signal.SIGTERM)
            assert first.wait(PATIENCE) == 0
            assert Path(endpoint.removeprefix("ipc://")).exists()


ORPHANED = """
import subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
print(process.pid, flush=True)
import ppx
connection = ppx.Connection(sys.argv[2])
connection.handshake(30.0)
"""


def test_a_front_end_ends_with_its_parent_if_told_so(tmp_path):
    command = [str(program("models")), f"ipc://{tmp_path}/gum.ipc", "gum", "parent"]
    done = subprocess.run([sys.executable, "-c", ORPHANED, *command], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and _state(pid) not in "ZX":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list(tmp_path.glob("*.ipc")) == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_signals_belong_to_one_session_at_a_time(tmp_path):
    core, error = library(), ctypes.create_string_buffer(256)
    core.ppx_open.restype = ctypes.c_void_p
    one, two = (ctypes.c_void_p(core.ppx_open(f"ipc://{tmp_path}/{k}.ipc".encode(), None, error, 256)) for k in "12")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert core.ppx_stop_on_signals(one) == core.ppx_stop_on_signals(one) == 0
        assert core.ppx_stop_on_signals(two) == -2
        core.ppx_close(one)
        assert core.ppx_stop_on_signals(two) == 0
        os.kill(os.getpid(), signal.SIGTERM)  # ends nothing but the session
        assert core.ppx_wait_run(two) == 2
    finally:
        core.ppx_close(two)
    assert signal.getsignal(signal.SIGTERM) == before
    assert list(tmp_path.glob("*.ipc")) == []


def fails_to_open(*words: str) -> str:
    done = subprocess.run([str(program("models")), *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_an_endpoint_that_cannot_be_bound(tmp_path):
    assert "cannot bind: " in fails_to_open("ipc:///nowhere/at/all.ipc", "gum")
    assert "cannot bind: " in fails_to_open("nonsense", "gum")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert endpoint in fails_to_open(endpoint, "gum")
    assert "CURVE" in fails_to_open(f"ipc://{tmp_path}/x.ipc", "gum", "curve=short")
    assert list(tmp_path.iterdir()) == []


def test_curve_keys(tmp_path):
    public, secret = zmq.curve_keypair()
    with simulator("gum", tmp_path, f"curve={secret.decode()}") as (endpoint, _):
        with ppx.Connection(endpoint, server_key=public) as connection:
            connection.handshake(PATIENCE)
            assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
        for wrong in (None, zmq.curve_keypair()[0]):
            with ppx.Connection(endpoint, server_key=wrong) as connection, pytest.raises(ppx.PeerLost):
                connection.handshake(1.0)


def test_tcp(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        simulator("gum", tmp_path, endpoint=f"tcp://127.0.0.1:{port}") as (endpoint, _),
        ppx.Connection(endpoint) as connection,
    ):
        connection.handshake(PATIENCE)
        assert connection.active == ppx.ALL_CAPABILITIES
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
