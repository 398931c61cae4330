"""Log joint densities of stored traces, site by site for all traces of one layout together."""

from __future__ import annotations

import numpy as np

from ppl_jax.distributions.base import Elementwise
from ppl_jax.distributions.layouts import FAMILIES
from ppl_jax.primitives import FACTOR, TAG
from ppl_jax.storage.layouts import RowLayout
from ppl_jax.storage.tables import TraceTable


def log_joint(table: TraceTable) -> np.ndarray:
    """``trace.log_joint`` of every trace: the sum of the log densities of its sites, factors included; float64 (n,)."""
    total = np.zeros(len(table))
    for layout, rows in table.groups():
        starts = np.asarray(table.starts[rows])
        for position, site in enumerate(layout.sites):
            if site.kind != TAG:
                total[rows] += _log_densities(table, layout, position, starts)
    return total


def _log_densities(table: TraceTable, layout: RowLayout, position: int, starts: np.ndarray) -> np.ndarray:
    """Log density of one site in the rows at ``starts``, summed over its elements."""
    site, slot = layout.sites[position], layout.slots[position]
    family, *shapes = site.distribution
    parameters = range(slot.distribution, slot.proposal)
    if site.kind == FACTOR:
        return table.heap[starts + slot.distribution]
    if issubclass(FAMILIES[family], Elementwise) and site.value == () and not any(shapes):
        with np.errstate(all="ignore"):
            return FAMILIES[family]._log_densities(
                table.heap[starts + slot.start], *(table.heap[starts + place] for place in parameters)
            )
    rows = (table.heap[start : start + layout.width] for start in starts.tolist())
    return np.array([layout.site(position, row, table.objects).log_prob for row in rows])
