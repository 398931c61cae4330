"""Decoding by form: messages that come again and again are read by one ``struct`` call.

A simulator sends messages of the same form many times: only the numbers in them differ. :class:`Decoder` therefore
keeps, for each form that it has verified, its bytes apart from the numbers (the *skeleton*). Another message with the
same skeleton needs no second verification: about 1 microsecond in place of 20.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from struct import Struct
from typing import Any

from ppx import messages as m
from ppx.decoding import NUMERIC, decode, read_draft, resolve
from ppx.reading import Hole

_MAX_SIZE = 8192  # bytes of messages that are remembered; see `_same_form`


class _Form:
    """The places of the numbers in messages of one length, and the plans of those skeletons that were verified."""

    __slots__ = ("plans", "unpack_skeleton")

    def __init__(self, skeleton: str):
        self.unpack_skeleton = Struct(skeleton).unpack
        self.plans: dict[tuple, Callable[[Any], Any]] = {}


def _plan(draft: Any, unpack: Callable, order: Callable | None) -> Callable[[Any], Any]:
    """A function from a buffer of this form to its message."""
    make, base, cuts, start = type(draft)._make, list(draft), [], 0
    fields = draft._fields
    for name in NUMERIC[type(draft)]:
        count = sum(span.count for span in getattr(draft, name))
        cuts.append((fields.index(name), start, start + count))
        start += count
    traces: m.Traces | None = getattr(draft, "traces", None)
    traces_at = fields.index("traces") if traces is not None else -1
    last_row = start + sum(span.count for span in traces.rows) if traces is not None else start
    position_at = fields.index("position") if isinstance(getattr(draft, "position", None), Hole) else -1

    def fill(buffer: Any) -> Any:
        values = unpack(buffer)
        if order is not None:
            values = order(values)
        message = base[:]
        for index, first, last in cuts:
            message[index] = values[first:last]
        if traces is not None:
            message[traces_at] = m.Traces((), traces.type_sites, traces.types, values[start:last_row], ())
        if position_at >= 0:
            message[position_at] = values[-1]
        return make(message)

    return fill


class Decoder:
    """Decodes the messages of one connection; ``decoder(buffer)`` is ``decode(buffer)``, faster for forms seen before.

    Args:
      max_forms: how many forms are remembered before all are forgotten.
    """

    __slots__ = ("_count", "_forms", "max_forms")

    def __init__(self, max_forms: int = 16_384):
        self.max_forms = max_forms
        self._forms: dict[int, dict[str, _Form]] = {}
        self._count = 0

    def __call__(self, buffer: Any) -> Any:
        forms = self._forms.get(len(buffer))
        if forms is not None:
            for form in forms.values():
                plan = form.plans.get(form.unpack_skeleton(buffer))
                if plan is not None:
                    return plan(buffer)
        if len(buffer) > _MAX_SIZE:
            return decode(buffer)
        draft = read_draft(buffer)
        if type(draft) in NUMERIC:
            self._remember(draft, bytes(buffer))
        return resolve(draft, buffer)

    def _remember(self, draft: Any, buffer: bytes) -> None:
        holes = _holes(draft)
        if holes is None:
            return
        ordered = sorted(holes)
        skeleton, numbers, end = "<", "<", 0
        for start, count, code in ordered:
            if start < end:
                return  # numbers that share bytes
            skeleton += f"{start - end}s{8 * count}x"
            numbers += f"{start - end}x{count}{code}"
            end = start + 8 * count
        skeleton += f"{len(buffer) - end}s"
        numbers += f"{len(buffer) - end}x"
        if not all(_same_form(draft, holes, buffer, pattern) for pattern in (b"\0", b"\xa5")):
            return
        if self._count >= self.max_forms:
            self._forms.clear()
            self._count = 0
        forms = self._forms.setdefault(len(buffer), {})
        if skeleton not in forms and len(forms) >= 16:
            return  # so many different forms of one length would make the search slow
        form = forms.setdefault(skeleton, _Form(skeleton))
        form.plans[form.unpack_skeleton(buffer)] = _plan(draft, Struct(numbers).unpack, _order(holes, ordered))
        self._count += 1


def _holes(draft: Any) -> list[tuple[int, int, str]] | None:
    """Start, count and code of the numbers of a message in the order of its fields; None where it is not worth it."""
    spans = [span for name in NUMERIC[type(draft)] for span in getattr(draft, name)]
    traces = getattr(draft, "traces", None)
    if traces is not None:
        if traces.sites or traces.errors or len(traces.types) > m.LONG:
            return None
        spans += traces.rows
    holes = [(start, count, "d") for start, count in spans if count]
    if sum(count for _, count, _ in holes) > m.LONG:
        return None
    if isinstance(getattr(draft, "position", None), Hole):
        holes.append((draft.position.start, 1, "Q"))
    return holes


def _order(holes: list, ordered: list) -> Callable | None:
    """From values in the order of the bytes to values in the order of the fields; None if that is the same."""
    if holes == ordered:
        return None
    starts, place = {}, 0
    for start, count, _ in ordered:
        starts[start] = place
        place += count
    return itemgetter(*[starts[start] + k for start, count, _ in holes for k in range(count)])


def _same_form(draft: Any, holes: list, buffer: bytes, pattern: bytes) -> bool:
    """Whether the message stays the same, apart from its numbers, when the bytes of the numbers change.

    It does unless somebody made a message in which a number is also a part of the structure: then 0xA5A5 and
    0xA5A5A5A5, read as an offset or a length, lie outside a message of at most _MAX_SIZE bytes, texts and whole numbers
    change, and flags do by 0.
    """
    changed = bytearray(buffer)
    for start, count, _ in holes:
        changed[start : start + 8 * count] = pattern * (8 * count)
    try:
        other = read_draft(bytes(changed))
    except Exception:
        return False
    position = getattr(draft, "position", None)
    if isinstance(position, Hole) and isinstance(other.position, Hole):
        other = other._replace(position=other.position._replace(value=position.value))
    return bool(type(other) is type(draft) and other == draft)
