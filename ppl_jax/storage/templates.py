"""Templates: a nested value split into a hashable shape and a flat list of floats.

Tags and results may be numbers, booleans, strings, None, numeric arrays, and tuples, lists and dicts of these. What is
not a float goes into the template, which traces of one kind share; strings and integers too long for a float go to the
table's list of objects, of which the row holds the number, so that they make no templates of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ppl_jax.errors import StorageError

_EXACT = 2**53  # integers up to here survive a trip through float64

FLOAT, INT, BOOL, NONE, OBJECT = ("float",), ("int",), ("bool",), ("none",), ("object",)


def flatten(value: Any, leaves: list[float], keep: Callable[[Any], int]) -> tuple:
    """Appends the numbers in ``value`` to ``leaves`` and returns its template.

    Args:
      value: the nested value.
      leaves: receives the numbers.
      keep: stores an object that has no template and returns its number; raises StorageError where it cannot.
    """
    kind = type(value)
    if kind is float:
        leaves.append(value)
        return FLOAT
    if kind is bool or isinstance(value, np.bool_):
        leaves.append(float(value))
        return BOOL
    if value is None:
        return NONE
    if kind is int and -_EXACT <= value <= _EXACT:
        leaves.append(float(value))
        return INT
    if kind is tuple or kind is list:
        return (kind.__name__, tuple([flatten(item, leaves, keep) for item in value]))
    if kind is dict and all(type(key) is str for key in value):
        return ("dict", tuple([(key, flatten(item, leaves, keep)) for key, item in value.items()]))
    if isinstance(value, (np.ndarray, np.generic)) or kind.__module__.startswith(("jax.", "jaxlib.")):
        array = np.asarray(value)
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            return flatten(array.item(), leaves, keep) if array.ndim == 0 else _flatten_array(array, leaves)
    leaves.append(float(keep(str(value) if isinstance(value, str) else value)))
    return OBJECT


def _flatten_array(array: np.ndarray, leaves: list[float]) -> tuple:
    if array.dtype.kind in "iu" and array.size and not -_EXACT <= int(array.min()) <= int(array.max()) <= _EXACT:
        # In two halves, each exact as a float: floor division and remainder by 2**32.
        leaves.extend(part for number in array.ravel().tolist() for part in map(float, divmod(number, 2**32)))
        return ("wide", array.dtype.str, array.shape)
    leaves.extend(array.astype(np.float64).ravel().tolist())
    return ("array", array.dtype.str, array.shape)


def size(template: tuple) -> int:
    """How many floats a value of this template takes."""
    kind = template[0]
    if kind in ("float", "int", "bool", "object"):
        return 1
    if kind in ("array", "wide"):
        return math.prod(template[2]) * (1 if kind == "array" else 2)
    return sum(size(child) for child in children(template))


def children(template: tuple) -> list[tuple]:
    """The templates of the items of a tuple, list or dict; of anything else, none."""
    if template[0] in ("tuple", "list"):
        return list(template[1])
    return [child for _, child in template[1]] if template[0] == "dict" else []


def object_places(template: tuple, start: int = 0) -> Iterator[int]:
    """Where, counted from ``start``, the floats stand that are numbers of objects."""
    if template == OBJECT:
        yield start
    for child in children(template):
        yield from object_places(child, start)
        start += size(child)


def unflatten(template: tuple, leaves: np.ndarray, objects: list[Any]) -> Any:
    """The value of which ``flatten`` made ``template`` and ``leaves`` (exactly ``size(template)`` floats).

    Raises:
      StorageError: an object is missing, because the file of objects was cut off.
    """
    kind = template[0]
    if kind == "float":
        return float(leaves[0])
    if kind == "int":
        return int(leaves[0])
    if kind == "bool":
        return bool(leaves[0])
    if kind == "none":
        return None
    if kind == "object":
        return _object(objects, leaves[0])
    if kind == "array":
        return np.asarray(leaves).reshape(template[2]).astype(template[1])
    if kind == "wide":
        pairs = np.asarray(leaves).reshape(-1, 2).tolist()
        return np.array([int(high) * 2**32 + int(low) for high, low in pairs], template[1]).reshape(template[2])
    items, position = [], 0
    for child in children(template):
        width = size(child)
        items.append(unflatten(child, leaves[position : position + width], objects))
        position += width
    if kind == "dict":
        return {key: item for (key, _), item in zip(template[1], items, strict=True)}
    return tuple(items) if kind == "tuple" else items


def _object(objects: list[Any], number: float) -> Any:
    if not 0 <= number < len(objects):
        raise StorageError(
            f"A stored trace refers to object {number:.0f} of {len(objects)}: objects.jsonl was cut off or changed. "
            "Restore it from a copy. Numbers and arrays of the trace can still be read; its strings and very large "
            "integers cannot."
        )
    return objects[int(number)]


def freeze(value: Any) -> Any:
    """Lists to tuples, throughout: what JSON did to a template or layout, undone."""
    return tuple(freeze(item) for item in value) if isinstance(value, (list, tuple)) else value
