"""Sites and rows: how the numbers of an execution are laid out, and the receiver's table of the sites it was told of.

A row holds, for every statement in order, its value and then its distribution's parameters; see PROTOCOL.md, section 7.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ppx import messages as m
from ppx.constants import FAMILY_NUMBERS, LAST_OF_FAMILIES, LAST_PLAIN_FAMILY, MAX_SITES, Capability
from ppx.errors import MalformedMessage, TooLarge


@lru_cache(maxsize=4096)
def count_numbers(layout: m.Layout | None) -> int:
    """How many numbers the parameters of a distribution of this layout are."""
    if layout is None:
        return 0
    if layout[0] == "Mixture":
        return math.prod(layout[1]) + sum(count_numbers(component) for component in layout[2])
    return sum(math.prod(shape) for shape in layout[1:])


@lru_cache(maxsize=4096)
def needed(layout: m.Layout | None) -> Capability:
    """The capability that a distribution and its components need to be sent; 0: PPX 1.0.0 has them."""
    last = _last_family(layout)
    if last <= LAST_PLAIN_FAMILY:
        return Capability(0)
    return Capability.FAMILIES if last <= LAST_OF_FAMILIES else Capability.MORE_FAMILIES


def _last_family(layout: m.Layout | None) -> int:
    """The greatest number of a family in a distribution."""
    if layout is None:
        return 0
    inner = layout[2] if layout[0] == "Mixture" else ()
    return max(FAMILY_NUMBERS.get(layout[0], LAST_OF_FAMILIES + 1), *map(_last_family, inner), 0)


def is_known(layout: m.Layout | None) -> bool:
    """Whether the protocol has this distribution at all."""
    if layout is None:
        return True
    if layout[0] == "Mixture":
        return all(is_known(component) for component in layout[2])
    return layout[0] in FAMILY_NUMBERS


class Slot(NamedTuple):
    """Where a statement's numbers stand in its row: value, then distribution, up to ``end``."""

    value: int
    distribution: int
    end: int


class RowType:
    """A sequence of sites and the layout of its rows.

    Attributes:
      sites: in order of the statements.
      width: how many numbers a row has.
    """

    __slots__ = ("_slots", "sites", "width")

    def __init__(self, sites: tuple[m.Site, ...], width: int):
        self.sites = sites
        self.width = width
        self._slots: tuple[Slot, ...] | None = None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where the numbers of each statement stand; made when it is asked for, since many types come only once."""
        if self._slots is None:
            slots, position = [], 0
            for site in self.sites:
                middle = position + (0 if site.shape is None else math.prod(site.shape))
                end = middle + count_numbers(site.layout)
                slots.append(Slot(position, middle, end))
                position = end
            self._slots = tuple(slots)
        return self._slots


def count_site(site: m.Site) -> int:
    """How many numbers a statement has in a row."""
    return (0 if site.shape is None else math.prod(site.shape)) + count_numbers(site.layout)


def row_type(sites: tuple[m.Site, ...]) -> RowType:
    """The layout of the rows of executions that visited these sites."""
    return RowType(sites, sum(map(count_site, sites)))


class Executions(NamedTuple):
    """What a message's ``rows`` hold.

    Attributes:
      row_types: one for each type of the message.
      types: which of them each execution has, int64, shape (n,).
      starts: where each execution's row begins in ``rows``, and where the last one ends, int64, shape (n + 1,).
    """

    row_types: tuple[RowType, ...]
    types: np.ndarray
    starts: np.ndarray


class SiteTable:
    """The sites that a front end has defined on a connection; ``table[n]`` is site n, from 1."""

    __slots__ = ("_sites", "_types", "_widths")

    def __init__(self) -> None:
        self._sites: list[m.Site] = []
        self._widths: list[int] = []
        self._types: dict[tuple[int, ...], RowType] = {}

    def __len__(self) -> int:
        return len(self._sites)

    def __getitem__(self, number: int) -> m.Site:
        """Site ``number``.

        Raises:
          MalformedMessage: no site of this number was defined.
        """
        if not 0 < number <= len(self._sites):
            raise MalformedMessage(f"site {number} was never defined (there are {len(self._sites)})")
        return self._sites[number - 1]

    def receive(self, traces: m.Traces) -> Executions:
        """Takes in what a message says about sites and executions. Every message with ``traces`` must pass here.

        Raises:
          MalformedMessage: sites that were not defined, or rows of another length than their sites have.
          TooLarge: more sites than a connection may have.
        """
        if len(self._sites) + len(traces.sites) > MAX_SITES:
            raise TooLarge(f"the front end defined more than {MAX_SITES} sites")
        self._sites.extend(traces.sites)
        self._widths.extend(map(count_site, traces.sites))
        row_types = tuple([self.row_type(sites) for sites in traces.type_sites])
        types = np.asarray(traces.types, dtype=np.int64)
        visits = np.bincount(types, minlength=len(row_types)).tolist()
        total = sum([visit * row_type.width for visit, row_type in zip(visits, row_types, strict=True)])
        if total != len(traces.rows):  # before the widths are numpy's, which could overflow
            raise MalformedMessage(f"the rows have {len(traces.rows)} numbers, their sites {total}")
        # A type that no execution has may be of any width; 0 stands for it.
        used = [row_type.width if visit else 0 for visit, row_type in zip(visits, row_types, strict=True)]
        starts = np.zeros(len(types) + 1, dtype=np.int64)
        np.cumsum(np.array(used, dtype=np.int64)[types], out=starts[1:])
        return Executions(row_types, types, starts)

    def row_type(self, numbers: tuple[int, ...]) -> RowType:
        """The layout of the rows of a sequence of site numbers."""
        known = self._types.get(numbers)
        if known is None:
            if len(self._types) >= 65_536:
                self._types.clear()
            if numbers and not 0 < min(numbers) <= max(numbers) <= len(self._sites):
                self[next(number for number in numbers if not 0 < number <= len(self._sites))]  # raises
            sites, widths = self._sites, self._widths
            width = sum([widths[number - 1] for number in numbers])
            known = self._types[numbers] = RowType(tuple([sites[number - 1] for number in numbers]), width)
        return known


def as_numbers(value: Any) -> tuple[m.Shape, list[float]] | None:
    """Shape and numbers of a value; None if it is no number and no array of numbers."""
    kind = type(value)
    if kind is float:
        return (), [value]
    if kind is int or kind is bool:
        return (), [float(value)]
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            return None
        return tuple(array.shape), array.astype(np.float64).ravel().tolist()
    except (TypeError, ValueError):
        return None


def from_numbers(shape: m.Shape, numbers: m.Numbers, discrete: bool) -> Any:
    """The value of this shape: a float (or int, where values are discrete), or an array."""
    if shape == ():
        number = float(numbers[0])
        return int(number) if discrete and number.is_integer() else number
    array = np.array(numbers, dtype=np.float64).reshape(shape)
    return array.astype(np.int64) if discrete else array
