"""The mailbox: messages between two processes of one machine through shared memory (PROTOCOL.md, section 9).

The inference side creates it as an anonymous file, the front end opens that through /proc. Both then send and receive
in turns. What is received is a view of the shared memory, good until the receiver sends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from struct import Struct
from types import TracebackType

from ppx.constants import MAX_MESSAGE
from ppx.errors import PeerLost, TooLarge
from ppx.futex import AVAILABLE, Futex, Process
from ppx.messages import SharedMemory

_HEADER = 4096
_MAGIC = b"PPXMAIL1"
_START = Struct("<8sQQII")  # magic, nonce, capacity, process of the inference side, of the front end
_CROWDED = 32 // 4
_TURN = 64 // 4
_SIDES = (128 // 4, 192 // 4)  # inference side, front end: sleeps, has left, and eight bytes on the message's length
_LENGTH = Struct("<Q")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if hasattr(fcntl, "F_SEAL_SEAL") else 0
# On x86-64 stores, and loads, are seen in their order; only a load may overtake an earlier store. That is prevented by
# any locked instruction, such as taking a lock. Elsewhere system calls stand in for the barriers; they take longer.
_IN_ORDER = platform.machine() == "x86_64"
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
_SPINS = 150 if _CORES > 1 else 0  # some ten microseconds, then sleep

INFERENCE, FRONT_END = 0, 1


class Mailbox:
    """One side's end of a mailbox; made by :func:`create` or :func:`attach`."""

    def __init__(self, descriptor: int, memory: mmap.mmap, capacity: int, side: int):
        self.capacity = capacity
        self._descriptor = descriptor
        self._side = side
        self._memory = memory
        self._view = memoryview(memory)
        self._words = self._view[:_HEADER].cast("I")
        self._anchor = ctypes.c_char.from_buffer(memory)
        self._turn = Futex(ctypes.addressof(self._anchor) + 4 * _TURN)
        self._own, self._other = _SIDES[side], _SIDES[1 - side]
        self._own_area = _HEADER + side * capacity
        self._other_area = _HEADER + (1 - side) * capacity
        self._fence = threading.Lock()
        self._peer: Process | None = None
        self._closed = False

    def watch(self, pid: int) -> None:
        """Takes the process with this number for the other side."""
        self._peer = Process(pid)

    @property
    def peer_pid(self) -> int:
        """The other side's process, as the header has it; 0 while the front end has not mapped the file."""
        return int(_START.unpack_from(self._memory)[4 - self._side])

    @property
    def is_crowded(self) -> bool:
        """Whether processes have to share cores, so that who waits should sleep at once; the inference side says so."""
        return bool(self._words[_CROWDED])

    @is_crowded.setter
    def is_crowded(self, value: bool) -> None:
        self._words[_CROWDED] = value

    def send(self, data: bytes) -> None:
        """Sends a message.

        Raises:
          TooLarge: it does not fit.
        """
        size = len(data)
        if size > self.capacity:
            raise TooLarge(f"a message of {size} bytes does not fit the mailbox's {self.capacity}")
        self._view[self._own_area : self._own_area + size] = data
        _LENGTH.pack_into(self._view, 4 * self._own + 8, size)
        if not _IN_ORDER:
            self._turn.advance()
            return
        words, fence = self._words, self._fence
        words[_TURN] = (words[_TURN] + 1) & 0xFFFFFFFF
        fence.acquire()
        fence.release()
        if words[self._other]:
            self._turn.wake()

    def has_message(self) -> bool:
        """Whether it is this side's turn, that is, ``receive`` would return at once."""
        return (self._words[_TURN] & 1) == self._side

    def receive(self, timeout: float | None = None, interrupted: Callable[[], bool] | None = None) -> memoryview | None:
        """The next message, valid until this side sends.

        Args:
          timeout: seconds; None waits without limit.
          interrupted: asked ten times a second; if true the wait ends.

        Returns:
          The message, or None if the time ran out or the wait was interrupted.

        Raises:
          PeerLost: the other side died or left.
        """
        words, side = self._words, self._side
        for _ in range(0 if words[_CROWDED] else _SPINS):
            if (words[_TURN] & 1) == side:
                return self._message()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            words[self._own] = 1
            turn = words[_TURN]
            if (turn & 1) != side:
                self._turn.sleep_while(turn)
            words[self._own] = 0
            if (words[_TURN] & 1) == side:
                return self._message()
            if words[self._other + 1]:
                raise PeerLost("the other side left the mailbox")
            if self._peer is not None and not self._peer.is_alive():
                raise PeerLost(f"the other side (process {self._peer.pid}) died")
            if (interrupted is not None and interrupted()) or (deadline is not None and time.monotonic() >= deadline):
                return None

    def _message(self) -> memoryview:
        if not _IN_ORDER:
            self._turn.wake()  # for the memory barrier that the system call holds
        (size,) = _LENGTH.unpack_from(self._view, 4 * self._other + 8)
        if size > self.capacity:
            raise PeerLost(f"the mailbox says that a message has {size} bytes, more than its {self.capacity}")
        return self._view[self._other_area : self._other_area + size]

    def close(self) -> None:
        """Leaves the mailbox and wakes the other side, so that it sees that."""
        if self._closed:
            return
        self._closed = True
        self._words[self._own + 1] = 1
        self._turn.wake()
        if self._peer is not None:
            self._peer.close()
        del self._anchor
        self._words.release()
        self._view.release()
        with contextlib.suppress(BufferError):  # a message is still looked at: the memory goes with its last view
            self._memory.close()
        del self._memory
        os.close(self._descriptor)

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fits_mailbox(capacity: int) -> bool:
    """Whether a mailbox can have areas of this many bytes."""
    return capacity >= 65_536 and capacity % 4096 == 0


def create(capacity: int = MAX_MESSAGE) -> tuple[Mailbox, SharedMemory] | None:
    """A new mailbox for the inference side and what its handshake says about it; None where there can be none.

    Args:
      capacity: the longest message, bytes, a multiple of 4096; pages that are never used cost nothing.
    """
    if not AVAILABLE:
        return None
    size = _HEADER + 2 * capacity
    try:
        descriptor = os.memfd_create("ppx", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
        nonce = secrets.randbits(64)
        _START.pack_into(memory, 0, _MAGIC, nonce, capacity, os.getpid(), 0)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return Mailbox(descriptor, memory, capacity, INFERENCE), SharedMemory(os.getpid(), descriptor, size, nonce)


def attach(shared: SharedMemory) -> Mailbox | None:
    """The front end's end of a mailbox; None if it cannot be opened or is not what the handshake says."""
    if not AVAILABLE:
        return None
    path = f"/proc/{shared.pid:d}/fd/{shared.fd:d}"
    try:
        if not os.readlink(path).startswith("/memfd:"):
            return None  # whatever it is, it is no mailbox: do not open it
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        capacity = (shared.size - _HEADER) // 2
        fits = (
            fits_mailbox(capacity)
            and os.fstat(descriptor).st_size == shared.size == _HEADER + 2 * capacity
            and fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        )
        if fits:
            memory = mmap.mmap(descriptor, shared.size)
            if _START.unpack_from(memory)[:3] == (_MAGIC, shared.nonce, capacity):
                _START.pack_into(memory, 0, _MAGIC, shared.nonce, capacity, shared.pid, os.getpid())
                mailbox = Mailbox(descriptor, memory, capacity, FRONT_END)
                mailbox.watch(shared.pid)
                return mailbox
            memory.close()
    except OSError:
        pass
    os.close(descriptor)
    return None
