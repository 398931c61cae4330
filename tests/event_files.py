"""A reader of TensorBoard's event files, written from the format alone: records with checksums, messages inside.

It shares no code with the library that writes them, so that both cannot be wrong in the same way.
"""

import struct
from pathlib import Path

_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def _masked_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(data, place):
    number = shift = 0
    while True:
        byte = data[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def _fields(data):
    """(number, value) of each field of a message; numbers of four and eight bytes as bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
        else:
            size, place = _varint(data, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
            value, place = data[place : place + size], place + size
        yield key >> 3, value


def records(file):
    """The messages of one file, whose checksums are right; the last one is whole."""
    data, place = file.read_bytes(), 0
    while place < len(data):
        length, check = struct.unpack_from("<QI", data, place)
        assert check == _masked_crc32c(data[place : place + 8])
        event = data[place + 12 : place + 12 + length]
        assert struct.unpack_from("<I", data, place + 12 + length)[0] == _masked_crc32c(event)
        yield event
        place += 16 + length


def scalars(folder):
    """tag -> [(step, value), ...] of all event files of a folder, in order of writing."""
    found = {}
    for file in sorted(Path(folder).glob("events.out.tfevents.*"), key=lambda file: file.name.split(".")[-1]):
        for event in records(file):
            fields = dict(_fields(event))
            for number, entry in _fields(fields.get(5, b"")):  # Event.summary; its values have number 1
                assert number == 1
                value = dict(_fields(entry))
                tag, (number,) = value[1].decode(), struct.unpack("<f", value[2])
                found.setdefault(tag, []).append((fields.get(2, 0), number))
    return found
