"""A peer: one simulator, the process if we started it, and the connection; all renewed when they fail.

Nothing here knows what the messages are about. An exchange that fails raises ConnectionLost; the caller says ``fail``,
which puts an end to it when too many happened in a row, connects again and does again what was lost.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from ppl_jax.errors import SimulatorError
from ppl_jax.remote.failures import ConnectionLost
from ppl_jax.remote.forks import Forks
from ppl_jax.remote.processes import SimulatorProcess, StartedProcess
from ppx import messages as m
from ppx.connection import Connection
from ppx.constants import Capability, ErrorCode
from ppx.errors import PPXError

_ABORT_WAIT = 10.0  # seconds that a simulator has to confirm that it gave an execution up
_END_WAIT = 0.2  # seconds that a process whose connection broke has to end, so that we can say how
_TRIM_EVERY = 64  # answers between looks at how much the simulator has printed
_PORTS = range(1, 65_536)


class Options(NamedTuple):
    """How simulators are started and spoken to; see RemoteModel."""

    endpoints: tuple[str, ...]
    command: tuple[str, ...] | None
    fork: bool
    timeout: float | None
    start_timeout: float | None
    max_failures: int
    capabilities: Capability
    server_key: bytes | None
    curve: tuple[bytes, bytes] | None
    context: zmq.Context | None = None  # shared by all connections; made by the pool


class Identity:
    """What the simulators of one RemoteModel said of themselves first; later ones must say the same."""

    def __init__(self) -> None:
        self.first: m.HandshakeResult | None = None

    def check(self, found: m.HandshakeResult, endpoint: str) -> None:
        """Raises SimulatorError if this is another build than before: its addresses may mean other statements."""
        if self.first is None:
            self.first = found
        elif found.build_id != self.first.build_id:
            raise SimulatorError(
                f"The simulator '{found.model_name}' at {endpoint} is of build '{found.build_id}', but the one before "
                f"was of build '{self.first.build_id}': its addresses may no longer name the same statements. Do not "
                "change the program while it is used; make a new RemoteModel for the new build."
            )

    @property
    def name(self) -> str:
        """The model's name, "" before the first handshake."""
        return "" if self.first is None else self.first.model_name


