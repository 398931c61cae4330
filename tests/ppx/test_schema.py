"""The schema only appends to PPX 1.0.0, and the codec's descriptions of it are what flatc makes of it."""

from __future__ import annotations

import flatbuffers
import official
import pytest
from flatbuffers import number_types as types
from flatbuffers.table import Table

from ppx import constants
from ppx.tables import TABLES

OLD = official.SCHEMA_1_0_0.read_text().replace("namespace plain;", "namespace ppx;")
NEW = official.SCHEMA.read_text()


def conforms(folder, new):
    (folder / "old.fbs").write_text(OLD)
    (folder / "new.fbs").write_text(new)
    return official.run_flatc("--conform", folder / "old.fbs", folder / "new.fbs")


def test_the_schema_only_appends_to_1_0_0(tmp_path):
    done = conforms(tmp_path, NEW)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("Tag, TagResult, Reset,", "Reset, Tag, TagResult,"),
        ("Normal { mean: Tensor; stddev: Tensor; }", "Normal { stddev: Tensor; mean: Tensor; }"),
        ("control: bool = true;\n  replace", "control: bool;\n  replace"),
        ("shape: [int]", "shape: [long]"),
    ],
)
def test_a_change_of_what_exists_would_be_found(tmp_path, text, changed):
    assert text in NEW
    assert conforms(tmp_path, NEW.replace(text, changed)).returncode != 0


# -- flatc's binary schema: a FlatBuffer of the schema reflection.fbs, read here by hand ------------------------------


class Reflected:
    """A table of the binary schema; fields by their number."""

    def __init__(self, table):
        self.table = table

    @classmethod
    def root(cls, data):
        return cls(Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0)))

    def _at(self, number):
        return self.table.Offset(4 + 2 * number)

    def scalar(self, number, flags, default=0):
        at = self._at(number)
        return self.table.Get(flags, at + self.table.Pos) if at else default

    def text(self, number):
        return self.table.String(self._at(number) + self.table.Pos).decode()

    def child(self, number):
        return Reflected(Table(self.table.Bytes, self.table.Indirect(self._at(number) + self.table.Pos)))

    def children(self, number):
        at = self._at(number)
        start, length = self.table.Vector(at), self.table.VectorLen(at)
        return [Reflected(Table(self.table.Bytes, self.table.Indirect(start + 4 * k))) for k in range(length)]


_BASE = {1: "utype", 2: "bool", 4: "ubyte", 6: "ushort", 7: "int", 8: "uint", 10: "ulong", 12: "double", 13: "string"}


@pytest.fixture(scope="module")
def reflected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schema")
    done = official.run_flatc("--binary", "--schema", "-o", folder, official.SCHEMA)
    assert done.returncode == 0, done.stderr
    return Reflected.root((folder / "ppx.bfbs").read_bytes())


def short(name):
    return name.removeprefix("ppx.")


def enums(schema):
    """Name -> (whether it is a union, its members by value)."""
    return {
        short(enum.text(0)): (
            enum.scalar(2, types.BoolFlags, False),
            {value.scalar(1, types.Int64Flags): short(value.text(0)) for value in enum.children(1)},
        )
        for enum in schema.children(1)
    }


def described(schema):
    """Table -> its fields as (name, type, slot, default), in the words of ppx.tables."""
    names = [short(table.text(0)) for table in schema.children(0)]
    unions = [short(enum.text(0)) + "?" for enum in schema.children(1)]

    def type_of(base, index):
        if base == 15:
            return names[index]
        return unions[index] if base == 16 else _BASE[base]

    tables = {}
    for table in schema.children(0):
        fields = []
        for field in table.children(1):
            kind = field.child(1)
            base, element = kind.scalar(0, types.Int8Flags), kind.scalar(1, types.Int8Flags)
            index = kind.scalar(2, types.Int32Flags, -1)
            said = f"[{type_of(element, index)}]" if base == 14 else type_of(base, index)
            if said == "utype" or field.scalar(6, types.BoolFlags, False):
                continue  # stands before its union; or burnt
            slot, default = field.scalar(2, types.Uint16Flags), field.scalar(4, types.Int64Flags)
            fields.append((field.text(0), said, slot - (base == 16), default))
        tables[short(table.text(0))] = sorted(fields, key=lambda field: field[2])
    return tables


def test_the_codecs_tables_are_those_of_the_schema(reflected):
    ours = {name: [tuple(field) for field in fields] for name, fields in TABLES.items()}
    assert ours == described(reflected)


def test_the_codecs_numbers_are_those_of_the_schema(reflected):
    found = enums(reflected)
    unions = {name: [members[k] for k in sorted(members)][1:] for name, (union, members) in found.items() if union}
    assert unions == {"MessageBody": list(constants.BODIES), "Distribution": list(constants.FAMILY_NAMES)}

    def numbers(enum):
        return {member.value: member.name.replace("_", "").lower() for member in enum}

    for enum in (constants.ErrorCode, constants.SiteKind, constants.Capability):
        members = found[enum.__name__][1]
        assert numbers(enum) == {value: name.lower() for value, name in members.items()}
    assert {name: list(fields) for name, fields in constants.FAMILIES.items()} == {
        family: [field[0] for field in described(reflected)[family]] for family in constants.FAMILY_NAMES
    }


def test_the_identifier_and_the_root(reflected):
    assert reflected.text(2) == "PPXF"
    assert short(reflected.child(4).text(0)) == "Message"
