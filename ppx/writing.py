"""From plain fields to bytes: the last step of encoding. The counterpart of :mod:`ppx.reading`.

Tables are written from the front: vtable, table, then what the table refers to. Equal vtables are shared. Fields that
are None are left out, scalars equal to their default are too.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, pack, pack_into
from typing import Any

import numpy as np

from ppx.constants import BODY_NUMBERS, FAMILY_NUMBERS, MAX_STRING
from ppx.errors import TooLarge
from ppx.tables import SCALARS, TABLES, UNIONS, VECTORS

_U32 = Struct("<I")
_NUMBERS = {"MessageBody?": BODY_NUMBERS, "Distribution?": FAMILY_NUMBERS}
_DTYPES = {"[double]": "<f8", "[int]": "<i4", "[uint]": "<u4", "[ubyte]": "u1"}


class Blank:
    """Stands for ``count`` doubles of which only the place matters: they are written as zeros and ``starts`` grows."""

    def __init__(self, count: int, starts: list[tuple[int, int]]):
        self.count = count
        self.starts = starts

    def __len__(self) -> int:
        return self.count


def write_message(name: str, fields: Mapping[str, Any], places: dict[str, int] | None = None) -> bytearray:
    """The bytes of a message with the body ``name`` and these fields, in the form that ``read_message`` returns.

    Vectors of numbers may be any sequence or a numpy array. ``places``, if given, receives where a field ``position``
    stands.
    """
    out = bytearray(4)
    writer = _Writer(out, places)
    _U32.pack_into(out, 0, writer.table("Message", {"body": (name, fields)}))
    return out


class _Writer:
    __slots__ = ("out", "places", "vtables")

    def __init__(self, out: bytearray, places: dict[str, int] | None):
        self.out = out
        self.places = places
        self.vtables: dict[bytes, int] = {}

    def table(self, kind: str, fields: Mapping[str, Any]) -> int:
        """Writes a table and all below it; returns where it stands."""
        out = self.out
        entries: list[tuple[int, int, str, Any]] = []  # slot, width, code of a scalar or "", value
        later = []
        slots = width = 0
        for name, type_, slot, default in TABLES[kind]:
            value = fields.get(name)
            if value is None:
                continue
            if type_ in UNIONS:
                entries.append((slot, 1, "B", _NUMBERS[type_][value[0]]))
                entries.append((slot + 1, 4, "", (value[0], value[1])))
                slots = slot + 2
            elif type_ in SCALARS:
                code, size = SCALARS[type_]
                if value == default and name != "position":
                    continue
                entries.append((slot, size, code, value))
                slots = slot + 1
            else:
                entries.append((slot, 4, "", (type_, value)))
                slots = slot + 1
        entries.sort(key=lambda entry: -entry[1])  # stable: aligned without gaps, apart from the first
        offsets = [0] * slots
        end = 4
        for slot, size, _, _ in entries:
            end = -(-end // size) * size
            offsets[slot] = end
            end += size
            width = max(width, size)
        vtable = pack(f"<HH{slots}H", 4 + 2 * slots, end, *offsets)
        known = self.vtables.get(vtable)
        if known is None:
            self.align(2)
            known = self.vtables[vtable] = len(out)
            out += vtable
        self.align(max(width, 4))
        at = len(out)
        out += bytes(end)
        pack_into("<i", out, at, at - known)
        for slot, _, code, value in entries:
            if code:
                pack_into("<" + code, out, at + offsets[slot], value)
                if code == "Q" and self.places is not None and kind in ("Sample", "SampleResult"):
                    self.places["position"] = at + offsets[slot]
            else:
                later.append((at + offsets[slot], value))
        for place, (type_, value) in later:
            _U32.pack_into(out, place, self.value(type_, value) - place)
        return at

    def value(self, type_: str, value: Any) -> int:
        if type_ == "string":
            return self.string(value)
        if type_ in VECTORS:
            return self.numbers(type_, value)
        if type_[0] != "[":
            return self.table(type_, value)
        out = self.out
        self.align(4)
        at = len(out)
        out += _U32.pack(len(value)) + bytes(4 * len(value))
        for place, element in enumerate(value):
            place = at + 4 + 4 * place
            _U32.pack_into(out, place, self.table(type_[1:-1], element) - place)
        return at

    def numbers(self, type_: str, values: Any) -> int:
        out, (code, width) = self.out, VECTORS[type_]
        out += bytes(-(len(out) + 4) % max(width, 4))
        at = len(out)
        out += _U32.pack(len(values))
        if isinstance(values, Blank):
            values.starts.append((at + 4, values.count))
            out += bytes(width * values.count)
        elif isinstance(values, (tuple, list)) and len(values) < 64:
            out += pack(f"<{len(values)}{code}", *values)
        else:
            out += np.ascontiguousarray(values, dtype=_DTYPES[type_]).tobytes()
        return at

    def string(self, text: str) -> int:
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_STRING:
            raise TooLarge(f"a string of {len(data)} bytes is longer than the protocol's {MAX_STRING}: {text[:80]}...")
        self.align(4)
        at = len(self.out)
        self.out += _U32.pack(len(data)) + data + b"\0"
        return at

    def align(self, width: int) -> None:
        self.out += bytes(-len(self.out) % width)
