"""While a program is traced by JAX, drawn values have no text: who prints one or puts it into a command line is told.

The text of an abstract value is "JitTracer(float32[])", whatever was drawn: a program that gives it to another program,
a file or a dictionary would get the same nonsense in all executions. JAX has no setting for this, so the methods that
make the text are replaced for the time of a tracing. Other threads, and JAX's and our own messages, get the text as
ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

import jax

from ppl_jax.language.addresses import is_library, is_own

_REFUSED: ContextVar[list[str] | None] = ContextVar("ppl_jax_text_of_draws", default=None)
_LOCK = threading.Lock()
_tracings: list[dict[str, Any]] = []  # what is to be put back, once for every tracing that is under way


class TracedTextError(TypeError):
    """A program made text of a drawn value while JAX traced it."""

    def __init__(self, place: str):
        super().__init__(
            f"the text of a random value was made {place}(for a message, a file or another program, say), and a "
            "compiled program makes no text"
        )


@contextmanager
def refusing_text() -> Iterator[list[str]]:
    """Text of abstract values raises a TracedTextError; gives the list of the places where it was asked for."""
    places: list[str] = []
    token = _REFUSED.set(places)
    with _LOCK:
        _tracings.append(_replace() if not _tracings else _tracings[-1])
    try:
        yield places
    finally:
        with _LOCK:
            originals = _tracings.pop()
            if not _tracings:
                _restore(originals)
        _REFUSED.reset(token)


def _replace() -> dict[str, Any]:
    own = {name: vars(jax.core.Tracer).get(name) for name in ("__repr__", "__str__", "__format__")}
    text = jax.core.Tracer.__repr__

    def __repr__(self: Any) -> str:
        _check(sys._getframe(1))
        return text(self)

    def __str__(self: Any) -> str:
        _check(sys._getframe(1))
        return text(self)

    def __format__(self: Any, specification: str) -> str:
        _check(sys._getframe(1))
        return format(text(self), specification)

    for method in (__repr__, __str__, __format__):
        setattr(jax.core.Tracer, method.__name__, method)
    return own


def _restore(originals: dict[str, Any]) -> None:
    for name, method in originals.items():
        if method is None:
            delattr(jax.core.Tracer, name)
        else:
            setattr(jax.core.Tracer, name, method)


def _check(frame: FrameType | None) -> None:
    """Raises if text is wanted in the program, not in a message of JAX's, numpyro's or ours."""
    places = _REFUSED.get()
    if places is None or frame is None or is_own(frame.f_code.co_filename) or _is_jax(frame):
        return
    place = ""
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is not None:
        place = f"in line {frame.f_lineno} of {frame.f_code.co_qualname} "
    places.append(place)
    raise TracedTextError(place)


def _is_jax(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("jax", "jaxlib", "numpyro")
