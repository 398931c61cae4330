"""Columns: one value from each of many traces, as an array where all are numbers of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Numbers(NamedTuple):
    """Where a numeric value stands in a row: at ``start``, of ``shape``, converted to ``dtype``.

    ``integral``: an integer only where the stored number is whole (a discrete draw given a fraction keeps it).
    """

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype
    integral: bool = False


def template_numbers(template: tuple, start: int) -> Numbers | None:
    """The numbers of a template that is one number or one array; None for any other."""
    if template[0] == "array":
        return Numbers(start, tuple(template[2]), np.dtype(template[1]))
    scalar = {"float": np.float64, "int": np.int64, "bool": np.bool_}.get(template[0])
    return None if scalar is None else Numbers(start, (), np.dtype(scalar))


def gather(heap: np.ndarray, starts: np.ndarray, numbers: Numbers) -> np.ndarray:
    """The value described by ``numbers`` from the rows at ``starts`` (n,): an array (n, *shape)."""
    first = starts + numbers.start
    if numbers.shape == ():
        column = heap[first]
    else:
        column = heap[first[:, None] + np.arange(math.prod(numbers.shape))].reshape(len(starts), *numbers.shape)
    if numbers.integral and not is_whole(column):
        return column
    return column.astype(numbers.dtype, copy=False)


def is_whole(numbers: np.ndarray) -> bool:
    """Whether all are finite and without a fraction."""
    return bool(np.all(np.isfinite(numbers) & (np.floor(numbers) == numbers)))


def as_column(values: Sequence[Any]) -> np.ndarray | list[Any]:
    """An array (n, *shape) where all values are numbers, or numeric arrays, of one shape; else the list."""
    plain = set(map(type, values)) <= {float, int, bool}
    if not plain and not all(_is_numeric(value) for value in values):
        return list(values)
    if len({() if plain else np.shape(value) for value in values}) > 1:
        return list(values)
    column = np.array([value if plain else np.asarray(value) for value in values])
    return column if column.dtype.kind in "fiubc" else list(values)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, (float, int, complex)):
        return True
    if isinstance(value, (np.ndarray, np.generic)) or type(value).__module__.startswith(("jax.", "jaxlib.")):
        return np.asarray(value).dtype.kind in "fiubc"
    return False
