"""From bytes to messages: what the fields that :mod:`ppx.reading` found mean, and whether they fit each other.

A message is first made with the places of its numbers (the *draft*), then with the numbers; :mod:`ppx.forms` remembers
drafts, so that messages that come again and again are decoded by their places alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from struct import Struct
from typing import Any

import numpy as np

from ppx import messages as m
from ppx.constants import (
    FAMILIES,
    MAX_COMPONENTS,
    MAX_DIMENSIONS,
    MAX_ELEMENTS,
    MAX_MESSAGE,
    MAX_MIXTURE_DEPTH,
    ErrorCode,
    SiteKind,
)
from ppx.errors import MalformedMessage
from ppx.reading import Hole, Span, read_message

# -- what fields mean -------------------------------------------------------------------------------------------------


def checked_shape(shape: tuple[int, ...]) -> m.Shape:
    """A shape within the protocol's limits."""
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape) or math.prod(shape) >= MAX_ELEMENTS:
        raise MalformedMessage(f"{shape[:20]} is no shape of a tensor")
    return shape


def _tensor(fields: dict[str, Any] | None) -> tuple[m.Shape | None, list[Span]]:
    """Shape and numbers; (None, []) for no value. A scalar's shape is (), whichever of the two forms it came in."""
    span = fields.get("data") if fields else None
    if span is None or span.count == 0:
        return None, []
    shape = checked_shape(fields.get("shape", ()))  # type: ignore[union-attr]
    if span.count == 1 and shape in ((), (1,)):
        return (), [span]
    if shape == ():
        return (span.count,), [span]
    if math.prod(shape) != span.count:
        raise MalformedMessage(f"a tensor of shape {shape} has {span.count} elements")
    return shape, [span]


def _distribution(
    member: tuple[str, dict[str, Any]] | None, with_numbers: bool, depth: int = 0
) -> tuple[m.Layout | None, list[Span]]:
    if member is None:
        return None, []
    family, fields = member
    layout: list[Any] = [family]
    numbers: list[Span] = []
    for name in FAMILIES[family]:
        if name == "components":
            layout.append(_components(fields.get(name, ()), layout[1], with_numbers, depth + 1, numbers))
            continue
        tensor = fields.get(name)
        if tensor is None:
            raise MalformedMessage(f"{family}: parameter '{name}' is missing")
        if with_numbers:
            shape, spans = _tensor(tensor)
            if shape is None:
                raise MalformedMessage(f"{family}: parameter '{name}' has no value")
            shape = _VECTORS.get((family, name), shape) if shape == () else shape
            numbers += spans
        else:
            shape = checked_shape(tensor.get("shape", ()))
        layout.append(shape)
    return tuple(layout), numbers


# A tensor of one element counts as a scalar, except for the parameters that are never scalars.
_VECTORS: dict[tuple[str, str], m.Shape] = {
    ("Categorical", "probs"): (1,),
    ("Mixture", "probs"): (1,),
    ("MultivariateNormal", "loc"): (1,),
    ("MultivariateNormal", "scale_tril"): (1, 1),
}


def _components(
    components: Iterable[dict[str, Any]], probs: m.Shape, with_numbers: bool, depth: int, numbers: list[Span]
) -> tuple[m.Layout, ...]:
    layouts = []
    for component in components:
        layout, spans = _distribution(component.get("distribution"), with_numbers, depth)
        if layout is None:
            raise MalformedMessage("Mixture: a component has no distribution")
        layouts.append(layout)
        numbers += spans
    if depth > MAX_MIXTURE_DEPTH or not 0 < len(layouts) <= MAX_COMPONENTS or math.prod(probs) != len(layouts):
        raise MalformedMessage(f"Mixture: {len(layouts)} components with probs of shape {probs}, {depth} levels deep")
    return tuple(layouts)


def _error(fields: dict[str, Any]) -> m.Error:
    code = fields.get("code", 0)
    known = code if code in ErrorCode._value2member_map_ else ErrorCode.UNKNOWN
    return m.Error(ErrorCode(known), fields.get("text", ""), fields.get("address", ""), fields.get("execution", 0))


