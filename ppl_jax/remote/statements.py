"""From what a simulator says to the primitives of the language, one statement after the other.

A :class:`Vocabulary` belongs to one connection and holds what its sites mean, ready to be used: for each kind of
statement a :class:`Statement`, for each sequence of them a plan of where their numbers stand.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.base import Distribution, is_tracer
from ppl_jax.distributions.layouts import FAMILIES, is_discrete, rebuild
from ppl_jax.errors import ParameterError, RemoteParameterError, UntraceableModelError
from ppl_jax.language.primitives import factor, observe, sample, tag
from ppl_jax.language.scopes import OpenScope
from ppl_jax.language.site import SAMPLE, Site
from ppl_jax.language.stack import frames, send
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.errors import MalformedMessage
from ppx.sites import SiteTable, from_numbers

Numbers = Any  # a tuple of float or a float64 array


class Statement:
    """A site of the simulator, with what is needed to raise it as a primitive."""

    __slots__ = ("address", "control", "discrete", "kind", "make", "name", "shape", "site")

    def __init__(self, site: m.Site):
        self.site = site
        self.kind = site.kind
        self.address = site.address
        self.name = site.name or None
        self.control = site.control
        self.shape = site.shape
        self.discrete = site.layout is not None and is_discrete(site.layout)
        self.make: Callable[[Numbers], Distribution] = _maker(site)

    def value(self, numbers: Numbers) -> Any:
        """The value that the simulator gave, None if it gave none."""
        return None if self.shape is None else from_numbers(self.shape, numbers, self.discrete)


def _maker(site: m.Site) -> Callable[[Numbers], Distribution]:
    """A function from a distribution's numbers to the distribution; its ParameterError names the address.

    The last distribution is given again for the same numbers, bit for bit: most statements always have the same.
    """
    layout = site.layout
    if layout is None:
        return _no_distribution
    if layout[0] != "Mixture" and not any(layout[1:]):
        family = FAMILIES[layout[0]]

        def build(numbers: Numbers) -> Distribution:
            return family(*numbers)
    elif layout[0] == "Categorical" and len(layout[1]) == 1:

        def build(numbers: Numbers) -> Distribution:
            return FAMILIES["Categorical"](numbers)
    else:

        def build(numbers: Numbers) -> Distribution:
            return rebuild(layout, numbers)

    last: tuple[bytes, Distribution] | None = None

    def make(numbers: Numbers) -> Distribution:
        nonlocal last
        if type(numbers) is tuple:
            bits, known = array("d", numbers).tobytes(), last
            if known is not None and known[0] == bits:
                return known[1]
        try:
            made = build(numbers)
        except ParameterError as error:
            raise RemoteParameterError(f"{error} (in the simulator, at {site.address})") from error
        if type(numbers) is tuple:
            last = (bits, made)
        return made

    return make


def _no_distribution(numbers: Numbers) -> Distribution:
    raise MalformedMessage("a statement without a distribution was used as a draw")


class Spoken(NamedTuple):
    """A statement that the simulator made, with its numbers: value first, then the distribution's."""

    statement: Statement
    value: Numbers
    parameters: Numbers


class Question(NamedTuple):
    """A message resolved: what was said before, and the statement that waits for an answer (None at the end)."""

    before: tuple[Spoken, ...]
    asked: Statement | None
    value: Numbers = ()
    parameters: Numbers = ()
    result: Any = None
    position: int = 0  # of the execution's stream, where the simulator draws from it


class Vocabulary:
    """What the sites of one connection mean."""

    __slots__ = ("_plain", "_plans", "_statements", "table")

    def __init__(self, table: SiteTable):
        self.table = table
        self._statements: list[Statement] = []
        self._plans: dict[tuple[int, ...], tuple] = {}
        self._plain: dict[tuple, Statement] = {}

    def statement(self, number: int) -> Statement:
        """The statement of a site."""
        if 0 < number <= len(self._statements):
            return self._statements[number - 1]
        while len(self._statements) < len(self.table):
            self._statements.append(Statement(self.table[len(self._statements) + 1]))
        if not 0 < number <= len(self._statements):
            raise MalformedMessage(f"site {number} was never defined")
        return self._statements[number - 1]

    def plain(self, kind: SiteKind, message: Any, shape: m.Shape | None, control: bool = True) -> Statement:
        """The statement of a message of PPX 1.0.0."""
        layout = getattr(message, "layout", None)
        key = (kind, message.address, message.name, layout, shape, control)
        known = self._plain.get(key)
        if known is None:
            known = self._plain[key] = Statement(m.Site(kind, message.address, message.name, layout, shape, control))
        return known

    def part(self, traces: m.Traces | None) -> tuple[Spoken, ...]:
        """The statements of a part of one execution."""
        if traces is None:
            return ()
        if traces.sites or len(traces.types) != 1 or traces.errors:
            self.table.receive(traces)
            if len(traces.types) == 0:
                return ()
            if len(traces.types) != 1 or traces.errors:
                raise MalformedMessage(f"{len(traces.types)} executions came where a part of one was expected")
        numbers = traces.type_sites[traces.types[0]]
        plan = self._plans.get(numbers)
        if plan is None:
            if len(self._plans) >= 4096:
                self._plans.clear()
            row_type = self.table.row_type(numbers)
            statements = [self.statement(number) for number in numbers]
            plan = self._plans[numbers] = (row_type.width, tuple(zip(statements, row_type.slots, strict=True)))
        width, entries = plan
        row = traces.rows
        if len(row) != width:
            raise MalformedMessage(f"a part of {len(row)} numbers came, its sites have {width}")
        return tuple([Spoken(statement, row[slot[0] : slot[1]], row[slot[1] : slot[2]]) for statement, slot in entries])

    def question(self, message: m.Sample) -> Question:
        """What a Sample says.

        Raises:
          MalformedMessage: it refers to what was never defined.
        """
        if message.site:
            before = () if message.traces is None else self.part(message.traces)
            return Question(before, self.statement(message.site), (), message.numbers, None, message.position)
        return Question((), self.plain(SiteKind.SAMPLE, message, (), message.control), (), message.numbers)

    def resolve(self, message: Any) -> Question:
        """What a message of an execution without ``draws`` says.

        Raises:
          MalformedMessage: it is no such message.
        """
        kind = type(message)
        if kind is m.Sample:
            return self.question(message)
        if kind is m.RunResult:
            if message.traces is not None:
                part = self.part(message.traces)
                if not part or part[-1].statement.kind != SiteKind.RESULT:
                    raise MalformedMessage("an execution ended without a Result")
                return Question(part, None, position=message.position)
            result = None if message.shape is None else from_numbers(message.shape, message.value, False)
            return Question((), None, result=result)
        if kind is m.Observe:
            return Question((), self.plain(SiteKind.OBSERVE, message, message.shape), message.value, message.numbers)
        if kind is m.Tag:
            return Question((), self.plain(SiteKind.TAG, message, message.shape), message.value)
        raise MalformedMessage(f"{kind.__name__} was not expected in an execution")


