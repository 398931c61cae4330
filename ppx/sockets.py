"""The ZeroMQ ends of a connection, and the change to a mailbox after a handshake that agreed on one.

:class:`FrontEndChannel` binds and answers, :class:`InferenceChannel` connects and asks. Both hand over bytes; what they
mean is nobody's business here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from ppx.constants import MAX_MESSAGE
from ppx.errors import PeerLost
from ppx.mailbox import Mailbox, attach
from ppx.messages import SharedMemory

HEARTBEAT = 5_000  # milliseconds between signs of life on a connection over a network
SILENCE = 15_000  # milliseconds without one after which the other side counts as lost
TICK = 100  # milliseconds between two looks at whether to stop waiting
_LINGER = 1_000  # milliseconds that the last message has to leave after close

# Events after which no answer will come.
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

Curve = tuple[bytes, bytes]  # public key, secret key, as zmq.curve_keypair() gives them


def _socket(context: zmq.Context, kind: int, endpoint: str) -> Any:
    socket = context.socket(kind)
    socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
    if not endpoint.startswith("ipc:"):  # on one machine a connection breaks when its other end does
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT)
        socket.set(zmq.HEARTBEAT_TIMEOUT, SILENCE)
    socket.set(zmq.LINGER, _LINGER)
    return socket


def _receive(socket: Any) -> bytes:
    """The one frame of a message; nothing, which is no message, if it has several."""
    data = socket.recv()
    while socket.get(zmq.RCVMORE):
        socket.recv()
        data = b""
    return bytes(data)


class _Shield:
    """Puts Ctrl-C off while a message is taken, which would be lost: pyzmq looks for signals when it has it already."""

    def __enter__(self) -> None:
        self._caught: tuple[int, FrameType | None] | None = None
        self._before: Any = None
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught = number, frame

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            if self._caught is not None:
                self._before(*self._caught)


class FrontEndChannel:
    """The front end's channel: a bound REP socket, and the mailbox of the present connection, if it has one.

    Args:
      endpoint: where to bind.
      curve: this side's key pair; with it only encrypted connections are taken.
      stopped: asked ten times a second while nothing comes; if true, ``receive`` returns None.
    """

    def __init__(self, endpoint: str, curve: Curve | None = None, stopped: Callable[[], bool] | None = None):
        self._context = zmq.Context()
        self._socket = _socket(self._context, zmq.REP, endpoint)
        self._mailbox: Mailbox | None = None
        self._file: _SocketFile | None = None
        self._stopped = stopped or (lambda: False)
        try:
            if curve is not None:
                self._socket.set(zmq.CURVE_SERVER, 1)
                self._socket.set(zmq.CURVE_PUBLICKEY, curve[0])
                self._socket.set(zmq.CURVE_SECRETKEY, curve[1])
            self._socket.bind(endpoint)
        except BaseException:
            self.close()
            raise
        #: Where it is bound, with the port that the system chose for ``tcp://...:*``.
        self.endpoint = self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._file = _SocketFile(self.endpoint)

    def receive(self) -> Any:
        """The bytes of the next message; None if it is time to stop.

        Raises:
          PeerLost: the mailbox's other side died or left; the next message will come by the socket.
        """
        if self._mailbox is not None:
            try:
                message = self._mailbox.receive(interrupted=self._called_away)
            except PeerLost:
                self.use(None)
                raise
            if message is not None:
                return message
            if self._stopped():
                return None
            self.use(None)
        while not self._socket.poll(TICK):
            if self._stopped():
                return None
        return _receive(self._socket)

    def _called_away(self) -> bool:
        return bool(self._stopped() or self._socket.poll(0))

    def send(self, data: bytes) -> None:
        """Answers the last message received."""
        if self._mailbox is not None:
            self._mailbox.send(data)
        else:
            self._socket.send(data)

    @property
    def capacity(self) -> int:
        """The longest message that can be sent, bytes."""
        return MAX_MESSAGE if self._mailbox is None else self._mailbox.capacity

    @property
    def shares_memory(self) -> bool:
        """Whether messages travel through a mailbox now."""
        return self._mailbox is not None

    def open(self, shared: SharedMemory | None) -> Mailbox | None:
        """The mailbox that a handshake offers, to be used from the message after the next; None if that fails."""
        return None if shared is None else attach(shared)

    def use(self, mailbox: Mailbox | None) -> None:
        """Changes to a mailbox, or back to the socket, leaving the one before."""
        if self._mailbox is not None:
            self._mailbox.close()
        self._mailbox = mailbox

    def close(self) -> None:
        """Leaves the mailbox and closes the socket; the file of an ipc endpoint goes with it."""
        self.use(None)
        self._socket.close()
        self._context.term()
        if self._file is not None:
            self._file.remove()


class _SocketFile:
    """The file of an ipc endpoint, which ZeroMQ leaves behind; removed only if it is still the same one."""

    def __init__(self, endpoint: str):
        path = endpoint.removeprefix("ipc://")
        self._path = None if path == endpoint or path.startswith("@") else path
        self._identity = self._found()

    def _found(self) -> tuple[int, int] | None:
        with suppress(OSError):
            if self._path is not None:
                found = os.stat(self._path)
                return found.st_dev, found.st_ino
        return None

    def remove(self) -> None:
        if self._path is not None and self._identity is not None and self._found() == self._identity:
            with suppress(OSError):
                os.unlink(self._path)


class InferenceChannel:
    """The inference side's channel: a connected REQ socket, then the mailbox that the front end accepted.

    Args:
      endpoint: of the front end.
      server_key: the front end's public key, for an encrypted connection.
      curve: this side's key pair; None makes one for this connection.
      context: ZeroMQ context to use, which stays the caller's; None makes one for this connection.
    """

    def __init__(
        self,
        endpoint: str,
        server_key: bytes | None = None,
        curve: Curve | None = None,
        context: zmq.Context | None = None,
    ):
        self.endpoint = endpoint
        self._context = context or zmq.Context()
        self._owns_context = context is None
        self._socket = _socket(self._context, zmq.REQ, endpoint)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVTIMEO, TICK)
        self._monitor = self._socket.get_monitor_socket(_LOST)
        self._mailbox: Mailbox | None = None
        #: The last message that came by the socket: an interrupted caller finds it here.
        self.last = b""
        try:
            if server_key is not None:
                public, secret = curve or zmq.curve_keypair()
                self._socket.set(zmq.CURVE_SERVERKEY, server_key)
                self._socket.set(zmq.CURVE_PUBLICKEY, public)
                self._socket.set(zmq.CURVE_SECRETKEY, secret)
            self._socket.connect(endpoint)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def send(self, data: bytes) -> None:
        """Sends a message; strictly one for each that is received."""
        if self._mailbox is not None:
            self._mailbox.send(data)
        else:
            self._socket.send(data)

    def receive(self, timeout: float | None = None, interrupted: Callable[[], bool] | None = None) -> Any:
        """The bytes of the answer; None if ``timeout`` (seconds) passed or ``interrupted()``, asked ten times a second.

        Raises:
          PeerLost: the front end died, left, or the connection broke.
        """
        if self._mailbox is not None:
            return self._mailbox.receive(timeout, interrupted)
        if timeout is None or 1000 * timeout >= TICK:
            with suppress(zmq.Again):  # the usual case: no more than one call, the monitor is looked at later
                return self._take()
            timeout = None if timeout is None else timeout - TICK / 1000
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = TICK if deadline is None else int(1000 * (deadline - time.monotonic())) + 1
            ready = dict(self._poller.poll(max(0, min(TICK, left))))
            if self._socket in ready:
                return self._take()
            if self._monitor in ready:
                event = recv_monitor_message(self._monitor)["event"]
                if not self._socket.poll(0):
                    what = "closed the connection or died" if event == zmq.EVENT_DISCONNECTED else "refused the key"
                    raise PeerLost(f"the simulator at {self.endpoint} {what}")
            if interrupted is not None and interrupted():
                return None
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _take(self) -> bytes:
        with _Shield():
            self.last = _receive(self._socket)
        return self.last

    @property
    def awaits(self) -> bool:
        """Whether a message was sent whose answer was not received, as the socket itself knows it."""
        return not self._socket.poll(0, zmq.POLLOUT)

    def use(self, mailbox: Mailbox) -> None:
        """From now on messages travel through the mailbox."""
        mailbox.watch(mailbox.peer_pid)
        self._mailbox = mailbox

    def share_cores(self, crowded: bool) -> None:
        """See :meth:`ppx.Connection.share_cores`."""
        if self._mailbox is not None and self._mailbox.is_crowded != crowded:
            self._mailbox.is_crowded = crowded

    @property
    def capacity(self) -> int:
        """The longest message that can be sent, bytes."""
        return MAX_MESSAGE if self._mailbox is None else self._mailbox.capacity

    def close(self) -> None:
        """Leaves the mailbox and closes the sockets; nothing is left behind."""
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        if self._owns_context:
            self._context.term()
