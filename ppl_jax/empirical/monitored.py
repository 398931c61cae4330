"""Which numbers of traces tell whether a chain has moved: the latents that all its traces have."""

from __future__ import annotations

import numpy as np

from ppl_jax.language.site import SAMPLE
from ppl_jax.storage import RowLayout, TraceTable

_MOST = 50  # columns that are read


def latent_numbers(table: TraceTable) -> list[np.ndarray]:
    """The values of the controlled latents that all traces of a table have, (n, *shape) each.

    Where the structure changes so much that there is none: which structure each trace has, (n,).
    """
    groups = table.groups()
    if not groups:
        return []
    places = [_latents(layout) for layout, _ in groups]
    common = [key for key in places[0] if all(key in others for others in places[1:])]
    columns = []
    for key in common[:_MOST]:
        numbers = [layout.numbers(found[key]) for found, (layout, _) in zip(places, groups, strict=True)]
        column = table.gather(numbers, groups)
        if column is not None and column.size:
            columns.append(column)
    if not columns and len(groups) > 1:
        columns.append(np.asarray(table.kinds))
    return columns


def _latents(layout: RowLayout) -> dict[tuple[str, int], int]:
    """Position by address and instance of the latents that engines move."""
    return {
        (site.address, site.instance): position
        for position, site in enumerate(layout.sites)
        if site.kind == SAMPLE and not site.observed and site.control
    }
