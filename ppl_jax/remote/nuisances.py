"""Draws that a simulator makes itself in an execution of which the engine chooses the others.

Under a network most draws of a large simulator may be nuisances, for which nothing is proposed: those with
``control=False``, and those in rejection scopes. The simulator draws them from the stream of the engine's execution,
whose position travels with every question and answer, and tells of them with the next question or at the end. So the
outcome is that of asking for every draw, number for number.

What the simulator may draw is learned from executions in which it asked for everything, of which there is one for each
set of observed names before others begin: there a draw has shown that no handler within the simulator gives its value,
and an observe that the program does. An execution that comes to anything else (an observe that was never seen with a
value, a draw that was known from scopes only and is met outside, a failure) is done again, draw by draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppl_jax.language.site import SAMPLE, Site
from ppl_jax.language.stack import frames
from ppl_jax.remote.failures import ConnectionLost
from ppl_jax.remote.peers import Peer
from ppl_jax.remote.rows import observations_message
from ppl_jax.remote.statements import Question, Scopes, Spoken, Statement, raise_statement, value_message
from ppl_jax.running.services import Sharing, StartAgain
from ppl_jax.streams import CountedStream
from ppx import messages as m
from ppx.constants import Capability, SiteKind


class Nuisances:
    """What is known of a program.

    Attributes:
      supplied: address and name of observes to which it gives values.
      seen: sets of observed names under which an execution was done draw by draw.
    """

    def __init__(self) -> None:
        self.supplied: set[tuple[str, str]] = set()
        self.seen: set[frozenset[str]] = set()
        self._inside: set[m.Site] = set()  # draws that it may make itself
        self._outside: set[m.Site] = set()  # controlled draws that were met outside scopes
        self._left: frozenset[m.Site] | None = None
        self._observations: tuple[Any, tuple[m.Observation, ...]] = (None, ())

    @property
    def left(self) -> frozenset[m.Site]:
        """The draws that it may make itself."""
        if self._left is None:
            self._left = frozenset(self._inside)
        return self._left

    def was_asked(self, statement: Statement, in_scope: bool) -> None:
        """The simulator asked for a draw."""
        site = statement.site
        if site.control and not in_scope:
            if site in self._inside:
                self._inside.remove(site)
                self._left = None
            self._outside.add(site)
        elif site not in self._inside and site not in self._outside and not (site.control and site.shape):
            self._inside.add(site)  # an array is shown to a network element by element: it is asked for
            self._left = None

    def observations(self, data: Mapping[str, Any]) -> tuple[m.Observation, ...]:
        """Data as a policy carries them; the same object for the same data."""
        known = self._observations
        if known[0] is not data:
            known = self._observations = data, observations_message(data)
        return known[1]


class Sharer:
    """One execution's part in this: what the simulator may draw, and from which stream.

    Args:
      known: what is known of the program.
      engine: the messenger of the execution; ``stream``: its own.
      scopes: the execution's.

    Attributes:
      left: the draws that the simulator makes itself; none where it asks for all of them.
    """

    __slots__ = ("_engine", "_known", "_scopes", "_start", "left", "stream")

    def __init__(self, known: Nuisances, engine: Sharing, stream: CountedStream, scopes: Scopes):
        self._known, self._engine, self._scopes = known, engine, scopes
        self.stream = stream
        self._start = stream.position
        ready = not engine.asks_all and frozenset(engine.observations) in known.seen
        self.left: frozenset[m.Site] = known.left if ready else frozenset()

    # -- messages ----------------------------------------------------------------------------------------------------

    def run(self, peer: Peer) -> m.Run:
        """The message that begins the execution on a peer's present connection."""
        if not self.left:
            return m.Run()
        assert peer.connection is not None
        if Capability.DRAWS not in peer.connection.active:
            raise ConnectionLost("it does not draw by itself any more")
        rng = self.stream
        return m.Run(m.Draws(rng.seed, rng.index, 1, self._start, self._policy(peer)))

    def _policy(self, peer: Peer) -> m.Policy | None:
        """Asks for all draws but those that are left; None if that is in force already."""
        assert peer.connection is not None
        sites, observations = peer.connection.sites, self._known.observations(self._engine.observations)
        made: _Made | None = peer.learned.get(_Made)
        if made is None or made.left is not self.left or made.sites != len(sites):
            bits = bytearray(b"\xff" * (len(sites) // 8 + 1))
            for number in range(1, len(sites) + 1):
                if sites[number] in self.left:
                    bits[number >> 3] &= ~(1 << (number & 7))
            made = peer.learned[_Made] = _Made(self.left, len(sites), bytes(bits))
        in_force = peer.learned.get(m.Policy)
        if in_force is not None and in_force[:2] == (made.asked, True) and in_force.observations is observations:
            return None
        policy = peer.learned[m.Policy] = m.Policy(made.asked, True, observations)
        return policy

    def is_left(self, question: Question) -> bool:
        """Whether a draw that is asked for need not be: the connection did not know it when the execution began."""
        return question.asked is not None and question.asked.site in self.left

    def draw(self, question: Question) -> tuple[Spoken, m.SampleResult]:
        """Draws it here: as the statement that it would have been, and the answer."""
        rng, statement = self.stream, question.asked
        assert statement is not None
        rng.move_to(question.position)
        message = value_message(statement.make(question.parameters).sample(rng), rng.position)
        return Spoken(statement, message.value, question.parameters), message

    # -- the execution -----------------------------------------------------------------------------------------------

    def reach(self, question: Question) -> None:
        """The engine comes to a question, or to the end."""
        if self.left:
            self.stream.move_to(question.position)

    def answered(self, statement: Statement, message: m.Message) -> m.Message:
        """The answer that the engine gave, on its way to the simulator."""
        if statement.kind == SiteKind.SAMPLE:
            self._known.was_asked(statement, bool(self._scopes))
            if self.left:
                assert type(message) is m.SampleResult
                return message._replace(position=self.stream.position)
        return message

    def raise_one(self, spoken: Spoken) -> None:
        """Raises a statement that was made before a question.

        Raises:
          StartAgain: it is not known whether asking for every draw would lead to the same.
        """
        statement, engine = spoken.statement, self._engine
        site = statement.site
        if statement.kind == SiteKind.SAMPLE and site in self.left:
            if site.control and not self._scopes:
                self._known.was_asked(statement, False)
                raise StartAgain
            distribution, value = statement.make(spoken.parameters), statement.value(spoken.value)
            engine.take(Site(SAMPLE, distribution, value, statement.name, site.address, site.control, False))
            return
        if statement.kind == SiteKind.OBSERVE and site.shape is not None and site.name not in engine.observations:
            if not self.left:
                self._known.supplied.add((site.address, site.name))
            elif (site.address, site.name) not in self._known.supplied:
                raise StartAgain
        raise_statement(spoken)

    def ended(self, peer: Peer | None) -> None:
        """The simulator came to its end."""
        connection = None if peer is None else peer.connection
        if not self.left and connection is not None and Capability.DRAWS in connection.active:
            self._known.seen.add(frozenset(self._engine.observations))


class _Made:
    """The bits of a policy, and from what they were made."""

    __slots__ = ("asked", "left", "sites")

    def __init__(self, left: frozenset[m.Site], sites: int, asked: bytes):
        self.left, self.sites, self.asked = left, sites, asked


def sharer(known: Nuisances, scopes: Scopes) -> Sharer | None:
    """What lets the simulator make draws itself; None where a handler must see them all, or the engine must."""
    frame = next(frames(), None)
    if frame is None or frame.outer is not None or not frame.engine:
        return None
    shared_stream = getattr(frame.messenger, "shared_stream", None)
    stream = None if shared_stream is None else shared_stream()
    return None if stream is None else Sharer(known, frame.messenger, stream, scopes)
