"""What a simulator's errors mean: some are the model's, to be raised, others the connection's, to be mended."""

from __future__ import annotations

from ppl_jax.errors import ModelError, PPLError, RemoteParameterError
from ppx import messages as m
from ppx.constants import ErrorCode


class ConnectionLost(Exception):
    """An exchange with a simulator failed: it died, hung, or said what makes no sense. The text says which."""


class Silence(ConnectionLost):
    """No answer came in time; the connection stands."""


#: Codes that come again if the same execution is done again: they are about the program, not about the connection.
_PROGRAM = (ErrorCode.UNKNOWN, ErrorCode.UNSUPPORTED, ErrorCode.PARAMETER, ErrorCode.MODEL, ErrorCode.TOO_LARGE)


def is_programs(error: m.Error) -> bool:
    """Whether the error is the simulator's own, so that trying again is of no use."""
    return error.code in _PROGRAM


def as_exception(error: m.Error, name: str, which: str) -> PPLError:
    """The exception for an execution that failed in the simulator called ``name``; ``which`` names the execution."""
    place = f" at {error.address}" if error.address else ""
    where = f"in the simulator '{name}'{place}{', ' + which if which else ''}"
    if error.code == ErrorCode.PARAMETER:
        return RemoteParameterError(f"{error.text} ({where})")
    return ModelError(f"The model raised {where}: {error.text or ErrorCode(error.code).name}")