class Peer:
    """One simulator.

    Args:
      options: how to reach it.
      number: which of the simulators it is, from 0.
      folder: for the output of a process that is started.
      identity: shared by the simulators of a RemoteModel.
      forks: makes the process, where it is to be a copy.

    Attributes:
      connection: None while there is none.
      learned: what others keep about the present connection, by their type; void after a new handshake.
    """

    def __init__(self, options: Options, number: int, folder: Path, identity: Identity, forks: Forks | None = None):
        self.endpoint = options.endpoints[number]
        self.connection: Connection | None = None
        self.learned: dict[type, Any] = {}
        self._options = options
        self._output = folder / f"{number}.output"
        self._identity = identity
        self._forks = forks
        self._process: SimulatorProcess | None = None
        self._failures = 0
        self._successes = 0

    @property
    def pid(self) -> int | None:
        """Process id of the simulator, if it was started here and runs."""
        return None if self._process is None else self._process.pid

    def connect(self) -> Connection:
        """The connection, made first if there is none; the process is started first if it is ours and does not run.

        Raises:
          SimulatorError: that failed too often.
        """
        while self.connection is None:
            try:
                self.connection = self._connected()
            except ConnectionLost as loss:
                self.fail(loss)
        return self.connection

    def start(self) -> None:
        """Starts the process, or the one that is to be copied, if it is ours and does not run; waits for nothing."""
        command = self._options.command
        if self._forks is not None:
            if self._forks.start().is_ready:
                with suppress(ConnectionLost):  # it will be asked again, by whoever needs it
                    self._fork()
        elif command is not None and (self._process is None or not self._process.is_running()):
            self._stop_process(at_once=True)
            self._process = StartedProcess(command, self.endpoint, self._output)

    def _fork(self) -> None:
        """Makes the copy, if the process is to be one and does not run."""
        if self._forks is not None and (self._process is None or not self._process.is_running()):
            self._stop_process(at_once=True)
            self._process = self._forks.fork(self.endpoint, self._output)

    def _connected(self) -> Connection:
        options = self._options
        self.start()
        self._fork()
        self._await_socket()
        try:
            connection = Connection(
                self.endpoint,
                capabilities=options.capabilities,
                server_key=options.server_key,
                curve=options.curve,
                context=options.context,
            )
        except (PPXError, zmq.ZMQError) as error:
            raise SimulatorError(f"{self.endpoint!r} cannot be connected to: {error}. Correct it.") from error
        try:
            found = connection.handshake(options.start_timeout, self._has_ended)
            self._identity.check(found, self.endpoint)
        except (PPXError, zmq.ZMQError) as error:
            connection.close()
            if self._has_ended():
                raise ConnectionLost(f"no handshake was possible{self._ending()}") from error
            raise ConnectionLost(str(error)) from error
        except BaseException:
            connection.close()
            raise
        self.learned.clear()
        return connection

    def _await_socket(self) -> None:
        """Waits for the socket's file: a connection that is refused would be tried again only after a while."""
        path, process, limit = socket_path(self.endpoint), self._process, self._options.start_timeout
        if path is None or process is None:
            return
        deadline = None if limit is None else time.monotonic() + limit
        while not os.path.exists(path) and process.is_running():
            if deadline is not None and time.monotonic() > deadline:
                raise ConnectionLost(f"it did not bind {self.endpoint} in {limit} s")
            time.sleep(0.002)

    def _has_ended(self) -> bool:
        return self._process is not None and not self._process.is_running()

    def _ending(self) -> str:
        process = self._process
        return f"; its process {process.ending()}" if process is not None and process.wait(_END_WAIT) else ""

    # -- exchanges ---------------------------------------------------------------------------------------------------

    def request(self, message: m.Message) -> Any:
        """Sends a message and gives the answer; see ``receive``."""
        connection = self.connection
        assert connection is not None
        try:
            found = connection.request(message, self._options.timeout, self._has_ended)
        except (PPXError, zmq.ZMQError) as error:
            raise ConnectionLost(f"{error}{self._ending()}") from error
        if found is None:
            raise self._silence()
        return found

    def send(self, message: m.Message) -> None:
        """Sends a message; ``receive`` must follow.

        Raises:
          ConnectionLost: the simulator is gone.
        """
        assert self.connection is not None
        try:
            self.connection.send(message)
        except (PPXError, zmq.ZMQError) as error:
            raise ConnectionLost(f"{error}{self._ending()}") from error

    def receive(self) -> Any:
        """The answer.

        Raises:
          ConnectionLost: there is none in time, or it makes no sense.
        """
        assert self.connection is not None
        try:
            answer = self.connection.receive(self._options.timeout, self._has_ended)
        except (PPXError, zmq.ZMQError) as error:
            raise ConnectionLost(f"{error}{self._ending()}") from error
        if answer is None:
            raise self._silence()
        return answer

    def _silence(self) -> ConnectionLost:
        if self._has_ended():
            return ConnectionLost(f"no answer came{self._ending()}")
        return ConnectionLost(f"it did not answer in {self._options.timeout} s")

    def succeeded(self) -> None:
        """An execution came to its end: the next failure is the first again."""
        self._failures = 0
        self._successes += 1
        if self._process is not None and self._successes % _TRIM_EVERY == 0:
            self._process.trim_output()

    def fail(self, loss: ConnectionLost) -> None:
        """Counts a failure and drops the connection, and the process if it is ours.

        Raises:
          SimulatorError: it is one too many.
        """
        lines = self._last_lines()
        self.drop()
        self._failures += 1
        if self._failures < self._options.max_failures:
            return
        self._failures = 0
        what = f"'{self._identity.name}' " if self._identity.name else ""
        times = "" if self._options.max_failures == 1 else f" {self._options.max_failures} times in a row"
        shown = f" The last lines that it printed:\n{lines}" if lines else ""
        remedy = (
            "Run the command by hand to see why"
            if self._options.command is not None
            else "See that it runs and binds this endpoint"
        )
        raise SimulatorError(
            f"The simulator {what}at {self.endpoint} failed{times}, the last time so: {loss}. {remedy}, or allow "
            f"more with `timeout`, `start_timeout` or `max_failures`.{shown}"
        ) from loss

    def _last_lines(self) -> str:
        """What the process printed last, or the one that it was to be a copy of."""
        if self._process is not None:
            return self._process.last_lines()
        return "" if self._forks is None else self._forks.last_lines()

    # -- giving up ---------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Makes the simulator give up the execution that waits for our answer; drops the connection if it will not.

        Only where Errors are active.
        """
        connection = self.connection
        if connection is None:
            return
        try:
            limit = self._options.timeout
            wait = _ABORT_WAIT if limit is None else min(limit, _ABORT_WAIT)
            answer = connection.request(m.Error(ErrorCode.ABORTED, "not needed any more"), wait, self._has_ended)
        except (PPXError, zmq.ZMQError):
            answer = None
        except BaseException:
            self.drop()
            raise
        if type(answer) is not m.Error:
            self.drop()

    def drop(self) -> None:
        """Closes the connection; ends the process if it is ours, because nobody knows what it is doing."""
        self._close_connection()
        self._stop_process(at_once=True)

    def ask_to_end(self) -> None:
        """Closes the connection and asks the process, if it is ours, to end, without waiting for it."""
        self._close_connection()
        if self._process is not None:
            self._process.signal(signal.SIGTERM)

    def close(self) -> None:
        """Closes the connection and ends the process, if it is ours."""
        self._close_connection()
        self._stop_process(at_once=False)

    def _close_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _stop_process(self, at_once: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.stop(at_once)
            path = socket_path(self.endpoint)
            if path is not None:
                with suppress(OSError):
                    os.unlink(path)


def socket_path(endpoint: str) -> str | None:
    """The file of an ipc endpoint; None for other endpoints and for those without a file."""
    path = endpoint.removeprefix("ipc://")
    return None if path == endpoint or path.startswith("@") else path


def numbered_endpoint(endpoint: str, number: int) -> str:
    """A neighbouring endpoint for another process: of a file with a number at its end, or of a following port."""
    if number == 0:
        return endpoint
    if endpoint.startswith("ipc://"):
        return f"{endpoint}.{number}"
    address, colon, port = endpoint.rpartition(":")
    if colon and port.isdigit() and int(port) + number in _PORTS:
        return f"{address}:{int(port) + number}"
    raise ValueError(
        f"no further endpoint can be made of {endpoint!r} for process {number + 1}. Give one endpoint for each "
        "process, or none: then every process gets a private one."
    )
