"""What a front end keeps of an execution until it is sent: numbers of sites, the row, scopes, batches of executions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppx import messages as m
from ppx.constants import MAX_SITES, SiteKind
from ppx.encoding import encode
from ppx.errors import MalformedMessage, TooLarge


class SiteNumbers:
    """The numbers of a connection's sites, and which definitions the other side does not know yet.

    Attributes:
      pending_size: bytes that the definitions take that were not sent yet, at most.
    """

    __slots__ = ("_numbers", "_sent", "_sites", "_sizes", "pending_size")

    def __init__(self) -> None:
        self._numbers: dict[m.Site, int] = {}
        self._sites: list[m.Site] = []
        self._sizes: list[int] = []
        self._sent = 0
        self.pending_size = 0

    def __len__(self) -> int:
        return len(self._sites)

    def __call__(self, site: m.Site) -> int:
        """The number of a site.

        Raises:
          TooLarge: a new one whose definition passes a limit of the protocol.
        """
        number = self._numbers.get(site)
        if number is None:
            if len(self._sites) >= MAX_SITES:
                raise TooLarge(f"the simulator has more than {MAX_SITES} different statements", site.address)
            size = len(encode(m.RunResult(traces=m.Traces((site,)))))
            self._sites.append(site)
            self._sizes.append(size)
            self.pending_size += size
            number = self._numbers[site] = len(self._sites)
        return number

    def told(self, number: int) -> m.Site | None:
        """Site ``number``, if the other side knows it."""
        return self._sites[number - 1] if 0 < number <= self._sent else None

    def pending(self, room: int | None = None) -> tuple[m.Site, ...]:
        """The definitions to be sent with the next message; of them the first, if ``room`` bytes do not hold all."""
        end = len(self._sites)
        if room is not None and self.pending_size > room:
            ends = np.cumsum(self._sizes[self._sent :])
            end = self._sent + int(np.searchsorted(ends, room, side="right"))
        return tuple(self._sites[self._sent : end])

    def sent(self, count: int) -> None:
        """The first ``count`` of the pending definitions were sent."""
        self.pending_size -= sum(self._sizes[self._sent : self._sent + count])
        self._sent += count

    def forget(self, number: int) -> None:
        """Takes back the definitions after site ``number``, as far as they were not sent."""
        number = max(number, self._sent)
        for site in self._sites[number:]:
            del self._numbers[site]
        self.pending_size -= sum(self._sizes[number:])
        del self._sites[number:], self._sizes[number:]


class Scope:
    """An open rejection scope. ``start``: where, in the unsent part, its present pass begins (sites, row)."""

    __slots__ = ("address", "counts", "name", "rejected", "sent", "start")

    def __init__(self, address: str, name: str, counts: dict[str, int], start: tuple[int, int]):
        self.address = address
        self.name = name
        self.counts = counts
        self.start = start
        self.sent = False
        self.rejected = 0


class Recorder:
    """The part of one execution that was not sent yet.

    Attributes:
      counts: visits of each address so far.
      replays: whether values of a replay may be used: not while an open scope has rejected a pass.
    """

    __slots__ = ("counts", "numbers", "replays", "row", "scopes", "sites")

    def __init__(self, numbers: SiteNumbers):
        self.numbers = numbers
        self.sites: list[int] = []
        self.row: list[float] = []
        self.counts: dict[str, int] = {}
        self.scopes: list[Scope] = []
        self.replays = True

    def visit(self, address: str) -> int:
        """Counts a statement; its instance."""
        instance = self.counts[address] = self.counts.get(address, 0) + 1
        return instance

    def add(self, site: m.Site, values: Any = (), parameters: Any = ()) -> None:
        """Records a statement."""
        self.sites.append(self.numbers(site))
        self.row.extend(values)
        self.row.extend(parameters)

    def take(self) -> m.Traces | None:
        """The unsent part with the pending definitions, which it leaves pending; None if there is nothing to send."""
        for scope in self.scopes:
            scope.start, scope.sent = (0, 0), True
        sites, row, definitions = self.sites, self.row, self.numbers.pending()
        self.sites, self.row = [], []
        if not sites and not definitions:
            return None
        return m.Traces(definitions, (tuple(sites),), (0,), row) if sites else m.Traces(definitions)

    # -- rejection scopes -------------------------------------------------------------------------------------------

    def begin(self, address: str, name: str) -> Scope:
        """Opens a scope."""
        self.add(m.Site(SiteKind.SCOPE_BEGIN, address, name))
        scope = Scope(address, name, dict(self.counts), (len(self.sites), len(self.row)))
        self.scopes.append(scope)
        return scope

    def reject(self, scope: Scope) -> None:
        """Forgets the present pass of a scope; inner scopes that it left open go with it."""
        while self.scopes[-1] is not scope:
            self.scopes.pop()
        del self.sites[scope.start[0] :], self.row[scope.start[1] :]
        if scope.sent:
            self.add(m.Site(SiteKind.SCOPE_REJECT, scope.address, scope.name))
            scope.start, scope.sent = (len(self.sites), len(self.row)), False
        self.counts = dict(scope.counts)
        scope.rejected += 1
        self.replays = False

    def end(self, scope: Scope) -> None:
        """Closes a scope with its present pass."""
        while self.scopes.pop() is not scope:
            pass
        self.add(m.Site(SiteKind.SCOPE_END, scope.address, scope.name, None, ()), [float(scope.rejected)])
        self.replays = all(outer.rejected == 0 for outer in self.scopes)


class Batch:
    """Executions to be sent in one RunResult."""

    __slots__ = ("_types", "errors", "rows", "size", "types")

    def __init__(self) -> None:
        self._types: dict[tuple[int, ...], int] = {}
        self.types: list[int] = []
        self.rows: list[float] = []
        self.errors: list[m.Error] = []
        self.size = 256  # bytes that it takes on the wire without definitions, at most

    def __len__(self) -> int:
        return len(self.types) + len(self.errors)

    def add(self, recorder: Recorder, capacity: int) -> bool:
        """Adds what an execution has recorded since the last message; False if ``capacity`` bytes cannot hold it."""
        sites = tuple(recorder.sites)
        number = self._types.get(sites)
        size = self.size + 8 * len(recorder.row) + 4 + (4 + 4 * len(sites) if number is None else 0)
        if size > capacity:
            return False
        if number is None:
            number = self._types[sites] = len(self._types)
        self.size = size
        self.types.append(number)
        self.rows.extend(recorder.row)
        return True

    def fail(self, error: m.Error) -> None:
        """Adds a failed execution."""
        error = error._replace(execution=len(self))
        self.size += 4 + len(encode(error))
        self.errors.append(error)

    def traces(self, numbers: SiteNumbers, capacity: int) -> m.Traces:
        """All of it, with as many of the pending definitions as there is room for."""
        definitions = numbers.pending(capacity - self.size)
        return m.Traces(definitions, tuple(self._types), tuple(self.types), self.rows, tuple(self.errors))


class Replayed:
    """The values that a Run brings, by (address, instance).

    Raises:
      MalformedMessage: the vectors do not fit each other, or name sites that the other side cannot know.
    """

    __slots__ = ("_values",)

    def __init__(self, replay: m.Replay | None, numbers: SiteNumbers):
        self._values: dict[tuple[str, int], tuple[m.Site, Any]] = {}
        if replay is None:
            return
        start = 0
        for number, instance in zip(replay.sites, replay.instances, strict=True):
            site = numbers.told(number)
            if site is None or site.shape is None:
                raise MalformedMessage(f"site {number} is none that a replay can have")
            end = start + math.prod(site.shape)
            self._values[site.address, instance] = (site, replay.values[start:end])
            start = end
        if start != len(replay.values):
            raise MalformedMessage(f"a replay has {len(replay.values)} values, its sites {start}")

    def find(self, site: m.Site, instance: int) -> Any:
        """The numbers for this visit of a site; None if there are none that fit."""
        found = self._values.get((site.address, instance))
        if found is None:
            return None
        earlier, values = found
        if earlier is site or (earlier.shape == site.shape and families(earlier.layout) == families(site.layout)):
            return values
        return None


def families(layout: m.Layout | None) -> Any:
    """The families in a layout: what remains without the shapes."""
    if layout is None or layout[0] != "Mixture":
        return layout and layout[0]
    return ("Mixture", *(families(component) for component in layout[2]))
