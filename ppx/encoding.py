"""From messages to bytes. Like decoding, it remembers the bytes of messages in which only the numbers differ."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import numpy as np

from ppx import messages as m
from ppx.constants import FAMILIES, MAX_MESSAGE
from ppx.errors import TooLarge
from ppx.writing import Blank, write_message

_EMPTY = {"data": (), "shape": (0,)}


def _tensor(shape: m.Shape | None, values: Any) -> dict[str, Any]:
    return _EMPTY if shape is None else {"data": values, "shape": shape}


def _optional(shape: m.Shape | None, values: Any) -> dict[str, Any] | None:
    return None if shape is None else {"data": values, "shape": shape}


class _Parts:
    """Hands out a flat sequence of numbers piece by piece; a Blank gives Blanks."""

    __slots__ = ("numbers", "start")

    def __init__(self, numbers: Any):
        self.numbers = numbers
        self.start = 0

    def take(self, shape: m.Shape) -> Any:
        count = 1
        for size in shape:
            count *= size
        self.start += count
        if isinstance(self.numbers, Blank):
            return Blank(count, self.numbers.starts)
        return self.numbers[self.start - count : self.start]


def _distribution(layout: m.Layout | None, parts: _Parts | None) -> tuple[str, dict[str, Any]] | None:
    """The fields of a distribution; of its shapes only, if ``parts`` is None."""
    if layout is None:
        return None
    fields: dict[str, Any] = {}
    for name, shape in zip(FAMILIES[layout[0]], layout[1:], strict=True):
        if name == "components":
            fields[name] = [{"distribution": _distribution(component, parts)} for component in shape]
        elif parts is None:
            fields[name] = {"shape": shape}
        else:
            fields[name] = {"data": parts.take(shape), "shape": shape}
    return layout[0], fields


def _traces(traces: m.Traces | None) -> dict[str, Any] | None:
    if traces is None:
        return None
    sites = [
        {
            "kind": int(site.kind),
            "address": site.address,
            "name": site.name,
            "distribution": _distribution(site.layout, None),
            "value_shape": site.shape,
            "control": int(site.control),
        }
        for site in traces.sites
    ]
    errors = [_error(error) for error in traces.errors]
    return {
        "sites": sites or None,
        "type_lengths": [len(sites) for sites in traces.type_sites],
        "type_sites": [site for sites in traces.type_sites for site in sites],
        "types": traces.types,
        "rows": traces.rows,
        "errors": errors or None,
    }


def _error(error: m.Error) -> dict[str, Any]:
    return {**error._asdict(), "code": int(error.code)}


def _draws(draws: m.Draws | None) -> dict[str, Any] | None:
    if draws is None:
        return None
    fields: dict[str, Any] = {**draws._asdict(), "policy": None, "replay": None}
    if draws.policy is not None:
        observations = [{"name": o.name, "value": _tensor(o.shape, o.value)} for o in draws.policy.observations]
        fields["policy"] = {
            "asked": np.frombuffer(draws.policy.asked, np.uint8),
            "ask_others": int(draws.policy.ask_others),
            "observations": observations or None,
        }
    if draws.replay is not None:
        fields["replay"] = draws.replay._asdict()
    return fields


def _fields(message: Any) -> dict[str, Any]:
    kind = type(message)
    if kind is m.Sample and message.site:
        return {
            "site": message.site,
            "parameters": message.numbers,
            "traces": _traces(message.traces),
            "position": message.position or None,
        }
    if kind is m.Sample or kind is m.Observe:
        fields = {
            "address": message.address,
            "name": message.name,
            "distribution": _distribution(message.layout, _Parts(message.numbers)),
        }
        if kind is m.Observe:
            return {**fields, "value": _optional(message.shape, message.value)}
        return {**fields, "control": int(message.control), "position": message.position or None}
    if kind is m.SampleResult:
        return {"result": _tensor(message.shape, message.value), "position": message.position or None}
    if kind is m.Tag:
        value = _optional(message.shape, message.value)
        return {"address": message.address, "name": message.name, "value": value}
    if kind is m.RunResult:
        result, traces = _optional(message.shape, message.value), _traces(message.traces)
        return {"result": result, "traces": traces, "position": message.position or None}
    if kind is m.Run:
        return {"draws": _draws(message.draws)}
    fields = message._asdict()
    if kind is m.Handshake:
        fields["capabilities"] = int(message.capabilities)
        fields["shared_memory"] = None if message.shared_memory is None else message.shared_memory._asdict()
    elif kind is m.HandshakeResult:
        fields["capabilities"] = int(message.capabilities)
        fields["build_id"] = message.build_id or None
    elif kind is m.Error:
        fields["code"] = int(message.code)
    return fields


def encode(message: m.Message) -> bytes:
    """The bytes of a message, without file identifier.

    Raises:
      TooLarge: a string, or the whole, passes a limit of the protocol.
    """
    data = write_message(type(message).__name__, _fields(message))
    if len(data) > MAX_MESSAGE:
        raise TooLarge(f"a message of {len(data)} bytes is longer than the protocol's {MAX_MESSAGE}")
    return bytes(data)


# Of the messages that come again and again: which fields hold numbers. The other fields, and how many numbers there
# are, make the form.
_NUMERIC: dict[type, tuple[str, ...]] = {
    m.Sample: ("numbers",),
    m.SampleResult: ("value",),
    m.Observe: ("numbers", "value"),
    m.Tag: ("value",),
}


_CONSTANT = {kind: encode(kind()) for kind in (m.Run, m.ObserveResult, m.TagResult, m.Reset)}


class Encoder:
    """Encodes a connection's messages; ``encoder(message)`` is ``encode(message)``, faster for forms seen before.

    Args:
      max_forms: how many forms are remembered before all are forgotten.
    """

    __slots__ = ("_forms", "max_forms")

    def __init__(self, max_forms: int = 16_384):
        self.max_forms = max_forms
        self._forms: dict[tuple, Callable[[Any], bytes]] = {}

    def __call__(self, message: Any) -> bytes:
        kind = type(message)
        if kind is m.SampleResult:
            form: tuple = (message[0], len(message[1]), message[2] > 0)
        elif kind is m.Sample:
            if message.traces is not None:
                return encode(message)
            form = (*message[:3], len(message[3]), *message[4:6], message[7] > 0)
        elif kind is m.Observe:
            form = (kind, *message[:3], len(message[3]), message[4], len(message[5]))
        elif kind is m.Tag:
            form = (*message[:3], len(message[3]))
        else:
            known = _CONSTANT.get(kind)
            return encode(message) if known is None or any(message) else known
        pack = self._forms.get(form)
        if pack is None:
            if sum(len(getattr(message, name)) for name in _NUMERIC[kind]) > m.LONG:
                return encode(message)
            if len(self._forms) >= self.max_forms:
                self._forms.clear()
            pack = self._forms[form] = _packer(message)
        return pack(message)


def _packer(message: Any) -> Callable[[Any], bytes]:
    """A function that packs the numbers of any message of this form into its bytes."""
    kind, starts = type(message), []
    places: dict[str, int] = {}
    targets = []
    blanks: dict[str, Any] = {}
    for name in _NUMERIC[kind]:
        found: list[tuple[int, int]] = []
        blanks[name] = Blank(len(getattr(message, name)), found)
        starts.append((message._fields.index(name), found))
    template = write_message(kind.__name__, _fields(message._replace(**blanks)), places)
    for index, found in starts:
        taken = 0
        for start, count in found:
            if count:
                targets.append((Struct(f"<{count}d").pack_into, start, index, taken, taken + count))
                taken += count
    if len(targets) == 1 and not places:
        pack_into, start, index, _, _ = targets[0]

        def pack_one(message: Any) -> bytes:
            out = bytearray(template)
            pack_into(out, start, *message[index])
            return bytes(out)

        return pack_one
    position = places.get("position")
    pack_position = Struct("<Q").pack_into
    last = len(message) - 1

    def pack(message: Any) -> bytes:
        out = bytearray(template)
        for pack_into, start, index, first, end in targets:
            pack_into(out, start, *message[index][first:end])
        if position is not None:
            pack_position(out, position, message[last])
        return bytes(out)

    return pack
