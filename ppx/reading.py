"""From received bytes to plain fields, with every offset, length and string checked: the first step of decoding.

The reader walks a FlatBuffer by the descriptions of :mod:`ppx.tables`. It allocates nothing that the message's own size
does not pay for: the bytes that it visits are counted, so that tables which refer to each other many times over end as
a MalformedMessage, not as an endless walk. Vectors of doubles are not copied; they become a Span, where they stand.
Long vectors of ``uint`` become arrays, the others tuples.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from ppx.constants import MAX_MIXTURE_DEPTH, MAX_STRING
from ppx.errors import MalformedMessage, UnsupportedMessage
from ppx.messages import LONG
from ppx.tables import SCALARS, TABLES, UNIONS, VECTORS

_U16, _U32, _I32 = Struct("<H").unpack_from, Struct("<I").unpack_from, Struct("<i").unpack_from
_SCALARS = {name: (Struct("<" + code).unpack_from, size) for name, (code, size) in SCALARS.items()}

# A message, its body, Traces or Draws, Site, then a distribution: mixtures inside each other take two tables a level.
_MAX_DEPTH = 8 + 2 * MAX_MIXTURE_DEPTH


class Span(NamedTuple):
    """``count`` doubles that begin at byte ``start`` of the message."""

    start: int
    count: int  # type: ignore[assignment]  # a tuple has a method of that name


class Hole(NamedTuple):
    """Where a scalar of the message stands that differs from message to message, and its value."""

    start: int
    value: int


def read_message(buffer: Any) -> tuple[str, dict[str, Any]]:
    """The name of a message's body and its fields.

    Args:
      buffer: bytes, or a contiguous memoryview of bytes.

    Returns:
      The body's name and its present fields: scalars, str, tuple of int, Span, dict (a table), list of dict, and for a
      union (member's name, dict). Positions of random streams are Holes.

    Raises:
      MalformedMessage: the bytes are no valid FlatBuffer of a Message.
      UnsupportedMessage: a union member is unknown.
    """
    reader = _Reader(buffer)
    fields = reader.table("Message", reader.follow(0), 0)
    if "body" not in fields:
        raise MalformedMessage("the message has no body")
    name, body = fields["body"]
    return name, body


class _Reader:
    __slots__ = ("budget", "buffer", "size")

    def __init__(self, buffer: Any):
        self.buffer = buffer
        self.size = len(buffer)
        self.budget = 4 * self.size + 4096

    def follow(self, at: int) -> int:
        """Where the offset that stands at byte ``at`` points."""
        if at & 3 or at + 4 > self.size:
            raise MalformedMessage(f"an offset at byte {at} is outside the message or not aligned")
        target = at + _U32(self.buffer, at)[0]
        if target & 3 or target == at or target + 4 > self.size:
            raise MalformedMessage(f"the offset at byte {at} points outside the message")
        return target

    def table(self, kind: str, at: int, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise MalformedMessage("tables are nested too deep")
        self.spend(8)
        size, buffer = self.size, self.buffer
        vtable = at - _I32(buffer, at)[0]
        if vtable < 0 or vtable & 1 or vtable + 4 > size:
            raise MalformedMessage(f"{kind}: its vtable is outside the message")
        vtable_size, table_size = _U16(buffer, vtable)[0], _U16(buffer, vtable + 2)[0]
        if vtable_size < 4 or vtable_size & 1 or vtable + vtable_size > size:
            raise MalformedMessage(f"{kind}: its vtable is outside the message")
        if table_size < 4 or at + table_size > size:
            raise MalformedMessage(f"{kind}: the table is outside the message")
        slots = (vtable_size - 4) >> 1
        fields: dict[str, Any] = {}
        for name, type_, slot, _ in TABLES[kind]:
            if slot >= slots:
                break
            offset = _U16(buffer, vtable + 4 + 2 * slot)[0]
            if type_ in UNIONS:
                value = self.union(kind, type_, at, table_size, offset, vtable, slot, slots, depth)
                if value is not None:
                    fields[name] = value
            elif offset:
                scalar = _SCALARS.get(type_)
                width = 4 if scalar is None else scalar[1]
                if offset < 4 or offset + width > table_size or (at + offset) % width:
                    raise MalformedMessage(f"{kind}.{name} is outside its table or not aligned")
                if scalar is None:
                    fields[name] = self.value(type_, self.follow(at + offset), depth)
                else:
                    number = scalar[0](buffer, at + offset)[0]
                    fields[name] = Hole(at + offset, number) if name == "position" else number
        return fields

    def union(
        self,
        kind: str,
        type_: str,
        at: int,
        table_size: int,
        offset: int,
        vtable: int,
        slot: int,
        slots: int,
        depth: int,
    ) -> tuple[str, dict[str, Any]] | None:
        if offset == 0:
            return None
        if offset < 4 or offset >= table_size:
            raise MalformedMessage(f"{kind}: a union's member number is outside its table")
        number, members = self.buffer[at + offset], UNIONS[type_]
        if number == 0:
            return None
        if number > len(members):
            what = "message" if type_ == "MessageBody?" else "distribution"
            raise UnsupportedMessage(f"unknown kind of {what} (member {number} of the union)")
        place = _U16(self.buffer, vtable + 6 + 2 * slot)[0] if slot + 1 < slots else 0
        if place < 4 or place + 4 > table_size:
            raise MalformedMessage(f"{kind}: a union names a member but holds no table")
        return members[number - 1], self.table(members[number - 1], self.follow(at + place), depth + 1)

    def value(self, type_: str, at: int, depth: int) -> Any:
        if type_ == "string":
            return self.string(at)
        if type_ in VECTORS:
            return self.numbers(type_, at)
        if type_[0] == "[":
            start, count = self.vector(at, 4)
            return [self.table(type_[1:-1], self.follow(start + 4 * k), depth + 1) for k in range(count)]
        return self.table(type_, at, depth + 1)

    def vector(self, at: int, width: int) -> tuple[int, int]:
        """Start and number of the elements of a vector."""
        count = _U32(self.buffer, at)[0]
        start = at + 4
        if start + width * count > self.size:
            raise MalformedMessage(f"a vector of {count} elements is longer than the message")
        if count and start % width:
            raise MalformedMessage(f"the vector at byte {at} is not aligned")
        self.spend(width * count)
        return start, count

    def numbers(self, type_: str, at: int) -> Any:
        code, width = VECTORS[type_]
        start, count = self.vector(at, width)
        if code == "d":
            return Span(start, count)
        if code == "B":
            return bytes(self.buffer[start : start + count])
        if code == "I" and count > LONG:
            return np.frombuffer(self.buffer, "<u4", count, start).copy()
        return Struct(f"<{count}{code}").unpack_from(self.buffer, start)

    def string(self, at: int) -> str:
        start, count = self.vector(at, 1)
        if count > MAX_STRING:
            raise MalformedMessage(f"a string of {count} bytes is longer than {MAX_STRING}")
        try:
            return str(self.buffer[start : start + count], "utf-8")
        except UnicodeDecodeError:
            raise MalformedMessage(f"the string at byte {at} is not UTF-8") from None

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise MalformedMessage("the message refers to its own parts too often")