def _site(fields: dict[str, Any]) -> m.Site:
    kind = fields.get("kind", 0)
    if kind not in SiteKind._value2member_map_:
        raise MalformedMessage(f"{kind} is no kind of site")
    layout, _ = _distribution(fields.get("distribution"), with_numbers=False)
    shape = fields.get("value_shape")
    if shape is not None:
        checked_shape(shape)
    _check_site(SiteKind(kind), layout, shape)
    return m.Site(
        SiteKind(kind), fields.get("address", ""), fields.get("name", ""), layout, shape, bool(fields.get("control", 1))
    )


def _check_site(kind: SiteKind, layout: m.Layout | None, shape: m.Shape | None) -> None:
    if kind == SiteKind.SAMPLE:
        valid = layout is not None and shape is not None
    elif kind == SiteKind.OBSERVE:
        valid = layout is not None or shape is not None
    elif kind in (SiteKind.FACTOR, SiteKind.SCOPE_END):
        valid = layout is None and shape == ()
    elif kind in (SiteKind.SCOPE_BEGIN, SiteKind.SCOPE_REJECT):
        valid = layout is None and shape is None
    else:
        valid = layout is None and (kind == SiteKind.RESULT or shape is not None)
    if not valid:
        raise MalformedMessage(f"a site of kind {kind.name} cannot have distribution {layout} and value_shape {shape}")


def _integers(numbers: Any) -> tuple[int, ...]:
    return tuple(numbers.tolist()) if isinstance(numbers, np.ndarray) else numbers


def _traces(fields: dict[str, Any] | None) -> m.Traces | None:
    """Traces whose ``rows`` is a list of Span yet."""
    if fields is None:
        return None
    lengths, flat = _integers(fields.get("type_lengths", ())), _integers(fields.get("type_sites", ()))
    types = fields.get("types", ())
    if sum(lengths) != len(flat):
        raise MalformedMessage(f"the types have {sum(lengths)} sites together, but {len(flat)} are given")
    if len(types) and int(np.max(types)) >= len(lengths):
        raise MalformedMessage(f"an execution is of type {np.max(types)}, but there are {len(lengths)} types")
    type_sites, start = [], 0
    for length in lengths:
        type_sites.append(flat[start : start + length])
        start += length
    errors = tuple([_error(error) for error in fields.get("errors", ())])
    places = [error.execution for error in errors]
    if any(late <= early for early, late in pairwise(places)) or (places and places[-1] >= len(types) + len(errors)):
        raise MalformedMessage(f"the executions {places[:8]} cannot be those that failed")
    rows = [fields["rows"]] if "rows" in fields else []
    return m.Traces(tuple([_site(site) for site in fields.get("sites", ())]), tuple(type_sites), types, rows, errors)


def _draws(fields: dict[str, Any] | None, buffer: Any) -> m.Draws | None:
    if fields is None:
        return None
    policy = replay = None
    if "policy" in fields:
        given = fields["policy"]
        observations = []
        for observation in given.get("observations", ()):
            shape, spans = _tensor(observation.get("value"))
            observations.append(m.Observation(observation.get("name", ""), shape, _take(buffer, spans)))
        policy = m.Policy(given.get("asked", b""), bool(given.get("ask_others", 0)), tuple(observations))
    if "replay" in fields:
        given = fields["replay"]
        values = _take(buffer, [given["values"]] if "values" in given else [])
        replay = m.Replay(_integers(given.get("sites", ())), _integers(given.get("instances", ())), values)
        if len(replay.sites) != len(replay.instances):
            raise MalformedMessage(f"a replay of {len(replay.sites)} sites has {len(replay.instances)} instances")
    position = fields.get("position")
    return m.Draws(
        fields.get("seed", 0),
        fields.get("first", 0),
        fields.get("count", 1),
        position.value if position else 0,
        policy,
        replay,
    )


