"""The inference side's end of a connection to one front end: handshake, and messages as values.

>>> connection = ppx.Connection("ipc:///tmp/simulator.ipc")
>>> connection.handshake(timeout=10.0)
>>> connection.request(ppx.messages.Run())                          # a Sample, a RunResult, an Error, ...
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import zmq

from ppx import messages as m
from ppx.constants import ALL_CAPABILITIES, MAX_MESSAGE, VERSION, Capability, active
from ppx.encoding import Encoder
from ppx.errors import OutOfState, PeerLost
from ppx.forms import Decoder
from ppx.mailbox import create, fits_mailbox
from ppx.sites import SiteTable
from ppx.sockets import Curve, InferenceChannel


class Connection:
    """A connection to a front end; does nothing until ``handshake``.

    Args:
      endpoint: the front end's ZeroMQ endpoint.
      system_name: how this side calls itself.
      capabilities: what this side understands; none makes it speak PPX 1.0.0.
      capacity: the longest message that a mailbox can hold, bytes: a multiple of 4096, at least 65,536.
      server_key: the front end's public CURVE key; None does not encrypt.
      curve: this side's CURVE key pair.
      context: ZeroMQ context to share with other connections, which saves threads and descriptors.

    Attributes:
      active: the capabilities that both sides have.
      peer: the HandshakeResult.
      sites: the sites that the front end has defined; it learns of them by ``sites.receive``, to which every ``traces``
        must be given that a message brings.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        system_name: str = "ppl_jax",
        capabilities: Capability = ALL_CAPABILITIES,
        capacity: int = MAX_MESSAGE,
        server_key: bytes | None = None,
        curve: Curve | None = None,
        context: zmq.Context | None = None,
    ):
        if not fits_mailbox(capacity):
            raise ValueError(f"capacity must be a multiple of 4096 and at least 65536 (bytes), got {capacity!r}.")
        self.endpoint = endpoint
        self.system_name = system_name
        self.capabilities = capabilities
        self.capacity = capacity
        self.active = Capability(0)
        self.peer = m.HandshakeResult()
        self.sites = SiteTable()
        self._keys = (server_key, curve, context)
        self._channel = InferenceChannel(endpoint, *self._keys)
        self._is_new = True
        self._awaits = False  # an answer
        self._decode = Decoder()
        self._encode = Encoder()

    def handshake(
        self, timeout: float | None = None, interrupted: Callable[[], bool] | None = None
    ) -> m.HandshakeResult:
        """Agrees with the front end on the capabilities; a mailbox is used from then on, if both can.

        May be called again at any time, also after a time-out or a PeerLost: it begins a new connection.

        Args:
          timeout: seconds to wait for the answer; None waits without limit.
          interrupted: asked ten times a second; if true the wait ends.

        Raises:
          PeerLost: no answer came.
          OutOfState: the answer is something else.
        """
        if not self._is_new:
            self._channel.close()
            self._channel = InferenceChannel(self.endpoint, *self._keys)
        self._is_new = self._awaits = False
        self.active = Capability(0)
        mailbox = shared = None
        ours = self.capabilities
        if Capability.SHARED_MEMORY in ours:
            mailbox, shared = create(self.capacity) or (None, None)
            if mailbox is None:
                ours &= ~Capability.SHARED_MEMORY
        try:
            message = m.Handshake(self.system_name, VERSION if ours else 0, int(ours), shared)
            answer = self.request(message, timeout, interrupted)
            if answer is None:
                raise PeerLost(
                    f"no simulator answered at {self.endpoint}" + ("" if timeout is None else f" in {timeout} s")
                )
            if type(answer) is not m.HandshakeResult:
                raise OutOfState(f"the front end answered a Handshake with {answer!r}")
            self.peer = answer
            self.sites = SiteTable()
            self.active = active(ours, answer.capabilities if answer.version >= VERSION else 0)
            if mailbox is not None and Capability.SHARED_MEMORY in self.active:
                self._channel.use(mailbox)
                mailbox = None
        finally:
            if mailbox is not None:
                mailbox.close()
        return answer

    def send(self, message: m.Message) -> None:
        """Sends a message; strictly one for each that is received.

        Raises:
          OutOfState: the answer to the last one was not received yet.
          TooLarge: the message passes a limit of the protocol or of the mailbox.
        """
        if self._awaits:
            raise OutOfState(
                "a message was sent whose answer did not come yet; receive it, or begin anew with handshake()"
            )
        self._channel.send(self._encode(message))
        self._awaits = True

    def receive(self, timeout: float | None = None, interrupted: Callable[[], bool] | None = None) -> Any:
        """The next message, decoded; None if the time (seconds) ran out or the wait was interrupted.

        Raises:
          PeerLost: the front end died, left, or the connection broke.
          MalformedMessage, UnsupportedMessage: what came is no message.
        """
        data = self._channel.receive(timeout, interrupted)
        if data is None:
            return None
        self._awaits = False
        return self._decode(data)

    def request(
        self, message: m.Message, timeout: float | None = None, interrupted: Callable[[], bool] | None = None
    ) -> Any:
        """Sends a message and returns the answer; see ``receive``."""
        self.send(message)
        return self.receive(timeout, interrupted)

    def resume(self) -> Any:
        """Finds out where the conversation is after Ctrl-C at any moment of ``send`` and ``receive``.

        Only where messages travel by the socket, not through a mailbox.

        Returns:
          The last message that came, which is not answered yet; None if one is to be received.
        """
        self._awaits = self._channel.awaits
        return None if self._awaits else self._decode(self._channel.last)

    def share_cores(self, crowded: bool) -> None:
        """Says whether more processes than cores compute now; then both sides sleep at once when they wait.

        Holds until the next handshake, and does nothing where messages do not travel through shared memory.
        """
        self._channel.share_cores(crowded)

    def close(self) -> None:
        """Closes the connection; the front end waits for the next."""
        self._channel.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
