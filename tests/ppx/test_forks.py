"""Both front ends when they are asked for copies, byte by byte (PROTOCOL.md, section 16)."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from c_core import PATIENCE, SANITIZE, program
from dialogues import dialogue

import ppx
from ppx import messages as m

PYTHON = "import sys; sys.path[:0] = {path!r}; import programs, ppx; ppx.serve(programs.gum, sys.argv[1])"


def c_command() -> list[str]:
    """The C core's gum, which stops on signals."""
    return [str(program("models", sanitize=SANITIZE)), "ipc:///not/bound", "gum", "signals"]


def python_command() -> list[str]:
    """The same in Python."""
    script = PYTHON.format(path=[str(Path(__file__).resolve().parents[1])])
    return [sys.executable, "-c", script, "ipc:///not/bound"]


class Original:
    """A front end that is asked for copies."""

    def __init__(self, command: list[str]):
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests.settimeout(PATIENCE)
        environment = {**os.environ, "PPX_FORK_SERVER": str(theirs.fileno())}
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], start_new_session=True, stderr=subprocess.PIPE
        )
        theirs.close()
        self.first = self.requests.recv(8192)

    def ask(self, *words: str) -> list[str]:
        """The answer to a request."""
        self.requests.send("\0".join(words).encode())
        return self.requests.recv(8192).decode().split("\0")

    def fork(self, endpoint: str, output: Path) -> int:
        """The process id of a new copy."""
        number, word, pid = self.ask("7", "fork", endpoint, str(output))
        assert (number, word) == ("7", "forked")
        return int(pid)


@pytest.fixture(params=[c_command, python_command], ids=["C", "Python"])
def original(request) -> Iterator[Original]:
    """One of the two front ends, ready."""
    made = Original(request.param())
    try:
        yield made
    finally:
        made.requests.close()
        made.process.wait(PATIENCE)
        assert made.process.stderr is not None
        made.process.stderr.close()


@contextmanager
def connected(endpoint: str) -> Iterator[ppx.Connection]:
    """A connection to a copy, after the handshake."""
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(endpoint.removeprefix("ipc://")) and time.monotonic() < deadline:
        time.sleep(0.002)
    with ppx.Connection(endpoint) as connection:
        connection.handshake(PATIENCE)
        yield connection


def ended(original: Original, pid: int, *request: str) -> int:
    """How a copy ended, after a while at most, as waitpid gives it."""
    answer = original.ask("8", *(request or ("look", str(pid))))
    deadline = time.monotonic() + PATIENCE
    while answer == ["8", "runs", ""] and time.monotonic() < deadline:
        time.sleep(0.01)
        answer = original.ask("8", "look", str(pid))
    assert answer[:2] == ["8", "ended"]
    return int(answer[2])


def test_it_says_that_it_is_ready_and_how_many_threads_it_has(original):
    assert original.first == b"0\0ready\x001"


def test_copies_serve_at_their_endpoints(original, tmp_path):
    endpoints = [f"ipc://{tmp_path}/{number}.ipc" for number in range(3)]
    pids = [original.fork(endpoint, tmp_path / "output") for endpoint in endpoints]
    assert len(set(pids)) == 3
    for endpoint, pid in zip(endpoints, pids, strict=True):
        with connected(endpoint) as connection:
            assert connection.active == ppx.ALL_CAPABILITIES
            assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
        assert psutil.Process(pid).ppid() == original.process.pid
        assert os.getsid(pid) == pid
        assert original.ask("3", "look", str(pid)) == ["3", "runs", ""]


def test_how_copies_end_is_told_once(original, tmp_path):
    first, second = (original.fork(f"ipc://{tmp_path}/{name}.ipc", tmp_path / "output") for name in "ab")
    with connected(f"ipc://{tmp_path}/a.ipc"), connected(f"ipc://{tmp_path}/b.ipc"):
        os.kill(first, signal.SIGUSR1)  # which no sanitizer takes for itself
        status = ended(original, first)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGUSR1
        assert original.ask("9", "look", str(first)) == ["9", "unknown", ""]
        status = ended(original, second, "signal", str(second), "15")
        assert os.WIFEXITED(status)
        assert os.WEXITSTATUS(status) == 0
    assert not os.path.exists(tmp_path / "b.ipc")


def test_one_that_ends_is_collected_before_anybody_asks(original, tmp_path):
    pid = original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "output")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid)
    assert os.WTERMSIG(ended(original, pid)) == signal.SIGKILL


def test_a_second_copy_for_an_endpoint_ends_the_first(original, tmp_path):
    endpoint = f"ipc://{tmp_path}/a.ipc"
    first = original.fork(endpoint, tmp_path / "output")
    second = original.fork(endpoint, tmp_path / "output")
    assert not psutil.pid_exists(first)
    assert original.ask("1", "look", str(first))[1] == "unknown"
    assert original.ask("1", "look", str(second))[1] == "runs"


def test_requests_that_make_no_sense(original, tmp_path):
    for request in (
        ("1", "dance"),
        ("1",),
        ("1", "fork"),
        ("1", "fork", "ipc:///x"),
        ("1", "look", "x"),
        ("1", "look", "1"),
        ("1", "signal", "1", "9"),
    ):
        answer = original.ask(*request)
        assert answer[0] == request[0]
        assert answer[1] in ("failed", "unknown"), request
    original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "output")


