"""The tables of the schema as data: for each its fields with their types, by which messages are read and written.

A type is the name of a scalar, ``string``, a table, ``[T]`` for a vector of T, or ``Union?`` for a union, whose
member's number stands in the field's own place and whose table in the next one. None is a burnt field. A test holds
these descriptions against what flatc makes of ``schema/ppx.fbs``.
"""

from __future__ import annotations

from typing import NamedTuple

from ppx.constants import BODIES, FAMILIES, FAMILY_NAMES


class Field(NamedTuple):
    """A field of a table. ``slot``: its place in the vtable; ``default``: what absence means, for scalars."""

    name: str
    type: str
    slot: int
    default: int


SCALARS = {"bool": ("B", 1), "ubyte": ("B", 1), "ushort": ("H", 2), "uint": ("I", 4), "ulong": ("Q", 8)}
VECTORS = {"[double]": ("d", 8), "[int]": ("i", 4), "[uint]": ("I", 4), "[ubyte]": ("B", 1)}
UNIONS = {"MessageBody?": BODIES, "Distribution?": FAMILY_NAMES}


def _fields(*pairs: tuple[str, str] | None) -> tuple[Field, ...]:
    """Fields from (name, "type" or "type = default"); a union takes two slots, None burns one."""
    fields, slot = [], 0
    for pair in pairs:
        if pair is not None:
            kind, _, default = pair[1].partition(" = ")
            fields.append(Field(pair[0], kind, slot, int(default or 0)))
            slot += kind in UNIONS
        slot += 1
    return tuple(fields)


_STATEMENT = (("address", "string"), ("name", "string"))
_DRAWN = (*_STATEMENT, ("distribution", "Distribution?"))

TABLES: dict[str, tuple[Field, ...]] = {
    "Message": _fields(("body", "MessageBody?")),
    "Tensor": _fields(("data", "[double]"), ("shape", "[int]")),
    **{
        family: _fields(*((name, "[Component]" if name == "components" else "Tensor") for name in parameters))
        for family, parameters in FAMILIES.items()
    },
    "Component": _fields(("distribution", "Distribution?")),
    "Error": _fields(("code", "ushort"), ("text", "string"), ("address", "string"), ("execution", "uint")),
    "Site": _fields(("kind", "ubyte"), *_DRAWN, ("value_shape", "[int]"), ("control", "bool = 1")),
    "Traces": _fields(
        ("sites", "[Site]"), ("type_lengths", "[uint]"), ("type_sites", "[uint]"), ("types", "[uint]"),
        ("rows", "[double]"), ("errors", "[Error]"),
    ),
    "Observation": _fields(("name", "string"), ("value", "Tensor")),
    "Policy": _fields(("asked", "[ubyte]"), ("ask_others", "bool"), ("observations", "[Observation]")),
    "Replay": _fields(("sites", "[uint]"), ("instances", "[uint]"), ("values", "[double]")),
    "Draws": _fields(
        ("seed", "ulong"), ("first", "ulong"), ("count", "uint = 1"), ("position", "ulong"), ("policy", "Policy"),
        ("replay", "Replay"),
    ),
    "SharedMemory": _fields(("pid", "uint"), ("fd", "uint"), ("size", "ulong"), ("nonce", "ulong")),
    "Handshake": _fields(
        ("system_name", "string"), ("version", "uint"), ("capabilities", "uint"), ("shared_memory", "SharedMemory")
    ),
    "HandshakeResult": _fields(
        ("system_name", "string"), ("model_name", "string"), ("version", "uint"), ("capabilities", "uint"),
        ("build_id", "string"),
    ),
    "Run": _fields(None, ("draws", "Draws")),
    "RunResult": _fields(("result", "Tensor"), ("traces", "Traces"), ("position", "ulong")),
    "Sample": _fields(
        *_DRAWN, ("control", "bool = 1"), None, ("site", "uint"), ("parameters", "[double]"), ("traces", "Traces"),
        ("position", "ulong"),
    ),
    "SampleResult": _fields(("result", "Tensor"), ("position", "ulong")),
    "Observe": _fields(*_DRAWN, ("value", "Tensor")),
    "ObserveResult": (),
    "Tag": _fields(*_STATEMENT, ("value", "Tensor")),
    "TagResult": (),
    "Reset": (),
}  # fmt: skip
