"""The mailbox: two processes, their deaths, and what is no mailbox."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ppx
from ppx import futex, mailbox
from ppx.messages import SharedMemory

pytestmark = pytest.mark.skipif(not futex.AVAILABLE, reason="this system has no memfd_create or no futex")

ROOT = Path(__file__).resolve().parents[2]
SMALL = 65_536

# The other side: answers every message by itself reversed, until the mailbox is left or "end" comes.
ECHO = """
import sys
from ppx import mailbox
from ppx.messages import SharedMemory
box = mailbox.attach(SharedMemory(*map(int, sys.argv[1:])))
print("attached" if box else "refused", flush=True)
while box:
    message = bytes(box.receive())
    if message == b"end":
        box.close()
        break
    box.send(message[::-1])
"""


def echo(shared):
    command = [sys.executable, "-c", ECHO, *map(str, shared)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def pair():
    """A mailbox whose other side is an echo in a process of its own."""
    box, shared = mailbox.create(SMALL)
    process = echo(shared)
    try:
        assert process.stdout.readline() == "attached\n"
        box.watch(box.peer_pid)
        yield box, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        box.close()


def test_messages_of_all_sizes_go_to_and_fro(pair):
    box, _ = pair
    for size in (0, 1, 7, 8, 4095, 4096, SMALL - 1, SMALL):
        message = os.urandom(size)
        box.send(message)
        assert bytes(box.receive(30.0)) == message[::-1]


def test_processes_that_share_cores_are_told_so_and_go_on(pair):
    """By the word at offset 32; nobody then spins, which no answer shows."""
    box, process = pair
    with open(f"/proc/{os.getpid()}/fd/{box._descriptor}", "rb", buffering=0) as file:
        for crowded in (True, False, True):
            box.is_crowded = crowded
            file.seek(32)
            assert file.read(4) == crowded.to_bytes(4, "little")
            assert box.is_crowded is crowded
            for number in range(20):
                box.send(b"message %d" % number)
                assert bytes(box.receive(30.0)) == (b"message %d" % number)[::-1]
    process.kill()
    process.wait()
    box.send(b"to nobody")
    with pytest.raises(ppx.PeerLost, match="died"):
        box.receive(30.0)


@pytest.mark.parametrize("in_order", [mailbox._IN_ORDER, False])
def test_turns_are_kept_over_many_messages(pair, in_order, monkeypatch):
    """Also by the system calls that are the barriers where the processor has none to offer to Python."""
    monkeypatch.setattr(mailbox, "_IN_ORDER", in_order)
    box, process = pair
    assert box.peer_pid == process.pid
    for number in range(20_000):
        message = b"%d" % number
        box.send(message)
        assert bytes(box.receive(30.0)) == message[::-1]


def test_a_message_that_is_too_long_is_not_sent(pair):
    box, _ = pair
    with pytest.raises(ppx.TooLarge, match=r"65537 bytes.*65536"):
        box.send(bytes(SMALL + 1))
    box.send(b"ab")
    assert bytes(box.receive(30.0)) == b"ba"


def test_waiting_ends_with_the_time_or_when_told(pair):
    box, process = pair
    os.kill(process.pid, signal.SIGSTOP)
    box.send(b"ab")
    assert box.receive(timeout=0.05) is None
    assert box.receive(interrupted=lambda: True) is None
    os.kill(process.pid, signal.SIGCONT)
    assert bytes(box.receive(30.0)) == b"ba"


def test_waiting_does_not_spin(pair):
    """Half a second of waiting takes a small part of it in processor time."""
    box, process = pair
    os.kill(process.pid, signal.SIGSTOP)
    box.send(b"ab")
    before = time.thread_time()
    assert box.receive(timeout=0.5) is None
    assert time.thread_time() - before < 0.1


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_killed_peer_is_noticed(pair, pidfd, monkeypatch):
    """Also before its parent has collected it; and where the kernel has no process descriptors."""
    box, process = pair
    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", lambda pid: (_ for _ in ()).throw(OSError()))
        box.watch(box.peer_pid)
    os.kill(process.pid, signal.SIGSTOP)
    box.send(b"ab")
    killer = threading.Timer(0.2, process.kill)
    killer.start()
    with pytest.raises(ppx.PeerLost, match=rf"process {process.pid}\) died"):
        box.receive(30.0)
    killer.join()


def test_a_peer_that_died_before_is_noticed(pair):
    box, process = pair
    process.kill()
    process.wait()
    box.send(b"ab")
    with pytest.raises(ppx.PeerLost, match="died"):
        box.receive(30.0)


def test_an_answer_is_read_though_its_sender_has_died(pair):
    box, process = pair
    box.send(b"ab")
    while not box.has_message():
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert bytes(box.receive(30.0)) == b"ba"


def test_a_peer_that_leaves_is_noticed(pair):
    box, process = pair
    box.send(b"end")
    with pytest.raises(ppx.PeerLost, match="left"):
        box.receive(30.0)
    assert process.wait(30.0) == 0


def test_the_other_side_sees_that_we_leave():
    box, shared = mailbox.create(SMALL)
    with echo(shared) as process:
        assert process.stdout.readline() == "attached\n"
        box.close()
        assert process.wait(30.0) == 1  # the echo does not expect it: PeerLost ends it


def test_nothing_remains_after_closing():
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        box, shared = mailbox.create(SMALL)
        other = mailbox.attach(shared)
        view = None
        box.send(b"x")
        view = other.receive(1.0)
        other.close()
        box.close()
        box.close()
        assert bytes(view) == b"x"  # a view that is still held keeps its memory, and nothing else
        del view
    assert set(os.listdir("/proc/self/fd")) == before
    assert "memfd:ppx" not in Path("/proc/self/maps").read_text()


# -- what is no mailbox -----------------------------------------------------------------------------------------------


@pytest.fixture
def offer():
    box, shared = mailbox.create(SMALL)
    yield box, shared
    box.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": 1},
        {"size": 4096 + 2 * SMALL - 1},
        {"size": 4096 + 4 * SMALL},
        {"size": 0},
        {"fd": 2**31},
        {"pid": 2**22 + 1},
    ],
    ids=str,
)
def test_what_the_handshake_says_must_be_so(offer, changes):
    box, shared = offer
    assert mailbox.attach(shared._replace(**changes)) is None
    assert box.peer_pid == 0
    accepted = mailbox.attach(shared)
    assert accepted.capacity == SMALL
    accepted.close()


def test_other_files_are_not_opened(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(4096 + 2 * SMALL))
    with open(path, "r+b") as file:
        assert mailbox.attach(SharedMemory(os.getpid(), file.fileno(), 4096 + 2 * SMALL, 0)) is None
    ends = os.pipe()
    try:
        assert mailbox.attach(SharedMemory(os.getpid(), ends[0], 4096 + 2 * SMALL, 0)) is None
    finally:
        for end in ends:
            os.close(end)


def test_a_file_that_could_shrink_is_refused():
    """Who maps a file that is cut off dies of it, so the seal must be there before."""
    descriptor = os.memfd_create("ppx", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, 4096 + 2 * SMALL)
        os.pwrite(descriptor, mailbox._START.pack(b"PPXMAIL1", 5, SMALL, os.getpid(), 0), 0)
        shared = SharedMemory(os.getpid(), descriptor, 4096 + 2 * SMALL, 5)
        assert mailbox.attach(shared) is None
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        accepted = mailbox.attach(shared)
        assert accepted is not None
        accepted.close()
    finally:
        os.close(descriptor)


def test_a_file_with_another_beginning_is_refused():
    descriptor = os.memfd_create("ppx", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, 4096 + 2 * SMALL)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        assert mailbox.attach(SharedMemory(os.getpid(), descriptor, 4096 + 2 * SMALL, 0)) is None
    finally:
        os.close(descriptor)


def test_a_length_beyond_the_area_is_not_read(offer):
    box, shared = offer
    other = mailbox.attach(shared)
    box.send(b"x")
    mailbox._LENGTH.pack_into(box._view, 136, SMALL + 1)
    with pytest.raises(ppx.PeerLost, match="65537 bytes"):
        other.receive(1.0)
    other.close()


def test_the_layout_is_the_documented_one(offer):
    """Offsets of PROTOCOL.md, section 9, seen through the file."""
    box, shared = offer
    other = mailbox.attach(shared)

    def word(offset, size=4):
        return int.from_bytes(os.pread(shared.fd, size, offset), "little")

    assert os.pread(shared.fd, 8, 0) == b"PPXMAIL1"
    assert (word(8, 8), word(16, 8), word(24), word(28)) == (shared.nonce, SMALL, os.getpid(), os.getpid())
    assert os.fstat(shared.fd).st_size == shared.size == 4096 + 2 * SMALL
    box.send(b"question")
    assert (word(64), word(136, 8), os.pread(shared.fd, 8, 4096)) == (1, 8, b"question")
    assert bytes(other.receive(1.0)) == b"question"
    other.send(b"answer")
    assert (word(64), word(200, 8), os.pread(shared.fd, 6, 4096 + SMALL)) == (2, 6, b"answer")
    assert (word(132), word(196)) == (0, 0)
    other.close()
    assert (word(132), word(196)) == (0, 1)


@pytest.mark.parametrize("capacity", [0, 4096, 65_537, -65_536])
def test_a_capacity_must_be_whole_pages(capacity):
    with pytest.raises(ValueError, match="multiple of 4096"):
        ppx.Connection("ipc:///nowhere", capacity=capacity)
