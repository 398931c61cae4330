"""The Python front end: serves a ppl_jax model, in its own process, to an inference side anywhere.

    import ppx
    from simulator import model
    ppx.serve(model, "ipc:///tmp/simulator.ipc")

It speaks PPX 1.0.0 with those who speak no more, and the extension with those who do; PROTOCOL.md has the states and
rules.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ppl_jax.errors import ParameterError
from ppl_jax.language.addresses import error_site
from ppl_jax.language.stack import run_under
from ppl_jax.serving.execution import Execution, Orders, PlainExecution, RecordedExecution, Unwind
from ppx import messages as m
from ppx.constants import ALL_CAPABILITIES, VERSION, Capability, ErrorCode, active
from ppx.encoding import Encoder
from ppx.errors import MalformedMessage, OutOfState, PeerLost, PPXError, TooLarge, UnsupportedMessage
from ppx.forks import Original, asked_for
from ppx.forms import Decoder
from ppx.positions import streams_of
from ppx.recording import Batch, SiteNumbers
from ppx.sites import as_numbers
from ppx.sockets import Curve, FrontEndChannel

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
BATCH_BYTES = 1 << 20  # a RunResult is sent once it has about this size
_TEXT = 2_000  # characters of an error's text, and of its address, that are sent


class _Stopped(BaseException):
    """It is time to stop: leaves the model."""


class FrontEnd:
    """Serves a model at an endpoint; a context manager.

    Args:
      model: a function without arguments that calls ppl_jax's primitives.
      endpoint: ZeroMQ endpoint to bind: ``ipc:///path``, ``tcp://127.0.0.1:5555``. Other machines reach it only if it
        names an address that they can reach; use ``curve`` then.
      name: of the model; by default the function's.
      capabilities: what to announce; ``Capability(0)`` makes it a front end of PPX 1.0.0.
      curve: CURVE key pair (public, secret); with it, only encrypted connections are taken.
      stop_with_parent: whether to stop when the process that started this one has ended; None: if the environment says
        so, by PPX_STOP_WITH_PARENT=1.

    Attributes:
      endpoint: where it is bound, or will be.
      active: the capabilities of the present connection.
    """

    def __init__(
        self,
        model: Callable[[], Any],
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        name: str | None = None,
        capabilities: Capability = ALL_CAPABILITIES,
        curve: Curve | None = None,
        stop_with_parent: bool | None = None,
    ):
        if stop_with_parent is None:
            stop_with_parent = os.environ.get("PPX_STOP_WITH_PARENT") == "1"
        self._parent = os.getppid() if stop_with_parent else None
        self.model = model
        self.name = getattr(model, "__name__", type(model).__name__) if name is None else name
        self.capabilities = capabilities
        self._stop = threading.Event()
        self._in_model = False
        self._curve = curve
        self._forks = asked_for()
        self.endpoint = endpoint
        if self._forks is None:
            self._bind(endpoint)
        self._begin(Capability(0))

    def _bind(self, endpoint: str) -> None:
        self._channel = FrontEndChannel(endpoint, self._curve, self._is_stopped)
        self.endpoint = self._channel.endpoint

    def _begin(self, capabilities: Capability) -> None:
        self.active = capabilities
        self._numbers = SiteNumbers()
        self._policy: m.Policy | None = None
        self._decode = Decoder()
        self._encode = Encoder()

    # -- serving ----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answers messages until ``stop`` is called or, in the main thread, SIGTERM or SIGINT comes.

        If the process that started this one asks for copies of it, this process makes these, and each of them serves
        (PROTOCOL.md, section 16); this one ends when it is not needed any more.
        """
        with self.stopped_by_signals(), suppress(_Stopped):
            if self._forks is not None:
                copy = Original(self._forks, self._is_stopped).serve()
                self._parent = copy.original
                self._bind(copy.endpoint)
                self._forks = None
            message = self._receive()
            while message is not None:
                message = self._answer(message)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """In the main thread, SIGTERM and SIGINT leave the model and end ``serve``, so that ``close`` has its turn."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop.set()
            if self._in_model:  # elsewhere it is noticed soon, and nothing is left half done
                raise _Stopped

        handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _is_stopped(self) -> bool:
        return self._stop.is_set() or (self._parent is not None and os.getppid() != self._parent)

    def stop(self) -> None:
        """Makes ``serve`` return, from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Closes the socket and leaves the mailbox."""
        if self._forks is not None:
            self._forks.close()
        else:
            self._channel.close()

    def __enter__(self) -> FrontEnd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> Any:
        """The next message, or the PPXError that says why it is none; None at the end.

        A mailbox whose other side is gone ends its connection.
        """
        while True:
            try:
                return self._take()
            except PeerLost:
                self._begin(Capability(0))

    def _take(self) -> Any:
        data = self._channel.receive()
        try:
            return None if data is None else self._decode(data)
        except PPXError as error:
            return error.with_traceback(None)  # whose frames would keep the mailbox's memory

    def _answer(self, message: Any) -> Any:
        """Serves a message that came while no execution runs; returns the next one."""
        try:
            if isinstance(message, PPXError):
                raise message
            if type(message) is m.Handshake:
                if self._channel.shares_memory:
                    raise OutOfState("a Handshake travels by ZeroMQ, not through the mailbox")
                self._shake_hands(message)
                return self._receive()
            if type(message) is m.Run:
                answer = self._run(message)
            else:
                answer = self._refusal(
                    ErrorCode.OUT_OF_STATE, f"no execution runs: {type(message).__name__} is not expected"
                )
        except Unwind as unwind:
            if unwind.answer is None:
                return self._receive() if unwind.message is None else unwind.message
            answer = unwind.answer
        except PPXError as error:
            answer = self._refusal(error.code, error.text, error.address)
        try:
            self._send(answer)
        except TooLarge as error:
            self._send(self._refusal(error.code, error.text))
        return self._receive()

    def _send(self, answer: m.Message) -> None:
        """Sends a message.

        Raises:
          TooLarge: it cannot be sent; nothing was, and what it would have defined is forgotten.
        """
        try:
            data = self._encode(answer)
            if len(data) > self._channel.capacity:
                raise TooLarge(f"a message of {len(data)} bytes passes the connection's limit {self._channel.capacity}")
        except TooLarge:
            self._numbers.forget(0)
            raise
        traces = getattr(answer, "traces", None)
        if traces is not None:
            self._numbers.sent(len(traces.sites))
        self._channel.send(data)

    def _refusal(self, code: ErrorCode, text: str, address: str = "") -> m.Message:
        if Capability.ERRORS in self.active:
            return m.Error(code, text[:_TEXT], address[:_TEXT])
        if sys.stderr is not None:  # a Reset has no text, and somebody should learn why
            place = f" (at {address})" if address else ""
            with suppress(OSError, ValueError):
                sys.stderr.write(f"ppx: {text}{place}; answered with Reset, which has no reason\n")
                sys.stderr.flush()
        return m.Reset()

    def _shake_hands(self, message: m.Handshake) -> None:
        capabilities = active(self.capabilities, message.capabilities if message.version >= VERSION else 0)
        mailbox = None
        if Capability.SHARED_MEMORY in capabilities:
            mailbox = self._channel.open(message.shared_memory)
            if mailbox is None:
                capabilities &= ~Capability.SHARED_MEMORY
        extended = self.capabilities and message.version >= VERSION
        answer = m.HandshakeResult(
            "ppx-python",
            self.name,
            VERSION if extended else 0,
            int(capabilities),
            build_id(self.model) if extended else "",
        )
        self._channel.use(None)
        self._begin(capabilities)
        self._channel.send(self._encode(answer))
        self._channel.use(mailbox)

    # -- executions -------------------------------------------------------------------------------------------------

    def ask(self, question: m.Message) -> Any:
        """Sends a statement's message and returns its result.

        Raises:
          TooLarge: it cannot be sent.
          Unwind: something else came.
        """
        if self._is_stopped():
            raise _Stopped
        self._send(question)
        try:
            answer = self._take()
        except PeerLost:
            self._begin(Capability(0))
            raise Unwind from None
        if answer is None:
            raise _Stopped
        kind = type(answer)
        if kind is _RESULTS[type(question)]:
            return answer
        if kind is m.Handshake or kind is m.Run:
            raise Unwind(message=answer)
        if isinstance(answer, PPXError):
            raise Unwind(self._refusal(answer.code, answer.text))
        if kind is m.Error and Capability.ERRORS in self.active:
            raise Unwind(
                self._refusal(ErrorCode.ABORTED, f"given up by the inference side: {answer.text}", answer.address)
            )
        raise Unwind(
            self._refusal(ErrorCode.OUT_OF_STATE, f"{kind.__name__} is no answer to {type(question).__name__}")
        )

    def _run(self, run: m.Run) -> m.Message:
        draws = run.draws if Capability.DRAWS in self.active else None
        if draws is not None:
            return self._run_draws(draws)
        if Capability.SITES in self.active:
            recorded = RecordedExecution(self, self._numbers, None, None)
            _, error = self._execute(recorded)
            return m.RunResult(traces=recorded.recorder.take()) if error is None else error
        plain = PlainExecution(self)
        result, error = self._execute(plain)
        if error is not None:
            return error
        found = None if result is None else as_numbers(result)
        if result is not None and found is None:
            return self._refusal(
                ErrorCode.UNSUPPORTED, f"the model returned a {type(result).__name__}, which cannot be sent"
            )
        return m.RunResult(*(found or (None, ())))

    def _run_draws(self, draws: m.Draws) -> m.RunResult:
        policy = self._policy if draws.policy is None else draws.policy
        orders = Orders(policy, draws.replay, self._numbers)
        if draws.count == 0:
            raise MalformedMessage("a Run of no executions")
        if draws.count > 1 and orders.asks:
            raise UnsupportedMessage("a Run of several executions cannot ask for values")
        self._policy = policy
        batch, position, numbers, capacity = Batch(), draws.position, self._numbers, self._channel.capacity
        for rng in streams_of(draws):
            execution = RecordedExecution(self, numbers, orders, rng)
            try:
                _, error = self._execute(execution)
            except _Stopped:
                if len(batch):
                    break  # what is done is sent before the end
                raise
            if error is None and not batch.add(execution.recorder, capacity - numbers.pending_size):
                if len(batch):
                    break  # the next Run begins with this one
                error = m.Error(ErrorCode.TOO_LARGE, f"the execution passes the connection's limit of {capacity} bytes")
            if error is not None:
                batch.fail(error)
            position = rng.position
            if batch.size + numbers.pending_size >= min(BATCH_BYTES, capacity // 2):
                break
        return m.RunResult(traces=batch.traces(numbers, capacity), position=position)

    def _execute(self, execution: Execution) -> tuple[Any, Any]:
        """Runs the model once: its result and None, or None and the message that tells of its failure."""
        self._in_model = True
        try:
            result = run_under(execution, self.model)
            execution.check()
            if isinstance(execution, RecordedExecution):
                execution.finish(result)
        except PPXError as error:
            return None, self._refusal(error.code, error.text, error.address or execution.address)
        except ParameterError as error:
            place = error_site(error.__traceback__)
            return None, self._refusal(ErrorCode.PARAMETER, f"{error} ({place})", execution.address)
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {error} ({error_site(error.__traceback__)})"
            return None, self._refusal(ErrorCode.MODEL, text, execution.address)
        finally:
            self._in_model = False
            execution.given_up = None  # an exception whose frames hold the execution, and the mailbox's memory
            if self._is_stopped():  # said again to a model that has caught it
                raise _Stopped
        return result, None


_RESULTS: dict[type, type] = {m.Sample: m.SampleResult, m.Observe: m.ObserveResult, m.Tag: m.TagResult}


def build_id(model: Callable[[], Any]) -> str:
    """What changes when the model's addresses may have changed: a hash of the file in which it is defined."""
    code = getattr(model, "__code__", None)
    try:
        return hashlib.sha256(Path(code.co_filename).read_bytes()).hexdigest()[:32]  # type: ignore[union-attr]
    except (AttributeError, OSError):
        return ""


def serve(model: Callable[[], Any], endpoint: str = DEFAULT_ENDPOINT, **options: Any) -> None:
    """Serves a model until SIGTERM or SIGINT; see :class:`FrontEnd` for the arguments.

    The model's errors are sent to the inference side, and the next execution is served.
    """
    with FrontEnd(model, endpoint, **options) as front_end, front_end.stopped_by_signals():
        front_end.serve()
        front_end.close()
