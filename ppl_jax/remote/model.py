"""RemoteModel: a simulator in another process, in any language, as a model like any other.

To the engines it is a callable that raises ``sample``, ``observe``, ``factor`` and ``tag``. Where simulator and engine
agree on it, whole executions are left to the simulator, which draws from the same random streams: the result is the
same, without a message for every draw (see :mod:`ppl_jax.running.services`, which is all that engines know of this).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Literal

from ppl_jax.remote.conversations import Conversation
from ppl_jax.remote.drawing import Drawing
from ppl_jax.remote.peers import FORGOTTEN, Options, numbered_endpoint
from ppl_jax.remote.pool import Pool
from ppl_jax.remote.rerunning import Rerunning
from ppl_jax.running.services import Request, Reruns, TableAndWeights
from ppx.constants import ALL_CAPABILITIES, Capability

START_TIMEOUT = 60.0  # seconds for a simulator that we start
CONNECT_TIMEOUT = 10.0  # seconds for one that should be there


class RemoteModel:
    """A simulator in one or several other processes; a model, and a context manager.

    Args:
      endpoint: ZeroMQ endpoint (``ipc:///path``, ``tcp://127.0.0.1:5555``), or one for each process. Without
        ``command`` the simulators must run there. With ``command`` it may be left out: every process then gets an ipc
        endpoint in a folder that only this user can enter.
      command: starts a simulator: program and arguments, in which ``{endpoint}`` is replaced. Processes are started
        when they are needed, replaced when they fail, and stopped by ``close``, at the end of the with statement, or
        when the interpreter ends.
      num_processes: how many simulators to start, or are to be found at consecutive endpoints. Does not change any
        result.
      fork: True to start ``command`` once and make all processes copies of it, from where it begins to serve (Linux).
        A start that takes seconds and memory is then paid once. What the simulator has then is in all copies: open
        files with their positions, locks, the state of a generator of its own; threads are in none.
      timeout: seconds that the simulator may take for one answer; None waits for as long as it lives.
      start_timeout: seconds from its start to its first answer; None waits without limit. "auto" is 60 with `command`,
        and 10 without, where the simulator should run already.
      max_failures: so many failures of a simulator in a row (deaths, time-outs, messages without sense) end a run.
      shared_memory: False to use sockets also on one machine.
      extension: False to speak PPX 1.0.0: one message for every statement.
      server_key: public CURVE key of the simulator (40 characters or bytes in Z85); encrypts the connection.
      curve: CURVE key pair (public, secret) of this side; by default one is made for each connection.

    Raises:
      ValueError: neither endpoint nor command is given, or an argument is out of its range.
      SimulatorError: when it is used: the simulator cannot be started or reached, or fails again and again. The
        message has the last lines that it printed.

    >>> with ppl.RemoteModel(command=["./tau", "{endpoint}"], num_processes=64, fork=True) as simulator:
    ...     posterior = ppl.importance_sampling(simulator, {"energy": 4.2}, num_traces=1000)
    """

    traceable = False  # JAX cannot see into another process
    shares_stream = True  # nuisances are drawn there, from the stream of the execution
    forkable = False  # a connection cannot be shared with a forked process

    def __init__(
        self,
        endpoint: str | Sequence[str] | None = None,
        command: Sequence[str] | None = None,
        num_processes: int | None = None,
        *,
        fork: bool = False,
        timeout: float | None = None,
        start_timeout: float | Literal["auto"] | None = "auto",
        max_failures: int = 5,
        shared_memory: bool = True,
        extension: bool = True,
        server_key: str | bytes | None = None,
        curve: tuple[bytes, bytes] | None = None,
    ):
        capabilities = ALL_CAPABILITIES if extension else Capability(0)
        if not shared_memory:
            capabilities &= ~Capability.SHARED_MEMORY
        options = Options(
            _endpoints(endpoint, command, num_processes),
            _command(command, endpoint, num_processes, fork),
            _fork(fork, command),
            _seconds("timeout", timeout),
            _start_timeout(start_timeout, command),
            _at_least_one("max_failures", max_failures),
            capabilities,
            server_key.encode() if isinstance(server_key, str) else server_key,
            curve,
        )
        self._pool = Pool(options)
        self._finalizer = weakref.finalize(self, self._pool.close)

    @property
    def at_once(self) -> int:
        """How many executions can be under way together: one in each process; see :mod:`ppl_jax.running.services`."""
        return len(self._pool.peers)

    def __call__(self) -> Any:
        """Executes the simulator once under the handlers in force; what it returned: a float, an array or None."""
        self._pool.check()
        return Conversation(self._pool).run()

    def executions(self, request: Request, start: int, stop: int) -> Iterator[TableAndWeights] | None:
        """Blocks of executions that the simulators perform by themselves; see :mod:`ppl_jax.running.services`."""
        return Drawing(self._pool, request).blocks(start, stop) if self._can(Capability.DRAWS) else None

    def reruns(self, request: Request) -> Reruns | None:
        """Executions with kept values; see :mod:`ppl_jax.running.services`."""
        return Rerunning(self._pool, request) if self._can(Capability.DRAWS) else None

    def _can(self, capability: Capability) -> bool:
        """Whether the simulators have a capability."""
        self._pool.check()
        peer = self._pool.lend()
        try:
            return capability in peer.connect().active
        finally:
            self._pool.give_back(peer)

    @property
    def __name__(self) -> str:
        return self._pool.identity.name or "simulator"

    def __repr__(self) -> str:
        return f"RemoteModel({', '.join(peer.endpoint for peer in self._pool.peers)})"

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the simulators that were started here and run."""
        return [peer.pid for peer in self._pool.peers if peer.pid is not None]

    def close(self) -> None:
        """Closes the connections and stops the processes that were started here; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _endpoints(endpoint: Any, command: Any, num_processes: Any) -> tuple[str, ...]:
    given = () if endpoint is None else (endpoint,) if isinstance(endpoint, str) else tuple(endpoint)
    if any(not isinstance(one, str) or "://" not in one for one in given):
        raise ValueError(f"endpoint must be like 'ipc:///path' or 'tcp://127.0.0.1:5555', got {endpoint!r}.")
    count = _at_least_one("num_processes", max(1, len(given)) if num_processes is None else num_processes)
    if not given:
        if command is None:
            raise ValueError("Give the endpoint of a simulator that runs, or the command that starts one.")
        return ("",) * count
    if len(given) > 1 and len(given) != count:
        raise ValueError(f"{len(given)} endpoints were given for num_processes={count}. Give one for each process.")
    return given if len(given) > 1 else tuple(numbered_endpoint(given[0], number) for number in range(count))


def _command(command: Any, endpoint: Any, num_processes: Any, fork: Any) -> tuple[str, ...] | None:
    if command is None:
        return None
    if isinstance(command, str) or not command:
        raise ValueError(f"command must be a list: the program, then its arguments; got {command!r}.")
    parts = tuple(str(part) for part in command)
    # Copies are told where to bind in another way, and a program may have an endpoint of its own, which is then given.
    is_told = any("{endpoint}" in part for part in parts) or fork
    if not is_told and (endpoint is None or (num_processes or 1) > 1):
        raise ValueError(
            f'{FORGOTTEN}: command=[{parts[0]!r}, ..., "{{endpoint}}"]. If it binds an endpoint of its own, give that '
            "as `endpoint`."
        )
    return parts


def _start_timeout(value: Any, command: Any) -> float | None:
    if isinstance(value, str) and value == "auto":
        return CONNECT_TIMEOUT if command is None else START_TIMEOUT
    return _seconds("start_timeout", value)


def _fork(fork: Any, command: Any) -> bool:
    if not isinstance(fork, bool):
        raise ValueError(f"fork must be True or False, got {fork!r}.")
    if fork and command is None:
        raise ValueError("fork=True makes copies of what `command` starts; give it.")
    return fork


def _seconds(name: str, value: Any) -> float | None:
    if value is None or (isinstance(value, (int, float)) and 0.0 < value < math.inf):
        return value
    raise ValueError(f"{name} must be a positive number of seconds or None, got {value!r}.")


def _at_least_one(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    return value
