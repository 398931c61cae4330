"""What users give for numbers, as float64: numbers and arrays of numbers, never text or times that would convert."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_numbers(value: Any) -> np.ndarray:
    """``value`` as a float64 array of its own, shape () for a number.

    Raises:
      TypeError: it is not made of real numbers: says what was found, and what to give (the end of a sentence).
      OverflowError: an integer beyond the range of float64 (likewise).
    """
    if value is None:
        raise TypeError("is None, not a number")
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError("is a sequence of parts of different shapes, not one array") from None
    if array.dtype.kind in "US":
        raise TypeError("is text, not a number: convert it with float()")
    if array.dtype.kind == "c":
        raise TypeError("is complex: give its real and imaginary part")
    if array.dtype.kind in "mM":
        raise TypeError("is a time: give seconds, or another number")
    if array.dtype.kind == "O":
        found = [part for part in array.ravel().tolist() if not _is_number(part)]
        if found:
            raise TypeError(f"holds {found[0]!r}, which is not a number" if array.ndim else "is not a number")
    elif array.dtype.kind not in "fiub":
        raise TypeError(f"has elements of type {array.dtype}, which are not numbers")
    try:
        return np.array(array, dtype=np.float64)
    except OverflowError:
        raise OverflowError(f"is beyond the range of float64, which ends at {np.finfo(np.float64).max:.2g}") from None


def _is_number(part: Any) -> bool:
    """Whether one object is a real number; text with digits is none."""
    return not isinstance(part, (str, bytes, complex, np.complexfloating)) and hasattr(part, "__float__")
