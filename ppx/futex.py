"""The system calls by which processes that share memory wait for each other, and how one sees that the other died."""

from __future__ import annotations

import ctypes
import os
import platform
import select
from typing import Any

_SYSCALL_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_NUMBER = _SYSCALL_NUMBERS.get(platform.machine(), 0) if platform.system() == "Linux" else 0
_WAIT, _WAKE, _WAKE_OP = 0, 1, 5
_ADD_ONE_NEVER_WAKE_MORE = (1 << 28) | (1 << 12)  # FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _syscall(*types: Any) -> Any:
    prototype = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, *types, use_errno=True)
    return prototype(("syscall", ctypes.CDLL(None)))


_P, _I, _U = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint
_wait: Any = _syscall(_P, _I, _U, _P, _P, _U) if _NUMBER else None
_wake_op: Any = _syscall(_P, _I, _I, _P, _P, _U) if _NUMBER else None

#: Whether this system has what a mailbox needs.
AVAILABLE = bool(_NUMBER) and hasattr(os, "memfd_create")


class Futex:
    """A 32-bit word at ``address`` in shared memory."""

    __slots__ = ("_address", "_pointer", "_timeout")

    def __init__(self, address: int, timeout: float = 0.1):
        self._address = ctypes.c_void_p(address)
        self._timeout = _Timespec(int(timeout), int((timeout % 1.0) * 1e9))
        self._pointer = ctypes.addressof(self._timeout)

    def advance(self) -> None:
        """Adds one to the word, with full ordering, and wakes who sleeps on it."""
        _wake_op(_NUMBER, self._address, _WAKE_OP, 1, None, self._address, _ADD_ONE_NEVER_WAKE_MORE)

    def wake(self) -> None:
        """Wakes who sleeps on the word."""
        _wait(_NUMBER, self._address, _WAKE, 1, None, None, 0)

    def sleep_while(self, value: int) -> None:
        """Sleeps while the word is ``value``, for the timeout at most; may return sooner for no reason."""
        _wait(_NUMBER, self._address, _WAIT, value, self._pointer, None, 0)


class Process:
    """Another process, to be asked whether it still lives, whatever becomes of its number."""

    __slots__ = ("_descriptor", "_poll", "_start", "pid")

    def __init__(self, pid: int):
        self.pid = pid
        self._start = _start_time(pid)
        try:
            self._descriptor: int | None = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self._descriptor = None
        if self._descriptor is not None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        if self._descriptor is not None:
            return not self._poll.poll(0)
        return self._start is not None and _start_time(self.pid) == self._start

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._start = None


def _start_time(pid: int) -> str | None:
    """When the process started, as the kernel counts it; None if it is gone or only waits to be collected."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
