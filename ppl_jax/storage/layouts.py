"""Row layouts: what the floats of a stored trace mean.

A stored trace is one row of float64: its log importance weight; for every site its value, the numbers of its
distribution and of its proposal; the model's result. Everything else (addresses, names, families, shapes) is the
layout, which all traces of the same structure share.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.layouts import FAMILIES, count_numbers, is_discrete, rebuild
from ppl_jax.errors import StorageError
from ppl_jax.language.site import FACTOR, OBSERVE, SAMPLE, TAG, Site
from ppl_jax.language.trace import name_and_occurrence
from ppl_jax.storage.columns import Numbers, is_whole, template_numbers
from ppl_jax.storage.templates import freeze, object_places, size, unflatten


class SiteLayout(NamedTuple):
    """The structure of one site. ``value`` is a template for tags, a shape for draws, None where there is no value."""

    kind: str
    address: str
    instance: int
    name: str | None
    control: bool
    observed: bool
    value: Any
    distribution: Any
    proposal: Any


class Slot(NamedTuple):
    """Where a site's numbers stand in its row: value, distribution, proposal, each from ``start`` to the next."""

    start: int
    distribution: int
    proposal: int
    end: int


class RowLayout:
    """The layout of one kind of row: ``sites`` (SiteLayout each) and the ``result`` template.

    Raises:
      StorageError: a distribution is of a family that this version does not know.
    """

    def __init__(self, sites: tuple[SiteLayout, ...], result: tuple):
        self.sites = sites
        self.result = result
        for site in sites:
            for distribution in (site.distribution, site.proposal):
                if distribution is not None:
                    _check_family(site, distribution)

    @property
    def key(self) -> tuple:
        """Hashable; equal for equal layouts."""
        return self.sites, self.result

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        slots, position = [], 1
        for site in self.sites:
            middle = position + _value_size(site)
            proposal = middle + _numbers_size(site.distribution)
            end = proposal + _numbers_size(site.proposal)
            slots.append(Slot(position, middle, proposal, end))
            position = end
        return tuple(slots)

    @cached_property
    def result_start(self) -> int:
        return self.slots[-1].end if self.slots else 1

    @cached_property
    def width(self) -> int:
        return self.result_start + size(self.result)

    @cached_property
    def named(self) -> dict[str, list[int]]:
        """Name -> positions of its sites, in order."""
        found: dict[str, list[int]] = {}
        for position, site in enumerate(self.sites):
            if site.name:
                found.setdefault(site.name, []).append(position)
        return found

    @cached_property
    def object_places(self) -> np.ndarray:
        """Where in a row the numbers of objects stand, int64."""
        places = list(object_places(self.result, self.result_start))
        for site, slot in zip(self.sites, self.slots, strict=True):
            if site.kind == TAG:
                places.extend(object_places(site.value, slot.start))
        return np.array(places, dtype=np.int64)

    def position(self, key: str | tuple[str, int]) -> int | None:
        """The position of the last site of a name, or of its given occurrence (1, 2, ...); None if there is none."""
        name, occurrence = name_and_occurrence(key)
        places = self.named.get(name, [])
        if occurrence is None:
            return places[-1] if places else None
        return places[occurrence - 1] if 1 <= occurrence <= len(places) else None

    def numbers(self, position: int) -> Numbers | None:
        """Where the value of the site at ``position`` stands, if it is a number or an array; else None."""
        site, start = self.sites[position], self.slots[position].start
        if site.kind == TAG:
            return template_numbers(site.value, start)
        if site.value is None:
            return None
        discrete = is_discrete(site.distribution)
        return Numbers(start, site.value, np.dtype(np.int64 if discrete else np.float64), discrete)

    def value(self, position: int, row: np.ndarray, objects: list[Any]) -> Any:
        """The value of the site at ``position``."""
        site, slot = self.sites[position], self.slots[position]
        numbers = row[slot.start : slot.distribution]
        if site.kind == TAG:
            return unflatten(site.value, numbers, objects)
        if site.value is None:
            return None
        if site.value == ():
            number = float(numbers[0])
            return int(number) if is_discrete(site.distribution) and number.is_integer() else number
        array = np.array(numbers).reshape(site.value)
        return array.astype(np.int64) if is_discrete(site.distribution) and is_whole(array) else array

    def site(self, position: int, row: np.ndarray, objects: list[Any]) -> Site:
        """The whole site at ``position``."""
        layout, slot = self.sites[position], self.slots[position]
        distribution = None
        if layout.distribution is not None:
            distribution = rebuild(layout.distribution, row[slot.distribution : slot.proposal].tolist())
        site = Site(
            _KINDS[layout.kind],
            distribution,
            self.value(position, row, objects),
            layout.name,
            layout.address,
            layout.control,
            layout.observed,
        )
        site.instance = layout.instance
        if layout.proposal is not None:
            site.proposal = rebuild(layout.proposal, row[slot.proposal : slot.end].tolist())
        return site

    @property
    def result_numbers(self) -> Numbers | None:
        """Where the result stands, if it is a number or an array; else None."""
        return template_numbers(self.result, self.result_start)

    def result_of(self, row: np.ndarray, objects: list[Any]) -> Any:
        return unflatten(self.result, row[self.result_start : self.width], objects)

    def to_json(self) -> list:
        return [[list(site) for site in self.sites], self.result]

    @classmethod
    def from_json(cls, data: Any) -> RowLayout:
        sites, result = data
        return cls(tuple(SiteLayout(*freeze(site)) for site in sites), freeze(result))


# Sites compare their kind by identity with the primitives' constants; strings read from a file are mapped back to them.
_KINDS = {kind: kind for kind in (SAMPLE, OBSERVE, FACTOR, TAG)}


def _check_family(site: SiteLayout, distribution: tuple) -> None:
    families = [distribution[0]]
    if distribution[0] == "Mixture":
        families += [component[0] for component in distribution[2]]
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        raise StorageError(
            f"The {site.kind} site {site.name or site.address!r} has a distribution of family {unknown[0]!r}, of which "
            f"stored traces know nothing. Use one of these families: {', '.join(sorted(FAMILIES))}."
        )


def _value_size(site: SiteLayout) -> int:
    if site.kind == TAG:
        return size(site.value)
    return 0 if site.value is None else math.prod(site.value)


def _numbers_size(layout: Any) -> int:
    return 0 if layout is None else count_numbers(layout)
