"""Row layouts: what the floats of a stored trace mean.

A stored trace is one row of float64: its log importance weight; for every site its value, the numbers of its
distribution and of its proposal; the model's result. Everything else (addresses, names, families, shapes) is the layout,
which all traces of the same structure share.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.layouts import count_numbers, is_discrete, rebuild
from ppl_jax.primitives import FACTOR, SAMPLE, TAG, Site
from ppl_jax.storage.templates import freeze, size, unflatten


class SiteLayout(NamedTuple):
    """The structure of one site. ``value`` is a template for tags, a shape for draws, None for factors."""

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
    """The layout of one kind of row: ``sites`` (SiteLayout each) and the ``result`` template."""

    def __init__(self, sites: tuple[SiteLayout, ...], result: tuple):
        self.sites = sites
        self.result = result

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

    def value(self, position: int, row: np.ndarray, objects: list[Any]) -> Any:
        """The value of the site at ``position``."""
        site, slot = self.sites[position], self.slots[position]
        numbers = row[slot.start : slot.distribution]
        if site.kind == TAG:
            return unflatten(site.value, numbers, objects)
        if site.kind == FACTOR:
            return None
        if site.value == ():
            number = float(numbers[0])
            return int(number) if is_discrete(site.distribution) and number.is_integer() else number
        array = np.array(numbers).reshape(site.value)
        return array.astype(np.int64) if is_discrete(site.distribution) else array

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

    def result_of(self, row: np.ndarray, objects: list[Any]) -> Any:
        return unflatten(self.result, row[self.result_start : self.width], objects)

    def to_json(self) -> list:
        return [[list(site) for site in self.sites], self.result]

    @classmethod
    def from_json(cls, data: Any) -> RowLayout:
        sites, result = data
        return cls(tuple(SiteLayout(*freeze(site)) for site in sites), freeze(result))


# Sites compare their kind by identity with the primitives' constants; strings read from a file are mapped back to them.
_KINDS = {kind: kind for kind in (SAMPLE, "observe", FACTOR, TAG)}


def _value_size(site: SiteLayout) -> int:
    if site.kind == TAG:
        return size(site.value)
    return 0 if site.kind == FACTOR else math.prod(site.value)


def _numbers_size(layout: Any) -> int:
    return 0 if layout is None else count_numbers(layout)
