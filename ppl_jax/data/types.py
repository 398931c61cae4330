"""Trace types: which traces can stand in one minibatch.

Traces are of one type if their columns stack: if they have the same controlled latents in order, each with its address,
instance, name, family with the shapes of its parameters, and shape; and the same observed sites in order. They may
differ in nuisance draws, tags, factors and results, so a type may have several row layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from ppl_jax.data.encoding import Columns, site_sizes
from ppl_jax.language.site import OBSERVE, SAMPLE
from ppl_jax.storage import RowLayout
from ppl_jax.storage.layouts import SiteLayout

LATENT, OBSERVATION = 1, 2


class TypeLayout(NamedTuple):
    """What the traces of one type share: their controlled latents and their observed sites, each in order."""

    latents: tuple[SiteLayout, ...]
    observations: tuple[SiteLayout, ...]


def role(site: SiteLayout) -> int:
    """LATENT, OBSERVATION, or 0 for what plays no part in the type."""
    if site.kind == OBSERVE or (site.kind == SAMPLE and site.observed):
        return OBSERVATION
    return LATENT if site.kind == SAMPLE and site.control else 0


def bare(site: SiteLayout) -> SiteLayout:
    """The site without what may differ within a type."""
    return site._replace(control=role(site) == LATENT, observed=role(site) == OBSERVATION, proposal=None)


def type_of(sites: Sequence[SiteLayout]) -> TypeLayout:
    """The type of traces with these sites."""
    roles = [(role(site), site) for site in sites]
    return TypeLayout(
        tuple(bare(site) for found, site in roles if found == LATENT),
        tuple(bare(site) for found, site in roles if found == OBSERVATION),
    )


class TypeTable(Sequence[TypeLayout]):
    """Numbers trace types 0, 1, ... in the order in which they are met."""

    def __init__(self) -> None:
        self._types: list[TypeLayout] = []
        self._numbers: dict[TypeLayout, int] = {}

    def number(self, layout: RowLayout) -> int:
        """The number of the type of a layout, a new one if it was not met before."""
        found = type_of(layout.sites)
        number = self._numbers.setdefault(found, len(self._types))
        if number == len(self._types):
            self._types.append(found)
        return number

    def __len__(self) -> int:
        return len(self._types)

    @overload
    def __getitem__(self, index: int) -> TypeLayout: ...
    @overload
    def __getitem__(self, index: slice) -> list[TypeLayout]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._types[index]


class Fields(NamedTuple):
    """The columns that training reads, in an order that all layouts of a type share.

    Attributes:
      sizes: numbers in each field, int64 (f,).
      values: for each latent the field of its value, -1 where it has none.
      numbers: for each latent the first field of its distribution's numbers, and the one behind the last.
      observations: for each observed site the field of its value, -1 where it has none.
      scalars: for each field its place among those of one number; -1 for the others.
    """

    sizes: np.ndarray
    values: list[int]
    numbers: list[tuple[int, int]]
    observations: list[int]
    scalars: np.ndarray


def fields_of(layout: TypeLayout) -> Fields:
    """The fields of a type; what has no numbers has no field."""
    sizes: list[int] = []
    counts = []
    for site in layout.latents:
        value, distribution, _ = site_sizes(site)
        sizes += value + distribution
        counts.append((len(value), len(distribution)))
    observed = [site_sizes(site)[0] for site in layout.observations]
    widths = np.array(sizes + [size for value in observed for size in value], dtype=np.int64)
    return arrange_fields(widths, counts, [len(value) for value in observed])


def arrange_fields(sizes: np.ndarray, latents: list[tuple[int, int]], observations: list[int]) -> Fields:
    """Fields of given sizes: how many belong to the value and to the distribution of each latent, and to each datum."""
    position, values, numbers, observed = 0, [], [], []
    for value, distribution in latents:
        values.append(position if value else -1)
        numbers.append((position + value, position + value + distribution))
        position += value + distribution
    for value in observations:
        observed.append(position if value else -1)
        position += value
    single = sizes == 1
    return Fields(sizes, values, numbers, observed, np.where(single, np.cumsum(single) - 1, -1))


def field_columns(sites: Sequence[SiteLayout], columns: Columns) -> np.ndarray:
    """The column of each field in rows with these sites, int64 (f,)."""
    latent: list[int] = []
    observed: list[int] = []
    for site, value, numbers in zip(sites, columns.values, columns.distributions, strict=True):
        found = role(site)
        own = [] if value is None else [value]
        if found == LATENT:
            latent += [*own, *numbers]
        elif found == OBSERVATION:
            observed += own
    return np.array(latent + observed, dtype=np.int64)
