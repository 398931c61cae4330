"""Whole arrays of draws from a stream, by the samplers of the C core where they were compiled (see ``setup.py``).

The bits, and how many uniforms are taken, are those of the samplers in Python, which stand in where there is no
compiler, and for every other source of uniforms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ppl_jax.streams import CountedStream, Stream

try:
    from ppl_jax.distributions import _draws

    FAMILIES = _draws.FAMILIES  #: name of a family -> its number here
except ImportError:
    FAMILIES = {}


def draw_elements(rng: Any, family: int, shape: tuple[int, ...], parameters: list[Any]) -> np.ndarray | None:
    """Independent draws from the stream ``rng``, which moves on; None if it is no stream.

    ``parameters``: floats, or float64 arrays that broadcast to ``shape``.
    """
    if type(rng) is not Stream and type(rng) is not CountedStream:
        return None
    values = np.empty(shape)
    columns = [
        value
        if type(value) is float or (value.shape == shape and value.flags.c_contiguous)
        else np.ascontiguousarray(np.broadcast_to(value, shape))
        for value in parameters
    ]
    rng.move_to(_draws.elements(family, rng.seed, rng.index, rng.position, values, *columns))
    return values


def draw_categories(rng: Any, sums: np.ndarray) -> np.ndarray | None:
    """A category for each row of running sums of weights, shape (..., K), from ``rng``; None if that is no stream."""
    if not FAMILIES or (type(rng) is not Stream and type(rng) is not CountedStream):
        return None
    values = np.empty(sums.shape[:-1])
    rng.move_to(_draws.categories(rng.seed, rng.index, rng.position, values, np.ascontiguousarray(sums)))
    return values
