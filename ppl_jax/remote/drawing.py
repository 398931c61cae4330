"""Executions that simulators perform by themselves, many in one message, divided among all processes.

Each process has one batch to do; when its answer is taken the next one is sent before the answer is looked at, so that
simulators and this process work at the same time. Answers are taken in the order of the executions, which depend on
(seed, number) alone: neither the number of processes nor the sizes of the batches change the result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.errors import ObservationError, PPLError
from ppl_jax.language.site import OBSERVE, TAG, check_value
from ppl_jax.remote.conversations import Conversation
from ppl_jax.remote.failures import ConnectionLost, as_exception, is_programs
from ppl_jax.remote.peers import Peer
from ppl_jax.remote.pool import Pool
from ppl_jax.remote.rows import Form, observations_message
from ppl_jax.running.execution import Execution, execute
from ppl_jax.running.services import Request, TableAndWeights
from ppl_jax.storage import TraceTable
from ppl_jax.storage.densities import site_log_densities
from ppl_jax.streams import Stream
from ppx import messages as m
from ppx.constants import ErrorCode, SiteKind
from ppx.errors import PPXError

_FIRST_BATCH, _LARGEST_BATCH = 64, 1 << 16  # executions
_BATCH_SECONDS = 0.1  # that a batch should take: long against a message, short against a user's patience
_GROWTH = 4  # a batch is at most so many times larger than the one before
_KNOWN_FORMS = 1 << 14  # sequences of sites that are remembered


class Batch(NamedTuple):
    """Executions ``first`` ... ``stop`` - 1, of which a peer was asked for the first ``size`` at time ``sent``."""

    peer: Peer
    first: int
    stop: int
    size: int
    sent: float


Failure = tuple[int, PPLError]  # which of a batch's traces is the first that is wrong, and what it is


class Outcome(NamedTuple):
    """What came of a batch: traces, how many executions were done, and the error at which they end."""

    table: TraceTable
    log_weights: np.ndarray
    done: int
    error: PPLError | None


class Forms:
    """The forms of one connection, under one set of observations."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], Form] = {}
        self.request: Request | None = None

    def of(self, peer: Peer, request: Request, numbers: tuple[int, ...], row: np.ndarray) -> Form:
        """The form of a sequence of sites."""
        if self.request is None or self.request.observations is not request.observations:
            self.known.clear()
            self.request = request
        form = self.known.get(numbers)
        if form is None:
            if len(self.known) >= _KNOWN_FORMS:
                self.known.clear()
            assert peer.connection is not None
            form = self.known[numbers] = Form(
                peer.connection.sites.row_type(numbers), numbers, request.observations, row
            )
        return form


def forms_of(peer: Peer) -> Forms:
    """The forms of a peer's present connection."""
    return peer.learned.setdefault(Forms, Forms())