# -- messages whose numbers are still Spans ---------------------------------------------------------------------------


def read_draft(buffer: Any) -> Any:
    """The message with a list of Span where numbers belong, and a Hole where a position belongs."""
    name, fields = read_message(buffer)
    get = fields.get
    if name == "Sample":
        layout, numbers = _distribution(get("distribution"), with_numbers=True)
        site = get("site", 0)
        if site == 0 and layout is None:
            raise MalformedMessage("a Sample has neither a distribution nor a site")
        if site:
            layout, numbers = None, [fields["parameters"]] if "parameters" in fields else []
        return m.Sample(
            get("address", ""), get("name", ""), layout, numbers, bool(get("control", 1)), site, _traces(get("traces")),
            get("position", 0),
        )  # fmt: skip
    if name == "SampleResult":
        return m.SampleResult(*_tensor(get("result")), get("position", 0))
    if name == "Observe":
        layout, numbers = _distribution(get("distribution"), with_numbers=True)
        return m.Observe(get("address", ""), get("name", ""), layout, numbers, *_tensor(get("value")))
    if name == "Tag":
        return m.Tag(get("address", ""), get("name", ""), *_tensor(get("value")))
    if name == "RunResult":
        return m.RunResult(*_tensor(get("result")), _traces(get("traces")), get("position", 0))
    if name == "Run":
        return m.Run(_draws(get("draws"), buffer))
    if name == "Handshake":
        shared = get("shared_memory")
        memory = None if shared is None else m.SharedMemory(*(shared.get(key, 0) for key in m.SharedMemory._fields))
        return m.Handshake(get("system_name", ""), get("version", 0), get("capabilities", 0), memory)
    if name == "HandshakeResult":
        return m.HandshakeResult(
            get("system_name", ""),
            get("model_name", ""),
            get("version", 0),
            get("capabilities", 0),
            get("build_id", ""),
        )
    if name == "Error":
        return _error(fields)
    return {"ObserveResult": m.ObserveResult, "TagResult": m.TagResult, "Reset": m.Reset}[name]()


def _take(buffer: Any, spans: list[Span]) -> m.Numbers:
    """The numbers of the spans, one after the other."""
    if sum(span.count for span in spans) > m.LONG:
        return np.concatenate([np.frombuffer(buffer, "<f8", count, start) for start, count in spans])
    return tuple([number for start, count in spans for number in Struct(f"<{count}d").unpack_from(buffer, start)])


# Of the messages that come again and again: which fields hold numbers.
NUMERIC: dict[type, tuple[str, ...]] = {
    m.Sample: ("numbers",),
    m.SampleResult: ("value",),
    m.Observe: ("numbers", "value"),
    m.Tag: ("value",),
    m.RunResult: ("value",),
    m.ObserveResult: (),
    m.TagResult: (),
}


def resolve(draft: Any, buffer: Any) -> Any:
    """The finished message."""
    numeric = NUMERIC.get(type(draft))
    if numeric is None:
        return draft
    changes: dict[str, Any] = {name: _take(buffer, getattr(draft, name)) for name in numeric}
    if isinstance(getattr(draft, "position", None), Hole):
        changes["position"] = draft.position.value
    if getattr(draft, "traces", None) is not None:
        changes["traces"] = draft.traces._replace(rows=_take(buffer, draft.traces.rows))
    return draft._replace(**changes)


def decode(buffer: Any) -> Any:
    """The message that the bytes hold, verified throughout; see :class:`ppx.Decoder` for a stream of messages.

    Args:
      buffer: bytes or a contiguous memoryview of bytes; with or without the file identifier.

    Raises:
      MalformedMessage: these bytes are no message; nothing else is raised for any bytes but this and
      UnsupportedMessage: an unknown member of a union.
    """
    if len(buffer) > MAX_MESSAGE:
        raise MalformedMessage(f"a message of {len(buffer)} bytes is longer than {MAX_MESSAGE}")
    return resolve(read_draft(buffer), buffer)
