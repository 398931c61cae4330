"""PPX: the protocol by which simulators in other processes and languages take part in inference.

The codec (:func:`decode`, :func:`encode`), an inference side's :class:`Connection`, and the Python front end
(:func:`serve`). What the messages mean is written in ``PROTOCOL.md``, the wire in ``schema/ppx.fbs``.
"""

from typing import Any

from ppx import messages
from ppx.connection import Connection
from ppx.constants import ALL_CAPABILITIES, Capability, ErrorCode, SiteKind
from ppx.decoding import decode
from ppx.encoding import Encoder, encode
from ppx.errors import MalformedMessage, OutOfState, PeerLost, PPXError, TooLarge, UnsupportedMessage
from ppx.forms import Decoder
from ppx.sites import SiteTable

__all__ = [
    # a simulator in Python
    "serve", "FrontEnd", "rejection_scope",
    # an inference side
    "Connection", "SiteTable",
    # the codec
    "messages", "decode", "encode", "Decoder", "Encoder", "Capability", "ALL_CAPABILITIES", "ErrorCode", "SiteKind",
    # what can go wrong
    "PPXError", "MalformedMessage", "UnsupportedMessage", "OutOfState", "TooLarge", "PeerLost",
]  # fmt: skip

_FRONT_END = {
    "serve": "ppl_jax.serving.frontend",
    "FrontEnd": "ppl_jax.serving.frontend",
    "rejection_scope": "ppl_jax.serving.scopes",
}


def __getattr__(name: str) -> Any:
    """The front end is loaded when it is asked for: it needs ppl_jax's language, which the codec does not."""
    if name in _FRONT_END:
        from importlib import import_module

        return getattr(import_module(_FRONT_END[name]), name)
    raise AttributeError(f"module 'ppx' has no attribute {name!r}")
