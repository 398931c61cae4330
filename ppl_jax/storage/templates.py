"""Templates: a nested value split into a hashable shape and a flat list of floats.

Tags and results may be numbers, booleans, strings, None, numeric arrays, and tuples, lists and dicts of these. What is
not a float goes into the template, which traces of one kind share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ppl_jax.errors import StorageError

_EXACT = 2**53  # integers up to here survive a trip through float64

FLOAT, INT, BOOL, NONE = ("float",), ("int",), ("bool",), ("none",)


def flatten(value: Any, leaves: list[float], keep: Callable[[Any], int] | None = None) -> tuple:
    """Appends the numbers in ``value`` to ``leaves`` and returns its template.

    Args:
      value: the nested value.
      leaves: receives the numbers.
      keep: stores an object that has no template and returns its index; None if such objects are an error.

    Raises:
      StorageError: the value holds something that cannot be stored without pickle, and ``keep`` is None.
    """
    kind = type(value)
    if kind is float:
        leaves.append(value)
        return FLOAT
    if kind is int and -_EXACT <= value <= _EXACT:
        leaves.append(value)
        return INT
    if kind is bool or isinstance(value, np.bool_):
        leaves.append(float(value))
        return BOOL
    if value is None:
        return NONE
    if kind is int:
        return ("bigint", str(value))
    if kind is str:
        return ("str", value)
    if kind is tuple or kind is list:
        return (kind.__name__, tuple(flatten(item, leaves, keep) for item in value))
    if kind is dict and all(type(key) is str for key in value):
        return ("dict", tuple((key, flatten(item, leaves, keep)) for key, item in value.items()))
    return _flatten_array(value, leaves, keep)


def _flatten_array(value: Any, leaves: list[float], keep: Callable[[Any], int] | None) -> tuple:
    if isinstance(value, (np.ndarray, np.generic)) or type(value).__module__.startswith(("jax", "jaxlib")):
        array = np.asarray(value)
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            if array.ndim == 0 and array.dtype.kind != "b":
                return flatten(array.item(), leaves, keep)
            leaves.extend(array.astype(np.float64).ravel().tolist())
            return ("array", array.dtype.str, array.shape)
    if keep is None:
        raise StorageError(
            f"A value of type {type(value).__name__} cannot be stored on disk without pickle. Return and tag numbers, "
            "arrays, strings, and tuples, lists or dicts of these; or keep the traces in memory (path=None)."
        )
    leaves.append(float(keep(value)))
    return ("object",)


def size(template: tuple) -> int:
    """How many floats a value of this template takes."""
    kind = template[0]
    if kind in ("float", "int", "bool", "object"):
        return 1
    if kind == "array":
        return math.prod(template[2])
    if kind in ("tuple", "list"):
        return sum(size(item) for item in template[1])
    if kind == "dict":
        return sum(size(item) for _, item in template[1])
    return 0


def unflatten(template: tuple, leaves: np.ndarray, objects: list[Any]) -> Any:
    """The value of which ``flatten`` made ``template`` and ``leaves`` (exactly ``size(template)`` floats)."""
    kind = template[0]
    if kind == "float":
        return float(leaves[0])
    if kind == "int":
        return int(leaves[0])
    if kind == "bool":
        return bool(leaves[0])
    if kind == "none":
        return None
    if kind == "bigint":
        return int(template[1])
    if kind == "str":
        return template[1]
    if kind == "object":
        return objects[int(leaves[0])]
    if kind == "array":
        return np.asarray(leaves).reshape(template[2]).astype(template[1])
    items, position = [], 0
    children = template[1] if kind != "dict" else [child for _, child in template[1]]
    for child in children:
        width = size(child)
        items.append(unflatten(child, leaves[position : position + width], objects))
        position += width
    if kind == "dict":
        return {key: item for (key, _), item in zip(template[1], items, strict=True)}
    return tuple(items) if kind == "tuple" else items


def freeze(value: Any) -> Any:
    """Lists to tuples, throughout: what JSON did to a template or layout, undone."""
    return tuple(freeze(item) for item in value) if isinstance(value, (list, tuple)) else value
