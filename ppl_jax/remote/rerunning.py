"""Executions that keep values of an earlier one: one message there and one back for a step of a Markov chain.

The kept values travel as a replay; what is new the simulator draws itself, from the stream that the engine draws from.
It asks only for a site whose value the engine wants to choose when it is met, and for sites that this connection does
not know yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppl_jax.errors import ObservationError
from ppl_jax.language.site import OBSERVE, SAMPLE, Site
from ppl_jax.remote.conversations import Conversation, vocabulary_of
from ppl_jax.remote.drawing import forms_of
from ppl_jax.remote.failures import ConnectionLost, is_programs
from ppl_jax.remote.peers import Peer
from ppl_jax.remote.pool import Pool
from ppl_jax.remote.rows import Walk, observations_message
from ppl_jax.remote.statements import value_message
from ppl_jax.running.execution import Execution, execute
from ppl_jax.running.services import Record, Request
from ppl_jax.storage import RowLayout
from ppl_jax.streams import CountedStream, Stream
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.errors import PPXError
from ppx.recording import families
from ppx.sites import Slot

_NOWHERE = Slot(0, 0, 0)
_KNOWN_LAYOUTS = 4096  # layouts that are remembered


class Replays:
    """How the sites of layouts are numbered on one connection."""

    def __init__(self) -> None:
        self.known: dict[int, Replayable] = {}


class Replayable:
    """A layout as the material of replays; ``numbers`` has 0 for sites that the connection does not know."""

    def __init__(self, layout: RowLayout, numbers: np.ndarray, known_sites: int):
        self.layout = layout
        self.numbers = numbers
        self.known_sites = known_sites  # how many the connection had when this was made
        self.instances = np.array([site.instance for site in layout.sites], dtype=np.uint32)
        self.position = {(site.address, site.instance): place for place, site in enumerate(layout.sites)}
        columns = [np.arange(slot.start, slot.distribution) for slot in layout.slots]
        self.columns = np.concatenate(columns) if columns else np.empty(0, np.int64)
        self.owners = np.repeat(np.arange(len(columns)), [len(column) for column in columns])

    def replay(self, row: np.ndarray, kept: np.ndarray) -> m.Replay:
        """The values of the kept positions."""
        told = kept[self.numbers[kept] > 0]
        mask = np.zeros(len(self.layout.sites), bool)
        mask[told] = True
        return m.Replay(self.numbers[told], self.instances[told], row[self.columns[mask[self.owners]]])


class Rerunning:
    """See :class:`ppl_jax.running.services.Reruns`.

    Args:
      pool: the simulators.
      request: observations, and whether they are weighed.
    """

    def __init__(self, pool: Pool, request: Request):
        self._pool = pool
        self._request = request
        self._observations = observations_message(request.observations)
        self._supplied: set[tuple[str, str]] = set()  # observes that are known to have a value of the program's

    def run(
        self,
        earlier: Record,
        kept: np.ndarray,
        rng: CountedStream,
        asked: int | None = None,
        answer: Callable[[Site], Any] | None = None,
    ) -> Record | None:
        """One execution; see :class:`ppl_jax.running.services.Reruns`."""
        peer, position = self._pool.lend(), rng.position
        try:
            while True:
                peer.connect()
                rng.move_to(position)
                try:
                    found = _Rerun(self, peer, earlier, kept, rng, asked, answer).perform()
                    peer.succeeded()
                    return found if found is None else self._record(peer, *found)
                except PPXError as error:
                    loss = ConnectionLost(f"it sent what makes no sense: {error}")
                except ConnectionLost as lost:
                    loss = lost
                peer.fail(loss)
        finally:
            self._pool.give_back(peer)

    def _record(self, peer: Peer, numbers: tuple[int, ...], wire: np.ndarray) -> Record | None:
        try:
            form = forms_of(peer).of(peer, self._request, numbers, wire)
        except ObservationError:
            return None
        if form.observed.size and np.isnan(wire[form.observed]).any():
            return None
        row = np.empty(form.layout.width)
        row[0] = 0.0
        row[1:] = wire[form.columns]
        record = Record(form.layout, row, form.scopes(wire))
        if self._request.score and not form.supplied <= self._supplied and not self._check_supplied(peer, record):
            return None
        known = replays_of(peer).known
        if id(form.layout) not in known:
            _make_room(known)
            known[id(form.layout)] = Replayable(form.layout, form.numbers, 0)
        return record

    def _check_supplied(self, peer: Peer, record: Record) -> bool:
        """Whether the program gives values to all observes for which there are no data.

        A simulator that draws by itself also draws what is to be observed; it does not in an execution in which every
        draw is asked for.
        """
        layout = record.layout
        values = {
            (site.address, site.instance): layout.value(place, record.row, [])
            for place, site in enumerate(layout.sites)
            if site.kind == SAMPLE
        }
        execution = _Repeated(self._request.observations, values)
        try:
            execute(execution, Conversation(self._pool, peer).run)
        except ObservationError:
            return False
        self._supplied |= {(site.address, site.name or "") for site in execution.sites if site.kind == OBSERVE}
        return True

    def policy(self, peer: Peer, address: str | None) -> m.Policy | None:
        """Asks for what is not known yet and, where one is given, for an address; None if that is in force already."""
        assert peer.connection is not None
        sites = peer.connection.sites
        bits = bytearray(len(sites) // 8 + 1)
        for number in range(len(sites) + 1, 8 * len(bits)):  # not known yet, but beside known ones in their byte
            bits[number >> 3] |= 1 << (number & 7)
        if address is not None:
            for number in range(1, len(sites) + 1):
                if sites[number].address == address:
                    bits[number >> 3] |= 1 << (number & 7)
        policy = m.Policy(bytes(bits), True, self._observations)
        in_force = peer.learned.get(m.Policy)
        if in_force is not None and in_force[:2] == policy[:2] and in_force.observations is policy.observations:
            return None
        peer.learned[m.Policy] = policy
        return policy


class _Repeated(Execution):
    """An execution that has the values of an earlier one."""

    __slots__ = ("values",)

    def __init__(self, observations: Mapping[str, Any], values: Mapping[tuple[str, int], Any]):
        super().__init__(Stream(0), observations, True)
        self.values = values

    def settle_latent(self, site: Site) -> None:
        site.value = self.values.get((site.address, site.instance))
        if site.value is None:
            site.value = site.distribution.sample(self.rng)


class _Rerun:
    """One attempt."""

    def __init__(
        self,
        owner: Rerunning,
        peer: Peer,
        earlier: Record,
        kept: np.ndarray,
        rng: CountedStream,
        asked: int | None,
        answer: Callable[[Site], Any] | None,
    ):
        self.owner, self.peer, self.earlier, self.kept = owner, peer, earlier, kept
        self.rng, self.asked, self.answer = rng, asked, answer
        self.material = _material(peer, earlier.layout)
        self.is_kept = np.zeros(len(earlier.layout.sites), bool)
        self.is_kept[kept] = True
        self.walk: Walk | None = None
        self.numbers: list[int] = []
        self.parts: list[Any] = []

    def perform(self) -> tuple[tuple[int, ...], np.ndarray] | None:
        """Site numbers and row of the wire; None if the execution failed."""
        rng, peer = self.rng, self.peer
        sites = self.earlier.layout.sites
        address = None if self.asked is None else sites[self.asked].address
        replay = self.material.replay(self.earlier.row, self.kept)
        draws = m.Draws(rng.seed, rng.index, 1, rng.position, self.owner.policy(peer, address), replay)
        message: m.Message = m.Run(draws)
        while True:
            found = self._exchange(message)
            if type(found) is m.Sample and found.site:
                try:
                    message = self._answer(found)
                except (ConnectionLost, PPXError):
                    raise
                except BaseException:
                    peer.abort()
                    raise
            elif type(found) is m.RunResult and found.traces is not None:
                rng.move_to(found.position)
                return self._whole(found.traces)
            elif type(found) is m.Error and is_programs(found):
                return None
            else:
                raise ConnectionLost(f"it answered {found!r:.200} in an execution")

    def _exchange(self, message: m.Message) -> Any:
        try:
            self.peer.send(message)
            return self.peer.receive()
        except Exception:
            raise
        except BaseException:  # interrupted while it was the simulator's turn
            self.peer.drop()
            raise

    def _answer(self, question: m.Sample) -> m.SampleResult:
        rng, peer = self.rng, self.peer
        walk = self._take(question.traces)
        statement = vocabulary_of(peer).statement(question.site)
        instance = walk.add(statement.site, question.site, _NOWHERE)
        self.numbers.append(question.site)
        distribution = statement.make(question.numbers)
        rng.move_to(question.position)
        place = self.material.position.get((statement.address, instance))
        if place is not None and place == self.asked and self.answer is not None:
            site = Site(SAMPLE, distribution, None, statement.name, statement.address, statement.control, False)
            site.instance = instance
            value = self.answer(site)
        elif place is not None and self.is_kept[place] and not walk.rejecting and self._fits(place, statement.site):
            value = self.earlier.layout.value(place, self.earlier.row, [])
        else:
            value = distribution.sample(rng)
        message = value_message(value, rng.position)
        self.parts += [message.value, question.numbers]
        return message

    def _fits(self, place: int, site: m.Site) -> bool:
        old = self.earlier.layout.sites[place]
        return old.value == site.shape and families(old.distribution) == families(site.layout)

    def _take(self, traces: m.Traces | None) -> Walk:
        """Takes a part of the execution, so that instances are known."""
        if self.walk is None:
            self.walk = Walk()
        if traces is not None:
            table = vocabulary_of(self.peer).table
            table.receive(traces)
            if len(traces.types):
                numbers = traces.type_sites[traces.types[0]]
                for number, site in zip(numbers, table.row_type(numbers).sites, strict=True):
                    self.walk.add(site, number, _NOWHERE)
                self.numbers += numbers
                self.parts.append(traces.rows)
        return self.walk

    def _whole(self, traces: m.Traces) -> tuple[tuple[int, ...], np.ndarray] | None:
        table = vocabulary_of(self.peer).table
        table.receive(traces)
        if traces.errors:
            return None
        if len(traces.types) != 1:
            raise ConnectionLost(f"it answered with {len(traces.types)} executions, where one was expected")
        numbers = traces.type_sites[traces.types[0]]
        rows = np.asarray(traces.rows, dtype=np.float64)
        if self.numbers:
            numbers = (*self.numbers, *numbers)
            rows = np.concatenate([*(np.asarray(part, dtype=np.float64) for part in self.parts), rows])
        return numbers, rows


def replays_of(peer: Peer) -> Replays:
    """What is known of replays on a peer's present connection."""
    return peer.learned.setdefault(Replays, Replays())


def _make_room(known: dict[int, Replayable]) -> None:
    if len(known) >= _KNOWN_LAYOUTS:
        known.clear()


def _material(peer: Peer, layout: RowLayout) -> Replayable:
    """A layout, numbered as on the peer's present connection."""
    known = replays_of(peer).known
    found = known.get(id(layout))
    assert peer.connection is not None
    table = peer.connection.sites
    if found is None or found.layout is not layout or (not found.numbers.all() and found.known_sites < len(table)):
        _make_room(known)
        numbered = {table[number]: number for number in range(1, len(table) + 1)}
        numbers = [
            numbered.get(m.Site(SiteKind.SAMPLE, s.address, s.name or "", s.distribution, s.value, s.control), 0)
            if s.kind == SAMPLE
            else 0
            for s in layout.sites
        ]
        found = known[id(layout)] = Replayable(layout, np.array(numbers, dtype=np.uint32), len(table))
    return found