# -- raising primitives ------------------------------------------------------------------------------------------------


def answer(statement: Statement, value: Numbers, parameters: Numbers) -> m.Message:
    """Raises the statement that waits, and gives the message that answers it."""
    if statement.kind == SiteKind.SAMPLE:
        distribution = statement.make(parameters)
        drawn = sample(distribution, statement.name, address=statement.address, control=statement.control)
        kind = type(drawn)
        if kind is float:
            return m.SampleResult((), (drawn,))
        if kind is int:
            return m.SampleResult((), (float(drawn),))
        return value_message(drawn)
    raise_statement(Spoken(statement, value, parameters))
    return m.ObserveResult() if statement.kind == SiteKind.OBSERVE else m.TagResult()


def value_message(value: Any, position: int = 0) -> m.SampleResult:
    """A value on its way to the simulator."""
    if is_tracer(value):
        raise UntraceableModelError("A simulator in another process cannot be traced by JAX; use backend='host'.")
    array = np.asarray(value, dtype=np.float64)
    numbers = array.ravel()
    return m.SampleResult(array.shape, numbers if numbers.size > m.LONG else tuple(numbers.tolist()), position)


def raise_statement(spoken: Spoken) -> None:
    """Raises a statement that needs no answer as the primitive that it is."""
    statement, value, parameters = spoken
    kind, name, address = statement.kind, statement.name, statement.address
    if kind == SiteKind.OBSERVE:
        if statement.site.layout is None:  # an output without a likelihood
            tag(statement.value(value), name, address=address)
        else:
            observe(statement.make(parameters), statement.value(value), name, address=address)
    elif kind == SiteKind.TAG:
        tag(statement.value(value), name, address=address)
    elif kind == SiteKind.FACTOR:
        factor(float(value[0]), name, address=address)
    elif kind == SiteKind.SAMPLE:  # its value was settled within the simulator
        site = Site(SAMPLE, statement.make(parameters), statement.value(value), name, address, statement.control, False)
        frame = next(frames(), None)
        if frame is not None:
            send(site, frame)


class Scopes:
    """The rejection scopes of an execution that are open; see :mod:`ppl_jax.language.scopes` for what they do."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[OpenScope] = []

    def __bool__(self) -> bool:
        """Whether any is open."""
        return bool(self._open)

    def begin(self, statement: Statement) -> None:
        """ScopeBegin."""
        self._open.append(OpenScope(statement.address, statement.name or "", local=False))

    def reject(self, statement: Statement) -> None:
        """ScopeReject: handlers forget everything since the scope's present pass began; inner scopes go with it."""
        key = (statement.address, statement.name or "")
        while self._open and self._open[-1].key != key:
            self._open.pop().forget()
        if not self._open:
            raise MalformedMessage("a pass of a scope was rejected that is not open", statement.address)
        self._open[-1].reject()

    def end(self, spoken: Spoken) -> None:
        """ScopeEnd, which says how many passes were rejected: those without draws were never heard of."""
        if not self._open:
            raise MalformedMessage("a scope ended that is not open", spoken.statement.address)
        scope = self._open.pop()
        scope.rejected = int(spoken.value[0])
        scope.leave()


def raise_all(spoken: Sequence[Spoken], scopes: Scopes, raise_one: Callable[[Spoken], None] = raise_statement) -> Any:
    """Raises statements in order; gives what the model returned, where that is among them."""
    result = None
    for said in spoken:
        kind = said.statement.kind
        if kind == SiteKind.RESULT:
            result = said.statement.value(said.value)
        elif kind == SiteKind.SCOPE_BEGIN:
            scopes.begin(said.statement)
        elif kind == SiteKind.SCOPE_REJECT:
            scopes.reject(said.statement)
        elif kind == SiteKind.SCOPE_END:
            scopes.end(said)
        else:
            raise_one(said)
    return result