class Drawing:
    """Independent executions by the simulators of a pool.

    Args:
      pool: the simulators.
      request: what the executions are to be like.
    """

    def __init__(self, pool: Pool, request: Request):
        self._pool = pool
        self._request = request
        self._policy = m.Policy(b"", False, observations_message(request.observations))
        self._supplied: set[tuple[str, str]] = set()  # observes that are known to have a value of the program's
        self._size = _FIRST_BATCH

    def blocks(self, start: int, stop: int) -> Iterator[TableAndWeights]:
        """Tables and log weights of executions ``start`` ... ``stop`` - 1, in order.

        Raises:
          ModelError, ParameterError, ObservationError: an execution failed; those before it were given.
          SimulatorError: a simulator fails again and again.
        """
        peers = self._pool.lend_free()
        waiting: deque[Batch] = deque()
        following = start
        try:
            for peer in peers[: stop - start]:
                peer.start()  # all of them, before the first is waited for
            for peer in peers:
                if following < stop:
                    waiting.append(self._send(peer, following, min(stop, following + self._size)))
                    following = waiting[-1].stop
            while waiting:
                batch = waiting.popleft()
                peer = batch.peer
                answer, batch = self._receive(batch)
                missing = self._check_supplied(batch, answer)
                done = len(answer.types) + len(answer.errors)
                if batch.first + done < batch.stop:
                    waiting.appendleft(self._send(peer, batch.first + done, batch.stop))
                elif following < stop:
                    waiting.append(self._send(peer, following, min(stop, following + self._size)))
                    following = waiting[-1].stop
                outcome = self._outcome(batch, answer, missing)
                if len(outcome.table):
                    yield outcome.table, outcome.log_weights
                if outcome.error is not None:
                    raise outcome.error
        finally:
            for batch in waiting:
                _let_finish(batch.peer)
            for peer in peers:
                self._pool.give_back(peer)

    # -- exchanges ---------------------------------------------------------------------------------------------------

    def _send(self, peer: Peer, first: int, stop: int) -> Batch:
        """Asks a peer for executions ``first`` ... ``stop`` - 1, or as many of them as should take a short while."""
        count = min(stop - first, self._size)
        run = m.Run(m.Draws(self._request.seed, first, count, 0, self._policy))
        while True:
            peer.connect()
            try:
                peer.send(run)
                peer.learned[m.Policy] = self._policy
                return Batch(peer, first, stop, count, time.monotonic())
            except ConnectionLost as loss:
                peer.fail(loss)

    def _receive(self, batch: Batch) -> tuple[m.Traces, Batch]:
        """The answer of a batch, which is asked for again, one execution at first, where it is lost."""
        peer = batch.peer
        while True:
            try:
                traces = _traces(peer.receive(), self._pool, batch)
                assert peer.connection is not None
                peer.connection.sites.receive(traces)
                break
            except PPXError as error:
                loss = ConnectionLost(f"it sent what makes no sense: {error}")
            except ConnectionLost as lost:
                loss = lost
            except Exception:
                raise
            except BaseException:  # interrupted while the answer is under way
                peer.drop()
                raise
            peer.fail(loss)
            # One execution at a time: so a simulator that dies of one is found out, and those before it are kept.
            self._size = 1
            batch = self._send(peer, batch.first, batch.stop)
        peer.succeeded()
        done = len(traces.types) + len(traces.errors)
        fitting = int(done * _BATCH_SECONDS / max(time.monotonic() - batch.sent, 1e-6))
        self._size = max(1, min(fitting, _GROWTH * batch.size, _LARGEST_BATCH))
        return traces, batch

    # -- values that programs give to observes -----------------------------------------------------------------------

    def _check_supplied(self, batch: Batch, traces: m.Traces) -> Failure | None:
        """The first execution with an observe for which nobody has a value, and its error.

        A simulator that draws by itself also draws what is to be observed, so such a value looks like one of the
        program's. One execution in which it does not draw tells them apart, for every such observe that turns up.
        """
        if not self._request.score:
            return None
        assert batch.peer.connection is not None
        types, places = np.unique(np.asarray(traces.types), return_index=True)
        for place, type_ in sorted(zip(places.tolist(), types.tolist(), strict=True)):
            new = {
                (site.address, site.name)
                for site in batch.peer.connection.sites.row_type(traces.type_sites[type_]).sites
                if site.kind == SiteKind.OBSERVE and site.layout and site.name not in self._request.observations
            }
            if new - self._supplied:
                failed = sum(error.execution <= place for error in traces.errors)
                try:
                    self._supplied |= self._find_supplied(batch.peer, batch.first + place + failed)
                except ObservationError as error:
                    return place, error
        return None

    def _find_supplied(self, peer: Peer, index: int) -> set[tuple[str, str]]:
        """Address and name of the observes of one execution, all of which have a value."""
        request = self._request
        execution = Execution(Stream(request.seed, index), request.observations, True, request.likelihood_importance)
        conversation = Conversation(self._pool, peer)
        execute(execution, conversation.run)
        return {(site.address, site.name or "") for site in execution.sites if site.kind == OBSERVE}

    # -- tables ------------------------------------------------------------------------------------------------------

    def _outcome(self, batch: Batch, traces: m.Traces, missing: Failure | None) -> Outcome:
        """The traces of a batch, up to the first execution that failed."""
        done = len(traces.types) + len(traces.errors)
        types, rows = np.array(traces.types, dtype=np.int64), np.asarray(traces.rows, dtype=np.float64)
        error: PPLError | None = None
        if traces.errors:
            first = traces.errors[0]
            types = types[: first.execution]  # all before it succeeded
            which = f"execution {batch.first + first.execution} of seed {self._request.seed}"
            error = as_exception(first, self._pool.identity.name, which)
        if missing is not None and missing[0] < len(types):
            types, error = types[: missing[0]], missing[1]
        assert batch.peer.connection is not None
        sites = batch.peer.connection.sites
        wire_widths = np.array([sites.row_type(numbers).width for numbers in traces.type_sites], dtype=np.int64)
        ends = np.cumsum(wire_widths[types]) if len(types) else np.empty(0, np.int64)
        wire_starts = ends - wire_widths[types] if len(types) else ends
        known, forms = forms_of(batch.peer), {}
        for type_, place in zip(*np.unique(types, return_index=True), strict=True):
            row = rows[wire_starts[place] : ends[place]]
            try:
                forms[int(type_)] = known.of(batch.peer, self._request, traces.type_sites[type_], row)
            except ObservationError as found:
                if place < len(types):
                    types, error = types[:place], found
        table, log_weights = self._table(types, forms, rows, wire_starts[: len(types)])
        bad = _not_numbers(types, forms, rows, wire_starts)
        if bad is not None:
            error = _not_a_number(table, bad)
            table, log_weights = table[:bad], log_weights[:bad]
        return Outcome(table, log_weights, done, error)

    def _table(
        self, types: np.ndarray, forms: dict[int, Form], rows: np.ndarray, wire_starts: np.ndarray
    ) -> tuple[TraceTable, np.ndarray]:
        """Stored rows of executions of these types whose rows of the wire begin at ``wire_starts``."""
        present = [int(type_) for type_ in np.unique(types)]
        kinds = np.searchsorted(present, types).astype(np.int32)
        layouts = [forms[type_].layout for type_ in present]
        widths = np.array([layout.width for layout in layouts], dtype=np.int64)
        ends = np.cumsum(widths[kinds]) if len(kinds) else np.empty(0, np.int64)
        starts = ends - widths[kinds] if len(kinds) else ends
        heap = np.empty(int(ends[-1]) if len(ends) else 0)
        for kind, type_ in enumerate(present):
            form, width = forms[type_], layouts[kind].width
            if len(present) == 1 and isinstance(form.columns, slice):
                whole = heap.reshape(-1, width)
                whole[:, 1:] = rows[: len(types) * form.width].reshape(-1, form.width)
                whole[:, 0] = 0.0
                continue
            mine = kinds == kind
            columns = np.arange(form.width) if isinstance(form.columns, slice) else form.columns
            heap[starts[mine][:, None] + np.arange(1, width)] = rows[wire_starts[mine][:, None] + columns]
            heap[starts[mine]] = 0.0
        table = TraceTable(layouts, heap, starts, kinds, [])
        log_weights = np.zeros(len(types))
        if self._request.score and len(types):
            for layout, which in table.groups():
                there = starts[which]
                for position, site in enumerate(layout.sites):
                    if site.observed and site.kind != TAG:
                        density = site_log_densities(table, layout, position, there)
                        log_weights[which] += self._request.likelihood_importance * density
            heap[starts] = log_weights
        return table, log_weights


