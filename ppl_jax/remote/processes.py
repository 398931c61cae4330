"""Simulator processes: started with an endpoint of their own, watched, and stopped without a trace.

A process leads a session of its own, so that a Ctrl-C at the terminal reaches only the inference side, and everything
that it starts in turn is stopped with it. What it writes to standard output and standard error goes to a file in a
private folder, whose last lines an error shows. Processes that are copies of one that was started are in
:mod:`ppl_jax.remote.forks`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ppl_jax.errors import SimulatorError
from ppl_jax.remote.guard import Guard

LAST_LINES = 12  # of the output, shown in errors
_GRACE = 2.0  # seconds from SIGTERM to SIGKILL
_KEPT = 1 << 16  # bytes of output that are looked at
_OUTPUT_LIMIT = 1 << 20  # bytes after which old output is thrown away


def remove_folder(folder: Path) -> None:
    """Removes a private folder with all in it."""
    shutil.rmtree(folder, ignore_errors=True)


def socket_path(endpoint: str) -> str | None:
    """The file of an ipc endpoint; None for other endpoints and for those without a file."""
    path = endpoint.removeprefix("ipc://")
    return None if path == endpoint or path.startswith("@") else path


class SimulatorProcess(ABC):
    """One running simulator.

    Attributes:
      pid: process id.
      output: file for what it prints.
    """

    pid: int
    output: Path

    @abstractmethod
    def status(self) -> int | None:
        """How it ended: the exit status, or the number of the signal that killed it, negative; None while it runs."""

    @abstractmethod
    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and what it started."""

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.status() is None

    def ending(self) -> str:
        """How it ended, in words."""
        status = self.status()
        if status is None:
            return "still runs"
        if status < 0:
            return f"was killed by {_signal_name(-status)}"
        return f"ended with status {status}"

    def wait(self, seconds: float) -> bool:
        """Waits for its end; whether it came in this time."""
        deadline, nap = time.monotonic() + seconds, 0.0005
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(nap)
            nap = min(2 * nap, 0.01)
        return True

    def stop(self, at_once: bool = False) -> None:
        """Ends the process and what it started, by SIGTERM first unless ``at_once``."""
        if not at_once and self.is_running():
            self.signal(signal.SIGTERM)
            self.wait(_GRACE)
        self.signal(signal.SIGKILL)  # to its whole group, also where the process itself has ended
        self.wait(_GRACE)  # nothing survives it, but a call of the system may have to end first

    def last_lines(self) -> str:
        """The last lines of what it printed."""
        try:
            with open(self.output, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _KEPT))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LAST_LINES:])

    def trim_output(self) -> None:
        """Throws what it printed away if that has become long; a simulator may print at every execution."""
        with suppress(OSError):
            if self.output.stat().st_size > _OUTPUT_LIMIT:
                os.truncate(self.output, 0)


class StartedProcess(SimulatorProcess):
    """A process that runs a command.

    Args:
      command: program and arguments; ``{endpoint}`` in them is replaced.
      endpoint: where the simulator is to bind.
      output: file for what it prints.
      environment: variables to add to those of this process.
      descriptors: files that it is to inherit.
      guard: ends it if we die.

    Raises:
      SimulatorError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        endpoint: str,
        output: Path,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        guard: Guard | None = None,
    ):
        self.output = output
        self._guard = guard
        arguments = [part.replace("{endpoint}", endpoint) for part in command]
        try:
            output.unlink(missing_ok=True)
            with open(output, "ab", buffering=0) as file:  # appending, so that the file can be cut while it is written
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    pass_fds=descriptors,
                    env={
                        **os.environ,
                        "PPX_STOP_WITH_PARENT": "1",
                        **(environment or {}),
                        **({} if guard is None else guard.environment),
                    },
                )
        except OSError as error:
            raise SimulatorError(
                f"The simulator {arguments[0]!r} cannot be started: {error.strerror or error}. Give in `command` the "
                "path of a program that may be executed, followed by its arguments."
            ) from error
        self.pid = self._process.pid
        if guard is not None:
            guard.started(self.pid, socket_path(endpoint))

    def status(self) -> int | None:
        """See SimulatorProcess."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """See SimulatorProcess."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_running()

    def signal(self, number: signal.Signals) -> None:
        """See SimulatorProcess."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def stop(self, at_once: bool = False) -> None:
        """See SimulatorProcess."""
        super().stop(at_once)
        self._process.wait()
        if self._guard is not None:
            self._guard.stopped(self.pid)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
