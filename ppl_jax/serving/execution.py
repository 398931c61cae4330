"""One execution of a Python model under a front end: messengers that send its statements over the wire.

A model is an ordinary ppl_jax function. :class:`PlainExecution` speaks PPX 1.0.0, one message for each statement;
:class:`RecordedExecution` numbers sites, sends only what must be asked for, and draws by itself where the Run says so.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from ppl_jax.language.site import FACTOR, OBSERVE, TAG
from ppl_jax.language.site import Site as Statement
from ppl_jax.serving.supports import is_within
from ppx import messages as m
from ppx.constants import Capability, SiteKind
from ppx.errors import MalformedMessage, PPXError, UnsupportedMessage
from ppx.positions import PositionedStream
from ppx.recording import Recorder, Replayed, Scope, SiteNumbers
from ppx.sites import as_numbers, from_numbers, is_known, needed


class Unwind(BaseException):
    """Leaves the model because the execution was given up.

    Not an Exception, so that a model that catches those does not stop it. ``answer``: what to send then; ``message``:
    what came instead of an answer, to be served next.
    """

    def __init__(self, answer: m.Message | None = None, message: m.Message | None = None):
        super().__init__("the inference side gave this execution up")
        self.answer = answer
        self.message = message


class Asker(Protocol):
    """Who carries a question to the inference side."""

    active: Capability

    def ask(self, question: m.Message) -> Any:
        """The answer; leaves the model by an Unwind if there is none, by a PPXError if the question cannot be sent."""


class Execution:
    """What both kinds have: the last statement's address, for error messages, and checks of what can be sent."""

    __slots__ = ("address", "asker", "given_up", "rng")

    def __init__(self, asker: Asker):
        self.asker = asker
        self.address = ""
        self.rng: Any = None
        self.given_up: Unwind | PPXError | None = None

    def check(self) -> None:
        """Raises again what ended the execution, if the model caught it and went on all the same."""
        if self.given_up is not None:
            raise self.given_up

    def put(self, question: m.Message) -> Any:
        """The answer to a question."""
        try:
            return self.asker.ask(question)
        except (Unwind, PPXError) as error:
            self.given_up = error
            raise

    def refuse(self, text: str) -> MalformedMessage:
        """The error of an answer that cannot be used; it ends the execution even if the model catches it."""
        self.given_up = error = MalformedMessage(text, self.address)
        return error

    def process(self, site: Statement) -> None:
        """Gives the statement its value."""
        raise NotImplementedError

    def postprocess(self, site: Statement) -> None:
        pass

    def layout(self, site: Statement) -> m.Layout:
        """The layout of the statement's distribution, if it can be sent on this connection."""
        layout = site.distribution.layout()
        if not is_known(layout):
            raise UnsupportedMessage(
                f"PPX has no distribution {layout[0]}. Draw its value from those in section 10 of PROTOCOL.md, such as "
                "a Dirichlet from one Gamma for each share",
                site.address,
            )
        if needed(layout) not in self.asker.active:
            raise UnsupportedMessage(f"the inference side does not support the distribution {layout[0]}", site.address)
        return layout

    def tagged(self, site: Statement) -> tuple[m.Shape, list[float]]:
        """Shape and numbers of a tag's value."""
        found = as_numbers(site.value)
        if found is None:
            raise UnsupportedMessage(
                f"the tag '{site.name or ''}' is a {type(site.value).__name__}: "
                "only numbers and arrays of them can be sent",
                site.address,
            )
        return found

    def answered(self, site: Statement, answer: m.SampleResult) -> Any:
        """The value that a SampleResult holds for the statement."""
        distribution = site.distribution
        if len(answer.value) != math.prod(distribution.shape):
            raise self.refuse(f"a value of {len(answer.value)} numbers was sent for {distribution!r}")
        return from_numbers(distribution.shape, answer.value, distribution.discrete)

    def observed(self, site: Statement, data: m.Observation) -> tuple[m.Shape, Any]:
        """Shape and value of data; a single number takes the shape of a distribution of one element."""
        shape = site.distribution.shape
        if len(data.value) != 1 or math.prod(shape) != 1:
            shape = data.shape or ()
        return shape, from_numbers(shape, data.value, site.distribution.discrete)


def unknown(site: Statement) -> Any:
    """What an observe returns whose value only the inference side knows: NaN, so that nobody takes it for the value."""
    shape = site.distribution.shape
    return from_numbers(shape, [math.nan] * math.prod(shape), False)


class PlainExecution(Execution):
    """Every statement is a message that is answered."""

    __slots__ = ()

    def process(self, site: Statement) -> None:
        """Sends the statement; a Sample's value comes back."""
        self.check()
        self.address = site.address
        name = site.name or ""
        if site.kind == FACTOR:
            raise UnsupportedMessage("the inference side does not support factors", site.address)
        if site.kind == TAG:
            self.put(m.Tag(site.address, name, *self.tagged(site)))
            return
        layout, numbers = self.layout(site), tuple(site.distribution.numbers())
        if site.observed:
            value = as_numbers(site.value) or (None, ()) if site.value is not None else (None, ())
            self.put(m.Observe(site.address, name, layout, numbers, *value))
            if site.value is None:
                site.value = unknown(site)
        elif site.value is None:
            question = m.Sample(site.address, name, layout, numbers, site.control)
            site.value = self.answered(site, self.put(question))
        else:
            raise UnsupportedMessage(
                "a draw whose value a handler fixed cannot be told to this inference side", site.address
            )


