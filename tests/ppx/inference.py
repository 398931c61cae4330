"""An inference side in a few lines: it draws what it is asked for from the prior, and keeps what it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import ppl_jax as ppl
import ppx
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.language.site import FACTOR, OBSERVE, SAMPLE
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.positions import PositionedStream

PATIENCE = 60.0  # seconds: far more than any answer takes

MODES = {
    "1.0.0": ppx.Capability(0),
    "errors": ppx.Capability.ERRORS | ppx.Capability.FAMILIES,
    "sites": ppx.Capability(7),
    "draws": ppx.Capability(15),
    "mailbox": ppx.ALL_CAPABILITIES,
}


class Visit(NamedTuple):
    """A statement of a trace; ``value`` None where there is none, else numbers."""

    kind: str
    address: str
    instance: int
    name: str
    family: Any
    parameters: tuple
    value: tuple | None
    control: bool


class Execution(NamedTuple):
    """What came of a Run: the trace, the model's result, the message that ended it, how many there were."""

    visits: list[Visit]
    result: tuple | None
    last: Any
    questions: list[Any]


def connected(endpoint: str, capabilities: ppx.Capability = ppx.ALL_CAPABILITIES, **options: Any) -> ppx.Connection:
    """A connection after its handshake."""
    connection = ppx.Connection(endpoint, capabilities=capabilities, **options)
    connection.handshake(PATIENCE)
    return connection


class Recording:
    """Builds a trace from statements and rejection marks. ``rng`` draws observations that nobody gave."""

    def __init__(self, rng: Any):
        self.rng = rng
        self.visits: list[Visit] = []
        self.counts: dict[str, int] = {}
        self.scopes: list[tuple[tuple[str, str], int, dict[str, int]]] = []
        self.rejected: list[float] = []
        self.result: tuple | None = None

    def add(self, site: m.Site, value: tuple | None, parameters: tuple) -> None:
        kind = SiteKind(site.kind)
        key = site.address, site.name
        if kind == SiteKind.RESULT:
            self.result = value
        elif kind == SiteKind.SCOPE_BEGIN:
            self.scopes.append((key, len(self.visits), dict(self.counts)))
        elif kind == SiteKind.SCOPE_REJECT:
            while self.scopes[-1][0] != key:
                self.scopes.pop()
            _, length, counts = self.scopes[-1]
            del self.visits[length:]
            self.counts = dict(counts)
        elif kind == SiteKind.SCOPE_END:
            assert self.scopes.pop()[0] == key
            self.rejected += value or ()
        else:
            if kind == SiteKind.OBSERVE and value is None and site.layout is not None:
                value = numbers_of(rebuild(site.layout, parameters).sample(self.rng))
            instance = self.counts[site.address] = self.counts.get(site.address, 0) + 1
            name, control = kind.name.lower(), site.control or kind != SiteKind.SAMPLE
            self.visits.append(
                Visit(name, site.address, instance, site.name, site.layout, tuple(parameters), value, control)
            )

    def take(self, connection: ppx.Connection, traces: m.Traces | None) -> None:
        """The part of an execution that a message brings."""
        if traces is None:
            return
        found = connection.sites.receive(traces)
        assert len(found.types) <= 1
        for type_ in found.types:
            self.add_row(found.row_types[type_], traces.rows)

    def add_row(self, row_type: Any, row: Any) -> None:
        for site, slot in zip(row_type.sites, row_type.slots, strict=True):
            value = None if site.shape is None else tuple(map(float, row[slot.value : slot.distribution]))
            self.add(site, value, tuple(map(float, row[slot.distribution : slot.end])))


def numbers_of(value: Any) -> tuple:
    """A value as flat numbers."""
    return tuple(np.asarray(value, dtype=float).ravel().tolist())


def from_prior(rng: Any) -> Callable[[m.Site, tuple], tuple]:
    """Answers a Sample by a draw."""
    return lambda site, parameters: numbers_of(rebuild(site.layout, parameters).sample(rng))


def execute(
    connection: ppx.Connection, run: m.Run | None = None, rng: Any = None, answer: Callable | None = None
) -> Execution:
    """One execution to its end. What is asked for comes from ``answer``, by default from the stream ``rng``."""
    run = m.Run() if run is None else run
    rng = PositionedStream(0, 0) if rng is None else rng
    answer = from_prior(rng) if answer is None else answer
    recording, questions = Recording(rng), []
    message = connection.request(run, PATIENCE)
    while True:
        kind = type(message)
        recording.take(connection, getattr(message, "traces", None))
        if kind not in (m.Sample, m.Observe, m.Tag):
            if kind is m.RunResult and message.traces is None:
                recording.result = None if message.shape is None else numbers_of(message.value)
            return Execution(recording.visits, recording.result, message, questions)
        questions.append(message)
        reply: Any = m.ObserveResult() if kind is m.Observe else m.TagResult()
        if kind is m.Sample:
            if message.site:
                site = connection.sites[message.site]
                if run.draws is not None:
                    rng.skip_to(message.position)
            else:
                site = m.Site(SiteKind.SAMPLE, message.address, message.name, message.layout, (), message.control)
            value = answer(site, message.numbers)
            recording.add(site, value, message.numbers)
            shape = tuple(rebuild(site.layout, message.numbers).shape)
            reply = m.SampleResult(shape, value, rng.position if run.draws is not None else 0)
        else:
            value = None if message.shape is None else numbers_of(message.value)
            layout = message.layout if kind is m.Observe else None
            site = m.Site(SiteKind[kind.__name__.upper()], message.address, message.name, layout, message.shape)
            recording.add(site, value, message.numbers if kind is m.Observe else ())
        message = connection.request(reply, PATIENCE)


def local_prior(connection: ppx.Connection, seed: int, count: int, first: int = 0, **draws: Any) -> list[Recording]:
    """Executions that the front end performs by itself."""
    found: list[Recording] = []
    draws.setdefault("policy", m.Policy())
    while len(found) < count:
        run = m.Run(m.Draws(seed, first + len(found), count - len(found), **draws))
        answer = connection.request(run, PATIENCE)
        assert type(answer) is m.RunResult, answer
        assert not answer.traces.errors
        executions = connection.sites.receive(answer.traces)
        for k, type_ in enumerate(executions.types):
            recording = Recording(None)
            recording.add_row(
                executions.row_types[type_], answer.traces.rows[executions.starts[k] : executions.starts[k + 1]]
            )
            found.append(recording)
    return found


_KINDS = {SAMPLE: "sample", OBSERVE: "observe", FACTOR: "factor"}


def expected(trace: ppl.Trace) -> list[Visit]:
    """A trace of ppl_jax in the same form."""
    visits = []
    for site in trace.sites:
        layout, parameters, value = None, (), numbers_of(site.value) if site.value is not None else None
        if site.kind == FACTOR:
            value = (float(site.distribution.log_factor),)
        elif site.distribution is not None:
            layout, parameters = site.distribution.layout(), tuple(site.distribution.numbers())
        kind = _KINDS.get(site.kind, "tag")
        control = site.control if kind == "sample" else True
        visits.append(Visit(kind, site.address, site.instance, site.name or "", layout, parameters, value, control))
    return visits


def prior(model: Callable[[], Any], seed: int, count: int, **options: Any) -> list[ppl.Trace]:
    """Local traces."""
    return list(ppl.prior(model, count, seed=seed, backend="host", progress=False, **options))


def is_finite(visits: list[Visit]) -> bool:
    """Whether every value is a number."""
    return all(math.isfinite(number) for visit in visits for number in visit.value or ())
