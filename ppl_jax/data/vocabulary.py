"""The strings, sites, layouts and types of all shards of a dataset, each kept once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_jax.data.blocks import Directory
from ppl_jax.data.encoding import site_sizes, template_sizes
from ppl_jax.data.types import LATENT, OBSERVATION, TypeLayout, bare, role
from ppl_jax.errors import StorageError
from ppl_jax.storage import RowLayout
from ppl_jax.storage.layouts import SiteLayout
from ppl_jax.storage.templates import freeze

UNKNOWN = -1


class Vocabulary:
    """Numbers what directories bring, across shards.

    Attributes:
      sites: SiteLayout by number.
      layouts: for each layout the number of its result template and the numbers of its sites, uint32.
      layout_columns: number of columns of each layout.
      layout_types: type of each layout.
      types: for each type the numbers of its bare latents and of its bare observations, int64.
    """

    def __init__(self) -> None:
        self.sites: list[SiteLayout] = []
        self.layouts: list[tuple[int, np.ndarray]] = []
        self.layout_columns: list[int] = []
        self.layout_types: list[int] = []
        self.types: list[tuple[np.ndarray, np.ndarray]] = []
        self._results: list[tuple] = []
        self._strings: dict[str, str] = {}
        self._site_numbers: dict[SiteLayout, int] = {}
        self._result_numbers: dict[tuple, int] = {}
        self._layout_numbers: dict[tuple[int, bytes], int] = {}
        self._type_numbers: dict[tuple[bytes, bytes], int] = {}
        self._bare: list[SiteLayout] = []
        self._bare_numbers: dict[SiteLayout, int] = {}
        # Of each site: role, number of the bare site, columns of value, distribution, all; where their sizes are.
        self._of_site: list[tuple[int, int, int, int, int, int]] = []
        self._facts = np.empty((0, 6), np.int64)  # the same as an array
        self._sizes: list[int] = []  # of the columns of all sites
        self._sizes_array = np.empty(0, np.int64)
        self.begin_shard()

    def begin_shard(self) -> None:
        """Numbers in the directories that follow are those of another shard."""
        self._local: tuple[list[str | None], list[int], list[int], list[int]] = ([], [], [], [])

    def extend(self, directory: Directory) -> np.ndarray:
        """Takes up what is new in a directory and gives the layout of each of its groups, int64 (g,).

        Raises:
          StorageError: a group is described in a block that was left out, or nowhere.
        """
        strings, sites, results, layouts = self._local
        missing = [known - len(entries) for known, entries in zip(directory.known, self._lists(), strict=True)]
        if min(missing) < 0:
            raise StorageError("it does not continue the blocks before it.")
        strings += [None] * missing[0]
        for numbers, count in zip((sites, results, layouts), missing[1:], strict=True):
            numbers += [UNKNOWN] * count
        strings += [self._strings.setdefault(text, text) for text in directory.strings]
        sites += [self._site(site) for site in directory.sites]
        results += [self._number(freeze(result), self._results, self._result_numbers) for result in directory.results]
        if len(self._facts) < len(self.sites):
            self._facts = np.array(self._of_site, dtype=np.int64)
            self._sizes_array = np.array(self._sizes, dtype=np.int64)
        known = np.array(sites, dtype=np.int64)
        for own, result in zip(directory.layouts, directory.layout_results.tolist(), strict=True):
            layouts.append(self._layout(known[own], results[result]))
        found = np.array(layouts, dtype=np.int64)[directory.group_layouts]
        if np.any(found == UNKNOWN):
            raise StorageError("its traces are described in a block before it, which is damaged.")
        return found

    def columns(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers in each column of a layout, int64 (c,), and which columns are the fields of its type, int64 (f,)."""
        result, sites = self.layouts[number]
        found, of_result = self._facts[sites], template_sizes(self._results[result])
        sizes = np.ones(self.layout_columns[number], np.int64)
        if len(sites):
            place, within = ramps(found[:, 4])
            sizes[1 : 1 + len(place)] = self._sizes_array[found[place, 5] + within]
        if of_result:
            sizes[-1 - len(of_result) : -1] = of_result
        starts = 1 + np.cumsum(found[:, 4]) - found[:, 4]
        parts = []
        for kind, counts in ((LATENT, found[:, 2] + found[:, 3]), (OBSERVATION, found[:, 2])):
            place, within = ramps(np.where(found[:, 0] == kind, counts, 0))
            parts.append(starts[place] + within)
        return sizes, np.concatenate(parts)

    def field_counts(self, number: int) -> tuple[list[tuple[int, int]], list[int]]:
        """Of a layout: how many fields belong to value and distribution of each latent, and to each observed site."""
        found = self._facts[self.layouts[number][1]]
        latents = found[found[:, 0] == LATENT, 2:4]
        return [(value, numbers) for value, numbers in latents.tolist()], found[found[:, 0] == OBSERVATION, 2].tolist()

    def _lists(self) -> list[list]:
        return list(self._local)

    def row_layout(self, number: int) -> RowLayout:
        """The layout of a number, built."""
        result, sites = self.layouts[number]
        return RowLayout(tuple(self.sites[site] for site in sites.tolist()), self._results[result])

    def type_layout(self, number: int) -> TypeLayout:
        """The type of a number, built."""
        latents, observations = self.types[number]
        return TypeLayout(
            tuple(self._bare[site] for site in latents.tolist()),
            tuple(self._bare[site] for site in observations.tolist()),
        )

    def _site(self, data: list) -> int:
        strings = self._local[0]
        kind, address, instance, name, control, observed, value, distribution, proposal = data
        place, text = strings[address], None if name is None else strings[name]
        if place is None or (name is not None and text is None):
            return UNKNOWN
        rest = freeze(value), freeze(distribution), freeze(proposal)
        site = SiteLayout(kind, place, instance, text, control, observed, *rest)
        number = self._number(site, self.sites, self._site_numbers)
        if number == len(self._of_site):
            value, distribution, proposal = site_sizes(site)
            sizes = value + distribution + proposal
            plain = self._number(bare(site), self._bare, self._bare_numbers)
            self._of_site.append((role(site), plain, len(value), len(distribution), len(sizes), len(self._sizes)))
            self._sizes += sizes
        return number

    @staticmethod
    def _number(item: Any, items: list, numbers: dict) -> int:
        number: int = numbers.setdefault(item, len(items))
        if number == len(items):
            items.append(item)
        return number

    def _layout(self, sites: np.ndarray, result: int) -> int:
        if result == UNKNOWN or np.any(sites == UNKNOWN):
            return UNKNOWN
        own = sites.astype(np.uint32)
        number = self._layout_numbers.setdefault((result, own.tobytes()), len(self.layouts))
        if number == len(self.layouts):
            facts = self._facts[sites]
            self.layouts.append((result, own))
            self.layout_columns.append(2 + int(facts[:, 4].sum()) + len(template_sizes(self._results[result])))
            self.layout_types.append(self._type(facts))
        return number

    def _type(self, facts: np.ndarray) -> int:
        latents, observations = (facts[facts[:, 0] == found, 1] for found in (LATENT, OBSERVATION))
        key = latents.tobytes(), observations.tobytes()
        number = self._type_numbers.setdefault(key, len(self.types))
        if number == len(self.types):
            self.types.append((latents, observations))
        return number


def ramps(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For counts 2, 0, 3: the places 0, 0, 2, 2, 2, and 0, 1, 0, 1, 2 within each."""
    place = np.repeat(np.arange(len(counts)), counts)
    return place, np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
