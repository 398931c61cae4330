"""Addresses: where in the program a draw was made.

An address is the chain of call sites from the model's entry down to the primitive, outermost first, joined by ``"; "``,
each ``file:function:line:column`` with the file's stem, the qualified function name, the line counted from the
function's own first line, and the column. It is made of source positions only: it is the same from run to run, between
processes and between Python versions, and does not change when code above the function is edited. How many times an
address was met before within one execution is the *instance*, kept apart from the address (see Site).
"""

from __future__ import annotations

import os
from pathlib import Path
from types import CodeType, FrameType, TracebackType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

# A memo of the pure function `_format`: frames are identified by (id of code, offset of instruction) because hashing a
# code object is slow; the code objects are kept with the text so that an id is never reused.
_MEMO: dict[tuple[int, ...], tuple[str, tuple[CodeType, ...]]] = {}


def call_site(frame: FrameType | None, entry: FrameType | None) -> str:
    """The address of ``frame``, as seen from ``entry`` (exclusive; None for the bottom of the thread's stack)."""
    key = []
    start = frame
    while frame is not entry and frame is not None:
        key.append(id(frame.f_code))
        key.append(frame.f_lasti)
        frame = frame.f_back
    known = _MEMO.get(tuple(key))
    if known is None:
        known = _MEMO.setdefault(tuple(key), _format(start, entry))
    return known[0]


def error_site(traceback: TracebackType | None) -> str:
    """Where in the user's program an exception was raised: the innermost frame outside this package."""
    place = "?"
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            place = f"{Path(code.co_filename).name}, line {traceback.tb_lineno}, in {code.co_qualname}"
        traceback = traceback.tb_next
    return place


def _format(frame: FrameType | None, entry: FrameType | None) -> tuple[str, tuple[CodeType, ...]]:
    parts, codes = [], []
    while frame is not entry and frame is not None:
        codes.append(frame.f_code)
        # Frames of this package (handlers that wrap a model) are no part of the program.
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            parts.append(_format_frame(frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return "; ".join(reversed(parts)), tuple(codes)


def _format_frame(code: CodeType, instruction: int) -> str:
    positions = list(code.co_positions())[instruction // 2]
    line = (positions[0] or code.co_firstlineno) - code.co_firstlineno
    return f"{Path(code.co_filename).stem}:{code.co_qualname}:{line}:{positions[2] or 0}"