def _traces(answer: Any, pool: Pool, batch: Batch) -> m.Traces:
    if type(answer) is m.RunResult and answer.traces is not None:
        done = len(answer.traces.types) + len(answer.traces.errors)
        if not 0 < done <= batch.size:
            raise ConnectionLost(f"it answered with {done} executions when it was asked for {batch.size}")
        return answer.traces
    if type(answer) is m.Error:
        if is_programs(answer):
            raise as_exception(answer, pool.identity.name, f"executions from {batch.first} on")
        raise ConnectionLost(f"it reported {ErrorCode(answer.code).name}: {answer.text}")
    raise ConnectionLost(f"it answered with {type(answer).__name__}, where executions were expected")


def _not_numbers(types: np.ndarray, forms: dict[int, Form], rows: np.ndarray, starts: np.ndarray) -> int | None:
    """The first execution in which the program gave NaN to an observe."""
    found = []
    for type_, form in forms.items():
        mine = np.flatnonzero(types == type_)
        if form.observed.size and mine.size:
            bad = np.isnan(rows[starts[mine][:, None] + form.observed]).any(axis=1)
            if bad.any():
                found.append(int(mine[bad][0]))
    return min(found) if found else None


def _not_a_number(table: TraceTable, place: int) -> PPLError | None:
    """The error of an observe to which the program gave NaN."""
    try:
        for site in table[place].sites:
            if site.kind == OBSERVE:
                check_value(site, site.value)
    except ObservationError as error:
        return error
    return None


def _let_finish(peer: Peer) -> None:
    """Waits for an answer that nobody wants any more, but not for long."""
    connection = peer.connection
    if connection is None:
        return
    try:
        if connection.receive(2 * _BATCH_SECONDS) is None:
            peer.drop()
    except PPXError:
        peer.drop()
    except BaseException:
        peer.drop()
        raise
