"""Copies of a simulator that was started once: it initialises itself, then forks for every process that is wanted.

The command is started with one end of a socket pair, by which the front end is asked for copies (PROTOCOL.md, section
16). The process that answers is the *original*; it collects its copies and says how they ended. If it dies, so do they,
and the next one that is wanted makes the command start anew.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ppl_jax.errors import SimulatorError
from ppl_jax.remote.failures import ConnectionLost
from ppl_jax.remote.guard import Guard
from ppl_jax.remote.processes import SimulatorProcess, StartedProcess
from ppx.forks import PACKET, VARIABLE

_ANSWER = 20.0  # seconds for an answer: to fork takes milliseconds, unless memory is short
_TICK = 0.05  # seconds between two looks at whether the command has failed


class Original:
    """One start of the command, and the socket by which it is asked for copies.

    Args:
      command: program and arguments; ``{endpoint}`` in them is replaced by ``endpoint``, which must not be bound.
      endpoint: an ipc endpoint that a front end binds which does not know of copies.
      output: file for what it prints before there are copies.
      guard: ends it if we die.

    Raises:
      SimulatorError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], endpoint: str, output: Path, guard: Guard):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            environment = {VARIABLE: str(theirs.fileno())}
            self.process = StartedProcess(command, endpoint, output, environment, (theirs.fileno(),), guard)
        except BaseException:
            self._requests.close()
            raise
        finally:
            theirs.close()
        self._bound = Path(endpoint.removeprefix("ipc://"))
        self._command = command
        self._lock = threading.Lock()
        self._number = 0
        self.is_ready = False  # to be copied
        self.is_lost = False

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self.is_lost and self.process.is_running()

    def await_ready(self, seconds: float | None) -> None:
        """Waits until it has initialised itself.

        Raises:
          ConnectionLost: it ended, or took longer.
          SimulatorError: its front end does not know of copies.
        """
        if self.is_ready:
            return
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            words = self._receive(_TICK)
            if words is not None and words[1] == "ready":
                break
            if not self.process.is_running():
                raise ConnectionLost(f"it {self.process.ending()} before it could be copied")
            if self._bound.exists():
                self.stop()
                raise SimulatorError(
                    f"The simulator {self._command[0]!r} cannot be copied: its front end is older than `fork`. Build "
                    "it with the present one, or leave `fork` out: then the command is started for every process."
                )
            if deadline is not None and time.monotonic() > deadline:
                self.stop()
                raise ConnectionLost(f"it was not ready to be copied in {seconds} s")
        self.is_ready = True
        if int(words[2]) > 1:
            warnings.warn(
                f"The simulator {self._command[0]!r} has {words[2]} threads when it is copied, but a copy has only the "
                "one that serves. If copies hang, start threads later or leave `fork` out.",
                UserWarning,
                stacklevel=2,
            )

    def ask(self, *words: str) -> tuple[str, str]:
        """Asks for something and gives the answer: a word, and a value or "".

        Raises:
          ConnectionLost: it is gone.
        """
        with self._lock:
            if self.is_lost:
                raise ConnectionLost("the process that was copied is gone")
            self._number += 1  # so that an answer for which nobody waited any more is known
            try:
                self._requests.send("\0".join([str(self._number), *words]).encode("utf-8", "surrogateescape"))
                deadline = time.monotonic() + _ANSWER
                while (left := deadline - time.monotonic()) > 0:
                    found = self._receive(left)
                    if found is None:
                        break
                    if found[0] == str(self._number):
                        return found[1], found[2]
            except OSError:
                pass
            self.is_lost = True
        raise ConnectionLost("the process that was copied is gone")

    def _receive(self, seconds: float) -> list[str] | None:
        """The next answer; None if there is none in this time, or will be none."""
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        if not poll.poll(1000 * seconds):
            return None
        with suppress(OSError):
            if packet := self._requests.recv(PACKET):
                return packet.decode("utf-8", "replace").split("\0")
        self.is_lost = True
        self.process.wait(_TICK)
        return None

    def stop(self, at_once: bool = False) -> None:
        """Ends it and its copies."""
        self.is_lost = True
        self._requests.close()  # which says the same as the signal, to those that do not heed that
        self.process.stop(at_once)


class ForkedProcess(SimulatorProcess):
    """A copy of the original."""

    def __init__(self, original: Original, pid: int, output: Path):
        self.pid = pid
        self.output = output
        self._original = original
        self._status: int | None = None
        self._ended_with_original = False

    def status(self) -> int | None:
        """See SimulatorProcess."""
        if self._status is None:
            self._take(*self._asked("look", str(self.pid)))
        return self._status

    def signal(self, number: signal.Signals) -> None:
        """See SimulatorProcess."""
        if self._status is None:
            self._take(*self._asked("signal", str(self.pid), str(int(number))))

    def ending(self) -> str:
        """See SimulatorProcess."""
        how = super().ending()
        if self._ended_with_original:
            return f"ended with the process that it is a copy of, which {self._original.process.ending()}"
        return how

    def _asked(self, *words: str) -> tuple[str, str]:
        try:
            return self._original.ask(*words)
        except ConnectionLost:
            return "lost", ""

    def _take(self, word: str, value: str) -> None:
        if word == "ended":
            self._status = os.waitstatus_to_exitcode(int(value))
        elif word != "runs":  # the system ends it where the original is gone; not what it started
            self._ended_with_original = True
            self._status = -int(signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


class Forks:
    """Makes copies; starts the command for the first one, and again if the original died.

    Args:
      command: program and arguments; ``{endpoint}`` in them is replaced.
      guard: ends it if we die, and has the folder for its output.
      start_timeout: seconds that it may take to initialise itself; None waits without limit.
    """

    def __init__(self, command: Sequence[str], guard: Guard, start_timeout: float | None):
        self._command = command
        self._guard = guard
        self._start_timeout = start_timeout
        self._lock = threading.RLock()
        self._original: Original | None = None

    def start(self) -> Original:
        """Starts the command, if it does not run, without waiting for it."""
        with self._lock:
            if self._original is None or not self._original.is_alive():
                self.close(at_once=True)
                folder = self._guard.folder
                bound = folder / "original.ipc"
                bound.unlink(missing_ok=True)
                output = folder / "original.output"
                self._original = Original(self._command, f"ipc://{bound}", output, self._guard)
            return self._original

    def fork(self, endpoint: str, output: Path) -> ForkedProcess:
        """A new copy that binds ``endpoint`` and prints to ``output``.

        Raises:
          ConnectionLost: there can be none now; ``last_lines`` may say why.
          SimulatorError: there can be none ever.
        """
        with self._lock:
            original = self.start()
            original.await_ready(self._start_timeout)
            output.unlink(missing_ok=True)
            word, value = original.ask("fork", endpoint, str(output))
        if word != "forked":
            raise ConnectionLost(f"it could not be copied: {value}")
        return ForkedProcess(original, int(value), output)

    def last_lines(self) -> str:
        """The last lines of what was printed before there were copies."""
        with self._lock:
            return "" if self._original is None else self._original.process.last_lines()

    def close(self, at_once: bool = False) -> None:
        """Ends the original and all copies."""
        with self._lock:
            original, self._original = self._original, None
            if original is not None:
                original.stop(at_once)
