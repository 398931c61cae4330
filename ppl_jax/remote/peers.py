"""A peer: one simulator, the process if we started it, and the connection; all renewed when they fail.

Nothing here knows what the messages are about. An exchange that fails raises ConnectionLost; the caller says ``fail``,
which puts an end to it when too many happened in a row, connects again and does again what was lost.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from ppl_jax.errors import SimulatorError
from ppl_jax.remote.failures import ConnectionLost, Silence
from ppl_jax.remote.forks import Forks
from ppl_jax.remote.guard import Guard
from ppl_jax.remote.processes import SimulatorProcess, StartedProcess, socket_path
from ppl_jax.remote.running_out import run_out
from ppx import messages as m
from ppx.connection import Connection
from ppx.constants import Capability, ErrorCode
from ppx.errors import PeerLost, PPXError

_ABORT_WAIT = 10.0  # seconds that a simulator has to confirm that it gave an execution up
_END_WAIT = 0.2  # seconds that a process whose connection broke has to end, so that we can say how
_LEAVE_WAIT = 10.0  # seconds that Ctrl-C and close wait for the end of an execution of PPX 1.0.0
_QUIET = 1.0  # seconds of this that need no word
_RUN_OUT = 60.0  # seconds that the next execution waits for the end of one that was given up, at least
_TRIM_EVERY = 64  # answers between looks at how much the simulator has printed
FORGOTTEN = (
    'No part of `command` is "{endpoint}", so the simulator is not told where to bind. Write "{endpoint}" where its '
    "endpoint belongs among the arguments"
)
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
      identity: shared by the simulators of a RemoteModel.
      guard: guards a process that is started, and has the folder for its output.
      forks: makes the process, where it is to be a copy.

    Attributes:
      connection: None while there is none.
      learned: what others keep about the present connection, by their type; void after a new handshake.
    """

    def __init__(
        self, options: Options, number: int, identity: Identity, guard: Guard | None, forks: Forks | None = None
    ):
        self.endpoint = options.endpoints[number]
        self.connection: Connection | None = None
        self.learned: dict[type, Any] = {}
        self._options = options
        self._guard = guard
        self._output = Path(os.devnull) if guard is None else guard.folder / f"{number}.output"
        self._identity = identity
        self._forks = forks
        self._process: SimulatorProcess | None = None
        self._failures = 0
        self._successes = 0
        self._is_left = False  # in the middle of an execution that nobody wants any more

    @property
    def pid(self) -> int | None:
        """Process id of the simulator, if it was started here and runs."""
        return None if self._process is None else self._process.pid

    def connect(self) -> Connection:
        """The connection, made first if there is none; the process is started first if it is ours and does not run.

        Raises:
          SimulatorError: that failed too often.
        """
        while self._is_left:
            try:
                limit = self._options.timeout or self._options.start_timeout
                self._run_out(limit, None if limit is None else max(limit, _RUN_OUT))
            except ConnectionLost as loss:
                self.fail(loss)
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
            self._process = StartedProcess(command, self.endpoint, self._output, guard=self._guard)

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
            if isinstance(error, PeerLost):
                self._never_answered(f"{error}{self._where()}", error)
            raise ConnectionLost(str(error)) from error
        except BaseException:
            connection.close()
            raise
        self.learned.clear()
        self._is_left = False
        return connection

    def _await_socket(self) -> None:
        """Waits for the socket's file: a connection that is refused would be tried again only after a while."""
        path, process, limit = socket_path(self.endpoint), self._process, self._options.start_timeout
        if path is None or process is None:
            return
        deadline = None if limit is None else time.monotonic() + limit
        while not os.path.exists(path) and process.is_running():
            if deadline is not None and time.monotonic() > deadline:
                what = f"it did not bind {self.endpoint} in {limit} s"
                self._never_answered(what, None)
                raise ConnectionLost(what)
            time.sleep(0.002)

    def _never_answered(self, what: str, cause: Exception | None) -> None:
        """Ends a wait for a simulator that never was there: waiting again would be of no use.

        Raises:
          SimulatorError: no simulator of this RemoteModel has answered so far.
        """
        if self._identity.first is None:
            text = self._failure(what)
            self.drop()
            raise SimulatorError(text) from cause

    def _where(self) -> str:
        """What is to be said of an endpoint at which nobody answered."""
        path = socket_path(self.endpoint)
        if path is not None and not os.path.exists(path):
            return f": there is no {path}, so nothing is bound there"
        return ""

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
        return Silence(f"it did not answer in {self._options.timeout} s")

    def succeeded(self) -> None:
        """An execution came to its end: the next failure is the first again."""
        self._failures = 0
        self._successes += 1
        if self._process is not None and self._successes % _TRIM_EVERY == 0:
            self._process.trim_output()

    def fail(self, loss: ConnectionLost) -> None:
        """Counts a failure and drops the connection, and the process if it is ours.

        A simulator of PPX 1.0.0 that is not ours and only silent is kept: a new connection would end it.

        Raises:
          SimulatorError: it is one too many.
        """
        shown = self._last_lines()
        if isinstance(loss, Silence) and self._must_run_out():
            self._is_left = True
        else:
            self.drop()
        self._failures += 1
        if self._failures < self._options.max_failures:
            return
        self._failures = 0
        number = self._options.max_failures
        times = "" if number == 1 else f" {number} times in a row, the last time so"
        raise SimulatorError(self._failure(f"{loss}", times, shown)) from loss

    def _failure(self, what: str, times: str = "", lines: str | None = None) -> str:
        """The text of an error: what happened, what to do, and what the process printed last."""
        name = f"'{self._identity.name}' " if self._identity.name else ""
        lines = self._last_lines() if lines is None else lines
        shown = f" The last lines that it printed:\n{lines}" if lines else ""
        command = self._options.command
        if command is None:
            remedy = "See that it runs and binds this endpoint"
        elif any("{endpoint}" in part for part in command):
            remedy = "Run the command by hand to see why"
        else:
            remedy = FORGOTTEN
        return (
            f"The simulator {name}at {self.endpoint} failed{times}: {what}. {remedy}, or allow more with `timeout`, "
            f"`start_timeout` or `max_failures`.{shown}"
        )

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

    def leave(self) -> None:
        """Makes the simulator leave the execution that it is at, where it may be interrupted anywhere in it.

        One of PPX 1.0.0 runs it out; if that takes too long or is interrupted, the rest is done before the next
        execution. Others, and those of ours that compute, are dropped.
        """
        if self.connection is None or self._is_left:
            return
        ours = self._process is not None
        if Capability.ERRORS in self.connection.active or (ours and self.connection.resume() is None):
            self.drop()
            return
        try:
            self._run_out(_LEAVE_WAIT, _LEAVE_WAIT, is_told=True)
        except ConnectionLost as loss:
            self._leave_behind(isinstance(loss, Silence))
        except BaseException:
            self._leave_behind(True)
            raise

    def _leave_behind(self, is_there: bool) -> None:
        """An execution of PPX 1.0.0 could not be run out."""
        if self._process is not None or not is_there:
            self.drop()
            return
        self._is_left = True
        warnings.warn(
            f"The simulator at {self.endpoint} is still in the middle of an execution, for PPX 1.0.0 has no message to "
            "give one up. It is run out before the next one of this RemoteModel. After close(), or if another program "
            "connects, the simulator ends or hangs, and has to be started again.",
            UserWarning,
            stacklevel=3,
        )

    def _must_run_out(self) -> bool:
        """Whether a new connection would end a simulator that we cannot start again, or that we would have to."""
        connection = self.connection
        return self._process is None and connection is not None and Capability.ERRORS not in connection.active

    def _run_out(self, limit: float | None, total: float | None, is_told: bool = False) -> None:
        """Answers what a simulator of PPX 1.0.0 asks until its execution has ended.

        Args:
          limit: seconds for one answer; None waits without limit.
          total: seconds for all.
          is_told: whether the user is told to wait.

        Raises:
          Silence: it takes longer.
          ConnectionLost: the simulator is gone.
        """
        connection = self.connection
        assert connection is not None
        start = time.monotonic()

        def stopped() -> bool:
            nonlocal is_told
            if is_told and time.monotonic() - start > _QUIET:
                is_told = False
                warnings.warn(
                    f"Waiting for the simulator at {self.endpoint} to finish its execution, {total} s at most: PPX "
                    "1.0.0 has no message to give one up. Ctrl-C ends the wait.",
                    UserWarning,
                    stacklevel=2,
                )
            return self._has_ended() or (total is not None and time.monotonic() - start > total)

        def receive() -> Any:
            found = None if stopped() else connection.receive(limit, stopped)
            if found is None:
                seconds = time.monotonic() - start
                raise Silence(f"it is still at an execution that was given up {seconds:.1f} s ago (PPX 1.0.0)")
            return found

        try:
            asked = connection.resume()
            run_out(connection.send, receive, receive() if asked is None else asked)
        except (PPXError, zmq.ZMQError) as error:
            raise ConnectionLost(f"{error}{self._ending()}") from error
        self._is_left = False

    def drop(self) -> None:
        """Closes the connection; ends the process if it is ours, because nobody knows what it is doing."""
        self._close_connection()
        self._stop_process(at_once=True)

    def ask_to_end(self) -> None:
        """Closes the connection and asks the process, if it is ours, to end, without waiting for it."""
        if self._must_run_out():
            self._is_left = False  # it is tried once more
            self.leave()
        self._close_connection()
        if self._process is not None:
            self._process.signal(signal.SIGTERM)

    def close(self) -> None:
        """Closes the connection and ends the process, if it is ours."""
        self._close_connection()
        self._stop_process(at_once=False)

    def _close_connection(self) -> None:
        connection, self.connection = self.connection, None
        self._is_left = False
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
