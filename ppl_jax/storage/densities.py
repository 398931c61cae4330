"""Log joint densities of stored traces, site by site for all traces of one layout together."""

from __future__ import annotations

import math

import numpy as np

from ppl_jax.distributions.base import Elementwise
from ppl_jax.distributions.layouts import FAMILIES
from ppl_jax.language.site import FACTOR, TAG
from ppl_jax.storage.layouts import RowLayout
from ppl_jax.storage.tables import TraceTable


def log_joint(table: TraceTable) -> np.ndarray:
    """``trace.log_joint`` of every trace: the sum of the log densities of its sites, factors included; float64 (n,)."""
    total = np.zeros(len(table))
    for layout, rows in table.groups():
        starts = np.asarray(table.starts[rows])
        for position, site in enumerate(layout.sites):
            if site.kind != TAG:
                total[rows] += site_log_densities(table, layout, position, starts)
    return total


def site_log_densities(table: TraceTable, layout: RowLayout, position: int, starts: np.ndarray) -> np.ndarray:
    """Log density of one site in the rows at ``starts`` (n,), summed over its elements; float64 (n,)."""
    site, slot = layout.sites[position], layout.slots[position]
    family, *shapes = site.distribution
    if site.kind == FACTOR:
        return table.heap[starts + slot.distribution]
    if issubclass(FAMILIES[family], Elementwise) and site.value is not None:
        rank, place, parameters = len(site.value), slot.distribution, []
        for shape in shapes:
            aligned = (*(1,) * (rank - len(shape)), *shape)  # so that rows do not broadcast against elements
            parameters.append(_column(table.heap, starts + place, aligned))
            place += math.prod(shape)
        with np.errstate(all="ignore"):
            densities = FAMILIES[family]._log_densities(
                _column(table.heap, starts + slot.start, site.value), *parameters
            )
        return densities.reshape(len(starts), -1).sum(axis=1) if rank else densities
    rows = (table.heap[start : start + layout.width] for start in starts.tolist())
    return np.array([layout.site(position, row, table.objects).log_prob for row in rows])


def _column(heap: np.ndarray, starts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of this shape that begin at ``starts`` (n,): an array (n, *shape)."""
    if shape == ():
        return heap[starts]
    return heap[starts[:, None] + np.arange(math.prod(shape))].reshape(len(starts), *shape)