@pytest.mark.parametrize("command", [c_command, python_command], ids=["C", "Python"])
def test_a_request_whose_first_word_is_as_long_as_a_packet(command, tmp_path):
    """The answer repeats of it what a number may have; it never holds what lies behind the packet in memory."""
    original = Original(command())
    try:
        for words in (["7" * 8192], ["7" * 8180, "dance"], ["7" * 8180, "look", "1"]):
            original.requests.send("\0".join(words).encode())
            number, word, text = original.requests.recv(1 << 16).split(b"\0")
            assert number == b"7" * 20
            assert word in (b"failed", b"unknown")
            assert len(number + word + text) < 100
        original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "output")
    finally:
        original.requests.close()
        original.process.wait(PATIENCE)
        original.process.stderr.close()


def test_random_requests(tmp_path):
    """Under AddressSanitizer and UBSan: each is answered, in a packet that is not too long."""
    rng = random.Random(3)
    words = [b"", b"7", b"look", b"signal", b"fork", b"-1", b"9" * 30, b"\xff\xfe", b"x" * 4000, b"%s%n"]
    original = Original([str(program("models", sanitize="address,undefined")), "ipc:///not/bound", "gum"])
    try:
        for _ in range(500):
            request = b"\0".join(rng.choices(words, k=rng.randint(1, 7)))[: rng.choice((10, 8192))]
            if re.match(rb"[^\0]*\0fork\0[^\0]+\0[^\0]", request):
                continue  # would be done
            original.requests.send(request or b"\0")
            answer = original.requests.recv(1 << 16).split(b"\0")
            assert len(answer) == 3
            assert answer[0] == request.split(b"\0")[0][:20]
            assert answer[1] in (b"failed", b"unknown")
        original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "output")
    finally:
        original.requests.close()
        assert original.process.wait(PATIENCE) == 0, original.process.stderr.read()
        original.process.stderr.close()


@pytest.mark.parametrize("command", [c_command, python_command], ids=["C", "Python"])
@pytest.mark.parametrize("closed", [1, 2])
def test_an_original_without_output_has_copies_with_output(command, closed, tmp_path):
    """The file of the output may become descriptor 1 or 2 by itself; it must stay open, also in programs it runs."""
    original = Original(["sh", "-c", f'exec "$0" "$@" {closed}>&-', *command()])
    try:
        pid = original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "output")
        with connected(f"ipc://{tmp_path}/a.ipc"):
            for number in (1, 2):
                assert os.readlink(f"/proc/{pid}/fd/{number}") == f"{tmp_path}/output"
                flags = Path(f"/proc/{pid}/fdinfo/{number}").read_text().split("flags:")[1].split()[0]
                assert not int(flags, 8) & os.O_CLOEXEC
    finally:
        original.requests.close()
        original.process.wait(PATIENCE)
        original.process.stderr.close()


@pytest.mark.parametrize("copies", [0, 2])
def test_what_the_start_has_said_is_written_once(copies, tmp_path):
    """Though it waits in a buffer when the process is copied, and the process ends without returning from main."""
    words = ["sh", "-c", f'exec "$0" "$@" >"{tmp_path}/said"', *c_command(), "say=the tables are read"]
    original = Original(words)
    try:
        for number in range(copies):
            original.fork(f"ipc://{tmp_path}/{number}.ipc", tmp_path / "output")
    finally:
        original.requests.close()
        original.process.wait(PATIENCE)
        original.process.stderr.close()
    assert (tmp_path / "said").read_text() == "the tables are read"
    assert not copies or not (tmp_path / "output").read_text()


def test_an_endpoint_that_cannot_be_bound(original, tmp_path):
    pid = original.fork(f"ipc://{tmp_path}/no/folder.ipc", tmp_path / "output")
    assert os.WEXITSTATUS(ended(original, pid)) == 1
    said = (tmp_path / "output").read_text()
    assert "cannot bind" in said or "ZMQError" in said


def test_output_that_cannot_be_written(original, tmp_path):
    pid = original.fork(f"ipc://{tmp_path}/a.ipc", tmp_path / "no" / "output")
    assert os.WEXITSTATUS(ended(original, pid)) == 1


@pytest.mark.parametrize("how", ["closed", "SIGTERM", "SIGKILL"])
def test_the_end_of_the_original_is_the_end_of_its_copies(original, how, tmp_path):
    pids = [original.fork(f"ipc://{tmp_path}/{number}.ipc", tmp_path / "output") for number in range(3)]
    with connected(f"ipc://{tmp_path}/0.ipc") as connection:
        assert type(connection.request(m.Run(), PATIENCE)) is m.Sample  # in the middle of an execution
        if how == "closed":
            original.requests.close()
        else:
            original.process.send_signal(signal.Signals[how])
        assert original.process.wait(PATIENCE) == (-signal.SIGKILL if how == "SIGKILL" else 0)
        deadline = time.monotonic() + PATIENCE
        while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(psutil.pid_exists, pids))


VALUES = ["", "-1", "999", "1e3", "0"]  # 0 is no socket


@pytest.mark.parametrize(
    ("command", "value"),
    [
        *(pytest.param(c_command, value) for value in VALUES),
        pytest.param(python_command, "0"),
        *(pytest.param(python_command, value, marks=pytest.mark.slow) for value in VALUES[:4]),
    ],
)
def test_a_variable_that_names_no_socket_is_ignored(command, value, tmp_path):
    words = [f"ipc://{tmp_path}/plain.ipc" if word.startswith("ipc") else word for word in command()]
    environment = {**os.environ, "PPX_FORK_SERVER": value}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL)
    try:
        with connected(f"ipc://{tmp_path}/plain.ipc") as connection:
            assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
