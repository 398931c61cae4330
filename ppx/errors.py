"""What can go wrong on the wire, each with the error code by which it is told to the other side."""

from __future__ import annotations

from ppx.constants import ErrorCode


class PPXError(Exception):
    """Base class. ``code`` is the ErrorCode under which the error travels, ``address`` that of the statement, or ""."""

    code = ErrorCode.UNKNOWN

    def __init__(self, text: str, address: str = ""):
        super().__init__(text)
        self.text = text
        self.address = address


class MalformedMessage(PPXError, ValueError):
    """Received bytes are no valid message, or its numbers contradict each other. Nothing of it was used."""

    code = ErrorCode.MALFORMED


class UnsupportedMessage(PPXError, ValueError):
    """A message or distribution that this version, or this connection, does not have."""

    code = ErrorCode.UNSUPPORTED


class OutOfState(PPXError, RuntimeError):
    """A valid message came at the wrong time."""

    code = ErrorCode.OUT_OF_STATE


class TooLarge(PPXError, ValueError):
    """A limit of the protocol would be passed."""

    code = ErrorCode.TOO_LARGE


class PeerLost(PPXError, ConnectionError):
    """The other side died, left or closed the connection."""

    code = ErrorCode.ABORTED
