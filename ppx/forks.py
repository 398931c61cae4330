"""Many processes from one start: a simulator that has initialised itself forks when it is asked to (PROTOCOL.md, 16).

The process that is copied has no ZeroMQ context and never runs the model: neither contexts nor threads are in a copy.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

VARIABLE = "PPX_FORK_SERVER"
PACKET = 8192  # bytes, the longest request and answer
_SLICE = 0.1  # seconds between two looks at whether to stop
_GRACE = 2.0  # seconds from SIGTERM to SIGKILL
_LONGEST_NUMBER = 20  # digits; the answer repeats no more, and so fits its packet
_PR_SET_PDEATHSIG = 1


class Copy(NamedTuple):
    """What this process is, now that it is a copy."""

    endpoint: str
    original: int  # the process that was copied, whose end ends this one


def asked_for() -> socket.socket | None:
    """The socket by which the process that started this one will ask for copies; None if it will not.

    The environment tells it once: the variable is removed, and programs that this one starts do not inherit the socket.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        number = int(text)
        if number < 0 or not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        os.set_inheritable(number, False)
    except (ValueError, OverflowError, OSError):
        return None
    del os.environ[VARIABLE]
    return socket.socket(fileno=number)


class Original:
    """The process that is copied; ``serve`` returns in the copies only.

    Args:
      requests: where copies are asked for.
      stopped: asked ten times a second; if true the process and its copies end.
    """

    def __init__(self, requests: socket.socket, stopped: Callable[[], bool]):
        self._requests = requests
        self._stopped = stopped
        self._copies: dict[int, str] = {}  # that run: endpoint by process id
        self._ended: dict[int, int] = {}  # that nobody asked about yet: status by process id

    def serve(self) -> Copy:
        """Answers requests; in a copy, what it is."""
        original = os.getpid()
        before: Any = signal.SIG_DFL
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, nobody would learn how copies ended
        self._requests.settimeout(_SLICE)
        self._reply("0", "ready", str(threading.active_count()))
        while True:
            if self._stopped():
                self._end()
            self._collect()
            try:
                packet = self._requests.recv(PACKET)
            except TimeoutError:
                continue
            except OSError:
                packet = b""
            if not packet:  # the other side has closed it, or is gone
                self._end()
            number, *words = packet.decode("utf-8", "surrogateescape").split("\0")
            word, rest = words[0] if words else "", words[1:]
            if word == "fork" and len(rest) == 2:
                if self._fork(number, rest[0]):
                    break
            elif word in ("look", "signal") and len(rest) == 1 + (word == "signal") and all(map(str.isdecimal, rest)):
                self._tell(number, *map(int, rest))
            else:
                self._reply(number, "failed", "the request is not known")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)
        return self._be_copy(original, *rest)

    def _reply(self, number: str, word: str, value: str = "") -> None:
        with suppress(OSError):
            self._requests.sendall(f"{number[:_LONGEST_NUMBER]}\0{word}\0{value}".encode())

    # -- copies ------------------------------------------------------------------------------------------------------

    def _fork(self, number: str, endpoint: str) -> bool:
        """Makes a copy; True in it."""
        for pid, taken in list(self._copies.items()):
            if taken == endpoint:  # whoever asks again has lost the one before
                self._end_at_once(pid)
                del self._ended[pid]
        for file in (sys.stdout, sys.stderr):  # what is not yet written would be written by every copy
            with suppress(OSError, ValueError, AttributeError):
                file.flush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of threads: the other side is told, and warns
                pid = os.fork()
        except OSError as error:
            self._reply(number, "failed", error.strerror or str(error))
            return False
        if pid == 0:
            return True
        self._copies[pid] = endpoint
        self._reply(number, "forked", str(pid))
        return False

    def _tell(self, number: str, pid: int, signal_number: int | None = None) -> None:
        """Says how a copy is, after a signal where one is asked for."""
        if signal_number is not None and pid in self._copies:
            self._signal(pid, signal_number)
        self._collect()
        if pid in self._copies:
            self._reply(number, "runs")
        elif pid in self._ended:
            self._reply(number, "ended", str(self._ended.pop(pid)))
        else:
            self._reply(number, "unknown")

    def _signal(self, pid: int, number: int) -> None:
        """Sends a signal to a copy and what it started."""
        try:
            os.killpg(pid, number)
        except ProcessLookupError:  # it leads no session yet
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        except PermissionError:
            pass

    def _collect(self) -> None:
        """Collects the copies that have ended; what they started ends with them."""
        for pid in list(self._copies):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # while it is not collected its number can be nobody else's
                self._ended[pid] = os.waitpid(pid, 0)[1]
                del self._copies[pid]

    def _end_at_once(self, pid: int) -> None:
        self._signal(pid, signal.SIGKILL)
        while pid in self._copies:
            self._collect()
            time.sleep(0.001)

    def _end(self) -> NoReturn:
        """The process is no longer needed: its copies are asked to end, and then made to."""
        for pid in self._copies:
            self._signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while self._copies and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.001)
        for pid in list(self._copies):
            self._end_at_once(pid)
        os._exit(0)  # nothing was run here, so nothing is to be concluded

    # -- in a copy ---------------------------------------------------------------------------------------------------

    def _be_copy(self, original: int, endpoint: str, output: str) -> Copy:
        self._requests.close()
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != original:
            os._exit(1)
        file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if file > 2:
            os.close(file)
        else:  # one of them was closed, and this is it
            os.set_inheritable(file, True)
        return Copy(endpoint, original)