class Orders:
    """What a Run with draws says: see PROTOCOL.md, section 8. None of it without draws: every Sample is asked for."""

    __slots__ = ("ask_others", "asked", "observations", "replayed")

    def __init__(self, policy: m.Policy | None, replay: m.Replay | None, numbers: SiteNumbers):
        policy = m.Policy() if policy is None else policy
        self.asked = policy.asked
        self.ask_others = policy.ask_others
        self.observations: dict[str, m.Observation] = {}
        for observation in policy.observations:
            if observation.shape is not None:
                self.observations.setdefault(observation.name, observation)
        self.replayed = Replayed(replay, numbers)

    @property
    def asks(self) -> bool:
        """Whether any site may be asked for."""
        return self.ask_others or any(self.asked)

    def is_asked(self, number: int) -> bool:
        """Whether to ask for a site."""
        byte = number >> 3
        return bool(self.asked[byte] >> (number & 7) & 1) if byte < len(self.asked) else self.ask_others


class RecordedExecution(Execution):
    """Statements are recorded; a Sample is asked for only if the orders say so, or if there are none.

    Args:
      asker: carries questions.
      numbers: the connection's sites.
      orders: of the Run; None if it has no draws.
      rng: the execution's stream, with orders.
    """

    __slots__ = ("orders", "recorder")

    def __init__(self, asker: Asker, numbers: SiteNumbers, orders: Orders | None, rng: PositionedStream | None):
        super().__init__(asker)
        self.recorder = Recorder(numbers)
        self.orders = orders
        self.rng = rng

    def process(self, site: Statement) -> None:
        """Gives the statement its value and records it."""
        self.check()
        recorder, address, name, kind = self.recorder, site.address, site.name or "", site.kind
        self.address = address
        instance = site.instance = recorder.visit(address)
        if kind == FACTOR:
            recorder.add(m.Site(SiteKind.FACTOR, address, name, None, ()), [float(site.distribution.log_factor)])
            return
        if kind == TAG:
            shape, numbers = self.tagged(site)
            recorder.add(m.Site(SiteKind.TAG, address, name, None, shape), numbers)
            return
        layout, parameters = self.layout(site), site.distribution.numbers()
        if kind == OBSERVE or site.observed:
            self.observe(site, layout, parameters)
        else:
            self.sample(site, layout, parameters, instance)

    def observe(self, site: Statement, layout: m.Layout, parameters: list[float]) -> None:
        """The data, else the program's value, else a draw; with no orders the inference side supplies the value."""
        shape: m.Shape | None = site.distribution.shape
        orders = self.orders
        data = orders.observations.get(site.name) if orders is not None and site.name else None
        if data is not None:
            shape, site.value = self.observed(site, data)
        elif site.value is None and self.rng is not None:
            site.value = site.distribution.sample(self.rng)
        numbers: list[float] = []
        if site.value is None:
            shape, site.value = None, unknown(site)
        else:
            shape, numbers = as_numbers(site.value) or (shape, [])
        kind = SiteKind.OBSERVE
        self.recorder.add(m.Site(kind, site.address, site.name or "", layout, shape), numbers, parameters)

    def sample(self, site: Statement, layout: m.Layout, parameters: list[float], instance: int) -> None:
        """The data, else the replay, else the answer if it is asked for, else a draw."""
        shape, orders, recorder, distribution = site.distribution.shape, self.orders, self.recorder, site.distribution
        data = orders.observations.get(site.name) if orders is not None and site.name else None
        if data is not None:
            shape, site.value = self.observed(site, data)
        record = m.Site(SiteKind.SAMPLE, site.address, site.name or "", layout, shape, site.control)
        if site.value is None and orders is not None and recorder.replays:
            numbers = orders.replayed.find(record, instance)
            if numbers is not None:
                site.value = from_numbers(shape, numbers, distribution.discrete)
                if not is_within(distribution, site.value):
                    # Told as it is, so that the execution will be refused; the program runs on with what can be there.
                    recorder.add(record, numbers, parameters)
                    site.value = distribution.sample(self.rng)
                    return
        if site.value is None:
            number = recorder.numbers(record)
            if orders is None or orders.is_asked(number):
                site.value = self.ask(site, number, parameters)
                return
            site.value = distribution.sample(self.rng)
        values = as_numbers(site.value)
        recorder.add(record, () if values is None else values[1], parameters)

    def mark(self, scope: Any) -> Scope:
        """A pass of a rejection scope (an OpenScope of ppl_jax) begins."""
        if scope.rejected:
            return self.recorder.scopes[-1]
        return self.recorder.begin(*scope.key)

    def rewind(self, mark: Scope) -> None:
        """The pass is rejected."""
        self.recorder.reject(mark)

    def leave(self, mark: Scope) -> None:
        """The pass is accepted."""
        self.recorder.end(mark)

    def ask(self, site: Statement, number: int, parameters: list[float]) -> Any:
        """Asks for a value; what was recorded before travels with the question."""
        rng = self.rng
        position = 0 if rng is None else rng.position
        question = m.Sample(site=number, numbers=tuple(parameters), traces=self.recorder.take(), position=position)
        answer = self.put(question)
        if rng is not None:
            try:
                rng.skip_to(answer.position)
            except ValueError as error:
                raise self.refuse(str(error)) from None
        return self.answered(site, answer)

    def finish(self, result: Any) -> None:
        """Records what the model returned."""
        found = None if result is None else as_numbers(result)
        if result is not None and found is None:
            raise UnsupportedMessage(
                f"the model returned a {type(result).__name__}: "
                "only a number, an array of numbers or None can be sent; use tag for the rest"
            )
        shape, numbers = found or (None, [])
        self.recorder.add(m.Site(SiteKind.RESULT, shape=shape), numbers)
