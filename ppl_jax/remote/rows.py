"""From the rows of the wire to the rows of storage: what a sequence of sites is as a stored layout.

A stored row is the row of the wire with the log weight before it, rejected passes and marks left out, and the result
at the end: the numbers need no conversion, only the description of what they mean does, once for each sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.layouts import rebuild
from ppl_jax.errors import observed_in_scope
from ppl_jax.language.site import FACTOR, OBSERVE, SAMPLE, TAG, Site, check_value
from ppl_jax.language.trace import Scope
from ppl_jax.storage import RowLayout
from ppl_jax.storage.layouts import SiteLayout
from ppl_jax.storage.templates import FLOAT, NONE
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.errors import MalformedMessage
from ppx.sites import RowType, Slot

Key = tuple[str, str]  # address and name


class Visit(NamedTuple):
    """A statement that is part of the trace: its site, the instance of its address, and where its numbers stand."""

    site: m.Site
    number: int
    instance: int
    slot: Slot


class Walk:
    """Follows an execution through its sites: counts instances, and forgets rejected passes."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.scopes: list[tuple[Key, int, int, int]] = []  # key, visits from, to, number of rejections at
        self.result: tuple[m.Site, Slot] | None = None
        self._counts: dict[str, int] = {}
        self._open: list[tuple[Key, int, dict[str, int]]] = []
        self._rejecting: list[Key] = []  # the open scopes that have rejected a pass

    def add(self, site: m.Site, number: int, slot: Slot) -> int:
        """Takes the next site; its instance (0 for marks and results)."""
        kind = site.kind
        if kind <= SiteKind.FACTOR:
            instance = self._counts[site.address] = self._counts.get(site.address, 0) + 1
            self.visits.append(Visit(site, number, instance, slot))
            return instance
        key = (site.address, site.name)
        if kind == SiteKind.RESULT:
            self.result = (site, slot)
        elif kind == SiteKind.SCOPE_BEGIN:
            self._open.append((key, len(self.visits), dict(self._counts)))
        elif not self._open:
            raise MalformedMessage("a mark of a rejection scope that is not open", site.address)
        elif kind == SiteKind.SCOPE_END:
            opened, first, _ = self._open.pop()
            if opened in self._rejecting:
                self._rejecting.remove(opened)
            self.scopes.append((opened, first, len(self.visits), slot.value))
        else:
            self._reject(key)
        return 0

    def _reject(self, key: Key) -> None:
        while self._open and self._open[-1][0] != key:
            self._open.pop()
        if not self._open:
            raise MalformedMessage("a pass of a scope was rejected that is not open", key[0])
        _, first, counts = self._open[-1]
        del self.visits[first:]
        self.scopes = [scope for scope in self.scopes if scope[2] <= first]
        self._counts = dict(counts)
        if key not in self._rejecting:
            self._rejecting.append(key)

    @property
    def rejecting(self) -> bool:
        """Whether a scope is open that has rejected a pass."""
        return bool(self._rejecting)


class Form:
    """One sequence of sites as a layout.

    Args:
      row_type: of the wire.
      numbers: of its sites.
      observations: data by name.
      row: an execution of this type, for error messages.

    Attributes:
      layout: of the stored row.
      columns: where the stored row's numbers, the weight apart, stand in the row of the wire; a slice if all follow
        each other.
      observed: columns of values that the program itself gave to an observe.
      supplied: address and name of these observes.
      numbers: site number of each site of the layout.

    Raises:
      ObservationError: data do not fit the site that has their name; a site in a rejection scope is observed.
    """

    def __init__(self, row_type: RowType, numbers: Sequence[int], observations: Mapping[str, Any], row: np.ndarray):
        walk = Walk()
        for site, number, slot in zip(row_type.sites, numbers, row_type.slots, strict=True):
            walk.add(site, number, slot)
        self.width = row_type.width
        self.numbers = np.array([visit.number for visit in walk.visits], dtype=np.uint32)
        self._scopes = walk.scopes
        self.supplied: set[Key] = set()
        supplied: list[int] = []
        sites, columns = [], []
        for site, _, instance, slot in walk.visits:
            is_data = site.name != "" and site.name in observations and site.layout is not None
            if is_data:
                _check_data(site, instance, observations[site.name], row[slot.distribution : slot.end])
            elif site.kind == SiteKind.OBSERVE and site.layout is not None:
                self.supplied.add((site.address, site.name))
                supplied.extend(range(slot.value, slot.distribution))
            sites.append(_site_layout(site, instance, is_data))
            columns.append(np.arange(slot.value, slot.end))
        for key, first, last, _ in walk.scopes:
            for inside in sites[first:last]:
                if inside.observed:
                    raise observed_in_scope(inside, key)
        result, template = walk.result, NONE
        if result is not None and result[0].shape is not None:
            template = _template(result[0].shape)
            columns.append(np.arange(result[1].value, result[1].end))
        self.layout = RowLayout(tuple(sites), template)
        self.observed = np.array(supplied, dtype=np.int64)
        flat = np.concatenate(columns) if columns else np.empty(0, np.int64)
        self.columns: Any = slice(None) if np.array_equal(flat, np.arange(self.width)) else flat

    def scopes(self, row: np.ndarray) -> tuple[Scope, ...]:
        """The rejection loops of one execution, ``row`` being that of the wire."""
        return tuple([Scope(key, first, last, int(row[place])) for key, first, last, place in self._scopes])


def _site_layout(site: m.Site, instance: int, is_data: bool) -> SiteLayout:
    name, kind = site.name or None, site.kind
    if kind == SiteKind.FACTOR:
        return SiteLayout(FACTOR, site.address, instance, name, False, True, None, ("Factor", ()), None)
    if kind == SiteKind.TAG or site.layout is None:
        return SiteLayout(TAG, site.address, instance, name, False, False, _template(site.shape or ()), None, None)
    if kind == SiteKind.OBSERVE:
        return SiteLayout(OBSERVE, site.address, instance, name, False, True, site.shape, site.layout, None)
    return SiteLayout(SAMPLE, site.address, instance, name, site.control, is_data, site.shape, site.layout, None)


def _template(shape: m.Shape) -> tuple:
    return FLOAT if shape == () else ("array", "<f8", shape)


def _check_data(site: m.Site, instance: int, value: Any, parameters: np.ndarray) -> None:
    kind = SAMPLE if site.kind == SiteKind.SAMPLE else OBSERVE
    assert site.layout is not None
    statement = Site(kind, rebuild(site.layout, parameters.tolist()), None, site.name, site.address, site.control, True)
    statement.instance = instance
    check_value(statement, value)


def observations_message(observations: Mapping[str, Any]) -> tuple[m.Observation, ...]:
    """Data as a policy carries them."""
    found = []
    for name, value in observations.items():
        array = np.asarray(value, dtype=np.float64)
        found.append(m.Observation(name, array.shape, array.ravel()))
    return tuple(found)
