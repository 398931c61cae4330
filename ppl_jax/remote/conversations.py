"""One execution, statement by statement: the simulator asks, the handlers in force answer.

An execution can be brought back to where it was by running the simulator again with the answers it had. So a simulator
that dies, hangs or talks nonsense in the middle is replaced without the engine's notice, and more executions can be
open than there are simulators (sequential Monte Carlo keeps one for each particle): the one that waits longest gives
its simulator up and comes back to it later. Both need a simulator that takes all its randomness from ``sample``, which
is checked.

Where an engine has several executions under way, another one goes on while a simulator is at its turn.

Draws for which nothing is proposed may be left to the simulator; see :mod:`ppl_jax.remote.nuisances`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ppl_jax.errors import ModelError
from ppl_jax.language.stack import frames
from ppl_jax.remote.failures import ConnectionLost, as_exception, is_programs
from ppl_jax.remote.nuisances import Sharer, sharer
from ppl_jax.remote.peers import Peer
from ppl_jax.remote.statements import (
    Question,
    Scopes,
    Spoken,
    Vocabulary,
    answer,
    raise_all,
    raise_statement,
)
from ppl_jax.running.services import StartAgain
from ppl_jax.running.waiting import others_under_way
from ppx import messages as m
from ppx.constants import Capability, ErrorCode, SiteKind
from ppx.errors import PPXError

if TYPE_CHECKING:
    from ppl_jax.remote.pool import Pool


_SETTLING = 0.5  # seconds that an answer which nobody wants any more may take


class _Suspended(Exception):
    """The simulator was given up while another execution went on."""


class Conversation:
    """One execution; ``run()`` does all of it.

    Args:
      pool: lends a simulator.
      peer: the simulator to use, where the caller has one; it stays the caller's.

    Attributes:
      peer: the simulator that is at this execution; None while none is.
    """

    __slots__ = ("_given", "_history", "_in_flight", "_pool", "_question", "_sharer", "peer")

    def __init__(self, pool: Pool, peer: Peer | None = None):
        self._pool = pool
        self._given = peer
        self._history: list[tuple[m.Message, Question]] = []
        self._question: Question | None = None
        self._sharer: Sharer | None = None  # where draws may be left to the simulator
        self._in_flight = False  # a message was sent whose answer is not received
        self.peer: Peer | None = None

    def run(self) -> Any:
        """Executes the simulator under the handlers in force; what it returned."""
        scopes = Scopes()
        shared = self._sharer = sharer(self._pool.nuisances, scopes)
        raise_one = raise_statement if shared is None else shared.raise_one
        message: m.Message = m.Run()
        try:
            while True:
                question = self._next(message)
                if shared is not None:
                    shared.reach(question)
                if question.asked is None:
                    peer = self.peer
                    self._release()
                    result = raise_all(question.before, scopes, raise_one)
                    if shared is not None:
                        shared.ended(peer)
                    return result if question.result is None else question.result
                if question.before:
                    raise_all(question.before, scopes, raise_one)
                message = answer(question.asked, question.value, question.parameters)
                if shared is not None:
                    message = shared.answered(question.asked, message)
        finally:
            self._pool.conclude(self)
            if self.peer is not None:
                try:
                    self.give_up()
                finally:
                    self._release()

    def _release(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None and peer.connection is not None and self._pool.is_crowded:
            peer.connection.share_cores(False)
        if peer is not None and self._given is None:
            self._pool.give_back(peer)

    # -- exchanges ---------------------------------------------------------------------------------------------------

    def _next(self, message: m.Message) -> Question:
        """What the simulator says to ``message``."""
        peer = self.peer
        if peer is None:
            question = self._return(message)
        else:
            try:
                question = self._exchange(peer, message)
            except _Suspended:
                question = self._return(message)
            except ConnectionLost as loss:
                peer.fail(loss)
                question = self._return(message)
        # Without what was said before: it is told and done with, and only what is asked will be compared.
        self._question = question if not question.before else question._replace(before=())
        self._history.append((message, self._question))
        if question.asked is None and self.peer is not None:
            self.peer.succeeded()
        return question

    def _exchange(self, peer: Peer, message: m.Message) -> Question:
        shared = self._sharer
        try:
            if shared is not None and type(message) is m.Run:
                message = shared.run(peer)
            question = self._resolve(peer, self._response(peer, message))
            if shared is None or not shared.is_left(question):
                return question
            before: list[Spoken] = []
            while shared.is_left(question):
                drawn, message = shared.draw(question)
                before += (*question.before, drawn)
                question = self._resolve(peer, self._response(peer, message))
            return question._replace(before=(*before, *question.before))
        except PPXError as error:
            raise ConnectionLost(f"it sent what makes no sense: {error}") from error
        except (ConnectionLost, ModelError, _Suspended, StartAgain):
            raise
        except BaseException:
            if self._in_flight:
                self._settle(peer)
            elif self.peer is not None:  # interrupted while it was the simulator's turn
                peer.leave()
            raise

    def _response(self, peer: Peer, message: m.Message) -> Any:
        """What the simulator sends back; others go on meanwhile."""
        others = others_under_way()
        # Where there are more executions than simulators, the next one would take this simulator away, and so on.
        if others is None or self._pool.has_suspended():
            return peer.request(message)
        peer.send(message)
        self._in_flight = True
        self._let_go_on(others)
        self._in_flight = False
        return peer.receive()

    def _resolve(self, peer: Peer, found: Any) -> Question:
        """What a message says that came back."""
        if type(found) is m.Sample:  # nearly always
            return vocabulary_of(peer).question(found)
        shares = self._sharer is not None and bool(self._sharer.left)
        if type(found) is m.Error:
            if is_programs(found):
                self._release()
                if shares:
                    raise StartAgain
                raise as_exception(found, self._pool.identity.name, _which())
            raise ConnectionLost(f"it reported {ErrorCode(found.code).name}: {found.text}")
        if type(found) is m.Reset:
            raise ConnectionLost("it gave the execution up (Reset); see what it printed")
        if shares and type(found) is m.RunResult and found.traces is not None and found.traces.errors:
            vocabulary_of(peer).table.receive(found.traces)
            self._release()
            raise StartAgain  # what was said before the failure is not told
        return vocabulary_of(peer).resolve(found)

    def _return(self, message: m.Message) -> Question:
        """Brings a simulator to where this execution is, and goes on with ``message``."""
        while True:
            if self.peer is None:
                self.peer = self._given or self._pool.lend(self)
            peer = self.peer
            try:
                others = others_under_way()
                if others is not None and peer.connection is None and not self._pool.has_suspended():
                    peer.start()
                    self._let_go_on(others)  # which start their own
                connection = peer.connect()
                if others is not None and self._pool.is_crowded:
                    connection.share_cores(True)
                for sent, expected in self._history:
                    found = self._exchange(peer, sent)
                    if not _same(found, expected):
                        self._question = found
                        raise ModelError(
                            f"The simulator did other things when it was run again with the same draws ({_which()}): "
                            f"{_said(found)}, but before it was {_said(expected)}. Take all its randomness from "
                            "sample, and no state from outside."
                        )
                    self._question = found
                return self._exchange(peer, message)
            except _Suspended:
                continue
            except ConnectionLost as loss:
                peer.fail(loss)

    def _let_go_on(self, others: Callable[[], None]) -> None:
        peer = self.peer
        others()
        if self.peer is not peer:
            raise _Suspended

    # -- giving up ---------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """Makes the simulator leave the execution where it is; it is free afterwards."""
        peer = self.peer
        if peer is None or peer.connection is None or self._question is None:
            return
        if Capability.ERRORS in peer.connection.active:
            peer.abort()
        else:
            peer.leave()

    def _settle(self, peer: Peer) -> None:
        """Takes the answer that is under way, though nobody wants it any more; drops the connection if it is late."""
        self._in_flight = False
        connection = peer.connection
        if connection is None or Capability.ERRORS not in connection.active:
            peer.leave()
            return
        with suppress(PPXError):
            found = connection.receive(_SETTLING)
            if found is not None:
                if type(found) is not m.Error:
                    self._question = vocabulary_of(peer).resolve(found)
                return
        peer.drop()

    def suspend(self) -> Peer:
        """Gives the simulator up for another execution."""
        peer = self.peer
        assert peer is not None
        if self._in_flight:
            self._settle(peer)
        self.give_up()
        self.peer = None
        return peer


def vocabulary_of(peer: Peer) -> Vocabulary:
    """The vocabulary of a peer's present connection."""
    connection = peer.connection
    assert connection is not None
    known = peer.learned.get(Vocabulary)
    if known is None or known.table is not connection.sites:
        known = peer.learned[Vocabulary] = Vocabulary(connection.sites)
    return known


def _same(found: Question, expected: Question) -> bool:
    """Whether the simulator asks the same as before."""
    if found.asked is None or expected.asked is None:
        return found.asked is expected.asked
    return (
        found.asked.site[:4] == expected.asked.site[:4]
        and found.position == expected.position
        and len(found.parameters) == len(expected.parameters)
        and all(a == b for a, b in zip(found.parameters, expected.parameters, strict=True))
    )


def _said(question: Question) -> str:
    if question.asked is None:
        return "it ended"
    statement = question.asked
    name = f" '{statement.name}'" if statement.name else ""
    return f"the {SiteKind(statement.kind).name.lower()}{name} at {statement.address}"


def _which() -> str:
    """Which execution the engine in force is at."""
    found = ""
    for frame in frames():
        rng = getattr(frame.messenger, "rng", None)
        if rng is not None and hasattr(rng, "index"):
            found = f"execution {rng.index} of seed {rng.seed}"
    return found
