"""Addresses: where in the program a draw was made.

An address is the chain of call sites from the model's entry down to the primitive, outermost first, joined by ``"; "``,
each ``file:function:line:column`` with the file's stem, the qualified function name, the line counted from the
function's own first line, and the column in bytes. It is made of source positions only: it is the same from run to run,
between processes and between Python versions, and does not change when code above the function is edited. How many
times an address was met before within one execution is the *instance*, kept apart from the address (see Site).

Python versions differ in what they note of a call. So a comprehension counts as part of the function it stands in
(from 3.12 on it has no frame of its own), and a call that is not written as one (of ``__enter__``, ``__next__``,
``__bool__``, ``__add__``) stands where its statement begins, which the source tells; only where there is no source does
it stand where the bytecode says.
"""

from __future__ import annotations

import ast
import linecache
import os
import sysconfig
from functools import lru_cache
from opcode import opmap
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

_LIBRARIES = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "purelib", "platlib"))
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CALLS = frozenset(number for name, number in opmap.items() if name.startswith(("CALL", "PRECALL")))
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")

# Memos of the pure functions `_format` and `_link`: frames are identified by (id of code, offset of instruction), since
# hashing a code object is slow; the code objects are kept with the text so that an id is never reused.
_MEMO: dict[tuple[int, ...], tuple[str, tuple[CodeType, ...]]] = {}
_LINKS: dict[tuple[int, int], tuple[str, CodeType]] = {}
_REMEMBERED = 1 << 14  # chains: one of a hundred calls takes 8 KB, and branching recursion has one for every leaf


def call_site(frame: FrameType | None, entry: FrameType | None) -> str:
    """The address of ``frame``, as seen from ``entry``.

    Args:
      frame: where a primitive was called.
      entry: the frame that runs the model, which is left out, unless it called the primitive itself; None for the
        bottom of the thread's stack.
    """
    key = []
    start = frame
    while frame is not entry and frame is not None:
        key.append(id(frame.f_code))
        key.append(frame.f_lasti)
        frame = frame.f_back
    if not key and start is not None:
        key = [id(start.f_code), start.f_lasti]
    known = _MEMO.get(tuple(key))
    if known is None:
        if len(_MEMO) >= _REMEMBERED:
            _MEMO.clear()
        known = _MEMO.setdefault(tuple(key), _format(start, entry))
    return known[0]


def error_site(traceback: TracebackType | None) -> str:
    """Where in the user's program an exception was raised: the innermost frame that is in no library, if any."""
    own = outside = "?"
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            outside = f"{Path(code.co_filename).name}, line {traceback.tb_lineno}, in {code.co_qualname}"
            own = own if code.co_filename.startswith(_LIBRARIES) else outside
        traceback = traceback.tb_next
    return outside if own == "?" else own


def is_own(file: str) -> bool:
    """Whether a file is one of this package."""
    return file.startswith(_PACKAGE)


def is_library(file: str) -> bool:
    """Whether a file is one of the standard library or of an installed package, this one apart."""
    return file.startswith((*_LIBRARIES, "<frozen")) and not is_own(file)


class _Position(NamedTuple):
    """A place in a file: line from 1, column in bytes from 0."""

    line: int
    column: int


def _format(frame: FrameType | None, entry: FrameType | None) -> tuple[str, tuple[CodeType, ...]]:
    parts: list[str] = []
    codes: list[CodeType] = []
    inside: _Position | None = None  # the place in a comprehension, of which the function is the next frame
    while frame is not None and (frame is not entry or inside is not None or not codes):
        code = frame.f_code
        codes.append(code)
        if is_own(code.co_filename):  # handlers that wrap a model are no part of the program
            pass
        elif inside is None and code.co_name not in _COMPREHENSIONS:
            parts.append(_link(code, frame.f_lasti))
        else:
            inside = inside or _position(code, frame.f_lasti)
            if code.co_name not in _COMPREHENSIONS:
                parts.append(_describe(code, inside))
                inside = None
        if frame is entry:
            break
        frame = frame.f_back
    return "; ".join(reversed(parts)), tuple(codes)


def _link(code: CodeType, instruction: int) -> str:
    """One link of an address; kept, because the chains of a deep recursion consist of the same ones."""
    key = id(code), instruction
    known = _LINKS.get(key)
    if known is None:
        known = _LINKS.setdefault(key, (_describe(code, _position(code, instruction)), code))
    return known[0]


def _describe(code: CodeType, place: _Position) -> str:
    function = code.co_qualname
    for comprehension in _COMPREHENSIONS:
        function = function.replace(comprehension + ".<locals>.", "").replace(comprehension + ".", "")
    return f"{_file(code.co_filename)}:{function}:{place.line - code.co_firstlineno}:{place.column}"


def _file(name: str) -> str:
    """The stem of a file; one name for all the cells of a notebook, whose files are numbered anew in every session."""
    path = Path(name)
    if name.startswith("<ipython-input") or path.parent.name.startswith("ipykernel_"):
        return "<cell>"
    return path.stem


def _position(code: CodeType, instruction: int) -> _Position:
    """Where a call is written, or where the statement begins that makes it."""
    positions = list(code.co_positions())[instruction // 2]
    place = _Position(positions[0] or code.co_firstlineno, positions[2] or 0)
    statement = _statement(code.co_filename, place)
    if statement is None:
        return place
    # A `with` calls __enter__ and __exit__ by the very instruction, and from the same place, as calls in its header.
    is_written = _is_call(code.co_code, instruction) and not isinstance(statement, (ast.With, ast.AsyncWith))
    return place if is_written else _starts(statement)


def _statement(file: str, place: _Position) -> ast.stmt | None:
    """The innermost statement around a place; None where there is no source."""
    around = [s for s in _statements(file) if _starts(s) <= place < (s.end_lineno or 0, s.end_col_offset or 0)]
    return max(around, key=_starts, default=None)


def _starts(statement: ast.stmt) -> _Position:
    return _Position(statement.lineno, statement.col_offset)


@lru_cache(maxsize=256)
def _statements(file: str) -> tuple[ast.stmt, ...]:
    """All statements of a file; none where its source is not to be had."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):  # not Python, or edited since
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.stmt))


def _is_call(bytecode: bytes, instruction: int) -> bool:
    """Whether it is an instruction of calls that are written as such, or belongs to one as a cache behind it."""
    while instruction > 0 and bytecode[instruction] == opmap["CACHE"]:
        instruction -= 2
    return bytecode[instruction] in _CALLS
